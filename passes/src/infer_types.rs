//! `infer-types`: recompute every type from the inputs' types and the constants.
//!
//! ```optc
//! given %x: tensor<1x4x6x6xf32>, %w: tensor<8x4x3x3xf32>
//! %0 = nn.conv %x, %w : tensor<1x8x?x?xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<1x4x6x6xf32>, %w: tensor<8x4x3x3xf32>
//! %0 = nn.conv %x, %w : tensor<1x8x4x4xf32>
//! ```
//!
//! Why: everything later asks for concrete shapes. Regions get the types of their op's operands.
//! Fails where an op refuses its operands.

use optc_ir::{Graph, infer_types};

use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// See the module.
pub struct InferTypes;

impl Pass for InferTypes {
    const NAME: &'static str = "infer-types";
    const SUMMARY: &'static str = "recompute every type from the inputs' types and the constants";
    const NUMERICS: Numerics = Numerics::BitExact;

    fn from_options(_: &mut PassArguments) -> Result<InferTypes, OptionError> {
        Ok(InferTypes)
    }

    fn run(&self, graph: &mut Graph, _: &mut PassCx) -> Result<(), PassError> {
        Ok(infer_types(graph)?)
    }
}
