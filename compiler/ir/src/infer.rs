//! Type inference over a whole graph.

use optc_tensor::Tensor;

use crate::{Graph, GraphError, InferCx, NodeId, Op, OpError, Type};

/// Recomputes every result's type from the operands' types and constants, in topological order.
///
/// # Errors
/// The first op that refuses its operands, or a cycle.
pub fn infer_types(graph: &mut Graph) -> Result<(), GraphError> {
    let cycle = || GraphError {
        op: "graph".to_owned(),
        loc: graph.name.clone(),
        error: OpError::Constraint { constraint: "acyclic", reason: "the graph has a cycle".to_owned() },
    };
    for id in graph.topological_order().ok_or_else(cycle)? {
        if matches!(graph.node(id).op, Op::Param(_)) {
            continue;
        }
        let types = infer_node(graph, id).map_err(|error| at(graph, id, error))?;
        let node = graph.node_mut(id);
        for (info, ty) in node.results.iter_mut().zip(types) {
            info.ty = ty;
        }
    }
    Ok(())
}

/// The types that `infer` gives for one node.
pub(crate) fn infer_node(graph: &Graph, id: NodeId) -> Result<Vec<Type>, OpError> {
    let node = graph.node(id);
    let types: Vec<Option<&Type>> = node.operands.iter().map(|v| v.map(|v| graph.ty(v))).collect();
    let consts: Vec<Option<&Tensor>> = node.operands.iter().map(|v| constant(graph, (*v)?.node)).collect();
    node.op.infer(&InferCx { types: &types, consts: &consts, regions: &node.regions })
}

/// The tensor of a constant op.
fn constant(graph: &Graph, id: NodeId) -> Option<&Tensor> {
    if let Op::Constant(c) = &graph.get(id)?.op { Some(&c.value.0) } else { None }
}

/// Puts the place to an op's error.
pub(crate) fn at(graph: &Graph, id: NodeId, error: OpError) -> GraphError {
    let node = graph.node(id);
    let loc = if node.loc.is_empty() { format!("node {}", id.index()) } else { node.loc.join(", ") };
    GraphError { op: node.op.name().to_owned(), loc, error }
}
