//! Layers of 8-bit integers, written as such or as reals between marks of quantization.

use arbitrary::Result;
use optc_ir::ops::math::{Cast, MatMul, Mul, Relu};
use optc_ir::ops::nn::Conv;
use optc_ir::ops::quant::{Dequantize, DynamicQuantize, QuantConv, QuantMatMul, Quantize, Requantize};
use optc_ir::{NodeId, Value};
use optc_tensor::{DType, Tensor};

use super::{Net, Window, attributes, images, kernels};

fn byte(net: &mut Net) -> Result<DType> {
    net.pick(&[DType::U8, DType::I8])
}

/// Zero points of a shape, or none; seldom computed.
fn zero(net: &mut Net, dtype: DType, shape: &[usize]) -> Result<Option<Value>> {
    if net.chance(1, 3)? {
        return Ok(None);
    }
    let Some(t) = net.bytes(dtype, shape) else { return Ok(None) };
    Ok(Some(if net.chance(1, 6)? { net.input(t) } else { net.constant(t) }))
}

/// What follows a sum: nothing, its steps as reals, or integers again; with a scale for all, or for each index of axis
/// `channels`.
fn behind(net: &mut Net, sum: Option<Value>, channels: usize) -> Result<Option<NodeId>> {
    let Some((sum, shape)) = sum.and_then(|s| Some((s, net.shape(s)?))) else { return Ok(None) };
    let mut of = vec![1; shape.len()];
    if let Some(n) = of.get_mut(channels)
        && net.chance(1, 2)?
    {
        *n = shape[channels];
    }
    let n = of.iter().product();
    let steps: Vec<f32> = (0..n).map(|_| net.random.real(1e-4, 2e-2) as f32).collect();
    let steps = Tensor::from_slice(&of, &steps).ok().map(|t| net.constant(t));
    let last = match net.number(0, 3)? {
        0 => Some(sum),
        1 => {
            let real = net.op(Cast { to: DType::F32 }, &[Some(sum)]);
            net.op(Mul {}, &[real, steps])
        }
        _ => {
            let dtype = byte(net)?;
            let zero = net.bytes(dtype, &[]).map(|t| net.constant(t));
            net.op(Requantize {}, &[Some(sum), steps, zero])
        }
    };
    Ok(last.map(|v| v.node))
}

/// Groups, channels of each, filters of each.
fn channels(net: &mut Net) -> Result<(usize, usize, usize)> {
    Ok(match net.number(0, 3)? {
        0 => (net.extent()?, 1, 1),
        1 => (net.number(1, 4)?, net.number(1, 9)?, net.number(1, 9)?),
        _ => (1, net.extent()?, net.extent()?),
    })
}

pub(super) fn conv(net: &mut Net) -> Result<Option<NodeId>> {
    let axes = net.pick(&[1, 2, 2, 2, 3])?;
    let (windows, (groups, inputs, filters)) = (net.windows(axes)?, channels(net)?);
    let (left, right, batch) = (byte(net)?, byte(net)?, net.number(1, 2)?);
    let x = net.bytes(left, &images(batch, groups * inputs, &windows)).map(|t| net.input(t));
    let w = net.bytes(right, &[&[groups * filters, inputs][..], &kernels(&windows)].concat());
    let w = w.map(|t| net.either(t)).transpose()?;
    let of_rows = if net.chance(1, 2)? { vec![groups * filters] } else { vec![] };
    let (x_zero, w_zero) = (zero(net, left, &[])?, zero(net, right, &of_rows)?);
    let bias = if net.chance(1, 2)? { net.integers(DType::I32, &[groups * filters], -1000, 1000) } else { None };
    let bias = bias.map(|t| net.constant(t));
    let (dilations, pads, strides) = attributes(&windows);
    let sum = net.op(QuantConv { dilations, groups: groups as i64, pads, strides }, &[x, w, x_zero, w_zero, bias]);
    behind(net, sum, 1)
}

pub(super) fn matmul(net: &mut Net) -> Result<Option<NodeId>> {
    let (rows, k, columns) = (net.extent()?, net.extent()?, net.extent()?);
    let batch: &[usize] = net.pick(&[&[][..], &[], &[2], &[3], &[0]])?;
    let (left, right) = (byte(net)?, byte(net)?);
    let shape = [batch, &[rows, k]].concat();
    let (a, a_zero) = if net.chance(1, 4)? {
        // Quantized by its own range.
        let reals = net.floats(&shape).map(|t| net.input(t));
        let Some(q) = net.op(DynamicQuantize {}, &[reals]) else { return Ok(None) };
        (Some(q), Some(Value { node: q.node, result: 2 }))
    } else {
        let a = net.bytes(left, &shape).map(|t| net.input(t));
        let of_rows = if net.chance(1, 6)? { vec![rows] } else { vec![] };
        (a, zero(net, left, &of_rows)?)
    };
    let constant = net.chance(2, 3)?;
    let b = net.bytes(right, &if constant { vec![k, columns] } else { [batch, &[k, columns]].concat() });
    let b = b.map(|t| if constant { net.constant(t) } else { net.input(t) });
    let of_columns = if net.chance(1, 2)? { vec![columns] } else { vec![] };
    let b_zero = zero(net, right, &of_columns)?;
    let sum = net.op(QuantMatMul {}, &[a, b, a_zero, b_zero]);
    let last = sum.and_then(|s| net.shape(s)).map_or(0, |s| s.len().saturating_sub(1));
    behind(net, sum, last)
}

