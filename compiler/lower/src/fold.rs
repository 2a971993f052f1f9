//! Reductions, softmax and normalisations.

use optc_ir::Op;
use optc_ir::ops::math::{self, Extreme, ReduceKind};
use optc_ir::ops::nn;
use optc_kernel::expr::Expr;
use optc_kernel::tile::Cmp;
use optc_kernels::fold::{
    Fold, FoldOp, Folding, Reduction, folding, log_softmax, normalised, place_of_extreme, root_mean_square, softmax,
};
use optc_tensor::{DType, Tensor};
use optc_types::ReasonCode;
use optc_types::steps::{BufRef, StepInfo};

use super::cx::Cx;
use super::operands::kernel_view;
use super::{Declined, Lowered, Site, TensorView};

/// Lowers an op of this family.
pub(super) fn op(cx: &mut Cx, op: &Op, site: &Site) -> Lowered {
    let x = cx.view(site.operand(0)?)?;
    if x.dtype != DType::F32 {
        return Err(Declined::new(ReasonCode::Numbers, format!("kernels do not fold {}", x.dtype)));
    }
    if x.is_empty() {
        return Err(Declined::new(ReasonCode::Empty, "there is nothing to fold"));
    }
    match op {
        Op::Reduce(op) => reduce(cx, op, site, x),
        Op::Softmax(op) => lines(cx, op.axis, site, x, if op.log { log_softmax } else { softmax }),
        Op::LpNorm(op) => lines(cx, op.axis, site, x, if op.p == 1 { lp_norm::<1> } else { lp_norm::<2> }),
        Op::LayerNorm(op) => layer_norm(cx, op, site, x),
        Op::RmsNorm(op) => rms_norm(cx, op, site, x),
        Op::GroupNorm(op) => group_norm(cx, op, site, x),
        _ => Err(Declined::new(ReasonCode::Attribute, format!("`{}` is not a fold", op.name()))),
    }
}

fn axis(axis: i64, rank: usize) -> Result<usize, Declined> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis)
        .ok()
        .filter(|&d| d < rank)
        .ok_or_else(|| Declined::new(ReasonCode::Attribute, "there is no such axis"))
}

/// What is folded, and where. All views have a stride for each dim of `x`.
struct Problem {
    reduced: Vec<bool>,
    /// `x`, then the op's other operands.
    operands: Vec<TensorView>,
    /// The operands of the epilogue.
    epilogue: Vec<TensorView>,
    result: TensorView,
    every: bool,
}

impl Problem {
    fn emit(
        self,
        cx: &mut Cx,
        site: &Site,
        of: impl FnOnce(usize) -> (Vec<Fold>, Expr),
        then: impl FnOnce(Expr) -> Expr,
    ) -> Lowered {
        let own = self.operands.len();
        let operands: Vec<TensorView> = self.operands.into_iter().chain(self.epilogue).collect();
        let first = operands.len();
        let (folds, value) = of(first);
        let value = then(value);
        let store = site.epilogue.expr.with_operands(&|i| match i.checked_sub(1) {
            None => value.clone(),
            Some(i) => Expr::Operand(own + i),
        });
        if self.result.dtype != DType::F32 && folds.iter().any(|fold| fold.keep) {
            return Err(Declined::new(ReasonCode::Numbers, "a result that is not f32 cannot hold what is folded"));
        }
        let cost = folds.iter().map(|fold| fold.element.cost() + 1).sum::<usize>() + store.cost();
        let problem = Folding {
            shape: operands[0].shape.clone(),
            reduced: self.reduced,
            operands: operands.iter().map(kernel_view).collect::<Result<_, _>>()?,
            folds,
            result: kernel_view(&self.result)?,
            every: self.every,
            store,
        };
        let kernel = folding(&problem, cx.target.isa);
        let kernel = kernel.ok_or_else(|| Declined::new(ReasonCode::Shape, "too many separate dims are folded"))?;
        // Elements may be kept in the result before the last expression reads the other operands.
        let alone = operands[1..].iter().all(|view| view.at.buf != operands[0].at.buf);
        let in_place = (self.every && alone && problem.operands[0] == problem.result).then_some(0);
        let mut args: Vec<BufRef> = operands.iter().map(|view| view.at).collect();
        args.push(self.result.at);
        let bytes = kernel.bufs.iter().map(|b| b.bytes as f64).sum();
        let flops = (operands[0].len() * cost) as f64;
        cx.kernel(kernel, args, in_place, StepInfo { loc: site.loc.clone(), flops, bytes, ..StepInfo::default() });
        Ok(())
    }
}

