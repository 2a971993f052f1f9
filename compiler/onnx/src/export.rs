//! From a [`Graph`] back to an ONNX model.
//!
//! Each op is written as the nodes that `node` says. Regions become subgraphs: their captures are references to names
//! from outside, and all constants are initializers of the main graph. A region of `kernel.fused` is written out in
//! place; encodings are left out, as they change no meaning.

mod control;
mod custom;
mod ml;
mod nn;
mod node;
mod quant;
mod random;
mod spelling;

pub(crate) use custom::call_attributes;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use optc_ir::{Graph, Node, NodeId, Op, Type, Value};
use optc_tensor::{DType, Tensor};
use prost::Message;

use crate::proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use crate::{Diagnostic, write_tensor, write_type};
use spelling::{BASE_OPSET, OnnxSpelling};

/// The most bytes that a model in one file may have: protobuf ends there.
const MAX_BYTES: usize = (1 << 31) - (1 << 20);

/// Writes `graph` as a model file, whole or not at all; returns its bytes.
///
/// # Errors
/// As [`export_model`]; also when the file cannot be written.
pub fn export_file(graph: &Graph, path: &Path) -> Result<u64, Diagnostic> {
    let bytes = export_model(graph)?.encode_to_vec();
    let write = |file: &mut std::fs::File| std::io::Write::write_all(file, &bytes);
    optc_tensor::write_file(path, write).map_err(|e: std::io::Error| Diagnostic::io("export", path, &e))
}

/// The model that computes what `graph` does.
///
/// # Errors
/// An op cannot be written in ONNX, or the model is too large for one file.
pub fn export_model(graph: &Graph) -> Result<ModelProto, Diagnostic> {
    let mut exporter = Exporter::default();
    for name in graph.inputs().filter_map(|v| graph.input_name(v)).chain(graph.outputs.iter().map(|o| &*o.name)) {
        exporter.taken.insert(name.to_owned());
    }
    let mut names = Names::default();
    for input in graph.inputs() {
        names.insert(input, graph.input_name(input).unwrap_or_default().to_owned());
    }
    let mut main = exporter.body(graph, names)?;
    main.input = graph.inputs().map(|v| info(graph.input_name(v).unwrap_or_default(), graph.ty(v))).collect();
    main.initializer = std::mem::take(&mut exporter.initializers);
    let size: usize = main.initializer.iter().filter_map(|t| t.raw_data.as_ref()).map(bytes::Bytes::len).sum();
    if size > MAX_BYTES {
        let reason = format!("the constants take {size} bytes, more than a model in one file may have");
        return Err(Diagnostic::unsupported("export", reason));
    }
    let standard = exporter.opset.max(BASE_OPSET);
    let others = exporter.domains.iter().map(|(domain, version)| opset(domain, *version));
    Ok(ModelProto {
        ir_version: Some(ir_version(standard)),
        producer_name: Some("optc".to_owned()),
        opset_import: std::iter::once(opset("", standard)).chain(others).collect(),
        graph: Some(main),
        ..ModelProto::default()
    })
}

/// The IR version that came with an operator set.
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=22 => 10,
        23 => 11,
        24 => 12,
        25 | 26 => 13,
        _ => 14,
    }
}

