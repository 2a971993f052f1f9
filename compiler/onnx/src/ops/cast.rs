//! Conversion between dtypes.

use optc_ir::Value;
use optc_ir::ops::math;
use optc_tensor::DType;

use super::{Mapped, Table};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    ("", "Cast", |cx| {
        let missing = || MapError::Invalid("attribute `to` is missing".to_owned());
        let to = dtype_attribute(cx, "to")?.ok_or_else(missing)?;
        let x = cx.input(0)?;
        convert(cx, x, to)
    }),
    ("", "CastLike", |cx| {
        let (x, like) = (cx.input(0)?, cx.input(1)?);
        let to = cx.dtype(like)?;
        convert(cx, x, to)
    }),
];

/// `saturate` and `round_mode` concern 8-bit floats alone, which are refused as dtypes.
fn convert(cx: &mut NodeCx, x: Value, to: DType) -> Mapped {
    cx.attrs.ignore(&["saturate", "round_mode"]);
    Ok(vec![cx.emit1(math::Cast { to }, &[x])?])
}

/// The dtype that an integer attribute names.
pub(super) fn dtype_attribute(cx: &NodeCx, name: &str) -> Result<Option<DType>, MapError> {
    let Some(code) = cx.attrs.int(name)? else { return Ok(None) };
    let dtype = crate::dtype_from_code(i32::try_from(code).unwrap_or(-1));
    dtype.map(Some).map_err(|e| match e.is_unsupported() {
        true => MapError::Unsupported(e.to_string()),
        false => MapError::Invalid(e.to_string()),
    })
}
