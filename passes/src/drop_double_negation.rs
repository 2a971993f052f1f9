//! `drop-double-negation`: leave out two negations in a row.
//!
//! ```optc
//! given %x: tensor<2xf32>
//! %0 = math.neg %x : tensor<2xf32>
//! %1 = math.neg %0 : tensor<2xf32>
//! %2 = math.exp %1 : tensor<2xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<2xf32>
//! %2 = math.exp %x : tensor<2xf32>
//! ```
//!
//! Why: a pass over the tensor goes away. Declines nothing: the inner negation stays where others read it.

use optc_ir::ops::math::Neg;
use optc_ir::{Graph, NodeId};

use crate::rewrite::{Patch, Rule, rewrite_to_fixpoint};
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// See the module.
pub struct DropDoubleNegation;

static RULES: &[Rule] = &[("negated-twice", negated_twice)];

impl Pass for DropDoubleNegation {
    const NAME: &'static str = "drop-double-negation";
    const SUMMARY: &'static str = "leave out two negations in a row";
    const NUMERICS: Numerics = Numerics::BitExact;

    fn from_options(_: &mut PassArguments) -> Result<DropDoubleNegation, OptionError> {
        Ok(DropDoubleNegation)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        rewrite_to_fixpoint(graph, RULES, cx)
    }
}

/// `neg(neg(x))` → `x`.
fn negated_twice(g: &Graph, node: NodeId) -> Option<Patch> {
    g.op::<Neg>(node)?;
    let inner = g.operand(node, 0)?.node;
    g.op::<Neg>(inner)?;
    let x = g.operand(inner, 0)?;
    Some(Patch::forward(node, x))
}
