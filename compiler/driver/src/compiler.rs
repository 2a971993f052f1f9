//! From a file or a graph to a model.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use optc_emit::{Backend, Native};
use optc_ir::{Dim, Graph, Type, Value, Verified};
use optc_kernel::program::{Program, ProgramBody};
use optc_kernel::target::Target;
use optc_lower::{BatchPorts, Region, Tuning};
use optc_native::{Artifact, ArtifactError, MAGIC, NativeCode, NativeProgram};
use optc_passes::PassError;
use optc_runtime::ThreadPool;

use crate::artifact::{self, LoadedArtifact};
use crate::batch;
use crate::model::GENERIC_PASSES;
use crate::options::{MAX_THREADS, cores};
use crate::passes::{SharedParts, is_static, lower_optimized, run_passes};
use crate::plan::{CompiledPlan, Settings};
use crate::session::compile_region;
use crate::tuning::machine_name;
use crate::{Error, Model, Options, TuningCache, region};

/// What the program of a graph and those of its regions are made with.
struct ProgramsOf<'a> {
    target: &'a Target,
    tuning: &'a Tuning,
    shared: SharedParts,
}

/// Regions that are programs in one; those beyond are compiled at their first call.
const MAX_BODIES: usize = 100;

/// Compiles models with one set of options.
#[derive(Debug, Clone, Default)]
pub struct Compiler {
    options: Options,
}

impl Compiler {
    /// A compiler with these options.
    pub fn new(options: Options) -> Compiler {
        // Artifacts and graphs may hold nodes that wait for shapes.
        optc_onnx::register_waiting();
        Compiler { options }
    }

    /// The options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Compiles the ONNX model, or loads the `.optc` artifact, at `path`. Unless [`Options::copy`] is set, the file,
    /// and files of external data beside it, are mapped for as long as the model or a session of it lives.
    ///
    /// # Errors
    /// The file cannot be read, is not a valid model, uses what is not supported, or cannot be compiled.
    pub fn compile_file(&self, path: &Path) -> Result<Model, Error> {
        let _memory = self.options.memory.enter();
        if optc_native::is_artifact(path) {
            return self.load(path);
        }
        let graph = optc_onnx::import_file_as(path, self.options.access())?;
        self.compile_graph(graph)
    }

    /// Compiles an ONNX model, or loads an artifact, from memory.
    ///
    /// # Errors
    /// As [`Compiler::compile_file`].
    pub fn compile_bytes(&self, bytes: &[u8]) -> Result<Model, Error> {
        let _memory = self.options.memory.enter();
        if bytes.starts_with(MAGIC) {
            let path = Path::new("(memory)");
            return self.load_artifact(&Artifact::read(Arc::new(bytes.to_vec())).map_err(artifact::at(path))?, path);
        }
        self.compile_graph(optc_onnx::import_bytes(bytes)?)
    }

    /// Compiles a graph: runs the passes, and makes kernels where all input shapes are known.
    ///
    /// # Errors
    /// The graph is not sound, a pass fails, or kernels cannot be made.
    pub fn compile_graph(&self, graph: Graph) -> Result<Model, Error> {
        let _memory = self.options.memory.enter();
        let mut graph = Verified::new(graph).map_err(Error::Unsound)?.into_graph();
        let settings = self.settings(&self.options.passes, TuningCache::default())?;
        self.set_shapes(&mut graph)?;
        Model::new(graph, settings)
    }

    /// Loads an artifact that [`Model::save`] wrote. Its passes have run: only kernels are compiled, and with
    /// [`Options::trust`] not even these where it holds machine code for this machine. It is mapped like other models.
    ///
    /// # Errors
    /// The file cannot be read, is damaged or of another version, or cannot be compiled.
    pub fn load(&self, path: &Path) -> Result<Model, Error> {
        let _memory = self.options.memory.enter();
        self.load_artifact(&self.open(path)?, path)
    }

    fn open(&self, path: &Path) -> Result<Artifact, Error> {
        Artifact::open(path, self.options.access()).map_err(artifact::at(path))
    }

    fn load_artifact(&self, artifact: &Artifact, path: &Path) -> Result<Model, Error> {
        if let Some(native) = artifact::native(artifact, &self.options)? {
            let settings = self.settings_for(artifact.passes(), *native.target(), TuningCache::default())?;
            let model = native_model(artifact, &native, settings).map_err(artifact::at(path))?;
            if let Some(model) = model {
                return Ok(model);
            }
        }
        let (graph, passes, tuning) = self.unfinished(artifact::graph(artifact).map_err(artifact::at(path))?)?;
        Model::new(graph, self.settings(&passes, tuning)?)
    }

