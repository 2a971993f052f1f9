//! What rules ask of a graph, written so that `?` is the whole matching language.

use optc_ir::ops::nn::{Pool, PoolKind};
use optc_ir::ops::tensor::Constant;
use optc_ir::{Dim, Graph, NodeId, Op, TensorType, Value};
use optc_tensor::{DType, Tensor};

/// The first result of a node.
pub(crate) fn result(node: NodeId) -> Value {
    Value { node, result: 0 }
}

/// The tensor type of a value.
pub(crate) fn tensor_type(g: &Graph, v: Value) -> Option<&TensorType> {
    g.ty(v).as_tensor()
}

/// The dims of a value.
pub(crate) fn dims(g: &Graph, v: Value) -> Option<&[Dim]> {
    tensor_type(g, v)?.shape.as_deref()
}

/// The concrete shape of a value.
pub(crate) fn shape(g: &Graph, v: Value) -> Option<Vec<usize>> {
    tensor_type(g, v)?.static_shape()
}

/// The rank of a value.
pub(crate) fn rank(g: &Graph, v: Value) -> Option<usize> {
    Some(dims(g, v)?.len())
}

/// The dtype of a value.
pub(crate) fn dtype(g: &Graph, v: Value) -> Option<DType> {
    Some(tensor_type(g, v)?.dtype)
}

/// Whether two values certainly have one shape: all extents concrete or named, and equal.
pub(crate) fn same_shape(g: &Graph, a: Value, b: Value) -> bool {
    let (Some(a), Some(b)) = (dims(g, a), dims(g, b)) else { return false };
    a == b && !a.contains(&Dim::Unknown)
}

/// The op that computes `v`, where it is a `T` and `v` its first result.
pub(crate) fn producer<'a, T>(g: &'a Graph, v: Value) -> Option<(NodeId, &'a T)>
where
    &'a T: TryFrom<&'a Op>,
{
    let op = g.op::<T>(v.node)?;
    (v.result == 0).then_some((v.node, op))
}

/// Whether exactly one operand slot uses `v`, and the graph does not return it.
pub(crate) fn has_one_use(g: &Graph, v: Value) -> bool {
    g.each_use(v).len() == 1 && !g.is_output(v)
}

/// The constant integers of an operand.
pub(crate) fn ints(g: &Graph, node: NodeId, slot: usize) -> Option<Vec<i64>> {
    Some(g.constant(g.operand(node, slot)?)?.to_i64_vec())
}

/// How many elements of a constant were pruned.
pub(crate) fn pruned(g: &Graph, v: Value) -> i64 {
    match g.get(v.node).map(|n| &n.op) {
        Some(Op::Constant(c)) => c.zeros,
        _ => 0,
    }
}

/// The pruned elements of a constant that what was computed of it has as well: all of them where it was permuted, cast,
/// scaled or quantized around zero, none where elements were added up.
pub(crate) fn kept_zeros(pruned: i64, computed: &Tensor) -> i64 {
    let keeps = pruned > 0 && Constant::count_zeros(computed) as i64 >= pruned;
    if keeps { pruned } else { 0 }
}

/// The one value that all elements of a constant have. Values that differ in bits differ.
pub(crate) fn splat(t: &Tensor) -> Option<f64> {
    let width = t.dtype().bits() / 8;
    if width == 0 || t.is_empty() {
        return None;
    }
    let first = &t.bytes()[..width];
    if t.bytes().chunks(width).any(|c| c != first) {
        return None;
    }
    let one = Tensor::from_bytes(t.dtype(), &[], first).ok()?;
    one.to_f64_vec().first().copied()
}

/// The one value that all elements of a constant value have.
pub(crate) fn splat_of(g: &Graph, v: Value) -> Option<f64> {
    splat(g.constant(v)?)
}

/// Whether an elementwise op on `x` and `other` certainly has `x`'s shape: each extent of `other` is 1 or equal to
/// `x`'s.
pub(crate) fn broadcasts_into(g: &Graph, other: Value, x: Value) -> bool {
    let (Some(o), Some(x)) = (dims(g, other), dims(g, x)) else { return false };
    let fits = |(o, x): (&Dim, &Dim)| *o == Dim::Known(1) || (o == x && *o != Dim::Unknown);
    o.len() <= x.len() && o.iter().rev().zip(x.iter().rev()).all(fits)
}

/// Both operands of a node of two operands.
pub(crate) fn operands2(g: &Graph, node: NodeId) -> Option<(Value, Value)> {
    Some((g.operand(node, 0)?, g.operand(node, 1)?))
}

/// Axes counted from the front.
pub(crate) fn positive_axes(axes: &[i64], rank: usize) -> Option<Vec<usize>> {
    let at = |&a: &i64| usize::try_from(if a < 0 { a + rank as i64 } else { a }).ok().filter(|&a| a < rank);
    axes.iter().map(at).collect()
}

/// The `i64` vector that names a shape.
pub(crate) fn shape_tensor(shape: &[usize]) -> Option<Tensor> {
    let dims: Vec<i64> = shape.iter().map(|&n| i64::try_from(n).ok()).collect::<Option<_>>()?;
    Tensor::from_slice(&[dims.len()], &dims).ok()
}

/// Whether a pool is a maximum, of one element of its operand at least.
pub(crate) fn picks_elements(pool: &Pool) -> bool {
    let padding = pool.pads.iter().max().copied().unwrap_or(0);
    pool.kind == PoolKind::Max && pool.kernel.iter().all(|&k| k > padding)
}

/// Images, rows and columns of the result of a 3x3 convolution over two axes without groups, strides and dilations.
pub(crate) fn three_by_three(g: &Graph, node: NodeId) -> Option<[usize; 3]> {
    let Op::Conv(op) = &g.node(node).op else { return None };
    let ones = |v: &[i64]| v.iter().all(|&v| v == 1);
    let weights = shape(g, g.operand(node, 1)?)?;
    let (&[_, _, 3, 3], &[images, _, rows, columns]) = (&weights[..], &shape(g, result(node))?[..]) else {
        return None;
    };
    (op.groups == 1 && ones(&op.strides) && ones(&op.dilations)).then_some([images, rows, columns])
}
