//! A compiled model: shared, immutable but for its cache of plans.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use optc_emit::{Backend, Jit, KernelCache, Regions};
use optc_ir::{Dim, Graph, GraphError, Type, Val};
use optc_kernel::program::{Decision, NodeReport, Program};
use optc_kernel::target::{Arch, ISAS, Isa};
use optc_kernels::recurrent::FLOAT_KERNEL;
use optc_lower::{BatchPorts, Tuning};
use optc_native::{NativeCode, Saved};
use optc_passes::PassError;
use optc_runtime::plan::Port;
use optc_runtime::{RunError, ThreadPool};
use optc_tensor::Memory;
use optc_types::{HostText, Numbers, Product};

use crate::autotune::{TuningResult, tune};
use crate::batch::{self, ModelBatch};
use crate::cache::{CacheStats, Shared};
use crate::machine::Times;
use crate::options::cores;
use crate::passes::{is_static, lower_optimized, run_passes, run_passes_of_plan};
use crate::plan::{CompiledPlan, PlanBytes, Settings};
use crate::{Error, TuningCache, region};

/// The passes that make sense before shapes are known; the rest waits for them.
pub(crate) const GENERIC_PASSES: &str = "infer-types,fold-constants{quantized=keep},canonicalize,cse,dce";
/// The pass that makes new weights: where a pipeline has it, it runs before shapes are known, so that all plans share
/// the weights that it makes.
const MAKES_WEIGHTS: &str = "fold-batch-norm";

/// A graph input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueInfo {
    /// Its name.
    pub name: String,
    /// Its type as the model declares or implies it.
    pub ty: Type,
}

/// A tuned model, and what was found.
#[derive(Debug)]
pub struct Tuned {
    /// The model, with the fastest options.
    pub model: Model,
    /// What was measured: to be kept, merged with what was known before.
    pub winners: TuningCache,
    /// Different choice points of the model.
    pub points: usize,
    /// How many of them take another option than the cost model's.
    pub changed: usize,
    /// Plans that were compiled and measured.
    pub trials: usize,
    /// The median time of a run, relative to that before.
    pub share: f64,
    /// Whether all options were tried before the time was over.
    pub complete: bool,
}

/// A compiled model. Clones share everything.
#[derive(Debug, Clone)]
pub struct Model(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    settings: Arc<Settings>,
    /// The graph that plans are made of; `None` where the only plan is there and the graph was not to be kept.
    graph: Option<Graph>,
    /// Whether `graph` has been through all passes, for the shapes that it has.
    specialised: bool,
    /// The plan of a model whose input shapes are all static.
    only: Option<Arc<CompiledPlan>>,
    plans: Shared<Vec<Type>, Arc<CompiledPlan>>,
    /// Whether one plan serves any number of items.
    batch: ModelBatch,
}

impl Model {
    pub(crate) fn new(mut graph: Graph, settings: Arc<Settings>) -> Result<Model, Error> {
        let fixed = is_static(&graph);
        let start = Instant::now();
        let generic = || -> Result<String, Error> {
            let pipeline = settings.options.registry.parse(&settings.passes)?;
            let makes_weights = pipeline.passes().any(|pass| pass == MAKES_WEIGHTS);
            let more = if makes_weights { format!(",{MAKES_WEIGHTS}") } else { String::new() };
            Ok(format!("{GENERIC_PASSES}{more}"))
        };
        let passes = if fixed { settings.passes.clone() } else { generic()? };
        run_passes(&mut graph, &passes, &settings.options, &settings.target, &settings.shared.facts)?;
        let pass_time = start.elapsed();
        let info = |name: &str, ty: &Type| ValueInfo { name: name.to_owned(), ty: ty.clone() };
        let inputs = graph.inputs().map(|v| info(graph.input_name(v).unwrap_or_default(), graph.ty(v))).collect();
        let outputs = graph.outputs.iter().map(|o| info(&o.name, graph.ty(o.value))).collect();
        let name = graph.name.clone();
        let kept = (!fixed || settings.options.keep_graph).then(|| graph.clone());
        let only = match fixed {
            true => {
                let with = Compiling { tuning: &settings.tuning, cache: None, batch: None };
                Some(Arc::new(compile(graph, &settings, with, pass_time)?))
            }
            false => None,
        };
        let plans = Shared::new(settings.options.cached_plans);
        let batch = ModelBatch::default();
        let (graph, specialised) = (kept, fixed);
        Ok(Model(Arc::new(Inner { name, inputs, outputs, settings, graph, specialised, only, plans, batch })))
    }

