//! From a program and the code of its kernels to a plan.

use std::collections::HashMap;
use std::sync::Arc;

use optc_kernel::program::{Program, ProgramError};
use optc_runtime::Plan;
use optc_runtime::kernel::KernelFn;
use optc_runtime::plan::KernelCode;
use optc_types::{HostOp, HostText, ParseError};

/// Why a program could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The program is not well formed: a bug of the lowering.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Nothing was made of an op of the host.
    #[error("`{op}` on the host: {error}")]
    Host {
        /// Its name.
        op: String,
        /// Why not.
        error: HostError,
    },
    /// The system gives no memory for code.
    #[error("no memory that code may run in: {0}")]
    Memory(#[from] std::io::Error),
}

/// Why nothing was made of an op of the host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There are no ops of the host here.
    #[error("`{op}` was not linked")]
    NotLinked {
        /// Its name.
        op: String,
    },
    /// Its text is not that of an op.
    #[error(transparent)]
    Text(#[from] ParseError),
    /// Its regions have no threads to run on.
    #[error(transparent)]
    Threads(#[from] std::io::Error),
}

/// Makes something callable from an op's text and the plans of its regions, by their numbers, as far as there are any;
/// or says what is wrong with the text.
pub type Resolver<'a> = dyn Fn(&HostText, &Regions) -> Result<Arc<dyn HostOp>, HostError> + 'a;

/// Plans of an op's regions, by their numbers.
pub type Regions = HashMap<usize, Arc<Plan>>;

/// The resolver of whoever has no ops of the host.
///
/// # Errors
/// Always.
pub fn no_host_ops(host: &HostText, _: &Regions) -> Result<Arc<dyn HostOp>, HostError> {
    Err(HostError::NotLinked { op: host.name.clone() })
}

/// The plan of a program, of which this is the code of [all kernels](Program::all_kernels); `resolve` makes its host
/// ops.
///
/// # Errors
/// The program's steps are not well formed, or the resolver refuses an op.
pub fn plan(program: &Program, code: Arc<dyn KernelCode>, resolve: &Resolver) -> Result<Plan, LoadError> {
    program.verify_steps()?; // kernels are verified where they are compiled
    plan_at(program, &code, &mut 0, resolve)
}

/// The plan of a program whose kernels come from `next` on.
fn plan_at(
    program: &Program,
    code: &Arc<dyn KernelCode>,
    next: &mut usize,
    resolve: &Resolver,
) -> Result<Plan, LoadError> {
    let own = Part { code: code.clone(), first: *next };
    *next += program.kernels.len();
    let mut bodies: Vec<Regions> = program.hosts.iter().map(|_| Regions::new()).collect();
    for body in &program.bodies {
        bodies[body.host].insert(body.region, Arc::new(plan_at(&body.program, code, next, resolve)?));
    }
    let host = |(host, regions): (&HostText, &Regions)| {
        resolve(host, regions).map_err(|error| LoadError::Host { op: host.name.clone(), error })
    };
    let hosts = program.hosts.iter().zip(&bodies).map(host).collect::<Result<_, _>>()?;
    Ok(Plan { flow: program.flow.clone(), hosts, code: Arc::new(own) })
}

/// The code of one of several programs.
#[derive(Debug)]
struct Part {
    code: Arc<dyn KernelCode>,
    /// Its first kernel among all.
    first: usize,
}

// SAFETY: the entries are those of code that keeps to the contract, for the kernels of this program, and it is kept
// alive.
unsafe impl KernelCode for Part {
    fn entry(&self, kernel: usize) -> KernelFn {
        self.code.entry(self.first + kernel)
    }

    fn pieces(&self) -> Vec<(usize, usize)> {
        self.code.pieces()
    }
}
