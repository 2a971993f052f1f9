//! A pass as somebody else would write one: it knows the public interface of `optc-passes` and nothing more.
//!
//! The pass, its rule and its test are all of this file. `main.rs` is an `optc` that has the pass; `tests/command.rs`
//! runs it. To begin a crate of passes of your own, copy this one and its `Cargo.toml`.

use optc_ir::ops::math::{Add, Neg, Sub};
use optc_ir::{Graph, NodeId};
use optc_passes::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError, Patch, Rule, rewrite_to_fixpoint};

/// `a + (-b)` is `a - b`.
pub struct SubtractNegated;

const RULES: &[Rule] = &[("subtract", subtract)];

fn subtract(g: &Graph, node: NodeId) -> Option<Patch> {
    g.op::<Add>(node)?;
    let (a, b) = (g.operand(node, 0)?, g.operand(node, 1)?);
    g.op::<Neg>(b.node)?;
    Some(Patch::replace(node, Sub {}, &[a, g.operand(b.node, 0)?]))
}

impl Pass for SubtractNegated {
    const NAME: &'static str = "subtract-negated";
    const SUMMARY: &'static str = "subtract instead of adding what was negated";
    const NUMERICS: Numerics = Numerics::BitExact;

    fn from_options(_: &mut PassArguments) -> Result<SubtractNegated, OptionError> {
        Ok(SubtractNegated)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        rewrite_to_fixpoint(graph, RULES, cx)
    }
}

#[cfg(test)]
mod tests {
    use optc_passes::Registry;
    use optc_passes::testing::check;

    #[test]
    fn what_was_negated_is_subtracted() {
        let text = "func @f(%x: tensor<2xf32>, %y: tensor<2xf32>) {
            %0 = math.neg %y : tensor<2xf32>
            %1 = math.add %x, %0 : tensor<2xf32>
            return %1 as \"z\"
        }";
        let registry = Registry::standard().with::<super::SubtractNegated>();
        insta::assert_snapshot!(check(text, "subtract-negated,dce", &registry).unwrap());
    }
}
