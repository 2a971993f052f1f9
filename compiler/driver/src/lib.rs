//! The library that a host embeds: compiles ONNX models and runs them.
//!
//! ```no_run
//! use optc::{Compiler, Options, Tensor};
//! # fn main() -> Result<(), optc::Error> {
//! let model = Compiler::new(Options { threads: 2, ..Options::default() }).compile_file("model.onnx".as_ref())?;
//! let image = Tensor::from_slice(&[1, 1, 28, 28], &[0f32; 784]).expect("784 elements");
//! let mut session = model.session();
//! let outputs = session.run(&[("input", image)])?;
//! println!("{} = {:?}", outputs[0].0, outputs[0].1);
//! # Ok(())
//! # }
//! ```
//!
//! A [`Model`] is shared between threads; each thread runs it through a [`Session`] of its own.
//!
//! Models are mapped, not read: what is written into their files in place while they are in use ends the process or
//! changes results. [`Options::copy`] rules that out.
//!
//! In: models as files, bytes or graphs, and values. Out: values, artifacts, reports. It puts the other crates
//! together, and must not know arguments of a command line, nor print. Start in `compiler.rs`, then `model.rs` and
//! `session.rs`.

mod artifact;
mod autotune;
mod batch;
mod bodies;
mod cache;
mod compiler;
mod error;
mod machine;
mod model;
mod options;
mod passes;
mod plan;
mod profile;
mod prune;
mod quantize;
mod region;
mod session;
mod status;
mod tuning;

/// Ops of a user's own.
pub mod custom {
    pub use optc_ir::ops::custom::{
        CustomCall, CustomError, CustomOp, CustomOperands, RegisteredTwice, custom_op, register_custom_op,
    };
    pub use optc_ir::{Attr, AttrValue, Const, Dim, Real, TensorType};
}

pub use bodies::BodyReport;
pub use cache::CacheStats;
pub use compiler::Compiler;
pub use error::Error;
pub use machine::Times;
pub use model::{Model, Tuned, ValueInfo};
pub use optc_ir::{Type, Val};
pub use optc_kernel::program::{Choice, Decision, Filtered, NodeReport, Program, ProgramText};
pub use optc_native::{NativeCode, Saved, is_artifact, stored_bytes};
pub use optc_passes::calibrate::{Method, Ranges};
pub use optc_passes::{BlockShape, Budget, LayerReport, PruneOptions, Registry, Saliency, Spare, Verdict};
pub use optc_runtime::{BodyTimings, RunError, Timings};
pub use optc_tensor::{DType, FileAccess, Memory, OutOfMemory, Tensor, TensorError, npy};
pub use optc_types::Nanos;
pub use options::{Integers, MAX_THREADS, Options, Precision};
pub use plan::{CompiledPlan, PlanBytes};
pub use profile::{MachineProfile, MachineProfileError};
pub use prune::{BatchError, prune};
pub use quantize::{Quantized, QuantizedLayer, Quantizer};
pub use session::Session;
pub use status::Status;
pub use tuning::{TuningCache, TuningCacheError};
