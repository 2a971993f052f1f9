//! Folding kernels: for every index of the kept dims, numbers are folded over the reduced dims, one after the other,
//! and then one element (a reduction) or every element (softmax, a normalisation) of the result is an expression of
//! them.
//!
//! ```text
//! for kept dims { for each fold { for reduced dims { accumulate an expression } finish } for reduced dims { store } }
//! ```
//!
//! Where the first operand is contiguous along a reduced dim, the vectors go along it, with several accumulators, and
//! the lanes are folded at the end (*along*). Where it is contiguous along a kept dim, each lane is a fold of its own
//! (*across*). The order of the operations depends on nothing but the problem, so the result does not depend on the
//! number of threads.

mod problems;
mod tile;

use optc_kernel::expr::Expr;
use optc_kernel::nest::{Access, Base, Ix, Kernel, Rel, Stmt, TASK, call_counts, for_loop};
use optc_kernel::space::{AxisSplit, ByteView, Space};
use optc_kernel::target::Isa;
pub use problems::{Reduction, log_softmax, normalised, place_of_extreme, root_mean_square, softmax, softmax_of_seen};

/// Columns that a product made of dot products has at most. A dot product takes two loads for each vector of elements
/// and about 20 instructions for its lanes.
const DOT_COLUMNS: usize = 2;

/// Elements that each of so many columns must sum at least for dot products: below them a contraction is faster.
pub const DOT_ELEMENTS: usize = 64;

/// Whether a product of so many columns, each a sum of so many elements, is made of dot products where its elements
/// lie side by side.
pub fn suits_dots(columns: usize, elements: usize) -> bool {
    (1..=DOT_COLUMNS).contains(&columns) && elements >= DOT_ELEMENTS * columns
}

/// How elements are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoldOp {
    /// Their sum.
    Sum,
    /// Their product.
    Product,
    /// The largest; NaN if one is.
    Max,
    /// The smallest; NaN if one is.
    Min,
}

/// One fold. In its expressions, operand `i` below the number of operands is the operand's element, operand
/// `operands.len() + k` what fold `k` gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Fold {
    /// How elements are combined.
    pub op: FoldOp,
    /// What is folded of each element: names operands and earlier folds.
    pub element: Expr,
    /// What the fold gives: names earlier folds, and itself for what was accumulated.
    pub finish: Expr,
    /// Whether the elements are stored in the result's place, to be read back where the last expression has `element`.
    pub keep: bool,
}

/// A folding computation of `f32`.
#[derive(Clone, Debug, PartialEq)]
pub struct Folding {
    /// All extents.
    pub shape: Vec<usize>,
    /// The dims that are folded.
    pub reduced: Vec<bool>,
    /// The operands, with a stride for each dim of the shape; the first one says how the kernel is laid out.
    pub operands: Vec<ByteView>,
    /// The folds in order.
    pub folds: Vec<Fold>,
    /// Where the result is; its strides along reduced dims count only if there is an element for each index.
    pub result: ByteView,
    /// Whether the result has an element for each index of the shape, not only of the kept dims.
    pub every: bool,
    /// An element of the result: names operands and folds.
    pub store: Expr,
}

/// Builds the kernel; `None` for more separate dims than the loops of a tile can take. Buffers: the operands, the
/// result.
pub fn folding(p: &Folding, isa: &Isa) -> Option<Kernel> {
    let plan = Plan::new(p, isa.lanes())?;
    let mut kernel = Kernel::new(if plan.along { "fold_along" } else { "fold_across" }, 0);
    let mut bases: Vec<Base> = Vec::new();
    for (i, view) in p.operands.iter().enumerate() {
        bases.push(kernel.buf(format!("x{i}"), view.bytes, Access::Read));
    }
    let written: Vec<_> = (0..p.shape.len()).map(|d| if p.every || !p.reduced[d] { p.shape[d] } else { 1 }).collect();
    let whole = p.result.is_whole(&written);
    bases.push(kernel.buf("y", p.result.bytes, if whole { Access::Write } else { Access::ReadWrite }));
    if written.contains(&0) {
        return Some(kernel);
    }
    plan.build(&mut kernel, &bases);
    Some(kernel.rounding_on(isa))
}

/// The problem with collapsed dims. Views are the operands, then the result.
struct Plan<'a> {
    p: &'a Folding,
    lanes: usize,
    views: Vec<&'a ByteView>,
    /// The kept dims; the last one is what a tile loops over.
    kept: Space,
    reduced: Space,
    /// Whether the vectors go along the last reduced dim, else across the last kept one.
    along: bool,
}

