//! Sequences and optional values.

use optc_ir::ops::seq;
use optc_ir::{TensorType, Type};
use optc_tensor::{DType, Tensor};

use super::cast::dtype_attribute;
use super::{Mapped, Table};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    ("", "SequenceConstruct", |cx| {
        let operands = cx.inputs.clone();
        cx.emit(seq::SeqConstruct {}, &operands)
    }),
    ("", "SequenceEmpty", |cx| {
        let dtype = dtype_attribute(cx, "dtype")?.unwrap_or(DType::F32);
        cx.emit(seq::SeqEmpty { of: TensorType::unranked(dtype).into() }, &[])
    }),
    ("", "SequenceInsert", |cx| {
        let operands = [Some(cx.input(0)?), Some(cx.input(1)?), cx.optional(2)];
        cx.emit(seq::SeqInsert {}, &operands)
    }),
    ("", "SequenceErase", |cx| {
        let operands = [Some(cx.input(0)?), cx.optional(1)];
        cx.emit(seq::SeqErase {}, &operands)
    }),
    ("", "SequenceAt", |cx| {
        let operands = [cx.input(0)?, cx.input(1)?];
        Ok(vec![cx.emit1(seq::SeqAt {}, &operands)?])
    }),
    ("", "SequenceLength", |cx| {
        let x = cx.input(0)?;
        Ok(vec![cx.emit1(seq::SeqLength {}, &[x])?])
    }),
    ("", "SplitToSequence", |cx| {
        let (axis, keep_dims) = (cx.attrs.int_or("axis", 0)?, cx.attrs.flag("keepdims", true)?);
        let operands = [Some(cx.input(0)?), cx.optional(1)];
        cx.emit(seq::SeqSplit { axis, keep_dims }, &operands)
    }),
    ("", "ConcatFromSequence", |cx| {
        let missing = || MapError::Invalid("attribute `axis` is missing".to_owned());
        let (axis, new_axis) = (cx.attrs.int("axis")?.ok_or_else(missing)?, cx.attrs.flag("new_axis", false)?);
        let x = cx.input(0)?;
        Ok(vec![cx.emit1(seq::SeqConcat { axis, new_axis }, &[x])?])
    }),
    ("", "Optional", optional),
    ("", "OptionalHasElement", has_element),
    ("", "OptionalGetElement", |cx| {
        let x = cx.input(0)?;
        let optional = matches!(cx.ty(x), Type::Optional(_));
        Ok(vec![if optional { cx.emit1(seq::OptGet {}, &[x])? } else { x }])
    }),
];

fn optional(cx: &mut NodeCx) -> Mapped {
    let declared = cx.attrs.type_proto("type")?;
    if let Some(x) = cx.optional(0) {
        return Ok(vec![cx.emit1(seq::OptSome {}, &[x])?]);
    }
    let missing = || MapError::Invalid("attribute `type` is missing".to_owned());
    let of = crate::read_type(declared.ok_or_else(missing)?).map_err(|e| match e.is_unsupported() {
        true => MapError::Unsupported(e.to_string()),
        false => MapError::Invalid(e.to_string()),
    })?;
    cx.emit(seq::OptNone { of }, &[])
}

/// Whether a value is there is known at compile time, unless it is an optional.
fn has_element(cx: &mut NodeCx) -> Mapped {
    let x = cx.optional(0);
    if let Some(x) = x.filter(|&x| matches!(cx.ty(x), Type::Optional(_))) {
        return Ok(vec![cx.emit1(seq::OptHas {}, &[x])?]);
    }
    let has = Tensor::from_bools(&[], &[x.is_some()])?;
    Ok(vec![cx.constant(has)])
}
