//! Changes between reals and quantized integers as expressions, exactly as `eval` defines them.

use optc_ir::Op;
use optc_ir::ops::quant::{Dequantize, Quantize, scale_and_zero};
use optc_kernel::expr::{Expr, Func};
use optc_kernel::tile::{Binary, Unary};
use optc_tensor::DType;

use super::arg::Arg;
use super::{Declined, TensorView};

/// 1.5 · 2^23: added to an `f32` below 2^22, it leaves the nearest integer (ties to even) in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// An operand of an op as it broadcasts to a result of this rank: scales and zero points of `quant.quantize` and
/// `quant.dequantize` lie along the op's axis, not along the last one.
pub(super) fn along_axis(op: &Op, slot: usize, view: TensorView, rank: usize) -> TensorView {
    let (Op::Quantize(Quantize { axis, .. }) | Op::Dequantize(Dequantize { axis, .. })) = op else { return view };
    let axis = if *axis < 0 { axis + rank as i64 } else { *axis };
    match (view.shape.len(), usize::try_from(axis)) {
        (1, Ok(axis)) if slot > 0 && axis < rank => {
            let behind = rank - axis - 1;
            let (mut shape, mut strides) = (view.shape.clone(), view.strides.clone());
            shape.resize(1 + behind, 1);
            strides.resize(1 + behind, 0);
            TensorView { shape, strides, ..view }
        }
        _ => view,
    }
}

/// The expression of an op of this family, if it is one. Its operands are broadcast: see [`along_axis`].
///
/// # Errors
/// The op's dtypes or its sharing of scales has no expression.
pub(super) fn expr_of(op: &Op, args: &[Option<Arg>], result: DType) -> Result<Option<Expr>, Declined> {
    let given = |i: usize| args.get(i).and_then(Option::as_ref).ok_or_else(|| Declined::new("an operand is absent"));
    let zero = args.get(2).and_then(Option::as_ref).map_or(Expr::Int(0), |zero| zero.expr.clone());
    Ok(Some(match op {
        Op::Quantize(Quantize { block: 0, precision: DType::F32, .. }) => {
            let (x, scale) = (given(0)?, given(1)?);
            only(x, DType::F32)?;
            only(scale, DType::F32)?;
            quantized([x.expr.clone(), scale.expr.clone(), zero], result)?
        }
        Op::Dequantize(Dequantize { block: 0, to: DType::F32, .. }) => {
            let (x, scale) = (given(0)?, given(1)?);
            only(scale, DType::F32)?;
            let exact = match x.dtype {
                DType::U8 | DType::I8 => true,
                dtype => dtype == DType::I32 && zero == Expr::Int(0),
            };
            if !exact {
                return Err(Declined::new(format!("kernels do not dequantize {}", x.dtype)));
            }
            let difference = if zero == Expr::Int(0) { x.expr.clone() } else { x.expr.clone().minus(zero) };
            difference.to_float().times(scale.expr.clone())
        }
        Op::Requantize(_) => {
            let (x, scale) = (given(0)?, given(1)?);
            only(x, DType::I32)?;
            rounded(x.expr.clone().to_float().times(scale.expr.clone()), zero, result)?
        }
        Op::FakeQuant(op) if !op.is_calibrated() => given(0)?.expr.clone(),
        Op::FakeQuant(op) if op.low.len() == 1 => {
            let (scale, zero) = scale_and_zero(op.low[0].0, op.high[0].0, op.to);
            let (scale, zero) = (Expr::Const(scale), Expr::Int(zero as i32));
            let integer = quantized([given(0)?.expr.clone(), scale.clone(), zero.clone()], op.to)?;
            integer.minus(zero).to_float().times(scale)
        }
        Op::FakeQuant(_) => return Err(Declined::new("ranges along an axis")),
        Op::Quantize(_) | Op::Dequantize(_) => {
            return Err(Declined::new("kernels quantize in f32, without blocks"));
        }
        _ => return Ok(None),
    }))
}

fn only(arg: &Arg, dtype: DType) -> Result<(), Declined> {
    if arg.dtype == dtype { Ok(()) } else { Err(Declined::new(format!("{} where {dtype} is expected", arg.dtype))) }
}

/// `clamp(round(x / scale) + zero)` in a dtype, for `[x, scale, zero]`.
///
/// # Errors
/// Kernels do not quantize to the dtype.
pub(super) fn quantized([x, scale, zero]: [Expr; 3], to: DType) -> Result<Expr, Declined> {
    rounded(x.over(scale), zero, to)
}

/// `clamp(round(x) + zero)`: clamped first, to bounds that are integers, so that rounding is an addition. NaN becomes
/// the least value.
fn rounded(x: Expr, zero: Expr, to: DType) -> Result<Expr, Declined> {
    let (low, high) = match to {
        DType::U8 => (0, 255),
        DType::I8 => (-128, 127),
        other => return Err(Declined::new(format!("kernels do not quantize to {other}"))),
    };
    let bound = |bound: i32| match &zero {
        Expr::Int(zero) => Expr::Const((bound - zero) as f32),
        zero => Expr::Const(bound as f32).minus(zero.clone().to_float()),
    };
    let within = x.binary(Binary::Max, bound(low)).binary(Binary::Min, bound(high));
    let bits = within.plus(Expr::Const(ROUND)).func(Func::Lane(Unary::AsInt));
    let base = ROUND.to_bits() as i32;
    Ok(match zero {
        Expr::Int(zero) => bits.minus(Expr::Int(base - zero)),
        zero => bits.minus(Expr::Int(base)).plus(zero),
    })
}