fn reduce(cx: &mut Cx, op: &math::Reduce, site: &Site, x: TensorView) -> Lowered {
    let kind = match op.kind {
        ReduceKind::Sum => Reduction::Sum,
        ReduceKind::Mean => Reduction::Mean,
        ReduceKind::Max => Reduction::Max,
        ReduceKind::Min => Reduction::Min,
        ReduceKind::Prod => Reduction::Product,
        ReduceKind::SumSquare => Reduction::SumSquare,
        ReduceKind::L1 => Reduction::L1,
        ReduceKind::L2 => Reduction::L2,
        ReduceKind::LogSum => Reduction::LogSum,
        ReduceKind::LogSumExp => Reduction::LogSumExp,
    };
    // In the operand an empty list means no axes, in the attribute all of them.
    if site.operands.iter().skip(1).any(Option::is_some) {
        return Err(Declined::new(ReasonCode::OpenShape, "the axes are an operand"));
    }
    over_axes(cx, &op.axes, op.keep_dims, site, x, |n, first| kind.folds(n, first))
}

/// A fold over axes, all where there are none; `of` gets the number of elements and the place of the first fold.
fn over_axes(
    cx: &mut Cx,
    axes: &[i64],
    keep_dims: bool,
    site: &Site,
    x: TensorView,
    of: impl FnOnce(usize, usize) -> (Vec<Fold>, Expr),
) -> Lowered {
    let rank = x.shape.len();
    let mut reduced = vec![axes.is_empty(); rank];
    for &a in axes {
        reduced[axis(a, rank)?] = true;
    }
    // The result and what is read with it have a dim for each kept one, or for all.
    let spread = |view: &TensorView| {
        let mut own = view.strides.iter().copied();
        let mut strides = Vec::with_capacity(rank);
        for &gone in &reduced {
            let stride = if gone && !keep_dims { 0 } else { own.next().unwrap_or(0) };
            strides.push(if gone { 0 } else { stride });
        }
        TensorView { strides, shape: x.shape.clone(), ..view.clone() }
    };
    let n = (0..rank).filter(|&d| reduced[d]).map(|d| x.shape[d]).product();
    let epilogue = site.epilogue.operands.iter().map(spread).collect();
    let result = spread(site.result()?);
    let problem = Problem { operands: vec![x.clone()], epilogue, result, every: false, reduced: reduced.clone() };
    problem.emit(cx, site, |first| of(n, first), |value| value)
}

/// The sum of integers of a view without their zero point; exact where the caller has shown that `f32` holds it.
pub(super) fn integer_sum(
    cx: &mut Cx,
    axes: &[i64],
    keep_dims: bool,
    site: &Site,
    x: TensorView,
    zero: i32,
) -> Lowered {
    let element = Expr::Operand(0).to_float();
    let element = if zero == 0 { element } else { element.minus(Expr::Const(zero as f32)) };
    over_axes(cx, axes, keep_dims, site, x, |_, first| {
        let fold = Fold { op: FoldOp::Sum, element, finish: Expr::Operand(first), keep: false };
        (vec![fold], Expr::Operand(first))
    })
}

/// The place of an extreme: the extreme itself, then the first or last index where it stands.
pub(super) fn arg_reduce(cx: &mut Cx, op: &math::ArgReduce, site: &Site) -> Lowered {
    site.without_epilogue()?;
    let (x, mut result) = (cx.view(site.operand(0)?)?, site.result()?.clone());
    let along = axis(op.axis, x.shape.len())?;
    let n = x.shape[along];
    // Indices are folded as floats.
    if x.dtype != DType::F32 || x.is_empty() || n > 1 << 24 {
        return Err(Declined::new(
            ReasonCode::Numbers,
            format!("kernels do not find places in {} elements of {}", n, x.dtype),
        ));
    }
    if !op.keep_dims {
        result.shape.insert(along, 1);
        result.strides.insert(along, 0);
    }
    result.strides[along] = 0;
    let places: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let at = cx.add_constant("places along an axis", Tensor::from_slice(&[n], &places)?);
    let mut strides = vec![0; x.shape.len()];
    strides[along] = 1;
    let places = TensorView { at, strides, ..x.clone() };
    let problem = Folding {
        shape: x.shape.clone(),
        reduced: (0..x.shape.len()).map(|d| d == along).collect(),
        operands: vec![kernel_view(&x)?, kernel_view(&places)?],
        folds: place_of_extreme(n, op.kind == Extreme::Max, op.last),
        result: kernel_view(&result)?,
        every: false,
        store: Expr::Operand(3).to_int(),
    };
    let kernel = folding(&problem, cx.target.isa);
    let kernel = kernel.ok_or_else(|| Declined::new(ReasonCode::Shape, "too many separate dims are folded"))?;
    let bytes = kernel.bufs.iter().map(|b| b.bytes as f64).sum();
    let info = StepInfo { loc: site.loc.clone(), flops: 4.0 * x.len() as f64, bytes, ..StepInfo::default() };
    cx.kernel(kernel, vec![x.at, at, result.at], None, info);
    Ok(())
}

