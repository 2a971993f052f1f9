//! Which values are stored as bfloat16: each that a rounded product reads, in place of being rounded at each read.
//!
//! - One that nothing else reads is stored as bfloat16 alone: the rounding becomes part of the kernel that computes it.
//!   The largest of rounded numbers is the largest one rounded, so a rounding after a maximum goes before it.
//! - One that others read too (a residual), or that no kernel with an epilogue gives, stays `f32`. Matrix products, and
//!   convolutions of points, read a rounded copy: they stage nothing then, and round once what each of their tasks
//!   would. Windows stage what they read anyway, and round it.

use optc_ir::ops::math::Cast;
use optc_ir::{Graph, NodeId, Op, TensorType, Value};
use optc_tensor::DType;

use super::rounds;
use crate::PassCx;
use crate::fuse::elementwise;
use crate::matching::{dtype, has_one_use, picks_elements, result, shape, tensor_type};
use crate::rewrite::remove_unused;

/// Puts roundings after what rounded products read.
pub(super) fn insert(graph: &mut Graph, cx: &mut PassCx) {
    for id in graph.topological_order().unwrap_or_default() {
        for value in (0..graph.node(id).results.len()).map(|r| Value { node: id, result: r as u32 }) {
            let readers = readers(graph, value);
            if pays(graph, value, &readers) && cx.permit("store") {
                store(graph, value, &readers);
            }
        }
    }
    // What was widened for rounded products alone has no reader any more.
    for id in graph.ids().collect::<Vec<_>>() {
        if graph.get(id).is_some_and(|node| matches!(node.op, Op::Cast(_))) {
            remove_unused(graph, id);
        }
    }
}

/// The rounded products that read a value of `f32` as their first factor.
fn readers(g: &Graph, value: Value) -> Vec<NodeId> {
    if dtype(g, value) != Some(DType::F32) || g.constant(value).is_some() {
        return vec![];
    }
    let uses = g.uses(value).into_iter();
    uses.filter(|&(user, slot)| slot == 0 && rounds(g, user)).map(|(user, _)| user).collect()
}

/// Whether to store a value rounded for these readers; see the module.
fn pays(g: &Graph, value: Value, readers: &[NodeId]) -> bool {
    let points = readers.iter().filter(|&&reader| reads_points(g, reader)).count();
    let computed = elementwise::is_anchor(g, value.node) || elementwise::role_of(g, value.node).is_some();
    let alone = readers.len() == g.uses(value).len() && !g.is_output(value);
    points > 0 || computed && alone && !readers.is_empty()
}

/// Whether a rounded product may read its factor from where it is: a matrix product, or a convolution whose window is
/// one element.
fn reads_points(g: &Graph, id: NodeId) -> bool {
    let weights = g.operand(id, 1).and_then(|w| shape(g, w));
    match (&g.node(id).op, weights) {
        (Op::MatMul(_) | Op::Gemm(_), _) => true,
        (Op::Conv(op), Some(shape)) => op.groups == 1 && shape[2..].iter().all(|&n| n == 1),
        _ => false,
    }
}

/// Gives the readers the rounded value.
fn store(graph: &mut Graph, value: Value, readers: &[NodeId]) {
    let rounded = match before_maximum(graph, value) {
        Some(of) => {
            let first = cast(graph, of);
            graph.set_operand(value.node, 0, Some(first));
            retype(graph, value);
            value
        }
        None => cast(graph, value),
    };
    for &reader in readers {
        graph.set_operand(reader, 0, Some(rounded));
    }
}

/// What a maximum is taken of, where nothing else reads that, and nothing but rounded products reads the maximum.
fn before_maximum(g: &Graph, value: Value) -> Option<Value> {
    let Op::Pool(pool) = &g.node(value.node).op else { return None };
    let of = g.operand(value.node, 0)?;
    let all_round = g.uses(value).into_iter().all(|(user, slot)| slot == 0 && rounds(g, user)) && !g.is_output(value);
    let computed = elementwise::is_anchor(g, of.node) || elementwise::role_of(g, of.node).is_some();
    (picks_elements(pool) && all_round && computed && has_one_use(g, of)).then_some(of)
}

/// Adds a rounding of a value; one that was widened is rounded already.
fn cast(graph: &mut Graph, value: Value) -> Value {
    let widened = graph.op::<Cast>(value.node).and_then(|_| graph.operand(value.node, 0));
    if let Some(half) = widened.filter(|&v| dtype(graph, v) == Some(DType::BF16)) {
        return half;
    }
    let ty = tensor_type(graph, value).map(|t| TensorType { dtype: DType::BF16, ..t.clone() });
    let rounded = graph.add(Cast { to: DType::BF16 }, &[Some(value)], ty.into_iter().map(Into::into).collect());
    graph.node_mut(rounded).loc = graph.node(value.node).loc.clone();
    result(rounded)
}

/// Makes a result bfloat16.
fn retype(graph: &mut Graph, value: Value) {
    if let optc_ir::Type::Tensor(t) = &mut graph.node_mut(value.node).results[value.result as usize].ty {
        t.dtype = DType::BF16;
    }
}
