//! The tile of a folding kernel: all folds and the stores for some indices of the last kept dim.

use optc_kernel::expr::{Expr, RegisterScope};
use optc_kernel::tile::{Binary, Cmp, Count, Ptr, Reg, Tile, TileBuilder};

use super::{Fold, FoldOp, Plan};

/// Vectors of the kept dim that are folded together: enough to hide the latency of an addition.
pub(super) const VECTORS: usize = 4;

/// Partial results of a fold along a dim: element `i` goes to the one with index `i % PARTS`, and they are combined in
/// halves, first with second. So the order of the operations, and with it each bit of the result, is the same on every
/// target. Two vectors of 512 bits, four of 256.
const PARTS: usize = 32;

/// Builds the tile for `n` indices of the last kept dim, as often as the count parameter says if there is one.
pub(super) fn build(plan: &Plan, n: usize) -> Tile {
    let mut b = TileBuilder::new(format!("fold_{n}"), plan.lanes);
    let ptrs: Vec<_> = plan.views.iter().map(|_| b.ptr()).collect();
    if !plan.rows_inside() {
        Rows { plan, n }.all(&mut b, &ptrs);
        return b.finish();
    }
    let count = b.count();
    let steps = plan.kept.strides.last();
    let advance: Vec<_> =
        ptrs.iter().enumerate().map(|(v, &ptr)| (ptr, steps.map_or(0, |s| s[v] * n as i64))).collect();
    b.for_each(count, &advance, &[], |b, ptrs, _| {
        Rows { plan, n }.all(b, ptrs);
        vec![]
    });
    b.finish()
}

/// What happens for `n` indices of the kept dim; one, when the vectors go along a reduced dim.
struct Rows<'a> {
    plan: &'a Plan<'a>,
    n: usize,
}

/// A vector's worth of elements: where, how many, and what the folds gave for these lanes.
struct Lanes<'a> {
    /// Elements from the pointers on, along the dim of the vectors.
    start: usize,
    n: usize,
    folded: &'a [Reg],
}

/// What is done with a vector: the pointers, where it starts and how many elements it has, the accumulators.
type VectorBody<'b> = dyn FnMut(&mut TileBuilder, &[Ptr], usize, usize, &mut Vec<Reg>) + 'b;

/// What is done in a turn of the loops: the pointers, the accumulators before and after it.
type TurnBody<'b> = dyn FnMut(&mut TileBuilder, &[Ptr], Vec<Reg>) -> Vec<Reg> + 'b;

impl<'a> Rows<'a> {
    fn all(&self, b: &mut TileBuilder, ptrs: &[Ptr]) {
        let vectors = if self.plan.along { 1 } else { self.n.div_ceil(self.plan.lanes) };
        // For each vector, what the folds gave.
        let mut folded: Vec<Vec<Reg>> = vec![Vec::new(); vectors];
        for fold in &self.plan.p.folds {
            let results = if self.plan.along {
                vec![self.fold_along(b, ptrs, fold, &folded[0])]
            } else {
                self.fold_across(b, ptrs, fold, &folded)
            };
            for (all, result) in folded.iter_mut().zip(results) {
                all.push(result);
                let own = all.len() - 1;
                let first = self.plan.p.operands.len();
                all[own] = fold.finish.emit(b, &mut |_, i| all[i.saturating_sub(first).min(own)]);
            }
        }
        self.store(b, ptrs, &folded);
    }

