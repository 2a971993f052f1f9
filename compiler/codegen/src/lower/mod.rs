//! From a graph to a plan: kernels, buffers and steps.
//!
//! Ops are visited in topological order. An op with a static type and a kernel family becomes kernel steps; one that only
//! reinterprets bytes becomes a [`View`]; every other op becomes a host step, with the reason in the report. Values live in buffers
//! where their shape is known, else in slots of the run's table.
//!
//! A family is a function from a [`Site`] to steps, in a file called like the op. It may decline: what it had emitted is
//! rolled back, and the op runs on the host. Which layout a result gets is its type's encoding; families look at views, never
//! at the encoding of an operand's type.

mod contract;
mod conv;
mod elementwise;
mod fold;
mod fused;
mod memory;
mod movement;
mod pool;
mod recurrent;
mod report;
mod shape;
mod view;

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexSet;
use optc_ir::{Encoding, Graph, Node, NodeId, Op, TensorType, Type, Value};
use optc_runtime::plan::{BufRef, Callable, HostStep, Info, KernelCode, KernelStep, Plan, Port, Slot, Step, Stored};
use optc_tensor::{DType, Tensor, TensorError, element_count};

use crate::emit::{Code, EmitError};
use crate::expr::Expr;
use crate::nest::Kernel;
use crate::target::{Isa, Machine};
use memory::{Draft, Kind};
pub use report::{Decision, NodeReport};
pub use view::{View, strides_in};

/// What to compile for.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The instruction set.
    pub isa: &'static Isa,
    /// The caches.
    pub machine: Machine,
    /// Threads that compile.
    pub threads: usize,
}

impl Target {
    /// This machine.
    pub fn host() -> Target {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        Target { isa: Isa::host(), machine: Machine::host(), threads }
    }
}

