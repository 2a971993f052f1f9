//! The walk over a model's graphs: names, order, function calls.
//!
//! Calls of model-local functions are inlined: their bodies are walked with names, operator sets and attribute values
//! of their own.

use std::collections::{HashMap, HashSet};

use optc_ir::ops::seq::{OptGet, OptSome};
use optc_ir::{Graph, Op, Type, Value};

use super::control;
use super::importer::{Importer, NameScope};
use crate::attributes::{Attributes, Bindings};
use crate::mapping::{MapError, NodeCx, add_constant};
use crate::model::{canonical_domain, label, opsets_of};
use crate::notes::note_dims;
use crate::proto::{FunctionProto, GraphProto, NodeProto, ValueInfoProto};
use crate::types::read_type;
use crate::{Diagnostic, StoredTensorError, evaluation_order, ops, read_sparse, read_tensor};

/// The most nodes that a model may have once its functions are inlined.
const MAX_NODES: usize = 1 << 20;

fn tensor_error(name: &str, e: &StoredTensorError) -> Diagnostic {
    let reason = format!("`{name}`: {e}");
    if e.is_unsupported() { Diagnostic::unsupported("import", reason) } else { Diagnostic::new("import", reason) }
}

impl Importer<'_> {
    /// Imports the model's main graph.
    ///
    /// # Errors
    /// The model is not valid, or uses something that is not supported.
    pub(super) fn main_graph(mut self) -> Result<Graph, Diagnostic> {
        let (file, bindings) = (self.file, Bindings::new());
        let graph = file.graph();
        let mut scope = NameScope { values: HashMap::new(), opsets: &file.opsets, bindings: &bindings, depth: 0 };
        self.initializers(graph, &mut scope)?;
        let mut listed = HashSet::new();
        for input in &graph.input {
            let name = input.name();
            let again = !listed.insert(name);
            if !name.is_empty() && scope.values.contains_key(name) {
                if again {
                    return Err(Diagnostic::new("import", format!("input `{name}` is defined twice")));
                }
                continue; // up to IR version 3, initializers are listed as inputs as well
            }
            let ty = input
                .r#type
                .as_ref()
                .ok_or_else(|| Diagnostic::new("import", format!("input `{name}` has no type")))?;
            let value = self.graph.add_input(name, read_type(ty).map_err(|e| tensor_error(name, &e))?);
            scope.define("input", name, value)?;
        }
        self.walk(&graph.node, &mut scope)?;
        listed.clear();
        for output in &graph.output {
            let Some(value) = scope.get(output.name()) else {
                return Err(Diagnostic::new("import", format!("output `{}` is not defined", output.name())));
            };
            if !listed.insert(output.name()) {
                return Err(Diagnostic::new("import", format!("output `{}` is listed twice", output.name())));
            }
            let value = self.as_declared(output, value);
            if let Some(Ok(declared)) = output.r#type.as_ref().map(read_type) {
                let own = self.graph.ty(value).clone();
                note_dims(&mut self.graph, output.name(), &declared, &own);
            }
            self.graph.outputs.push(optc_ir::Output { name: output.name().to_owned(), value });
        }
        Ok(self.graph)
    }

    /// A value as an optional, or what an optional holds, where the output is declared to be that. One stands for the
    /// other inside of graphs, but users are told what the model declares.
    fn as_declared(&mut self, output: &ValueInfoProto, value: Value) -> Value {
        let Some(Ok(declared)) = output.r#type.as_ref().map(read_type) else { return value };
        let (op, ty): (Op, Type) = match (declared, self.graph.ty(value).clone()) {
            (Type::Optional(_), Type::Optional(_)) => return value,
            (Type::Optional(_), ty) => (OptSome {}.into(), Type::Optional(Box::new(ty))),
            (_, Type::Optional(of)) => (OptGet {}.into(), *of),
            _ => return value,
        };
        let node = self.graph.add(op, &[Some(value)], vec![ty]);
        self.graph.node_mut(node).loc.push(output.name().to_owned());
        Value { node, result: 0 }
    }

    pub(super) fn initializers(&mut self, graph: &GraphProto, scope: &mut NameScope) -> Result<(), Diagnostic> {
        let file = self.file;
        let dense = graph.initializer.iter().map(|t| (t.name(), read_tensor(t, &file.files)));
        let sparse = graph
            .sparse_initializer
            .iter()
            .map(|s| (s.values.as_ref().map_or("", |v| v.name()), read_sparse(s, &file.files)));
        for (name, tensor) in dense.chain(sparse) {
            let tensor = tensor.map_err(|e| tensor_error(name, &e))?;
            let value = add_constant(&mut self.graph, tensor, name);
            scope.define("initializer", name, value)?;
        }
        Ok(())
    }

    pub(super) fn walk(&mut self, nodes: &[NodeProto], scope: &mut NameScope) -> Result<(), Diagnostic> {
        self.nodes += nodes.len();
        if self.nodes > MAX_NODES {
            return Err(Diagnostic::unsupported("import", format!("the model has more than {MAX_NODES} nodes")));
        }
        for i in evaluation_order(nodes, &self.names, |name| scope.values.contains_key(name))? {
            let node = &nodes[i];
            let opset = scope.opsets.get(canonical_domain(node.domain())).copied();
            let results = match self.file.function(node) {
                Some(function) => self.call(node, function, scope),
                None if control::is_control(canonical_domain(node.domain()), node.op_type()) => {
                    self.control(node, scope)
                }
                None => self.map(node, nodes, scope).map_err(MapError::into_diagnostic),
            };
            let results = results.map_err(|d| d.at_node(&label(node), node.op_type(), opset))?;
            for (name, value) in node.output.iter().zip(results) {
                if !name.is_empty() {
                    self.name(value, name);
                    scope.values.insert(name.clone(), Some(value));
                }
            }
        }
        Ok(())
    }

    /// Gives a result the name that the model has for it, unless it has one: nodes that do nothing give their operand.
    fn name(&mut self, value: Value, name: &str) {
        let node = self.graph.node(value.node);
        let is_called = match &node.op {
            Op::Param(_) => true,
            Op::Constant(_) => node.loc.first().is_some_and(|of| of == name),
            _ => false,
        };
        if !is_called && self.graph.value_name(value).is_none() {
            self.graph.set_value_name(value, name);
        }
    }

    /// Maps a node; `beside` are those that could read its results.
    fn map(&mut self, node: &NodeProto, beside: &[NodeProto], scope: &NameScope) -> Result<Vec<Value>, MapError> {
        let domain = canonical_domain(node.domain());
        let lacking = || MapError::Unsupported(format!("op `{}` is not supported", node.op_type()));
        let custom = || ops::custom::is_registered(domain, node.op_type()).then_some(ops::custom::call as ops::Mapping);
        let mapping = ops::find(domain, node.op_type()).or_else(custom).ok_or_else(lacking)?;
        let no_opset = || MapError::Invalid(format!("operator set `{domain}` is not imported by the model"));
        // ONNX Runtime's tools leave its own domain out at times, which has one version.
        let own = (domain == ops::contrib::MICROSOFT).then_some(1);
        let opset = scope.opsets.get(domain).copied().or(own).ok_or_else(no_opset)?;
        let since = if domain.is_empty() { ops::known_since(node.op_type()) } else { 1 };
        if opset < since {
            let op = node.op_type();
            return Err(MapError::Unsupported(format!(
                "op `{op}` of operator set {opset} is not supported: expected {since} or newer"
            )));
        }
        let inputs = node.input.iter().map(|name| scope.get(name)).collect();
        let attrs = Attributes::of(node, scope.bindings)?;
        let loc = label(node);
        let mut cx = NodeCx { node, attrs, inputs, opset, file: self.file, graph: &mut self.graph, loc };
        let results = match mapping(&mut cx) {
            Err(MapError::Open(_)) if self.waits && domain.is_empty() => ops::waiting::call(&mut cx)?,
            results => results?,
        };
        cx.attrs.finish()?;
        let found = node.output.iter().rposition(|name| !name.is_empty()).map_or(0, |i| i + 1);
        if found > results.len() {
            let mut more = node.output[results.len()..found].iter();
            if found > ops::outputs(node.op_type()) || more.any(|name| is_read(beside, name)) {
                return Err(MapError::Outputs { expected: results.len(), found });
            }
        }
        Ok(results)
    }

    fn call(&mut self, node: &NodeProto, body: &FunctionProto, outer: &NameScope) -> Result<Vec<Value>, Diagnostic> {
        let inner = outer.inner()?;
        if node.input.len() > body.input.len() || node.output.len() > body.output.len() {
            return Err(Diagnostic::new("import", "the call has more inputs or outputs than the function"));
        }
        let attrs = Attributes::of(node, outer.bindings).map_err(|e| Diagnostic::new("import", e.to_string()))?;
        let mut bindings: Bindings = body.attribute_proto.iter().map(|a| (a.name().to_owned(), a.clone())).collect();
        for name in body.attribute.iter().chain(body.attribute_proto.iter().filter_map(|a| a.name.as_ref())) {
            if let Some(value) = attrs.raw(name) {
                bindings.insert(name.clone(), value.clone());
            }
        }
        attrs.finish().map_err(|e| Diagnostic::new("import", e.to_string()))?;
        let opsets = opsets_of(&body.opset_import)?;
        let opsets = if opsets.is_empty() { outer.opsets } else { &opsets };
        if body.input.iter().any(String::is_empty) {
            return Err(Diagnostic::new("import", "an input of the function has no name"));
        }
        let given = |i: usize| node.input.get(i).and_then(|name| outer.get(name));
        let values = body.input.iter().enumerate().map(|(i, name)| (name.clone(), given(i))).collect();
        let mut scope = NameScope { values, opsets, bindings: &bindings, depth: inner.depth };
        self.walk(&body.node, &mut scope)?;
        let result = |name: &String| scope.get(name);
        let missing = |name| Diagnostic::new("import", format!("the function does not define its output `{name}`"));
        body.output.iter().take(node.output.len()).map(|name| result(name).ok_or_else(|| missing(name))).collect()
    }
}

/// Whether a node, or one in a subgraph of it, reads a value.
fn is_read(nodes: &[NodeProto], name: &str) -> bool {
    let subgraphs = |node: &NodeProto| {
        let graphs = node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs));
        graphs.into_iter().any(|g| is_read(&g.node, name) || g.output.iter().any(|output| output.name() == name))
    };
    nodes.iter().any(|node| node.input.iter().any(|input| input == name) || subgraphs(node))
}
