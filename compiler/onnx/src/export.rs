//! From a [`Graph`] back to an ONNX model.
//!
//! Each op is written as the nodes that `node` says, in the form that the target's operator set has: that of the model
//! which the graph was imported from, the least newer one that all ops exist in, or the one that was asked for. Names
//! of the imported model are kept (`names`). Regions become subgraphs: their captures are references to names from
//! outside, and constants are initializers of the graph that uses them. A region of `kernel.fused` is written out in
//! place; encodings are left out, as they change no meaning.

mod blocks;
mod control;
mod custom;
mod file;
mod ml;
mod names;
mod nn;
mod node;
mod older;
mod quant;
mod random;
mod schema;
mod scope;
mod spelling;

pub(crate) use custom::call_attributes;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use optc_ir::{Graph, Node, NodeId, Op, Type, Value};
use optc_tensor::{DType, Tensor};

pub use self::file::{ExportOptions, Exported, ExternalData, data_file, export_file, export_file_as};
use self::names::NameSet;
use self::schema::OperandKind;
use self::scope::{Scope, Waiting};
use self::spelling::{BASE_OPSET, OnnxSpelling};
use crate::notes;
use crate::proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto};
use crate::{Diagnostic, MAX_OPSET, write_type};

/// The oldest version of the format whose initializers need not be listed as inputs.
const MIN_IR_VERSION: i64 = 4;

/// The model that computes what `graph` does, in the operator set that it was imported with where that suffices.
///
/// # Errors
/// An op cannot be written in ONNX.
pub fn export_model(graph: &Graph) -> Result<ModelProto, Diagnostic> {
    Ok(export_at(graph, None)?.0)
}

/// As [`export_model`], in the operator set that is asked for.
///
/// # Errors
/// An op cannot be written in ONNX, or not in this operator set.
pub fn export_model_at(graph: &Graph, opset: i64) -> Result<ModelProto, Diagnostic> {
    Ok(export_at(graph, Some(opset))?.0)
}

/// A newer operator set than that of the imported model was needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpsetRaise {
    /// The imported model's version.
    pub from: i64,
    /// The version that was written.
    pub to: i64,
    /// The ONNX op that needs it.
    pub op: String,
    /// The node.
    pub node: String,
}

/// As [`export_model`], in operator set `asked` if one is given; also says whether the imported model's was raised.
///
/// # Errors
/// An op cannot be written in ONNX, or not in the operator set that was asked for.
fn export_at(graph: &Graph, asked: Option<i64>) -> Result<(ModelProto, Option<OpsetRaise>), Diagnostic> {
    if let Some(opset) = asked.filter(|opset| !(MIN_WRITTEN..=MAX_OPSET).contains(opset)) {
        let reason = format!("operator set {opset} cannot be written: expected {} to {MAX_OPSET}", MIN_WRITTEN);
        return Err(Diagnostic::unsupported("export", reason));
    }
    let from = asked.or_else(|| notes::number(graph, "opset")).unwrap_or(BASE_OPSET).max(MIN_WRITTEN);
    let (mut target, mut raise) = (from, None);
    loop {
        let mut exporter = Exporter::new(target);
        let main = exporter.main_graph(graph)?;
        let Some(need) = exporter.need.take() else { return Ok((exporter.model(graph, main), raise)) };
        if asked.is_some() {
            let reason = format!("`{}` needs operator set {}, and {from} was asked for", need.op, need.to);
            return Err(Diagnostic::unsupported("export", reason).at_node(&need.node, &need.op, None));
        }
        target = need.to;
        raise = Some(OpsetRaise { from, ..need });
    }
}

/// The oldest operator set that is written.
const MIN_WRITTEN: i64 = 7;

/// The IR version that came with an operator set.
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=9 => 4,
        10 => 5,
        11 => 6,
        12..=14 => 7,
        15..=18 => 8,
        19 | 20 => 9,
        21 | 22 => 10,
        23 => 11,
        24 => 12,
        25 | 26 => 13,
        _ => 14,
    }
}

