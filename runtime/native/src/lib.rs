//! Compiled models without a compiler: artifacts, the machine code in them, and this machine as a target.
//!
//! An [`Artifact`] holds a graph as text, its constants, and for some targets a program with the machine code of its
//! kernels. What links only this crate and the engine runs such a program, and needs neither the graph nor a code
//! generator:
//!
//! ```no_run
//! use std::sync::Arc;
//! use optc_native::{Artifact, no_host_ops};
//! use optc_runtime::{Arena, Executor, ThreadPool};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let artifact = Artifact::open("model.optc".as_ref(), optc_tensor::FileAccess::Map)?;
//! let native = artifact.native_here(None).ok_or("no machine code for this machine")?;
//! // SAFETY: the file is our own.
//! let (plan, _) = unsafe { artifact.plan(&native, &no_host_ops) }?;
//! let (mut executor, pool) = (Executor::new(Arc::new(plan)), ThreadPool::new(1)?);
//! let outputs = executor.run(&[], &mut Arena::default(), &pool, None)?;
//! # Ok(())
//! # }
//! ```
//!
//! It must not know graphs or Cranelift: the graph in an artifact is text to it. Start in `artifact.rs`, then
//! `native.rs`.

mod artifact;
pub mod host;
mod load;
mod native;

pub use artifact::{Artifact, ArtifactError, Contents, MAGIC, Saved, VERSION, is_artifact, save, stored_bytes};
pub use load::{HostError, LoadError, Regions, Resolver, no_host_ops, plan};
pub use native::{NativeCode, NativeProgram};
