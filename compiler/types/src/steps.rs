//! What a program does, as data that its maker and the engine share: buffers (bytes with a place), slots (values whose
//! shape is known only at run time), and steps over them. Kernels and host ops are named by number.

use optc_tensor::{DType, Tensor};

use crate::Type;

/// The number of a buffer in a plan's list.
pub type BufId = usize;

/// Where the bytes of a buffer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArenaPlace {
    /// At this offset of the arena, which is aligned to 64 bytes; of an item's part of it, where each has one: with `n`
    /// items at once the buffer begins at `n` times the offset.
    Arena(usize),
    /// The bytes of the constant with this number.
    Constant(usize),
    /// The bytes of the graph input with this number.
    Input(usize),
    /// The bytes of the graph output with this number.
    Output(usize),
}

/// Weights or a table as kernels read them. Plans of one model may share those whose `of` and `recipe` are the same:
/// they are made in the same way from the same values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramConstant {
    /// What it is made from: the first ONNX node that reads it.
    pub of: String,
    /// How: which operand, and the form that it is packed in.
    pub recipe: String,
    /// The bytes.
    pub tensor: Tensor,
}

/// Bytes that kernels work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelBuffer {
    /// How many; of one item, where each has its own.
    pub bytes: usize,
    /// Where.
    pub place: ArenaPlace,
    /// Whether each item of a [batch](Flow::batch) has bytes of its own: those of item `i` begin at `i * bytes`.
    pub each: bool,
}

/// A place in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BufRef {
    /// The buffer.
    pub buf: BufId,
    /// Bytes from its start.
    pub offset: usize,
}

/// A plainly laid out tensor in a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainTensor {
    /// Its first byte.
    pub at: BufRef,
    /// Its dtype.
    pub dtype: DType,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl PlainTensor {
    /// The bytes that it takes; its size was checked when the plan was made.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bits() / 8
    }
}

/// A value that a host step reads or writes, or that enters or leaves the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// A tensor in a buffer.
    Buffer(PlainTensor),
    /// A value of the run's own table, which may have any type and shape.
    Value(usize),
    /// A constant.
    Constant(Tensor),
}

/// A graph input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The name that users know it by.
    pub name: String,
    /// Its type: static for an input or output that lies in a buffer.
    pub ty: Type,
    /// Where it is.
    pub slot: Slot,
}

/// What is known of a step for profiles and reports.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepInfo {
    /// The kernel's or the op's name.
    pub name: String,
    /// The ONNX nodes that it came from.
    pub loc: Vec<String>,
    /// Floating point operations, a multiply-add counting as two.
    pub flops: f64,
    /// Bytes read and written at least once.
    pub bytes: f64,
    /// How a product is cut into tiles and blocks, in words; empty where nothing is chosen.
    pub schedule: String,
}

/// Numbers of operations and bytes are never NaN.
impl Eq for StepInfo {}

/// A kernel that does for several items of a batch what another one does for each: its buffers are those of the other,
/// but of which each item has its own are as many times as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeveralItems {
    /// How many, more than one.
    pub items: usize,
    /// The kernel's number.
    pub kernel: usize,
    /// How many tasks it has.
    pub tasks: u64,
    /// Private bytes that each worker must have.
    pub scratch: usize,
}

/// The call of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelStep {
    /// The kernel's number in the code object.
    pub kernel: usize,
    /// Its buffers.
    pub args: Vec<BufRef>,
    /// How many tasks it has.
    pub tasks: u64,
    /// Private bytes that each worker must have.
    pub scratch: usize,
    /// The argument whose bytes the last one may have, where those end here: the kernel reads each element there before
    /// it writes it, in the same task.
    pub in_place: Option<usize>,
    /// Whether the work is worth waking other threads.
    pub parallel: bool,
    /// Kernels that do the same for several items of a batch at once, those for most items first.
    pub several: Vec<SeveralItems>,
    /// The choice point that made it one of several possible kernels: its number in the program's list.
    pub point: Option<usize>,
    /// For reports.
    pub info: StepInfo,
}

