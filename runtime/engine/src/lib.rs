//! Plans, arenas, the worker pool and their execution.
//!
//! A [`Plan`] is made elsewhere (by the code generator); an [`Executor`] runs it on the threads of a [`ThreadPool`].
//! Nothing here knows ONNX, passes or Cranelift.

mod body;
mod code;
mod error;
mod executor;
pub mod host;
pub mod kernel;
pub mod plan;
mod pool;

pub use body::PlanBody;
pub use code::{Executable, MachineCode};
pub use error::RunError;
pub use executor::{Arena, Executor, Timings};
pub use plan::Plan;
pub use pool::ThreadPool;
