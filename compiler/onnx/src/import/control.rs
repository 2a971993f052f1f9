//! Ops with subgraphs: `If`, `Loop`, `Scan`, and those that are written out, `SequenceMap` by `map` and `FlexAttention`
//! by `flex`.
//!
//! A subgraph becomes an isolated region. What it uses of the graphs around it is passed in as operands of the op and
//! parameters of the region; constants from outside are copied into the region, so that inference and kernels see
//! them.

use std::collections::BTreeSet;

use optc_ir::ops::cf;
use optc_ir::{Graph, InferCx, Op, Output, Type, Value, widen_carried};
use optc_tensor::Tensor;

use super::importer::{Importer, NameScope};
use crate::Diagnostic;
use crate::attributes::Attributes;
use crate::mapping::{MapError, add_constant, constant_of};
use crate::model::{canonical_domain, label};
use crate::proto::{GraphProto, NodeProto};

/// True for the ops that this module imports.
pub(super) fn is_control(domain: &str, op: &str) -> bool {
    match domain {
        "" => matches!(op, "If" | "Loop" | "Scan" | "SequenceMap"),
        "ai.onnx.preview" => op == "FlexAttention",
        _ => false,
    }
}

/// What a name from outside is to the subgraphs of one node.
enum Captured {
    /// An operand: its place among the captures.
    Operand(usize),
    /// A constant, with the name that it has.
    Constant(Tensor, String),
    /// An input of a function that the call leaves out.
    Absent,
}

/// What the subgraphs of one node use from outside.
#[derive(Default)]
struct Captures {
    names: Vec<(String, Captured)>,
    operands: Vec<Value>,
    types: Vec<Type>,
}

/// `name`, or the first of `name#1`, `name#2`, … that is not taken.
fn unused(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (1..).map(|n| format!("{name}#{n}"));
    [name.to_owned()].into_iter().chain(numbered).find(|name| !taken(name)).unwrap_or_default()
}

fn bad(reason: impl Into<String>) -> Diagnostic {
    Diagnostic::new("import", reason)
}

impl<'a> Importer<'a> {
    /// Imports a node that has subgraphs.
    pub(super) fn control(&mut self, node: &NodeProto, scope: &NameScope) -> Result<Vec<Value>, Diagnostic> {
        let attrs = Attributes::of(node, scope.bindings).map_err(|e| bad(e.to_string()))?;
        let domain = canonical_domain(node.domain());
        let opset = scope.opsets.get(domain).copied();
        let opset = opset.ok_or_else(|| bad(format!("operator set `{domain}` is not imported by the model")))?;
        let results = match node.op_type() {
            "If" => self.branch(node, &attrs, scope),
            "Loop" => self.repeat(node, &attrs, scope),
            "FlexAttention" => self.flex_attention(node, &attrs, scope),
            "SequenceMap" => self.sequence_map(node, &attrs, scope),
            _ if opset < 9 => self.batched_scan(node, &attrs, scope),
            _ => self.scan(node, &attrs, scope),
        }?;
        attrs.finish().map_err(|e| bad(e.to_string()))?;
        let found = node.output.iter().rposition(|name| !name.is_empty()).map_or(0, |i| i + 1);
        if found > results.len() {
            return Err(MapError::Outputs { expected: results.len(), found }.into_diagnostic());
        }
        Ok(results)
    }

    fn branch(&mut self, node: &NodeProto, attrs: &Attributes, scope: &NameScope) -> Result<Vec<Value>, Diagnostic> {
        let body = |name: &str| attrs.graph(name).map_err(|e| bad(e.to_string()));
        let (yes, no) = (body("then_branch")?, body("else_branch")?);
        let captures = self.captures(&[yes, no], scope)?;
        let regions =
            vec![self.region(yes, "then", &[], &captures, scope)?, self.region(no, "else", &[], &captures, scope)?];
        let cond = node.input.first().and_then(|name| scope.get(name));
        let mut operands = vec![Some(cond.ok_or_else(|| MapError::Input(0).into_diagnostic())?)];
        operands.extend(captures.operands.iter().map(|&v| Some(v)));
        self.add(node, cf::If {}, &operands, regions)
    }

