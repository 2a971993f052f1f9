//! Executes a plan: the state of one thread that runs one plan again and again.
//!
//! After the first run nothing is allocated for kernels: arena, scratch and argument lists are kept, and the memory of
//! an output is used again when the caller has dropped it. Host steps allocate their results.

mod host;

use std::sync::Arc;
use std::time::{Duration, Instant};

use optc_tensor::{ALIGN, Bytes, DType, Deadline, Tensor, TensorError};
use optc_types::{OpError, TensorType, Val};

use crate::plan::{ArenaPlace, BufRef, KernelStep, PlainTensor, Plan, Port, Slot, Step};
use crate::{RunError, ThreadPool};

/// Rounds that a kernel is cut into where there is a deadline.
const ROUNDS: u64 = 64;

/// Bytes aligned to a cache line that grow and never shrink: arenas and scratch.
#[derive(Debug, Default)]
pub struct Arena {
    tensor: Option<Tensor>,
    /// The address of bytes that somebody else keeps, and how many they are: these, and no others.
    given: Option<(usize, usize)>,
}

impl Arena {
    /// An arena over `bytes` bytes from `at` on that the caller keeps, which runs that need more of them refuse: for
    /// hosts that place memory themselves, and tests that put inaccessible pages between buffers.
    ///
    /// # Safety
    /// The bytes live as long as any run in the arena, and nobody else uses them meanwhile. Those that a plan's buffers
    /// have, or for an executor's scratch all of them, can be read, and written where the plan writes.
    pub unsafe fn over(at: *mut u8, bytes: usize) -> Arena {
        Arena { tensor: None, given: Some((at.expose_provenance(), bytes)) }
    }

    /// The address of at least `bytes` bytes.
    fn reserve(&mut self, bytes: usize) -> Result<*mut u8, RunError> {
        if let Some((at, have)) = self.given {
            let enough = bytes <= have;
            return enough
                .then(|| std::ptr::with_exposed_provenance_mut(at))
                .ok_or(TensorError::TooLarge(vec![bytes]).into());
        }
        if self.tensor.as_ref().is_none_or(|t| t.len() < bytes) {
            self.tensor = None;
            self.tensor = Some(Tensor::zeros(DType::U8, &[bytes.next_multiple_of(ALIGN)])?);
        }
        match &mut self.tensor {
            Some(tensor) => Ok(tensor.bytes_mut()?.as_mut_ptr()),
            None => Ok(std::ptr::null_mut()),
        }
    }
}

/// Time that each step of a plan took, summed over runs.
#[derive(Debug, Clone, Default)]
pub struct Timings {
    /// One a step: the sum over all runs.
    pub steps: Vec<Duration>,
    /// When each step of the last run began and ended, since the run's start.
    pub last: Vec<(Duration, Duration)>,
    /// How many runs.
    pub runs: usize,
}

/// Runs one plan. Not shared between threads; the plan is.
#[derive(Debug)]
pub struct Executor {
    plan: Arc<Plan>,
    outputs: Vec<Option<Tensor>>,
    values: Vec<Option<Val>>,
    addresses: Vec<*mut u8>,
    args: Vec<*mut u8>,
    scratch: Arena,
}

// SAFETY: the raw pointers are addresses of the last run, written anew at the start of each run before they are used.
unsafe impl Send for Executor {}

