//! Attention as exporters spell it: two products with a softmax between them.

use optc_ir::ops::math::{Add, Div, MatMul, Mul};
use optc_ir::ops::nn::{Attention, AttentionScores, Softmax};
use optc_ir::ops::tensor::Transpose;
use optc_ir::{Dim, Graph, NodeId, Op, Real, Value};
use optc_tensor::DType;

use super::product::inner;
use crate::matching::{broadcasts_into, dims, dtype, has_one_use, producer, result, same_shape, splat_of};
use crate::rewrite::{Patch, Ref};

/// `softmax(scale · q·kᵀ + mask) · v` → `attention(q, k, v, mask)`, for `q`, `kᵀ` and `v` of rank 4 with the same
/// batches and heads.
pub(super) fn attention(g: &Graph, node: NodeId) -> Option<Patch> {
    let Op::MatMul(MatMul { precision: DType::F32 }) = &g.node(node).op else { return None };
    let (softmax, v) = (g.operand(node, 0)?, g.operand(node, 1)?);
    let (soft, Op::Softmax(Softmax { axis, log: false })) = inner(g, softmax)? else { return None };
    let scores = g.operand(soft, 0)?;
    let heads = dims(g, scores)?;
    if !matches!(axis, -1 | 3) || heads.len() != 4 || dtype(g, scores)? != DType::F32 {
        return None;
    }
    let (masked, mask) = masked(g, scores);
    let (product, scale) = scaled(g, masked);
    let (product, Op::MatMul(MatMul { precision: DType::F32 })) = inner(g, product)? else { return None };
    let (q, kt) = (g.operand(product, 0)?, g.operand(product, 1)?);
    if scale == 0.0 || ![q, kt, v].into_iter().all(|x| same_heads(g, x, heads)) {
        return None;
    }
    let mut patch = Patch::new();
    let k = untransposed(g, kt, &mut patch)?;
    let op = Attention {
        causal: false,
        formula: true,
        left: -1,
        right: -1,
        scale: Real(scale as f32),
        scores: AttentionScores::Absent,
        softcap: Real(0.0),
    };
    let new = patch.add_optional(op, &[Some(q.into()), Some(k), Some(v.into()), mask.map(Ref::from)]);
    Some(patch.replacing(result(node), new))
}

/// Scores without the mask that is added to them, and the mask.
fn masked(g: &Graph, scores: Value) -> (Value, Option<Value>) {
    let parts = || {
        let (add, Op::Add(Add {})) = inner(g, scores)? else { return None };
        let (a, b) = (g.operand(add, 0)?, g.operand(add, 1)?);
        let is_scores = |v: Value| {
            has_one_use(g, v)
                && matches!(g.node(v.node).op, Op::MatMul(MatMul { precision: DType::F32 }) | Op::Mul(_) | Op::Div(_))
                && same_shape(g, v, scores)
        };
        let is_mask = |v: Value| dtype(g, v) == Some(DType::F32) && broadcasts_into(g, v, scores);
        [(a, b), (b, a)].into_iter().find(|&(s, m)| is_scores(s) && is_mask(m))
    };
    parts().map_or((scores, None), |(scores, mask)| (scores, Some(mask)))
}

/// The product of which `scores` is a multiple, and the factor.
fn scaled(g: &Graph, scores: Value) -> (Value, f64) {
    let parts = || {
        let (node, op) = inner(g, scores)?;
        let (a, b) = (g.operand(node, 0)?, g.operand(node, 1)?);
        let c = splat_of(g, b).filter(|_| same_shape(g, a, scores))?;
        match op {
            Op::Mul(Mul {}) => Some((a, c)),
            Op::Div(Div {}) if c != 0.0 => Some((a, 1.0 / c)),
            _ => None,
        }
    };
    parts().unwrap_or((scores, 1.0))
}

/// Whether a value is `[batch, heads, _, _]` with the extents of the scores, so that nothing is broadcast.
fn same_heads(g: &Graph, v: Value, scores: &[Dim]) -> bool {
    dims(g, v).is_some_and(|d| d.len() == 4 && d[..2] == scores[..2] && !d[..2].contains(&Dim::Unknown))
}

/// `k` for `kᵀ`: its last two axes are swapped in the transpose that made it. Declines what no transpose made, as that
/// is not a key.
fn untransposed(g: &Graph, kt: Value, patch: &mut Patch) -> Option<Ref> {
    let (node, Transpose { perm }) = producer::<Transpose>(g, kt)?;
    let source = g.operand(node, 0)?;
    let perm: Vec<i64> = match perm[..] {
        [a, b, c, d] => vec![a, b, d, c],
        _ => return None,
    };
    Some(if perm == [0, 1, 2, 3] { source.into() } else { patch.add(Transpose { perm }, &[source.into()]) })
}
