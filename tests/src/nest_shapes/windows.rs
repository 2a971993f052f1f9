//! Windows over each channel by itself.

use super::products::precision;
use super::{Maker, attributes, images, kernels};
use optc_ir::NodeId;
use optc_ir::ops::nn::{Conv, Pool};

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

pub(super) fn pool(m: &mut Maker) -> Option<NodeId> {
    let axes = m.random.pick(&[1, 2, 2, 2, 3]);
    let windows = m.sliding(axes);
    let channels = m.extent();
    let shape = images(m, channels, &windows);
    let kind = m.random.pick(&["max", "mean"]);
    // Means are of `f32` alone.
    let x = if kind == "max" && m.once_in(4) { m.halves(&shape) } else { m.input(&shape) };
    let (dilations, pads, strides) = attributes(&windows);
    let kernel = kernels(&windows).into_iter().map(|k| k as i64).collect();
    let kind = kind.to_owned();
    let (ceil_mode, count_include_pad) = (m.once_in(4), m.once_in(2));
    m.op(Pool { ceil_mode, count_include_pad, dilations, kernel, kind, pads, strides }, &[Some(x)])
}