    /// A model of a plan whose machine code was there.
    pub(crate) fn native(name: String, plan: CompiledPlan, settings: Arc<Settings>) -> Model {
        let info = |port: &Port| ValueInfo { name: port.name.clone(), ty: port.ty.clone() };
        let inputs = plan.plan.flow.inputs.iter().map(info).collect();
        let outputs = plan.plan.flow.outputs.iter().map(info).collect();
        let (only, plans) = (Some(Arc::new(plan)), Shared::new(settings.options.cached_plans));
        let (graph, specialised, batch) = (None, true, ModelBatch::default());
        Model(Arc::new(Inner { name, inputs, outputs, settings, graph, specialised, only, plans, batch }))
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The inputs in order.
    pub fn inputs(&self) -> &[ValueInfo] {
        &self.0.inputs
    }

    /// The outputs in order.
    pub fn outputs(&self) -> &[ValueInfo] {
        &self.0.outputs
    }

    /// The optimized graph, where it was kept: always for a model with open dims, which are open in it.
    pub fn graph(&self) -> Option<&Graph> {
        self.0.graph.as_ref()
    }

    /// Threads that run the model.
    pub fn threads(&self) -> usize {
        self.0.settings.pool.threads()
    }

    /// Hits, misses and evictions of the cache of plans.
    pub fn cache_stats(&self) -> CacheStats {
        self.0.plans.stats()
    }

    /// The account that the model and its runs are charged to.
    pub fn memory(&self) -> &Memory {
        &self.0.settings.options.memory
    }

    /// How long a run may take.
    pub fn time_limit(&self) -> Option<Duration> {
        self.0.settings.options.time_limit
    }

    pub(crate) fn settings(&self) -> &Arc<Settings> {
        &self.0.settings
    }

    pub(crate) fn pool(&self) -> &Arc<ThreadPool> {
        &self.0.settings.pool
    }

    pub(crate) fn cached_plans(&self) -> usize {
        self.0.settings.options.cached_plans
    }

    /// Estimated times of a node that multiplies, in `f32` and in 8-bit integers, on the instruction set that the model
    /// is compiled for.
    pub fn times(&self, node: &NodeReport) -> Option<Times> {
        let Settings { options, target, .. } = &*self.0.settings;
        node.product.map(|product| Times::of(&product, &options.profile.of(target.isa)))
    }

    /// The rows of the target table on which a product of 8-bit integers is estimated to take longer than the same
    /// one in `f32`, of those that code can be made for. It is computed in integers all the same: which numbers a
    /// product is made of is decided where a model is quantized, so that it gives the same everywhere.
    pub fn slower_on(&self, node: &NodeReport) -> Vec<&'static str> {
        let Some(product) = node.product.filter(|p| p.numbers == Numbers::Bytes) else { return vec![] };
        let Settings { options, .. } = &*self.0.settings;
        let slower = |isa: &'static Isa| {
            let times = Times::of(&product, &options.profile.of(isa));
            times.f32 < times.int8
        };
        let codeless = |isa: &'static Isa| isa.arch == Some(Arch::Wasm32);
        ISAS.iter().filter(|isa| !codeless(isa) && slower(isa)).map(|isa| isa.name).collect()
    }

    /// Why a node may give other bits on another target, or for another batch: where sums of `f32` are added in an
    /// order that depends on it. Integers, and what is done element by element or along a dim, have one order
    /// everywhere.
    pub fn may_differ(&self, node: &NodeReport) -> Option<&'static str> {
        let Decision::Kernel { names } = &node.decision else { return None };
        let forms = |p: Product| {
            p.numbers == Numbers::Halves
                || (p.numbers == Numbers::Floats && (p.three_by_three.is_some() || node.choice.is_some()))
        };
        if node.product.is_some_and(forms) {
            return Some(
                "which form of this product is fastest depends on the target, and the order of its sums on that",
            );
        }
        let recurrent = names.iter().any(|name| name == FLOAT_KERNEL);
        recurrent.then_some("the order of its sums depends on how many sequences there are")
    }

    /// The row of the target table that it is compiled for.
    pub fn isa(&self) -> &'static Isa {
        self.0.settings.target.isa
    }

    /// Writes the model as a `.optc` artifact: the optimized graph and its weights, to be compiled when loaded. Returns
    /// how many bytes those are. An existing file is replaced, never written in place: other models that map it are
    /// not disturbed.
    ///
    /// # Errors
    /// The graph was not kept, or the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<u64, Error> {
        Ok(self.save_with(path, &[])?.bytes)
    }

    /// The same, with programs and their machine code in addition to the graph
    /// ([`Compiler::native`](crate::Compiler::native)), which loaders that [trust](Options::trust) the file run as they
    /// are.
    ///
    /// # Errors
    /// As [`Model::save`].
    pub fn save_with(&self, path: &Path, natives: &[NativeCode]) -> Result<Saved, Error> {
        let graph = self.graph().ok_or(Error::NoGraph)?;
        let Settings { passes, .. } = &*self.0.settings;
        crate::artifact::save(path, graph, passes, self.0.specialised, &self.tuning(), natives)
    }

    /// Why the model is compiled for each number of items anew, where its input shapes are open and it has no batch:
    /// an outermost dim of which one plan serves any extent. `None` where it has one, or all shapes are known.
    pub fn no_batch(&self) -> Option<String> {
        let open = self.0.only.is_none();
        self.graph().filter(|_| open).and_then(|graph| self.0.batch.of(graph).err().map(str::to_owned))
    }

    /// The plan for inputs of these types, compiled at first use and then cached: one for all numbers of items, where
    /// the model has a batch. Threads that ask for the same types meanwhile wait for the one that compiles.
    ///
    /// # Errors
    /// The types do not fit the model's, or kernels cannot be made.
    pub fn plan_for(&self, types: &[Type]) -> Result<Arc<CompiledPlan>, Error> {
        if let Some(only) = &self.0.only {
            return Ok(only.clone());
        }
        if let Some(plan) = self.plan_for_items(types) {
            return Ok(plan);
        }
        self.0.plans.get_or_make(&types.to_vec(), || Ok(Arc::new(self.specialise(types, None)?)))
    }

    /// The plan for these values.
    pub(crate) fn plan_for_values(&self, values: &[Val]) -> Result<Arc<CompiledPlan>, Error> {
        if let Some(only) = &self.0.only {
            return Ok(only.clone());
        }
        self.plan_for(&values.iter().map(Val::ty).collect::<Vec<_>>())
    }

    /// What the plans that are kept hold: all of a model whose shapes are known, those in the cache of one with open
    /// dims. Plans of regions do not count.
    pub fn plan_bytes(&self) -> PlanBytes {
        let plans = self.0.plans.values();
        PlanBytes::of(self.0.only.iter().chain(&plans).map(|plan| &*plan.plan))
    }

    /// The plan for any number of items, where the model has a batch and these are types of one.
    fn plan_for_items(&self, types: &[Type]) -> Option<Arc<CompiledPlan>> {
        let _memory = self.memory().enter();
        let batched = self.0.batch.of(self.graph()?).ok()?;
        batch::items(types, batched)?;
        let key = batch::with_items(types, batched, &Dim::Unknown)?;
        let one = batch::with_items(types, batched, &Dim::Known(1))?;
        let plan = self
            .0
            .plans
            .get_or_make(&key, || Ok::<_, Error>(Arc::new(self.specialise(&one, Some(batch::ports(batched)))?)));
        // What cannot be made for one item, or is no batch after all, may still be made for these.
        plan.map_err(|e| self.0.batch.refuse(e.to_string())).ok()
    }

    fn specialise(&self, types: &[Type], batch: Option<BatchPorts>) -> Result<CompiledPlan, Error> {
        let _memory = self.memory().enter();
        let start = Instant::now();
        let graph = self.graph_for(types)?;
        let settings = &self.0.settings;
        let with = Compiling { tuning: &settings.tuning, cache: Some(&settings.shared.kernels), batch };
        compile(graph, settings, with, start.elapsed())
    }

    /// The graph with all passes run for inputs of these types.
    pub(crate) fn graph_for(&self, types: &[Type]) -> Result<Graph, Error> {
        let mut graph = self.graph().ok_or(Error::NoGraph)?.clone();
        if !self.0.specialised {
            optc_passes::specialize(&mut graph, types).map_err(|e| of_run(e.into()))?;
            let settings = &self.0.settings;
            let Settings { passes, options, target, shared, .. } = &**settings;
            run_passes_of_plan(&mut graph, passes, options, target, &shared.facts).map_err(of_run)?;
        }
        Ok(graph)
    }

    /// What is known of this machine and has to do with the plans of the model.
    fn tuning(&self) -> TuningCache {
        let plans = self.0.plans.values();
        let all = self.0.only.iter().chain(&plans).flat_map(|plan| &plan.points);
        let known = all.filter_map(|p| Some((p.key.clone(), self.0.settings.tuning.0.get(&p.key)?.clone())));
        TuningCache::with(&self.0.settings.machine, Tuning(known.collect()))
    }

    /// Measures which schedules are fastest for inputs like these, for about `time`, and compiles the model with them.
    /// The graph must have been [kept](Options::keep_graph).
    ///
    /// # Errors
    /// The graph was not kept, or a run on the inputs fails.
    pub fn autotune(&self, inputs: &[Val], time: Duration) -> Result<Tuned, Error> {
        let _memory = self.memory().enter();
        let types: Vec<Type> = inputs.iter().map(Val::ty).collect();
        let (inner, settings) = (&*self.0, &self.0.settings);
        let start = Instant::now();
        let graph = self.graph_for(&types)?;
        let pass_time = start.elapsed();
        let cache = KernelCache::default(); // trials differ in a few kernels
        let with = |tuning: &Tuning| {
            compile(graph.clone(), settings, Compiling { tuning, cache: Some(&cache), batch: None }, pass_time)
        };
        let TuningResult { tuning, plan, points, trials, share, complete } =
            tune(&with, &settings.tuning, &settings.pool, inputs, time)?;
        let changed = plan.points.iter().filter(|p| p.taken > 0).map(|p| &p.key).collect::<HashSet<_>>().len();
        let winners = TuningCache::with(&settings.machine, tuning.clone());
        let plans = Shared::new(settings.options.cached_plans);
        let only = inner.only.as_ref().map(|_| plan.clone());
        if only.is_none() {
            plans.insert(types, plan);
        }
        let model = Model(Arc::new(Inner {
            name: inner.name.clone(),
            inputs: inner.inputs.clone(),
            outputs: inner.outputs.clone(),
            settings: Arc::new(Settings { tuning, ..(**settings).clone() }),
            graph: inner.graph.clone(),
            specialised: inner.specialised,
            only,
            plans,
            batch: ModelBatch::refused("it was tuned for other shapes"),
        }));
        Ok(Tuned { model, winners, points, changed, trials, share, complete })
    }
}

