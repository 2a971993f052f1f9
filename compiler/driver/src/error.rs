//! The one error type of the library.

use std::path::PathBuf;

use optc_emit::BackendError;
use optc_ir::Unsound;
use optc_lower::LowerError;
use optc_onnx::Diagnostic;
use optc_passes::{CalibrationError, PassError};
use optc_runtime::RunError;

use crate::options::MAX_THREADS;
use crate::profile::MachineProfileError;
use crate::prune::BatchError;
use crate::tuning::TuningCacheError;

/// Why a model could not be read, compiled, run or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model is not valid, or uses what is not supported.
    #[error(transparent)]
    Import(#[from] Diagnostic),
    /// A pass failed, or the pipeline is not one.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// A mark of a graph that is quantized has no range, or one that is not valid.
    #[error("there is no usable range for `{name}`")]
    Range {
        /// The mark, or the range.
        name: String,
    },
    /// Calibration samples do not fit the model that is to be pruned.
    #[error("calibration: {0}")]
    Samples(#[from] BatchError),
    /// A model could not be pruned on calibration samples.
    #[error(transparent)]
    Prune(Box<CalibrationError<Error>>),
    /// The graph that was given is not sound.
    #[error(transparent)]
    Unsound(Unsound),
    /// A graph is not sound after the passes: a bug in one of them.
    #[error("after the passes {0}")]
    Broken(Unsound),
    /// Kernels could not be made.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// No machine code could be made.
    #[error(transparent)]
    Load(#[from] BackendError),
    /// A run failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// An instruction set does not exist.
    #[error("there is no instruction set `{name}`; there are {known}")]
    Isa {
        /// The name that was given.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// A target and an instruction set do not fit together.
    #[error("target `{target}`: {reason}")]
    Target {
        /// The target.
        target: String,
        /// Why not.
        reason: String,
    },
    /// The machine lacks an instruction set.
    #[error("this machine cannot run `{name}`")]
    IsaMissing {
        /// The instruction set.
        name: String,
    },
    /// A shape was given for an input that does not exist, or does not fit it.
    #[error("shape of input `{input}`: {reason}")]
    Shape {
        /// The input's name.
        input: String,
        /// What is wrong.
        reason: String,
    },
    /// An artifact is damaged, or of another version.
    #[error("{path}: {reason}", path = .path.display())]
    Artifact {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file is not a tuning cache, or is one of another version.
    #[error("{path}: {error}", path = .path.display())]
    Tuning {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: TuningCacheError,
    },
    /// A file is not a machine profile, or is one of another version.
    #[error("{path}: {error}", path = .path.display())]
    Profile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: MachineProfileError,
    },
    /// A file operation failed.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A model is to run on more threads than it can.
    #[error("{0} threads are more than the {MAX_THREADS} that a model runs on")]
    ThreadCount(usize),
    /// The operating system gives no threads.
    #[error("the worker threads could not be started: {0}")]
    Threads(std::io::Error),
    /// The optimized graph was not kept.
    #[error("the optimized graph was not kept; compile with `keep_graph`")]
    NoGraph,
}
