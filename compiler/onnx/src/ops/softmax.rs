//! Softmax, its logarithm, and the one-hot maximum.

use optc_ir::Op;
use optc_ir::ops::{nn, tensor};

use super::{Mapped, Table};
use crate::mapping::NodeCx;

pub(crate) const TABLE: Table = &[
    ("", "Softmax", |cx| along(cx, |axis| nn::Softmax { axis, log: false }.into())),
    ("", "LogSoftmax", |cx| along(cx, |axis| nn::Softmax { axis, log: true }.into())),
    ("", "Hardmax", |cx| along(cx, |axis| nn::Hardmax { axis }.into())),
];

/// Before opset 13 the dims from `axis` on count as one; since then only `axis` is meant.
fn along(cx: &mut NodeCx, op: fn(i64) -> Op) -> Mapped {
    let x = cx.input(0)?;
    if cx.opset >= 13 {
        let axis = cx.attrs.int_or("axis", -1)?;
        return Ok(vec![cx.emit1(op(axis), &[x])?]);
    }
    let axis = cx.attrs.int_or("axis", 1)?;
    let rank = cx.ty(x).as_tensor().and_then(|t| t.rank());
    if axis == -1 || rank.is_some_and(|r| axis == r as i64 - 1) {
        return Ok(vec![cx.emit1(op(-1), &[x])?]);
    }
    let shape = cx.emit1(tensor::ShapeOf { start: 0, end: i64::MAX }, &[x])?;
    let flat = cx.emit1(tensor::Flatten { axis }, &[x])?;
    let y = cx.emit1(op(-1), &[flat])?;
    Ok(vec![cx.emit1(tensor::Reshape { allow_zero: true }, &[y, shape])?])
}
