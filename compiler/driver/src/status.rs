//! What kind of failure an error is: the exit codes of the command and the status codes of the C ABI.

use optc_onnx::{Diagnostic, DiagnosticKind};
use optc_passes::{CalibrationError, PassError, PruneError};

use crate::Error;

/// The kind of a failure; the numbers are the exit codes of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// What was asked for makes no sense: an unknown pass, instruction set or input name.
    Usage = 2,
    /// The model or artifact is not valid.
    BadModel = 3,
    /// The model is valid, but uses what is not supported.
    Unsupported = 4,
    /// A pass or the code generator failed.
    Compile = 5,
    /// Inputs do not fit, or a run failed.
    Run = 6,
    /// A file could not be read or written.
    Io = 7,
}

impl Error {
    /// The kind of the failure.
    pub fn status(&self) -> Status {
        match self {
            Error::Import(d) => of_diagnostic(d),
            Error::Pass(e) => of_pass(e),
            Error::Prune(e) => of_calibration(e),
            Error::Broken(_) | Error::Lower(_) | Error::Load(_) | Error::NoGraph => Status::Compile,
            Error::Run(_) | Error::Threads(_) | Error::Range { .. } | Error::Samples(_) => Status::Run,
            Error::Isa { .. }
            | Error::Target { .. }
            | Error::Shape { .. }
            | Error::Tuning { .. }
            | Error::Profile { .. }
            | Error::ThreadCount(_) => Status::Usage,
            Error::IsaMissing { .. } => Status::Unsupported,
            Error::Unsound(_) | Error::Artifact { .. } => Status::BadModel,
            Error::Io { .. } => Status::Io,
        }
    }
}

fn of_diagnostic(diagnostic: &Diagnostic) -> Status {
    match diagnostic.kind() {
        DiagnosticKind::BadModel => Status::BadModel,
        DiagnosticKind::Unsupported => Status::Unsupported,
        DiagnosticKind::Io => Status::Io,
    }
}

fn of_pass(error: &PassError) -> Status {
    match error {
        PassError::UnknownPass { .. } | PassError::Syntax { .. } | PassError::Option { .. } => Status::Usage,
        PassError::Prune(e) => of_pruning(e),
        // Shapes that contradict each other show when a model is specialised to the inputs of a run.
        PassError::Input { .. } | PassError::Data { .. } => Status::Run,
        _ => Status::Compile,
    }
}

fn of_pruning(error: &PruneError) -> Status {
    match error {
        PruneError::Sparsity(_) | PruneError::NoLayer { .. } | PruneError::Shared { .. } => Status::Usage,
        PruneError::NotFinite { .. } => Status::BadModel,
    }
}

fn of_calibration(error: &CalibrationError<Error>) -> Status {
    match error {
        CalibrationError::Prune(e) => of_pruning(e),
        CalibrationError::Samples(_) | CalibrationError::Layer { .. } => Status::Run,
    }
}
