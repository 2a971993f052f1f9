//! Activations, alone and in one op with a product or a bias.

use optc_ir::ops::math;
use optc_ir::{Op, Real, Value};

use super::{MICROSOFT, plus};
use crate::mapping::{MapError, NodeCx};
use crate::ops::norm::scalar_like;
use crate::ops::{Mapped, Table, direct};

pub(crate) const TABLE: Table = &[
    (MICROSOFT, "Gelu", |cx| direct(cx, math::Gelu { approximate: false }, 1)),
    (MICROSOFT, "BiasGelu", |cx| biased_gelu(cx, false)),
    (MICROSOFT, "FastGelu", |cx| biased_gelu(cx, true)),
    (MICROSOFT, "QuickGelu", |cx| {
        let alpha = Real(cx.attrs.float_or("alpha", 1.702)?);
        direct(cx, math::Swish { alpha }, 1)
    }),
];

/// The bias is optional where Φ is approximated.
fn biased_gelu(cx: &mut NodeCx, approximate: bool) -> Mapped {
    let (x, bias) = (cx.input(0)?, cx.optional(1));
    if bias.is_none() && !approximate {
        return Err(MapError::Input(1));
    }
    let sum = plus(cx, x, bias)?;
    Ok(vec![cx.emit1(math::Gelu { approximate }, &[sum])?])
}

/// Applies the activation of a fused op by its name, which may be empty. `parameter` gives the first and the second
/// parameter, which must be there where the activation has them.
pub(super) fn activated(
    cx: &mut NodeCx,
    y: Value,
    name: &str,
    parameter: impl Fn(&NodeCx, usize) -> Result<f32, MapError>,
) -> Result<Value, MapError> {
    let real = |i: usize| parameter(cx, i).map(Real);
    let op: Op = match name {
        "" => return Ok(y),
        "Relu" => math::Relu {}.into(),
        "Tanh" => math::Tanh {}.into(),
        "Sigmoid" => math::Sigmoid {}.into(),
        "Softplus" => math::Softplus {}.into(),
        "Softsign" => math::Softsign {}.into(),
        "LeakyRelu" => math::LeakyRelu { alpha: real(0)? }.into(),
        "Elu" => math::Elu { alpha: real(0)? }.into(),
        "ThresholdedRelu" => math::ThresholdedRelu { alpha: real(0)? }.into(),
        "HardSigmoid" => math::HardSigmoid { alpha: real(0)?, beta: real(1)? }.into(),
        "Clip" => {
            let (low, high) = (parameter(cx, 0)?, parameter(cx, 1)?);
            let (low, high) = (scalar_like(cx, y, low.into())?, scalar_like(cx, y, high.into())?);
            return cx.emit1(math::Clip {}, &[y, low, high]);
        }
        other => return Err(MapError::Unsupported(format!("`activation` \"{other}\" is not supported"))),
    };
    cx.emit1(op, &[y])
}