impl<'a> Plan<'a> {
    fn new(p: &'a Folding, lanes: usize) -> Option<Plan<'a>> {
        let views: Vec<&ByteView> = p.operands.iter().chain([&p.result]).collect();
        let space = |reduced: bool| {
            let dims: Vec<_> = (0..p.shape.len()).filter(|&d| p.reduced[d] == reduced).collect();
            let shape: Vec<_> = dims.iter().map(|&d| p.shape[d]).collect();
            let strides = |(v, view): (usize, &&ByteView)| -> Vec<i64> {
                // One result for all indices of the reduced dims stays where it is.
                let fixed = reduced && !p.every && v == p.operands.len();
                dims.iter().map(|&d| if fixed { 0 } else { view.strides[d] }).collect()
            };
            let strides: Vec<_> = views.iter().enumerate().map(strides).collect();
            Space::new(&shape, &strides.iter().collect::<Vec<_>>())
        };
        let (mut kept, reduced) = (space(false), space(true));
        let contiguous = |strides: &Vec<i64>| views.first().is_some_and(|view| strides[0] == view.mem.bytes());
        let across = kept.strides.iter().position(contiguous);
        let along = reduced.strides.last().is_some_and(|s| contiguous(s) || across.is_none());
        if let (false, Some(d)) = (along, across) {
            // The dim that the vectors go along becomes the last one.
            kept.extents[d..].rotate_left(1);
            kept.strides[d..].rotate_left(1);
        }
        let plan = Plan { p, lanes, views, kept, reduced, along };
        let loops = plan.reduced.extents.len();
        (loops <= 3).then_some(plan)
    }

    /// Whether the loops of a tile have room for one over the last kept dim.
    fn rows_inside(&self) -> bool {
        self.reduced.extents.len() < optc_kernel::tile::MAX_DEPTH
    }

    /// Elements of the last kept dim that a turn of the tile does.
    fn group(&self) -> usize {
        if self.along { 1 } else { tile::VECTORS * self.lanes }
    }

    fn build(&self, kernel: &mut Kernel, bases: &[Base]) {
        let group = self.group();
        let mut extents = self.kept.extents.clone();
        if extents.is_empty() {
            extents.push(1);
        }
        let last = extents.len() - 1;
        let mut align = vec![1; extents.len()];
        align[last] = group;
        let split = AxisSplit::new(&extents, &align, self.least());
        kernel.tasks = split.tasks();
        let (mut body, ranges) = split.ranges(kernel, &Ix::var(TASK));
        let vars: Vec<_> = ranges.iter().map(|_| kernel.var()).collect();
        let index: Vec<_> = vars.iter().map(|&var| Ix::var(var)).collect();
        let at = |inner: Ix| {
            let index = [&index[..last], &[inner]].concat();
            let addr = |(v, base): (usize, &Base)| {
                let start = Ix::Const(self.views[v].offset);
                let along = index.iter().zip(&self.kept.strides);
                base.at(along.fold(start, |sum, (i, strides)| i.clone() * strides[v] + sum))
            };
            bases.iter().enumerate().map(addr).collect::<Vec<_>>()
        };
        let (lo, hi) = (ranges[last].lo.clone(), ranges[last].hi.clone());
        let rest = extents[last] % group;
        let mut inner = Vec::new();
        if extents[last] >= group {
            let main = kernel.tile(tile::build(self, group));
            let turns = (hi.clone() - lo.clone()) / group as i64;
            inner.push(if self.rows_inside() {
                call_counts(main, at(lo), [turns])
            } else {
                let row = kernel.var();
                for_loop(row, 0, turns, vec![call_counts(main, at(Ix::var(row) * group as i64 + lo), [])])
            });
        }
        if rest > 0 {
            let tail = kernel.tile(tile::build(self, rest));
            let counts = if self.rows_inside() { vec![Ix::Const(1)] } else { Vec::new() };
            let then = vec![call_counts(tail, at((extents[last] - rest).into()), counts)];
            let full = extents[last].into();
            inner.push(Stmt::If { a: hi, rel: Rel::Eq, b: full, then, otherwise: Vec::new() });
        }
        let wrap = |body, (&var, range): (_, &optc_kernel::space::AxisRange)| {
            vec![for_loop(var, range.lo.clone(), range.hi.clone(), body)]
        };
        body.extend(vars[..last].iter().zip(&ranges).rev().fold(inner, wrap));
        kernel.body = body;
    }

    /// Indices of the kept dims that a task should have at least: 16 Ki elements, or the same work.
    fn least(&self) -> usize {
        let cost = self.p.folds.iter().map(|fold| fold.element.cost()).sum::<usize>() + self.p.store.cost();
        let elements = (16 << 10) / (1 + cost / 4);
        elements.div_ceil(self.reduced.len().max(1))
    }
}
