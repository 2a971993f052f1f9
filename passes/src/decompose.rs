//! `decompose`: write what has no kernel of its own as ops that have kernels.
//!
//! ```optc
//! given %x: tensor<2x3x4xf32>, %w: tensor<4x5xf32>
//! %0 = math.einsum %x, %w {equation = "bti,io->bto"} : tensor<2x3x5xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<2x3x4xf32>, %w: tensor<4x5xf32>
//! %0 = math.matmul %x, %w : tensor<2x3x5xf32>
//! ```
//!
//! What is written anew, with known extents, and in `f32` where it computes:
//! - `math.einsum`: diagonals are slices, labels of one operand sums, two operands with a label to sum over a matrix
//!   product between transposes and reshapes, two without one an elementwise product; of more than two operands those
//!   whose product is smallest come first. A sum is taken before the factors that it does not depend on are multiplied,
//!   so infinities may come out as NaN, or sums overflow, where they would not after the product.
//! - `nn.attention`: lengths and offsets that are computed become a mask, a mask that is shorter than the keys one of
//!   their length, and scores that are a result are computed beside the op.
//! - `tensor.compress` is a gather at the places of a mask.
//!
//! Why: the host evaluates an op without a kernel element by element, 100 to 300 times slower than a product's kernel.
//! The forms are those that exporters of other frameworks write, so that what looks for attention or quantized layers
//! finds them. Declines where extents are open. Reassociates.

mod attention;
mod einsum;
mod rows;

use optc_ir::Graph;

use crate::rewrite::{Rule, rewrite_to_fixpoint};
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// See the module.
pub struct Decompose;

static RULES: &[Rule] = &[
    ("einsum", einsum::einsum),
    ("attention-short-mask", attention::short_mask),
    ("attention-positions", attention::positions),
    ("attention-scores", attention::scores),
    ("compress", rows::compress),
];

impl Pass for Decompose {
    const NAME: &'static str = "decompose";
    const SUMMARY: &'static str = "write what has no kernel of its own as ops that have kernels";
    const NUMERICS: Numerics = Numerics::Reassociates;

    fn from_options(_: &mut PassArguments) -> Result<Decompose, OptionError> {
        Ok(Decompose)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        rewrite_to_fixpoint(graph, RULES, cx)
    }
}
