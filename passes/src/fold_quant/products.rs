//! Products of integers, and the scales of their results.

use optc_ir::ops::math::{Add, Cast, MatMul, Mul};
use optc_ir::ops::nn::{Conv, Gemm};
use optc_ir::ops::quant::{QuantConv, QuantMatMul, Requantize};
use optc_ir::ops::tensor::Transpose;
use optc_ir::{Graph, NodeId, Value};
use optc_tensor::{DType, Tensor};

use super::evaluate;
use super::matching::{QuantizedReals, Whole, quantizes, stored, stored_whole};
use crate::matching::{has_one_use, producer, pruned, rank, result, shape};
use crate::rewrite::{Patch, Ref};
use crate::{PassCx, PassError};

/// Folds the products whose operands are stored as integers: all of them, whatever the machine, so that the same graph
/// has the same results everywhere.
pub(super) fn fold(graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
    super::everywhere(graph, &mut |graph| {
        for id in graph.topological_order().unwrap_or_default() {
            if graph.get(id).is_none() {
                continue;
            }
            let found = conv(graph, id).map(|patch| ("conv", patch));
            let found = found.or_else(|| matmul(graph, id).map(|patch| ("matmul", patch)));
            let found = found.or_else(|| gemm(graph, id).map(|patch| ("gemm", patch)));
            let Some((rule, patch)) = found else { continue };
            if cx.permit(rule) {
                patch.apply(graph).map_err(|error| PassError::Rule { rule, error })?;
            }
        }
        Ok(())
    })
}

/// Scales of the operands, multiplied for each result channel, and the bias in their steps.
struct Scales {
    /// What a step of the sum stands for.
    steps: Vec<f64>,
    /// The bias in steps.
    bias: Option<Vec<i32>>,
    /// The bias as it is, to be added after the scales: where it is too many steps to be added to the sum.
    late: Option<Vec<f32>>,
}

/// A channel of zero weights has any step: one of which its bias is a multiple this large.
const FREE: f64 = 65_536.0;

/// A bias of more steps is added after the scales. Sums of 33,000 products of bytes stay below as many, so that they
/// and the bias are no more than an `i32` holds.
const MOST: f64 = (1 << 30) as f64;

impl Scales {
    /// `alive` says whether a channel has a weight that is not zero.
    fn new(
        x: Whole,
        w: &QuantizedReals,
        bias: Option<&[f64]>,
        n: usize,
        alive: impl Fn(usize) -> bool,
    ) -> Option<Scales> {
        let of = |c: usize| f64::from(if w.scales.len() == 1 { w.scales[0] } else { w.scales[c] });
        let mut steps: Vec<f64> = (0..n).map(|c| f64::from(x.scale) * of(c)).collect();
        let Some(bias) = bias else { return Some(Scales { steps, bias: None, late: None }) };
        if bias.len() != n || bias.iter().any(|b| !b.is_finite()) {
            return None;
        }
        for (c, step) in steps.iter_mut().enumerate() {
            if !alive(c) && bias[c] != 0.0 {
                *step = (bias[c].abs() / FREE).max(f64::from(f32::MIN_POSITIVE));
            }
        }
        let in_steps: Vec<f64> = bias.iter().zip(&steps).map(|(b, s)| (b / s).round_ties_even()).collect();
        if in_steps.iter().any(|b| b.abs() > MOST) {
            let late = Some(bias.iter().map(|&b| b as f32).collect());
            return Some(Scales { steps, bias: None, late });
        }
        let bias = in_steps.into_iter().map(|b| b as i32).collect();
        Some(Scales { steps, bias: Some(bias), late: None })
    }

    /// What a sum stands for: scaled, and with the bias where that is added late. `behind` dims stand after the
    /// channels.
    fn real(&self, patch: &mut Patch, sum: Ref, behind: usize) -> Option<Ref> {
        let y = real(patch, sum, self.tensor(behind)?);
        let Some(late) = &self.late else { return Some(y) };
        let mut shape = vec![1; behind + 1];
        shape[0] = late.len();
        let bias = patch.constant(Tensor::from_slice(&shape, late).ok()?);
        Some(patch.add(Add {}, &[y, bias]))
    }