    fn repeat(&mut self, node: &NodeProto, attrs: &Attributes, scope: &NameScope) -> Result<Vec<Value>, Diagnostic> {
        let body = attrs.graph("body").map_err(|e| bad(e.to_string()))?;
        let captures = self.captures(&[body], scope)?;
        let given = |i: usize| node.input.get(i).and_then(|name| scope.get(name));
        let mut operands = vec![given(0), given(1)];
        for i in 2..node.input.len() {
            operands.push(Some(given(i).ok_or_else(|| MapError::Input(i).into_diagnostic())?));
        }
        let carried = operands.len() - 2;
        operands.extend(captures.operands.iter().map(|&v| Some(v)));
        let op = cf::Loop { carried: carried as i64 };
        self.looped(node, body, op.into(), &operands, carried + 2, &captures, scope)
    }

    fn scan(&mut self, node: &NodeProto, attrs: &Attributes, scope: &NameScope) -> Result<Vec<Value>, Diagnostic> {
        let body = attrs.graph("body").map_err(|e| bad(e.to_string()))?;
        let list = |name: &str| Ok(attrs.ints(name).map_err(|e| bad(e.to_string()))?.unwrap_or_default());
        let captures = self.captures(&[body], scope)?;
        let (mut operands, scanned) = self.scan_operands(node, attrs, scope, 0)?;
        let inner = operands.len();
        let op = cf::Scan {
            states: (inner - scanned) as i64,
            scanned: scanned as i64,
            input_axes: list("scan_input_axes")?,
            input_reversed: list("scan_input_directions")?,
            output_axes: list("scan_output_axes")?,
            output_reversed: list("scan_output_directions")?,
        };
        operands.extend(captures.operands.iter().map(|&v| Some(v)));
        self.looped(node, body, op.into(), &operands, inner, &captures, scope)
    }

    /// `Scan` of operator set 8, whose values have a batch axis: a scan over the batch whose region is the scan proper.
    fn batched_scan(
        &mut self,
        node: &NodeProto,
        attrs: &Attributes,
        scope: &NameScope,
    ) -> Result<Vec<Value>, Diagnostic> {
        if node.input.first().is_some_and(|name| scope.get(name).is_some()) {
            return Err(Diagnostic::unsupported("import", "Scan with `sequence_lens` is not supported"));
        }
        let body = attrs.graph("body").map_err(|e| bad(e.to_string()))?;
        let input_reversed = attrs.ints("directions").map_err(|e| bad(e.to_string()))?.unwrap_or_default();
        let captures = self.captures(&[body], scope)?;
        let (mut operands, scanned) = self.scan_operands(node, attrs, scope, 1)?;
        let inner = operands.len();
        operands.extend(captures.operands.iter().map(|&v| Some(v)));
        let batch = self.batch_scan(0, inner);
        let params = self.params(&batch.clone().into(), &operands);
        let outer = std::mem::replace(&mut self.graph, Graph::new("batch"));
        for (i, ty) in params.into_iter().enumerate() {
            let name = node.input.get(i + 1).filter(|_| i < inner).map_or("capture", String::as_str);
            let name = unused(name, |name| self.graph.inputs().any(|v| self.graph.input_name(v) == Some(name)));
            self.graph.add_input(&name, ty);
        }
        let elements: Vec<Option<Value>> = self.graph.inputs().map(Some).collect();
        let op = cf::Scan { states: (inner - scanned) as i64, input_reversed, ..self.batch_scan(0, scanned) };
        let results = self.looped(node, body, op.into(), &elements, inner, &captures, scope)?;
        for (i, value) in results.into_iter().enumerate() {
            self.graph.outputs.push(Output { name: format!("out{i}"), value });
        }
        let region = std::mem::replace(&mut self.graph, outer);
        self.add(node, batch, &operands, vec![region])
    }

    fn batch_scan(&self, states: usize, scanned: usize) -> cf::Scan {
        cf::Scan {
            states: states as i64,
            scanned: scanned as i64,
            input_axes: vec![],
            input_reversed: vec![],
            output_axes: vec![],
            output_reversed: vec![],
        }
    }