/// An error of passes on a graph that a run's inputs gave its shapes: ops that refuse them failed in the run.
fn of_run(error: Error) -> Error {
    match error {
        Error::Pass(PassError::Graph(GraphError { op, loc, error })) => {
            RunError::Op { op, loc, error: Box::new(error) }.into()
        }
        other => other,
    }
}

/// With what a graph is compiled, besides the settings of its model.
struct Compiling<'a> {
    tuning: &'a Tuning,
    /// The kernels of other plans.
    cache: Option<&'a KernelCache>,
    /// The batch, of which the graph does one item.
    batch: Option<BatchPorts>,
}

/// Lowers a graph that has been through all passes, and loads the program.
fn compile(
    graph: Graph,
    settings: &Arc<Settings>,
    Compiling { tuning, cache, batch }: Compiling,
    pass_time: Duration,
) -> Result<CompiledPlan, Error> {
    let start = Instant::now();
    let Settings { target, shared, options, .. } = &**settings;
    let (program, _) = lower_optimized(graph, target, tuning.clone(), shared, options, batch)?;
    let resolve = |host: &HostText, plans: &Regions| region::resolve(host, plans, settings);
    let jit = Jit { threads: cores(), resolve: &resolve, cache };
    let plan = jit.emit(&program)?;
    let Program { report, points, .. } = program;
    Ok(CompiledPlan { plan: Arc::new(plan), report, points, pass_time, compile_time: start.elapsed() })
}
