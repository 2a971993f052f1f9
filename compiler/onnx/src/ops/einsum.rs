//! Sums of products in Einstein's notation.

use optc_ir::ops::math;

use super::Table;
use crate::mapping::MapError;

pub(crate) const TABLE: Table = &[("", "Einsum", |cx| {
    let missing = || MapError::Invalid("attribute `equation` is missing".to_owned());
    let equation = cx.attrs.string("equation")?.ok_or_else(missing)?;
    let operands = cx.inputs.clone();
    cx.emit(math::Einsum { equation }, &operands)
})];
