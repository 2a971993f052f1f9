//! Ops that do on the integers what they do on the reals.

use optc_ir::ops::math::{Clip, Max, Min, Relu};
use optc_ir::ops::quant::{Dequantize, Quantize};
use optc_ir::ops::tensor::{Concat, PadMode};
use optc_ir::{Graph, NodeId, Op, Value};
use optc_tensor::DType;

use super::matching::{Whole, quantizes, stored, stored_whole};
use crate::matching::{has_one_use, picks_elements, producer, result, splat_of};
use crate::rewrite::{Patch, Ref};

fn dequantize() -> Dequantize {
    Dequantize { axis: 1, block: 0, to: DType::F32 }
}

fn quantize(to: DType) -> Quantize {
    Quantize { axis: 1, block: 0, precision: DType::F32, saturate: true, to }
}

/// `quantize(dequantize(q))` → `q`, where scales and zero points agree.
pub(super) fn quantize_of_dequantize(g: &Graph, node: NodeId) -> Option<Patch> {
    let to = quantizes(g, node)?;
    let (q, from) = stored_whole(g, g.operand(node, 0)?)?;
    (to == from).then(|| Patch::forward(node, q))
}

/// Whether an op moves elements of its first operand, or picks the largest of some, and does nothing else.
fn moves(op: &Op) -> bool {
    match op {
        Op::Reshape(_) | Op::Transpose(_) | Op::Flatten(_) | Op::Squeeze(_) | Op::Unsqueeze(_) | Op::Slice(_) => true,
        Op::Expand(_) | Op::Gather(_) | Op::Pad(_) => true,
        Op::Pool(pool) => picks_elements(pool),
        _ => false,
    }
}

/// The operands of a mover of integers in place of reals: `x` is the first one, what is new around it becomes an
/// integer by `whole`.
fn moved(
    g: &Graph,
    node: NodeId,
    x: Ref,
    whole: Option<Whole>,
    exact: Exact,
    patch: &mut Patch,
) -> Option<Vec<Option<Ref>>> {
    let mut operands: Vec<Option<Ref>> = g.node(node).operands.iter().map(|v| v.map(Ref::Old)).collect();
    operands[0] = Some(x);
    if let Op::Pad(pad) = &g.node(node).op
        && pad.mode == PadMode::Constant
    {
        let around = match g.operand(node, 1) {
            Some(value) => *g.constant(value)?.to_f64_vec().first()? as f32,
            None => 0.0,
        };
        let whole =
            whole.filter(|w| !around.is_nan() && (exact == Exact::No || w.real(w.quantized(around)) == around))?;
        operands.resize(operands.len().max(2), None);
        operands[1] = Some(patch.constant(whole.integer(whole.quantized(around))?));
    }
    Some(operands)
}

/// Whether an integer must stand for exactly the real that it replaces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Exact {
    Yes,
    No,
}

/// `move(dequantize(q))` → `dequantize(move(q))`, for one scale; a transpose takes several with it.
pub(super) fn move_of_dequantize(g: &Graph, node: NodeId) -> Option<Patch> {
    let op = &g.node(node).op;
    let x = g.operand(node, 0)?;
    if !moves(op) || g.node(node).results.len() != 1 {
        return None;
    }
    let from = stored(g, x).filter(|s| s.dtype != DType::I32)?;
    let axis = match (op, from.axis) {
        (_, None) => 1,
        (Op::Transpose(t), Some(axis)) => t.perm.iter().position(|&p| p == axis as i64)? as i64,
        _ => return None,
    };
    let (source, _) = producer::<Dequantize>(g, x)?;
    let mut patch = Patch::new();
    let operands = moved(g, node, from.integers.into(), from.whole(), Exact::Yes, &mut patch)?;
    let moved = patch.add_optional(op.clone(), &operands);
    let parameters = [1, 2].map(|slot| g.operand(source, slot).map(Ref::Old));
    let real = patch.add_optional(Dequantize { axis, ..dequantize() }, &[Some(moved), parameters[0], parameters[1]]);
    Some(patch.replacing(result(node), real))
}

/// `quantize(move(x))` → `move(quantize(x))`, where only the quantization reads what was moved: bytes are moved instead
/// of reals.
pub(super) fn move_before_quantize(g: &Graph, node: NodeId) -> Option<Patch> {
    let to = quantizes(g, node)?;
    let y = g.operand(node, 0).filter(|&y| y.result == 0 && has_one_use(g, y))?;
    let mover = g.get(y.node)?;
    if !moves(&mover.op) || mover.results.len() != 1 {
        return None;
    }
    let parameters = [1, 2].map(|slot| g.operand(node, slot).map(Ref::Old));
    let mut patch = Patch::new();
    let x = Ref::Old(g.operand(y.node, 0)?);
    let integers = patch.add_optional(quantize(to.dtype), &[Some(x), parameters[0], parameters[1]]);
    let operands = moved(g, y.node, integers, Some(to), Exact::No, &mut patch)?;
    let moved = patch.add_optional(mover.op.clone(), &operands);
    Some(patch.replacing(result(node), moved))
}

