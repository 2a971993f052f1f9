//! The verifier: lists everything that is wrong with a graph.
//!
//! - (V1) The graph has no cycle.
//! - (V2) Every operand and output names a result that exists.
//! - (V3) Every op accepts its operands: arity, constraints, dtypes.
//! - (V4) Every result has a type that accepts the inferred one, and there are as many as the op has.
//! - (V5) Input and output names are not empty and not repeated.
//! - (V6) Regions hold all of this as well.
//! - (V7) A constant of which `zeros` elements were pruned has at least as many zeros.

use std::collections::HashSet;

use crate::infer::infer_node;
use crate::ops::tensor::Constant;
use crate::{Graph, NodeId, Op, Value};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The node, where there is one.
    pub node: Option<NodeId>,
    /// The invariant's number, `V1` to `V7`.
    pub rule: &'static str,
    /// What is wrong, with the op and its ONNX nodes.
    pub message: String,
}

/// Every failure of `graph`, in topological order; empty when it is sound.
pub fn verify(graph: &Graph) -> Vec<Failure> {
    let mut failures = vec![];
    operands_exist(graph, &mut failures);
    names(graph, &mut failures);
    let Some(order) = graph.topological_order() else {
        failures.push(Failure { node: None, rule: "V1", message: "the graph has a cycle".to_owned() });
        return failures;
    };
    if failures.iter().any(|f| f.rule == "V2") {
        return failures;
    }
    for id in order {
        check_node(graph, id, &mut failures);
    }
    failures
}

fn exists(graph: &Graph, value: Value) -> bool {
    graph.get(value.node).is_some_and(|n| (value.result as usize) < n.results.len())
}

fn operands_exist(graph: &Graph, failures: &mut Vec<Failure>) {
    for id in graph.ids() {
        for (slot, value) in graph.node(id).operands.iter().enumerate() {
            if value.is_some_and(|v| !exists(graph, v)) {
                let message = format!("operand {slot} of `{}` is not defined", graph.node(id).op.name());
                failures.push(Failure { node: Some(id), rule: "V2", message });
            }
        }
    }
    for output in graph.outputs.iter().filter(|o| !exists(graph, o.value)) {
        failures.push(Failure { node: None, rule: "V2", message: format!("output `{}` is not defined", output.name) });
    }
}

fn names(graph: &Graph, failures: &mut Vec<Failure>) {
    let inputs: Vec<&str> = graph.inputs().filter_map(|v| graph.input_name(v)).collect();
    let outputs: Vec<&str> = graph.outputs.iter().map(|o| o.name.as_str()).collect();
    for (kind, names) in [("input", inputs), ("output", outputs)] {
        let mut seen = HashSet::new();
        for name in names {
            if name.is_empty() || !seen.insert(name) {
                let message = format!("{kind} name `{name}` is empty or repeated");
                failures.push(Failure { node: None, rule: "V5", message });
            }
        }
    }
}

fn check_node(graph: &Graph, id: NodeId, failures: &mut Vec<Failure>) {
    let node = graph.node(id);
    if matches!(node.op, Op::Param(_)) {
        return;
    }
    let mut fail = |rule, message| failures.push(Failure { node: Some(id), rule, message });
    match infer_node(graph, id) {
        Err(error) => fail("V3", format!("`{}`: {error}", node.op.name())),
        Ok(types) if types.len() != node.results.len() => {
            fail("V4", format!("`{}` has {} results, found {}", node.op.name(), types.len(), node.results.len()));
        }
        Ok(types) => {
            for (info, ty) in node.results.iter().zip(&types).filter(|(info, ty)| !info.ty.accepts(ty)) {
                fail("V4", format!("`{}` gives {ty}, declared {}", node.op.name(), info.ty));
            }
        }
    }
    if let Op::Constant(c) = &node.op
        && c.zeros != 0
    {
        let found = Constant::count_zeros(&c.value.0);
        if usize::try_from(c.zeros).map_or(true, |pruned| found < pruned) {
            fail("V7", format!("`tensor.const` has {found} zeros, {} were pruned", c.zeros));
        }
    }
    for region in &node.regions {
        failures.extend(verify(region).into_iter().map(|f| Failure { node: Some(id), rule: "V6", message: f.message }));
    }
}
