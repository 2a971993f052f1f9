//! What a compiled model shares with its plans, and a plan.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use optc_ir::Graph;
use optc_kernel::program::{NodeReport, Point};
use optc_kernel::target::Target;
use optc_lower::Tuning;
use optc_runtime::{Plan, RunError, ThreadPool};
use optc_types::Callable;

use crate::Options;
use crate::passes::SharedParts;

/// What every plan of a model shares.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub options: Options,
    pub passes: String,
    pub target: Target,
    pub pool: Arc<ThreadPool>,
    /// The name of the machine in a tuning cache, and what is known of it.
    pub machine: String,
    pub tuning: Tuning,
    /// What all plans share, and those of regions.
    pub shared: SharedParts,
    /// What compiles the regions of ops of the host at their first call.
    pub compile_region: CompileRegion,
}

/// Turns a region into something that can be called with values of its inputs' types.
pub(crate) type CompileRegion = fn(Graph, Arc<Settings>) -> Result<Arc<dyn Callable>, RunError>;

/// Bytes that plans hold; what several of them share counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlanBytes {
    /// How many plans there are.
    pub plans: usize,
    /// Constants that their kernels read.
    pub constants: usize,
    /// Machine code.
    pub code: usize,
}

impl PlanBytes {
    /// Those of some plans.
    pub(crate) fn of<'a>(plans: impl Iterator<Item = &'a Plan>) -> PlanBytes {
        let (mut count, mut constants, mut code) = (0, HashSet::new(), HashSet::new());
        for plan in plans {
            count += 1;
            let bytes = plan.flow.constants.iter().map(|constant| constant.tensor.bytes());
            constants.extend(bytes.map(|bytes| (bytes.as_ptr().addr(), bytes.len())));
            code.extend(plan.code.pieces());
        }
        let sum = |pieces: HashSet<(usize, usize)>| pieces.into_iter().map(|(_, bytes)| bytes).sum();
        PlanBytes { plans: count, constants: sum(constants), code: sum(code) }
    }
}

/// A plan for one set of input shapes, and how it came about.
#[derive(Debug)]
pub struct CompiledPlan {
    /// What is run.
    pub plan: Arc<Plan>,
    /// What became of each node.
    pub report: Vec<NodeReport>,
    /// Where there were several ways to make a kernel.
    pub points: Vec<Point>,
    /// Time spent in passes.
    pub pass_time: Duration,
    /// Time spent in lowering, packing and code generation.
    pub compile_time: Duration,
}
