//! `recompose`: find what exporters spell out in many ops, and make it the one op that it is.
//!
//! ```optc
//! given %x: tensor<2x3x4xf32>
//! %0 = math.sigmoid %x : tensor<2x3x4xf32>
//! %1 = math.mul %x, %0 : tensor<2x3x4xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<2x3x4xf32>
//! %0 = math.swish %x : tensor<2x3x4xf32>
//! ```
//!
//! What is found:
//! - `nn.layer_norm` (Ba, Kiros and Hinton 2016) and `nn.rms_norm` (Zhang and Sennrich 2019): mean, centred value, mean
//!   square, root and quotient over the last axes; then the factor and the summand after them.
//! - `math.gelu` (Hendrycks and Gimpel 2016) by `erf` or by `tanh`; `math.swish`, SiLU and "quick GELU" among them
//!   (Ramachandran, Zoph and Le 2017); `math.hard_sigmoid` and `math.hard_swish` (Howard et al. 2019), by clips or
//!   minima; `math.sigmoid` by `exp`.
//! - `nn.attention` (Vaswani et al. 2017): `softmax(scale · q·kᵀ + mask) · v` with or without scale and mask, where the
//!   heads of all three are the same and a transpose made `kᵀ`. A query whose keys are all masked by minus infinity
//!   gives NaN, as the formula does.
//!
//! Why: a normalisation in one kernel reads its operand once instead of four times, an activation in one op fuses with
//! whatever is before it, and what quantizes or differentiates a graph meets one op and not ten.
//!
//! Expects canonical form, with constants on the right and squares as products. Products are taken apart as far as only
//! the next product uses them, so that the order of their factors does not matter. Declines where an extent is not
//! known to be equal, where a constant is not the one of the formula to within a few parts in 100,000, where the axes
//! are not the last ones, and where another op uses the root or the mean square. Reassociates.

mod activation;
mod attention;
mod norm;
mod product;

use optc_ir::Graph;

use crate::rewrite::{Rule, rewrite_to_fixpoint};
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// See the module.
pub struct Recompose;

static RULES: &[Rule] = &[
    ("layer-norm", norm::layer_norm),
    ("rms-norm", norm::rms_norm),
    ("norm-scale", norm::scale),
    ("norm-bias", norm::bias),
    ("attention", attention::attention),
    ("sigmoid", activation::sigmoid),
    ("gelu", activation::gelu),
    ("gelu-tanh", activation::gelu_tanh),
    ("hard-sigmoid", activation::hard_sigmoid),
    ("hard-swish", activation::hard_swish),
    ("swish", activation::swish),
];

impl Pass for Recompose {
    const NAME: &'static str = "recompose";
    const SUMMARY: &'static str = "find normalisations and activations that are spelled out in many ops";
    const NUMERICS: Numerics = Numerics::Reassociates;

    fn from_options(_: &mut PassArguments) -> Result<Recompose, OptionError> {
        Ok(Recompose)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        rewrite_to_fixpoint(graph, RULES, cx)
    }
}
