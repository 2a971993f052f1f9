//! Regions that no kernel takes are taken apart before a graph is lowered: their ops go their own ways.
//!
//! `fuse` makes none of them for the networks that we know; graphs from elsewhere may have them. What is looked at is
//! what families ask for before anything else; should one decline later, the region runs on the host as a whole.

use std::collections::{HashMap, HashSet};

use optc_ir::{Graph, Node, NodeId, Op, TensorType, Value};
use optc_tensor::DType;

use super::fused::{analyse, anchor_params};
use super::places::buffered;
use super::stored::is_constant;

/// Takes the regions of a graph apart that no kernel takes, and says of their nodes why. Nodes whose shapes are not
/// proven stay: the host evaluates them as they are.
pub(super) fn regions(graph: &mut Graph, unproven: &HashSet<NodeId>) -> HashMap<NodeId, String> {
    let mut split = HashMap::new();
    for id in graph.topological_order().unwrap_or_default() {
        if unproven.contains(&id) {
            continue;
        }
        if let Some(reason) = refusal(graph, graph.node(id)) {
            for part in inlined(graph, id).unwrap_or_default() {
                split.insert(part, reason.clone());
            }
        }
    }
    split
}

/// Why no kernel takes a fused region.
fn refusal(graph: &Graph, node: &Node) -> Option<String> {
    let (Op::Fused(_), [region]) = (&node.op, &node.regions[..]) else { return None };
    let reason = |text: &str| Some(text.to_owned());
    let Some(result) = node.results.first().and_then(|r| buffered(&r.ty)?.static_shape()) else {
        return reason("the shape of a result depends on data");
    };
    let fusion = match analyse(region) {
        Ok(fusion) => fusion,
        Err(declined) => return Some(declined.0.sentence),
    };
    let shape = |value: Value| graph.ty(value).as_tensor().and_then(TensorType::static_shape);
    let fits = |param: &usize| {
        let shape = node.operands.get(*param).copied().flatten().and_then(shape);
        shape.is_some_and(|shape| broadcasts(&shape, &result))
    };
    if !fusion.operands.iter().all(fits) {
        return reason("an operand does not broadcast to the result");
    }
    let anchor = fusion.anchor?;
    let params = match anchor_params(region, anchor, &result) {
        Ok(params) => params,
        Err(declined) => return Some(declined.0.sentence),
    };
    let operand = |slot: usize| node.operands.get((*params.get(slot)?)?).copied().flatten();
    let empty = |value: Value| shape(value).is_none_or(|shape| shape.contains(&0));
    if result.contains(&0) || (0..params.len()).filter_map(operand).any(empty) {
        return reason("there is nothing to compute");
    }
    let constant = |slot: usize| operand(slot).is_none_or(|value| is_constant(graph, value));
    let rank = |slot: usize| operand(slot).and_then(shape).map_or(0, |shape| shape.len());
    refused(&region.node(anchor).op, constant, rank).and_then(reason)
}

/// Whether a shape broadcasts to another one.
fn broadcasts(from: &[usize], to: &[usize]) -> bool {
    from.len() <= to.len() && from.iter().rev().zip(to.iter().rev()).all(|(a, b)| a == b || *a == 1)
}

/// Why no kernel takes an op, whatever is applied to its result: which operands are constant (or absent), and their
/// ranks.
fn refused(op: &Op, constant: impl Fn(usize) -> bool, rank: impl Fn(usize) -> usize) -> Option<&'static str> {
    match op {
        Op::Conv(op) if op.precision == DType::BF16 && !constant(1) => Some("in bfloat16, weights are constant"),
        Op::Conv(op) if op.precision == DType::BF16 && rank(1) > 4 => {
            Some("convolutions in bfloat16 have at most two spatial axes")
        }
        Op::MatMul(op) if op.precision == DType::BF16 => one_matrix(constant(1), rank(1)),
        Op::Gemm(op) if op.precision == DType::BF16 => one_matrix(constant(1), rank(1)),
        Op::QuantConv(_) if !constant(1) || !constant(3) => Some("the weights are not constant"),
        Op::QuantMatMul(_) if !constant(2) && !constant(1) => Some("the weights are not constant"),
        _ => None,
    }
}

fn one_matrix(constant: bool, rank: usize) -> Option<&'static str> {
    (!constant || rank != 2).then_some("in bfloat16, the right operand is one constant matrix")
}

/// Puts the ops of a node's region in its place; nothing is changed where the region is not sound.
fn inlined(graph: &mut Graph, id: NodeId) -> Option<Vec<NodeId>> {
    let node = graph.node(id).clone();
    let region = node.regions.first()?;
    let order = region.topological_order()?;
    let mut outer: HashMap<Value, Value> = HashMap::new();
    for (param, operand) in region.inputs().zip(&node.operands) {
        outer.insert(param, (*operand)?);
    }
    let mut parts = vec![];
    for inner in order {
        let part = region.node(inner);
        if matches!(part.op, Op::Param(_)) {
            continue;
        }
        let operands: Vec<_> = part.operands.iter().map(|o| o.and_then(|v| outer.get(&v).copied())).collect();
        let new = graph.add(part.op.clone(), &operands, part.results.iter().map(|r| r.ty.clone()).collect());
        graph.node_mut(new).loc = part.loc.clone();
        for result in 0..part.results.len() as u32 {
            outer.insert(Value { node: inner, result }, Value { node: new, result });
        }
        parts.push(new);
    }
    for (result, output) in region.outputs.iter().enumerate() {
        let old = Value { node: id, result: result as u32 };
        if let Some(&new) = outer.get(&output.value) {
            graph.replace_uses(old, new);
        }
    }
    graph.remove(id);
    Some(parts)
}
