//! The program as far as it is made: buffers, constants, kernels, steps, and how a family's work is undone when it
//! declines.

use std::collections::HashMap;

use indexmap::IndexSet;
use optc_ir::TensorType;
use optc_kernel::nest::Kernel;
use optc_kernel::program::{Point, Program};
use optc_kernels::contract::{Contract, ContractSchedule};
use optc_tensor::{Memory, Tensor, TensorError, element_count};
use optc_types::HostText;
use optc_types::steps::{ArenaPlace, BufRef, KernelBuffer, KernelStep, ProgramConstant, SeveralItems, Step, StepInfo};

use super::{LowerError, Region, TensorView};

/// What is made from the nodes so far.
#[derive(Debug, Default)]
pub(super) struct ProgramBuilder {
    pub buffers: Vec<KernelBuffer>,
    /// Where the next buffer of the arena begins: each has bytes of its own until the memory is planned.
    pub arena: usize,
    pub constants: Vec<ProgramConstant>,
    /// Buffers of constants, by their recipes and bytes.
    packed: HashMap<(String, usize), Vec<BufRef>>,
    pub steps: Vec<Step>,
    pub kernels: IndexSet<Kernel>,
    pub hosts: Vec<HostText>,
    pub regions: Vec<Region>,
    /// Slots of the run's table.
    pub values: usize,
    /// Choice points, and which of them is open.
    pub points: Vec<Point>,
    pub point: Option<usize>,
    /// The contraction that is emitted before the next step, unless the next node takes it into a kernel of its own.
    pub held: Option<Held>,
}

/// A kernel with its arguments, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct KernelCall {
    pub kernel: Kernel,
    pub args: Vec<BufRef>,
    /// The argument that the last one may overwrite.
    pub in_place: Option<usize>,
    pub info: StepInfo,
    /// Kernels for several items of a batch, most items first.
    pub several: Vec<(usize, Kernel)>,
    /// The choice point that made it.
    pub point: Option<usize>,
}

/// A contraction that waits for the next node, and the places of its buffers.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub contract: Contract,
    pub a: BufRef,
    pub b: BufRef,
    pub places: Vec<BufRef>,
    pub schedule: ContractSchedule,
    /// Its own kernel.
    pub call: KernelCall,
}

impl Held {
    /// Where its result goes.
    pub fn dst(&self) -> Option<BufRef> {
        self.call.args.last().copied()
    }
}

/// What a roll-back restores: how many there were of each.
pub(super) struct Mark {
    steps: usize,
    buffers: usize,
    arena: usize,
    constants: usize,
    kernels: usize,
    points: usize,
    point: Option<usize>,
    held: Option<Held>,
}

impl ProgramBuilder {
    /// A new buffer.
    pub fn buffer(&mut self, bytes: usize, place: ArenaPlace) -> BufRef {
        self.buffers.push(KernelBuffer { bytes, place, each: false });
        BufRef { buf: self.buffers.len() - 1, offset: 0 }
    }

    /// A new buffer in the arena.
    pub fn temp(&mut self, bytes: usize) -> BufRef {
        let at = self.buffer(bytes, ArenaPlace::Arena(self.arena));
        self.arena = self.arena.saturating_add(Program::room(bytes));
        at
    }

    /// A buffer with constant bytes: one that exists already, where those are the same and made in the same way.
    pub fn constant(&mut self, constant: ProgramConstant) -> BufRef {
        let bytes = constant.tensor.bytes().len();
        let key = (constant.recipe.clone(), bytes);
        let same = |at: &BufRef| match self.buffers.get(at.buf).map(|buffer| buffer.place) {
            Some(ArenaPlace::Constant(i)) => self.constants.get(i).is_some_and(|known| is_same(known, &constant)),
            _ => false, // a family had made it that declined
        };
        if let Some(at) = self.packed.get(&key).and_then(|places| places.iter().copied().find(same)) {
            return at;
        }
        self.constants.push(constant);
        let at = self.buffer(bytes, ArenaPlace::Constant(self.constants.len() - 1));
        self.packed.entry(key).or_default().push(at);
        at
    }