    /// The strides of each view along the dim that the vectors go along.
    fn steps(&self) -> Option<&'a Vec<i64>> {
        if self.plan.along { self.plan.reduced.strides.last() } else { self.plan.kept.strides.last() }
    }

    fn step(&self, view: usize) -> i64 {
        self.steps().map_or(0, |steps| steps[view])
    }

    /// The value of an expression for some lanes.
    fn emit(
        &self,
        b: &mut TileBuilder,
        ptrs: &[Ptr],
        expr: &'a Expr,
        lanes: &Lanes,
        mut scope: RegisterScope<'a>,
    ) -> Reg {
        self.emit_in(b, ptrs, expr, lanes, &mut scope)
    }

    /// The same; `scope` learns what is computed.
    fn emit_in(
        &self,
        b: &mut TileBuilder,
        ptrs: &[Ptr],
        expr: &'a Expr,
        lanes: &Lanes,
        scope: &mut RegisterScope<'a>,
    ) -> Reg {
        let operands = self.plan.p.operands.len();
        scope.emit(expr, b, &mut |b, i| match i.checked_sub(operands) {
            Some(fold) => lanes.folded[fold],
            None => self.load(b, ptrs, i, lanes),
        })
    }

    fn load(&self, b: &mut TileBuilder, ptrs: &[Ptr], view: usize, lanes: &Lanes) -> Reg {
        let (mem, step) = (self.plan.views[view].mem, self.step(view));
        b.load_along(mem, ptrs[view], step * lanes.start as i64, lanes.n, step)
    }

    fn store_lanes(&self, b: &mut TileBuilder, ptrs: &[Ptr], lanes: &Lanes, value: Reg) {
        let view = self.plan.p.operands.len();
        let (mem, step) = (self.plan.views[view].mem, self.step(view));
        b.store_strided(mem, ptrs[view], step * lanes.start as i64, lanes.n, step, value);
    }

    /// The subtrees of an expression that are the same for all elements, for vectors along a reduced dim.
    fn hoist(&self, b: &mut TileBuilder, ptrs: &[Ptr], expr: &'a Expr, folded: &[Reg]) -> RegisterScope<'a> {
        let plan = self.plan;
        let operands = plan.p.operands.len();
        let mut scope = RegisterScope::default();
        let fixed = |i: usize| i >= operands || plan.reduced.strides.iter().all(|strides| strides[i] == 0);
        let mut leaf = |b: &mut TileBuilder, i: usize| match i.checked_sub(operands) {
            Some(fold) => folded[fold],
            None => b.broadcast(plan.views[i].mem, ptrs[i], 0),
        };
        scope.hoist(expr, b, &mut leaf, &fixed);
        scope
    }

    /// The pointers that an expression's operands, and the result if it is stored, need.
    fn used(&self, expr: &Expr, stored: bool) -> Vec<usize> {
        let result = self.plan.p.operands.len();
        let mut used: Vec<_> = expr.operands().into_iter().filter(|&i| i < result).collect();
        used.extend(stored.then_some(result));
        used
    }

    /// One fold with all lanes of several accumulators, then of their lanes; the result is in every lane.
    fn fold_along(&self, b: &mut TileBuilder, ptrs: &[Ptr], fold: &'a Fold, folded: &[Reg]) -> Reg {
        let (plan, lanes) = (self.plan, self.plan.lanes);
        let n = plan.reduced.extents.last().copied().unwrap_or(1);
        let scope = self.hoist(b, ptrs, &fold.element, folded);
        let identity = b.f32(identity(fold.op));
        let accumulators = (PARTS / lanes).min(n.div_ceil(lanes)).max(1);
        let used = self.used(&fold.element, fold.keep);
        let outer = plan.reduced.extents.len().saturating_sub(1);
        let sums = self.over(b, outer, ptrs, &used, vec![identity; accumulators], &mut |b, ptrs, acc| {
            self.row(b, ptrs, &used, n, accumulators * lanes, acc, &mut |b, ptrs, start, n, acc| {
                let part = Lanes { start, n, folded };
                let slot = start / lanes % accumulators;
                if let (FoldOp::Sum, false, Expr::Binary(Binary::Mul, of)) = (fold.op, fold.keep, &fold.element) {
                    let mut scope = scope.clone();
                    let [x, y] = of.each_ref().map(|of| self.emit_in(b, ptrs, of, &part, &mut scope));
                    let sum = b.fma(x, y, acc[slot]);
                    acc[slot] = first_lanes(b, n, sum, acc[slot]);
                    return;
                }
                let value = self.emit(b, ptrs, &fold.element, &part, scope.clone());
                if fold.keep {
                    self.store_lanes(b, ptrs, &part, value);
                }
                let value = first_lanes(b, n, value, identity);
                acc[slot] = combine(b, fold.op, acc[slot], value);
            })
        });
        let sum = fold_halves(b, fold.op, sums, PARTS / lanes);
        fold_lanes(b, fold.op, sum, lanes)
    }

    /// Goes along the last reduced dim of extent `n` with `body` for each vector, `group` elements in a turn.
    #[expect(clippy::too_many_arguments, reason = "what a loop over vectors needs, used in two places")]
    fn row(
        &self,
        b: &mut TileBuilder,
        ptrs: &[Ptr],
        used: &[usize],
        n: usize,
        group: usize,
        acc: Vec<Reg>,
        body: &mut VectorBody<'_>,
    ) -> Vec<Reg> {
        let lanes = self.plan.lanes;
        let mut vectors = |b: &mut TileBuilder, ptrs: &[Ptr], n: usize, mut acc: Vec<Reg>| {
            (0..n).step_by(lanes).for_each(|start| body(b, ptrs, start, lanes.min(n - start), &mut acc));
            acc
        };
        let turns = n / group;
        if turns < 2 {
            return vectors(b, ptrs, n, acc);
        }
        let advance: Vec<_> = used.iter().map(|&v| (ptrs[v], self.step(v) * group as i64)).collect();
        let (after, acc) = b.for_each_ptrs(Count::Static(turns as u32), &advance, &acc, |b, moved, acc| {
            let ptrs = replaced(ptrs, used, moved);
            vectors(b, &ptrs, group, acc.to_vec())
        });
        vectors(b, &replaced(ptrs, used, &after), n % group, acc)
    }

    /// Loops over the first `dims` reduced dims around `body`.
    fn over(
        &self,
        b: &mut TileBuilder,
        dims: usize,
        ptrs: &[Ptr],
        used: &[usize],
        acc: Vec<Reg>,
        body: &mut TurnBody<'_>,
    ) -> Vec<Reg> {
        let reduced = &self.plan.reduced;
        let Some(depth) = dims.checked_sub(1) else { return body(b, ptrs, acc) };
        // The dim at hand is the outermost of those that are left.
        let d = self.plan.reduced_loops() - dims;
        let advance: Vec<_> = used.iter().map(|&v| (ptrs[v], reduced.strides[d][v])).collect();
        b.for_each(Count::Static(reduced.extents[d] as u32), &advance, &acc, |b, moved, acc| {
            self.over(b, depth, &replaced(ptrs, used, moved), used, acc.to_vec(), body)
        })
    }

    /// One fold for each lane of the kept dim.
    fn fold_across(&self, b: &mut TileBuilder, ptrs: &[Ptr], fold: &'a Fold, folded: &[Vec<Reg>]) -> Vec<Reg> {
        let identity = b.f32(identity(fold.op));
        let used = self.used(&fold.element, fold.keep);
        let dims = self.plan.reduced.extents.len();
        self.over(b, dims, ptrs, &used, vec![identity; folded.len()], &mut |b, ptrs, mut acc| {
            for (v, acc) in acc.iter_mut().enumerate() {
                let part = self.vector(v, &folded[v]);
                let value = self.emit(b, ptrs, &fold.element, &part, RegisterScope::default());
                if fold.keep {
                    self.store_lanes(b, ptrs, &part, value);
                }
                *acc = combine(b, fold.op, *acc, value);
            }
            acc
        })
    }

    /// The v-th vector of the kept dim.
    fn vector<'f>(&self, v: usize, folded: &'f [Reg]) -> Lanes<'f> {
        let start = v * self.plan.lanes;
        Lanes { start, n: self.plan.lanes.min(self.n - start), folded }
    }

    fn store(&self, b: &mut TileBuilder, ptrs: &[Ptr], folded: &[Vec<Reg>]) {
        let p = self.plan.p;
        if !p.every {
            for (v, folded) in folded.iter().enumerate() {
                let part = if self.plan.along { Lanes { start: 0, n: 1, folded } } else { self.vector(v, folded) };
                let value = self.emit(b, ptrs, &p.store, &part, RegisterScope::default());
                self.store_lanes(b, ptrs, &part, value);
            }
            return;
        }
        let used = self.used(&p.store, true);
        if self.plan.along {
            let scope = self.hoist(b, ptrs, &p.store, &folded[0]);
            let n = self.plan.reduced.extents.last().copied().unwrap_or(1);
            let group = VECTORS * self.plan.lanes;
            let outer = self.plan.reduced.extents.len().saturating_sub(1);
            self.over(b, outer, ptrs, &used, Vec::new(), &mut |b, ptrs, _| {
                self.row(b, ptrs, &used, n, group, Vec::new(), &mut |b, ptrs, start, n, _| {
                    self.store_one(b, ptrs, &Lanes { start, n, folded: &folded[0] }, scope.clone());
                })
            });
        } else {
            let dims = self.plan.reduced.extents.len();
            self.over(b, dims, ptrs, &used, Vec::new(), &mut |b, ptrs, _| {
                for (v, folded) in folded.iter().enumerate() {
                    self.store_one(b, ptrs, &self.vector(v, folded), RegisterScope::default());
                }
                Vec::new()
            });
        }
    }

    /// Stores some lanes of the last expression; elements that were kept are read back.
    fn store_one(&self, b: &mut TileBuilder, ptrs: &[Ptr], part: &Lanes, mut scope: RegisterScope<'a>) {
        let p = self.plan.p;
        for fold in p.folds.iter().filter(|fold| fold.keep) {
            let kept = self.load(b, ptrs, p.operands.len(), part);
            scope.tell(&fold.element, kept);
        }
        let value = self.emit(b, ptrs, &p.store, part, scope);
        self.store_lanes(b, ptrs, part, value);
    }
}

