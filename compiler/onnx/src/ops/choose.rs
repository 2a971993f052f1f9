//! Elementwise choice, and ops that choose to do nothing at inference.

use optc_ir::ops::{math, tensor};
use optc_ir::{Const, Value};
use optc_tensor::Tensor;

use super::{Mapped, Table, plain};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    plain!("Where", Where, 3),
    ("", "Clip", clip),
    ("", "Identity", |cx| Ok(vec![cx.input(0)?])),
    ("", "Dropout", dropout),
];

/// Before opset 11 the bounds are attributes, since then inputs.
fn clip(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let (mut low, mut high) = (cx.optional(1), cx.optional(2));
    if cx.opset < 11 {
        let dtype = cx.dtype(x)?;
        for (name, bound) in [("min", &mut low), ("max", &mut high)] {
            if let Some(v) = cx.attrs.float(name)? {
                *bound = Some(cx.constant(Tensor::from_f64(dtype, &[], &[v as f64])?));
            }
        }
    }
    cx.emit(math::Clip {}, &[Some(x), low, high])
}

/// Inference keeps everything, and so does training with a ratio of zero; the mask is then all true (before opset 10,
/// where it has the operand's dtype, all ones).
fn dropout(cx: &mut NodeCx) -> Mapped {
    cx.attrs.ignore(&["seed"]);
    let fixed = |v: Option<Value>| v.map(|v| cx.constant_of(v).and_then(|t| t.to_f64_vec().first().copied()));
    let ratio = if cx.opset < 12 { cx.attrs.float("ratio")?.map(|r| Some(r as f64)) } else { fixed(cx.optional(1)) };
    let training = cx.opset >= 12 && fixed(cx.optional(2)).is_some_and(|v| v != Some(0.0));
    if training && ratio != Some(Some(0.0)) {
        return Err(MapError::Unsupported(
            "Dropout drops at random in training mode, which is not supported".to_owned(),
        ));
    }
    let x = cx.input(0)?;
    if cx.node.output.get(1).is_none_or(String::is_empty) {
        return Ok(vec![x]);
    }
    let one =
        if cx.opset >= 10 { Tensor::from_bools(&[], &[true])? } else { Tensor::from_f64(cx.dtype(x)?, &[], &[1.0])? };
    let shape = cx.emit1(tensor::ShapeOf { start: 0, end: i64::MAX }, &[x])?;
    let mask = cx.emit1(tensor::Fill { value: Const(one) }, &[shape])?;
    Ok(vec![x, mask])
}
