//! Normalisations that are spelled out.

use optc_ir::ops::math::{Reduce, ReduceKind, Sub};
use optc_ir::ops::nn::{LayerNorm, RmsNorm};
use optc_ir::{Graph, NodeId, Op, Real, Value};
use optc_tensor::Tensor;

use super::product::{Monomial, inner};
use crate::matching::{dtype, has_one_use, operands2, positive_axes, producer, rank, result, shape, splat_of};
use crate::rewrite::{Patch, Ref};

/// `x / √(mean(x²) + epsilon)` over the last `axes` axes.
struct Normalised {
    x: Value,
    axes: usize,
    epsilon: f32,
}

impl Normalised {
    /// What `node` normalises, by a quotient or by a product with a reciprocal.
    fn of(g: &Graph, node: NodeId) -> Option<Normalised> {
        let (a, b) = operands2(g, node)?;
        match &g.node(node).op {
            Op::Div(_) => Normalised::by_root(g, a, b),
            Op::Mul(_) => [(a, b), (b, a)].into_iter().find_map(|(x, factor)| {
                let root = match inner(g, factor)? {
                    (reciprocal, Op::Reciprocal(_)) => g.operand(reciprocal, 0)?,
                    (div, Op::Div(_)) => operands2(g, div).filter(|&(one, _)| splat_of(g, one) == Some(1.0))?.1,
                    _ => return None,
                };
                Normalised::by_root(g, x, root)
            }),
            _ => None,
        }
    }

    fn by_root(g: &Graph, x: Value, root: Value) -> Option<Normalised> {
        let sum = match inner(g, root)? {
            (sqrt, Op::Sqrt(_)) => g.operand(sqrt, 0)?,
            (pow, Op::Pow(_)) => operands2(g, pow).filter(|&(_, c)| splat_of(g, c) == Some(0.5))?.0,
            _ => return None,
        };
        let (add, Op::Add(_)) = inner(g, sum)? else { return None };
        let (mean, epsilon) = operands2(g, add)?;
        let epsilon = splat_of(g, epsilon).filter(|e| *e >= 0.0)?;
        let (square, axes) = mean_over_last(g, mean).filter(|_| has_one_use(g, mean))?;
        (Monomial::of(g, square).power_of(x, 2)? == 1.0).then_some(Normalised { x, axes, epsilon: epsilon as f32 })
    }
}

/// What `v` is the mean of over its last axes, which stay as extents of 1, and how many axes these are.
fn mean_over_last(g: &Graph, v: Value) -> Option<(Value, usize)> {
    let (node, reduce) = producer::<Reduce>(g, v)?;
    let x = g.operand(node, 0)?;
    let rank = rank(g, x)?;
    let mut axes = positive_axes(&reduce.axes, rank)?;
    axes.sort_unstable();
    let last = !axes.is_empty() && axes.iter().copied().eq(rank - axes.len()..rank);
    let one_operand = g.operand(node, 1).is_none();
    (reduce.kind == ReduceKind::Mean && reduce.keep_dims && last && one_operand).then_some((x, axes.len()))
}

/// Ones for the last axes of `x`: a factor that changes nothing.
fn ones(g: &Graph, x: Value, axes: usize) -> Option<Tensor> {
    let shape = shape(g, x)?;
    let last = &shape[shape.len().checked_sub(axes)?..];
    Tensor::from_f64(dtype(g, x)?, last, &vec![1.0; optc_tensor::element_count(last)?]).ok()
}

/// `(x − mean(x)) / √(mean((x − mean(x))²) + epsilon)` → `layer_norm(x, 1)`.
pub(super) fn layer_norm(g: &Graph, node: NodeId) -> Option<Patch> {
    let n = Normalised::of(g, node)?;
    let (sub, _) = producer::<Sub>(g, n.x)?;
    let (x, mean) = operands2(g, sub)?;
    (mean_over_last(g, mean)? == (x, n.axes)).then_some(())?;
    let mut patch = Patch::new();
    let scale = patch.constant(ones(g, x, n.axes)?);
    let op = LayerNorm { axis: -(n.axes as i64), epsilon: Real(n.epsilon) };
    let new = patch.add(op, &[x.into(), scale]);
    Some(patch.replacing(result(node), new))
}

/// `x / √(mean(x²) + epsilon)` → `rms_norm(x, 1)`.
pub(super) fn rms_norm(g: &Graph, node: NodeId) -> Option<Patch> {
    let n = Normalised::of(g, node)?;
    let mut patch = Patch::new();
    let scale = patch.constant(ones(g, n.x, n.axes)?);
    let new = patch.add(RmsNorm { axis: -(n.axes as i64), epsilon: Real(n.epsilon) }, &[n.x.into(), scale]);
    Some(patch.replacing(result(node), new))
}

/// A normalisation that only this node reads, and the constant with one element for each place of its normalised axes.
fn with_constant(g: &Graph, node: NodeId) -> Option<(NodeId, Value)> {
    let (y, c) = operands2(g, node)?;
    let (norm, axis) = match inner(g, y)? {
        (norm, Op::LayerNorm(op)) => (norm, op.axis),
        (norm, Op::RmsNorm(op)) => (norm, op.axis),
        _ => return None,
    };
    let shape = shape(g, y)?;
    let first = *positive_axes(&[axis], shape.len())?.first()?;
    (g.constant(c)?.shape() == &shape[first..]).then_some((norm, c))
}

/// `norm(x, 1) · c` → `norm(x, c)`.
pub(super) fn scale(g: &Graph, node: NodeId) -> Option<Patch> {
    let Op::Mul(_) = &g.node(node).op else { return None };
    let (norm, c) = with_constant(g, node)?;
    let plain = splat_of(g, g.operand(norm, 1)?)? == 1.0 && g.operand(norm, 2).is_none();
    let x = g.operand(norm, 0).filter(|_| plain)?;
    Some(Patch::replace(node, g.node(norm).op.clone(), &[x, c]))
}

/// `layer_norm(x, s) + c` → `layer_norm(x, s, c)`.
pub(super) fn bias(g: &Graph, node: NodeId) -> Option<Patch> {
    let Op::Add(_) = &g.node(node).op else { return None };
    let (norm, c) = with_constant(g, node)?;
    let op = g.op::<LayerNorm>(norm).filter(|_| g.operand(norm, 2).is_none())?;
    let operands: Vec<Ref> = [g.operand(norm, 0)?, g.operand(norm, 1)?, c].map(Ref::from).to_vec();
    let mut patch = Patch::new();
    let new = patch.add(op.clone(), &operands);
    Some(patch.replacing(result(node), new))
}