/// An op over the lines along one axis.
fn lines(cx: &mut Cx, along: i64, site: &Site, x: TensorView, of: fn(usize) -> (Vec<Fold>, Expr)) -> Lowered {
    let mut reduced = vec![false; x.shape.len()];
    reduced[axis(along, x.shape.len())?] = true;
    every(site, vec![x], reduced)?.emit(cx, site, of, |value| value)
}

fn every(site: &Site, operands: Vec<TensorView>, reduced: Vec<bool>) -> Result<Problem, Declined> {
    let result = site.result()?.clone();
    Ok(Problem { reduced, operands, epilogue: site.epilogue.operands.clone(), result, every: true })
}

/// `x / norm`, or `x` where the norm is zero.
fn lp_norm<const P: usize>(first: usize) -> (Vec<Fold>, Expr) {
    let (folds, norm) = if P == 1 { Reduction::L1.folds(0, first) } else { Reduction::L2.folds(0, first) };
    let x = Expr::Operand(0);
    let zero = norm.clone().cmp(Cmp::Eq, Expr::Const(0.0));
    (folds, zero.select(x.clone(), x.over(norm)))
}

/// The axes from `from` on, and the operands of scale and bias broadcast to `x`.
fn normalised_axes(cx: &mut Cx, from: i64, site: &Site, x: TensorView) -> Result<(Problem, usize), Declined> {
    let from = axis(from, x.shape.len())?;
    let reduced = (0..x.shape.len()).map(|d| d >= from).collect();
    let n = x.shape[from..].iter().product();
    let mut operands = vec![x];
    for slot in 1..site.operands.len() {
        if let Some(value) = site.optional(slot) {
            let wide = real(cx.view(value)?)?.broadcast(&operands[0].shape);
            operands.push(wide.ok_or_else(|| Declined::new(ReasonCode::Shape, "scale or bias does not broadcast"))?);
        }
    }
    Ok((every(site, operands, reduced)?, n))
}

/// A scale or a bias, which kernels read as `f32`.
fn real(view: TensorView) -> Result<TensorView, Declined> {
    if view.dtype == DType::F32 {
        Ok(view)
    } else {
        Err(Declined::new(ReasonCode::Numbers, format!("scale or bias is {}", view.dtype)))
    }
}

fn layer_norm(cx: &mut Cx, op: &nn::LayerNorm, site: &Site, x: TensorView) -> Lowered {
    let (problem, n) = normalised_axes(cx, op.axis, site, x)?;
    let biased = site.optional(2).is_some();
    let affine = |value: Expr| {
        let scaled = value.times(Expr::Operand(1));
        if biased { scaled.plus(Expr::Operand(2)) } else { scaled }
    };
    problem.emit(cx, site, |first| normalised(n, op.epsilon.0, first), affine)
}

fn rms_norm(cx: &mut Cx, op: &nn::RmsNorm, site: &Site, x: TensorView) -> Lowered {
    let (problem, n) = normalised_axes(cx, op.axis, site, x)?;
    problem.emit(cx, site, |first| root_mean_square(n, op.epsilon.0, first), |value| value.times(Expr::Operand(1)))
}

/// The channels of a group and what comes after them are normalised together: axis 1 is cut in two.
fn group_norm(cx: &mut Cx, op: &nn::GroupNorm, site: &Site, x: TensorView) -> Lowered {
    let channels = x.shape.get(1).copied().unwrap_or(0);
    let groups = if op.groups == 0 { channels } else { usize::try_from(op.groups).unwrap_or(0) };
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(Declined::new(ReasonCode::Attribute, "the groups do not divide the channels"));
    }
    let size = channels / groups;
    let cut = |view: &TensorView| {
        let (mut shape, mut strides) = (view.shape.clone(), view.strides.clone());
        shape.splice(1..2, [groups, size]);
        strides.splice(1..2, [view.strides[1] * size as i64, view.strides[1]]);
        TensorView { shape, strides, ..view.clone() }
    };
    let mut problem = every(site, vec![cut(&x)], Vec::new())?;
    problem.reduced = (0..problem.operands[0].shape.len()).map(|d| d >= 2).collect();
    for slot in 1..3 {
        let vector = real(cx.view(site.operand(slot)?)?)?;
        let (true, Some(&stride)) = (vector.shape == [channels], vector.strides.first()) else {
            return Err(Declined::new(ReasonCode::Shape, "scale or bias is not one for each channel"));
        };
        let mut strides = vec![0; x.shape.len()];
        strides[1] = stride;
        problem.operands.push(cut(&TensorView { strides, shape: x.shape.clone(), ..vector }));
    }
    problem.result = cut(&problem.result);
    problem.epilogue = problem.epilogue.iter().map(cut).collect();
    let n = problem.operands[0].shape[2..].iter().product();
    let affine = |value: Expr| value.times(Expr::Operand(1)).plus(Expr::Operand(2));
    problem.emit(cx, site, |first| normalised(n, op.epsilon.0, first), affine)
}