    /// States and scanned tensors of a `Scan`, from input `start` on, and how many are scanned.
    fn scan_operands(
        &self,
        node: &NodeProto,
        attrs: &Attributes,
        scope: &NameScope,
        start: usize,
    ) -> Result<(Vec<Option<Value>>, usize), Diagnostic> {
        let scanned = attrs.int("num_scan_inputs").map_err(|e| bad(e.to_string()))?;
        let mut operands = vec![];
        for (i, name) in node.input.iter().enumerate().skip(start) {
            operands.push(Some(scope.get(name).ok_or_else(|| MapError::Input(i).into_diagnostic())?));
        }
        let scanned = scanned.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0 && n <= operands.len());
        Ok((operands, scanned.ok_or_else(|| bad("`num_scan_inputs` is missing or out of range"))?))
    }

    /// Imports the body of a loop, with parameter types that it keeps from trip to trip, and adds the loop. The body's
    /// inputs are the first `own` parameters.
    #[expect(clippy::too_many_arguments, reason = "all of a loop's parts meet here")]
    fn looped(
        &mut self,
        node: &NodeProto,
        body: &GraphProto,
        op: Op,
        operands: &[Option<Value>],
        own: usize,
        captures: &Captures,
        scope: &NameScope,
    ) -> Result<Vec<Value>, Diagnostic> {
        let carried = op.carried();
        let mut params = self.params(&op, operands);
        params.truncate(own);
        for round in 0.. {
            let region = self.region(body, "body", &params, captures, scope)?;
            if !widen_carried(&region, params.iter_mut().map(Some), carried, round) {
                return self.add(node, op, operands, vec![region]);
            }
        }
        Err(bad("the loop's types do not settle"))
    }

    /// The types of a loop's region parameters, as far as the operands tell.
    fn params(&self, op: &Op, operands: &[Option<Value>]) -> Vec<Type> {
        let types: Vec<_> = operands.iter().map(|v| v.map(|v| self.graph.ty(v))).collect();
        let cx = InferCx { types: &types, consts: &vec![None; types.len()], regions: &[] };
        op.region_params(&cx, 0).into_iter().flatten().collect()
    }

    /// What `bodies` use from outside.
    fn captures(&self, bodies: &[&GraphProto], scope: &NameScope) -> Result<Captures, Diagnostic> {
        let mut names = BTreeSet::new();
        for body in bodies {
            names.extend(self.names.captures(body)?.iter().cloned());
        }
        let mut found = Captures::default();
        for name in names {
            let value = *scope.values.get(&name).ok_or_else(|| {
                bad(format!("`{name}`, which a subgraph uses, is not defined by any node, input or initializer"))
            })?;
            let captured = match value {
                None => Captured::Absent,
                Some(value) => match &self.graph.node(value.node).op {
                    Op::Constant(c) => Captured::Constant(c.value.0.clone(), name.clone()),
                    _ => Captured::Operand(found.operand(value, self.graph.ty(value))),
                },
            };
            found.names.push((name, captured));
        }
        Ok(found)
    }

    /// Imports a subgraph as a region whose parameters have the types `params`, with the captures after them.
    fn region(
        &mut self,
        body: &GraphProto,
        name: &str,
        params: &[Type],
        captures: &Captures,
        scope: &NameScope,
    ) -> Result<Graph, Diagnostic> {
        if body.input.len() != params.len() {
            return Err(bad(format!("the subgraph has {} inputs, expected {}", body.input.len(), params.len())));
        }
        let mut inner = scope.inner()?;
        let outer = std::mem::replace(&mut self.graph, Graph::new(name));
        for (input, ty) in body.input.iter().zip(params) {
            let value = self.graph.add_input(input.name(), ty.clone());
            inner.define("input of the subgraph", input.name(), value)?;
        }
        let used = self.names.captures(body)?;
        self.add_captures(captures, &used, &mut inner);
        self.initializers(body, &mut inner)?;
        self.walk(&body.node, &mut inner)?;
        for output in &body.output {
            let undefined = || bad(format!("the subgraph's output `{}` is not defined", output.name()));
            let value = inner.get(output.name()).ok_or_else(undefined)?;
            let name = unused(output.name(), |name| self.graph.outputs.iter().any(|o| o.name == name));
            self.graph.outputs.push(Output { name, value });
        }
        Ok(std::mem::replace(&mut self.graph, outer))
    }

    /// Adds the captures' parameters and constants to the region that is being built, and the names that are its `own`
    /// to its scope: another branch may capture what this one defines itself.
    fn add_captures(&mut self, captures: &Captures, own: &BTreeSet<String>, inner: &mut NameScope) {
        let mut params = vec![];
        for (i, ty) in captures.types.iter().enumerate() {
            let named = captures.names.iter().find(|(_, c)| matches!(c, Captured::Operand(k) if *k == i));
            params.push(self.graph.add_input(named.map_or("", |(name, _)| name), ty.clone()));
        }
        for (name, captured) in captures.names.iter().filter(|(name, _)| own.contains(name)) {
            let value = match captured {
                Captured::Operand(i) => params.get(*i).copied(),
                Captured::Constant(tensor, loc) => Some(add_constant(&mut self.graph, tensor.clone(), loc)),
                Captured::Absent => None,
            };
            inner.values.entry(name.clone()).or_insert(value);
        }
    }

    /// Adds an op with regions; returns its results.
    fn add(
        &mut self,
        node: &NodeProto,
        op: impl Into<Op>,
        operands: &[Option<Value>],
        regions: Vec<Graph>,
    ) -> Result<Vec<Value>, Diagnostic> {
        let op = op.into();
        let types: Vec<_> = operands.iter().map(|v| v.map(|v| self.graph.ty(v))).collect();
        let consts: Vec<_> = operands.iter().map(|v| constant_of(&self.graph, (*v)?)).collect();
        let types = op.infer(&InferCx { types: &types, consts: &consts, regions: &regions });
        let types = types.map_err(|e| MapError::from(e).into_diagnostic())?;
        let count = types.len() as u32;
        let id = self.graph.add(op, operands, types);
        let added = self.graph.node_mut(id);
        added.regions = regions;
        added.loc.push(label(node));
        Ok((0..count).map(|result| Value { node: id, result }).collect())
    }
}

