//! A compiled model as data: what `optc-lower` gives, and what code is made from.
//!
//! A program is made for a [`Target`] and says everything that is to be done there: its steps over buffers and slots,
//! its kernels as nests and tiles, its constants as kernels read them, the ops of the host as text. It holds no
//! function pointer and nothing of a process. Regions of control flow whose types are static are programs in it.
//! `optc-emit` makes a plan from it, which the engine runs.

mod batch;
mod compact;
mod interp;
mod memory;
mod parse;
mod parse_steps;
mod print;
mod report;
mod report_text;
mod verify;

pub use batch::NoBatch;
pub use interp::InterpretError;
pub use report::{Choice, Decision, Filtered, NodeReport};
pub use verify::ProgramError;

use optc_tensor::Tensor;
use optc_types::HostText;
use optc_types::steps::Flow;

use crate::nest::Kernel;
use crate::target::Target;

/// A compiled model. See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// What it was made for.
    pub target: Target,
    /// What to do with which bytes.
    pub flow: Flow,
    /// The kernels that steps name.
    pub kernels: Vec<Kernel>,
    /// The ops of the host that steps name.
    pub hosts: Vec<HostText>,
    /// The regions of these ops that have static types, as programs of their own.
    pub bodies: Vec<ProgramBody>,
    /// One entry a node, in topological order.
    pub report: Vec<NodeReport>,
    /// Where there were several ways to make a kernel.
    pub points: Vec<Point>,
}

/// The region of a control-flow op as a program: run in place of the region where the types are those of its inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramBody {
    /// The number of the op among those of the host.
    pub host: usize,
    /// The number of the region among the op's.
    pub region: usize,
    /// What it does, for the same target.
    pub program: Program,
}

/// A program's text and the constants that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramText {
    /// The text.
    pub text: String,
    /// `(name, data)` of all constants.
    pub constants: Vec<(String, Tensor)>,
}

/// A choice point that a lowering met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// What is computed.
    pub key: String,
    /// The ways to compute it, the cost model's choice first.
    pub options: Vec<String>,
    /// The number of the option that was taken.
    pub taken: usize,
    /// The point that this one is a part of, by number: there it is met only under some options.
    pub within: Option<usize>,
}

impl Program {
    /// It, the programs in it, and those in these.
    pub fn all(&self) -> Vec<&Program> {
        let inner = self.bodies.iter().flat_map(|body| body.program.all());
        std::iter::once(self).chain(inner).collect()
    }

    /// Its kernels, then those of the programs in it: their order in machine code.
    pub fn all_kernels(&self) -> Vec<&Kernel> {
        self.all().into_iter().flat_map(|program| &program.kernels).collect()
    }

    /// Cuts all kernels to their [declarations](Kernel::declaration).
    pub fn declare(&mut self) {
        self.kernels.iter_mut().for_each(|kernel| *kernel = kernel.declaration());
        self.bodies.iter_mut().for_each(|body| body.program.declare());
    }
}
