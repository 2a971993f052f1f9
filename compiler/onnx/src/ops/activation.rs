//! Activations.

use optc_ir::Real;
use optc_ir::ops::math;

use super::{Mapped, Table, direct, plain};
use crate::mapping::NodeCx;

/// A row for an op with float attributes of the same names as those of its IR op.
macro_rules! with_reals {
    ($onnx:literal, $Op:ident { $($attr:ident = $default:literal),* }) => {
        ("", $onnx, |cx| {
            $(let $attr = Real(cx.attrs.float_or(stringify!($attr), $default)?);)*
            direct(cx, math::$Op { $($attr),* }, 1)
        })
    };
}

pub(crate) const TABLE: Table = &[
    plain!("Sigmoid", Sigmoid, 1),
    plain!("Relu", Relu, 1),
    plain!("Softplus", Softplus, 1),
    plain!("Softsign", Softsign, 1),
    plain!("HardSwish", HardSwish, 1),
    plain!("Mish", Mish, 1),
    plain!("PRelu", PRelu, 2),
    with_reals!("LeakyRelu", LeakyRelu { alpha = 0.01 }),
    with_reals!("Elu", Elu { alpha = 1.0 }),
    with_reals!("Celu", Celu { alpha = 1.0 }),
    with_reals!("Selu", Selu { alpha = 1.673_263_2, gamma = 1.050_701 }),
    with_reals!("Swish", Swish { alpha = 1.0 }),
    with_reals!("ThresholdedRelu", ThresholdedRelu { alpha = 1.0 }),
    with_reals!("HardSigmoid", HardSigmoid { alpha = 0.2, beta = 0.5 }),
    ("", "Shrink", |cx| {
        let (bias, lambda) = (Real(cx.attrs.float_or("bias", 0.0)?), Real(cx.attrs.float_or("lambd", 0.5)?));
        direct(cx, math::Shrink { bias, lambda }, 1)
    }),
    ("", "Gelu", gelu),
    ("", "SwiGLU", swiglu),
];

fn gelu(cx: &mut NodeCx) -> Mapped {
    let approximate = cx.attrs.word_or("approximate", &[("none", false), ("tanh", true)], false)?;
    direct(cx, math::Gelu { approximate }, 1)
}

fn swiglu(cx: &mut NodeCx) -> Mapped {
    let alpha = Real(cx.attrs.float_or("alpha", 1.0)?);
    let (gate, value) = (cx.input(0)?, cx.input(1)?);
    let gate = cx.emit1(math::Swish { alpha }, &[gate])?;
    Ok(vec![cx.emit1(math::Mul {}, &[gate, value])?])
}
