//! Corrects biases and batch normalisations after pruning, from the statistics of a value before and after.

use optc_ir::ops::nn::BatchNorm;
use optc_ir::{Const, Graph, NodeId, Op, Val, Value};
use optc_tensor::{Tensor, TensorError};

use crate::weighted::Weighted;

/// Sums of a value over the samples, channel by channel.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Moments {
    count: f64,
    sum: Vec<f64>,
    square: Vec<f64>,
}

impl Moments {
    /// Those of all tensors among some values.
    pub fn of(values: &[Val], axis: usize) -> Moments {
        let mut moments = Moments::default();
        values.iter().filter_map(Val::as_tensor).for_each(|t| moments.add(t, axis));
        moments
    }

    /// Adds a tensor whose channels lie along `axis`.
    fn add(&mut self, t: &Tensor, axis: usize) {
        let Ok(values) = t.as_slice::<f32>() else { return };
        let channels = t.shape()[axis];
        let inner: usize = t.shape()[axis + 1..].iter().product();
        self.sum.resize(channels, 0.0);
        self.square.resize(channels, 0.0);
        for (i, run) in values.chunks(inner.max(1)).enumerate() {
            for &v in run {
                self.sum[i % channels] += f64::from(v);
                self.square[i % channels] += f64::from(v) * f64::from(v);
            }
        }
        self.count += (values.len() / channels.max(1)) as f64;
    }

    fn mean(&self, channel: usize) -> f64 {
        self.sum[channel] / self.count.max(1.0)
    }

    fn variance(&self, channel: usize) -> f64 {
        let mean = self.mean(channel);
        (self.square[channel] / self.count.max(1.0) - mean * mean).max(0.0)
    }
}

/// Whether a layer has a bias that can be corrected: one value a channel, which nothing else reads.
pub(super) fn has_bias(g: &Graph, layer: &Weighted) -> bool {
    let Some(value) = g.operand(layer.node, 2) else { return false };
    let scaled = matches!(&g.node(layer.node).op, Op::Gemm(gemm) if gemm.beta.0 != 1.0);
    !scaled && g.each_use(value).len() == 1 && g.constant(value).is_some_and(|t| t.len() == layer.rows)
}

/// Adds to a layer's bias what its mean lacks; gives what was added to each channel.
pub(super) fn bias(g: &mut Graph, layer: &Weighted, before: &Moments, after: &Moments) -> Vec<f32> {
    let Some(value) = g.operand(layer.node, 2) else { return vec![] };
    let values = |g: &Graph| g.constant(value).map(Tensor::to_f64_vec).unwrap_or_default();
    let old = values(g);
    adjust(g, value, layer.rows, |c, bias| bias + before.mean(c) - after.mean(c));
    values(g).iter().zip(old).map(|(new, old)| (new - old) as f32).collect()
}

/// Adds to each channel of a tensor, which lie along `axis`.
pub(super) fn add(t: &mut Tensor, axis: usize, change: &[f32]) -> Result<(), TensorError> {
    let inner: usize = t.shape()[axis + 1..].iter().product();
    for (run, change) in t.as_mut_slice::<f32>()?.chunks_mut(inner.max(1)).zip(change.iter().cycle()) {
        run.iter_mut().for_each(|v| *v += change);
    }
    Ok(())
}

/// Moves the statistics of a batch normalisation by as much as those of its operand moved: what it gives keeps its mean
/// and variance.
pub(super) fn batch_norm(g: &mut Graph, node: NodeId, before: &Moments, after: &Moments) {
    let channels = before.sum.len();
    let (Some(mean), Some(var)) = (g.operand(node, 3), g.operand(node, 4)) else { return };
    let epsilon = g.op::<BatchNorm>(node).map_or(0.0, |bn| f64::from(bn.epsilon.0));
    let known = |c: usize| before.variance(c) > epsilon.max(1e-12) && after.variance(c) > 0.0;
    let own = [mean, var].map(|v| own_copy(g, node, v));
    adjust(g, own[0], channels, |c, mean| {
        // The mean's distance from the running one, in the new unit of spread.
        let spread = if known(c) { (after.variance(c) / before.variance(c)).sqrt() } else { 1.0 };
        after.mean(c) + (mean - before.mean(c)) * spread
    });
    adjust(g, own[1], channels, |c, var| {
        let spread = if known(c) { after.variance(c) / before.variance(c) } else { 1.0 };
        (var + epsilon) * spread - epsilon
    });
}

/// The constant, or a copy of it if others read it too.
fn own_copy(g: &mut Graph, node: NodeId, value: Value) -> Value {
    if g.each_use(value).len() == 1 {
        return value;
    }
    let (op, ty) = (g.node(value.node).op.clone(), g.ty(value).clone());
    let copy = Value { node: g.add(op, &[], vec![ty]), result: 0 };
    let slots: Vec<usize> = g.uses(value).into_iter().filter(|(id, _)| *id == node).map(|(_, slot)| slot).collect();
    if let Some(&slot) = slots.first() {
        g.set_operand(node, slot, Some(copy));
    }
    copy
}

/// Changes a constant of one value a channel.
fn adjust(g: &mut Graph, value: Value, channels: usize, change: impl Fn(usize, f64) -> f64) {
    let Op::Constant(c) = &mut g.node_mut(value.node).op else { return };
    let t = &c.value.0;
    if t.len() != channels {
        return;
    }
    let changed: Vec<f64> = t.to_f64_vec().into_iter().enumerate().map(|(c, v)| change(c, v)).collect();
    if let Ok(t) = Tensor::from_f64(t.dtype(), t.shape(), &changed) {
        c.value = Const(t);
    }
}