/// An op that runs without a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostStep {
    /// The op's number in the plan's list.
    pub host: usize,
    /// Its operands.
    pub operands: Vec<Option<Slot>>,
    /// Its results; `None` for one that nobody uses.
    pub results: Vec<Option<Slot>>,
    /// For reports.
    pub info: StepInfo,
}

/// A copy of a tensor into another layout. Lowering says what is to be moved; a rewrite makes a kernel from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrange {
    /// The extents.
    pub shape: Vec<usize>,
    /// Bytes of an element.
    pub width: usize,
    /// From here, and bytes from one index of each dim to the next: not negative.
    pub src: (BufRef, Vec<i64>),
    /// To there.
    pub dst: (BufRef, Vec<i64>),
    /// The choice point that it belongs to.
    pub point: Option<usize>,
    /// For reports.
    pub info: StepInfo,
}

impl Arrange {
    /// Bytes from the first element of the source to the end of the last one; none where that is not a place in memory.
    pub fn src_bytes(&self) -> Option<usize> {
        self.span(&self.src.1)
    }

    /// The same for the result.
    pub fn dst_bytes(&self) -> Option<usize> {
        self.span(&self.dst.1)
    }

    fn span(&self, strides: &[i64]) -> Option<usize> {
        if strides.len() != self.shape.len() {
            return None;
        }
        if self.shape.contains(&0) {
            return Some(0);
        }
        let step = |(&n, &stride): (&usize, &i64)| (n - 1).checked_mul(usize::try_from(stride).ok()?);
        let last = self.shape.iter().zip(strides).map(step).try_fold(0usize, |sum, step| sum.checked_add(step?));
        last?.checked_add(self.width)
    }

    /// Bytes of all elements; none where that is more than there can be.
    pub fn element_bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.width, |bytes, &n| bytes.checked_mul(n))
    }

    /// Calls `each` with the offsets of each element in the source and in the result; strides are as many as dims.
    pub fn for_each(&self, mut each: impl FnMut(usize, usize)) {
        let mut index = vec![0; self.shape.len()];
        for _ in 0..self.shape.iter().product::<usize>() {
            let at = |strides: &[i64]| index.iter().zip(strides).map(|(&i, &s)| i * s as usize).sum();
            each(at(&self.src.1), at(&self.dst.1));
            for (i, &n) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < n {
                    break;
                }
                *i = 0;
            }
        }
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A compiled kernel.
    Kernel(KernelStep),
    /// An op on the host.
    Host(HostStep),
    /// A copy of bytes.
    Copy {
        /// From here.
        src: BufRef,
        /// To there.
        dst: BufRef,
        /// This many.
        bytes: usize,
    },
    /// A copy into another layout.
    Arrange(Arrange),
    /// A value of the run's table into a buffer, whose type it must have.
    Load {
        /// The value.
        value: usize,
        /// Where to.
        to: PlainTensor,
        /// For errors.
        loc: String,
    },
    /// A check that indices, `i32` or `i64`, lie in `-extent..extent`; what they address comes after it.
    Check {
        /// The indices.
        indices: PlainTensor,
        /// What they index.
        extent: usize,
        /// For errors.
        loc: String,
    },
    /// A check that lengths or positions, `i32` or `i64`, lie in `0..=most`; what they bound comes after it.
    CheckLengths {
        /// The lengths.
        lengths: PlainTensor,
        /// The longest one that there may be.
        most: usize,
        /// The op that they are an operand of, for errors.
        op: String,
        /// For errors.
        loc: String,
    },
}

/// How a flow goes through the items of a batch: so many at once, step by step, then the next ones. Types of ports with
/// a batch are those of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Items at once, at least one.
    pub block: usize,
    /// Bytes of the arena that each of them has.
    pub item_bytes: usize,
}

