//! Elementwise functions of one operand.

use optc_ir::ops::math;

use super::{Table, direct, plain};

pub(crate) const TABLE: Table = &[
    plain!("Abs", Abs, 1),
    plain!("Neg", Neg, 1),
    plain!("Sign", Sign, 1),
    plain!("Exp", Exp, 1),
    plain!("Log", Log, 1),
    plain!("Sqrt", Sqrt, 1),
    plain!("Reciprocal", Reciprocal, 1),
    plain!("Erf", Erf, 1),
    plain!("Floor", Floor, 1),
    plain!("Ceil", Ceil, 1),
    plain!("Round", Round, 1),
    plain!("Sin", Sin, 1),
    plain!("Cos", Cos, 1),
    plain!("Tan", Tan, 1),
    plain!("Asin", Asin, 1),
    plain!("Acos", Acos, 1),
    plain!("Atan", Atan, 1),
    plain!("Sinh", Sinh, 1),
    plain!("Cosh", Cosh, 1),
    plain!("Tanh", Tanh, 1),
    plain!("Asinh", Asinh, 1),
    plain!("Acosh", Acosh, 1),
    plain!("Atanh", Atanh, 1),
    plain!("Not", Not, 1),
    plain!("IsNaN", IsNan, 1),
    ("", "IsInf", |cx| {
        let (negative, positive) = (cx.attrs.flag("detect_negative", true)?, cx.attrs.flag("detect_positive", true)?);
        direct(cx, math::IsInf { negative, positive }, 1)
    }),
];
