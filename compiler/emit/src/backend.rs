//! What programs become: a plan of this process, or machine code for an artifact. Objects and WebAssembly modules are
//! further backends, over the same functions of a Cranelift module.

use std::sync::Arc;

use optc_kernel::program::Program;
use optc_native::{NativeCode, Resolver};
use optc_runtime::Plan;
use optc_runtime::plan::KernelCode;

use super::{Code, EmitError, KernelCache, machine_code};

/// Why a program could not be emitted.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// A kernel could not be compiled.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The rest of it.
    #[error(transparent)]
    Plan(#[from] optc_native::LoadError),
}

/// Turns a program into something that runs, for the target that the program was made for.
pub trait Backend {
    /// What it makes.
    type Output;

    /// Emits a program.
    ///
    /// # Errors
    /// The program is not well formed, a kernel is not proven to keep to its buffers, or the code generator refuses
    /// one.
    fn emit(&self, program: &Program) -> Result<Self::Output, BackendError>;
}

/// Compiles for this process: the target must be one that this machine is.
pub struct Jit<'a> {
    /// Threads that compile, at most.
    pub threads: usize,
    /// Makes the ops of the host.
    pub resolve: &'a Resolver<'a>,
    /// Kernels that other plans have, and that this one leaves to others; none where there will be no others.
    pub cache: Option<&'a KernelCache>,
}

/// Compiles for an artifact: for any target, the same bytes everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Native {
    /// Threads that compile, at most.
    pub threads: usize,
}

impl Backend for Jit<'_> {
    type Output = Plan;

    fn emit(&self, program: &Program) -> Result<Plan, BackendError> {
        let (kernels, target) = (program.all_kernels(), &program.target);
        let code: Arc<dyn KernelCode> = match self.cache {
            Some(cache) => Arc::new(cache.compile(&kernels, target, self.threads)?), // verifies the kernels
            None => Arc::new(Code::compile_with(&kernels, target, self.threads, None)?), // as well
        };
        let plan = optc_native::plan(program, code, self.resolve)?; // verifies the steps
        program.verify_bounds().map_err(optc_native::LoadError::from)?;
        Ok(plan)
    }
}

impl Backend for Native {
    type Output = NativeCode;

    fn emit(&self, program: &Program) -> Result<NativeCode, BackendError> {
        let code = machine_code(&program.all_kernels(), &program.target, self.threads)?;
        Ok(NativeCode::new(program.clone(), code).map_err(optc_native::LoadError::from)?)
    }
}

/// [`Jit`] by a function.
///
/// # Errors
/// As [`Backend::emit`], or the resolver refuses an op.
pub fn load(program: &Program, threads: usize, resolve: &Resolver) -> Result<Plan, BackendError> {
    Jit { threads, resolve, cache: None }.emit(program)
}
