//! Padding and matrix products with a bias.

use optc_ir::Real;
use optc_ir::ops::{nn, tensor};

use super::{Mapped, Table};
use crate::import::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[("", "Gemm", gemm), ("", "Pad", pad)];

fn gemm(cx: &mut NodeCx) -> Mapped {
    let (alpha, beta) = (Real(cx.attrs.float_or("alpha", 1.0)?), Real(cx.attrs.float_or("beta", 1.0)?));
    let (trans_a, trans_b) = (cx.attrs.flag("transA", false)?, cx.attrs.flag("transB", false)?);
    let operands = [Some(cx.input(0)?), Some(cx.input(1)?), cx.optional(2)];
    cx.emit(nn::Gemm { alpha, beta, trans_a, trans_b }, &operands)
}

/// Pads come from an attribute before opset 11; a fill value other than zero is not supported.
fn pad(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let mode = match cx.attrs.string_or("mode", "constant")?.as_str() {
        "constant" => "zero",
        "edge" => "edge",
        "reflect" => "reflect",
        other => return Err(MapError::Unsupported(format!("`mode` \"{other}\" is not supported"))),
    };
    let unknown = |what: &str| MapError::Unsupported(format!("`{what}` is not a constant"));
    let (pads, value) = if cx.opset < 11 {
        (cx.attrs.ints("pads")?, cx.attrs.float_or("value", 0.0)? as f64)
    } else {
        let pads = cx.constant_of(cx.input(1)?).ok_or_else(|| unknown("pads"))?.to_i64_vec();
        let value = cx.optional(2).map(|v| cx.constant_of(v).ok_or_else(|| unknown("constant_value"))).transpose()?;
        (Some(pads), value.and_then(|t| t.to_f64_vec().first().copied()).unwrap_or(0.0))
    };
    if cx.optional(3).is_some() || (mode == "zero" && value != 0.0) {
        return Err(MapError::Unsupported("Pad with `axes` or a value other than zero is not supported".to_owned()));
    }
    let pads = pads.ok_or_else(|| MapError::Invalid("`pads` is missing".to_owned()))?;
    Ok(vec![cx.emit1(tensor::Pad { mode: mode.to_owned(), pads }, &[x])?])
}