    /// The steps as a tensor that broadcasts over `behind` dims after the channels; a scalar where all are equal.
    fn tensor(&self, behind: usize) -> Option<Tensor> {
        let steps: Vec<f32> = self.steps.iter().map(|&s| s as f32).collect();
        let first = *steps.first()?;
        if steps.iter().all(|&s| s == first) {
            return Some(Tensor::scalar(first));
        }
        let mut shape = vec![1; behind + 1];
        shape[0] = steps.len();
        Tensor::from_slice(&shape, &steps).ok()
    }
}

/// Sum and scale: `cast(sum) · steps`.
pub(super) fn real(patch: &mut Patch, sum: Ref, steps: Tensor) -> Ref {
    let float = patch.add(Cast { to: DType::F32 }, &[sum]);
    let steps = patch.constant(steps);
    patch.add(Mul {}, &[float, steps])
}

/// The values of a bias: a constant vector, or dequantized integers.
fn bias_values(g: &Graph, v: Value) -> Option<Vec<f64>> {
    if let Some(t) = g.constant(v) {
        return Some(t.to_f64_vec());
    }
    let stored = stored(g, v)?;
    let integers = g.constant(stored.integers)?.to_i64_vec();
    let at = |list: &[f64], i: usize| if list.len() == 1 { list[0] } else { list[i] };
    let scales: Vec<f64> = stored.scales.iter().map(|&s| f64::from(s)).collect();
    let zeros: Vec<f64> = stored.zeros.iter().map(|&z| z as f64).collect();
    let fits = scales.len() == 1 || scales.len() == integers.len();
    fits.then(|| integers.iter().enumerate().map(|(i, &v)| (v as f64 - at(&zeros, i)) * at(&scales, i)).collect())
}

/// The zero points of weights as an operand; none where all are 0.
fn weight_zeros(patch: &mut Patch, w: &QuantizedReals) -> Option<Option<Ref>> {
    if w.zeros.iter().all(|&z| z == 0) {
        return Some(None);
    }
    let shape: &[usize] = if w.zeros.len() == 1 { &[] } else { &[w.zeros.len()] };
    let zeros = Tensor::from_i64(w.dtype, shape, &w.zeros).ok()?;
    Some(Some(patch.constant(zeros)))
}

pub(super) fn operand_zero(patch: &mut Patch, x: Whole) -> Option<Option<Ref>> {
    Some(if x.zero == 0 { None } else { Some(patch.constant(x.zero()?)) })
}

/// `conv(dequantize(x), dequantize(w), bias)`.
fn conv(g: &Graph, node: NodeId) -> Option<Patch> {
    let op = g.op::<Conv>(node)?;
    let (x, from) = stored_whole(g, g.operand(node, 0)?)?;
    let w = stored(g, g.operand(node, 1)?).filter(|w| w.dtype != DType::I32 && w.axis.is_none_or(|a| a == 0))?;
    let weights = g.constant(w.integers)?;
    let rank = weights.rank();
    let filters = *weights.shape().first()?;
    let bias = match g.operand(node, 2) {
        Some(bias) => Some(bias_values(g, bias)?),
        None => None,
    };
    let values = weights.to_i64_vec();
    let size = (values.len() / filters.max(1)).max(1);
    let zero = |c: usize| if w.zeros.len() == 1 { w.zeros[0] } else { w.zeros[c] };
    let alive = |c: usize| values[c * size..(c + 1) * size].iter().any(|&v| v != zero(c));
    let scales = Scales::new(from, &w, bias.as_deref(), filters, alive)?;
    let mut patch = Patch::new();
    let x_zero = operand_zero(&mut patch, from)?;
    let w_zero = weight_zeros(&mut patch, &w)?;
    let bias = match &scales.bias {
        Some(bias) => Some(patch.constant(Tensor::from_slice(&[filters], bias).ok()?)),
        None => None,
    };
    let (dilations, pads, strides) = (op.dilations.clone(), op.pads.clone(), op.strides.clone());
    let integer = QuantConv { dilations, groups: op.groups, pads, strides };
    let sum = patch.add_optional(integer, &[Some(x.into()), Some(w.integers.into()), x_zero, w_zero, bias]);
    let y = scales.real(&mut patch, sum, rank - 2)?;
    Some(patch.replacing(result(node), y))
}

