//! Rules on elementwise ops.

use optc_ir::ops::math::{Abs, Add, Cast, Ceil, Floor, Mul, Neg, Not, Relu, Round, Sign};
use optc_ir::ops::nn::Gemm;
use optc_ir::{Graph, NodeId, Op, Real, Value};
use optc_tensor::{DType, Tensor};

use crate::matching::{broadcasts_into, dtype, operands2, producer, result, same_shape, splat, splat_of};
use crate::rewrite::{Patch, Ref};

/// `f(c, x)` → `f(x, c)` for a commutative `f`.
pub(super) fn constant_right(g: &Graph, node: NodeId) -> Option<Patch> {
    let op = &g.node(node).op;
    let commutes = matches!(
        op,
        Op::Add(_) | Op::Mul(_) | Op::Min(_) | Op::Max(_) | Op::And(_) | Op::Or(_) | Op::Xor(_) | Op::Equal(_)
    );
    let (a, b) = operands2(g, node)?;
    let turned = commutes && g.constant(a).is_some() && g.constant(b).is_none();
    turned.then(|| Patch::replace(node, op.clone(), &[b, a]))
}

/// A constant operand whose elements are all equal becomes a scalar where the other operands have the result's shape
/// already.
pub(super) fn splat_to_scalar(g: &Graph, node: NodeId) -> Option<Patch> {
    let n = g.node(node);
    if !is_broadcasting(&n.op) {
        return None;
    }
    let operands: Vec<Value> = n.operands.iter().copied().collect::<Option<_>>()?;
    let slot = operands.iter().position(|&v| g.constant(v).is_some_and(|t| t.rank() > 0 && splat(t).is_some()))?;
    let fills = |(i, &v): (usize, &Value)| i != slot && same_shape(g, v, result(node));
    operands.iter().enumerate().any(fills).then_some(())?;
    let t = g.constant(operands[slot])?;
    let scalar = Tensor::from_bytes(t.dtype(), &[], &t.bytes()[..t.dtype().bits() / 8]).ok()?;
    let mut patch = Patch::new();
    let scalar = patch.constant(scalar);
    let refs: Vec<Ref> = operands.iter().enumerate().map(|(i, &v)| if i == slot { scalar } else { v.into() }).collect();
    let new = patch.add(n.op.clone(), &refs);
    Some(patch.replacing(result(node), new))
}

/// Whether the op broadcasts its operands.
pub(super) fn is_broadcasting(op: &Op) -> bool {
    let arithmetic =
        matches!(op, Op::Add(_) | Op::Sub(_) | Op::Mul(_) | Op::Div(_) | Op::Pow(_) | Op::Min(_) | Op::Max(_));
    let logic = matches!(op, Op::And(_) | Op::Or(_) | Op::Xor(_) | Op::Where(_));
    let compares = matches!(op, Op::Equal(_) | Op::Less(_) | Op::Greater(_) | Op::LessEqual(_) | Op::GreaterEqual(_));
    arithmetic || logic || compares
}

/// `gemm(a, b, c) {beta = 0}` → `gemm(a, b)`: `c` is not read.
pub(super) fn unread_summand(g: &Graph, node: NodeId) -> Option<Patch> {
    let gemm = g.op::<Gemm>(node).filter(|gemm| !gemm.reads_c())?;
    let (a, b, _) = (g.operand(node, 0)?, g.operand(node, 1)?, g.operand(node, 2)?);
    Some(Patch::replace(node, Gemm { beta: Real(1.0), ..gemm.clone() }, &[a, b]))
}

/// `x + 0`, `x − 0`, `x · 1`, `x / 1`, `x¹` → `x`.
pub(super) fn neutral_operand(g: &Graph, node: NodeId) -> Option<Patch> {
    let neutral = match &g.node(node).op {
        Op::Add(_) | Op::Sub(_) => 0.0,
        Op::Mul(_) | Op::Div(_) | Op::Pow(_) => 1.0,
        _ => return None,
    };
    let (x, c) = operands2(g, node)?;
    (splat_of(g, c)? == neutral && broadcasts_into(g, c, x)).then(|| Patch::forward(node, x))
}

