//! Squares of registers along two dims: `j`, which the result is contiguous along, and `i`, which an operand is.
//!
//! A tile goes along `j` in steps of 16 elements, a cache line of the result, and for each of these down a block of 64
//! rows `i`: 16 lines of the operand are live, the rows of the result stay within the first level of the TLB, and both
//! sides are read and written in whole lines.

use optc_kernel::expr::RegisterScope;
use optc_kernel::nest::{Base, Ix, Kernel, Rel, Stmt, call_counts, for_loop, for_step};
use optc_kernel::space::{AxisRange, AxisSplit};
use optc_kernel::tile::{Ptr, Reg, Tile, TileBuilder};

use super::Nest;
use super::transpose::transpose;

/// Elements along `j` in a turn of the tile's outer loop.
const COLUMNS: usize = 16;
/// Rows in a call.
const ROWS: usize = 64;

/// See [`Nest::build`]; `i` is the dim that an operand is contiguous along.
pub(super) fn build(nest: &Nest, kernel: &mut Kernel, bases: &[Base], i: usize, task: &Ix) -> (u64, Vec<Stmt>) {
    let t = Transposed { nest, bases, i, j: nest.space.extents.len() - 1 };
    let mut align = vec![1; nest.space.extents.len()];
    (align[t.i], align[t.j]) = (nest.lanes, COLUMNS);
    let split = AxisSplit::new(&nest.space.extents, &align, nest.least());
    let (mut body, ranges) = split.ranges(kernel, task);
    let outer: Vec<_> = (0..t.j).filter(|&d| d != i).collect();
    let mut index = vec![Ix::Const(0); ranges.len()];
    let vars: Vec<_> = outer.iter().map(|_| kernel.var()).collect();
    outer.iter().zip(&vars).for_each(|(&d, &var)| index[d] = Ix::var(var));
    let square = t.square(kernel, &ranges, &index);
    let wrap = |body, (&d, &var): (&usize, _)| vec![for_loop(var, ranges[d].lo.clone(), ranges[d].hi.clone(), body)];
    body.extend(outer.iter().zip(&vars).rev().fold(square, wrap));
    (split.tasks(), body)
}

struct Transposed<'a> {
    nest: &'a Nest<'a>,
    bases: &'a [Base],
    i: usize,
    j: usize,
}

impl Transposed<'_> {
    /// The part of both dims that a task has: blocks of rows, then the rows that do not fill a register.
    fn square(&self, kernel: &mut Kernel, ranges: &[AxisRange], index: &[Ix]) -> Vec<Stmt> {
        let (lanes, n) = (self.nest.lanes, self.nest.space.extents[self.i]);
        let rest = n % lanes;
        let AxisRange { lo, hi } = ranges[self.i].clone();
        let mut stmts = Vec::new();
        if n > rest {
            let row = kernel.var();
            let end = hi.clone().min(n - rest);
            let count = (end.clone() - Ix::var(row)).min(ROWS) / lanes as i64;
            let body = self.band(kernel, &ranges[self.j], index, lanes, Ix::var(row), count);
            stmts.push(for_step(row, lo, end, ROWS as i64, body));
        }
        if rest > 0 {
            let then = self.band(kernel, &ranges[self.j], index, rest, (n - rest).into(), 1.into());
            stmts.push(Stmt::If { a: hi, rel: Rel::Eq, b: n.into(), then, otherwise: Vec::new() });
        }
        stmts
    }

    /// `count` times `rows` rows from `row` on, over the columns of the range.
    fn band(
        &self,
        kernel: &mut Kernel,
        columns: &AxisRange,
        index: &[Ix],
        rows: usize,
        row: Ix,
        count: Ix,
    ) -> Vec<Stmt> {
        let n = self.nest.space.extents[self.j];
        let rest = n % COLUMNS;
        let mut place = |columns: usize, column: Ix, turns: Ix| {
            let tile = kernel.tile(self.tile(rows, columns));
            let mut index = index.to_vec();
            (index[self.i], index[self.j]) = (row.clone(), column);
            call_counts(tile, self.nest.addrs(self.bases, &index), [turns, count.clone()])
        };
        let AxisRange { lo, hi } = columns.clone();
        let mut stmts = Vec::new();
        if n > rest {
            let turns = (hi.clone().min(n - rest) - lo.clone()) / COLUMNS as i64;
            stmts.push(place(COLUMNS, lo, turns));
        }
        if rest > 0 {
            let then = vec![place(rest, (n - rest).into(), 1.into())];
            stmts.push(Stmt::If { a: hi, rel: Rel::Eq, b: n.into(), then, otherwise: Vec::new() });
        }
        stmts
    }

    /// Counts: turns along `j` of `columns` elements, turns down `i` of `rows`.
    fn tile(&self, rows: usize, columns: usize) -> Tile {
        let views = &self.nest.views;
        let mut b = TileBuilder::new(format!("elementwise_{rows}x{columns}"), self.nest.lanes);
        let ptrs: Vec<_> = views.iter().map(|_| b.ptr()).collect();
        let (across, down) = (b.count(), b.count());
        let mut scope = RegisterScope::default();
        let fixed = |view: usize| self.step(self.i, view) == 0 && self.step(self.j, view) == 0;
        for (_, expr) in &self.nest.p.results {
            scope.hoist(expr, &mut b, &mut |b, i| b.broadcast(views[i].mem, ptrs[i], 0), &fixed);
        }
        let advance = |ptrs: &[Ptr], dim: usize, by: usize| -> Vec<_> {
            ptrs.iter().enumerate().map(|(view, &ptr)| (ptr, self.step(dim, view) * by as i64)).collect()
        };
        b.for_each(across, &advance(&ptrs, self.j, columns), &[], |b, ptrs, _| {
            b.for_each(down, &advance(ptrs, self.i, rows), &[], |b, ptrs, _| {
                for column in (0..columns).step_by(self.nest.lanes) {
                    let square = Square { t: self, ptrs, rows, column, n: self.nest.lanes.min(columns - column) };
                    square.compute(b, &scope);
                }
                vec![]
            });
            vec![]
        });
        b.finish()
    }

    fn step(&self, dim: usize, view: usize) -> i64 {
        self.nest.space.strides[dim][view]
    }
}