/// The operator set since which ops that move elements take a dtype.
fn known_since(dtype: DType) -> i64 {
    match dtype {
        DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => 19,
        DType::F4E2M1FN => 23,
        DType::F8E8M0FNU => 24,
        DType::I2 | DType::U2 => 25,
        _ => 1,
    }
}

fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) }
}

fn info(name: &str, ty: &Type) -> ValueInfoProto {
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(write_type(ty)), ..ValueInfoProto::default() }
}

/// What the values of one graph are called.
type Names = HashMap<Value, String>;

/// One op at its place: what it is written from.
struct Site<'a> {
    graph: &'a Graph,
    id: NodeId,
    node: &'a Node,
    /// The operands' names, empty for absent ones.
    operands: Vec<String>,
    /// The results' names.
    results: Vec<String>,
}

impl Site<'_> {
    /// The type of operand `slot`, where it is a tensor.
    fn tensor(&self, slot: usize) -> Option<&optc_ir::TensorType> {
        self.graph.ty(self.node.operands.get(slot).copied().flatten()?).as_tensor()
    }

    /// The rank of operand `slot`, where it is known.
    fn rank(&self, slot: usize) -> Option<usize> {
        self.tensor(slot)?.rank()
    }

    /// The tensor of operand `slot`, where it is a constant.
    fn constant(&self, slot: usize) -> Option<&Tensor> {
        self.graph.constant(self.node.operands.get(slot).copied().flatten()?)
    }

    /// The integers of operand `slot`, where it is a constant.
    fn ints(&self, slot: usize) -> Option<Vec<i64>> {
        self.constant(slot).map(Tensor::to_i64_vec)
    }

    /// The name of operand `slot`, empty where it is absent.
    fn operand(&self, slot: usize) -> String {
        self.operands.get(slot).cloned().unwrap_or_default()
    }
}

struct Exporter {
    /// The operator set that is written.
    target: i64,
    /// The newest operator set that a node needs beyond the target, and the node.
    need: Option<OpsetRaise>,
    /// The values' names.
    names: NameSet,
    /// The graph that is being written and those around it, the innermost last.
    scopes: Vec<Scope>,
    /// Constants that nothing has used yet, by name: only those that are used are written.
    waiting: HashMap<String, Waiting>,
    /// What is known of the types of values.
    kinds: HashMap<String, OperandKind>,
    /// Other domains and their versions, in order of use.
    domains: Vec<(Cow<'static, str>, i64)>,
}

impl Exporter {
    fn new(target: i64) -> Exporter {
        let (names, scopes) = (NameSet::default(), vec![]);
        Exporter { target, need: None, names, scopes, waiting: HashMap::new(), kinds: HashMap::new(), domains: vec![] }
    }

    fn main_graph(&mut self, graph: &Graph) -> Result<GraphProto, Diagnostic> {
        self.open();
        let mut names = Names::default();
        for input in graph.inputs() {
            names.insert(input, self.names.unique(graph.input_name(input).unwrap_or_default()));
        }
        let outputs: Vec<String> = graph.outputs.iter().map(|o| o.name.clone()).collect();
        outputs.iter().for_each(|name| drop(self.names.unique(name)));
        let input = graph.inputs().map(|v| info(graph.input_name(v).unwrap_or_default(), graph.ty(v))).collect();
        let mut main = GraphProto { input, ..self.body(graph, names, outputs)? };
        main.output =
            graph.outputs.iter().map(|o| info(&o.name, &notes::declared(graph, &o.name, graph.ty(o.value)))).collect();
        Ok(main)
    }