/// `x − c` → `x + (−c)` on floats: later passes look for sums only.
pub(super) fn sub_constant_to_add(g: &Graph, node: NodeId) -> Option<Patch> {
    let Op::Sub(_) = &g.node(node).op else { return None };
    let (x, c) = operands2(g, node)?;
    let c = g.constant(c)?;
    if !c.dtype().is_float() || g.constant(x).is_some() {
        return None;
    }
    let negated: Vec<f64> = c.to_f64_vec().iter().map(|v| -v).collect();
    let mut patch = Patch::new();
    let c = patch.constant(Tensor::from_f64(c.dtype(), c.shape(), &negated).ok()?);
    let new = patch.add(Add {}, &[x.into(), c]);
    Some(patch.replacing(result(node), new))
}

/// `x / c` → `x · (1/c)` where every `c` is a power of two, so that both round alike.
pub(super) fn div_to_mul(g: &Graph, node: NodeId) -> Option<Patch> {
    let Op::Div(_) = &g.node(node).op else { return None };
    let (x, c) = operands2(g, node)?;
    let c = g.constant(c)?;
    if c.dtype() != DType::F32 || g.constant(x).is_some() || c.is_empty() {
        return None;
    }
    let values: &[f32] = c.as_slice().ok()?;
    // No fraction bits, and an exponent whose negative is a normal number as well.
    let exact = |v: &f32| v.to_bits() & 0x007f_ffff == 0 && (2.0f32.powi(-126)..=2.0f32.powi(126)).contains(&v.abs());
    if !values.iter().all(exact) {
        return None;
    }
    let inverse: Vec<f32> = values.iter().map(|v| 1.0 / v).collect();
    let mut patch = Patch::new();
    let c = patch.constant(Tensor::from_slice(c.shape(), &inverse).ok()?);
    let new = patch.add(Mul {}, &[x.into(), c]);
    Some(patch.replacing(result(node), new))
}

/// `x²` by `pow` → `x · x`.
pub(super) fn pow_to_mul(g: &Graph, node: NodeId) -> Option<Patch> {
    let Op::Pow(_) = &g.node(node).op else { return None };
    let (x, c) = operands2(g, node)?;
    let square = splat_of(g, c)? == 2.0 && broadcasts_into(g, c, x) && dtype(g, x)?.is_float();
    square.then(|| Patch::replace(node, Mul {}, &[x, x]))
}

/// `max(x, 0)` → `relu(x)`.
pub(super) fn max_to_relu(g: &Graph, node: NodeId) -> Option<Patch> {
    let Op::Max(_) = &g.node(node).op else { return None };
    let (x, c) = operands2(g, node)?;
    let zero = splat_of(g, c)? == 0.0 && dtype(g, x)?.is_float() && broadcasts_into(g, c, x);
    zero.then(|| Patch::replace(node, Relu {}, &[x]))
}

/// `clip(x, 0, ∞)` → `relu(x)`.
pub(super) fn clip_to_relu(g: &Graph, node: NodeId) -> Option<Patch> {
    let Op::Clip(_) = &g.node(node).op else { return None };
    let (x, low) = (g.operand(node, 0)?, splat_of(g, g.operand(node, 1)?)?);
    let float = dtype(g, x)?.is_float();
    (float && low == 0.0 && !bounds(g, node, 2)?).then(|| Patch::replace(node, Relu {}, &[x]))
}

/// `clip(x, −∞, ∞)` → `x`.
pub(super) fn clip_without_bounds(g: &Graph, node: NodeId) -> Option<Patch> {
    let Op::Clip(_) = &g.node(node).op else { return None };
    let free = !bounds(g, node, 1)? && !bounds(g, node, 2)?;
    free.then(|| g.operand(node, 0).map(|x| Patch::forward(node, x)))?
}

