//! Elementwise arithmetic, comparison and logic of two or more operands.

use optc_ir::Op;
use optc_ir::ops::math;
use optc_tensor::{DType, Tensor};

use super::{Mapped, Table, direct, plain};
use crate::mapping::NodeCx;

pub(crate) const TABLE: Table = &[
    plain!("Add", Add, 2),
    plain!("Sub", Sub, 2),
    plain!("Mul", Mul, 2),
    plain!("Div", Div, 2),
    plain!("And", And, 2),
    plain!("Or", Or, 2),
    plain!("Xor", Xor, 2),
    plain!("Equal", Equal, 2),
    plain!("Less", Less, 2),
    plain!("Greater", Greater, 2),
    plain!("LessOrEqual", LessEqual, 2),
    plain!("GreaterOrEqual", GreaterEqual, 2),
    ("", "Mod", |cx| {
        let truncate = cx.attrs.flag("fmod", false)?;
        direct(cx, math::Mod { truncate }, 2)
    }),
    ("", "Pow", pow),
    ("", "Min", |cx| fold(cx, math::Min {}.into())),
    ("", "Max", |cx| fold(cx, math::Max {}.into())),
    ("", "Sum", |cx| fold(cx, math::Add {}.into())),
    ("", "Mean", |cx| {
        let sum = fold(cx, math::Add {}.into())?[0];
        let count = Tensor::from_f64(cx.dtype(sum)?, &[], &[cx.inputs.len() as f64])?;
        let count = cx.constant(count);
        Ok(vec![cx.emit1(math::Div {}, &[sum, count])?])
    }),
];

/// A variadic op as a chain of a binary one, from the left.
fn fold(cx: &mut NodeCx, op: Op) -> Mapped {
    let mut value = cx.input(0)?;
    for i in 1..cx.inputs.len() {
        let next = cx.input(i)?;
        value = cx.emit1(op.clone(), &[value, next])?;
    }
    Ok(vec![value])
}

/// The exponent may have a dtype of its own; the result has that of the base.
fn pow(cx: &mut NodeCx) -> Mapped {
    let (x, y) = (cx.input(0)?, cx.input(1)?);
    let (base, exponent) = (cx.dtype(x)?, cx.dtype(y)?);
    let common = if base.is_int() && exponent.is_float() { DType::F64 } else { base };
    let mut to = |value, from: DType, to: DType| match from == to {
        true => Ok(value),
        false => cx.emit1(math::Cast { to }, &[value]),
    };
    let (x, y) = (to(x, base, common)?, to(y, exponent, common)?);
    let power = cx.emit1(math::Pow {}, &[x, y])?;
    Ok(vec![if common == base { power } else { cx.emit1(math::Cast { to: base }, &[power])? }])
}