    fn model(&self, graph: &Graph, main: GraphProto) -> ModelProto {
        let others = self.domains.iter().map(|(domain, version)| opset(domain, *version));
        let of_import = notes::number(graph, "ir_version").unwrap_or(MIN_IR_VERSION);
        let mut model = ModelProto {
            ir_version: Some(ir_version(self.target).max(of_import)),
            producer_name: Some("optc".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            opset_import: std::iter::once(opset("", self.target)).chain(others).collect(),
            graph: Some(main),
            ..ModelProto::default()
        };
        notes::restore(graph, &mut model);
        model
    }

    /// The nodes, constants and outputs of a graph, whose scope is open and whose parameters are called `names`; closes
    /// the scope. `outputs` are the outputs' names, which are taken already.
    fn body(&mut self, graph: &Graph, mut names: Names, outputs: Vec<String>) -> Result<GraphProto, Diagnostic> {
        for input in graph.inputs() {
            self.know(names.get(&input).cloned(), graph.ty(input));
        }
        let mut wanted: Names = Names::new();
        for (output, name) in graph.outputs.iter().zip(&outputs) {
            wanted.entry(output.value).or_insert_with(|| name.clone());
        }
        self.name_all(graph, &mut names, &wanted)?;
        self.walk(graph, &mut names)?;
        let mut infos = vec![];
        for (output, wanted) in graph.outputs.iter().zip(&outputs) {
            let name = names.get(&output.value).cloned().unwrap_or_default();
            if name != *wanted {
                self.write(spelling::spell("Identity"), vec![name], vec![wanted.clone()], &[]);
            }
            infos.push(info(wanted, graph.ty(output.value)));
        }
        let (node, initializer) = self.close();
        Ok(GraphProto { name: Some(graph.name.clone()), node, initializer, output: infos, ..GraphProto::default() })
    }

    /// Writes the nodes of `graph`.
    fn walk(&mut self, graph: &Graph, names: &mut Names) -> Result<(), Diagnostic> {
        let order = order(graph)?;
        let whole = if self.target < 13 { older::whole_softmaxes(graph, &order) } else { HashMap::new() };
        let inside: HashSet<NodeId> = whole.values().flat_map(|w| w.inside.iter().copied()).collect();
        for id in order.into_iter().filter(|id| !inside.contains(id)) {
            let node = graph.node(id);
            let since = node.results.iter().filter_map(|r| r.ty.as_tensor()).map(|t| known_since(t.dtype)).max();
            self.require(since.unwrap_or(0), node.op.name(), node.loc.first().map_or("", String::as_str));
            if let Some(softmax) = whole.get(&id) {
                let site = self.site(graph, id, names);
                let x = names.get(&softmax.x).cloned().unwrap_or_default();
                self.write(softmax.spell(), vec![x], site.results, &node.loc);
                continue;
            }
            match &node.op {
                Op::Param(_) | Op::Constant(_) => {}
                Op::ConvertLayout(_) => {
                    let name = node.operands.first().copied().flatten().and_then(|v| names.get(&v).cloned());
                    names.insert(Value { node: id, result: 0 }, name.unwrap_or_default());
                }
                Op::Fused(_) | Op::Deferred(_) => self.inline(graph, id, names)?,
                op => {
                    let mut site = self.site(graph, id, names);
                    self.widen(op, &mut site);
                    let at = |d: Diagnostic| d.at_node(&node.loc.join(", "), op.name(), None);
                    self.node(op, &site).map_err(at)?;
                }
            }
        }
        Ok(())
    }

    /// Casts a factor that is rounded already back: ONNX's products have one dtype, and no precision.
    fn widen(&mut self, op: &Op, site: &mut Site) {
        let is = |slot: usize, dtype: DType| site.tensor(slot).is_some_and(|t| t.dtype == dtype);
        let product = matches!(op, Op::Conv(_) | Op::Gemm(_) | Op::MatMul(_));
        if product && is(0, DType::BF16) && is(1, DType::F32) {
            let cast = spelling::spell("Cast").dtype("to", DType::F32);
            site.operands[0] = self.step(cast, vec![site.operand(0)], site);
        }
    }

    fn site<'a>(&mut self, graph: &'a Graph, id: NodeId, names: &Names) -> Site<'a> {
        let node = graph.node(id);
        let name = |v: &Option<Value>| v.and_then(|v| names.get(&v).cloned()).unwrap_or_default();
        let operands = node.operands.iter().map(name).collect();
        let result = |result| names.get(&Value { node: id, result }).cloned().unwrap_or_default();
        Site { graph, id, node, operands, results: (0..node.results.len() as u32).map(result).collect() }
    }

