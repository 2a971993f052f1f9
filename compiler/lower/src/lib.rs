//! From a graph to a program: kernels, buffers and steps.
//!
//! Ops are visited in topological order. An op with a static type and a kernel family becomes kernel steps; one that only
//! reinterprets bytes becomes a [`View`]; every other op becomes a host step, with the reason in the report. Values live in buffers
//! where their shape is known, else in slots of the run's table.
//!
//! A family is a function from a [`Site`] to steps, in a file called like the op. It may decline: what it had emitted is
//! rolled back, and the op runs on the host. Which layout a result gets is its type's encoding; families look at views, never
//! at the encoding of an operand's type.
#![forbid(unsafe_code)]

mod attention;
mod bf16;
mod contract;
mod conv;
mod conv_transpose;
mod dynamic;
mod elementwise;
mod families;
mod finish;
mod fold;
mod fused;
mod gather;
mod host;
#[cfg(test)]
mod interpreted;
mod mapped;
mod matmul;
mod memory;
mod movement;
mod pool;
mod product;
mod quant_conv;
mod quantize;
mod recurrent;
mod report;
mod separable;
mod shape;
mod site;
mod sparse;
mod store;
mod tune;
mod view;
mod winograd;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use indexmap::{IndexMap, IndexSet};
use memory::{Draft, Kind};
use optc_ir::{Encoding, Graph, Node, NodeId, Op, TensorType, Type, Value, Verified};
use optc_kernel::nest::Kernel;
use optc_kernel::program::{Choice, Decision, Filtered, NodeReport, Point, Program};
use optc_kernel::target::Target;
use optc_kernels::profile::Profile;
use optc_tensor::{Claim, DType, Memory, Tensor, TensorError};
use optc_types::steps::{Port, Slot, Step, Stored};
use optc_types::{HostText, Machine, Product};
pub use site::{Epilogue, Site};
pub use tune::Tuning;
pub use view::{View, strides_in};

