//! From a graph to a program: kernels, buffers and steps.
//!
//! Ops are visited in topological order. An op with a static type and a kernel family becomes kernel steps; one that
//! only reinterprets bytes becomes a [`TensorView`]; every other op becomes a host step, with the reason in the report.
//! Values live in buffers where their shape is known, else in slots of the run's table.
//!
//! A family is a function of a [`Cx`] and a [`Site`], in a file named after the op: the context is all that it may
//! touch. It may decline: what it had emitted is rolled back, and the op runs on the host. Which layout a result gets
//! is its type's encoding; families look at views, never at the encoding of an operand's type. Regions that no family
//! takes are split before (`split.rs`).
//!
//! In: a verified graph, a target, and a machine that times forms of products. Out: a program. This crate must not know
//! ONNX, passes or machine code, nor ask the machine that it runs on. Start in `nodes.rs`, which visits the ops, and
//! `families.rs`, which says who lowers each; `pool.rs` is a short family.
#![forbid(unsafe_code)]

mod arrange;
mod attention;
mod bf16;
mod builder;
mod contract;
mod conv;
mod conv_transpose;
mod cx;
mod dots;
mod dynamic;
mod elementwise;
mod families;
mod finish;
mod fold;
mod fused;
mod gather;
mod host;
mod integers;
#[cfg(test)]
mod interpreted;
mod mapped;
mod matmul;
mod movement;
mod moves;
mod nodes;
mod operands;
mod packed;
mod places;
mod pool;
mod product;
mod quant_conv;
mod quantize;
mod recurrent;
mod report;
mod rotary;
mod scaled;
mod separable;
mod several;
mod shape;
mod site;
mod sparse;
mod split;
mod stored;
mod tune;
mod view;
mod weights;
mod winograd;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use builder::ProgramBuilder;
use cx::{Cx, Notes};
use optc_ir::{Encoding, Graph, NoExpression, NodeId, Value, Verified};
use optc_kernel::program::{NoBatch, NodeReport, Program};
use optc_kernel::target::Target;
use optc_kernels::profile::Profile;
use optc_tensor::{Claim, ConstantFacts, Memory, TensorError};
use optc_types::steps::{ArenaPlace, Port, Slot};
use optc_types::{Machine, Reason, ReasonCode};
pub use packed::PackedConstants;
use places::{Loc, Places, buffered, stored};
use site::{Epilogue, Site};
pub use tune::Tuning;
use view::{TensorView, strides_in};

/// Why a graph could not be lowered.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// The graph is not sound: a bug of the pass before.
    #[error("the graph cannot be lowered: {0}")]
    Graph(String),
    /// A value is too large.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The program is none for a batch.
    #[error(transparent)]
    Batch(#[from] NoBatch),
    /// A result of a node is too large.
    #[error("`{op}` at {loc}: {error}")]
    Node {
        /// The op.
        op: &'static str,
        /// The ONNX nodes that it came from.
        loc: String,
        /// What is wrong.
        error: TensorError,
    },
}

/// Why a kernel family does not take an op.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declined(pub Reason);

impl Declined {
    /// A reason.
    pub fn new(code: ReasonCode, sentence: impl Into<String>) -> Declined {
        Declined(Reason::new(code, sentence))
    }
}

impl From<TensorError> for Declined {
    fn from(error: TensorError) -> Declined {
        let code = match error {
            TensorError::Work(_) => ReasonCode::Memory,
            _ => ReasonCode::Numbers,
        };
        Declined::new(code, error.to_string())
    }
}

impl From<NoExpression> for Declined {
    fn from(error: NoExpression) -> Declined {
        let code = match error {
            NoExpression::DTypes | NoExpression::Conversion(_) => ReasonCode::Numbers,
            NoExpression::Absent => ReasonCode::Absent,
            NoExpression::Constant(_) => ReasonCode::NotConstant,
            NoExpression::Attributes(_) => ReasonCode::Attribute,
        };
        Declined::new(code, error.to_string())
    }
}

/// Claims memory that a family works with.
///
/// # Errors
/// There is none.
fn room(bytes: usize) -> Result<Claim, Declined> {
    Memory::current().claim(bytes).map_err(|e| Declined::new(ReasonCode::Memory, e.to_string()))
}

/// What a kernel family returns.
pub type Lowered = Result<(), Declined>;

