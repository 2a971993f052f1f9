//! Vectors along the innermost dim, which the result is contiguous along.

use optc_kernel::expr::RegisterScope;
use optc_kernel::nest::{Base, Ix, Kernel, Rel, Stmt, call, call_counts, for_loop};
use optc_kernel::space::{AxisRange, AxisSplit};
use optc_kernel::tile::{Ptr, Reg, Tile, TileBuilder};

use super::Nest;

/// Vectors in a turn of the loop: enough of a cheap expression to hide the overhead of the loop.
fn unroll(cost: usize) -> usize {
    match cost {
        0..=12 => 4,
        13..=40 => 2,
        _ => 1,
    }
}

/// See [`Nest::build`].
pub(super) fn build(nest: &Nest, kernel: &mut Kernel, bases: &[Base], task: &Ix) -> (u64, Vec<Stmt>) {
    let mut extents = nest.space.extents.clone();
    let inner = extents.pop().unwrap_or(1);
    let linear = Linear { nest, group: unroll(nest.cost) * nest.lanes, inner: nest.space.strides.last() };
    let mut align = vec![1; extents.len()];
    extents.push(inner);
    align.push(linear.group);
    let split = AxisSplit::new(&extents, &align, nest.least());
    let (mut body, ranges) = split.ranges(kernel, task);
    let dims = if nest.space.extents.is_empty() { &[] } else { &ranges[..] };
    let nested = if split.cuts(extents.len() - 1) {
        linear.along_rows(kernel, bases, dims, inner)
    } else {
        linear.whole_rows(kernel, bases, dims, inner)
    };
    body.extend(nested);
    (split.tasks(), body)
}

struct Linear<'a> {
    nest: &'a Nest<'a>,
    /// Elements of a turn.
    group: usize,
    /// The strides along the innermost dim; none when there are no dims.
    inner: Option<&'a Vec<i64>>,
}

/// Puts loops over the ranges around what `body` makes of the index; all ranges but the last `inside`.
fn around(
    kernel: &mut Kernel,
    ranges: &[AxisRange],
    inside: usize,
    body: impl FnOnce(&mut Kernel, &[Ix]) -> Vec<Stmt>,
) -> Vec<Stmt> {
    let outer = &ranges[..ranges.len() - inside];
    let vars: Vec<_> = outer.iter().map(|_| kernel.var()).collect();
    let index: Vec<_> = vars.iter().map(|&var| Ix::var(var)).collect();
    let body = body(kernel, &index);
    let wrap = |body, (&var, range): (_, &AxisRange)| vec![for_loop(var, range.lo.clone(), range.hi.clone(), body)];
    vars.iter().zip(outer).rev().fold(body, wrap)
}