/// The quantization of `x` with the parameters of `node`, at least `low` and at most `high` where those say anything.
fn clamped(g: &Graph, node: NodeId, x: Value, to: Whole, low: Option<i64>, high: Option<i64>) -> Option<Patch> {
    let parameters = [1, 2].map(|slot| g.operand(node, slot).map(Ref::Old));
    let mut patch = Patch::new();
    let mut value = patch.add_optional(quantize(to.dtype), &[Some(Ref::Old(x)), parameters[0], parameters[1]]);
    let (least, most) = to.bounds();
    if let Some(low) = low.filter(|&low| low > least) {
        let low = patch.constant(to.integer(low)?);
        value = patch.add(Max {}, &[value, low]);
    }
    if let Some(high) = high.filter(|&high| high < most) {
        let high = patch.constant(to.integer(high)?);
        value = patch.add(Min {}, &[value, high]);
    }
    Some(patch.replacing(result(node), value))
}

/// `quantize(relu(x))` → `max(quantize(x), zero)`; the zero point is often the least integer.
pub(super) fn relu_before_quantize(g: &Graph, node: NodeId) -> Option<Patch> {
    let to = quantizes(g, node)?;
    let y = g.operand(node, 0)?;
    let (relu, _) = producer::<Relu>(g, y).filter(|_| has_one_use(g, y))?;
    clamped(g, node, g.operand(relu, 0)?, to, Some(to.zero), None)
}

/// `quantize(clip(x, low, high))` → the quantization of `x` between those of the bounds.
pub(super) fn clip_before_quantize(g: &Graph, node: NodeId) -> Option<Patch> {
    let to = quantizes(g, node)?;
    let y = g.operand(node, 0)?;
    let (clip, _) = producer::<Clip>(g, y).filter(|_| has_one_use(g, y))?;
    let bound = |slot: usize| match g.operand(clip, slot) {
        None => Some(None),
        Some(v) => splat_of(g, v).filter(|b| !b.is_nan()).map(|b| Some(to.quantized(b as f32))),
    };
    let (low, high) = (bound(1)?, bound(2)?);
    // Bounds in the wrong order give the upper one, as `min` after `max` does.
    clamped(g, node, g.operand(clip, 0)?, to, low, high)
}

/// A concatenation of dequantized integers with one scale → of the integers.
pub(super) fn concat_of_dequantize(g: &Graph, node: NodeId) -> Option<Patch> {
    let op = g.op::<Concat>(node)?;
    let parts: Vec<(Value, Whole)> =
        g.node(node).operands.iter().map(|v| stored_whole(g, (*v)?)).collect::<Option<_>>()?;
    let (_, first) = *parts.first()?;
    if parts.iter().any(|(_, whole)| *whole != first) {
        return None;
    }
    let mut patch = Patch::new();
    let integers: Vec<Ref> = parts.iter().map(|(q, _)| Ref::Old(*q)).collect();
    let joined = patch.add(op.clone(), &integers);
    let (scale, zero) = (patch.constant(first.scale()), patch.constant(first.zero()?));
    let real = patch.add(dequantize(), &[joined, scale, zero]);
    Some(patch.replacing(result(node), real))
}

/// `quantize(concat(…))` → the concatenation of the parts' quantizations, where one of them is dequantized or nothing
/// else reads it.
pub(super) fn concat_before_quantize(g: &Graph, node: NodeId) -> Option<Patch> {
    let to = quantizes(g, node)?;
    let y = g.operand(node, 0)?;
    let (concat, op) = producer::<Concat>(g, y).filter(|_| has_one_use(g, y))?;
    let parts: Vec<Value> = g.node(concat).operands.iter().copied().collect::<Option<_>>()?;
    if !parts.iter().any(|&v| stored_whole(g, v).is_some() || has_one_use(g, v)) {
        return None;
    }
    let parameters = [1, 2].map(|slot| g.operand(node, slot).map(Ref::Old));
    let mut patch = Patch::new();
    let integers: Vec<Ref> = parts
        .iter()
        .map(|&v| patch.add_optional(quantize(to.dtype), &[Some(Ref::Old(v)), parameters[0], parameters[1]]))
        .collect();
    let joined = patch.add(op.clone(), &integers);
    Some(patch.replacing(result(node), joined))
}
