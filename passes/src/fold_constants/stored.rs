//! Integers that are widened and scaled by hand are dequantized: `cast(q) * scale` of constants gives what
//! `quant.dequantize` does, in fewer bytes.

use optc_ir::ops::math::{Cast, Mul};
use optc_ir::ops::quant::Dequantize;
use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Graph, NodeId, TensorType, Value};
use optc_tensor::{DType, Tensor};

use super::STORED;
use crate::matching::{producer, pruned, result};

/// Integers, their scales, and the axis along which these differ.
pub(super) struct ScaledByHand {
    integers: Value,
    scales: Tensor,
    axis: i64,
}

/// What a node multiplies, if it scales constant integers.
pub(super) fn scaled(graph: &Graph, id: NodeId) -> Option<ScaledByHand> {
    graph.op::<Mul>(id)?;
    [(0, 1), (1, 0)].into_iter().find_map(|(cast, scale)| {
        let (integers, scales) = (graph.operand(id, cast)?, graph.constant(graph.operand(id, scale)?)?);
        let integers = widened(graph, producer::<Cast>(graph, integers)?.0)?;
        let (axis, scales) = along_one_axis(graph.constant(integers)?.shape(), scales)?;
        Some(ScaledByHand { integers, scales, axis })
    })
}

/// Whether a node widens constant integers that are only scaled.
pub(super) fn is_to_be_scaled(graph: &Graph, id: NodeId) -> bool {
    let users = || graph.each_use(result(id)).all(|(user, _)| scaled(graph, user).is_some());
    widened(graph, id).is_some() && graph.is_used(result(id)) && !graph.is_output(result(id)) && users()
}

/// The constant integers, enough of them, that a node casts to `f32`.
fn widened(graph: &Graph, id: NodeId) -> Option<Value> {
    graph.op::<Cast>(id).filter(|cast| cast.to == DType::F32)?;
    let integers = graph.operand(id, 0).filter(|&v| pruned(graph, v) == 0)?;
    let t = graph.constant(integers)?;
    let few_bits = matches!(t.dtype(), DType::I8 | DType::U8 | DType::I4 | DType::U4);
    (few_bits && t.len() >= STORED).then_some(integers)
}

/// Scales that broadcast to a shape as one number, or as one for each index of an axis.
fn along_one_axis(shape: &[usize], scales: &Tensor) -> Option<(i64, Tensor)> {
    let lead = shape.len().checked_sub(scales.rank()).filter(|_| scales.dtype() == DType::F32)?;
    let mut long = scales.shape().iter().enumerate().filter(|(_, n)| **n != 1);
    let (axis, to) = match (long.next(), long.next()) {
        (None, _) => (0, vec![]),
        (Some((d, &n)), None) if shape[lead + d] == n => (lead + d, vec![n]),
        _ => return None,
    };
    Some((axis as i64, scales.reshaped(&to).ok()?))
}

/// Puts the dequantization in the place of a node; gives it.
pub(super) fn dequantize(graph: &mut Graph, id: NodeId, of: ScaledByHand) -> NodeId {
    let loc = graph.node(id).loc.clone();
    let constant = Constant { value: Const(of.scales.clone()), zeros: 0 };
    let ty = TensorType::fixed(DType::F32, of.scales.shape()).into();
    let scales = graph.add(constant, &[], vec![ty]);
    let types = graph.node(id).results.iter().map(|r| r.ty.clone()).collect();
    let op = Dequantize { axis: of.axis, block: 0, to: DType::F32 };
    let new = graph.add(op, &[Some(of.integers), Some(result(scales))], types);
    graph.node_mut(new).loc = loc;
    graph.replace_uses(result(id), result(new));
    new
}