    /// The graph of an artifact, and the passes that it still needs.
    fn unfinished(&self, loaded: LoadedArtifact) -> Result<(Graph, String, TuningCache), Error> {
        let mut graph = loaded.graph;
        self.set_shapes(&mut graph)?;
        // A graph whose shapes were static is final; a generic one is still to be specialised with the passes it came
        // with.
        let passes = if is_static(&graph) && loaded.specialised { "infer-types".to_owned() } else { loaded.passes };
        Ok((graph, passes, loaded.tuning))
    }

    /// The program of the ONNX model or the `.optc` artifact at `path`, as [`Compiler::program`] makes it from a graph.
    ///
    /// # Errors
    /// As [`Compiler::compile_file`] and [`Compiler::program`].
    pub fn program_of_file(&self, path: &Path) -> Result<Program, Error> {
        let _memory = self.options.memory.enter();
        if optc_native::is_artifact(path) {
            let loaded = artifact::graph(&self.open(path)?).map_err(artifact::at(path))?;
            let (graph, passes, tuning) = self.unfinished(loaded)?;
            return self.lowered(graph, &passes, tuning);
        }
        self.program(optc_onnx::import_file_as(path, self.options.access())?)
    }

    /// What a model with this graph runs, as data: for an instruction set that this machine need not have, and the
    /// caches that it has. All input shapes must be known, from the graph or [`Options::shapes`], but for the extent of
    /// a batch.
    ///
    /// # Errors
    /// The graph is not sound, an input has an open dim that is no batch, a pass fails, or a value is too large.
    pub fn program(&self, graph: Graph) -> Result<Program, Error> {
        let _memory = self.options.memory.enter();
        let mut graph = Verified::new(graph).map_err(Error::Unsound)?.into_graph();
        self.set_shapes(&mut graph)?;
        self.lowered(graph, &self.options.passes, TuningCache::default())
    }

    /// The program of the model at `path` and the machine code of its kernels, to be put into an artifact
    /// ([`Model::save_with`]): for a target that this machine need not be.
    ///
    /// # Errors
    /// As [`Compiler::program_of_file`], and what the code generator refuses.
    pub fn native_of_file(&self, path: &Path) -> Result<NativeCode, Error> {
        native_code(&self.program_of_file(path)?)
    }

    /// The same for a graph.
    ///
    /// # Errors
    /// As [`Compiler::program`], and what the code generator refuses.
    pub fn native(&self, graph: Graph) -> Result<NativeCode, Error> {
        native_code(&self.program(graph)?)
    }

    /// The program of a graph that still needs these passes, and comes with some `tuning`.
    fn lowered(&self, mut graph: Graph, passes: &str, tuning: TuningCache) -> Result<Program, Error> {
        let target = self.options.any_target()?;
        let open = |v: &Value| graph.ty(*v).as_tensor().is_some_and(|t| t.static_shape().is_none());
        let open = graph.inputs().find(open).map(|input| graph.input_name(input).unwrap_or_default().to_owned());
        let batch = open.map(|input| self.one_item(&mut graph, &target, input)).transpose()?;
        let tuning = self.tuning(tuning, &machine_name(&target, self.options.run_threads()));
        let of = ProgramsOf { target: &target, tuning: &tuning, shared: SharedParts::default() };
        self.with_bodies(graph, &self.options.pipeline(passes)?, (&of, batch), &mut MAX_BODIES.clone())
    }

    /// Makes a graph with a batch that of one item; `input` is one whose shape is open.
    fn one_item(&self, graph: &mut Graph, target: &Target, input: String) -> Result<BatchPorts, Error> {
        run_passes(graph, GENERIC_PASSES, &self.options, target, &optc_tensor::ConstantFacts::default())?;
        let none = |why: String| {
            let reason =
                format!("a program is made for shapes that are known, or a batch of any number of items: {why}");
            Error::Shape { input: input.clone(), reason }
        };
        let batched = optc_passes::batched(graph).map_err(|e| none(e.to_string()))?;
        let types: Vec<Type> = graph.inputs().map(|v| graph.ty(v).clone()).collect();
        let one =
            batch::with_items(&types, &batched, &Dim::Known(1)).ok_or_else(|| none("it is no tensor".to_owned()))?;
        optc_passes::specialize(graph, &one)?;
        Ok(batch::ports(&batched))
    }