/// Up to `lanes` rows of `n` elements from `column` on.
struct Square<'a> {
    t: &'a Transposed<'a>,
    ptrs: &'a [Ptr],
    rows: usize,
    column: usize,
    n: usize,
}

impl Square<'_> {
    fn compute<'s>(&'s self, b: &mut TileBuilder, scope: &RegisterScope<'s>) {
        let nest = self.t.nest;
        let operands = nest.p.operands.len();
        let mut transposed: Vec<Option<Vec<Reg>>> = vec![None; operands];
        for row in 0..self.rows {
            let mut scope = scope.clone();
            let mut leaf = |b: &mut TileBuilder, view: usize| {
                if !nest.is_contiguous(view, self.t.i) || nest.is_contiguous(view, self.t.j) {
                    return self.load(b, view, row);
                }
                transposed[view].get_or_insert_with(|| self.load_transposed(b, view))[row]
            };
            let values: Vec<_> = nest.p.results.iter().map(|(_, expr)| scope.emit(expr, b, &mut leaf)).collect();
            for (i, value) in values.into_iter().enumerate() {
                let view = operands + i;
                let stride = self.t.step(self.t.j, view);
                b.store_strided(nest.views[view].mem, self.ptrs[view], self.disp(view, row, 0), self.n, stride, value);
            }
        }
    }

    fn disp(&self, view: usize, row: usize, column: usize) -> i64 {
        self.t.step(self.t.i, view) * row as i64 + self.t.step(self.t.j, view) * (self.column + column) as i64
    }

    fn load(&self, b: &mut TileBuilder, view: usize, row: usize) -> Reg {
        let (mem, step) = (self.t.nest.views[view].mem, self.t.step(self.t.j, view));
        b.load_along(mem, self.ptrs[view], self.disp(view, row, 0), self.n, step)
    }

    /// The rows of an operand that is contiguous down the rows.
    fn load_transposed(&self, b: &mut TileBuilder, view: usize) -> Vec<Reg> {
        let mem = self.t.nest.views[view].mem;
        let mut columns: Vec<_> =
            (0..self.n).map(|c| b.load_n(mem, self.ptrs[view], self.disp(view, 0, c), self.rows)).collect();
        columns.resize(self.t.nest.lanes, columns[0]);
        transpose(b, &columns)
    }
}
