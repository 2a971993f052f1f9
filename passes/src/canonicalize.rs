//! `canonicalize`: choose one spelling for what can be spelled in several ways.
//!
//! ```optc
//! given %x: tensor<2x3x4xf32>
//! %0 = tensor.transpose %x {perm = [2, 0, 1]} : tensor<4x2x3xf32>
//! %1 = tensor.transpose %0 {perm = [1, 2, 0]} : tensor<2x3x4xf32>
//! %2 = tensor.const {value = dense<[0.0]> : tensor<f32>} : tensor<f32>
//! %3 = math.max %2, %1 : tensor<2x3x4xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<2x3x4xf32>
//! %0 = math.relu %x : tensor<2x3x4xf32>
//! ```
//!
//! Why: later passes look for one form only, and what does nothing goes. The directions: constants to the right;
//! changes of shape to `tensor.reshape` with a constant target where the result is static; chains of moves to one move;
//! splat constants to scalars where they broadcast anyway. Declines where a shape is not known well enough to show that
//! nothing changes. The sign of a zero may change (`-0 + 0`).

mod arith;
mod movement;
mod shape;

use optc_ir::Graph;

use crate::rewrite::{Rule, rewrite_to_fixpoint};
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// See the module.
pub struct Canonicalize;

/// The rules, in the order in which they are tried at a node.
static RULES: &[Rule] = &[
    ("constant-right", arith::constant_right),
    ("splat-to-scalar", arith::splat_to_scalar),
    ("neutral-operand", arith::neutral_operand),
    ("sub-constant-to-add", arith::sub_constant_to_add),
    ("div-to-mul", arith::div_to_mul),
    ("pow-to-mul", arith::pow_to_mul),
    ("unread-summand", arith::unread_summand),
    ("max-to-relu", arith::max_to_relu),
    ("clip-to-relu", arith::clip_to_relu),
    ("clip-without-bounds", arith::clip_without_bounds),
    ("idempotent", arith::idempotent),
    ("involution", arith::involution),
    ("where-constant", arith::where_constant),
    ("cast-to-same", arith::cast_to_same),
    ("cast-of-cast", arith::cast_of_cast),
    ("transpose-identity", movement::transpose_identity),
    ("transpose-of-transpose", movement::transpose_of_transpose),
    ("transpose-to-reshape", movement::transpose_to_reshape),
    ("gather-of-dequantize", movement::gather_of_dequantize),
    ("concat-of-one", movement::concat_of_one),
    ("concat-of-concat", movement::concat_of_concat),
    ("slice-of-all", movement::slice_of_all),
    ("split-into-one", movement::split_into_one),
    ("pad-of-nothing", movement::pad_of_nothing),
    ("pad-into-conv", movement::pad_into_conv),
    ("expand-of-nothing", movement::expand_of_nothing),
    ("expand-into-broadcast", movement::expand_into_broadcast),
    ("reshape-of-nothing", shape::reshape_of_nothing),
    ("reshape-of-reshape", shape::reshape_of_reshape),
    ("reshape-to-constant", shape::reshape_to_constant),
    ("to-reshape", shape::to_reshape),
    ("reduce-over-constant", shape::reduce_over_constant),
    ("reduce-of-nothing", shape::reduce_of_nothing),
];

impl Pass for Canonicalize {
    const NAME: &'static str = "canonicalize";
    const SUMMARY: &'static str = "choose one spelling: drop identities, merge chains, constants to the right";
    const NUMERICS: Numerics = Numerics::BitExact;

    fn from_options(_: &mut PassArguments) -> Result<Canonicalize, OptionError> {
        Ok(Canonicalize)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        rewrite_to_fixpoint(graph, RULES, cx)
    }
}