    /// Writes the region of a fused kernel in place of it.
    fn inline(&mut self, graph: &Graph, id: NodeId, names: &mut Names) -> Result<(), Diagnostic> {
        let node = graph.node(id);
        let Some(region) = node.regions.first() else { return Err(Diagnostic::new("export", "a region is missing")) };
        let operands = node.operands.iter().map(|v| v.and_then(|v| names.get(&v).cloned()).unwrap_or_default());
        let mut inner: Names = region.inputs().zip(operands).collect();
        let results = (0..node.results.len() as u32).map(|result| Value { node: id, result });
        let mut wanted = Names::new();
        for (value, output) in results.clone().zip(region.outputs.iter()) {
            if let Some(name) = names.get(&value).filter(|_| !inner.contains_key(&output.value)) {
                wanted.entry(output.value).or_insert_with(|| name.clone());
            }
        }
        self.name_all(region, &mut inner, &wanted)?;
        self.walk(region, &mut inner)?;
        for (value, output) in results.zip(region.outputs.iter()) {
            names.insert(value, inner.get(&output.value).cloned().unwrap_or_default());
        }
        Ok(())
    }

    /// Notes that a node needs an operator set.
    fn require(&mut self, to: i64, op: &str, node: &str) {
        if to > self.need.as_ref().map_or(self.target, |need| need.to) {
            self.need = Some(OpsetRaise { from: self.target, to, op: op.to_owned(), node: node.to_owned() });
        }
    }

    /// Writes one node. Absent operands at the end are left out, as are attributes that have their defaults.
    fn write(&mut self, spelling: OnnxSpelling, mut operands: Vec<String>, mut results: Vec<String>, loc: &[String]) {
        for names in [&mut operands, &mut results] {
            while names.last().is_some_and(String::is_empty) {
                names.pop();
            }
        }
        let OnnxSpelling { domain, op, since, mut attributes } = spelling;
        let name = loc.first().map_or("", String::as_str);
        if domain.is_empty() {
            let kinds: Vec<_> =
                operands.iter().map(|o| self.kinds.get(o).copied().unwrap_or(OperandKind::Unknown)).collect();
            self.require(schema::needed(&op, self.target, &kinds, &attributes).max(since), &op, name);
            schema::trim(&op, self.target, &mut attributes);
        } else if let Some((_, version)) = self.domains.iter_mut().find(|(d, _)| *d == domain) {
            *version = since.max(*version);
        } else {
            self.domains.push((domain.clone(), since));
        }
        operands.iter().for_each(|operand| self.use_constant(operand));
        let Some(scope) = self.scopes.last_mut() else { return };
        let name = (!name.is_empty()).then(|| scope.node_names.unique(name));
        scope.nodes.push(NodeProto {
            name,
            op_type: Some(op.into_owned()),
            domain: (!domain.is_empty()).then(|| domain.into_owned()),
            input: operands,
            output: results,
            attribute: attributes,
            ..NodeProto::default()
        });
    }

    /// Writes a node with one new result; returns the result's name, which is the node's as well.
    fn step(&mut self, spelling: OnnxSpelling, operands: Vec<String>, site: &Site) -> String {
        let name = self.names.numbered(site.results.first().map_or("", String::as_str));
        self.write(spelling, operands, vec![name.clone()], std::slice::from_ref(&name));
        name
    }
}

fn order(graph: &Graph) -> Result<Vec<NodeId>, Diagnostic> {
    graph.topological_order().ok_or_else(|| Diagnostic::new("export", "the graph has a cycle"))
}