/// Why a graph could not be lowered.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// The graph is not sound: a bug of the pass before.
    #[error("the graph cannot be lowered: {0}")]
    Graph(String),
    /// A value is too large.
    #[error(transparent)]
    Tensor(#[from] TensorError),
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
pub struct Declined(pub String);

impl Declined {
    /// A reason.
    pub fn new(reason: impl Into<String>) -> Declined {
        Declined(reason.into())
    }
}

impl From<TensorError> for Declined {
    fn from(error: TensorError) -> Declined {
        Declined(error.to_string())
    }
}

/// Claims memory that a family works with.
///
/// # Errors
/// There is none.
fn room(bytes: usize) -> Result<Claim, Declined> {
    Memory::current().claim(bytes).map_err(|e| Declined(e.to_string()))
}

/// What a kernel family returns.
pub type Lowered = Result<(), Declined>;

/// What a lowering goes by beside the target.
#[derive(Clone, Debug)]
pub struct Options {
    /// The options to take at choice points.
    pub tuning: Tuning,
    /// Threads that pack weights.
    pub threads: usize,
    /// Who chooses between forms of a product; the profile of the target's row where it is not given.
    pub machine: Option<Arc<dyn Machine>>,
}

impl Default for Options {
    /// The choices of the target's row, on one thread.
    fn default() -> Options {
        Options { tuning: Tuning::default(), threads: 1, machine: None }
    }
}

/// Lowers a verified graph to a program: its kernels are made for the types that it declares.
///
/// The graph's constants are taken out and freed as soon as they are packed.
///
/// # Errors
/// A value is too large.
pub fn lower(graph: Verified, target: &Target, options: Options) -> Result<Program, LowerError> {
    Ok(lower_with_regions(graph, target, options)?.0)
}

/// [`lower`], with the regions of control-flow ops that have static types, to be lowered as well.
///
/// # Errors
/// As [`lower`].
pub fn lower_with_regions(
    graph: Verified,
    target: &Target,
    options: Options,
) -> Result<(Program, Vec<Region>), LowerError> {
    let mut lowering = Lowering::new(graph, *target, options)?;
    lowering.nodes()?;
    let regions = std::mem::take(&mut lowering.regions);
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

/// Where a value is.
#[derive(Clone, Debug)]
enum Loc {
    View(View),
    Slot(usize),
    Constant(Tensor),
}

/// The state of a lowering; kernel families emit through it.
pub struct Lowering {
    graph: Graph,
    /// Nodes of which only the values themselves show that the declared shapes are right: they run on the host, which looks.
    unproven: HashSet<NodeId>,
    /// What is compiled for.
    pub target: Target,
    locs: HashMap<Value, Loc>,
    /// Copies of values in other layouts, and constants that were put into buffers.
    copies: IndexMap<(Value, Encoding), View>,
    uses_left: HashMap<Value, usize>,
    drafts: Vec<Draft>,
    constants: Vec<Tensor>,
    steps: Vec<Step>,
    kernels: IndexSet<Kernel>,
    hosts: Vec<HostText>,
    regions: Vec<Region>,
    values: usize,
    inputs: Vec<Port>,
    report: Vec<NodeReport>,
    /// Kernels of the node at hand, for the report.
    names: Vec<String>,
    /// Dense or sparse, for the node at hand.
    choice: Option<Choice>,
    /// The tiles in which the node at hand is filtered.
    filtered: Option<Filtered>,
    /// What the node at hand multiplies.
    product: Option<Product>,
    /// Why the node at hand is not one kernel with the product before it.
    apart: Option<&'static str>,
    options: Options,
    machine: Arc<dyn Machine>,
    points: Vec<Point>,
    /// The choice point that is open.
    point: Option<usize>,
    /// The contraction that is emitted before the next step, unless the next node takes it into a kernel of its own.
    held: Option<separable::Held>,
}

impl Lowering {
    fn new(graph: Verified, target: Target, options: Options) -> Result<Lowering, LowerError> {
        let (graph, unproven) = graph.into_parts();
        let machine = options.machine.clone().unwrap_or_else(|| Arc::new(Profile::of(target.isa)));
        let mut lowering = Lowering {
            graph,
            unproven,
            target,
            locs: HashMap::new(),
            copies: IndexMap::new(),
            uses_left: HashMap::new(),
            drafts: Vec::new(),
            constants: Vec::new(),
            steps: Vec::new(),
            kernels: IndexSet::new(),
            hosts: Vec::new(),
            regions: Vec::new(),
            values: 0,
            inputs: Vec::new(),
            report: Vec::new(),
            names: Vec::new(),
            choice: None,
            filtered: None,
            product: None,
            apart: None,
            options,
            machine,
            points: Vec::new(),
            point: None,
            held: None,
        };
        lowering.take_inputs()?;
        lowering.take_constants();
        Ok(lowering)
    }

    fn take_inputs(&mut self) -> Result<(), LowerError> {
        let inputs: Vec<Value> = self.graph.inputs().collect();
        for (i, value) in inputs.into_iter().enumerate() {
            let ty = self.graph.ty(value).clone();
            let name = self.graph.input_name(value).unwrap_or_default().to_owned();
            let slot = match buffered(&ty) {
                Some(t) => {
                    let view = self.dense(&t.with_encoding(Encoding::Plain), Kind::Input(i))?;
                    let slot = Slot::Buffer(stored(&view));
                    self.locs.insert(value, Loc::View(view));
                    slot
                }
                None => {
                    let v = self.slot();
                    self.locs.insert(value, Loc::Slot(v));
                    Slot::Value(v)
                }
            };
            self.inputs.push(Port { name, ty, slot });
        }
        Ok(())
    }

    /// Moves the constants out of the graph, so that each is freed after its last use.
    fn take_constants(&mut self) {
        let ids: Vec<NodeId> = self.graph.ids().collect();
        for id in ids {
            for value in self.graph.node(id).operands.iter().flatten() {
                *self.uses_left.entry(*value).or_default() += 1;
            }
            if let Op::Constant(c) = &mut self.graph.node_mut(id).op {
                let tensor = std::mem::replace(&mut c.value.0, Tensor::scalar(0u8));
                self.locs.insert(Value { node: id, result: 0 }, Loc::Constant(tensor));
            }
        }
        for output in &self.graph.outputs {
            *self.uses_left.entry(output.value).or_default() += 1;
        }
    }

    fn nodes(&mut self) -> Result<(), LowerError> {
        let cycle = || LowerError::Graph("it has a cycle".to_owned());
        for id in self.graph.topological_order().ok_or_else(cycle)? {
            self.node(id)?;
        }
        Ok(())
    }

    fn node(&mut self, id: NodeId) -> Result<(), LowerError> {
        let node = self.graph.node(id).clone();
        if matches!(node.op, Op::Param(_) | Op::Constant(_)) {
            return Ok(());
        }
        self.names.clear();
        self.choice = None;
        self.filtered = None;
        self.product = None;
        self.apart = None;
        match (self.try_node(id, &node)?, &node.op, &node.regions[..]) {
            (Ok(decision), ..) => {
                let report = report::report(&node, decision, self.choice, self.product);
                self.report.push(NodeReport {
                    apart: self.apart.map(str::to_owned),
                    filtered: self.filtered,
                    ..report
                });
            }
            // No single kernel takes the region: its ops go their own ways.
            (Err(Declined(reason)), Op::Fused(_), [region]) if !self.unproven.contains(&id) => {
                let first = self.report.len();
                self.unfuse(id, &node, region)?;
                self.report[first..].iter_mut().for_each(|part| part.split = Some(reason.clone()));
            }
            (Err(Declined(reason)), ..) => {
                self.host(id, &node)?;
                self.report.push(report::report(&node, Decision::Host { reason }, None, None));
            }
        }
        self.release(&node);
        Ok(())
    }

    /// Lowers the ops of a fused region one by one.
    fn unfuse(&mut self, id: NodeId, node: &Node, region: &Graph) -> Result<(), LowerError> {
        let undefined = || LowerError::Graph("a region reads what is not defined".to_owned());
        let mut outer: HashMap<Value, Value> = HashMap::new();
        for (param, operand) in region.inputs().zip(&node.operands) {
            outer.insert(param, operand.ok_or_else(undefined)?);
        }
        for inner in region.topological_order().ok_or_else(undefined)? {
            let part = region.node(inner);
            if matches!(part.op, Op::Param(_)) {
                continue;
            }
            let operands: Vec<Option<Value>> =
                part.operands.iter().map(|o| o.and_then(|v| outer.get(&v).copied())).collect();
            let types = part.results.iter().map(|r| r.ty.clone()).collect();
            for value in operands.iter().flatten() {
                *self.uses_left.entry(*value).or_default() += 1;
            }
            let new = self.graph.add(part.op.clone(), &operands, types);
            self.graph.node_mut(new).loc = part.loc.clone();
            for result in 0..part.results.len() as u32 {
                outer.insert(Value { node: inner, result }, Value { node: new, result });
            }
            match &part.op {
                Op::Constant(c) => {
                    self.locs.insert(Value { node: new, result: 0 }, Loc::Constant(c.value.0.clone()));
                }
                _ => self.node(new)?,
            }
        }
        for (i, output) in region.outputs.iter().enumerate() {
            let value = outer.get(&output.value).ok_or_else(undefined)?;
            let loc = self.locs.get(value).cloned().ok_or_else(undefined)?;
            self.locs.insert(Value { node: id, result: i as u32 }, loc);
        }
        Ok(())
    }

    /// Forgets constants that nobody reads any more.
    fn release(&mut self, node: &Node) {
        for value in node.operands.iter().flatten() {
            if let Some(left) = self.uses_left.get_mut(value) {
                *left -= 1;
                let Some(Loc::Constant(t)) = self.locs.get(value).filter(|_| *left == 0) else { continue };
                if !self.copies.contains_key(&(*value, Encoding::Plain)) {
                    optc_tensor::evict(t.bytes()); // packed: a model takes its weights' memory once, not twice
                }
                self.locs.remove(value);
            }
        }
    }

    /// Lowers a node to views and kernels.
    fn try_node(&mut self, id: NodeId, node: &Node) -> Result<Result<Decision, Declined>, LowerError> {
        if self.unproven.contains(&id) {
            return Ok(Err(Declined::new("the shape of a result is declared, but depends on data")));
        }
        if let Some(decision) = self.try_view(id, node) {
            return Ok(Ok(decision));
        }
        let Some(types) = node.results.iter().map(|r| buffered(&r.ty)).collect::<Option<Vec<_>>>() else {
            return Ok(Err(Declined::new("the shape of a result depends on data")));
        };
        let mark = self.mark();
        let mut results = Vec::new();
        for ty in &types {
            results.push(self.dense(ty, Kind::Temp).map_err(|e| at(node, e))?);
        }
        let site = Site {
            operands: node.operands.clone(),
            results: results.clone(),
            epilogue: Epilogue::default(),
            loc: node.loc.clone(),
        };
        let lowered = match (&node.op, &node.regions[..]) {
            (Op::Fused(_), [region]) => self.fused(region, site),
            _ => self.op(&node.op, &site),
        };
        if let Err(declined) = lowered {
            self.roll_back(mark);
            return Ok(Err(declined));
        }
        for (i, view) in results.into_iter().enumerate() {
            self.locs.insert(Value { node: id, result: i as u32 }, Loc::View(view));
        }
        Ok(Ok(Decision::Kernel { names: self.names.clone() }))
    }
}

/// An error about a value that is a node's result.
fn at(node: &Node, error: LowerError) -> LowerError {
    match error {
        LowerError::Tensor(error) => LowerError::Node { op: node.op.name(), loc: node.loc.join(", "), error },
        other => other,
    }
}

/// The type of a value that can lie in a buffer: static, with elements of whole bytes.
fn buffered(ty: &Type) -> Option<TensorType> {
    let t = ty.as_tensor()?;
    t.static_shape()?;
    (t.dtype != DType::Str && t.dtype.bits().is_multiple_of(8) && t.dtype.bits() > 0).then(|| t.clone())
}

fn stored(view: &View) -> Stored {
    Stored { at: view.at, dtype: view.dtype, shape: view.shape.clone() }
}