impl Executor {
    /// An executor of `plan`.
    pub fn new(plan: Arc<Plan>) -> Executor {
        let (outputs, values) = (vec![None; plan.flow.outputs.len()], vec![None; plan.flow.values]);
        Executor { outputs, values, addresses: Vec::new(), args: Vec::new(), scratch: Arena::default(), plan }
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
    /// there.
    ///
    /// # Errors
    /// The inputs do not fit, an op refuses its operands, or memory is short.
    pub fn run(
        &mut self,
        inputs: &[Val],
        arena: &mut Arena,
        pool: &ThreadPool,
        mut timings: Option<&mut Timings>,
    ) -> Result<Vec<Val>, RunError> {
        let plan = self.plan.clone();
        check_inputs(&plan.flow.inputs, inputs)?;
        self.values.iter_mut().for_each(|v| *v = None);
        for (port, input) in plan.flow.inputs.iter().zip(inputs) {
            if let Slot::Value(i) = port.slot {
                self.values[i] = Some(input.clone());
            }
        }
        self.place(&plan, inputs, arena)?;
        let scratch = plan.scratch_bytes();
        let scratch_at = self.scratch.reserve(scratch * pool.threads())?;
        let start = Instant::now();
        if let Some(t) = timings.as_deref_mut() {
            t.steps.resize(plan.flow.steps.len(), Duration::ZERO);
            t.last.clear();
            t.runs += 1;
        }
        let deadline = Deadline::current();
        for (i, step) in plan.flow.steps.iter().enumerate() {
            deadline.check()?;
            let began = timings.is_some().then(|| start.elapsed());
            self.step(&plan, step, inputs, pool, (scratch_at, scratch))?;
            if let (Some(t), Some(began)) = (timings.as_deref_mut(), began) {
                let ended = start.elapsed();
                t.steps[i] += ended - began;
                t.last.push((began, ended));
            }
        }
        deadline.check()?;
        plan.flow.outputs.iter().enumerate().map(|(i, port)| self.output(i, port)).collect()
    }

    /// Settles the address of every buffer for this run.
    fn place(&mut self, plan: &Plan, inputs: &[Val], arena: &mut Arena) -> Result<(), RunError> {
        let base = arena.reserve(plan.flow.arena_bytes).map_err(|e| no_arena(plan, e))?;
        for (i, port) in plan.flow.outputs.iter().enumerate() {
            if let Slot::Buffer(stored) = &port.slot {
                self.make_output(i, stored)?;
            }
        }
        self.addresses.clear();
        for buffer in &plan.flow.buffers {
            let address = match buffer.place {
                // The offset lies within the reserved bytes: the memory plan ends at `arena_bytes`.
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
            self.addresses.push(address);
        }
        Ok(())
    }

    /// Makes the tensor of an output, or uses the one of the last run again if nobody else holds it.
    fn make_output(&mut self, i: usize, stored: &PlainTensor) -> Result<(), RunError> {
        let reusable = self.outputs[i].as_ref().is_some_and(Tensor::is_unique);
        if !reusable {
            self.outputs[i] = Some(Tensor::zeros(stored.dtype, &stored.shape)?);
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
        inputs: &[Val],
        pool: &ThreadPool,
        scratch: (*mut u8, usize),
    ) -> Result<(), RunError> {
        match step {
            Step::Kernel(kernel) => {
                self.kernel(plan, kernel, pool, scratch);
                Ok(())
            }
            Step::Host(host) => self.host(plan, host, inputs),
            Step::Copy { src, dst, bytes } => {
                let (src, dst) = (self.address(*src), self.address(*dst));
                // SAFETY: the plan's buffers hold `bytes` bytes at both places (checked when it was made), and
                // addresses are those of live memory (see `place`). `copy` allows an overlap.
                unsafe { std::ptr::copy(src, dst, *bytes) };
                Ok(())
            }
            Step::Arrange(arrange) => {
                let (src, dst) = (self.address(arrange.src.0), self.address(arrange.dst.0));
                // SAFETY: the offsets lie within the spans of source and result, which their buffers hold (checked when
                // the plan was made), and addresses are those of live memory (see `place`).
                arrange.for_each(|from, to| unsafe { std::ptr::copy(src.add(from), dst.add(to), arrange.width) });
                Ok(())
            }
            Step::Load { value, to, loc } => self.load(*value, to, loc),
            Step::Check { indices, extent, loc } => self.check(indices, *extent, loc),
        }
    }

    fn address(&self, at: BufRef) -> *mut u8 {
        self.addresses[at.buf].wrapping_add(at.offset)
    }

    fn kernel(&mut self, plan: &Plan, step: &KernelStep, pool: &ThreadPool, (scratch, stride): (*mut u8, usize)) {
        self.args.clear();
        for &at in &step.args {
            self.args.push(self.addresses[at.buf].wrapping_add(at.offset));
        }
        let entry = plan.code.entry(step.kernel);
        let args = Shared(self.args.as_ptr());
        let scratch = Shared(scratch);
        let call = |worker: usize, begin: u64, end: u64| {
            let (args, scratch) = (args, scratch);
            // SAFETY: the arguments are addresses of live buffers, as long as the kernel declares (checked when the
            // plan was made); `plan` keeps the code alive; `stride` bytes of scratch for each worker were reserved; the
            // pool gives ranges within `tasks`, and one range at a time to a worker.
            unsafe { entry(args.get(), scratch.get().wrapping_add(worker * stride), begin, end) };
        };
        if Deadline::current().is_set() {
            within_time(step, pool, &call);
        } else if step.parallel {
            pool.run(step.tasks, &call);
        } else if step.tasks > 0 {
            call(0, 0, step.tasks);
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

    fn check(&self, indices: &PlainTensor, extent: usize, loc: &str) -> Result<(), RunError> {
        let (from, wide) = (self.address(indices.at), indices.dtype == DType::I64);
        let n = extent as i64;
        for i in 0..indices.shape.iter().product::<usize>() {
            // SAFETY: the buffer holds a tensor of this dtype and shape (checked when the plan was made), so element
            // `i` can be read.
            let index = unsafe {
                match wide {
                    true => from.cast::<i64>().add(i).read_unaligned(),
                    false => from.cast::<i32>().add(i).read_unaligned().into(),
                }
            };
            if !(-n..n).contains(&index) {
                let reason = format!("index {index} is outside of {}..{n}", -n);
                let error = Box::new(OpError::Constraint { constraint: "C1", reason });
                return Err(RunError::Op { op: "tensor.gather".to_owned(), loc: loc.to_owned(), error });
            }
        }
        Ok(())
    }
}

/// Does a kernel's tasks in rounds until the time is up; the next step finds that it is.
fn within_time(step: &KernelStep, pool: &ThreadPool, call: &(dyn Fn(usize, u64, u64) + Sync)) {
    let round = if step.parallel { step.tasks.div_ceil(ROUNDS).max(pool.threads() as u64) } else { step.tasks.max(1) };
    let mut begin = 0;
    while begin < step.tasks && Deadline::current().check().is_ok() {
        let tasks = round.min(step.tasks - begin);
        match step.parallel {
            true => pool.run(tasks, &|worker, from, to| call(worker, begin + from, begin + to)),
            false => call(0, begin, begin + tasks),
        }
        begin += tasks;
    }
}

/// That the arena does not fit, and which result takes most of it.
fn no_arena(plan: &Plan, error: RunError) -> RunError {
    let RunError::Memory(TensorError::Memory { error, .. }) = error else { return error };
    let in_arena = |b: &usize| matches!(plan.flow.buffers[*b].place, ArenaPlace::Arena(_));
    let Some(largest) = (0..plan.flow.buffers.len()).filter(in_arena).max_by_key(|&b| plan.flow.buffers[b].bytes)
    else {
        return RunError::Memory(error.into());
    };
    let writes = |k: &&KernelStep| k.args.last().is_some_and(|at| at.buf == largest);
    let info = plan.kernel_steps().find(writes).map(|k| &k.info);
    let loc = info.map_or_else(String::new, |info| info.loc.join(", "));
    RunError::Arena { loc, bytes: Bytes(plan.flow.buffers[largest].bytes), error }
}

fn fits(t: &Tensor, to: &PlainTensor) -> bool {
    t.dtype() == to.dtype && t.shape() == to.shape
}

fn describe(to: &PlainTensor) -> String {
    TensorType::fixed(to.dtype, &to.shape).to_string()
}

fn check_inputs(ports: &[Port], inputs: &[Val]) -> Result<(), RunError> {
    if ports.len() != inputs.len() {
        return Err(RunError::InputCount { expected: ports.len(), found: inputs.len() });
    }
    for (port, input) in ports.iter().zip(inputs) {
        let found = input.ty();
        // A tensor in a buffer must have exactly the bytes that the plan was made for.
        let same = match &port.slot {
            Slot::Buffer(stored) => input.as_tensor().is_some_and(|t| fits(t, stored)),
            Slot::Value(_) | Slot::Constant(_) => port.ty.admits(&found),
        };
        if !same {
            return Err(RunError::InputType { name: port.name.clone(), found, expected: port.ty.plain() });
        }
    }
    Ok(())
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
