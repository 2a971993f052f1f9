//! Windows over each channel by itself.

use optc_ir::ops::math::{Add, Relu};
use optc_ir::ops::nn::{Conv, Pool, PoolKind};
use optc_ir::{NodeId, Value};
use optc_tensor::DType;

use super::products::precision;
use super::{Maker, attributes, images, kernels};

pub(super) fn depthwise(m: &mut Maker) -> Option<NodeId> {
    let axes = m.random.pick(&[1, 2, 2, 2]);
    let windows = m.sliding(axes);
    let channels = m.extent().max(2);
    let shape = images(m, channels, &windows);
    let precision = precision(m);
    let x = m.factor(&shape, precision);
    let w = m.constant(&[&[channels, 1][..], &kernels(&windows)].concat());
    let bias = m.once_in(2).then(|| m.constant(&[channels]));
    let (dilations, pads, strides) = attributes(&windows);
    m.op(Conv { dilations, groups: channels as i64, pads, precision, strides }, &[Some(x), Some(w), bias])
}

/// A pointwise convolution, perhaps an activation, and a depthwise one, over images with channels last.
pub(super) fn separable(m: &mut Maker) -> Option<NodeId> {
    let windows = m.sliding(2);
    // Mostly whole panels: half of the time of the widest ones as well, which have 48 columns.
    let channels = if m.once_in(12) { m.extent().max(2) } else { m.random.pick(&[16, 32, 48, 64, 48, 96]) };
    let (inputs, precision) = (m.extent(), DType::F32);
    let shape = images(m, inputs, &windows);
    let (x, w) = (m.input(&shape), m.constant(&[channels, inputs, 1, 1]));
    let bias = m.once_in(2).then(|| m.constant(&[channels]));
    let point = Conv { dilations: vec![1, 1], groups: 1, pads: vec![0; 4], precision, strides: vec![1, 1] };
    let mut between = Value { node: m.op(point, &[Some(x), Some(w), bias])?, result: 0 };
    m.channels_last(between.node);
    if m.once_in(5) {
        between = m.value(Relu {}, &[between])?;
        m.channels_last(between.node);
    }
    let w = m.constant(&[&[channels, 1][..], &kernels(&windows)].concat());
    let bias = m.once_in(2).then(|| m.constant(&[channels]));
    let (dilations, pads, strides) = attributes(&windows);
    m.nhwc = true;
    let depthwise = Conv { dilations, groups: channels as i64, pads, precision, strides };
    let last = m.op(depthwise, &[Some(between), Some(w), bias])?;
    let result = Value { node: last, result: 0 };
    if m.once_in(8) && m.shape(result) == m.shape(between) {
        // What is between them is read again.
        m.channels_last(last);
        let sum = m.value(Add {}, &[result, between])?.node;
        m.channels_last(sum);
        return Some(sum);
    }
    Some(last)
}

pub(super) fn pool(m: &mut Maker) -> Option<NodeId> {
    let axes = m.random.pick(&[1, 2, 2, 2, 3]);
    let windows = m.sliding(axes);
    let channels = m.extent();
    let shape = images(m, channels, &windows);
    let kind = m.random.pick(&[PoolKind::Max, PoolKind::Mean]);
    // Means are of `f32` alone.
    let x = if kind == PoolKind::Max && m.once_in(4) { m.halves(&shape) } else { m.input(&shape) };
    let (dilations, pads, strides) = attributes(&windows);
    let kernel = kernels(&windows).into_iter().map(|k| k as i64).collect();
    let (ceil_mode, count_include_pad) = (m.once_in(4), m.once_in(2));
    m.op(Pool { ceil_mode, count_include_pad, dilations, kernel, kind, pads, strides }, &[Some(x)])
}
