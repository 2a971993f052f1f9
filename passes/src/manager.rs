//! The pass manager: runs a pipeline, times it, and checks each pass where asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use optc_ir::{Graph, print, verify};
use optc_tensor::ConstantFacts;

use crate::choice::{UnknownChoice, choose};
use crate::machine::Machine;
use crate::matching::pruned;
use crate::pipeline::PassStep;
use crate::seeded::{self, SEED};
use crate::{PassCx, PassError, Pipeline};

/// What is checked after each pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyEach {
    /// Nothing.
    #[default]
    No,
    /// The verifier finds no failure.
    Structure,
    /// That, and the interpreter gives the results that it gave before, on seeded inputs.
    Numerics,
}

impl std::str::FromStr for VerifyEach {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<VerifyEach, UnknownChoice> {
        use VerifyEach::{No, Numerics, Structure};
        choose(text, &[("no", No), ("structure", Structure), ("numerics", Numerics)])
    }
}

/// How a pipeline is run.
#[derive(Debug, Clone, Default)]
pub struct PassOptions {
    /// What is checked after each pass.
    pub verify_each: VerifyEach,
    /// The passes after which the graph's text is kept in the report; `*` for all.
    pub print_after: Vec<String>,
    /// Rewrites after which no more are made. Bisecting a miscompile is a binary search over this number.
    pub stop_after_rewrites: Option<usize>,
    /// The machine that is compiled for; without one passes decide alike everywhere.
    pub machine: Option<Arc<dyn Machine>>,
    /// What is known of constants.
    pub facts: ConstantFacts,
}

/// What one pass did.
#[derive(Debug, Clone)]
pub struct PassReport {
    /// The pass with its options.
    pub pass: String,
    /// How long it took, without checks.
    pub time: Duration,
    /// How often each rule fired.
    pub stats: IndexMap<&'static str, usize>,
    /// The graph's text after it, where asked for.
    pub printed: Option<String>,
}

/// What a pipeline did, pass by pass.
#[derive(Debug, Clone, Default)]
pub struct PipelineReport {
    /// One entry a pass, in order.
    pub passes: Vec<PassReport>,
}

impl PipelineReport {
    /// How many rewrites were made.
    pub fn rewrites(&self) -> usize {
        self.passes.iter().flat_map(|p| p.stats.values()).sum()
    }
}

/// A pass that failed.
#[derive(Debug)]
pub struct Failed {
    /// The pass with its options.
    pub pass: String,
    /// The graph that it was given, where that was kept.
    pub before: Option<Graph>,
    /// What the passes before it did.
    pub done: PipelineReport,
    /// What went wrong.
    pub error: PassError,
}

/// Runs pipelines.
#[derive(Debug, Clone, Default)]
pub struct PassManager {
    /// How they are run.
    pub options: PassOptions,
}

impl PassManager {
    /// A manager with these options.
    pub fn new(options: PassOptions) -> PassManager {
        PassManager { options }
    }

    /// Runs `pipeline` on `graph`.
    ///
    /// # Errors
    /// A pass fails, or breaks the graph where that is checked. The graph is then as the pass left it.
    pub fn run(&self, pipeline: &Pipeline, graph: &mut Graph) -> Result<PipelineReport, PassError> {
        self.run_steps(pipeline, graph, self.options.verify_each != VerifyEach::No).map_err(|failed| failed.error)
    }

    /// Runs `pipeline` on `graph`, and keeps before each pass what it is given.
    ///
    /// # Errors
    /// As [`PassManager::run`], with the pass and its graph.
    pub fn run_reproducibly(&self, pipeline: &Pipeline, graph: &mut Graph) -> Result<PipelineReport, Box<Failed>> {
        self.run_steps(pipeline, graph, true)
    }

    fn run_steps(&self, pipeline: &Pipeline, graph: &mut Graph, keep: bool) -> Result<PipelineReport, Box<Failed>> {
        let options = &self.options;
        let mut cx = PassCx::with_limit(options.stop_after_rewrites)
            .with_machine(options.machine.clone())
            .with_facts(options.facts.clone());
        let mut report = PipelineReport::default();
        for step in &pipeline.steps {
            let before = keep.then(|| graph.clone()); // constants are shared, so this costs little
            let start = Instant::now();
            let outcome = (step.run)(graph, &mut cx);
            let time = start.elapsed();
            let checked = outcome.and_then(|()| match &before {
                Some(before) if options.verify_each != VerifyEach::No => self.check(step, before, graph),
                _ => Ok(()),
            });
            if let Err(error) = checked {
                return Err(Box::new(Failed { pass: step.text.clone(), before, done: report, error }));
            }
            let wanted = self.options.print_after.iter().any(|p| p == "*" || p == step.name);
            let printed = wanted.then(|| print(graph).text);
            report.passes.push(PassReport { pass: step.text.clone(), time, stats: cx.take_stats(), printed });
        }
        Ok(report)
    }

    fn check(&self, step: &PassStep, before: &Graph, after: &Graph) -> Result<(), PassError> {
        let mut failures: Vec<String> =
            verify(after).into_iter().map(|f| format!("{}: {}", f.rule, f.message)).collect();
        let (had, has) = (pruned_elements(before), pruned_elements(after));
        if has < had {
            failures.push(format!("{had} elements of weights were pruned, only {has} are still known to be zero"));
        }
        if failures.is_empty() && self.options.verify_each == VerifyEach::Numerics {
            failures.extend(seeded::difference(before, after, SEED, step.numerics));
        }
        if failures.is_empty() {
            return Ok(());
        }
        let reproducer = format!("// passes: {}\n{}", step.text, print(before).text);
        Err(PassError::Broken { pass: step.text.clone(), failures, reproducer })
    }
}

/// Elements that were pruned from the constants that ops read, once for each reader.
fn pruned_elements(g: &Graph) -> i64 {
    g.ids().flat_map(|id| g.node(id).operands.iter().flatten()).map(|&v| pruned(g, v)).sum()
}
