//! Puts the branch that runs in place of its `cf.if`, and what a custom op computes in place of its call.

use std::collections::HashMap;

use optc_ir::ops::custom::CustomOperands;
use optc_ir::{Graph, NodeId, Op, Type, Value, infer_types};
use optc_tensor::Tensor;

use crate::rewrite::{refined, remove_unused};

/// The branch of an `if` with a constant condition, inferred with the types of the operands; `None` for other ops, and
/// where the branch refuses those types: it then fails when it runs, should it ever.
pub(super) fn known_branch(graph: &Graph, id: NodeId) -> Option<Graph> {
    let Op::If(_) = &graph.node(id).op else { return None };
    let cond = graph.constant(graph.operand(id, 0)?)?;
    let chosen = if cond.to_i64_vec() == [0] { 1 } else { 0 };
    let mut branch = graph.node(id).regions.get(chosen).filter(|_| cond.len() == 1)?.clone();
    for (slot, param) in branch.inputs().collect::<Vec<_>>().into_iter().enumerate() {
        branch.node_mut(param.node).results[0].ty = graph.ty(graph.operand(id, slot + 1)?).clone();
    }
    infer_types(&mut branch).ok()?;
    Some(branch)
}

/// The graph that computes a call of a custom op, for the types that its operands have by now, if there is one.
pub(super) fn expansion(graph: &Graph, id: NodeId) -> Option<Graph> {
    let Op::CustomCall(call) = &graph.node(id).op else { return None };
    let operands = &graph.node(id).operands;
    let types: Vec<Option<&Type>> = operands.iter().map(|v| v.map(|v| graph.ty(v))).collect();
    let constants: Vec<Option<&Tensor>> = operands.iter().map(|v| graph.constant((*v)?)).collect();
    // What it refuses, it refuses when it runs.
    let mut expansion = call.expansion(&CustomOperands { types: &types, constants: &constants }).ok()??;
    let (inputs, present) = (expansion.inputs().len(), types.iter().flatten().count());
    if inputs != present || expansion.outputs.len() != graph.node(id).results.len() {
        return None;
    }
    let loc = &graph.node(id).loc;
    expansion.ids().collect::<Vec<_>>().into_iter().for_each(|inner| expansion.node_mut(inner).loc.clone_from(loc));
    Some(expansion)
}

/// Replaces the node by the ops of `branch`, whose inputs are the node's operands from `first` on; returns these ops,
/// which keep their locations, in topological order.
pub(super) fn inline(graph: &mut Graph, id: NodeId, first: usize, branch: &Graph) -> Vec<NodeId> {
    let operands = graph.node(id).operands.iter().skip(first).flatten();
    let mut outside: HashMap<Value, Value> = branch.inputs().zip(operands.copied()).collect();
    let mut made = vec![];
    for inner in branch.topological_order().unwrap_or_default() {
        let node = branch.node(inner);
        if matches!(node.op, Op::Param(_)) {
            continue;
        }
        let operands: Vec<Option<Value>> =
            node.operands.iter().map(|v| v.and_then(|v| outside.get(&v).copied())).collect();
        let new = graph.add(node.op.clone(), &operands, node.results.iter().map(|r| r.ty.clone()).collect());
        graph.node_mut(new).regions.clone_from(&node.regions);
        graph.node_mut(new).loc.clone_from(&node.loc);
        graph.node_mut(new).names.clone_from(&node.names);
        for result in 0..node.results.len() as u32 {
            outside.insert(Value { node: inner, result }, Value { node: new, result });
        }
        made.push(new);
    }
    for (result, output) in (0..).zip(&branch.outputs) {
        let (old, Some(&new)) = (Value { node: id, result }, outside.get(&output.value)) else { continue };
        if made.contains(&new.node) {
            let ty = refined(graph.ty(new), graph.ty(old));
            graph.node_mut(new.node).results[new.result as usize].ty = ty;
        }
        graph.replace_uses(old, new);
    }
    remove_unused(graph, id);
    made
}
