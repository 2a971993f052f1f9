//! Integers as strings of bits.

use optc_ir::Op;
use optc_ir::ops::math;

use super::cast::dtype_attribute;
use super::{Mapped, Table, direct, plain};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    plain!("BitwiseAnd", BitAnd, 2),
    plain!("BitwiseOr", BitOr, 2),
    plain!("BitwiseXor", BitXor, 2),
    plain!("BitwiseNot", BitNot, 1),
    ("", "BitShift", bit_shift),
    ("", "BitCast", |cx| {
        let missing = || MapError::Invalid("attribute `to` is missing".to_owned());
        let to = dtype_attribute(cx, "to")?.ok_or_else(missing)?;
        direct(cx, math::BitCast { to }, 1)
    }),
];

fn bit_shift(cx: &mut NodeCx) -> Mapped {
    let op: Op = match cx.attrs.string_or("direction", "")?.as_str() {
        "LEFT" => math::ShiftLeft {}.into(),
        "RIGHT" => math::ShiftRight {}.into(),
        other => return Err(MapError::Invalid(format!("`direction` is \"{other}\""))),
    };
    direct(cx, op, 2)
}
