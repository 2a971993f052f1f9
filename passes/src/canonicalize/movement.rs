//! Rules on ops that move elements.

use optc_ir::ops::math::{Cast, Mul};
use optc_ir::ops::nn::Conv;
use optc_ir::ops::quant::Dequantize;
use optc_ir::ops::tensor::{Concat, Expand, Gather, Pad, PadMode, Split, Transpose};
use optc_ir::{Graph, NodeId, Op, Value};
use optc_tensor::DType;

use super::arith::is_broadcasting;
use crate::matching::{
    has_one_use, ints, operands2, positive_axes, producer, rank, result, same_shape, shape, splat_of, tensor_type,
};
use crate::rewrite::{Patch, Ref};

/// A transpose that leaves every axis at its place → `x`.
pub(super) fn transpose_identity(g: &Graph, node: NodeId) -> Option<Patch> {
    let t = g.op::<Transpose>(node)?;
    let stays = t.perm.iter().enumerate().all(|(i, &p)| i as i64 == p);
    stays.then(|| g.operand(node, 0).map(|x| Patch::forward(node, x)))?
}

/// Two transposes → one.
pub(super) fn transpose_of_transpose(g: &Graph, node: NodeId) -> Option<Patch> {
    let outer = g.op::<Transpose>(node)?;
    let (inner, t) = producer::<Transpose>(g, g.operand(node, 0)?)?;
    let perm = outer.perm.iter().map(|&p| t.perm.get(usize::try_from(p).ok()?).copied()).collect::<Option<_>>()?;
    Some(Patch::replace(node, Transpose { perm }, &[g.operand(inner, 0)?]))
}

/// A transpose that moves extents of 1 only → reshape.
pub(super) fn transpose_to_reshape(g: &Graph, node: NodeId) -> Option<Patch> {
    let t = g.op::<Transpose>(node)?;
    let x = g.operand(node, 0)?;
    let from = shape(g, x)?;
    let moved: Vec<i64> = t.perm.iter().copied().filter(|&p| from.get(p as usize) != Some(&1)).collect();
    if moved.windows(2).any(|w| w[0] > w[1]) {
        return None;
    }
    super::shape::reshape_to(node, x, &shape(g, result(node))?)
}

/// Rows gathered of a constant table that is dequantized → the integers of these rows, dequantized: the table stays in
/// the form that is stored.
pub(super) fn gather_of_dequantize(g: &Graph, node: NodeId) -> Option<Patch> {
    let gather = g.op::<Gather>(node).filter(|op| op.axis == 0)?;
    let (table, indices) = operands2(g, node)?;
    let (table, op) = producer::<Dequantize>(g, table)?;
    let (integers, scales) = (g.operand(table, 0)?, g.constant(g.operand(table, 1)?)?);
    let (zeros, stored) = (g.operand(table, 2), g.constant(integers)?);
    let bytes = matches!(stored.dtype(), DType::I8 | DType::U8);
    if !bytes || stored.rank() != 2 || op.block != 0 || op.to != DType::F32 {
        return None;
    }
    let mut patch = Patch::new();
    let rows = patch.add(gather.clone(), &[integers.into(), indices.into()]);
    let axis = *positive_axes(&[op.axis], stored.rank())?.first()?;
    let new = if scales.len() == 1 || axis == 1 {
        let axis = if scales.len() == 1 { 0 } else { rank(g, indices)? as i64 };
        let operands = [Some(rows), Some(g.operand(table, 1)?.into()), zeros.map(Ref::from)];
        patch.add(Dequantize { axis, ..op.clone() }, &operands.into_iter().flatten().collect::<Vec<_>>())
    } else if zeros.is_none() {
        let scales = patch.constant(scales.reshaped(&[scales.len(), 1]).ok()?);
        let scales = patch.add(gather.clone(), &[scales, indices.into()]);
        let floats = patch.add(Cast { to: DType::F32 }, &[rows]);
        patch.add(Mul {}, &[floats, scales])
    } else {
        return None;
    };
    Some(patch.replacing(result(node), new))
}

/// A concatenation of one operand → that operand. Operands without elements count for nothing.
pub(super) fn concat_of_one(g: &Graph, node: NodeId) -> Option<Patch> {
    let op = g.op::<Concat>(node)?;
    let axis = *positive_axes(&[op.axis], rank(g, result(node))?)?.first()?;
    let operands: Vec<Value> = g.node(node).operands.iter().copied().collect::<Option<_>>()?;
    let counts = |v: &&Value| shape(g, **v).is_none_or(|s| s.get(axis) != Some(&0));
    let kept: Vec<Value> = operands.iter().filter(counts).copied().collect();
    match kept[..] {
        [x] => Some(Patch::forward(node, x)),
        [] => None,
        _ => (kept.len() < operands.len()).then(|| Patch::replace(node, op.clone(), &kept)),
    }
}

