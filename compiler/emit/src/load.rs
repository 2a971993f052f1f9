//! From a program to a plan: its kernels are compiled for this process, its host ops resolved.

use std::sync::Arc;

use optc_kernel::program::Program;
use optc_native::Resolver;
use optc_runtime::Plan;

use super::{Code, EmitError};

/// Why a program could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A kernel could not be compiled.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The rest of it.
    #[error(transparent)]
    Plan(#[from] optc_native::LoadError),
}

/// Compiles a program's kernels for this machine on up to `threads` threads, and lets `resolve` make its host ops.
///
/// # Errors
/// The program is not well formed, a kernel does not compile here, or the resolver refuses an op.
pub fn load(program: &Program, threads: usize, resolve: &Resolver) -> Result<Plan, LoadError> {
    let code = Code::compile_for(&program.all_kernels(), &program.target, threads)?; // verifies the kernels
    let plan = optc_native::plan(program, Arc::new(code), resolve)?; // verifies the steps
    program.verify_bounds().map_err(optc_native::LoadError::from)?;
    Ok(plan)
}