/// The operator set since which ops that move elements take a dtype.
fn known_since(dtype: DType) -> i64 {
    match dtype {
        DType::F4E2M1FN => 23,
        DType::F8E8M0FNU => 24,
        DType::I2 | DType::U2 => 25,
        _ => BASE_OPSET,
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

    /// The name of operand `slot`, empty where it is absent.
    fn operand(&self, slot: usize) -> String {
        self.operands.get(slot).cloned().unwrap_or_default()
    }
}

#[derive(Default)]
struct Exporter {
    /// Every name of a value in the model: subgraphs may not repeat those of the graphs around them.
    taken: HashSet<String>,
    node_names: HashSet<String>,
    initializers: Vec<TensorProto>,
    /// The name of each constant that was written, by dtype, shape and the place of its bytes.
    constants: HashMap<(optc_tensor::DType, Vec<usize>, usize), String>,
    /// The nodes of the graph that is being written.
    nodes: Vec<NodeProto>,
    opset: i64,
    /// Other domains and their versions, in order of use.
    domains: Vec<(Cow<'static, str>, i64)>,
    fresh: usize,
}

impl Exporter {
    /// A name that nothing has.
    fn fresh(&mut self, wanted: &str) -> String {
        if !wanted.is_empty() && self.taken.insert(wanted.to_owned()) {
            return wanted.to_owned();
        }
        loop {
            let name = format!("v{}", self.fresh);
            self.fresh += 1;
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }

    /// The nodes and outputs of a graph whose parameters are called `names`.
    fn body(&mut self, graph: &Graph, mut names: Names) -> Result<GraphProto, Diagnostic> {
        let outer = std::mem::take(&mut self.nodes);
        let mut wanted: Names = Names::new();
        for output in &graph.outputs {
            wanted.entry(output.value).or_insert_with(|| output.name.clone());
        }
        self.walk(graph, &mut names, &wanted)?;
        let mut outputs = vec![];
        for output in &graph.outputs {
            let name = names.get(&output.value).cloned().unwrap_or_default();
            if name != output.name {
                self.write(spelling::spell("Identity"), vec![name], vec![output.name.clone()], &[]);
            }
            outputs.push(info(&output.name, graph.ty(output.value)));
        }
        let node = std::mem::replace(&mut self.nodes, outer);
        Ok(GraphProto { name: Some(graph.name.clone()), node, output: outputs, ..GraphProto::default() })
    }

    /// Writes the nodes of `graph` and names their results: as `wanted`, or anew.
    fn walk(&mut self, graph: &Graph, names: &mut Names, wanted: &Names) -> Result<(), Diagnostic> {
        let cycle = || Diagnostic::new("export", "the graph has a cycle");
        for id in graph.topological_order().ok_or_else(cycle)? {
            let node = graph.node(id);
            let since = node.results.iter().filter_map(|r| r.ty.as_tensor()).map(|t| known_since(t.dtype)).max();
            self.opset = self.opset.max(since.unwrap_or(0));
            match &node.op {
                Op::Param(_) => {}
                Op::Constant(c) => {
                    let name = self.constant(&c.value.0, node.loc.first().map_or("", String::as_str));
                    names.insert(Value { node: id, result: 0 }, name);
                }
                Op::ConvertLayout(_) => {
                    let name = node.operands.first().copied().flatten().and_then(|v| names.get(&v).cloned());
                    names.insert(Value { node: id, result: 0 }, name.unwrap_or_default());
                }
                Op::Fused(_) | Op::Deferred(_) => self.inline(graph, id, names)?,
                op => {
                    let mut site = self.site(graph, id, names, wanted);
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
            let wide = self.fresh("");
            let cast = spelling::spell("Cast").dtype("to", DType::F32);
            self.write(cast, vec![site.operand(0)], vec![wide.clone()], &[]);
            site.operands[0] = wide;
        }
    }

    fn site<'a>(&mut self, graph: &'a Graph, id: NodeId, names: &mut Names, wanted: &Names) -> Site<'a> {
        let node = graph.node(id);
        let name = |v: &Option<Value>| v.and_then(|v| names.get(&v).cloned()).unwrap_or_default();
        let operands = node.operands.iter().map(name).collect();
        let mut results = vec![];
        for result in 0..node.results.len() as u32 {
            let value = Value { node: id, result };
            let name = wanted.get(&value).cloned().unwrap_or_else(|| self.fresh(""));
            names.insert(value, name.clone());
            results.push(name);
        }
        Site { graph, id, node, operands, results }
    }

    /// Writes the region of a fused kernel in place of it.
    fn inline(&mut self, graph: &Graph, id: NodeId, names: &mut Names) -> Result<(), Diagnostic> {
        let node = graph.node(id);
        let Some(region) = node.regions.first() else { return Err(Diagnostic::new("export", "a region is missing")) };
        let operands = node.operands.iter().map(|v| v.and_then(|v| names.get(&v).cloned()).unwrap_or_default());
        let mut inner: Names = region.inputs().zip(operands).collect();
        self.walk(region, &mut inner, &Names::new())?;
        for (result, output) in region.outputs.iter().enumerate() {
            let name = inner.get(&output.value).cloned().unwrap_or_default();
            names.insert(Value { node: id, result: result as u32 }, name);
        }
        Ok(())
    }

    /// The name of the initializer that holds `tensor`, which is one of the graph's; those that share bytes share it.
    fn constant(&mut self, tensor: &Tensor, wanted: &str) -> String {
        let key = (tensor.dtype(), tensor.shape().to_vec(), tensor.bytes().as_ptr() as usize);
        let shared = !tensor.bytes().is_empty();
        if let Some(name) = self.constants.get(&key).filter(|_| shared) {
            return name.clone();
        }
        let name = self.fresh(wanted);
        self.initializers.push(write_tensor(&name, tensor));
        if shared {
            self.constants.insert(key, name.clone());
        }
        name
    }

    /// A vector of integers as an initializer.
    fn ints(&mut self, values: &[i64]) -> Result<String, Diagnostic> {
        let tensor =
            Tensor::from_slice(&[values.len()], values).map_err(|e| Diagnostic::new("export", e.to_string()))?;
        Ok(self.literal(&tensor))
    }

    /// A tensor that is not of the graph as an initializer. Its bytes may go away, so nothing shares it.
    fn literal(&mut self, tensor: &Tensor) -> String {
        let name = self.fresh("");
        self.initializers.push(write_tensor(&name, tensor));
        name
    }

    /// Writes one node. Absent operands at the end are left out.
    fn write(&mut self, spelling: OnnxSpelling, mut operands: Vec<String>, results: Vec<String>, loc: &[String]) {
        while operands.last().is_some_and(String::is_empty) {
            operands.pop();
        }
        let OnnxSpelling { domain, op, since, attributes } = spelling;
        if domain.is_empty() {
            self.opset = self.opset.max(since);
        } else if let Some((_, version)) = self.domains.iter_mut().find(|(d, _)| *d == domain) {
            *version = since.max(*version);
        } else {
            self.domains.push((domain.clone(), since));
        }
        let name = loc.first().filter(|name| self.node_names.insert((*name).clone())).cloned();
        self.nodes.push(NodeProto {
            name,
            op_type: Some(op.into_owned()),
            domain: (!domain.is_empty()).then(|| domain.into_owned()),
            input: operands,
            output: results,
            attribute: attributes,
            ..NodeProto::default()
        });
    }

    /// Writes a node with one new result; returns the result's name.
    fn step(&mut self, spelling: OnnxSpelling, operands: Vec<String>, site: &Site) -> String {
        let name = self.fresh("");
        self.write(spelling, operands, vec![name.clone()], &site.node.loc);
        name
    }
}
