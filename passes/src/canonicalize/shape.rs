//! Rules on ops that change the shape and leave the elements in their order.

use optc_ir::ops::math::{Reduce, ReduceKind};
use optc_ir::ops::tensor::Reshape;
use optc_ir::{Graph, NodeId, Op, Value};

use crate::matching::{ints, positive_axes, producer, result, same_shape, shape, shape_tensor};
use crate::rewrite::Patch;

/// The patch by which `node` becomes a reshape of `x` to a constant shape.
pub(super) fn reshape_to(node: NodeId, x: Value, to: &[usize]) -> Option<Patch> {
    let mut patch = Patch::new();
    let target = patch.constant(shape_tensor(to)?);
    let new = patch.add(Reshape { allow_zero: to.contains(&0) }, &[x.into(), target]);
    Some(patch.replacing(result(node), new))
}

/// A reshape to the shape that `x` has → `x`.
pub(super) fn reshape_of_nothing(g: &Graph, node: NodeId) -> Option<Patch> {
    let changes_shape = |op: &Op| matches!(op, Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze(_) | Op::Unsqueeze(_));
    let x = g.operand(node, 0)?;
    (changes_shape(&g.node(node).op) && same_shape(g, x, result(node))).then(|| Patch::forward(node, x))
}

/// A change of shape whose result is concrete → the same of what the changes of shape before it started from.
pub(super) fn reshape_of_reshape(g: &Graph, node: NodeId) -> Option<Patch> {
    let Op::Reshape(_) = &g.node(node).op else { return None };
    let (inner, _) = producer::<Reshape>(g, g.operand(node, 0)?)?;
    reshape_to(node, g.operand(inner, 0)?, &shape(g, result(node))?)
}

/// A reshape to a computed shape, or one with `-1` or `0`, whose result is concrete → its extents.
pub(super) fn reshape_to_constant(g: &Graph, node: NodeId) -> Option<Patch> {
    let Op::Reshape(_) = &g.node(node).op else { return None };
    let to = shape(g, result(node))?;
    let target = ints(g, node, 1);
    let settled = target.is_some_and(|t| t.iter().copied().eq(to.iter().map(|&n| n as i64)));
    if settled { None } else { reshape_to(node, g.operand(node, 0)?, &to) }
}

/// Flatten, squeeze and unsqueeze with a concrete result → reshape.
pub(super) fn to_reshape(g: &Graph, node: NodeId) -> Option<Patch> {
    let changes_shape = matches!(g.node(node).op, Op::Flatten(_) | Op::Squeeze(_) | Op::Unsqueeze(_));
    changes_shape.then(|| reshape_to(node, g.operand(node, 0)?, &shape(g, result(node))?))?
}

/// A reduction over axes in a constant operand → over those in its attribute.
pub(super) fn reduce_over_constant(g: &Graph, node: NodeId) -> Option<Patch> {
    let reduce = g.op::<Reduce>(node)?;
    let axes = ints(g, node, 1)?;
    if axes.is_empty() && !reduce.all_if_empty {
        return None; // over no axis, which the attribute cannot say
    }
    let over = Reduce { axes, all_if_empty: false, ..reduce.clone() };
    Some(Patch::replace(node, over, &[g.operand(node, 0)?]))
}

/// A sum, mean, product, maximum or minimum over axes of extent 1 → reshape.
pub(super) fn reduce_of_nothing(g: &Graph, node: NodeId) -> Option<Patch> {
    let reduce = g.op::<Reduce>(node)?;
    let x = g.operand(node, 0)?;
    let from = shape(g, x)?;
    let axes = match reduce.axes.is_empty() {
        true => (0..from.len()).collect(),
        false => positive_axes(&reduce.axes, from.len())?,
    };
    let keeps_values = match reduce.kind {
        ReduceKind::Sum | ReduceKind::Mean | ReduceKind::Prod | ReduceKind::Max | ReduceKind::Min => true,
        ReduceKind::SumSquare | ReduceKind::L1 | ReduceKind::L2 | ReduceKind::LogSum | ReduceKind::LogSumExp => false,
    };
    let ones = axes.iter().all(|&a| from[a] == 1);
    (keeps_values && ones).then(|| reshape_to(node, x, &shape(g, result(node))?))?
}
