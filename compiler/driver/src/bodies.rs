//! What becomes of the regions of control-flow ops: for reports.

use std::sync::Arc;

use optc_ir::{Graph, Op, Type};
use optc_kernel::program::{NodeReport, Program};
use optc_lower::Region;
use optc_types::steps::Step;

use crate::passes::{lower_optimized, run_passes};
use crate::plan::Settings;
use crate::{Error, Model};

/// Regions that are looked at: beyond this many a report is no longer read.
const MAX_BODIES: usize = 100;

/// What became of the nodes of a region.
#[derive(Debug, Clone)]
pub struct BodyReport {
    /// The op whose region it is.
    pub op: String,
    /// The ONNX nodes that the op came from.
    pub loc: Vec<String>,
    /// The number of the region among the op's.
    pub region: usize,
    /// One entry a node, in topological order.
    pub report: Vec<NodeReport>,
    /// The regions of its own ops.
    pub bodies: Vec<BodyReport>,
}

impl Model {
    /// The regions of control-flow ops whose types are known before a run, for inputs of these types: what their plans
    /// will be. Others are compiled, or interpreted, for the shapes that they meet. Nothing is known of a model whose
    /// graph was not [kept](crate::Options::keep_graph).
    ///
    /// # Errors
    /// The types do not fit the model, or it cannot be compiled for them.
    pub fn bodies(&self, types: &[Type]) -> Result<Vec<BodyReport>, Error> {
        let _memory = self.memory().enter();
        // Fused regions are kernels, and those that wait for shapes have none before a run.
        let has_body = |graph: &Graph, id| {
            let node = graph.node(id);
            !node.regions.is_empty() && !matches!(node.op, Op::Fused(_) | Op::Deferred(_))
        };
        if !self.graph().is_some_and(|graph| graph.ids().any(|id| has_body(graph, id))) {
            return Ok(vec![]);
        }
        Ok(reports(self.graph_for(types)?, self.settings(), &mut MAX_BODIES.clone())?.1)
    }
}

/// What becomes of a graph that has been through all passes, and of its regions: `left` of them at most.
fn reports(
    graph: Graph,
    settings: &Arc<Settings>,
    left: &mut usize,
) -> Result<(Vec<NodeReport>, Vec<BodyReport>), Error> {
    let Settings { passes, target, shared, options, tuning, .. } = &**settings;
    let (program, regions) = lower_optimized(graph, target, tuning.clone(), shared, options, None)?;
    let mut bodies = vec![];
    for Region { host, region, mut graph } in regions {
        if *left == 0 {
            break;
        }
        *left -= 1;
        // A region that refuses its types fails when it runs, if it does.
        let inside = run_passes(&mut graph, passes, options, target, &shared.facts);
        let Ok((report, inner)) = inside.and_then(|()| reports(graph, settings, left)) else { continue };
        let (op, loc) = (program.hosts[host].name.clone(), place(&program, host));
        bodies.push(BodyReport { op, loc, region, report, bodies: inner });
    }
    Ok((program.report, bodies))
}

/// The ONNX nodes of an op of the host.
fn place(program: &Program, host: usize) -> Vec<String> {
    let of = |step: &Step| match step {
        Step::Host(step) if step.host == host => Some(step.info.loc.clone()),
        _ => None,
    };
    program.flow.steps.iter().find_map(of).unwrap_or_default()
}
