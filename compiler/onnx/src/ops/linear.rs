//! Matrix products, casts and reductions.

use optc_ir::ops::math;
use optc_tensor::DType;

use super::tensor::dtype_attribute;
use super::{Mapped, Table};
use crate::import::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    ("", "MatMul", |cx| {
        let operands = [cx.input(0)?, cx.input(1)?];
        Ok(vec![cx.emit1(math::MatMul {}, &operands)?])
    }),
    ("", "Pow", pow),
    ("", "Cast", cast),
    ("", "CastLike", |cx| {
        let (x, like) = (cx.input(0)?, cx.input(1)?);
        let to = cx.dtype(like)?;
        convert(cx, x, to)
    }),
    ("", "ReduceSum", |cx| reduce(cx, "sum", 13)),
    ("", "ReduceMean", |cx| reduce(cx, "mean", 18)),
    ("", "ReduceMax", |cx| reduce(cx, "max", 18)),
    ("", "ReduceMin", |cx| reduce(cx, "min", 18)),
    ("", "ReduceProd", |cx| reduce(cx, "prod", 18)),
    ("", "ReduceSumSquare", |cx| reduce(cx, "sum_square", 18)),
    ("", "ReduceL1", |cx| reduce(cx, "l1", 18)),
    ("", "ReduceL2", |cx| reduce(cx, "l2", 18)),
    ("", "ReduceLogSum", |cx| reduce(cx, "log_sum", 18)),
    ("", "ReduceLogSumExp", |cx| reduce(cx, "log_sum_exp", 18)),
];

/// The exponent may have a dtype of its own; the result has that of the base.
fn pow(cx: &mut NodeCx) -> Mapped {
    let (x, mut y) = (cx.input(0)?, cx.input(1)?);
    let (base, exponent) = (cx.dtype(x)?, cx.dtype(y)?);
    if base != exponent {
        if base.is_int() && exponent.is_float() {
            return Err(MapError::Unsupported(format!("{base} to the power of {exponent} is not supported")));
        }
        y = cx.emit1(math::Cast { to: base }, &[y])?;
    }
    Ok(vec![cx.emit1(math::Pow {}, &[x, y])?])
}

fn cast(cx: &mut NodeCx) -> Mapped {
    let missing = || MapError::Invalid("attribute `to` is missing".to_owned());
    let to = dtype_attribute(cx, "to")?.ok_or_else(missing)?;
    let x = cx.input(0)?;
    convert(cx, x, to)
}

/// `saturate` and `round_mode` concern 8-bit floats alone, which are refused as dtypes.
fn convert(cx: &mut NodeCx, x: optc_ir::Value, to: DType) -> Mapped {
    cx.attrs.ignore(&["saturate", "round_mode"]);
    if cx.dtype(x)? == DType::Str || to == DType::Str {
        return Err(MapError::Unsupported("casts from and to strings are not supported".to_owned()));
    }
    Ok(vec![cx.emit1(math::Cast { to }, &[x])?])
}

/// The axes are an input since opset `since`, an attribute before; with none, all axes or, on request, none at all.
fn reduce(cx: &mut NodeCx, kind: &str, since: i64) -> Mapped {
    let x = cx.input(0)?;
    let keep_dims = cx.attrs.flag("keepdims", true)?;
    let axes = if cx.opset >= since {
        let unknown = || MapError::Unsupported("`axes` is not a constant".to_owned());
        cx.optional(1).map(|v| cx.constant_of(v).map(|t| t.to_i64_vec()).ok_or_else(unknown)).transpose()?
    } else {
        cx.attrs.ints("axes")?
    };
    let noop = cx.opset >= since && cx.attrs.flag("noop_with_empty_axes", false)?;
    let axes = axes.unwrap_or_default();
    if noop && axes.is_empty() {
        return match kind {
            "sum" | "mean" | "max" | "min" | "prod" => Ok(vec![x]),
            _ => Err(MapError::Unsupported(format!("`noop_with_empty_axes` of {kind} is not supported"))),
        };
    }
    Ok(vec![cx.emit1(math::Reduce { kind: kind.to_owned(), axes, keep_dims }, &[x])?])
}