/// Whether the bound in `slot` of a clip bounds anything; `None` where that is not known.
fn bounds(g: &Graph, node: NodeId, slot: usize) -> Option<bool> {
    let Some(bound) = g.operand(node, slot) else { return Some(false) };
    let free = if slot == 1 { f64::NEG_INFINITY } else { f64::INFINITY };
    Some(splat_of(g, bound)? != free)
}

/// `f(f(x))` → `f(x)`.
pub(super) fn idempotent(g: &Graph, node: NodeId) -> Option<Patch> {
    let x = g.operand(node, 0)?;
    let twice = match &g.node(node).op {
        Op::Relu(_) => producer::<Relu>(g, x).is_some(),
        Op::Abs(_) => producer::<Abs>(g, x).is_some(),
        Op::Floor(_) => producer::<Floor>(g, x).is_some(),
        Op::Ceil(_) => producer::<Ceil>(g, x).is_some(),
        Op::Round(_) => producer::<Round>(g, x).is_some(),
        Op::Sign(_) => producer::<Sign>(g, x).is_some(),
        _ => false,
    };
    twice.then(|| Patch::forward(node, x))
}

/// `−(−x)` and `!!x` → `x`.
pub(super) fn involution(g: &Graph, node: NodeId) -> Option<Patch> {
    let x = g.operand(node, 0)?;
    let twice = match &g.node(node).op {
        Op::Neg(_) => producer::<Neg>(g, x).is_some(),
        Op::Not(_) => producer::<Not>(g, x).is_some(),
        _ => false,
    };
    twice.then(|| g.operand(x.node, 0).map(|inner| Patch::forward(node, inner)))?
}

/// `where(true, a, b)` → `a`, `where(false, a, b)` → `b`, where the shape stays.
pub(super) fn where_constant(g: &Graph, node: NodeId) -> Option<Patch> {
    let Op::Where(_) = &g.node(node).op else { return None };
    let slot = if splat_of(g, g.operand(node, 0)?)? != 0.0 { 1 } else { 2 };
    let chosen = g.operand(node, slot)?;
    same_shape(g, chosen, result(node)).then(|| Patch::forward(node, chosen))
}

/// A cast to the dtype that `x` has → `x`.
pub(super) fn cast_to_same(g: &Graph, node: NodeId) -> Option<Patch> {
    let cast = g.op::<Cast>(node)?;
    let x = g.operand(node, 0)?;
    (dtype(g, x)? == cast.to).then(|| Patch::forward(node, x))
}

/// `cast(cast(x))` → `cast(x)` where the inner one loses nothing.
pub(super) fn cast_of_cast(g: &Graph, node: NodeId) -> Option<Patch> {
    let outer = g.op::<Cast>(node)?;
    let (inner, cast) = producer::<Cast>(g, g.operand(node, 0)?)?;
    let x = g.operand(inner, 0)?;
    let from = dtype(g, x)?;
    // From an integer, a float in between makes narrowing saturate where a direct cast would wrap.
    let same_kind = from.is_float() == cast.to.is_float();
    let merges = is_lossless(from, cast.to) && (same_kind || is_lossless(from, outer.to));
    merges.then(|| Patch::replace(node, outer.clone(), &[x]))
}

/// Whether every value of `from` is a value of `to`.
fn is_lossless(from: DType, to: DType) -> bool {
    let mantissa = |d: DType| match d {
        DType::F64 => 53,
        DType::F32 => 24,
        DType::F16 => 11,
        DType::BF16 => 8,
        _ => 0,
    };
    match (from, to) {
        (a, b) if a == b => true,
        (a, b) if a.is_small_float() || b.is_small_float() => false,
        (DType::Str, _) | (_, DType::Str) | (_, DType::Bool) => false,
        (DType::Bool, _) => true,
        (a, DType::F64) if a.is_float() => true,
        (DType::F16 | DType::BF16, DType::F32) => true,
        (a, _) if a.is_float() => false,
        (a, b) if b.is_float() => a.bits() - usize::from(a.is_signed()) <= mantissa(b),
        (a, b) => match (a.int_range(), b.int_range()) {
            (Some((al, ah)), Some((bl, bh))) => bl <= al && ah <= bh,
            _ => false,
        },
    }
}