    /// The program of a graph after these passes, with those of its regions whose types are static: `left` of them at
    /// most.
    fn with_bodies(
        &self,
        mut graph: Graph,
        passes: &str,
        (of, batch): (&ProgramsOf, Option<BatchPorts>),
        left: &mut usize,
    ) -> Result<Program, Error> {
        run_passes(&mut graph, passes, &self.options, of.target, &of.shared.facts)?;
        let (mut program, regions) =
            lower_optimized(graph, of.target, of.tuning.clone(), &of.shared, &self.options, batch)?;
        for Region { host, region, graph } in regions {
            if *left == 0 {
                break;
            }
            *left -= 1;
            // A region that refuses its types fails when it runs, if it does.
            if let Ok(body) = self.with_bodies(graph, passes, (of, None), left) {
                program.bodies.push(ProgramBody { host, region, program: body });
            }
        }
        Ok(program)
    }

    /// What is known of a machine: from the options, and where these say nothing from what a model comes with.
    fn tuning(&self, mut of_model: TuningCache, machine: &str) -> Tuning {
        of_model.merge(self.options.tuning.clone());
        of_model.of(machine)
    }

    /// The settings of a model that comes with some `tuning`; the options' own takes precedence.
    pub(crate) fn settings(&self, passes: &str, tuning: TuningCache) -> Result<Arc<Settings>, Error> {
        self.settings_for(passes, self.options.target()?, tuning)
    }

    fn settings_for(&self, passes: &str, target: Target, tuning: TuningCache) -> Result<Arc<Settings>, Error> {
        let options = self.options.clone();
        let passes = options.pipeline(passes)?;
        options.registry.parse(&passes)?;
        let threads = options.run_threads();
        if threads > MAX_THREADS {
            return Err(Error::ThreadCount(threads));
        }
        let pool = Arc::new(ThreadPool::new(threads).map_err(Error::Threads)?);
        let machine = machine_name(&target, pool.threads());
        let (tuning, shared) = (self.tuning(tuning, &machine), SharedParts::default());
        Ok(Arc::new(Settings { options, passes, target, pool, machine, tuning, shared, compile_region }))
    }

    /// Gives inputs the shapes of the options.
    fn set_shapes(&self, graph: &mut Graph) -> Result<(), Error> {
        if self.options.shapes.is_empty() {
            return Ok(());
        }
        let mut types: Vec<Type> = graph.inputs().map(|v| graph.ty(v).clone()).collect();
        let names: Vec<String> = graph.inputs().map(|v| graph.input_name(v).unwrap_or_default().to_owned()).collect();
        for (name, shape) in &self.options.shapes {
            let wrong = |reason: String| Error::Shape { input: name.clone(), reason };
            let at = names.iter().position(|n| n == name);
            let at = at.ok_or_else(|| wrong(format!("the model has no such input; it has {}", names.join(", "))))?;
            match &mut types[at] {
                Type::Tensor(t) => t.shape = Some(shape.iter().map(|&n| Dim::Known(n)).collect()),
                other => return Err(wrong(format!("the input is {other}, not a tensor"))),
            }
        }
        optc_passes::specialize(graph, &types).map_err(|e| match e {
            PassError::Input { input, fault } => Error::Shape { input, reason: fault.to_string() },
            PassError::Graph(refused) => {
                let inputs: Vec<&str> = self.options.shapes.iter().map(|(name, _)| name.as_str()).collect();
                Error::Shape { input: inputs.join(", "), reason: refused.to_string() }
            }
            other => other.into(),
        })
    }
}

/// A program with the machine code of its kernels.
fn native_code(program: &Program) -> Result<NativeCode, Error> {
    Ok(Native { threads: cores() }.emit(program)?)
}

/// A model of machine code; none where its inputs have other shapes than the options say.
fn native_model(
    artifact: &Artifact,
    native: &NativeProgram,
    settings: Arc<Settings>,
) -> Result<Option<Model>, ArtifactError> {
    let start = Instant::now();
    // SAFETY: `Options::trust` says that the file may run code in this process.
    let (plan, program) = unsafe { artifact.plan(native, &|host, plans| region::resolve(host, plans, &settings)) }?;
    let given = |(name, shape): &(String, Vec<usize>)| {
        program.flow.inputs.iter().any(|port| port.name == *name && has_shape(&port.ty, shape))
    };
    if !settings.options.shapes.iter().all(given) {
        return Ok(None);
    }
    let Program { report, points, .. } = program;
    let (pass_time, compile_time) = (Default::default(), start.elapsed());
    let plan = CompiledPlan { plan: Arc::new(plan), report, points, pass_time, compile_time };
    Ok(Some(Model::native(artifact.name().to_owned(), plan, settings)))
}

fn has_shape(ty: &Type, shape: &[usize]) -> bool {
    ty.as_tensor().and_then(|t| t.static_shape()).is_some_and(|known| known == shape)
}
