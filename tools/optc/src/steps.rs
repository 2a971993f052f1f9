//! Which node of the report each step of a plan is for.

use optc::{Decision, NodeReport};
use optc_runtime::plan::Step;

/// For each step the node that it is a kernel of, where that is known: the kernels of the report's nodes are those of
/// the steps, in the same order, with copies between them that belong to no node.
pub fn nodes(steps: &[Step], report: &[NodeReport]) -> Vec<Option<usize>> {
    let kernels = report.iter().enumerate().filter_map(|(node, r)| match &r.decision {
        Decision::Kernel { names } => Some(names.iter().map(move |name| (name, node))),
        Decision::View | Decision::Host { .. } => None,
    });
    let kernels: Vec<(&String, usize)> = kernels.flatten().collect();
    let mut at = 0;
    let of = |step: &Step| {
        let Step::Kernel(kernel) = step else { return None };
        let found = at + kernels[at..].iter().position(|(name, _)| **name == kernel.info.name)?;
        at = found + 1;
        Some(kernels[found].1)
    };
    steps.iter().map(of).collect()
}
