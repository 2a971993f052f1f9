//! Exit codes. [`Error::status`] of the library says which one an error has.

use std::path::Path;
use std::process::ExitCode;

use optc::{Error, RunError, Status};
use optc_onnx::Diagnostic;
use optc_passes::PassError;
use optc_tensor::TensorError;
use optc_tensor::npy::NpyError;

/// How the command ends. The numbers are documented in `optc --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Ok = 0,
    /// A comparison or a check did not pass.
    CheckFailed = 1,
    /// The command line is wrong; clap exits with this number as well.
    Usage = 2,
    /// The model, the text or the artifact is not valid.
    BadModel = 3,
    /// The model is valid, but uses what is not supported.
    Unsupported = 4,
    /// A pass or the code generator failed.
    Compile = 5,
    /// Inputs do not fit, or an op refused its operands.
    Run = 6,
    /// A file could not be read or written.
    Io = 7,
}

/// The table in `optc --help`.
pub const HELP: &str = "\
Exit codes:
  0  all went well
  1  a comparison or a check did not pass
  2  the command line is wrong
  3  the model, text or artifact is not valid
  4  the model uses what is not supported
  5  a pass or the code generator failed
  6  inputs do not fit, or a run failed
  7  a file could not be read or written";

impl Exit {
    /// For `main`.
    pub fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// Why a command stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    /// The exit code.
    pub exit: Exit,
    /// What to tell the user.
    pub message: String,
}

/// What commands return.
pub type Outcome<T = Exit> = Result<T, CommandError>;

impl CommandError {
    /// A failure with a code and a message.
    pub fn new(exit: Exit, message: impl Into<String>) -> CommandError {
        CommandError { exit, message: message.into() }
    }

    /// A failed operation on the file at `path`.
    pub fn io(path: &Path, error: &std::io::Error) -> CommandError {
        CommandError::new(Exit::Io, format!("`{}`: {error}", path.display()))
    }

    /// An array file that could not be read or written.
    pub fn array(path: &Path, error: &NpyError) -> CommandError {
        let exit = match error {
            NpyError::Io(_) => Exit::Io,
            NpyError::Zip(_) | NpyError::Array { .. } | NpyError::Tensor(_) => Exit::Run,
        };
        CommandError::new(exit, format!("`{}`: {error}", path.display()))
    }

    /// The same failure with advice.
    pub fn hint(mut self, hint: &str) -> CommandError {
        self.message = format!("{}\n  hint:  {hint}", self.message);
        self
    }
}

impl From<Status> for Exit {
    fn from(status: Status) -> Exit {
        match status {
            Status::Usage => Exit::Usage,
            Status::BadModel => Exit::BadModel,
            Status::Unsupported => Exit::Unsupported,
            Status::Compile => Exit::Compile,
            Status::Run => Exit::Run,
            Status::Io => Exit::Io,
        }
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> CommandError {
        CommandError::new(error.status().into(), error.to_string())
    }
}

impl From<Diagnostic> for CommandError {
    fn from(diagnostic: Diagnostic) -> CommandError {
        Error::from(diagnostic).into()
    }
}

impl From<PassError> for CommandError {
    fn from(error: PassError) -> CommandError {
        Error::from(error).into()
    }
}

impl From<RunError> for CommandError {
    fn from(error: RunError) -> CommandError {
        CommandError::new(Exit::Run, error.to_string())
    }
}

impl From<TensorError> for CommandError {
    fn from(error: TensorError) -> CommandError {
        CommandError::new(Exit::Run, error.to_string())
    }
}
