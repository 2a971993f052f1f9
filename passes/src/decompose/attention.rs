//! Attention whose kernel takes less than the op: positions that are computed become masks, short masks long ones, and
//! scores a product of their own.

use optc_ir::ops::math::{
    Add, And, Cast, Clip, Div, Equal, Greater, GreaterEqual, Less, LessEqual, MatMul, Mul, Reduce, ReduceKind, Sub,
    Tanh, Where,
};
use optc_ir::ops::nn::{Attention, AttentionScores, Softmax};
use optc_ir::ops::tensor::{Pad, PadMode, Reshape, Transpose};
use optc_ir::{Graph, NodeId, Value};
use optc_tensor::{DType, Tensor};

use crate::matching::{dtype, result, shape, shape_tensor};
use crate::rewrite::{Patch, Ref};

/// Positions up to here are exact as floats, with room for sums of two.
const MOST: i64 = 1 << 20;
/// Lengths and offsets are cut off here: beyond all positions, windows included.
const BEYOND: f32 = (1 << 22) as f32;

/// The extents of an attention over `f32`.
struct Sizes {
    batch: usize,
    heads: usize,
    shared: usize,
    queries: usize,
    keys: usize,
    size: usize,
}

impl Sizes {
    fn of(g: &Graph, node: NodeId) -> Option<Sizes> {
        let [q, k] = [0, 1].map(|slot| g.operand(node, slot));
        let (q, k) = (q?, k?);
        if dtype(g, q)? != DType::F32 {
            return None;
        }
        match (&shape(g, q)?[..], &shape(g, k)?[..]) {
            (&[batch, heads, queries, size], &[_, shared, keys, _]) if shared > 0 => {
                Some(Sizes { batch, heads, shared, queries, keys, size })
            }
            _ => None,
        }
    }

    fn scores(&self) -> [usize; 4] {
        [self.batch, self.heads, self.queries, self.keys]
    }
}

fn scalar(patch: &mut Patch, v: f32) -> Ref {
    patch.constant(Tensor::scalar(v))
}

fn operands(g: &Graph, node: NodeId) -> Vec<Option<Ref>> {
    let mut operands: Vec<Option<Ref>> = g.node(node).operands.iter().map(|v| v.map(Ref::from)).collect();
    operands.resize(6, None);
    operands
}

/// A mask that is shorter than the keys → one that masks the others.
pub(super) fn short_mask(g: &Graph, node: NodeId) -> Option<Patch> {
    let op = g.op::<Attention>(node)?;
    let (sizes, mask) = (Sizes::of(g, node).filter(|_| !op.formula)?, g.operand(node, 3)?);
    let given = shape(g, mask)?;
    let &n = given.last().filter(|&&n| n != 1 && n < sizes.keys)?;
    let mut patch = Patch::new();
    let value = match dtype(g, mask)? {
        DType::Bool => patch.constant(Tensor::from_i64(DType::Bool, &[], &[0]).ok()?),
        float => patch.constant(Tensor::from_f64(float, &[], &[f64::NEG_INFINITY]).ok()?),
    };
    let mut pads = vec![0; 2 * given.len()];
    *pads.last_mut()? = i64::try_from(sizes.keys - n).ok()?;
    let long = patch.add(Pad { mode: PadMode::Constant, pads }, &[mask.into(), value]);
    let mut operands = operands(g, node);
    operands[3] = Some(long);
    Some(replaced(g, node, patch, op.clone(), &operands))
}

/// All results of a node by those of `op`.
fn replaced(g: &Graph, node: NodeId, mut patch: Patch, op: Attention, operands: &[Option<Ref>]) -> Patch {
    let new = patch.add_optional(op, operands);
    let results = g.node(node).results.len() as u32;
    (0..results).fold(patch, |patch, i| match new {
        Ref::New(made, _) => patch.replacing(Value { node, result: i }, Ref::New(made, i)),
        Ref::Old(_) => patch,
    })
}

