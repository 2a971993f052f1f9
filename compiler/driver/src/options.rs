//! How a model is compiled and run.

use std::sync::Arc;
use std::time::Duration;

use optc_kernel::target::{ISAS, Isa, Target};
use optc_passes::{PassOptions, Registry};
use optc_tensor::{FileAccess, Memory};

use crate::{Error, MachineProfile, TuningCache};

/// The most threads that a model runs on: more than any machine has cores, and few enough for the system to give.
pub const MAX_THREADS: usize = 1024;

/// What products with constant weights compute in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Factors are rounded to bfloat16 where that is faster, sums are `f32`; the rest stays `f32`.
    Bf16,
}

/// Which products are quantized, of those that have an integer kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Integers {
    /// Those that are faster that way on the target, by the cost model.
    #[default]
    Faster,
    /// All: the same for every target.
    Always,
}

/// Options of a [`Compiler`](crate::Compiler).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The pipeline: a named one (`O0` to `O3`) or a list of passes.
    pub passes: String,
    /// The passes and pipelines that may be named: yours besides those that exist.
    pub registry: Registry,
    /// Threads that run the model; 0 for as many as the machine has cores.
    pub threads: usize,
    /// The instruction set, by name; `None` for the best that the machine has.
    pub isa: Option<String>,
    /// A target that need not be this machine: the name of an instruction set, or a triple such as `aarch64-linux`. It
    /// has the features and the caches that the table of targets gives it: the same target gives the same program
    /// everywhere.
    pub target: Option<String>,
    /// The precision of products.
    pub precision: Precision,
    /// Which products a [`Quantizer`](crate::Quantizer) quantizes. In a model that is quantized all those that can
    /// compute with integers do, on every target.
    pub integers: Integers,
    /// How fast the machine is in `f32` and in integers, where that is known better than from the instruction set.
    pub profile: MachineProfile,
    /// What was measured to be fastest, if it was: what it knows of this machine is taken. Nothing is read without it.
    pub tuning: TuningCache,
    /// Shapes of inputs whose dims the model leaves open, by input name.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// How many sets of input shapes keep their compiled plan.
    pub cached_plans: usize,
    /// The account that everything which is read, compiled and run is charged to ([`Memory::with_limit`]). Several
    /// compilers may share one. By default it is the one that the calling thread charges: without a scope, all that the
    /// machine has.
    pub memory: Memory,
    /// How long one run may take; none for as long as it takes. Looked at between steps and rounds of a kernel's tasks.
    pub time_limit: Option<Duration>,
    /// Keeps the optimized graph of a model whose shapes are all static; needed for [`Model::save`](crate::Model::save)
    /// and [`Model::graph`](crate::Model::graph). Without it the weights are held once only, as kernels read them.
    pub keep_graph: bool,
    /// Reads a model's files and owns their bytes. Without it they are mapped ([`FileAccess::Map`]): the model's file
    /// and files of external data beside it, for as long as the model or a session of it lives. They may be replaced or
    /// removed meanwhile, but if one is truncated or written in place, the process ends by SIGBUS or results are wrong.
    /// optc itself never writes a file in place.
    pub copy: bool,
    /// Lets an artifact run the machine code in it, if it has some for this machine: nothing is lowered or compiled
    /// then. Code in a file does what it likes in this process. Set it only for files from those whose programs you
    /// would run. Without it the same artifact is compiled from its graph.
    pub trust: bool,
    /// Leaves [programs](crate::Compiler::program) as they are before their last rewrites, to be looked at: copies into
    /// other layouts are separate steps, and each buffer has its own bytes.
    pub draft: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            passes: "O2".to_owned(),
            registry: Registry::standard(),
            threads: 1,
            isa: None,
            target: None,
            precision: Precision::F32,
            integers: Integers::Faster,
            profile: MachineProfile::default(),
            tuning: TuningCache::default(),
            shapes: Vec::new(),
            cached_plans: 8,
            memory: Memory::current(),
            time_limit: None,
            keep_graph: false,
            copy: false,
            trust: false,
            draft: false,
        }
    }
}

impl Options {
    /// What is compiled for, which this machine runs.
    ///
    /// # Errors
    /// There is no such instruction set or target, or this machine does not run it.
    pub fn target(&self) -> Result<Target, Error> {
        let target = self.any_target()?;
        let name = || self.isa.clone().or_else(|| self.target.clone()).unwrap_or_else(|| target.to_string());
        if optc_emit::host::runs(&target) { Ok(target) } else { Err(Error::IsaMissing { name: name() }) }
    }

    /// What is compiled for, whether or not this machine runs it.
    ///
    /// # Errors
    /// There is no such instruction set or target.
    pub fn any_target(&self) -> Result<Target, Error> {
        let isa = self.isa.as_deref().map(row).transpose()?;
        let Some(name) = &self.target else {
            let host = optc_emit::host::target();
            return Ok(isa.map_or(host, |isa| host.with_isa(isa)));
        };
        let wrong = |reason: String| Error::Target { target: name.clone(), reason };
        match (Target::parse_triple(name), isa) {
            (Some((arch, _)), Some(isa)) if isa.arch.is_some_and(|own| own != arch) => {
                Err(wrong(format!("`{}` is an instruction set of another architecture", isa.name)))
            }
            (Some((arch, system)), isa) => Ok(Target::of_triple(arch, system, isa.unwrap_or(arch.least()))),
            (None, Some(_)) => Err(wrong("it names an instruction set already, as triples do not".to_owned())),
            (None, None) => Ok(Target::of(row(name)?)),
        }
    }

    /// The same options, for this machine where they are for another one: what is measured or calibrated runs here.
    pub fn here(&self) -> Options {
        match self.target() {
            Err(Error::IsaMissing { .. }) => Options { isa: None, target: None, ..self.clone() },
            _ => self.clone(),
        }
    }

    /// How passes are run when a model is compiled: with the target's profile, which chooses between forms of its
    /// layers. They can be run for an instruction set that this machine lacks.
    ///
    /// # Errors
    /// There is no instruction set of this name.
    pub fn pass_options(&self) -> Result<PassOptions, Error> {
        Ok(self.pass_options_for(&self.any_target()?))
    }

    pub(crate) fn pass_options_for(&self, target: &Target) -> PassOptions {
        PassOptions { machine: Some(Arc::new(self.profile.of(target.isa))), ..PassOptions::default() }
    }

    /// How the files of models are held.
    pub fn access(&self) -> FileAccess {
        if self.copy { FileAccess::Copy } else { FileAccess::Map }
    }

    /// A pipeline with what the precision asks for.
    ///
    /// # Errors
    /// It is not a pipeline, or has no place for that.
    pub fn pipeline(&self, passes: &str) -> Result<String, Error> {
        match self.precision {
            Precision::F32 => Ok(passes.to_owned()),
            Precision::Bf16 => Ok(optc_passes::bf16_pipeline(&self.registry, passes)?),
        }
    }

    /// Threads that run the model.
    pub fn run_threads(&self) -> usize {
        if self.threads == 0 { cores() } else { self.threads }
    }
}

/// The instruction set with a name.
fn row(name: &str) -> Result<&'static Isa, Error> {
    let known = || ISAS.iter().map(|i| i.name).collect::<Vec<_>>().join(", ");
    Isa::by_name(name).ok_or_else(|| Error::Isa { name: name.to_owned(), known: known() })
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}
