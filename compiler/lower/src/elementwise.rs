//! Elementwise ops: one expression, which the op's declaration gives, and one kernel.

use optc_ir::ops::nn::BatchNorm;
use optc_ir::{NoExpression, Op, Scalar, Scalars};
use optc_kernel::expr::Expr;
use optc_kernels::elementwise::{self as kernels, Elementwise};
use optc_tensor::DType;
use optc_types::ReasonCode;
use optc_types::steps::{BufRef, StepInfo};

use super::cx::Cx;
use super::operands::kernel_view;
use super::{Declined, Lowered, Site, TensorView, quantize};

/// From this many elements on, comparisons of integers of 64 bits alone in a kernel are left to the host: a million
/// take 2.0 ms in a kernel and 0.3 to 0.5 there (Zen 4).
const MANY: usize = 1 << 14;

/// The views of an operand: one, or for an `i64` those of its lower and its upper halves.
pub(super) fn halves(view: TensorView) -> Vec<TensorView> {
    if view.dtype != DType::I64 {
        return vec![view];
    }
    let strides = view.strides.iter().map(|s| 2 * s).collect();
    let low = TensorView { dtype: DType::I32, strides, ..view };
    // Where there is no element, there is no byte of an upper half either.
    let above = if low.is_empty() { 0 } else { 4 };
    let high = TensorView { at: BufRef { offset: low.at.offset + above, ..low.at }, ..low.clone() };
    vec![low, high]
}

/// An elementwise op as an expression on its operands.
///
/// # Errors
/// The op has no expression for these dtypes.
pub(super) fn expr_of(op: &Op, args: &[Option<Scalar>], result: DType) -> Result<Expr, Declined> {
    op.expression(&Scalars { args, result }).map_err(|e| match e {
        NoExpression::DTypes => {
            Declined::new(ReasonCode::Numbers, format!("`{}` has no elementwise kernel for these dtypes", op.name()))
        }
        other => other.into(),
    })
}

/// Lowers one elementwise op.
pub(super) fn op(cx: &mut Cx, op: &Op, site: &Site) -> Lowered {
    site.without_epilogue()?;
    let result = site.result()?.clone();
    let (mut views, mut args) = (Vec::new(), Vec::new());
    for (slot, value) in site.operands.iter().enumerate() {
        let Some(value) = *value else {
            args.push(None);
            continue;
        };
        if let Some(scalar) = cx.constant(value).and_then(Scalar::constant) {
            args.push(Some(scalar));
            continue;
        }
        let view = quantize::along_axis(op, slot, cx.view(value)?, result.shape.len());
        let wide = view.broadcast(&result.shape);
        args.push(Some(Scalar::operand(views.len(), view.dtype)));
        views.extend(halves(
            wide.ok_or_else(|| Declined::new(ReasonCode::Shape, "an operand does not broadcast to the result"))?,
        ));
    }
    let wide = args.iter().flatten().any(|arg| arg.high.is_some());
    if wide && result.dtype == DType::Bool && result.len() >= MANY {
        let why = "the host compares so many integers of 64 bits faster than a kernel, which reads them by halves";
        return Err(Declined::new(ReasonCode::Numbers, why));
    }
    let expr = expr_of(op, &args, result.dtype)?;
    elementwise(cx, &Scalar::new(expr, result.dtype).stored(), &views, &result, &site.loc)
}

/// `scale * (x - mean) / sqrt(var + epsilon) + bias` with a value of each for a channel (axis 1).
pub(super) fn batch_norm(cx: &mut Cx, op: &BatchNorm, site: &Site) -> Lowered {
    let x = cx.view(site.operand(0)?)?;
    let result = site.result()?.clone();
    let mut views = vec![x];
    for slot in 1..5 {
        let vector = cx.view(site.operand(slot)?)?;
        let mut strides = vec![0; result.shape.len()];
        match (&vector.shape[..], result.shape.get(1)) {
            ([n], Some(channels)) if n == channels => strides[1] = vector.strides[0],
            _ => return Err(Declined::new(ReasonCode::Shape, "the statistics are not one for each channel")),
        }
        views.push(TensorView { strides, shape: result.shape.clone(), ..vector });
    }
    if views.iter().any(|view| view.dtype != DType::F32) {
        return Err(Declined::new(ReasonCode::Numbers, "kernels normalise f32 only"));
    }
    let [x, scale, bias, mean, var] = [0, 1, 2, 3, 4].map(Expr::Operand);
    let factor = scale.over(var.plus(Expr::Const(op.epsilon.0)).sqrt());
    let value = x.minus(mean).times(factor).plus(bias);
    views.extend(site.epilogue.operands.iter().cloned());
    let expr = site.epilogue.expr.with_operands(&|i| if i == 0 { value.clone() } else { Expr::Operand(4 + i) });
    elementwise(cx, &expr, &views, &result, &site.loc)
}

/// `dst = expr(operands)`, element by element; the operands have the shape of the result.
pub(super) fn elementwise(
    cx: &mut Cx,
    expr: &Expr,
    operands: &[TensorView],
    dst: &TensorView,
    loc: &[String],
) -> Lowered {
    let views = operands.iter().map(kernel_view).collect::<Result<Vec<_>, _>>()?;
    let results = vec![(kernel_view(dst)?, expr.clone())];
    let problem = Elementwise { shape: dst.shape.clone(), operands: views, results };
    let kernel = kernels::elementwise(&problem, cx.target.isa);
    // Another operand in the same bytes must not see what is stored there.
    let alone = |i: usize| {
        operands.iter().enumerate().all(|(j, v)| v.at.buf != operands[i].at.buf || *v == operands[i] || i == j)
    };
    let in_place = (0..operands.len()).find(|&i| kernels::in_place(&problem, i) && alone(i));
    let mut args: Vec<BufRef> = operands.iter().map(|view| view.at).collect();
    args.push(dst.at);
    let bytes = kernel.bufs.iter().map(|b| b.bytes as f64).sum();
    // A vector of four is an instruction or two.
    let flops = (dst.len() * expr.cost().max(1)) as f64;
    cx.kernel(kernel, args, in_place, StepInfo { loc: loc.to_vec(), flops, bytes, ..StepInfo::default() });
    Ok(())
}
