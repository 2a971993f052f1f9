//! Changes between reals and quantized integers as kernel expressions, exactly as `eval` defines them.

use optc_kernel::expr::{Expr, Func};
use optc_kernel::tile::{Binary, Unary};
use optc_tensor::DType;

use super::{Dequantize, FakeQuant, Quantize, Requantize, scale_and_zero};
use crate::ops::scalar::{NoExpression, Scalars};

/// 1.5 · 2^23: added to an `f32` below 2^22, it leaves the nearest integer (ties to even) in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// The zero point in operand 2.
fn zero_point(s: &Scalars) -> Expr {
    s.optional(2).unwrap_or(Expr::Int(0))
}

pub(super) fn quantize(op: &Quantize, s: &Scalars) -> Result<Expr, NoExpression> {
    if op.block != 0 {
        return Err(NoExpression::Attributes("kernels quantize without blocks"));
    }
    let quotient = s.only(0, DType::F32)?.over(s.only(1, DType::F32)?);
    let quotient = match op.precision {
        DType::F32 => quotient,
        DType::F16 => quotient.func(Func::F16),
        DType::BF16 => quotient.func(Func::Bf16),
        _ => return Err(NoExpression::Attributes("kernels quantize in f32 and halves")),
    };
    rounded(quotient, zero_point(s), s.result)
}

pub(super) fn dequantize(op: &Dequantize, s: &Scalars) -> Result<Expr, NoExpression> {
    if op.block != 0 || op.to != DType::F32 {
        return Err(NoExpression::Attributes("kernels quantize in f32, without blocks"));
    }
    let (x, zero) = (s.given(0)?, zero_point(s));
    let scale = s.only(1, DType::F32)?;
    let exact = match x.dtype {
        DType::U16 | DType::I16 | DType::U8 | DType::I8 => true,
        dtype => dtype == DType::I32 && zero == Expr::Int(0),
    };
    if !exact {
        return Err(NoExpression::Conversion(format!("kernels do not dequantize {}", x.dtype)));
    }
    let difference = if zero == Expr::Int(0) { x.expr.clone() } else { x.expr.clone().minus(zero) };
    Ok(difference.to_float().times(scale))
}

pub(super) fn requantize(_: &Requantize, s: &Scalars) -> Result<Expr, NoExpression> {
    let (x, scale) = (s.only(0, DType::I32)?, s.given(1)?);
    rounded(x.to_float().times(scale.expr.clone()), zero_point(s), s.result)
}

pub(super) fn fake_quant(op: &FakeQuant, s: &Scalars) -> Result<Expr, NoExpression> {
    let x = s.given(0)?.expr.clone();
    if !op.is_calibrated() {
        return Ok(x);
    }
    let ([low], [high]) = (&op.low[..], &op.high[..]) else {
        return Err(NoExpression::Attributes("ranges along an axis"));
    };
    let (scale, zero) = scale_and_zero(low.0, high.0, op.to);
    let (scale, zero) = (Expr::Const(scale), Expr::Int(zero as i32));
    let integer = quantized([x, scale.clone(), zero.clone()], op.to)?;
    Ok(integer.minus(zero).to_float().times(scale))
}

/// `clamp(round(x / scale) + zero)` in a dtype, for `[x, scale, zero]`.
///
/// # Errors
/// Kernels do not quantize to the dtype.
pub fn quantized([x, scale, zero]: [Expr; 3], to: DType) -> Result<Expr, NoExpression> {
    rounded(x.over(scale), zero, to)
}

/// `clamp(round(x) + zero)`: clamped first, to bounds that are integers, so that rounding is an addition. NaN becomes
/// the least value.
fn rounded(x: Expr, zero: Expr, to: DType) -> Result<Expr, NoExpression> {
    let (low, high) = match to {
        DType::U8 | DType::I8 | DType::U16 | DType::I16 => to.int_range().unwrap_or_default(),
        other => return Err(NoExpression::Conversion(format!("kernels do not quantize to {other}"))),
    };
    let (low, high) = (low as i32, high as i32);
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