/// Lengths or offsets that are computed, or positions of which the scores are a result → a mask.
pub(super) fn positions(g: &Graph, node: NodeId) -> Option<Patch> {
    let op = g.op::<Attention>(node)?;
    let placed = op.causal || op.left >= 0 || op.right >= 0 || g.operand(node, 4).is_some();
    let computed = [4, 5].iter().filter_map(|&slot| g.operand(node, slot)).any(|v| g.constant(v).is_none());
    let kept = matches!(op.scores, AttentionScores::Masked | AttentionScores::Probabilities);
    if op.formula || !(computed || (kept && (placed || g.operand(node, 5).is_some()))) {
        return None;
    }
    let sizes = Sizes::of(g, node)?;
    let small = |n: i64| n <= MOST;
    let (queries, keys) = (i64::try_from(sizes.queries).ok()?, i64::try_from(sizes.keys).ok()?);
    if ![queries, keys, op.left, op.right].into_iter().all(small) {
        return None;
    }
    let mut patch = Patch::new();
    let list = |n: usize, to: &[usize]| Tensor::from_slice(to, &(0..n).map(|i| i as f32).collect::<Vec<_>>()).ok();
    let key = patch.constant(list(sizes.keys, &[sizes.keys])?);
    let query = patch.constant(list(sizes.queries, &[sizes.queries, 1])?);
    let lengths = number(g, node, 4, sizes.batch, &mut patch)?;
    let offset = number(g, node, 5, 1, &mut patch)?;
    let mut seen: Vec<Ref> = lengths.iter().map(|&length| patch.add(Less {}, &[key, length])).collect();
    if op.causal || op.left >= 0 || op.right >= 0 {
        let first = match (offset, lengths) {
            (Some(offset), _) => offset,
            (None, Some(lengths)) => {
                let queries = scalar(&mut patch, sizes.queries as f32);
                patch.add(Sub {}, &[lengths, queries])
            }
            (None, None) => scalar(&mut patch, 0.0),
        };
        let place = patch.add(Add {}, &[query, first]);
        if op.causal {
            seen.push(patch.add(LessEqual {}, &[key, place]));
        }
        if op.left >= 0 {
            let left = scalar(&mut patch, op.left as f32);
            let from = patch.add(Sub {}, &[place, left]);
            seen.push(patch.add(GreaterEqual {}, &[key, from]));
        }
        if op.right >= 0 {
            let right = scalar(&mut patch, op.right as f32);
            let to = patch.add(Add {}, &[place, right]);
            seen.push(patch.add(LessEqual {}, &[key, to]));
        }
    }
    let seen = seen.into_iter().reduce(|a, b| patch.add(And {}, &[a, b]));
    let mut operands = operands(g, node);
    operands[3] = with_mask(g, g.operand(node, 3), seen, &sizes, &mut patch)?;
    operands.truncate(4);
    let op = Attention { causal: false, left: -1, right: -1, ..op.clone() };
    Some(replaced(g, node, patch, op, &operands))
}

/// The `count` integers of an operand as floats of a batch each, cut off beyond all positions; inner `None` where it is
/// absent.
fn number(g: &Graph, node: NodeId, slot: usize, count: usize, patch: &mut Patch) -> Option<Option<Ref>> {
    let Some(value) = g.operand(node, slot) else { return Some(None) };
    let fits = dtype(g, value)?.is_int() && shape(g, value)?.iter().product::<usize>() == count;
    fits.then_some(())?;
    let float = patch.add(Cast { to: DType::F32 }, &[value.into()]);
    let bounds = [-BEYOND, BEYOND].map(|bound| scalar(patch, bound));
    let cut = patch.add(Clip {}, &[float, bounds[0], bounds[1]]);
    let to = patch.constant(shape_tensor(&[count, 1, 1, 1])?);
    Some(Some(patch.add(Reshape { allow_zero: true }, &[cut, to])))
}

/// A mask that masks what is not `seen` as well.
fn with_mask(
    g: &Graph,
    mask: Option<Value>,
    seen: Option<Ref>,
    sizes: &Sizes,
    patch: &mut Patch,
) -> Option<Option<Ref>> {
    let (Some(mask), Some(seen)) = (mask, seen) else { return Some(seen.or(mask.map(Ref::from))) };
    let long = shape(g, mask)?.last().is_none_or(|&n| n == 1 || n == sizes.keys);
    long.then_some(())?;
    match dtype(g, mask)? {
        DType::Bool => Some(Some(patch.add(And {}, &[mask.into(), seen]))),
        float => {
            let unseen = patch.constant(Tensor::from_f64(float, &[], &[f64::NEG_INFINITY]).ok()?);
            Some(Some(patch.add(Where {}, &[seen, mask.into(), unseen])))
        }
    }
}

