//! Options that every command on a model takes.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use optc::{Compiler, MachineProfile, Options, TuningCache};

use crate::exit::Outcome;
use crate::output::Files;

/// The model and how it is compiled.
#[derive(Debug, Clone, clap::Args)]
pub struct ModelArgs {
    /// The model: an ONNX file, a `.optc` artifact, or the text form of a graph
    pub model: PathBuf,
    #[command(flatten)]
    pub how: CompilerArgs,
}

impl ModelArgs {
    /// The files that a command on this model reads.
    pub fn files(&self) -> Files {
        self.how.files(&self.model)
    }
}

/// How a model is compiled and run.
#[derive(Debug, Clone, clap::Args)]
pub struct CompilerArgs {
    /// Pin an input's dims, such as `x:1x3x224x224`; may be given several times
    #[arg(long = "shape", value_name = "NAME:DIMS")]
    pub shapes: Vec<ShapeArg>,
    /// The pipeline: `O0` to `O3`, or a list of passes (see `optc passes`)
    #[arg(long, short, default_value = "O2", value_name = "PIPELINE")]
    pub passes: String,
    /// Threads that run the model, 0 for all cores [default: 1 for bench and profile, 0 elsewhere]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Give up a run after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub time_limit: Option<f64>,
    /// Take schedules that were measured to be fastest from this file, which --autotune writes; none are read without
    /// it
    #[arg(long, value_name = "FILE")]
    pub tuning_cache: Option<PathBuf>,
    /// Read the model's files whole: they are otherwise mapped, and must not be written in place or truncated meanwhile
    #[arg(long)]
    pub copy: bool,
    /// Run the machine code that an artifact has for this machine, instead of compiling its graph: only for files from
    /// those whose programs you would run
    #[arg(long)]
    pub trust: bool,
}

/// What a model is compiled for, which passes ask as well.
#[derive(Debug, Clone, clap::Args)]
pub struct TargetArgs {
    /// The instruction set to compile for, instead of the best of this machine
    #[arg(long, value_name = "NAME")]
    pub isa: Option<String>,
    /// What to compile for instead of this machine: a row of `optc targets`, or a triple such as `aarch64-linux`, of
    /// which --isa picks a row; the same target gives the same program everywhere
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
    /// What products with constant weights compute in
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: PrecisionArg,
    /// Take the speeds of products in f32 and in integers from this file, which `optc hwbench --write-profile` writes,
    /// instead of those known of the instruction set
    #[arg(long, value_name = "FILE")]
    pub machine_profile: Option<PathBuf>,
}

impl TargetArgs {
    /// The library's options for this target.
    ///
    /// # Errors
    /// The machine profile cannot be used.
    pub fn options(&self) -> Outcome<Options> {
        Ok(Options {
            isa: self.isa.clone(),
            target: self.target.clone(),
            precision: match self.precision {
                PrecisionArg::F32 => optc::Precision::F32,
                PrecisionArg::Bf16 => optc::Precision::Bf16,
            },
            registry: crate::registry().clone(),
            profile: self.machine_profile.as_deref().map(MachineProfile::read).transpose()?.unwrap_or_default(),
            ..Options::default()
        })
    }

    /// The files that a command reads which compiles `model` for this.
    pub fn files(&self, model: &Path) -> Files {
        Files::of_model(model).reads(self.machine_profile.as_deref())
    }
}

/// What products with constant weights compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionArg {
    /// Single precision.
    F32,
    /// Factors rounded to bfloat16 where that is faster, single-precision sums.
    Bf16,
}

/// An input's name and extents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeArg {
    /// The input.
    pub name: String,
    /// Its extents.
    pub dims: Vec<usize>,
}

/// A text that is not a name and extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a name and dims, such as `x:1x3x224x224`")]
pub struct ShapeArgError;

impl FromStr for ShapeArg {
    type Err = ShapeArgError;

    fn from_str(text: &str) -> Result<ShapeArg, ShapeArgError> {
        // Names may hold colons: the last one separates.
        let parsed = text.rsplit_once(':').and_then(|(name, dims)| Some((name, optc_passes::parse_shape(dims)?)));
        match parsed {
            Some((name, dims)) if !name.is_empty() => Ok(ShapeArg { name: name.to_owned(), dims }),
            _ => Err(ShapeArgError),
        }
    }
}

impl CompilerArgs {
    /// The library's options; `threads` where none are asked for.
    ///
    /// # Errors
    /// The tuning cache or the machine profile cannot be used.
    pub fn options(&self, threads: usize) -> Outcome<Options> {
        Ok(Options {
            passes: self.passes.clone(),
            threads: self.threads.unwrap_or(threads),
            shapes: self.shapes.iter().map(|s| (s.name.clone(), s.dims.clone())).collect(),
            time_limit: self.time_limit.map(Duration::from_secs_f64),
            copy: self.copy,
            trust: self.trust,
            tuning: self.tuning_cache.as_deref().map(TuningCache::read).transpose()?.unwrap_or_default(),
            ..self.target.options()?
        })
    }

    /// The files that a command reads which compiles `model` like this.
    pub fn files(&self, model: &Path) -> Files {
        self.target.files(model).reads(self.tuning_cache.as_deref())
    }

    /// Options of models that run on all cores unless told otherwise, and can be saved and their graphs looked at.
    ///
    /// # Errors
    /// As [`CompilerArgs::options`].
    pub fn keeping_options(&self) -> Outcome<Options> {
        Ok(Options { keep_graph: true, ..self.options(0)? })
    }

    /// A compiler that runs models on all cores unless told otherwise.
    ///
    /// # Errors
    /// As [`CompilerArgs::options`].
    pub fn compiler(&self) -> Outcome<Compiler> {
        Ok(Compiler::new(self.options(0)?))
    }

    /// A compiler with [`CompilerArgs::keeping_options`].
    ///
    /// # Errors
    /// As [`CompilerArgs::options`].
    pub fn keeping_compiler(&self) -> Outcome<Compiler> {
        Ok(Compiler::new(self.keeping_options()?))
    }
}

/// A text that is not a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecondsError {
    /// It is not a number.
    #[error("expected a number of seconds")]
    Number,
    /// It is less than nothing, or more than a day.
    #[error("expected 0 to 86400 seconds")]
    Range,
}

/// A number of seconds, at most a day.
///
/// # Errors
/// The text is not one.
pub fn seconds(text: &str) -> Result<f64, SecondsError> {
    let value: f64 = text.parse().map_err(|_| SecondsError::Number)?;
    if (0.0..=86_400.0).contains(&value) { Ok(value) } else { Err(SecondsError::Range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_a_name_and_dims() {
        let shape = |name: &str, dims: &[usize]| Ok(ShapeArg { name: name.to_owned(), dims: dims.to_vec() });
        assert_eq!("x:1x3x224x224".parse::<ShapeArg>(), shape("x", &[1, 3, 224, 224]));
        assert_eq!("images:0:7".parse::<ShapeArg>(), shape("images:0", &[7]));
        assert_eq!("sr:".parse::<ShapeArg>(), shape("sr", &[]));
        for bad in ["1x3", ":1x3", "x:1xNx3", "x:-1"] {
            assert!(bad.parse::<ShapeArg>().is_err(), "{bad}");
        }
    }
}