impl Captures {
    /// The place of `value` among the operands.
    fn operand(&mut self, value: Value, ty: &Type) -> usize {
        if let Some(i) = self.operands.iter().position(|&v| v == value) {
            return i;
        }
        self.operands.push(value);
        self.types.push(ty.clone());
        self.operands.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::import_bytes;
    use crate::proto::attribute_proto::AttributeType;
    use crate::proto::{AttributeProto, ModelProto, OperatorSetIdProto, ValueInfoProto};
    use crate::{write_tensor, write_type};
    use optc_ir::{TensorType, Val};
    use optc_tensor::DType;
    use prost::Message;

    fn value(name: &str, ty: Option<TensorType>) -> ValueInfoProto {
        let r#type = ty.map(|t| write_type(&t.into()));
        ValueInfoProto { name: Some(name.into()), r#type, ..ValueInfoProto::default() }
    }

    fn node(op: &str, inputs: &[&str], outputs: &[&str], bodies: &[(&str, GraphProto)]) -> NodeProto {
        let own = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        let graph = |(name, g): &(&str, GraphProto)| AttributeProto {
            name: Some((*name).into()),
            g: Some(g.clone()),
            r#type: Some(AttributeType::Graph as i32),
            ..AttributeProto::default()
        };
        let attribute = bodies.iter().map(graph).collect();
        NodeProto {
            input: own(inputs),
            output: own(outputs),
            op_type: Some(op.into()),
            attribute,
            ..Default::default()
        }
    }

    fn body(nodes: Vec<NodeProto>, inputs: &[&str], outputs: &[&str]) -> GraphProto {
        let named = |names: &[&str]| names.iter().map(|n| value(n, None)).collect();
        GraphProto { node: nodes, input: named(inputs), output: named(outputs), ..GraphProto::default() }
    }

    /// `y` from `c: bool` and `x: 2xf32`, with the initializer `w`.
    fn import(nodes: Vec<NodeProto>) -> Result<Graph, Diagnostic> {
        import_at(17, &[2], nodes)
    }

    fn import_at(opset: i64, shape: &[usize], nodes: Vec<NodeProto>) -> Result<Graph, Diagnostic> {
        let x = TensorType::fixed(DType::F32, shape);
        let graph = GraphProto {
            node: nodes,
            input: vec![value("c", Some(TensorType::fixed(DType::Bool, &[]))), value("x", Some(x))],
            output: vec![value("y", None)],
            initializer: vec![write_tensor("w", &Tensor::from_slice(&[2], &[10f32, 20.0]).unwrap())],
            ..GraphProto::default()
        };
        let opset = OperatorSetIdProto { domain: None, version: Some(opset) };
        let model =
            ModelProto { ir_version: Some(8), opset_import: vec![opset], graph: Some(graph), ..Default::default() };
        import_bytes(&model.encode_to_vec())
    }

    fn run(graph: &Graph, c: bool) -> Vec<f64> {
        let x = Tensor::from_slice(&[2], &[1f32, 2.0]).unwrap();
        let results = optc_ir::run(graph, &[Tensor::from_bools(&[], &[c]).unwrap().into(), Val::Tensor(x)]).unwrap();
        results[0].as_tensor().unwrap().to_f64_vec()
    }

    #[test]
    fn a_value_may_be_given_to_a_scan_more_than_once() {
        let sum = vec![node("Add", &["state", "next"], &["out"], &[])];
        let sum = body(sum, &["state", "next"], &["out", "out"]);
        let mut scan = node("Scan", &["", "x", "x"], &["", "y"], &[("body", sum)]);
        let scanned = AttributeProto {
            name: Some("num_scan_inputs".into()),
            i: Some(1),
            r#type: Some(AttributeType::Int as i32),
            ..AttributeProto::default()
        };
        scan.attribute.push(scanned);
        let graph = import_at(8, &[1, 2], vec![scan]).unwrap();
        assert!(optc_ir::verify(&graph).is_empty(), "{}", optc_ir::print(&graph).text);
    }

    fn nested() -> NodeProto {
        let inner = |op: &str| body(vec![node(op, &["x", "w"], &["z"], &[])], &[], &["z"]);
        let choose = node("If", &["c"], &["z"], &[("then_branch", inner("Add")), ("else_branch", inner("Sub"))]);
        let shadow = vec![node("Neg", &["x"], &["w"], &[]), node("Mul", &["w", "x"], &["z"], &[])];
        let bodies = [("then_branch", body(vec![choose], &[], &["z"])), ("else_branch", body(shadow, &[], &["z"]))];
        node("If", &["c"], &["y"], &bodies)
    }

    #[test]
    fn captures_come_from_any_depth_and_inner_names_win() {
        let graph = import(vec![nested()]).unwrap();
        assert_eq!(optc_ir::verify(&graph), []);
        assert_eq!(run(&graph, true), [11.0, 22.0]);
        assert_eq!(run(&graph, false), [-1.0, -4.0]);
        let outer = graph.node(graph.outputs[0].value.node);
        assert_eq!(outer.operands.len(), 3); // the condition, `c` and `x`: the constant `w` is copied into the region
        assert_eq!(graph.outputs[0].name, "y");
    }

    #[test]
    fn branches_may_return_what_they_capture() {
        let direct = |name: &str| body(vec![], &[], &[name]);
        let choose = node("If", &["c"], &["y"], &[("then_branch", direct("w")), ("else_branch", direct("x"))]);
        let graph = import(vec![choose]).unwrap();
        assert_eq!((run(&graph, true), run(&graph, false)), (vec![10.0, 20.0], vec![1.0, 2.0]));
    }

    #[test]
    fn a_loop_whose_value_grows_is_imported_without_the_extent() {
        let grow = vec![node("Concat", &["v", "x"], &["next"], &[])];
        let mut grow = body(grow, &["i", "go", "v"], &["go", "next"]);
        let axis = AttributeProto { name: Some("axis".into()), i: Some(0), r#type: Some(2), ..Default::default() };
        grow.node[0].attribute.push(axis);
        let repeat = node("Loop", &["n", "", "x"], &["y"], &[("body", grow)]);
        let count =
            AttributeProto { name: Some("value_int".into()), i: Some(2), r#type: Some(2), ..Default::default() };
        let mut n = node("Constant", &[], &["n"], &[]);
        n.attribute.push(count);
        let graph = import(vec![n, repeat]).unwrap();
        assert_eq!(run(&graph, true), [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
    }

    #[test]
    fn bad_subgraphs_are_errors() {
        let reason =
            |bodies: &[(&str, GraphProto)]| import(vec![node("If", &["c"], &["y"], bodies)]).unwrap_err().to_string();
        let fine = body(vec![], &[], &["x"]);
        assert!(reason(&[("then_branch", fine.clone())]).contains("`else_branch` is missing"));
        let lost = body(vec![], &[], &["nowhere"]);
        assert!(reason(&[("then_branch", fine.clone()), ("else_branch", lost)]).contains("`nowhere`"));
        let two = body(vec![], &[], &["x", "w"]);
        assert!(reason(&[("then_branch", fine.clone()), ("else_branch", two)]).contains("1 and 2 outputs"));
        let extra = body(vec![], &["p"], &["p"]);
        assert!(reason(&[("then_branch", fine), ("else_branch", extra)]).contains("1 inputs, expected 0"));
    }
}
