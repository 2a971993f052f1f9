//! Executes a plan: the state of one thread that runs one plan again and again.
//!
//! After the first run nothing is allocated for kernels: arena, scratch and argument lists are kept, and the memory of
//! an output is used again when the caller has dropped it. Host steps allocate their results.
//!
//! A plan with a batch goes through its items in blocks: each step for all items of a block, whose tasks are shared
//! among the threads like those of one item, then the next step. What no item has a part in is done once.

mod checks;
mod host;

use std::sync::Arc;
use std::time::Instant;

use optc_tensor::{Bytes, Deadline, Tensor, TensorError};
use optc_types::{OpError, Val};

use checks::{check_indices, check_lengths};

use crate::arena::Arena;
use crate::inputs::{check_inputs, describe, fits, with_items};
use crate::kernel::KernelFn;
use crate::plan::{ArenaPlace, BufRef, KernelStep, PlainTensor, Plan, Port, Slot, Step};
use crate::timings::{Timings, watched};
use crate::{RunError, ThreadPool};

/// Rounds that a kernel is cut into where there is a deadline.
const ROUNDS: u64 = 64;

/// The items of a batch that are at hand.
struct Block {
    /// The first of them, of all.
    first: usize,
    /// How many.
    items: usize,
    /// For how many the arena has room.
    room: usize,
}

/// Runs one plan. Not shared between threads; the plan is.
#[derive(Debug)]
pub struct Executor {
    plan: Arc<Plan>,
    outputs: Vec<Option<Tensor>>,
    values: Vec<Option<Val>>,
    /// Which steps are done for each item of a batch.
    repeated: Vec<bool>,
    /// Where each buffer begins, for the first item at hand.
    addresses: Vec<*mut u8>,
    args: Vec<*mut u8>,
    calls: Vec<KernelCall>,
    scratch: Arena,
}

/// A call of a kernel for one or several items.
#[derive(Debug)]
struct KernelCall {
    entry: KernelFn,
    /// Where its arguments begin.
    args: usize,
    /// Its tasks among those of all calls of the step.
    begin: u64,
    end: u64,
}

// SAFETY: the raw pointers are addresses of the last run, written anew at the start of each run before they are used.
unsafe impl Send for Executor {}

