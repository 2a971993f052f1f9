//! The kernel expressions of pointwise ops that are more than a function of one `f32`: comparisons, masks, choices and
//! conversions.

use optc_kernel::expr::{Expr, Func};
use optc_kernel::tile::{Binary, Cmp};
use optc_tensor::DType;

use crate::ops::scalar::{NoExpression, PairFn, Scalar, Scalars};

/// The lane operation on both operands, which hold masks.
pub(super) fn masks(s: &Scalars, op: Binary) -> Result<Expr, NoExpression> {
    Ok(s.given(0)?.expr.clone().binary(op, s.given(1)?.expr.clone()))
}

/// The smaller elements; NaN where either `f32` is.
pub(super) const LEAST: [Option<PairFn>; 3] =
    [Some(Expr::minimum), Some(|a, b| a.binary(Binary::Min, b)), Some(|a, b| a.binary(Binary::Min, b))];

/// The larger elements; NaN where either `f32` is.
pub(super) const GREATEST: [Option<PairFn>; 3] =
    [Some(Expr::maximum), Some(|a, b| a.binary(Binary::Max, b)), Some(|a, b| a.binary(Binary::Max, b))];

/// `x` where it is not negative, else `slope · x`.
pub(super) fn sloped(x: Expr, slope: Expr) -> Expr {
    x.clone().cmp(Cmp::Lt, Expr::Const(0.0)).select(x.clone().times(slope), x)
}

/// `xᵖ` for a constant `p`.
pub(super) fn power(s: &Scalars) -> Result<Expr, NoExpression> {
    let constant = |reason: String| NoExpression::Constant(reason);
    let x = s.float()?;
    let Expr::Const(p) = s.given(1)?.expr else {
        return Err(constant("kernels raise to constant powers only".to_owned()));
    };
    x.power(p).ok_or_else(|| constant(format!("kernels do not raise to the power {p}")))
}

/// A function for `f32` and for `i32`.
pub(super) fn number(s: &Scalars, f: fn(Expr) -> Expr) -> Result<Expr, NoExpression> {
    let x = s.given(0)?;
    if matches!(x.dtype, DType::F32 | DType::I32) { Ok(f(x.expr.clone())) } else { Err(NoExpression::DTypes) }
}

/// `min(max(x, low), high)` with the bounds that are present.
pub(super) fn clip(s: &Scalars) -> Result<Expr, NoExpression> {
    let x = s.float()?;
    let lower = s.optional(1).map_or(x.clone(), |low| x.maximum(low));
    Ok(s.optional(2).map_or(lower.clone(), |high| lower.minimum(high)))
}

/// `cond ? a : b`.
pub(super) fn choice(s: &Scalars) -> Result<Expr, NoExpression> {
    let (cond, a, b) = (s.given(0)?, s.given(1)?, s.given(2)?);
    if a.dtype == DType::I64 {
        return Err(NoExpression::Conversion("i64 is not chosen from by kernels".to_owned()));
    }
    Ok(cond.expr.clone().select(a.expr.clone(), b.expr.clone()))
}

/// The mask of `a cmp b`.
pub(super) fn compared(s: &Scalars, cmp: Cmp) -> Result<Expr, NoExpression> {
    let (a, b) = (s.given(0)?, s.given(1)?);
    let (x, y) = (a.expr.clone(), b.expr.clone());
    match (a.dtype, &a.high, &b.high) {
        (DType::F32 | DType::F16 | DType::BF16, _, _) => Ok(x.cmp(cmp, y)),
        (DType::I32 | DType::U16 | DType::I16 | DType::U8 | DType::I8, _, _) => Ok(x.cmp(cmp, y)),
        (DType::Bool, _, _) if cmp == Cmp::Eq => Ok(x.cmp(cmp, y)),
        (DType::I64, Some(p), Some(q)) => wide(cmp, [x, y], [p.clone(), q.clone()]),
        (other, _, _) => Err(NoExpression::Conversion(format!("{other} is not compared by kernels"))),
    }
}

