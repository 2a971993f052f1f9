//! What a compiled model shares with its plans, and a plan.

use std::sync::Arc;
use std::time::Duration;

use optc_ir::Graph;
use optc_kernel::program::{NodeReport, Point};
use optc_kernel::target::Target;
use optc_lower::Tuning;
use optc_runtime::{Plan, RunError, ThreadPool};
use optc_types::Callable;

use crate::Options;

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
    /// What compiles the regions of ops of the host at their first call.
    pub compile_region: CompileRegion,
}

/// Turns a region into something that can be called with values of its inputs' types.
pub(crate) type CompileRegion = fn(Graph, Arc<Settings>) -> Result<Arc<dyn Callable>, RunError>;

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