/// An attention whose scores are a result → one without them, and the products of queries and keys.
pub(super) fn scores(g: &Graph, node: NodeId) -> Option<Patch> {
    let op = g.op::<Attention>(node)?;
    let (sizes, mask) = (Sizes::of(g, node)?, g.operand(node, 3));
    let late = matches!(op.scores, AttentionScores::Masked | AttentionScores::Probabilities);
    let placed = op.causal || op.left >= 0 || op.right >= 0 || [4, 5].iter().any(|&i| g.operand(node, i).is_some());
    let float = mask.is_none_or(|m| matches!(dtype(g, m), Some(DType::F32 | DType::Bool)));
    let long = mask.and_then(|m| shape(g, m)).is_none_or(|s| s.last().is_none_or(|&n| n == 1 || n == sizes.keys));
    if op.formula || op.scores == AttentionScores::Absent || (late && (placed || !float || !long)) {
        return None;
    }
    let mut patch = Patch::new();
    let alone = Attention { scores: AttentionScores::Absent, ..op.clone() };
    let y = patch.add_optional(alone, &operands(g, node));
    let mut s = product(g, node, op, &sizes, &mut patch)?;
    if op.scores != AttentionScores::Raw && op.softcap.0 != 0.0 {
        let cap = scalar(&mut patch, op.softcap.0);
        let share = patch.add(Div {}, &[s, cap]);
        let bounded = patch.add(Tanh {}, &[share]);
        s = patch.add(Mul {}, &[bounded, cap]);
    }
    if late {
        s = masked(g, mask, s, &mut patch)?;
    }
    if op.scores == AttentionScores::Probabilities {
        s = probabilities(s, &mut patch);
    }
    Some(patch.replacing(result(node), y).replacing(Value { node, result: 1 }, s))
}

/// `scale · q·kᵀ`, where heads of `q` that share one of `k` are more rows of its matrix.
fn product(g: &Graph, node: NodeId, op: &Attention, sizes: &Sizes, patch: &mut Patch) -> Option<Ref> {
    let (q, k) = (g.operand(node, 0)?, g.operand(node, 1)?);
    let rows = sizes.heads / sizes.shared * sizes.queries;
    let reshape = |patch: &mut Patch, v: Ref, to: [usize; 4]| {
        let target = patch.constant(shape_tensor(&to)?);
        Some(patch.add(Reshape { allow_zero: to.contains(&0) }, &[v, target]))
    };
    let grouped = reshape(patch, q.into(), [sizes.batch, sizes.shared, rows, sizes.size])?;
    let turned = patch.add(Transpose { perm: vec![0, 1, 3, 2] }, &[k.into()]);
    let product = patch.add(MatMul::default(), &[grouped, turned]);
    let apart = reshape(patch, product, sizes.scores())?;
    let scale = if op.scale.0 == 0.0 { 1.0 / (sizes.size as f64).sqrt() } else { op.scale.0 as f64 };
    let scale = scalar(patch, scale as f32);
    Some(patch.add(Mul {}, &[apart, scale]))
}

/// Scores with what their mask adds.
fn masked(g: &Graph, mask: Option<Value>, scores: Ref, patch: &mut Patch) -> Option<Ref> {
    let Some(mask) = mask else { return Some(scores) };
    let bias = match dtype(g, mask)? {
        DType::Bool => {
            let (seen, unseen) = (scalar(patch, 0.0), scalar(patch, f32::NEG_INFINITY));
            patch.add(Where {}, &[mask.into(), seen, unseen])
        }
        _ => mask.into(),
    };
    Some(patch.add(Add {}, &[scores, bias]))
}

/// The softmax of scores; zeros for a query that sees no key.
fn probabilities(scores: Ref, patch: &mut Patch) -> Ref {
    let soft = patch.add(Softmax { axis: -1, log: false }, &[scores]);
    let (unseen, zero, one) = (scalar(patch, f32::NEG_INFINITY), scalar(patch, 0.0), scalar(patch, 1.0));
    let none = patch.add(Equal {}, &[scores, unseen]);
    let counts = patch.add(Where {}, &[none, zero, one]);
    let any = Reduce { all_if_empty: false, kind: ReduceKind::Max, axes: vec![3], keep_dims: true };
    let any = patch.add(any, &[counts]);
    let any = patch.add(Greater {}, &[any, zero]);
    patch.add(Where {}, &[any, soft, zero])
}