/// The mask of a comparison of `i64`, given by their lower and upper halves.
fn wide(cmp: Cmp, [x, y]: [Expr; 2], [p, q]: [Expr; 2]) -> Result<Expr, NoExpression> {
    // The lower halves are unsigned: with the sign bit turned they compare as signed ones do.
    let turned = |half: Expr| half.binary(Binary::Xor, Expr::Int(i32::MIN));
    let low = turned(x).cmp(cmp, turned(y));
    let same = p.clone().cmp(Cmp::Eq, q.clone()).binary(Binary::And, low);
    let strict = match cmp {
        Cmp::Eq => return Ok(same),
        Cmp::Lt | Cmp::Le => Cmp::Lt,
        Cmp::Gt | Cmp::Ge => Cmp::Gt,
        Cmp::Ne => return Err(NoExpression::Conversion("i64 is not compared so by kernels".to_owned())),
    };
    Ok(p.cmp(strict, q).binary(Binary::Or, same))
}

/// The element converted to `to`.
pub(super) fn cast(arg: &Scalar, to: DType) -> Result<Expr, NoExpression> {
    use DType::{BF16, Bool, F16, F32, I8, I16, I32, I64, U8, U16};
    let (x, from) = (arg.expr.clone(), arg.dtype);
    let unknown = || NoExpression::Conversion(format!("kernels do not convert {from} to {to}"));
    if let Some(high) = &arg.high {
        return cast_wide(x, high.clone(), to).ok_or_else(unknown);
    }
    Ok(match (from, to) {
        _ if from == to => x,
        (F32 | F16 | BF16, Bool) => x.cmp(Cmp::Ne, Expr::Const(0.0)),
        (F32 | F16, BF16) => x.func(Func::Bf16),
        (F32 | BF16, F16) => x.func(Func::F16),
        (F16 | BF16, F32) => x,
        (F32 | F16 | BF16, I32) => x.to_int(),
        (F32 | F16 | BF16, U16 | I16 | U8 | I8) => narrow(x.to_int(), to),
        (Bool, F32 | F16 | BF16) => x.select(Expr::Const(1.0), Expr::Const(0.0)),
        (Bool, I32 | I64 | U16 | I16 | U8 | I8) => x.bit(),
        (I32 | U16 | I16 | U8 | I8, F32) => x.to_float(),
        (I32 | U16 | I16 | U8 | I8, Bool) => x.mask(),
        (U16 | I16 | U8 | I8, I32 | I64) | (I32, I64) => x,
        (I32 | U16 | I16 | U8 | I8, U16 | I16 | U8 | I8) => narrow(x, to),
        _ => return Err(unknown()),
    })
}

/// An `i64`, given by its halves, converted to `to`.
fn cast_wide(low: Expr, high: Expr, to: DType) -> Option<Expr> {
    Some(match to {
        // The lower half as a signed number, which makes the upper one greater by one where it is negative.
        DType::F32 => {
            let carry = low.clone().cmp(Cmp::Lt, Expr::Int(0)).to_float();
            let upper = high.to_float().minus(carry);
            upper.times(Expr::Const(4_294_967_296.0)).plus(low.to_float())
        }
        DType::Bool => low.binary(Binary::Or, high).mask(),
        DType::I32 => low,
        DType::U16 | DType::I16 | DType::U8 | DType::I8 => narrow(low, to),
        _ => return None,
    })
}

/// The value that the lowest bits have as an integer of 8 or 16 bits.
fn narrow(x: Expr, to: DType) -> Expr {
    let sign = 1 << (to.bits() - 1);
    let low = x.binary(Binary::And, Expr::Int(2 * sign - 1));
    if to.is_signed() { low.binary(Binary::Xor, Expr::Int(sign)).minus(Expr::Int(sign)) } else { low }
}
