//! A compiled model as data: what `optc-lower` gives, and what code is made of.
//!
//! A program is made for a [`Target`] and says everything that is to be done there: its steps over buffers and slots,
//! its kernels as nests and tiles, its constants as kernels read them, the ops of the host as text. It holds no
//! function pointer and nothing of a process. `optc-emit` makes a plan of it, which the engine runs.

mod compact;
mod interp;
mod parse;
mod print;
mod report;
mod verify;

pub use interp::InterpretError;
pub use report::{Choice, Decision, NodeReport};
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
    /// One entry a node, in topological order.
    pub report: Vec<NodeReport>,
    /// Where there were several ways to make a kernel.
    pub points: Vec<Point>,
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
