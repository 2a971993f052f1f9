//! Ops that are linear in constant weights, with a bias per channel of the result.

use optc_ir::ops::nn::Gemm;
use optc_ir::{Graph, NodeId, Op, Real, Value};
use optc_tensor::{DType, Tensor};

use crate::matching::{dims, dtype, has_one_use, pruned, result};
use crate::rewrite::{Patch, Ref};

/// A linear op and where its channels are.
pub(super) struct LinearOp {
    node: NodeId,
    /// The weights, a constant that only this op reads.
    weights: Value,
    /// The axis of the weights along which the channels of the result lie.
    weights_axis: usize,
    /// The channels of the result.
    pub channels: usize,
    /// The result's axis along which they lie.
    pub channel_axis: usize,
}

impl LinearOp {
    /// The linear op that computes `y`.
    pub fn of(g: &Graph, y: Value) -> Option<LinearOp> {
        let node = y.node;
        let weights = g.operand(node, 1)?;
        let rank = dims(g, y)?.len();
        let (weights_axis, channel_axis) = match &g.node(node).op {
            Op::Conv(_) => (0, 1),
            Op::Gemm(gemm) => (usize::from(!gemm.trans_b), 1),
            // A vector on the left has no axis of rows, one on the right none of columns.
            Op::MatMul(_) if dims(g, weights)?.len() == 2 => (1, rank.checked_sub(1)?),
            _ => return None,
        };
        let t = g.constant(weights)?;
        let channels = *t.shape().get(weights_axis)?;
        let bias_is_known = g.operand(node, 2).is_none_or(|b| g.constant(b).is_some());
        let usable = has_one_use(g, weights) && bias_is_known && t.dtype().is_float() && y.result == 0;
        usable.then_some(LinearOp { node, weights, weights_axis, channels, channel_axis })
    }

    /// The patch by which `root` becomes this op with each channel multiplied by its factor, then increased by its
    /// summand.
    pub fn scaled_and_shifted(&self, g: &Graph, root: NodeId, factor: &[f64], summand: &[f64]) -> Option<Patch> {
        if factor.len() != self.channels || summand.len() != self.channels {
            return None;
        }
        let (op, old_bias) = self.op_and_bias(g)?;
        let shifted = summand.iter().any(|&s| s != 0.0);
        let takes_bias = !matches!(op, Op::MatMul(_));
        if shifted && !takes_bias {
            return None;
        }
        let mut patch = Patch::new();
        let weights = match factor.iter().all(|&f| f == 1.0) {
            true => self.weights.into(),
            false => patch.constant_of(self.scaled_weights(g, factor)?, pruned(g, self.weights)),
        };
        let mut operands: Vec<Option<Ref>> = vec![Some(g.operand(self.node, 0)?.into()), Some(weights)];
        if takes_bias && (shifted || old_bias.is_some()) {
            let old = old_bias.unwrap_or_else(|| vec![0.0; self.channels]);
            let bias: Vec<f64> = (0..self.channels).map(|c| old[c] * factor[c] + summand[c]).collect();
            let dtype: DType = dtype(g, self.weights)?;
            operands.push(Some(patch.constant(Tensor::from_f64(dtype, &[self.channels], &bias).ok()?)));
        }
        let new = patch.add_optional(op, &operands);
        Some(patch.replacing(result(root), new))
    }

    /// The op for a bias of one element a channel, and the bias so far.
    fn op_and_bias(&self, g: &Graph) -> Option<(Op, Option<Vec<f64>>)> {
        let op = g.node(self.node).op.clone();
        let unread = matches!(&op, Op::Gemm(gemm) if !gemm.reads_c());
        let Some(bias) = g.operand(self.node, 2).filter(|_| !unread) else {
            // A factor of an absent bias is not a factor of the new bias.
            let op = if let Op::Gemm(gemm) = op { Gemm { beta: Real(1.0), ..gemm }.into() } else { op };
            return Some((op, None));
        };
        let bias = g.constant(bias)?;
        let spread = match bias.shape() {
            [] | [1] | [1, 1] => Some(vec![*bias.to_f64_vec().first()?; self.channels]),
            [n] | [1, n] if *n == self.channels => Some(bias.to_f64_vec()),
            _ => None,
        };
        match op {
            Op::Gemm(gemm) => {
                let beta = f64::from(gemm.beta.0);
                let bias = spread?.into_iter().map(|b| b * beta).collect();
                Some((Gemm { beta: Real(1.0), ..gemm }.into(), Some(bias)))
            }
            op => Some((op, Some(spread?))),
        }
    }

    fn scaled_weights(&self, g: &Graph, factor: &[f64]) -> Option<Tensor> {
        let t = g.constant(self.weights)?;
        let inner: usize = t.shape()[self.weights_axis + 1..].iter().product();
        let inner = inner.max(1);
        let scaled = match t.as_slice::<f32>() {
            Ok(weights) => {
                let mut scaled = Tensor::zeros(DType::F32, t.shape()).ok()?;
                let runs = scaled.as_mut_slice::<f32>().ok()?.chunks_mut(inner).zip(weights.chunks(inner));
                for ((to, from), factor) in runs.zip(factor.iter().cycle()) {
                    to.iter_mut().zip(from).for_each(|(to, &w)| *to = (f64::from(w) * factor) as f32);
                }
                scaled
            }
            Err(_) => {
                let all = t.to_f64_vec().into_iter().enumerate();
                let scaled: Vec<f64> = all.map(|(i, w)| w * factor[i / inner % self.channels]).collect();
                Tensor::from_f64(t.dtype(), t.shape(), &scaled).ok()?
            }
        };
        optc_tensor::evict(t.bytes()); // replaced: only the scaled weights are read from here on
        Some(scaled)
    }
}
