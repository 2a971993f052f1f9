//! The program as far as it is made: buffers, constants, kernels, steps, and how a family's work is undone when it declines.

use indexmap::IndexSet;
use optc_ir::TensorType;
use optc_kernel::nest::Kernel;
use optc_kernel::program::Point;
use optc_kernels::contract::{Contract, Schedule};
use optc_tensor::{Memory, Tensor, TensorError, element_count};
use optc_types::HostText;
use optc_types::steps::{BufRef, Info, KernelStep, Step};

use super::memory::{Draft, Kind};
use super::{LowerError, Region, View};

/// Work below this is done by the caller alone: waking a worker takes some microseconds.
const PARALLEL_FLOPS: f64 = 400e3;
/// The same for bytes moved.
const PARALLEL_BYTES: f64 = 128e3;

/// What is made of the nodes so far.
#[derive(Debug, Default)]
pub(super) struct Builder {
    pub drafts: Vec<Draft>,
    pub constants: Vec<Tensor>,
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
    pub info: Info,
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
    pub schedule: Schedule,
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
    drafts: usize,
    constants: usize,
    kernels: usize,
    points: usize,
    point: Option<usize>,
    held: Option<Held>,
}

impl Builder {
    /// A new buffer.
    pub fn buffer(&mut self, bytes: usize, kind: Kind) -> BufRef {
        self.drafts.push(Draft { bytes, kind, in_place: None });
        BufRef { buf: self.drafts.len() - 1, offset: 0 }
    }

    /// A buffer with constant bytes.
    pub fn constant(&mut self, tensor: Tensor) -> BufRef {
        let bytes = tensor.bytes().len();
        self.constants.push(tensor);
        self.buffer(bytes, Kind::Constant(self.constants.len() - 1))
    }

    /// A dense tensor in a buffer of its own.
    ///
    /// # Errors
    /// It is too large.
    pub fn dense(&mut self, ty: &TensorType, kind: Kind) -> Result<View, LowerError> {
        let shape = ty.static_shape().unwrap_or_default();
        let too_large = || TensorError::TooLarge(shape.clone());
        let bytes = element_count(&shape).and_then(|n| ty.dtype.bytes_for(n)).ok_or_else(too_large)?;
        if bytes > isize::MAX as usize / 2 {
            return Err(too_large().into());
        }
        if !matches!(kind, Kind::Constant(_)) {
            // Refused now, where its type is known, rather than when the arena is made.
            let no_memory = TensorError::no_memory(ty.dtype, &shape);
            Memory::current().claim(bytes).map_err(no_memory)?;
        }
        let at = self.buffer(bytes, kind);
        View::dense(at, ty).ok_or_else(|| LowerError::Graph(format!("{ty} has no strides")))
    }

    /// A new slot of the run's table.
    pub fn slot(&mut self) -> usize {
        self.values += 1;
        self.values - 1
    }

    /// Lets the result of a kernel, its last argument, lie where argument `from` does, if both are whole buffers.
    pub fn in_place(&mut self, args: &[BufRef], from: usize) {
        if let (Some(src), Some(dst)) = (args.get(from), args.last())
            && src.offset == 0
            && dst.offset == 0
        {
            self.drafts[dst.buf].in_place = Some(src.buf);
        }
    }

    /// Adds the step of a kernel.
    pub fn emit(&mut self, call: KernelCall) {
        let KernelCall { kernel, args, info, point } = call;
        let parallel = kernel.tasks > 1 && (info.flops >= PARALLEL_FLOPS || info.bytes >= PARALLEL_BYTES);
        let (tasks, scratch) = (kernel.tasks, kernel.scratch_bytes);
        self.emit_held(); // its kernel's number comes first
        let (kernel, _) = self.kernels.insert_full(kernel);
        self.step(Step::Kernel(KernelStep { kernel, args, tasks, scratch, parallel, point, info }));
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
            drafts: self.drafts.len(),
            constants: self.constants.len(),
            kernels: self.kernels.len(),
            points: self.points.len(),
            point: self.point,
            held: self.held.clone(),
        }
    }

    /// Undoes all since a mark.
    pub fn roll_back(&mut self, mark: Mark) {
        self.steps.truncate(mark.steps);
        self.drafts.truncate(mark.drafts);
        self.constants.truncate(mark.constants);
        self.kernels.truncate(mark.kernels);
        self.points.truncate(mark.points);
        self.point = mark.point;
        self.held = mark.held;
    }
}
