//! What became of each node, as the program tells.

use optc_ir::Node;
use optc_kernel::program::{Decision, NodeReport};

use super::cx::Notes;

/// The report on a node.
pub(super) fn report(node: &Node, decision: Decision, notes: Notes) -> NodeReport {
    let ops = match &node.regions[..] {
        [region] if matches!(node.op, optc_ir::Op::Fused(_)) => {
            let order = region.topological_order().unwrap_or_default();
            let ops = order.into_iter().map(|id| &region.node(id).op);
            ops.filter(|op| !matches!(op, optc_ir::Op::Param(_) | optc_ir::Op::Constant(_)))
                .map(|op| op.name().to_owned())
                .collect()
        }
        _ => vec![node.op.name().to_owned()],
    };
    NodeReport {
        ops,
        loc: node.loc.clone(),
        results: node.results.iter().map(|r| r.ty.clone()).collect(),
        decision,
        choice: notes.choice,
        filtered: notes.filtered,
        product: notes.product,
        apart: notes.apart.map(str::to_owned),
        split: None,
    }
}