/// Quantization, or the way back, with a scale for all or for each index of an axis.
pub(super) fn scaled(net: &mut Net) -> Result<Option<NodeId>> {
    let (dtype, rank) = (byte(net)?, net.number(1, 4)?);
    let shape = (0..rank).map(|_| net.pick(&[1, 2, 3, 4, 4, 7, 8, 17])).collect::<Result<Vec<usize>>>()?;
    let axis = net.number(0, rank - 1)?;
    let of = if net.chance(3, 4)? { vec![shape[axis]] } else { vec![] };
    let steps: Vec<f32> = (0..of.iter().product()).map(|_| net.random.real(4e-3, 2e-2) as f32).collect();
    let scale = Tensor::from_slice(&of, &steps).ok().map(|t| net.either(t)).transpose()?;
    let zero = zero(net, dtype, &of)?;
    let axis = if net.chance(1, 4)? { axis as i64 - rank as i64 } else { axis as i64 };
    let last = if net.chance(1, 2)? {
        let x = net.bytes(dtype, &shape).map(|t| net.input(t));
        net.op(Dequantize { axis, block: 0, to: DType::F32 }, &[x, scale, zero])
    } else {
        let x = net.floats(&shape).map(|t| net.input(t));
        net.op(Quantize { axis, block: 0, precision: DType::F32, saturate: true, to: dtype }, &[x, scale, zero])
    };
    Ok(last.map(|v| v.node))
}

/// A convolution or a product between marks of quantization, as exporters write it.
pub(super) fn marked(net: &mut Net) -> Result<Option<NodeId>> {
    let dtype = byte(net)?;
    if net.chance(1, 2)? {
        let (rows, k, columns) = (net.extent()?, net.extent()?, net.extent()?);
        let x = net.floats(&[rows, k]).map(|t| net.input(t));
        let (x, w) = (mark(net, x, dtype)?, weights(net, &[k, columns], 1)?);
        let sum = net.op(MatMul { precision: DType::F32 }, &[x, w]);
        return outcome(net, sum, dtype);
    }
    let (windows, (groups, inputs, filters)): (Vec<Window>, _) = (net.windows(2)?, channels(net)?);
    let x = net.floats(&images(1, groups * inputs, &windows)).map(|t| net.input(t));
    let x = mark(net, x, dtype)?;
    let w = weights(net, &[&[groups * filters, inputs][..], &kernels(&windows)].concat(), 0)?;
    let (dilations, pads, strides) = attributes(&windows);
    let conv = Conv { dilations, groups: groups as i64, pads, precision: DType::F32, strides };
    let sum = net.op(conv, &[x, w, None]);
    outcome(net, sum, dtype)
}

/// Quantizes a value and gives it back as reals.
fn mark(net: &mut Net, x: Option<Value>, dtype: DType) -> Result<Option<Value>> {
    let (q, scale, zero) = quantized(net, x, dtype)?;
    Ok(net.op(Dequantize { axis: 1, block: 0, to: DType::F32 }, &[q, scale, zero]))
}

fn quantized(net: &mut Net, x: Option<Value>, dtype: DType) -> Result<(Option<Value>, Option<Value>, Option<Value>)> {
    let step = net.random.real(4e-3, 2e-2) as f32;
    let scale = Some(net.constant(Tensor::scalar(step)));
    let zero = net.integers(dtype, &[], 0, 100).map(|t| net.constant(t));
    let q = net.op(Quantize { axis: 1, block: 0, precision: DType::F32, saturate: true, to: dtype }, &[x, scale, zero]);
    Ok((q, scale, zero))
}

/// Constant weights of `i8`, with a scale for each index of an axis or one for all, as reals.
fn weights(net: &mut Net, shape: &[usize], axis: usize) -> Result<Option<Value>> {
    let of = if net.chance(1, 2)? { vec![shape[axis]] } else { vec![] };
    let steps: Vec<f32> = (0..of.iter().product()).map(|_| net.random.real(4e-3, 2e-2) as f32).collect();
    let (w, scale) = (net.integers(DType::I8, shape, -127, 127), Tensor::from_slice(&of, &steps).ok());
    let (w, scale) = (w.map(|t| net.constant(t)), scale.map(|t| net.constant(t)));
    Ok(net.op(Dequantize { axis: axis as i64, block: 0, to: DType::F32 }, &[w, scale, None]))
}

/// What a sum becomes: integers again, perhaps of what is positive alone.
fn outcome(net: &mut Net, sum: Option<Value>, dtype: DType) -> Result<Option<NodeId>> {
    let x = if net.chance(1, 2)? { net.op(Relu {}, &[sum]) } else { sum };
    Ok(quantized(net, x, dtype)?.0.map(|v| v.node))
}