impl Executor {
    /// An executor of `plan`.
    pub fn new(plan: Arc<Plan>) -> Executor {
        let (outputs, values) = (vec![None; plan.flow.outputs.len()], vec![None; plan.flow.values]);
        let repeated = plan.flow.steps.iter().map(|step| plan.flow.is_repeated(step)).collect();
        let (addresses, args, calls) = (Vec::new(), Vec::new(), Vec::new());
        Executor { outputs, values, repeated, addresses, args, calls, scratch: Arena::default(), plan }
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Lets the workers have their scratch in `arena`, which holds [`Plan::scratch_bytes`] for each.
    pub fn set_scratch(&mut self, arena: Arena) {
        self.scratch = arena;
    }

    /// Runs the plan on one value per input; gives one per output. With `timings`, the time of every step is added
    /// there, and of those of the plans that steps of the host run.
    ///
    /// # Errors
    /// The inputs do not fit, an op refuses its operands, or memory is short.
    pub fn run(
        &mut self,
        inputs: &[Val],
        arena: &mut Arena,
        pool: &ThreadPool,
        timings: Option<&mut Timings>,
    ) -> Result<Vec<Val>, RunError> {
        let plan = self.plan.clone();
        match timings {
            Some(_) => self.run_plan(&plan, inputs, arena, (pool, timings)),
            None => watched(&plan, |timings| self.run_plan(&plan, inputs, arena, (pool, timings))),
        }
    }

    fn run_plan(
        &mut self,
        plan: &Arc<Plan>,
        inputs: &[Val],
        arena: &mut Arena,
        (pool, mut timings): (&ThreadPool, Option<&mut Timings>),
    ) -> Result<Vec<Val>, RunError> {
        let items = check_inputs(&plan.flow, inputs)?;
        self.values.iter_mut().for_each(|v| *v = None);
        for (port, input) in plan.flow.inputs.iter().zip(inputs) {
            if let Slot::Value(i) = port.slot {
                self.values[i] = Some(input.clone());
            }
        }
        let base = arena.reserve(plan.flow.arena_for(items)).map_err(|e| no_arena(plan, items, e))?;
        self.make_outputs(plan, items)?;
        let scratch = plan.scratch_bytes();
        let scratch_at = self.scratch.reserve(scratch * pool.threads())?;
        if let Some(t) = timings.as_deref_mut() {
            t.begin(plan.flow.steps.len(), items);
        }
        let (most, start) = (plan.flow.batch.map_or(1, |batch| batch.block).min(items), Instant::now());
        let mut block = Block { first: 0, items: most, room: most };
        loop {
            self.place(plan, inputs, base, &block)?;
            let clock = (start, timings.as_deref_mut());
            self.block(plan, (&block, inputs), pool, (scratch_at, scratch), clock)?;
            block.first += block.items;
            if block.first >= items {
                break;
            }
            block.items = most.min(items - block.first);
        }
        Deadline::current().check()?;
        plan.flow.outputs.iter().enumerate().map(|(i, port)| self.output(i, port)).collect()
    }

    /// Does all steps for some items, those that are not for items with the first of them.
    fn block(
        &mut self,
        plan: &Plan,
        (block, inputs): (&Block, &[Val]),
        pool: &ThreadPool,
        scratch: (*mut u8, usize),
        (start, mut timings): (Instant, Option<&mut Timings>),
    ) -> Result<(), RunError> {
        let deadline = Deadline::current();
        for (i, step) in plan.flow.steps.iter().enumerate() {
            deadline.check()?;
            let times = match self.repeated[i] {
                true => block.items,
                false => usize::from(block.first == 0),
            };
            let mut run = || if times > 0 { self.step(plan, step, (times, inputs), pool, scratch) } else { Ok(()) };
            match timings.as_deref_mut() {
                Some(timings) => timings.time(i, start, run)?,
                None => run()?,
            }
        }
        Ok(())
    }

    /// Settles the address of every buffer for some items of this run.
    fn place(&mut self, plan: &Plan, inputs: &[Val], base: *mut u8, block: &Block) -> Result<(), RunError> {
        self.addresses.clear();
        for buffer in &plan.flow.buffers {
            let address = match buffer.place {
                // The offset lies within the reserved bytes: the memory plan ends at `arena_bytes`, and that of an item
                // at `item_bytes`.
                ArenaPlace::Arena(offset) if buffer.each => {
                    base.wrapping_add(plan.flow.arena_bytes + offset * block.room)
                }
                ArenaPlace::Arena(offset) => base.wrapping_add(offset),
                ArenaPlace::Constant(i) => plan.flow.constants[i].tensor.bytes().as_ptr().cast_mut(),
                ArenaPlace::Input(i) => {
                    inputs[i].as_tensor().map_or(std::ptr::null(), |t| t.bytes().as_ptr()).cast_mut()
                }
                ArenaPlace::Output(i) => match &mut self.outputs[i] {
                    Some(tensor) => tensor.bytes_mut()?.as_mut_ptr(),
                    None => std::ptr::null_mut(),
                },
            };
            let before = if matches!(buffer.place, ArenaPlace::Arena(_)) { 0 } else { block.first };
            self.addresses.push(address.wrapping_add(before * buffer.stride()));
        }
        Ok(())
    }

    /// Makes the tensors of the outputs, or uses those of the last run again that nobody else holds.
    fn make_outputs(&mut self, plan: &Plan, items: usize) -> Result<(), RunError> {
        for (port, output) in plan.flow.outputs.iter().zip(&mut self.outputs) {
            let Slot::Buffer(stored) = &port.slot else { continue };
            let batched = plan.flow.is_batched(port);
            let fits = |t: &Tensor| t.is_unique() && (!batched || t.shape()[0] == items);
            if !output.as_ref().is_some_and(fits) {
                *output = None;
                *output = Some(match batched {
                    true => Tensor::zeros(stored.dtype, &with_items(stored, items))?,
                    false => Tensor::zeros(stored.dtype, &stored.shape)?,
                });
            }
        }
        Ok(())
    }

    fn output(&mut self, i: usize, port: &Port) -> Result<Val, RunError> {
        let missing = || RunError::MissingInput(port.name.clone());
        match &port.slot {
            Slot::Buffer(PlainTensor { at, .. }) if self.plan.flow.buffers[at.buf].place == ArenaPlace::Output(i) => {
                self.outputs[i].clone().map(Val::from).ok_or_else(missing)
            }
            Slot::Buffer(stored) => Ok(self.read(stored)?.into()),
            Slot::Value(v) => self.values[*v].clone().ok_or_else(missing),
            Slot::Constant(t) => Ok(t.clone().into()),
        }
    }

    fn step(
        &mut self,
        plan: &Plan,
        step: &Step,
        (times, inputs): (usize, &[Val]),
        pool: &ThreadPool,
        scratch: (*mut u8, usize),
    ) -> Result<(), RunError> {
        let each = |at: &BufRef, item: usize| {
            self.addresses[at.buf].wrapping_add(at.offset + item * plan.flow.buffers[at.buf].stride())
        };
        match step {
            Step::Kernel(kernel) => self.kernel(plan, kernel, times, pool, scratch),
            Step::Host(host) => self.host(plan, host, inputs)?,
            Step::Copy { src, dst, bytes } => {
                for item in 0..times {
                    // SAFETY: the plan's buffers hold `bytes` bytes at both places (checked when it was made), for each
                    // item, and addresses are those of live memory (see `place`). `copy` allows an overlap.
                    unsafe { std::ptr::copy(each(src, item), each(dst, item), *bytes) };
                }
            }
            Step::Arrange(arrange) => {
                for item in 0..times {
                    let (src, dst) = (each(&arrange.src.0, item), each(&arrange.dst.0, item));
                    // SAFETY: the offsets lie within the spans of source and result, which their buffers hold for each
                    // item (checked when the plan was made), and addresses are those of live memory (see `place`).
                    arrange.for_each(|from, to| unsafe { std::ptr::copy(src.add(from), dst.add(to), arrange.width) });
                }
            }
            Step::Load { value, to, loc } => self.load(*value, to, loc)?,
            Step::Check { indices, extent, loc } => {
                (0..times).try_for_each(|item| check_indices(each(&indices.at, item), indices, *extent, loc))?;
            }
            Step::CheckLengths { lengths, most, op, loc } => {
                (0..times).try_for_each(|item| check_lengths(each(&lengths.at, item), lengths, *most, op, loc))?;
            }
        }
        Ok(())
    }

    fn address(&self, at: BufRef) -> *mut u8 {
        self.addresses[at.buf].wrapping_add(at.offset)
    }

    /// Lists the calls of a step's kernels for so many items, and their arguments; gives the number of tasks.
    fn calls(&mut self, plan: &Plan, step: &KernelStep, times: usize) -> u64 {
        self.args.clear();
        self.calls.clear();
        let one = plan.code.entry(step.kernel);
        let (mut item, mut begin) = (0, 0);
        while item < times {
            let several = step.several.iter().find(|several| several.items <= times - item);
            let (items, entry, tasks) =
                several.map_or((1, one, step.tasks), |s| (s.items, plan.code.entry(s.kernel), s.tasks));
            let (args, end) = (self.args.len(), begin + tasks);
            self.calls.push(KernelCall { entry, args, begin, end });
            for &at in &step.args {
                let before = at.offset + item * plan.flow.buffers[at.buf].stride();
                self.args.push(self.addresses[at.buf].wrapping_add(before));
            }
            (item, begin) = (item + items, end);
        }
        begin
    }

    fn kernel(
        &mut self,
        plan: &Plan,
        step: &KernelStep,
        times: usize,
        pool: &ThreadPool,
        (scratch, stride): (*mut u8, usize),
    ) {
        let tasks = self.calls(plan, step, times);
        let (args, calls) = (Shared(self.args.as_ptr()), &self.calls[..]);
        let scratch = Shared(scratch);
        let call = |worker: usize, begin: u64, end: u64| {
            let (args, scratch) = (args, scratch);
            let first = calls.partition_point(|call| call.end <= begin);
            for call in calls[first..].iter().take_while(|call| call.begin < end) {
                let (from, to) = (begin.max(call.begin) - call.begin, end.min(call.end) - call.begin);
                let args = args.get().wrapping_add(call.args);
                // SAFETY: the arguments are addresses of live buffers, as long as the kernel declares (checked when the
                // plan was made), for each item; `plan` keeps the code alive; `stride` bytes of scratch for each worker
                // were reserved; the pool gives ranges within the tasks of all items, and one range at a time to a
                // worker.
                unsafe { (call.entry)(args, scratch.get().wrapping_add(worker * stride), from, to) };
            }
        };
        let parallel = step.parallel || times > 1 && step.info.is_parallel(tasks, times);
        if Deadline::current().is_set() {
            within_time((tasks, parallel), pool, &call);
        } else if parallel {
            pool.run(tasks, &call);
        } else if tasks > 0 {
            call(0, 0, tasks);
        }
    }

    /// A copy of a tensor in a buffer.
    fn read(&self, stored: &PlainTensor) -> Result<Tensor, RunError> {
        let mut tensor = Tensor::zeros(stored.dtype, &stored.shape)?;
        let bytes = tensor.bytes_mut()?;
        let from = self.address(stored.at);
        if !bytes.is_empty() {
            // SAFETY: the buffer holds a tensor of this dtype and shape (checked when the plan was made), so
            // `bytes.len()` bytes can be read; the new tensor is apart from every buffer.
            unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
        }
        Ok(tensor)
    }

    fn write(&self, tensor: &Tensor, to: &PlainTensor) {
        let bytes = tensor.bytes();
        debug_assert_eq!(bytes.len(), to.bytes(), "callers check the type");
        if !bytes.is_empty() {
            // SAFETY: the caller has checked that the tensor has the dtype and shape of `to`, whose bytes the buffer
            // holds.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address(to.at), bytes.len()) };
        }
    }

    fn load(&mut self, value: usize, to: &PlainTensor, loc: &str) -> Result<(), RunError> {
        let mismatch = |found: String| RunError::Op {
            op: "load".to_owned(),
            loc: loc.to_owned(),
            error: Box::new(OpError::Constraint {
                constraint: "type",
                reason: format!("found {found}, expected {}", describe(to)),
            }),
        };
        match self.values[value].as_ref() {
            Some(Val::Tensor(t)) if fits(t, to) => {
                self.write(t, to);
                Ok(())
            }
            Some(other) => Err(mismatch(other.ty().to_string())),
            None => Err(mismatch("nothing".to_owned())),
        }
    }
}

/// Does a kernel's tasks in rounds until the time is up; the next step finds that it is.
fn within_time((all, parallel): (u64, bool), pool: &ThreadPool, call: &(dyn Fn(usize, u64, u64) + Sync)) {
    let round = if parallel { all.div_ceil(ROUNDS).max(pool.threads() as u64) } else { all.max(1) };
    let mut begin = 0;
    while begin < all && Deadline::current().check().is_ok() {
        let tasks = round.min(all - begin);
        match parallel {
            true => pool.run(tasks, &|worker, from, to| call(worker, begin + from, begin + to)),
            false => call(0, begin, begin + tasks),
        }
        begin += tasks;
    }
}

/// That the arena does not fit, and which result takes most of it.
fn no_arena(plan: &Plan, items: usize, error: RunError) -> RunError {
    let RunError::Memory(TensorError::Memory { error, .. }) = error else { return error };
    let in_arena = |b: &usize| matches!(plan.flow.buffers[*b].place, ArenaPlace::Arena(_));
    let at_once = plan.flow.batch.map_or(1, |batch| batch.block.min(items));
    let bytes = |b: usize| plan.flow.buffers[b].bytes.max(plan.flow.buffers[b].stride().saturating_mul(at_once));
    let Some(largest) = (0..plan.flow.buffers.len()).filter(in_arena).max_by_key(|&b| bytes(b)) else {
        return RunError::Memory(error.into());
    };
    let writes = |k: &&KernelStep| k.args.last().is_some_and(|at| at.buf == largest);
    let info = plan.kernel_steps().find(writes).map(|k| &k.info);
    let loc = info.map_or_else(String::new, |info| info.loc.join(", "));
    RunError::Arena { loc, bytes: Bytes(bytes(largest)), error }
}

/// A pointer that a closure hands to several threads.
#[derive(Clone, Copy)]
struct Shared<T>(T);

impl<T: Copy> Shared<T> {
    fn get(self) -> T {
        self.0
    }
}

// SAFETY: what the pointers point at is shared under the contract of `KernelFn`: tasks write disjoint bytes, and each
// worker has its own scratch.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}