/// `matmul(dequantize(a), dequantize(b))`, where `b` may be computed.
fn matmul(g: &Graph, node: NodeId) -> Option<Patch> {
    g.op::<MatMul>(node)?;
    let (a, from) = stored_whole(g, g.operand(node, 0)?)?;
    let w = stored(g, g.operand(node, 1)?).filter(|w| w.dtype != DType::I32)?;
    let (ra, rb) = (rank(g, a)?, rank(g, w.integers)?);
    if ra < 2 || rb < 2 || w.axis.is_some_and(|axis| axis + 1 != rb) {
        return None;
    }
    let scales = Scales::new(from, &w, None, w.scales.len(), |_| true)?;
    let mut patch = Patch::new();
    let a_zero = operand_zero(&mut patch, from)?;
    let b_zero = weight_zeros(&mut patch, &w)?;
    let sum = patch.add_optional(QuantMatMul {}, &[Some(a.into()), Some(w.integers.into()), a_zero, b_zero]);
    let y = real(&mut patch, sum, scales.tensor(0)?);
    Some(patch.replacing(result(node), y))
}

/// `gemm(dequantize(a), dequantize(b), c)` with constant `b`.
fn gemm(g: &Graph, node: NodeId) -> Option<Patch> {
    let op = g.op::<Gemm>(node)?;
    if op.trans_a || op.alpha.0 != 1.0 || op.beta.0 != 1.0 {
        return None;
    }
    let (a, from) = stored_whole(g, g.operand(node, 0)?)?;
    let column = usize::from(!op.trans_b);
    let w = stored(g, g.operand(node, 1)?).filter(|w| w.dtype != DType::I32 && w.axis.is_none_or(|a| a == column))?;
    let mut weights = g.constant(w.integers)?.clone();
    if op.trans_b {
        weights = evaluate(&Transpose { perm: vec![1, 0] }.into(), &[&weights])?;
    }
    let [_, n] = *weights.shape() else { return None };
    let bias = match g.operand(node, 2) {
        Some(c) => {
            let (values, shape) = (bias_values(g, c)?, shape(g, c)?);
            // One value a column, not one a row.
            if values.len() != 1 && shape.last() != Some(&n) {
                return None;
            }
            Some(if values.len() == 1 { vec![values[0]; n] } else { values })
        }
        None => None,
    };
    let values = weights.to_i64_vec();
    let zero = |c: usize| if w.zeros.len() == 1 { w.zeros[0] } else { w.zeros[c] };
    let alive = |c: usize| values.iter().skip(c).step_by(n).any(|&v| v != zero(c));
    let scales = Scales::new(from, &w, bias.as_deref(), n, alive)?;
    let mut patch = Patch::new();
    let a_zero = operand_zero(&mut patch, from)?;
    let b_zero = weight_zeros(&mut patch, &w)?;
    let weights = if op.trans_b { patch.constant_of(weights, pruned(g, w.integers)) } else { w.integers.into() };
    let mut sum = patch.add_optional(QuantMatMul {}, &[Some(a.into()), Some(weights), a_zero, b_zero]);
    if let Some(bias) = &scales.bias {
        let bias = patch.constant(Tensor::from_slice(&[n], bias).ok()?);
        sum = patch.add(Add {}, &[sum, bias]);
    }
    let y = scales.real(&mut patch, sum, 0)?;
    Some(patch.replacing(result(node), y))
}

/// `quantize(cast(sum) · steps)` → `requantize(sum)`.
pub(super) fn requantize(g: &Graph, node: NodeId) -> Option<Patch> {
    let to = quantizes(g, node)?;
    let y = g.operand(node, 0)?;
    let (product, _) = producer::<Mul>(g, y).filter(|_| has_one_use(g, y))?;
    let (float, steps) = (g.operand(product, 0)?, g.constant(g.operand(product, 1)?)?);
    let (cast, _) = producer::<Cast>(g, float).filter(|_| has_one_use(g, float))?;
    let sum = g.operand(cast, 0)?;
    if crate::matching::dtype(g, sum)? != DType::I32 || steps.dtype() != DType::F32 {
        return None;
    }
    let steps: Vec<f32> = steps.to_f64_vec().iter().map(|s| (s / f64::from(to.scale)) as f32).collect();
    let shape = g.constant(g.operand(product, 1)?)?.shape().to_vec();
    if steps.iter().any(|s| !s.is_finite()) {
        return None;
    }
    let mut patch = Patch::new();
    let scale = patch.constant(Tensor::from_slice(&shape, &steps).ok()?);
    let zero = patch.constant(to.zero()?);
    let new = patch.add(Requantize {}, &[sum.into(), scale, zero]);
    Some(patch.replacing(result(node), new))
}