impl Linear<'_> {
    /// A task has part of each row: a call for the groups of a row, and one for what is left at its end.
    fn along_rows(&self, kernel: &mut Kernel, bases: &[Base], ranges: &[AxisRange], inner: usize) -> Vec<Stmt> {
        let main = kernel.tile(self.groups_tile());
        let rest = inner % self.group;
        let tail = (rest > 0).then(|| kernel.tile(self.rows_tile(rest, None)));
        let AxisRange { lo, hi } = ranges[ranges.len() - 1].clone();
        around(kernel, ranges, 1, |_, outer| {
            let at = |i: Ix| self.nest.addrs(bases, &[outer, &[i]].concat());
            let groups = (hi.clone() - lo.clone()) / self.group as i64;
            let mut stmts = vec![call_counts(main, at(lo), [groups])];
            if let Some(tail) = tail {
                let then = vec![call(tail, at((inner - rest).into()))];
                stmts.push(Stmt::If { a: hi, rel: Rel::Eq, b: inner.into(), then, otherwise: Vec::new() });
            }
            stmts
        })
    }

    /// A task has whole rows: a call for all rows that differ in the innermost dim but one.
    fn whole_rows(&self, kernel: &mut Kernel, bases: &[Base], ranges: &[AxisRange], inner: usize) -> Vec<Stmt> {
        let dims = ranges.len();
        if dims < 2 {
            let tile = kernel.tile(self.rows_tile(inner, None));
            return vec![call(tile, self.nest.addrs(bases, &vec![Ix::Const(0); dims]))];
        }
        let steps = &self.nest.space.strides[dims - 2];
        let tile = kernel.tile(self.rows_tile(inner, Some(steps)));
        let AxisRange { lo, hi } = ranges[dims - 2].clone();
        around(kernel, ranges, 2, |_, outer| {
            let at = self.nest.addrs(bases, &[outer, &[lo.clone(), 0.into()]].concat());
            vec![call_counts(tile, at, [hi - lo])]
        })
    }

    /// As many groups as the count parameter says.
    fn groups_tile(&self) -> Tile {
        let mut b = TileBuilder::new(format!("elementwise_{}", self.group), self.nest.lanes);
        let ptrs: Vec<_> = self.nest.views.iter().map(|_| b.ptr()).collect();
        let count = b.count();
        let scope = self.hoist(&mut b, &ptrs, RegisterScope::default(), |view| self.step(view) == 0);
        b.for_each(count, &self.advance(&ptrs), &[], |b, ptrs, _| {
            self.vectors(b, ptrs, self.group, &scope);
            vec![]
        });
        b.finish()
    }

    /// Rows of `n` elements, as many as the count parameter says and as far apart as `steps`; or one.
    fn rows_tile(&self, n: usize, steps: Option<&Vec<i64>>) -> Tile {
        let mut b = TileBuilder::new(format!("elementwise_rows_{n}"), self.nest.lanes);
        let ptrs: Vec<_> = self.nest.views.iter().map(|_| b.ptr()).collect();
        let Some(steps) = steps else {
            self.row(&mut b, &ptrs, n, RegisterScope::default());
            return b.finish();
        };
        let count = b.count();
        let fixed = |view: usize| self.step(view) == 0 && steps[view] == 0;
        let scope = self.hoist(&mut b, &ptrs, RegisterScope::default(), fixed);
        let advance: Vec<_> = ptrs.iter().copied().zip(steps.iter().copied()).collect();
        b.for_each(count, &advance, &[], |b, ptrs, _| {
            self.row(b, ptrs, n, scope.clone());
            vec![]
        });
        b.finish()
    }

    fn row<'s>(&'s self, b: &mut TileBuilder, ptrs: &[Ptr], n: usize, scope: RegisterScope<'s>) {
        let scope = self.hoist(b, ptrs, scope, |view| self.step(view) == 0);
        let turns = n / self.group;
        let mut ptrs = ptrs.to_vec();
        if turns > 1 {
            let count = optc_kernel::tile::Count::Static(turns as u32);
            let turn = |b: &mut TileBuilder, ptrs: &[Ptr], _: &[Reg]| {
                self.vectors(b, ptrs, self.group, &scope);
                vec![]
            };
            ptrs = b.for_each_ptrs(count, &self.advance(&ptrs), &[], turn).0;
        }
        let rest = if turns > 1 { n % self.group } else { n };
        self.vectors(b, &ptrs, rest, &scope);
    }

    /// Bytes from one element to the next of the innermost dim.
    fn step(&self, view: usize) -> i64 {
        self.inner.map_or(0, |inner| inner[view])
    }

    fn advance(&self, ptrs: &[Ptr]) -> Vec<(Ptr, i64)> {
        ptrs.iter().enumerate().map(|(view, &ptr)| (ptr, self.step(view) * self.group as i64)).collect()
    }

    fn hoist<'s>(
        &'s self,
        b: &mut TileBuilder,
        ptrs: &[Ptr],
        mut scope: RegisterScope<'s>,
        fixed: impl Fn(usize) -> bool,
    ) -> RegisterScope<'s> {
        let views = &self.nest.views;
        for (_, expr) in &self.nest.p.results {
            scope.hoist(expr, b, &mut |b, i| b.broadcast(views[i].mem, ptrs[i], 0), &fixed);
        }
        scope
    }

    /// `n` consecutive elements of all results.
    fn vectors<'s>(&'s self, b: &mut TileBuilder, ptrs: &[Ptr], n: usize, scope: &RegisterScope<'s>) {
        let lanes = self.nest.lanes;
        let (views, operands) = (&self.nest.views, self.nest.p.operands.len());
        for start in (0..n).step_by(lanes) {
            let n = lanes.min(n - start);
            let mut scope = scope.clone();
            let mut leaf = |b: &mut TileBuilder, i: usize| {
                let (mem, step) = (views[i].mem, self.step(i));
                b.load_along(mem, ptrs[i], step * start as i64, n, step)
            };
            let values: Vec<_> = self.nest.p.results.iter().map(|(_, expr)| scope.emit(expr, b, &mut leaf)).collect();
            for (i, value) in values.into_iter().enumerate() {
                let (view, step) = (operands + i, self.step(operands + i));
                b.store_strided(views[view].mem, ptrs[view], step * start as i64, n, step, value);
            }
        }
    }
}
