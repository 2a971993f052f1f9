//! `dce`: drop what no output needs.
//!
//! ```optc
//! given %x: tensor<2xf32>
//! %0 = math.exp %x : tensor<2xf32>
//! %1 = math.relu %x : tensor<2xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<2xf32>
//! %0 = math.relu %x : tensor<2xf32>
//! ```
//!
//! Why: every other pass leaves things behind. Keeps the inputs, which are part of the graph's signature, and ops of
//! which any result is used.

use optc_ir::{Graph, Op};

use crate::rewrite::for_each_region;
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// See the module.
pub struct Dce;

impl Pass for Dce {
    const NAME: &'static str = "dce";
    const SUMMARY: &'static str = "drop what no output needs";
    const NUMERICS: Numerics = Numerics::BitExact;

    fn from_options(_: &mut PassArguments) -> Result<Dce, OptionError> {
        Ok(Dce)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        for id in graph.topological_order().unwrap_or_default().into_iter().rev() {
            let kept = matches!(graph.node(id).op, Op::Param(_)) || graph.is_needed(id);
            if !kept && cx.permit("unused") {
                graph.remove(id);
            }
        }
        for_each_region(graph, &mut |region| self.run(region, cx))
    }
}
