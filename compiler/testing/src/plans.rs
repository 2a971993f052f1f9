//! Whole plans whose buffers lie between inaccessible pages, each on its own.

use std::sync::Arc;

use optc_emit::{BackendError, HostError, Regions, load};
use optc_ir::{HostCall, Val};
use optc_kernel::program::Program;
use optc_runtime::plan::{ArenaPlace, Plan};
use optc_runtime::{Arena, Executor, PlanBody, RunError, ThreadPool};
use optc_types::{HostOp, HostText};

use super::cases::name_case;
use super::rooms::{Rooms, SIDES, Side};

/// What went wrong in a run of a plan.
#[derive(Debug, thiserror::Error)]
pub enum GuardedError {
    /// The executor refused it.
    #[error(transparent)]
    Run(#[from] RunError),
    /// What it gives depends on what it must not depend on.
    #[error("another result {0}")]
    Differs(&'static str),
    /// A kernel wrote outside its buffers, but in their pages.
    #[error("bytes outside of a buffer were written")]
    Written,
}

/// A program that is loaded on one thread; regions that are not programs are interpreted.
///
/// # Errors
///
/// As [`load`].
pub fn loaded(program: &Program) -> Result<Arc<Plan>, BackendError> {
    Ok(Arc::new(load(program, 1, &resolve)?))
}

/// Makes an op of the host whose regions run as these plans, and are interpreted for values of other types.
///
/// # Errors
///
/// The text is not an op.
pub fn resolve(host: &HostText, plans: &Regions) -> Result<Arc<dyn HostOp>, HostError> {
    let pool = Arc::new(ThreadPool::new(1)?);
    let call = HostCall::parse(host, &|number, region| match plans.get(&number) {
        Some(plan) => Arc::new(PlanBody::new(plan.clone(), pool.clone(), Arc::new(region))),
        None => Arc::new(region),
    })?;
    Ok(Arc::new(call))
}

/// Runs a plan as it is, twice, so that the second run finds what the first one left, then with each of its buffers
/// before an inaccessible page and with each after one: inputs and constants where nobody can write, and the workers'
/// scratch as well. All runs must give the same bits.
///
/// `name` is said where memory outside of a buffer is touched, which ends the process.
///
/// # Errors
///
/// As [`Executor::run`], or two runs differ, or bytes outside a buffer were written.
pub fn run_guarded(plan: &Arc<Plan>, inputs: &[Val], pool: &ThreadPool, name: &str) -> Result<Vec<Val>, GuardedError> {
    let _named = name_case(name);
    let (mut executor, mut arena) = (Executor::new(plan.clone()), Arena::default());
    let first = executor.run(inputs, &mut arena, pool, None)?;
    let again = executor.run(inputs, &mut arena, pool, None)?;
    if first != again {
        return Err(GuardedError::Differs("when it runs again"));
    }
    for side in SIDES {
        if run_between_pages(plan, inputs, pool, side)? != first {
            return Err(GuardedError::Differs("where its buffers lie between inaccessible pages"));
        }
    }
    Ok(first)
}

fn run_between_pages(plan: &Plan, inputs: &[Val], pool: &ThreadPool, side: Side) -> Result<Vec<Val>, GuardedError> {
    let lengths: Vec<usize> = plan.flow.buffers.iter().map(|b| b.bytes).collect();
    let mut rooms = Rooms::new(&lengths, side);
    for (i, buffer) in plan.flow.buffers.iter().enumerate() {
        let known = match buffer.place {
            ArenaPlace::Constant(constant) => Some(plan.flow.constants[constant].tensor.bytes()),
            ArenaPlace::Input(input) => inputs.get(input).and_then(Val::as_tensor).map(|t| t.bytes()),
            ArenaPlace::Arena(_) | ArenaPlace::Output(_) => None,
        };
        // An input that does not fit is the executor's to refuse.
        if let Some(bytes) = known.filter(|bytes| bytes.len() == buffer.bytes) {
            rooms.fill(i, bytes);
            rooms.close(i);
        }
    }
    let mut moved = plan.clone();
    for (i, buffer) in moved.flow.buffers.iter_mut().enumerate() {
        buffer.place = ArenaPlace::Arena(rooms.offset(i));
    }
    let scratch = Rooms::new(&[plan.scratch_bytes() * pool.threads()], side);
    let (at, bytes) = rooms.map();
    moved.flow.arena_bytes = bytes;
    let (scratch_at, scratch_bytes) = (scratch.address(0), scratch.bytes(0).len());
    // SAFETY: both maps outlive the executor below, nobody else has their addresses, and every byte that a buffer of
    // the plan or a worker's scratch has can be read, and written where the plan says so.
    let (mut arena, scratch_arena) = unsafe { (Arena::over(at, bytes), Arena::over(scratch_at, scratch_bytes)) };
    let mut executor = Executor::new(Arc::new(moved));
    executor.set_scratch(scratch_arena);
    let found = executor.run(inputs, &mut arena, pool, None)?;
    let intact = scratch.intact(0) && (0..lengths.len()).all(|i| rooms.intact(i));
    if intact { Ok(found) } else { Err(GuardedError::Written) }
}
