//! Ops whose result's extent depends on the elements.

use optc_ir::Value;
use optc_ir::ops::tensor;
use optc_tensor::Tensor;

use super::{Mapped, Table, direct};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    ("", "NonZero", |cx| direct(cx, tensor::NonZero {}, 1)),
    ("", "Compress", |cx| {
        let (x, axis) = axis_or_flat(cx)?;
        let keep = cx.input(1)?;
        cx.emit(tensor::Compress { axis }, &[Some(x), Some(keep)])
    }),
    ("", "Unique", unique),
];

/// The operand and the axis; without that attribute the operand as a vector.
fn axis_or_flat(cx: &mut NodeCx) -> Result<(Value, i64), MapError> {
    let x = cx.input(0)?;
    if let Some(axis) = cx.attrs.int("axis")? {
        return Ok((x, axis));
    }
    let all = cx.constant(Tensor::from_slice(&[1], &[-1i64])?);
    Ok((cx.emit1(tensor::Reshape { allow_zero: false }, &[x, all])?, 0))
}

fn unique(cx: &mut NodeCx) -> Mapped {
    let sorted = cx.attrs.flag("sorted", true)?;
    let (x, axis) = axis_or_flat(cx)?;
    cx.emit(tensor::Unique { axis, sorted }, &[Some(x)])
}
