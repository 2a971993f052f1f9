//! Layers of reals, whose factors may be rounded to bfloat16.

use arbitrary::Result;
use optc_ir::ops::math::{Add, Cast, MatMul, Mul, Relu, Sigmoid};
use optc_ir::ops::nn::{Conv, ConvTranspose, Gemm, Pool, PoolKind};
use optc_ir::{Encoding, NodeId, Op, Real, Value};
use optc_tensor::{DType, Tensor};

use super::{EXACT, Net, attributes, images, kernels};

/// What factors are rounded to.
fn precision(net: &mut Net) -> Result<DType> {
    if net.chance(2, 3)? {
        return Ok(DType::F32);
    }
    net.passes = EXACT;
    Ok(DType::BF16)
}

/// The first factor of a product, which may be rounded to the precision already.
fn factor(net: &mut Net, shape: &[usize], precision: DType) -> Result<Option<Value>> {
    let Some(t) = net.floats(shape) else { return Ok(None) };
    let half = precision == DType::BF16 && net.chance(1, 2)?;
    let t = if half { Tensor::from_f64(DType::BF16, shape, &t.to_f64_vec()).ok() } else { Some(t) };
    Ok(t.map(|t| net.input(t)))
}

/// Another factor, or what is added.
fn operand(net: &mut Net, shape: &[usize]) -> Result<Option<Value>> {
    net.floats(shape).map(|t| net.either(t)).transpose()
}

fn bias(net: &mut Net, n: usize) -> Result<Option<Value>> {
    Ok(if net.chance(1, 2)? { net.floats(&[n]).map(|t| net.constant(t)) } else { None })
}

/// Elementwise ops after a layer, some of the time, and images with their channels last.
fn behind(net: &mut Net, layer: Option<Value>) -> Result<Option<NodeId>> {
    let Some(first) = layer else { return Ok(None) };
    let mut last = first;
    let real = net.graph.ty(first).as_tensor().is_some_and(|t| t.dtype == DType::F32);
    for _ in 0..if real { net.number(0, 2)? } else { 0 } {
        let Some(shape) = net.shape(last) else { return Ok(None) };
        let next = match net.number(0, 4)? {
            0 => net.op(Relu {}, &[Some(last)]),
            1 => net.op(Sigmoid {}, &[Some(last)]),
            2 => {
                let other = operand(net, &shape)?;
                net.op(Add {}, &[Some(last), other])
            }
            3 => {
                let mut of_channels = vec![1; shape.len()];
                if let Some(n) = of_channels.get_mut(1) {
                    *n = shape[1];
                }
                let factors = operand(net, &of_channels)?;
                net.op(Mul {}, &[Some(last), factors])
            }
            _ => net.op(Cast { to: DType::BF16 }, &[Some(last)]),
        };
        let Some(next) = next else { return Ok(None) };
        last = next;
        if net.graph.ty(last).as_tensor().is_some_and(|t| t.dtype == DType::BF16) {
            break;
        }
    }
    if net.shape(first).is_some_and(|s| s.len() == 4) && net.chance(1, 3)? {
        channels_last(net, first);
    }
    Ok(Some(last.node))
}

/// Gives images from a node on their channels last.
fn channels_last(net: &mut Net, first: Value) {
    let ids: Vec<NodeId> = net.graph.ids().filter(|&id| id >= first.node).collect();
    for id in ids {
        let node = net.graph.node_mut(id);
        if matches!(node.op, Op::Param(_) | Op::Constant(_)) {
            continue;
        }
        for result in &mut node.results {
            if let Some(t) = result.ty.as_tensor().filter(|t| t.static_shape().is_some_and(|s| s.len() == 4)).cloned() {
                result.ty = t.with_encoding(Encoding::Nhwc).into();
            }
        }
    }
    net.passes = EXACT;
}

pub(super) fn conv(net: &mut Net) -> Result<Option<NodeId>> {
    let axes = net.pick(&[1, 2, 2, 2, 3])?;
    let (windows, precision) = (net.windows(axes)?, precision(net)?);
    let (groups, inputs, filters) = match net.number(0, 3)? {
        // Each channel on its own.
        0 => (net.extent()?, 1, net.pick(&[1, 1, 1, 2])?),
        1 => (net.number(1, 4)?, net.number(1, 9)?, net.number(1, 9)?),
        _ => (1, net.extent()?, net.extent()?),
    };
    let batch = net.number(1, 2)?;
    let x = factor(net, &images(batch, groups * inputs, &windows), precision)?;
    let w = operand(net, &[&[groups * filters, inputs][..], &kernels(&windows)].concat())?;
    let bias = bias(net, groups * filters)?;
    let (dilations, pads, strides) = attributes(&windows);
    let conv = Conv { dilations, groups: groups as i64, pads, precision, strides };
    let layer = net.op(conv, &[x, w, bias]);
    behind(net, layer)
}