impl Plan<'_> {
    /// The reduced dims that are loops of their own around the vectors.
    fn reduced_loops(&self) -> usize {
        self.reduced.extents.len() - usize::from(self.along)
    }
}

/// The first `n` lanes of `x`, the others of `y`.
fn first_lanes(b: &mut TileBuilder, n: usize, x: Reg, y: Reg) -> Reg {
    let lanes = b.lanes();
    if n >= lanes {
        return x;
    }
    let pick: Vec<u8> = (0..lanes).map(|l| if l < n { l } else { lanes + l } as u8).collect();
    b.permute(x, y, &pick)
}

/// The pointers with those in `used` replaced.
fn replaced(ptrs: &[Ptr], used: &[usize], by: &[Ptr]) -> Vec<Ptr> {
    let mut ptrs = ptrs.to_vec();
    used.iter().zip(by).for_each(|(&v, &ptr)| ptrs[v] = ptr);
    ptrs
}

fn identity(op: FoldOp) -> f32 {
    match op {
        FoldOp::Sum => 0.0,
        FoldOp::Product => 1.0,
        FoldOp::Max => f32::NEG_INFINITY,
        FoldOp::Min => f32::INFINITY,
    }
}

/// The lane operations for extrema give their second operand when one is NaN: a NaN in the first must be kept by hand.
fn combine(b: &mut TileBuilder, op: FoldOp, acc: Reg, x: Reg) -> Reg {
    let extremum = match op {
        FoldOp::Sum => return b.add(acc, x),
        FoldOp::Product => return b.mul(acc, x),
        FoldOp::Max => Binary::Max,
        FoldOp::Min => Binary::Min,
    };
    let either = b.binary(extremum, acc, x);
    let nan = b.cmp(Cmp::Ne, acc, acc);
    b.select(nan, acc, either)
}

/// The first of `width` vectors, a power of two, combined in halves; those that are not there hold nothing.
fn fold_halves(b: &mut TileBuilder, op: FoldOp, mut parts: Vec<Reg>, width: usize) -> Reg {
    let mut half = width / 2;
    while half > 0 {
        for i in half..parts.len() {
            parts[i - half] = combine(b, op, parts[i - half], parts[i]);
        }
        parts.truncate(half);
        half /= 2;
    }
    parts[0]
}

/// All lanes combined, in every lane.
fn fold_lanes(b: &mut TileBuilder, op: FoldOp, mut x: Reg, lanes: usize) -> Reg {
    let mut half = lanes / 2;
    while half > 0 {
        let pick: Vec<u8> = (0..lanes).map(|l| (l ^ half) as u8).collect();
        let other = b.permute(x, x, &pick);
        x = combine(b, op, x, other);
        half /= 2;
    }
    x
}
