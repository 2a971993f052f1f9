//! From a program and the code of its kernels to a plan.

use std::sync::Arc;

use optc_kernel::program::{Program, ProgramError};
use optc_runtime::Plan;
use optc_runtime::plan::KernelCode;
use optc_types::{HostOp, HostText};

/// Why a program could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The program is not well formed: a bug of the lowering.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Nothing was made of an op of the host.
    #[error("`{op}` on the host: {reason}")]
    Host {
        /// Its name.
        op: String,
        /// What is wrong with its text.
        reason: String,
    },
    /// The system gives no memory for code.
    #[error("no memory that code may run in: {0}")]
    Memory(#[from] std::io::Error),
}

/// Makes something callable of an op's text, or says what is wrong with it.
pub type Resolver<'a> = dyn Fn(&HostText) -> Result<Arc<dyn HostOp>, String> + 'a;

/// The resolver of whoever has no ops of the host.
///
/// # Errors
/// Always.
pub fn no_host_ops(host: &HostText) -> Result<Arc<dyn HostOp>, String> {
    Err(format!("`{}` was not linked", host.name))
}

/// The plan of a program whose kernels have this code; `resolve` makes its host ops.
///
/// # Errors
/// The program's steps are not well formed, or the resolver refuses an op.
pub fn plan(program: &Program, code: Arc<dyn KernelCode>, resolve: &Resolver) -> Result<Plan, LoadError> {
    program.verify_steps()?; // kernels are verified where they are compiled
    let host = |host: &HostText| resolve(host).map_err(|reason| LoadError::Host { op: host.name.clone(), reason });
    let hosts = program.hosts.iter().map(host).collect::<Result<_, _>>()?;
    Ok(Plan { flow: program.flow.clone(), hosts, code })
}
