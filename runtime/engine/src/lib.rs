//! Plans, arenas, the worker pool and their execution.
//!
//! A [`Plan`] is made elsewhere (by the code generator, or from an artifact); an [`Executor`] runs it on the threads of
//! a [`ThreadPool`]. What the CPU has is asked here, and nowhere below.
//!
//! In: a plan and values. Out: values, and times of steps where asked. Nothing here knows graphs, ONNX, passes or
//! Cranelift: a kernel is a function pointer, an op of the host something that can be called. Start in `plan.rs`, then
//! `executor.rs` and `pool.rs`.

mod arena;
mod body;
mod code;
mod error;
mod executor;
pub mod host;
mod inputs;
pub mod kernel;
pub mod plan;
mod pool;
mod timings;

pub use arena::Arena;
pub use body::PlanBody;
pub use code::{Executable, MachineCode};
pub use error::RunError;
pub use executor::Executor;
pub use plan::Plan;
pub use pool::ThreadPool;
pub use timings::{BodyTimings, Timings};
