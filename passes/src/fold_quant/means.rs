//! Means of integers: their sums, times the scale over how many there are.

use optc_ir::ops::math::{Reduce, ReduceKind};
use optc_ir::ops::nn::{Pool, PoolKind};
use optc_ir::ops::quant::{QuantConv, QuantSum};
use optc_ir::{Graph, NodeId};
use optc_tensor::{DType, Tensor};

use super::evaluate;
use super::matching::stored_whole;
use super::products::{operand_zero, real};
use crate::matching::{positive_axes, result, shape};
use crate::rewrite::Patch;

/// More elements could overflow the sum.
const MOST: usize = 1 << 22;

/// `mean(dequantize(q))` → the sum of the integers, times the scale over their number.
pub(super) fn mean_of_integers(g: &Graph, node: NodeId) -> Option<Patch> {
    let op = g.op::<Reduce>(node).filter(|op| op.kind == ReduceKind::Mean && g.operand(node, 1).is_none())?;
    let x = g.operand(node, 0)?;
    let (q, from) = stored_whole(g, x)?;
    let extents = shape(g, x)?;
    let axes = if op.axes.is_empty() { (0..extents.len()).collect() } else { positive_axes(&op.axes, extents.len())? };
    let n: usize = axes.iter().map(|&d| extents[d]).product();
    if n == 0 || n > MOST {
        return None;
    }
    let mut patch = Patch::new();
    let zero = operand_zero(&mut patch, from)?;
    let sum = QuantSum { axes: op.axes.clone(), keep_dims: op.keep_dims };
    let sum = patch.add_optional(sum, &[Some(q.into()), zero]);
    let y = real(&mut patch, sum, Tensor::scalar((f64::from(from.scale) / n as f64) as f32));
    Some(patch.replacing(result(node), y))
}

/// `mean_pool(dequantize(q))` → the sum of the integers under the window, which is a convolution of each channel with
/// ones, times the scale over their number: one for all, or where padding does not count one for each place.
pub(super) fn pool_of_integers(g: &Graph, node: NodeId) -> Option<Patch> {
    let op = g.op::<Pool>(node).filter(|op| op.kind == PoolKind::Mean && !op.ceil_mode)?;
    let x = g.operand(node, 0)?;
    let (q, from) = stored_whole(g, x)?;
    let extents = shape(g, x)?;
    let (&channels, kernel) = (extents.get(1)?, op.kernel.iter().map(|&k| usize::try_from(k).ok()));
    let kernel: Vec<usize> = kernel.collect::<Option<_>>()?;
    let n: usize = kernel.iter().product();
    if n == 0 || n > MOST || channels == 0 {
        return None;
    }
    let steps = |count: f64| (f64::from(from.scale) / count) as f32;
    let steps = if op.count_include_pad || op.pads.iter().all(|&p| p == 0) {
        Tensor::scalar(steps(n as f64))
    } else {
        let counts = counts(op, &extents[2..], n)?;
        let values: Vec<f32> = counts.to_f64_vec().into_iter().map(steps).collect();
        Tensor::from_slice(&counts.shape()[2..], &values).ok()?
    };
    let mut patch = Patch::new();
    let zero = operand_zero(&mut patch, from)?;
    let ones = vec![1; channels * n];
    let weights = patch.constant(Tensor::from_i64(DType::I8, &[&[channels, 1], &kernel[..]].concat(), &ones).ok()?);
    let (dilations, pads, strides) = (op.dilations.clone(), op.pads.clone(), op.strides.clone());
    let sum = QuantConv { dilations, groups: channels as i64, pads, strides };
    let sum = patch.add_optional(sum, &[Some(q.into()), Some(weights), zero]);
    let y = real(&mut patch, sum, steps);
    Some(patch.replacing(result(node), y))
}

/// How many elements each place of the window takes in: the mean of ones among zeros, times the window's elements.
fn counts(op: &Pool, extents: &[usize], n: usize) -> Option<Tensor> {
    let shape = [&[1, 1], extents].concat();
    let ones = Tensor::from_slice(&shape, &vec![1f32; shape.iter().product()]).ok()?;
    let share = evaluate(&Pool { count_include_pad: true, ..op.clone() }.into(), &[&ones])?;
    let counts: Vec<f64> = share.to_f64_vec().into_iter().map(|s| (s * n as f64).round()).collect();
    let some = counts.iter().all(|&c| c > 0.0);
    some.then(|| Tensor::from_f64(DType::F32, share.shape(), &counts).ok())?
}
