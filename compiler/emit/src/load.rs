//! From a program to a plan: its kernels are compiled for this process, its host ops resolved.

use std::sync::Arc;

use optc_runtime::Plan;
use optc_types::{HostOp, HostText};

use super::{Code, EmitError};
use optc_kernel::program::{Program, ProgramError};

/// Why a program could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The program is not well formed: a bug of the lowering.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A kernel could not be compiled.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// Nothing was made of an op of the host.
    #[error("`{op}` on the host: {reason}")]
    Host {
        /// Its name.
        op: String,
        /// What is wrong with its text.
        reason: String,
    },
}

/// Makes something callable of an op's text, or says what is wrong with it.
pub type Resolver<'a> = dyn Fn(&HostText) -> Result<Arc<dyn HostOp>, String> + 'a;

/// Compiles a program's kernels for this machine on up to `threads` threads, and lets `resolve` make its host ops.
///
/// # Errors
/// The program is not well formed, a kernel does not compile here, or the resolver refuses an op.
pub fn load(program: &Program, threads: usize, resolve: &Resolver) -> Result<Plan, LoadError> {
    program.verify_steps()?; // `Code::compile_for` verifies the kernels
    let kernels: Vec<_> = program.kernels.iter().collect();
    let code = Arc::new(Code::compile_for(&kernels, &program.target, threads)?);
    let host = |host: &HostText| resolve(host).map_err(|reason| LoadError::Host { op: host.name.clone(), reason });
    let hosts = program.hosts.iter().map(host).collect::<Result<_, _>>()?;
    Ok(Plan { flow: program.flow.clone(), hosts, code })
}