/// Why a graph could not be lowered.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// The graph is not sound: a bug of the pass before.
    #[error("the graph cannot be lowered: {0}")]
    Graph(String),
    /// A value is too large.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A kernel could not be compiled.
    #[error(transparent)]
    Emit(#[from] EmitError),
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

/// What a kernel family returns.
pub type Lowered = Result<(), Declined>;

/// Makes something callable of a region: the compiler that the driver hands in.
pub type RegionCompiler<'a> = dyn Fn(&Graph) -> Arc<dyn Callable> + 'a;

/// A plan and how it came about.
#[derive(Debug)]
pub struct Compiled {
    /// What to run.
    pub plan: Plan,
    /// One entry a node, in topological order.
    pub report: Vec<NodeReport>,
}

/// Lowers a graph with inferred types and compiles its kernels.
///
/// The graph's constants are taken out and freed as soon as they are packed.
///
/// # Errors
/// The graph is not sound, a value is too large, or a kernel does not compile.
pub fn lower(graph: Graph, target: &Target, regions: &RegionCompiler) -> Result<Compiled, LowerError> {
    let mut lowering = Lowering::new(graph, *target)?;
    lowering.nodes(regions)?;
    lowering.finish()
}

/// Where a value is.
#[derive(Clone, Debug)]
enum Loc {
    View(View),
    Slot(usize),
    Constant(Tensor),
}

/// What is stored instead of an op's result: an expression on it and on other operands.
#[derive(Clone, Debug, PartialEq)]
pub struct Epilogue {
    /// Operand 0 is the op's result, operand `i + 1` is `operands[i]`.
    pub expr: Expr,
    /// Further operands, broadcast to the shape of the result.
    pub operands: Vec<View>,
}

impl Default for Epilogue {
    fn default() -> Self {
        Epilogue { expr: Expr::Operand(0), operands: Vec::new() }
    }
}

/// One op to be lowered by a kernel family.
#[derive(Debug)]
pub struct Site {
    /// Its operands.
    pub operands: Vec<Option<Value>>,
    /// Where the results go: dense views in the layout of the results' types.
    pub results: Vec<View>,
    /// What is applied to the first result before it is stored.
    pub epilogue: Epilogue,
    /// The ONNX nodes.
    pub loc: Vec<String>,
}

impl Site {
    /// The only result.
    ///
    /// # Errors
    /// The op has several.
    pub fn result(&self) -> Result<&View, Declined> {
        match &self.results[..] {
            [one] => Ok(one),
            many => Err(Declined::new(format!("a kernel gives one result, not {}", many.len()))),
        }
    }

    /// Declines an epilogue, for families that have none.
    ///
    /// # Errors
    /// There is one.
    pub fn without_epilogue(&self) -> Lowered {
        let none = self.epilogue.operands.is_empty() && self.epilogue.expr == Expr::Operand(0);
        if none { Ok(()) } else { Err(Declined::new("its kernel applies no expression to the result")) }
    }

    /// The value of operand `slot`.
    ///
    /// # Errors
    /// It is absent.
    pub fn operand(&self, slot: usize) -> Result<Value, Declined> {
        self.optional(slot).ok_or_else(|| Declined::new(format!("operand {slot} is absent")))
    }

    /// The value of operand `slot`, if there is one.
    pub fn optional(&self, slot: usize) -> Option<Value> {
        self.operands.get(slot).copied().flatten()
    }
}

/// The state of a lowering; kernel families emit through it.
pub struct Lowering {
    graph: Graph,
    /// What is compiled for.
    pub target: Target,
    locs: HashMap<Value, Loc>,
    /// Copies of values in other layouts, and constants that were put into buffers.
    copies: HashMap<(Value, Encoding), View>,
    uses_left: HashMap<Value, usize>,
    drafts: Vec<Draft>,
    constants: Vec<Tensor>,
    steps: Vec<Step>,
    kernels: IndexSet<Kernel>,
    values: usize,
    inputs: Vec<Port>,
    report: Vec<NodeReport>,
    /// Kernels of the node at hand, for the report.
    names: Vec<String>,
}

/// What a roll-back restores.
struct Mark {
    steps: usize,
    drafts: usize,
    constants: usize,
    kernels: usize,
    names: usize,
    copies: HashMap<(Value, Encoding), View>,
}

/// Work below this is done by the caller alone: waking a worker takes some microseconds.
const PARALLEL_FLOPS: f64 = 400e3;
/// The same for bytes moved.
const PARALLEL_BYTES: f64 = 128e3;

impl Lowering {
    fn new(graph: Graph, target: Target) -> Result<Lowering, LowerError> {
        let mut lowering = Lowering {
            graph,
            target,
            locs: HashMap::new(),
            copies: HashMap::new(),
            uses_left: HashMap::new(),
            drafts: Vec::new(),
            constants: Vec::new(),
            steps: Vec::new(),
            kernels: IndexSet::new(),
            values: 0,
            inputs: Vec::new(),
            report: Vec::new(),
            names: Vec::new(),
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

    fn nodes(&mut self, regions: &RegionCompiler) -> Result<(), LowerError> {
        let cycle = || LowerError::Graph("it has a cycle".to_owned());
        for id in self.graph.topological_order().ok_or_else(cycle)? {
            self.node(id, regions)?;
        }
        Ok(())
    }

    fn node(&mut self, id: NodeId, regions: &RegionCompiler) -> Result<(), LowerError> {
        let node = self.graph.node(id).clone();
        if matches!(node.op, Op::Param(_) | Op::Constant(_)) {
            return Ok(());
        }
        self.names.clear();
        match (self.try_node(id, &node)?, &node.op, &node.regions[..]) {
            (Ok(decision), ..) => self.report.push(NodeReport::new(&node, decision)),
            // No single kernel takes the region: its ops go their own ways.
            (Err(_), Op::Fused(_), [region]) => self.unfuse(id, &node, region, regions)?,
            (Err(Declined(reason)), ..) => {
                self.host(id, &node, regions)?;
                self.report.push(NodeReport::new(&node, Decision::Host { reason }));
            }
        }
        self.release(&node);
        Ok(())
    }

    /// Lowers the ops of a fused region one by one.
    fn unfuse(&mut self, id: NodeId, node: &Node, region: &Graph, regions: &RegionCompiler) -> Result<(), LowerError> {
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
                _ => self.node(new, regions)?,
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
                if *left == 0 && matches!(self.locs.get(value), Some(Loc::Constant(_))) {
                    self.locs.remove(value);
                }
            }
        }
    }

    /// Lowers a node to views and kernels.
    fn try_node(&mut self, id: NodeId, node: &Node) -> Result<Result<Decision, Declined>, LowerError> {
        if let Some(decision) = self.try_view(id, node) {
            return Ok(Ok(decision));
        }
        let Some(types) = node.results.iter().map(|r| buffered(&r.ty)).collect::<Option<Vec<_>>>() else {
            return Ok(Err(Declined::new("the shape of a result depends on data")));
        };
        let mark = self.mark();
        let mut results = Vec::new();
        for ty in &types {
            results.push(self.dense(ty, Kind::Temp)?);
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

    /// The kernel families: the one place that knows which op is lowered where.
    fn op(&mut self, op: &Op, site: &Site) -> Lowered {
        match op {
            Op::MatMul(op) => self.matmul(op, site),
            Op::Gemm(op) => self.gemm(op, site),
            Op::Conv(op) => self.conv(op, site),
            Op::Pool(op) => self.pool(op, site),
            Op::BatchNorm(op) => elementwise::batch_norm(self, op, site),
            Op::Reduce(_) | Op::Softmax(_) | Op::LpNorm(_) | Op::LayerNorm(_) | Op::RmsNorm(_) | Op::GroupNorm(_) => {
                fold::op(self, op, site)
            }
            Op::Lstm(op) => self.lstm(op, site),
            Op::Gru(op) => self.gru(op, site),
            Op::Rnn(op) => self.rnn(op, site),
            Op::ConvertLayout(_)
            | Op::Transpose(_)
            | Op::Expand(_)
            | Op::Slice(_)
            | Op::Split(_)
            | Op::Concat(_)
            | Op::Pad(_) => movement::op(self, op, site),
            op if elementwise::is_elementwise(op) => elementwise::op(self, op, site),
            _ => Err(Declined::new("there is no kernel for it")),
        }
    }

    fn host(&mut self, id: NodeId, node: &Node, regions: &RegionCompiler) -> Result<(), LowerError> {
        let mut operands = Vec::with_capacity(node.operands.len());
        for value in &node.operands {
            operands.push(match value {
                Some(value) => Some(self.host_operand(*value)?),
                None => None,
            });
        }
        let mut results = Vec::new();
        for (i, info) in node.results.iter().enumerate() {
            let (loc, slot) = match buffered(&info.ty) {
                Some(t) => {
                    let view = self.dense(&t.with_encoding(Encoding::Plain), Kind::Temp)?;
                    let slot = Slot::Buffer(stored(&view));
                    (Loc::View(view), slot)
                }
                None => {
                    let v = self.slot();
                    (Loc::Slot(v), Slot::Value(v))
                }
            };
            self.locs.insert(Value { node: id, result: i as u32 }, loc);
            results.push(Some(slot));
        }
        let info = Info { name: node.op.name().to_owned(), loc: node.loc.clone(), flops: 0.0, bytes: 0.0 };
        let types = node.results.iter().map(|r| r.ty.clone()).collect();
        let regions = node.regions.iter().map(regions).collect();
        self.steps.push(Step::Host(HostStep { op: node.op.clone(), operands, results, types, regions, info }));
        Ok(())
    }

    fn host_operand(&mut self, value: Value) -> Result<Slot, LowerError> {
        match self.locs.get(&value) {
            Some(Loc::Constant(t)) => Ok(Slot::Constant(t.clone())),
            Some(Loc::Slot(v)) => Ok(Slot::Value(*v)),
            Some(Loc::View(_)) => {
                let view = self.view_in(value, Encoding::Plain).map_err(|Declined(why)| LowerError::Graph(why))?;
                Ok(Slot::Buffer(stored(&view)))
            }
            None => Err(LowerError::Graph("an operand is not defined".to_owned())),
        }
    }

    /// The constant that a value is, if it is one.
    pub fn constant(&self, value: Value) -> Option<&Tensor> {
        if let Some(Loc::Constant(t)) = self.locs.get(&value) { Some(t) } else { None }
    }

    /// The dtype and shape of a value.
    ///
    /// # Errors
    /// The shape is not static.
    pub fn ty(&self, value: Value) -> Result<TensorType, Declined> {
        let ty = self.graph.ty(value).as_tensor().filter(|t| t.static_shape().is_some()).cloned();
        ty.ok_or_else(|| Declined::new("the shape of an operand depends on data"))
    }

    /// A value as a view of a buffer, in whatever layout it has.
    ///
    /// # Errors
    /// Its shape is not static, or its dtype does not fill bytes.
    pub fn view(&mut self, value: Value) -> Result<View, Declined> {
        if let Some(view) = self.copies.get(&(value, Encoding::Plain))
            && !matches!(self.locs.get(&value), Some(Loc::View(_)))
        {
            return Ok(view.clone());
        }
        match self.locs.get(&value).cloned() {
            Some(Loc::View(view)) => Ok(view),
            Some(Loc::Constant(t)) => {
                let ty = TensorType::fixed(t.dtype(), t.shape());
                buffered(&ty.clone().into()).ok_or_else(|| Declined::new(format!("{} operand", t.dtype())))?;
                let at = self.add_constant(t);
                let view = View::dense(at, &ty).ok_or_else(|| Declined::new("the constant has no layout"))?;
                self.copies.insert((value, Encoding::Plain), view.clone());
                Ok(view)
            }
            Some(Loc::Slot(slot)) => {
                let ty = buffered(&self.graph.ty(value).clone())
                    .ok_or_else(|| Declined::new("the shape of an operand depends on data"))?;
                let ty = ty.with_encoding(Encoding::Plain);
                let view = self.dense(&ty, Kind::Temp).map_err(|e| Declined::new(e.to_string()))?;
                let loc = self.graph.node(value.node).loc.join(", ");
                self.steps.push(Step::Load { value: slot, to: stored(&view), loc });
                self.copies.insert((value, Encoding::Plain), view.clone());
                Ok(view)
            }
            None => Err(Declined::new("an operand is not defined")),
        }
    }

    /// A value as a dense view in an encoding; copied there where it lies otherwise (once for all who ask).
    ///
    /// # Errors
    /// As [`Lowering::view`], or its dtype cannot be copied by kernels.
    pub fn view_in(&mut self, value: Value, encoding: Encoding) -> Result<View, Declined> {
        let view = self.view(value)?;
        if view.is(encoding) {
            let strides = strides_in(&view.shape, encoding);
            return Ok(View { strides, ..view });
        }
        if let Some(copy) = self.copies.get(&(value, encoding)) {
            return Ok(copy.clone());
        }
        let ty = TensorType::fixed(view.dtype, &view.shape).with_encoding(encoding);
        let copy = self.dense(&ty, Kind::Temp).map_err(|e| Declined::new(e.to_string()))?;
        let loc = self.graph.node(value.node).loc.clone();
        movement::copy(self, &view, &copy, &loc)?;
        self.copies.insert((value, encoding), copy.clone());
        Ok(copy)
    }

    /// A buffer with constant bytes.
    pub fn add_constant(&mut self, tensor: Tensor) -> BufRef {
        let bytes = tensor.bytes().len();
        self.constants.push(tensor);
        self.buffer(bytes, Kind::Constant(self.constants.len() - 1))
    }

    /// A buffer for intermediate bytes of the op at hand.
    pub fn temp(&mut self, bytes: usize) -> BufRef {
        self.buffer(bytes, Kind::Temp)
    }

    /// Adds a kernel step. `args` has a place for each buffer of the kernel; `in_place` names the argument that the
    /// kernel's last one may overwrite: it reads each element there before it writes it, in the same task.
    ///
    /// # Panics
    /// A place has fewer bytes than the kernel declares: a bug of the family.
    pub fn kernel(&mut self, kernel: Kernel, args: Vec<BufRef>, in_place: Option<usize>, info: Info) {
        assert_eq!(kernel.bufs.len(), args.len(), "`{}`: one place for each buffer", kernel.name);
        for (declared, at) in kernel.bufs.iter().zip(&args) {
            let have = self.drafts[at.buf].bytes;
            let fits = at.offset.checked_add(declared.bytes).is_some_and(|end| end <= have);
            assert!(fits, "`{}`: buffer `{}` does not fit its place", kernel.name, declared.name);
        }
        if let (Some(from), Some(dst)) = (in_place, args.last()) {
            let src = args[from];
            if src.offset == 0 && dst.offset == 0 {
                self.drafts[dst.buf].in_place = Some(src.buf);
            }
        }
        let parallel = kernel.tasks > 1 && (info.flops >= PARALLEL_FLOPS || info.bytes >= PARALLEL_BYTES);
        let (tasks, scratch) = (kernel.tasks, kernel.scratch_bytes);
        let info = Info { name: if info.name.is_empty() { kernel.name.clone() } else { info.name }, ..info };
        self.names.push(info.name.clone());
        let (kernel, _) = self.kernels.insert_full(kernel);
        self.steps.push(Step::Kernel(KernelStep { kernel, args, tasks, scratch, parallel, info }));
    }

    fn buffer(&mut self, bytes: usize, kind: Kind) -> BufRef {
        self.drafts.push(Draft { bytes, kind, in_place: None });
        BufRef { buf: self.drafts.len() - 1, offset: 0 }
    }

    fn dense(&mut self, ty: &TensorType, kind: Kind) -> Result<View, LowerError> {
        let shape = ty.static_shape().unwrap_or_default();
        let too_large = || TensorError::TooLarge(shape.clone());
        let bytes = element_count(&shape).and_then(|n| ty.dtype.bytes_for(n)).ok_or_else(too_large)?;
        if bytes > isize::MAX as usize / 2 {
            return Err(too_large().into());
        }
        let at = self.buffer(bytes, kind);
        View::dense(at, ty).ok_or_else(|| LowerError::Graph(format!("{ty} has no strides")))
    }

    fn slot(&mut self) -> usize {
        self.values += 1;
        self.values - 1
    }

    fn mark(&self) -> Mark {
        Mark {
            steps: self.steps.len(),
            drafts: self.drafts.len(),
            constants: self.constants.len(),
            kernels: self.kernels.len(),
            names: self.names.len(),
            copies: self.copies.clone(),
        }
    }

    fn roll_back(&mut self, mark: Mark) {
        self.steps.truncate(mark.steps);
        self.drafts.truncate(mark.drafts);
        self.constants.truncate(mark.constants);
        self.kernels.truncate(mark.kernels);
        self.names.truncate(mark.names);
        self.copies = mark.copies;
    }

    fn finish(mut self) -> Result<Compiled, LowerError> {
        let outputs = self.outputs()?;
        let (buffers, arena_bytes) = memory::plan(&self.drafts, &self.steps, &outputs);
        let kernels: Vec<&Kernel> = self.kernels.iter().collect();
        let code: Arc<dyn KernelCode> = Arc::new(Code::compile(&kernels, self.target.threads)?);
        let plan = Plan {
            inputs: self.inputs,
            outputs,
            buffers,
            constants: self.constants,
            arena_bytes,
            values: self.values,
            steps: self.steps,
            code,
        };
        Ok(Compiled { plan, report: self.report })
    }

    fn outputs(&mut self) -> Result<Vec<Port>, LowerError> {
        let mut ports = Vec::new();
        for (i, output) in self.graph.outputs.clone().into_iter().enumerate() {
            let ty = self.graph.ty(output.value).clone();
            let slot = match self.locs.get(&output.value).cloned() {
                Some(Loc::Constant(t)) => Slot::Constant(t),
                Some(Loc::Slot(v)) => Slot::Value(v),
                Some(Loc::View(view)) => Slot::Buffer(self.output(i, output.value, &view)?),
                None => return Err(LowerError::Graph(format!("output `{}` is not defined", output.name))),
            };
            ports.push(Port { name: output.name, ty, slot });
        }
        Ok(ports)
    }

    /// Lets a value be output `i`: its own buffer where nothing else lies there, else a copy.
    fn output(&mut self, i: usize, value: Value, view: &View) -> Result<Stored, LowerError> {
        let draft = &mut self.drafts[view.at.buf];
        let whole = view.at.offset == 0 && draft.bytes == view.span_bytes() && draft.kind == Kind::Temp;
        if whole && view.is(Encoding::Plain) {
            draft.kind = Kind::Output(i);
            draft.in_place = None;
            return Ok(stored(view));
        }
        let plain = self.view_in(value, Encoding::Plain).map_err(|Declined(why)| LowerError::Graph(why))?;
        let dst = self.buffer(plain.span_bytes(), Kind::Output(i));
        self.steps.push(Step::Copy { src: plain.at, dst, bytes: plain.span_bytes() });
        Ok(Stored { at: dst, dtype: plain.dtype, shape: plain.shape })
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