    /// A dense tensor in a buffer of its own: in the arena, or where `place` says.
    ///
    /// # Errors
    /// It is too large.
    pub fn dense(&mut self, ty: &TensorType, place: Option<ArenaPlace>) -> Result<TensorView, LowerError> {
        let shape = ty.static_shape().unwrap_or_default();
        let too_large = || TensorError::TooLarge(shape.clone());
        let bytes = element_count(&shape).and_then(|n| ty.dtype.bytes_for(n)).ok_or_else(too_large)?;
        if bytes > isize::MAX as usize / 2 {
            return Err(too_large().into());
        }
        // Refused now, where its type is known, rather than when the arena is made.
        let no_memory = TensorError::no_memory(ty.dtype, &shape);
        Memory::current().claim(bytes).map_err(no_memory)?;
        let at = match place {
            Some(place) => self.buffer(bytes, place),
            None => self.temp(bytes),
        };
        TensorView::dense(at, ty).ok_or_else(|| LowerError::Graph(format!("{ty} has no strides")))
    }

    /// A new slot of the run's table.
    pub fn slot(&mut self) -> usize {
        self.values += 1;
        self.values - 1
    }

    /// Adds the step of a kernel.
    pub fn emit(&mut self, call: KernelCall) {
        let KernelCall { kernel, args, in_place, info, several, point } = call;
        let parallel = info.is_parallel(kernel.tasks, 1);
        let (tasks, scratch) = (kernel.tasks, kernel.scratch_bytes);
        self.emit_held(); // its kernel's number comes first
        let (kernel, _) = self.kernels.insert_full(kernel);
        let several = several.into_iter().map(|(items, kernel)| {
            let (tasks, scratch) = (kernel.tasks, kernel.scratch_bytes);
            SeveralItems { items, kernel: self.kernels.insert_full(kernel).0, tasks, scratch }
        });
        let several = several.collect();
        self.step(Step::Kernel(KernelStep { kernel, args, tasks, scratch, in_place, parallel, several, point, info }));
    }

    /// Adds a step; what is held comes before it.
    pub fn step(&mut self, step: Step) {
        self.emit_held();
        self.steps.push(step);
    }

    /// Lets the next node see a contraction before it is emitted.
    pub fn hold(&mut self, held: Held) {
        self.emit_held();
        self.held = Some(held);
    }

    /// Emits the contraction that waits for the next step.
    pub fn emit_held(&mut self) {
        if let Some(held) = self.held.take() {
            self.emit(held.call);
        }
    }

    /// What there is now.
    pub fn mark(&self) -> Mark {
        Mark {
            steps: self.steps.len(),
            buffers: self.buffers.len(),
            arena: self.arena,
            constants: self.constants.len(),
            kernels: self.kernels.len(),
            points: self.points.len(),
            point: self.point,
            held: self.held.clone(),
        }
    }

    /// Undoes everything since a mark.
    pub fn roll_back(&mut self, mark: Mark) {
        self.steps.truncate(mark.steps);
        self.buffers.truncate(mark.buffers);
        self.arena = mark.arena;
        self.constants.truncate(mark.constants);
        self.kernels.truncate(mark.kernels);
        self.points.truncate(mark.points);
        self.point = mark.point;
        self.held = mark.held;
    }
}

/// Whether two constants are of the same values in the same form: different ones differ early, as a rule.
fn is_same(a: &ProgramConstant, b: &ProgramConstant) -> bool {
    let types = |c: &ProgramConstant| (c.tensor.dtype(), c.tensor.shape().to_vec());
    let same = |a: &Tensor, b: &Tensor| a.shares_bytes(b) || a.bytes() == b.bytes();
    a.recipe == b.recipe && types(a) == types(b) && same(&a.tensor, &b.tensor)
}