/// What a compiled model does, whoever computes its kernels: what goes in and out, the bytes, and what is done in
/// order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flow {
    /// The graph's inputs.
    pub inputs: Vec<Port>,
    /// The graph's outputs.
    pub outputs: Vec<Port>,
    /// The buffers.
    pub buffers: Vec<KernelBuffer>,
    /// Weights and tables, each once.
    pub constants: Vec<ProgramConstant>,
    /// Bytes of the arena that are there once.
    pub arena_bytes: usize,
    /// Where the outermost dim of inputs and outputs is a batch, whose extent is known when a run begins: steps that
    /// name a buffer that [each](KernelBuffer::each) item has are done for each item.
    pub batch: Option<Batch>,
    /// How many values the run's table has.
    pub values: usize,
    /// What to do, in order.
    pub steps: Vec<Step>,
}

impl KernelBuffer {
    /// Bytes from one item of a batch to the next.
    pub fn stride(&self) -> usize {
        if self.each { self.bytes } else { 0 }
    }
}

/// Work below this is done by the caller alone: waking a worker takes some microseconds.
const PARALLEL_FLOPS: f64 = 400e3;
/// The same for bytes moved.
const PARALLEL_BYTES: f64 = 128e3;

impl StepInfo {
    /// Whether so many tasks that do this together, so many times over, are worth waking other threads.
    pub fn is_parallel(&self, tasks: u64, times: usize) -> bool {
        tasks > 1 && (self.flops * times as f64 >= PARALLEL_FLOPS || self.bytes * times as f64 >= PARALLEL_BYTES)
    }
}

impl Flow {
    /// Whether a step is done for each item of a batch.
    pub fn is_repeated(&self, step: &Step) -> bool {
        step.places().iter().any(|at| self.buffers[at.buf].each)
    }

    /// Whether a port's outermost dim is the batch.
    pub fn is_batched(&self, port: &Port) -> bool {
        matches!(&port.slot, Slot::Buffer(stored) if self.buffers[stored.at.buf].each)
    }

    /// Bytes of the arena for a run of so many items; more than there can be, where it is too large.
    pub fn arena_for(&self, items: usize) -> usize {
        let batch = self.batch.map_or(0, |batch| batch.item_bytes.saturating_mul(items.min(batch.block)));
        self.arena_bytes.saturating_add(batch)
    }
}

impl KernelStep {
    /// The buffers that may have one place: whose bytes end here, and the result. Both are whole.
    pub fn shares(&self) -> Option<(BufId, BufId)> {
        let (from, to) = (self.args.get(self.in_place?)?, self.args.last()?);
        (from.offset == 0 && to.offset == 0).then_some((from.buf, to.buf))
    }
}

impl Slot {
    /// The place in a buffer, if it is there.
    pub fn place_mut(&mut self) -> Option<&mut BufRef> {
        if let Slot::Buffer(stored) = self { Some(&mut stored.at) } else { None }
    }
}

impl Step {
    /// The places that it reads or writes.
    pub fn places(&self) -> Vec<BufRef> {
        let of = |slot: &Option<Slot>| match slot {
            Some(Slot::Buffer(stored)) => Some(stored.at),
            _ => None,
        };
        match self {
            Step::Kernel(k) => k.args.clone(),
            Step::Host(h) => h.operands.iter().chain(&h.results).filter_map(of).collect(),
            Step::Copy { src, dst, .. } => vec![*src, *dst],
            Step::Arrange(a) => vec![a.src.0, a.dst.0],
            Step::Load { to, .. } => vec![to.at],
            Step::Check { indices: checked, .. } | Step::CheckLengths { lengths: checked, .. } => vec![checked.at],
        }
    }

    /// The same, to be changed.
    pub fn places_mut(&mut self) -> Vec<&mut BufRef> {
        match self {
            Step::Kernel(k) => k.args.iter_mut().collect(),
            Step::Host(h) => {
                h.operands.iter_mut().chain(&mut h.results).flatten().filter_map(Slot::place_mut).collect()
            }
            Step::Copy { src, dst, .. } => vec![src, dst],
            Step::Arrange(a) => vec![&mut a.src.0, &mut a.dst.0],
            Step::Load { to, .. } => vec![&mut to.at],
            Step::Check { indices: checked, .. } | Step::CheckLengths { lengths: checked, .. } => {
                vec![&mut checked.at]
            }
        }
    }
}
