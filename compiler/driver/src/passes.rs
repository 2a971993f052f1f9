//! Pipelines and lowering, as everything that compiles runs them.

use std::sync::Arc;

use optc_emit::KernelCache;
use optc_ir::{Graph, Type, Verified};
use optc_kernel::program::Program;
use optc_kernel::target::Target;
use optc_lower::{BatchPorts, LowerOptions, PackedConstants, Region, Tuning, lower_with_regions};
use optc_passes::{PassManager, PassOptions, Pipeline};
use optc_tensor::ConstantFacts;
use optc_types::Machine;

use crate::options::cores;
use crate::{Error, Options};

/// What the plans of one model share.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedParts {
    /// What was packed for any of them.
    pub packed: PackedConstants,
    /// What is known of the constants.
    pub facts: ConstantFacts,
    /// Kernels that are compiled.
    pub kernels: KernelCache,
}

/// Lowers a graph that has been through all passes, of one item where there is a batch; its static regions are left to
/// be lowered as well.
pub(crate) fn lower_optimized(
    graph: Graph,
    target: &Target,
    tuning: Tuning,
    shared: &SharedParts,
    options: &Options,
    batch: Option<BatchPorts>,
) -> Result<(Program, Vec<Region>), Error> {
    let graph = Verified::new(graph).map_err(Error::Broken)?;
    let machine = Some(Arc::new(options.profile.of(target.isa)) as Arc<dyn Machine>);
    let (SharedParts { packed, facts, .. }, threads, draft) = (shared.clone(), cores(), options.draft);
    let lowering = LowerOptions { tuning, threads, machine, packed, facts, draft, batch };
    Ok(lower_with_regions(graph, target, lowering)?)
}

/// Runs a pipeline on a graph for a target, whose costs choose between forms of its layers.
pub(crate) fn run_passes(
    graph: &mut Graph,
    passes: &str,
    options: &Options,
    target: &Target,
    facts: &ConstantFacts,
) -> Result<(), Error> {
    run(graph, &options.registry.parse(passes)?, options, target, facts)
}

/// The same for a plan of one of many shapes, whose graph is never written.
pub(crate) fn run_passes_of_plan(
    graph: &mut Graph,
    passes: &str,
    options: &Options,
    target: &Target,
    facts: &ConstantFacts,
) -> Result<(), Error> {
    run(graph, &options.registry.parse(passes)?.unwritten(), options, target, facts)
}

fn run(
    graph: &mut Graph,
    pipeline: &Pipeline,
    options: &Options,
    target: &Target,
    facts: &ConstantFacts,
) -> Result<(), Error> {
    let with = PassOptions { facts: facts.clone(), ..options.pass_options_for(target) };
    PassManager::new(with).run(pipeline, graph)?;
    Ok(())
}

/// Runs a pipeline on a graph, whatever the target.
pub(crate) fn run_pipeline(graph: &mut Graph, passes: &str) -> Result<(), Error> {
    PassManager::new(PassOptions::default()).run(&Pipeline::parse(passes)?, graph)?;
    Ok(())
}

/// Whether the shapes of all inputs are known.
pub(crate) fn is_static(graph: &Graph) -> bool {
    graph.inputs().all(|v| match graph.ty(v) {
        Type::Tensor(t) => t.static_shape().is_some(),
        Type::Sequence(_) | Type::Optional(_) => false,
    })
}
