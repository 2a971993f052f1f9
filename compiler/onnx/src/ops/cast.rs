//! Conversion between dtypes.

use optc_ir::Value;
use optc_ir::ops::math::{self, RoundMode};
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

/// `math.cast` where the attributes have their defaults, or concern another dtype.
fn convert(cx: &mut NodeCx, x: Value, to: DType) -> Mapped {
    let round_mode = cx.attrs.text_or("round_mode", RoundMode::Up)?;
    let round_mode = if to == DType::F8E8M0FNU { round_mode } else { RoundMode::Up };
    let saturate = small_float_saturates(cx, to)?;
    let narrow = (round_mode, saturate) != (RoundMode::Up, true) && cx.dtype(x)? != DType::Str;
    Ok(vec![match narrow {
        true => cx.emit1(math::Narrow { round_mode, saturate, to }, &[x])?,
        false => cx.emit1(math::Cast { to }, &[x])?,
    }])
}

/// The attribute `saturate`, which concerns small floats alone, and only those that have another value than the largest
/// one for what is too large.
pub(super) fn small_float_saturates(cx: &NodeCx, to: DType) -> Result<bool, MapError> {
    let saturate = cx.attrs.int_or("saturate", 1)? != 0;
    Ok(saturate || !to.is_small_float() || to == DType::F4E2M1FN)
}

/// The dtype that an integer attribute names.
pub(crate) fn dtype_attribute(cx: &NodeCx, name: &str) -> Result<Option<DType>, MapError> {
    let Some(code) = cx.attrs.int(name)? else { return Ok(None) };
    let dtype = crate::dtype_from_code(i32::try_from(code).unwrap_or(-1));
    dtype.map(Some).map_err(|e| match e.is_unsupported() {
        true => MapError::Unsupported(e.to_string()),
        false => MapError::Invalid(e.to_string()),
    })
}