pub(super) fn conv_transpose(net: &mut Net) -> Result<Option<NodeId>> {
    let axes = net.pick(&[1, 2, 2])?;
    let mut windows = net.windows(axes)?;
    windows.iter_mut().for_each(|w| w.size = w.size.min(9));
    let (groups, inputs, filters) = (net.pick(&[1, 1, 2, 3])?, net.number(1, 17)?, net.number(1, 17)?);
    let batch = net.number(1, 2)?;
    let t = net.floats(&images(batch, groups * inputs, &windows));
    let x = t.map(|t| net.input(t));
    let w = operand(net, &[&[groups * inputs, filters][..], &kernels(&windows)].concat())?;
    let bias = bias(net, groups * filters)?;
    let (dilations, pads, strides) = attributes(&windows);
    let output_padding = match net.chance(1, 2)? {
        true => vec![],
        false => strides.iter().map(|&s| net.u.int_in_range(0..=s - 1)).collect::<Result<_>>()?,
    };
    let op = ConvTranspose { dilations, groups: groups as i64, output_padding, pads, strides };
    let layer = net.op(op, &[x, w, bias]);
    behind(net, layer)
}

pub(super) fn pool(net: &mut Net) -> Result<Option<NodeId>> {
    let axes = net.pick(&[1, 2, 2, 2, 3])?;
    let (windows, batch, channels) = (net.windows(axes)?, net.number(1, 2)?, net.extent()?);
    let kind = net.pick(&[PoolKind::Max, PoolKind::Mean])?;
    let shape = images(batch, channels, &windows);
    let t = match (kind, net.number(0, 4)?) {
        (PoolKind::Max, 0) => net.bytes(DType::I8, &shape),
        (PoolKind::Max, 1) => net.bytes(DType::U8, &shape),
        (PoolKind::Max, 2) => {
            net.floats(&shape).and_then(|t| Tensor::from_f64(DType::BF16, &shape, &t.to_f64_vec()).ok())
        }
        _ => net.floats(&shape),
    };
    let x = t.map(|t| net.input(t));
    let (dilations, pads, strides) = attributes(&windows);
    let kernel = kernels(&windows).into_iter().map(|k| k as i64).collect();
    let (ceil_mode, count_include_pad) = (net.chance(1, 3)?, net.chance(1, 2)?);
    let layer = net.op(Pool { ceil_mode, count_include_pad, dilations, kernel, kind, pads, strides }, &[x]);
    behind(net, layer)
}

pub(super) fn matmul(net: &mut Net) -> Result<Option<NodeId>> {
    let (rows, k, columns) = (net.extent()?, net.extent()?, net.extent()?);
    let batches: &[&[usize]] = &[&[], &[], &[2], &[1], &[3], &[2, 2], &[0], &[2, 1], &[1, 3]];
    let (mut left, mut right) = (net.pick(batches)?.to_vec(), net.pick(batches)?.to_vec());
    match net.number(0, 7)? {
        0 => left = vec![k],
        _ => left.extend([rows, k]),
    }
    match net.number(0, 7)? {
        0 => right = vec![k],
        _ => right.extend([k, columns]),
    }
    let precision = precision(net)?;
    let (a, b) = (factor(net, &left, precision)?, operand(net, &right)?);
    let layer = net.op(MatMul { precision }, &[a, b]);
    behind(net, layer)
}

pub(super) fn gemm(net: &mut Net) -> Result<Option<NodeId>> {
    let (rows, k, columns) = (net.extent()?, net.extent()?, net.extent()?);
    let (trans_a, trans_b) = (net.chance(1, 3)?, net.chance(1, 2)?);
    let turned = |turn: bool, of: [usize; 2]| if turn { [of[1], of[0]] } else { of };
    let precision = precision(net)?;
    let a = factor(net, &turned(trans_a, [rows, k]), precision)?;
    let b = operand(net, &turned(trans_b, [k, columns]))?;
    let c = match net.number(0, 5)? {
        0 => None,
        1 => operand(net, &[rows, columns])?,
        2 => operand(net, &[rows, 1])?,
        3 => operand(net, &[])?,
        4 => operand(net, &[1, columns])?,
        _ => operand(net, &[columns])?,
    };
    let of = [1.0, 1.0, 0.5, -2.0, 0.0];
    let (alpha, beta) = (Real(net.pick(&of)?), Real(net.pick(&of)?));
    let layer = net.op(Gemm { alpha, beta, precision, trans_a, trans_b }, &[a, b, c]);
    behind(net, layer)
}
