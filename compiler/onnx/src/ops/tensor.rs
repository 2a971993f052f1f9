//! Shapes and data movement.

use optc_ir::ops::{math, tensor};
use optc_tensor::Tensor;

use super::{Mapped, Table};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    ("", "Reshape", reshape),
    ("", "Transpose", transpose),
    ("", "Concat", |cx| {
        let axis = cx.attrs.int("axis")?.ok_or_else(|| MapError::Invalid("attribute `axis` is missing".to_owned()))?;
        let operands = cx.inputs.clone();
        cx.emit(tensor::Concat { axis }, &operands)
    }),
    ("", "Slice", slice),
    ("", "Split", split),
    ("", "Shape", |cx| {
        let (start, end) = (cx.attrs.int_or("start", 0)?, cx.attrs.int_or("end", i64::MAX)?);
        let x = cx.input(0)?;
        Ok(vec![cx.emit1(tensor::ShapeOf { start, end }, &[x])?])
    }),
    ("", "Size", |cx| {
        let x = cx.input(0)?;
        let shape = cx.emit1(tensor::ShapeOf { start: 0, end: i64::MAX }, &[x])?;
        let count = math::Reduce { all_if_empty: false, kind: math::ReduceKind::Prod, axes: vec![], keep_dims: false };
        Ok(vec![cx.emit1(count, &[shape])?])
    }),
    ("", "Expand", |cx| {
        let operands = [cx.input(0)?, cx.input(1)?];
        Ok(vec![cx.emit1(tensor::Expand {}, &operands)?])
    }),
    ("", "Squeeze", |cx| {
        let (x, axes) = (cx.input(0)?, axes_operand(cx, 13)?);
        cx.emit(tensor::Squeeze {}, &[Some(x), axes])
    }),
    ("", "Unsqueeze", |cx| {
        let (x, axes) = (cx.input(0)?, axes_operand(cx, 13)?);
        cx.emit(tensor::Unsqueeze {}, &[Some(x), axes])
    }),
    ("", "Flatten", |cx| {
        let axis = cx.attrs.int_or("axis", 1)?;
        let x = cx.input(0)?;
        Ok(vec![cx.emit1(tensor::Flatten { axis }, &[x])?])
    }),
];

/// The `axes` of an op as an operand: an input since opset `since`, an attribute before.
pub(super) fn axes_operand(cx: &mut NodeCx, since: i64) -> Result<Option<optc_ir::Value>, MapError> {
    if cx.opset >= since {
        return Ok(cx.optional(1));
    }
    let axes = cx.attrs.ints("axes")?;
    axes.map(|axes| Ok(cx.constant(Tensor::from_slice(&[axes.len()], &axes)?))).transpose()
}

fn reshape(cx: &mut NodeCx) -> Mapped {
    let allow_zero = cx.attrs.flag("allowzero", false)?;
    let operands = [cx.input(0)?, cx.input(1)?];
    Ok(vec![cx.emit1(tensor::Reshape { allow_zero }, &operands)?])
}

/// Without `perm` the axes are reversed, for which the rank must be known.
fn transpose(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let perm = match (cx.attrs.ints("perm")?, cx.ty(x).as_tensor().and_then(|t| t.rank())) {
        (Some(perm), _) => perm,
        (None, Some(rank)) => (0..rank as i64).rev().collect(),
        (None, None) => {
            return Err(MapError::Open("`perm` is missing and the rank is not known".to_owned()));
        }
    };
    Ok(vec![cx.emit1(tensor::Transpose { perm }, &[x])?])
}

/// Before opset 10 the bounds are attributes, since then inputs.
fn slice(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    if cx.opset >= 10 {
        let operands: Vec<_> = (0..5).map(|i| cx.optional(i)).collect();
        return cx.emit(tensor::Slice {}, &operands);
    }
    let mut operands = vec![Some(x)];
    for name in ["starts", "ends", "axes"] {
        let list = cx.attrs.ints(name)?;
        operands.push(list.map(|v| Ok::<_, MapError>(cx.constant(Tensor::from_slice(&[v.len()], &v)?))).transpose()?);
    }
    cx.emit(tensor::Slice {}, &operands)
}

/// The parts come from an attribute, an input, `num_outputs`, or the number of outputs.
fn split(cx: &mut NodeCx) -> Mapped {
    let axis = cx.attrs.int_or("axis", 0)?;
    let x = cx.input(0)?;
    let (given, by) = if cx.opset < 13 { (cx.attrs.ints("split")?, None) } else { (None, cx.optional(1)) };
    let parts = if cx.opset >= 18 { cx.attrs.int("num_outputs")? } else { None };
    let parts = parts.unwrap_or(cx.node.output.len() as i64);
    match given.or_else(|| by.and_then(|v| cx.constant_of(v)).map(Tensor::to_i64_vec)) {
        Some(sizes) => cx.emit(tensor::Split { axis, parts: 0, sizes }, &[Some(x)]),
        None if by.is_some() => cx.emit(tensor::Split { axis, parts, sizes: vec![] }, &[Some(x), by]),
        None => cx.emit(tensor::Split { axis, parts, sizes: vec![] }, &[Some(x)]),
    }
}