/// Concatenations that only another one along the same axis uses → one concatenation. The outermost takes all that are
/// inside, at once: one at a time would copy the operands of a long chain again and again.
pub(super) fn concat_of_concat(g: &Graph, node: NodeId) -> Option<Patch> {
    let op = g.op::<Concat>(node)?;
    if g.each_use(result(node)).next().is_some_and(|(user, _)| nested(g, result(node), user)) {
        return None;
    }
    let operands = |node: NodeId| g.node(node).operands.iter().rev().copied();
    let (mut flat, mut found) = (vec![], false);
    let mut waiting: Vec<Value> = operands(node).collect::<Option<_>>()?;
    while let Some(v) = waiting.pop() {
        // Only the outermost has other users, so that what is nested in one that is nested has one use as well.
        if nested(g, v, node) && g.node(v.node).operands.iter().all(Option::is_some) {
            waiting.extend(operands(v.node).flatten());
            found = true;
        } else {
            flat.push(v);
        }
    }
    found.then(|| Patch::replace(node, op.clone(), &flat))
}

/// Whether `v` is a concatenation along the axis of the concatenation `user`, and is used but once.
fn nested(g: &Graph, v: Value, user: NodeId) -> bool {
    let axis = |node: NodeId| positive_axes(&[g.op::<Concat>(node)?.axis], rank(g, result(user))?);
    has_one_use(g, v) && v.result == 0 && axis(v.node).is_some() && axis(v.node) == axis(user)
}

/// A slice that takes every element in order → `x`.
pub(super) fn slice_of_all(g: &Graph, node: NodeId) -> Option<Patch> {
    let Op::Slice(_) = &g.node(node).op else { return None };
    let x = g.operand(node, 0)?;
    let forward = match g.operand(node, 4) {
        None => true,
        Some(_) => ints(g, node, 4)?.iter().all(|&s| s > 0),
    };
    let whole = shape(g, x)? == shape(g, result(node))?;
    (forward && whole).then(|| Patch::forward(node, x))
}

/// A split into one part → `x`.
pub(super) fn split_into_one(g: &Graph, node: NodeId) -> Option<Patch> {
    let op = g.op::<Split>(node)?;
    (op.sizes.len() == 1).then(|| g.operand(node, 0).map(|x| Patch::forward(node, x)))?
}

/// A pad by nothing → `x`.
pub(super) fn pad_of_nothing(g: &Graph, node: NodeId) -> Option<Patch> {
    let pad = g.op::<Pad>(node)?;
    if g.operand(node, 2).is_some() {
        return None; // the pads are those of the operand
    }
    pad.pads.iter().all(|&p| p == 0).then(|| g.operand(node, 0).map(|x| Patch::forward(node, x)))?
}

/// A pad of spatial axes by zeros → the pads of the convolution after it.
pub(super) fn pad_into_conv(g: &Graph, node: NodeId) -> Option<Patch> {
    let conv = g.op::<Conv>(node)?;
    let (pad, op) = producer::<Pad>(g, g.operand(node, 0)?)?;
    let rank = op.pads.len() / 2;
    let zero = g.operand(pad, 1).is_none_or(|value| splat_of(g, value) == Some(0.0));
    let zeros = zero && op.mode == PadMode::Constant && op.pads.iter().all(|&p| p >= 0);
    let batch_or_channel = [0, 1, rank, rank + 1].iter().any(|&d| op.pads.get(d) != Some(&0));
    if !zeros || batch_or_channel || rank < 3 {
        return None;
    }
    let spatial = [&op.pads[2..rank], &op.pads[rank + 2..]].concat();
    let mut conv = conv.clone();
    conv.pads = match conv.pads.is_empty() {
        true => spatial,
        false => conv.pads.iter().zip(&spatial).map(|(a, b)| a + b).collect(),
    };
    let mut operands: Vec<Option<Ref>> = g.node(node).operands.iter().map(|v| v.map(Ref::from)).collect();
    operands[0] = Some(g.operand(pad, 0)?.into());
    let mut patch = Patch::new();
    let new = patch.add_optional(conv, &operands);
    Some(patch.replacing(result(node), new))
}

/// An expansion to the shape that `x` has → `x`.
pub(super) fn expand_of_nothing(g: &Graph, node: NodeId) -> Option<Patch> {
    let Op::Expand(_) = &g.node(node).op else { return None };
    let x = g.operand(node, 0)?;
    same_shape(g, x, result(node)).then(|| Patch::forward(node, x))
}

/// An expansion whose user broadcasts to that shape anyway → `x`.
pub(super) fn expand_into_broadcast(g: &Graph, node: NodeId) -> Option<Patch> {
    let n = g.node(node);
    if !is_broadcasting(&n.op) {
        return None;
    }
    let operands: Vec<Value> = n.operands.iter().copied().collect::<Option<_>>()?;
    let slot = operands.iter().position(|&v| producer::<Expand>(g, v).is_some())?;
    let fills = |(i, &v): (usize, &Value)| i != slot && same_shape(g, v, result(node));
    operands.iter().enumerate().any(fills).then_some(())?;
    let mut operands = operands.clone();
    operands[slot] = g.operand(operands[slot].node, 0)?;
    tensor_type(g, operands[slot])?.shape.as_ref()?;
    Some(Patch::replace(node, n.op.clone(), &operands))
}