/// What a lowering goes by besides the target.
#[derive(Clone, Debug)]
pub struct LowerOptions {
    /// The options to take at choice points.
    pub tuning: Tuning,
    /// Threads that pack weights.
    pub threads: usize,
    /// Who chooses between forms of a product; the profile of the target's row where it is not given.
    pub machine: Option<Arc<dyn Machine>>,
    /// What was packed for other programs of the same model.
    pub packed: PackedConstants,
    /// What is known of its constants.
    pub facts: ConstantFacts,
    /// Whether the program is left as it is before its rewrites, to be looked at: each buffer has bytes of its own,
    /// and copies into other layouts are not kernels yet.
    pub draft: bool,
    /// Whose outermost dim is a batch, where the program is to be one for any number of items: the graph is that of one
    /// item.
    pub batch: Option<BatchPorts>,
}

/// The inputs and outputs whose outermost dim is a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPorts {
    /// For each input, whether it is one.
    pub inputs: Vec<bool>,
    /// The same of the outputs.
    pub outputs: Vec<bool>,
}

impl Default for LowerOptions {
    /// The choices of the target's row, on one thread.
    fn default() -> LowerOptions {
        LowerOptions {
            tuning: Tuning::default(),
            threads: 1,
            machine: None,
            packed: PackedConstants::default(),
            facts: ConstantFacts::default(),
            draft: false,
            batch: None,
        }
    }
}

/// Lowers a verified graph to a program: its kernels are made for the types that it declares.
///
/// The graph's constants are taken out and freed as soon as they are packed.
///
/// # Errors
/// A value is too large.
pub fn lower(graph: Verified, target: &Target, options: LowerOptions) -> Result<Program, LowerError> {
    Ok(lower_with_regions(graph, target, options)?.0)
}

/// [`lower`], with the regions of control-flow ops that have static types, to be lowered as well.
///
/// # Errors
/// As [`lower`].
pub fn lower_with_regions(
    graph: Verified,
    target: &Target,
    options: LowerOptions,
) -> Result<(Program, Vec<Region>), LowerError> {
    let mut lowering = Lowering::new(graph, *target, options)?;
    lowering.nodes()?;
    let regions = std::mem::take(&mut lowering.out.regions);
    Ok((lowering.finish()?, regions))
}

/// A region of a control-flow op.
#[derive(Debug)]
pub struct Region {
    /// The op's number among those of the host.
    pub host: usize,
    /// The region's number among the op's.
    pub region: usize,
    /// What it does.
    pub graph: Graph,
}

/// The state of a lowering.
struct Lowering {
    graph: Graph,
    /// Nodes whose declared shapes only the values themselves can show to be right: they run on the host, which checks.
    unproven: HashSet<NodeId>,
    /// Why nodes are not in the fused region that they were in.
    split: HashMap<NodeId, String>,
    target: Target,
    options: LowerOptions,
    machine: Arc<dyn Machine>,
    places: Places,
    out: ProgramBuilder,
    inputs: Vec<Port>,
    report: Vec<NodeReport>,
}

impl Lowering {
    fn new(graph: Verified, target: Target, options: LowerOptions) -> Result<Lowering, LowerError> {
        let (mut graph, unproven) = graph.into_parts();
        let split = split::regions(&mut graph, &unproven);
        let machine = options.machine.clone().unwrap_or_else(|| Arc::new(Profile::of(target.isa)));
        let (places, out) = (Places::of_constants(&mut graph), ProgramBuilder::default());
        let (inputs, report) = (vec![], vec![]);
        let mut lowering = Lowering { graph, unproven, split, target, options, machine, places, out, inputs, report };
        lowering.take_inputs()?;
        Ok(lowering)
    }

    /// The context of a node that came from an ONNX node.
    fn cx<'a>(&'a mut self, of: &'a str) -> Cx<'a> {
        Cx {
            graph: &self.graph,
            target: self.target,
            batch: self.options.batch.is_some(),
            threads: self.options.threads,
            tuning: &self.options.tuning,
            machine: &*self.machine,
            packed: &self.options.packed,
            facts: &self.options.facts,
            places: &mut self.places,
            out: &mut self.out,
            of,
            notes: Notes::default(),
        }
    }

    fn take_inputs(&mut self) -> Result<(), LowerError> {
        let inputs: Vec<Value> = self.graph.inputs().collect();
        for (i, value) in inputs.into_iter().enumerate() {
            let ty = self.graph.ty(value).clone();
            let name = self.graph.input_name(value).unwrap_or_default().to_owned();
            let slot = match buffered(&ty) {
                Some(t) => {
                    let view = self.out.dense(&t.with_encoding(Encoding::Plain), Some(ArenaPlace::Input(i)))?;
                    let slot = Slot::Buffer(stored(&view));
                    self.places.set(value, Loc::View(view));
                    slot
                }
                None => {
                    let v = self.out.slot();
                    self.places.set(value, Loc::Slot(v));
                    Slot::Value(v)
                }
            };
            self.inputs.push(Port { name, ty, slot });
        }
        Ok(())
    }
}
