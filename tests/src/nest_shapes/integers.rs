//! Products, windows and sums of 8-bit integers, with or without a requantization after them, and the way to reals and
//! back.

use optc_ir::ops::math::{Cast, Mul};
use optc_ir::ops::nn::{Pool, PoolKind};
use optc_ir::ops::quant::{Dequantize, QuantConv, QuantMatMul, QuantSum, Quantize, Requantize};
use optc_ir::{NodeId, Value};
use optc_tensor::{DType, Tensor};

use super::{Maker, attributes, images, kernels};

fn byte(m: &mut Maker) -> DType {
    m.random.pick(&[DType::U8, DType::I8])
}

/// A zero point of the dtype, or none.
fn zero(m: &mut Maker, dtype: DType) -> Option<Value> {
    m.once_in(2).then(|| {
        let t = m.bytes(dtype, &[]);
        m.constant_of(t)
    })
}

/// A zero point of what is not constant: seldom computed.
fn zero_of_operand(m: &mut Maker, dtype: DType) -> Option<Value> {
    if m.once_in(6) {
        let t = m.bytes(dtype, &[]);
        return Some(m.input_of(t));
    }
    zero(m, dtype)
}

/// What follows a sum: nothing, its steps as reals, or integers again; with a scale for all, or for each index of axis
/// `channels`.
fn behind(m: &mut Maker, sum: NodeId, channels: usize) -> Option<NodeId> {
    let x = Value { node: sum, result: 0 };
    let shape = m.shape(x)?;
    let mut of = vec![1; shape.len()];
    if m.once_in(2) {
        of[channels] = shape[channels];
    }
    let steps: Vec<f32> = (0..of.iter().product()).map(|_| m.random.real(1e-4, 2e-2) as f32).collect();
    let steps = m.constant_of(Tensor::from_slice(&of, &steps).ok()?);
    match m.random.below(4) {
        0 => Some(sum),
        1 => {
            let real = m.value(Cast { to: DType::F32 }, &[x])?;
            Some(m.value(Mul {}, &[real, steps])?.node)
        }
        _ => {
            let dtype = byte(m);
            let t = m.bytes(dtype, &[]);
            let zero = m.constant_of(t);
            Some(m.value(Requantize {}, &[x, steps, zero])?.node)
        }
    }
}

pub(super) fn matmul(m: &mut Maker) -> Option<NodeId> {
    let (rows, k, columns) = (m.extent(), m.extent(), m.extent());
    let batch: &[usize] = m.random.pick(&[&[][..], &[2], &[3]]);
    let (left, right) = (byte(m), byte(m));
    let a = m.bytes(left, &[batch, &[rows, k]].concat());
    let a = m.input_of(a);
    let constant = m.once_in(2);
    let b = m.bytes(right, &if constant { vec![k, columns] } else { [batch, &[k, columns]].concat() });
    let b = if constant { m.constant_of(b) } else { m.input_of(b) };
    let (a_zero, b_zero) = (zero_of_operand(m, left), zero(m, right));
    let sum = m.op(QuantMatMul {}, &[Some(a), Some(b), a_zero, b_zero])?;
    let rank = m.shape(Value { node: sum, result: 0 })?.len();
    behind(m, sum, rank - 1)
}

fn convolution(m: &mut Maker, axes: usize, groups: usize, inputs: usize, filters: usize) -> Option<NodeId> {
    let windows = m.sliding(axes);
    let (left, right) = (byte(m), byte(m));
    let shape = images(m, groups * inputs, &windows);
    let x = m.bytes(left, &shape);
    let w = m.bytes(right, &[&[groups * filters, inputs][..], &kernels(&windows)].concat());
    let (x, w) = (m.input_of(x), m.constant_of(w));
    let (x_zero, w_zero) = (zero_of_operand(m, left), zero(m, right));
    let bias = m.once_in(2).then(|| {
        let values: Vec<i32> = (0..groups * filters).map(|_| m.random.below(2001) as i32 - 1000).collect();
        let t = Tensor::from_slice(&[groups * filters], &values).expect("one for each filter");
        m.constant_of(t)
    });
    let (dilations, pads, strides) = attributes(&windows);
    let op = QuantConv { dilations, groups: groups as i64, pads, strides };
    let sum = m.op(op, &[Some(x), Some(w), x_zero, w_zero, bias])?;
    behind(m, sum, 1)
}

pub(super) fn conv(m: &mut Maker) -> Option<NodeId> {
    let groups = if m.once_in(4) { m.few(3) } else { 1 };
    let (axes, inputs, filters) = (m.random.pick(&[1, 2, 2, 2]), m.extent(), m.extent());
    convolution(m, axes, groups, inputs.max(2), filters)
}

pub(super) fn depthwise(m: &mut Maker) -> Option<NodeId> {
    let channels = m.extent().max(2);
    convolution(m, 2, channels, 1, 1)
}

/// The largest under a window, or the sum along axes.
pub(super) fn window(m: &mut Maker) -> Option<NodeId> {
    let windows = m.sliding(2);
    let dtype = byte(m);
    let channels = m.extent();
    let shape = images(m, channels, &windows);
    let x = m.bytes(dtype, &shape);
    let x = m.input_of(x);
    if m.once_in(2) {
        let axes = m.random.pick(&[&[2i64, 3][..], &[3], &[2]]).to_vec();
        let zero = zero(m, dtype);
        let sum = m.op(QuantSum { axes, keep_dims: true }, &[Some(x), zero])?;
        return behind(m, sum, 1);
    }
    let (dilations, pads, strides) = attributes(&windows);
    let kernel = kernels(&windows).into_iter().map(|k| k as i64).collect();
    let ceil_mode = m.once_in(4);
    let kind = PoolKind::Max;
    let pool = Pool { ceil_mode, count_include_pad: false, dilations, kernel, kind, pads, strides };
    m.op(pool, &[Some(x)])
}

pub(super) fn quantize(m: &mut Maker) -> Option<NodeId> {
    let shape = [m.few(3), m.extent(), m.extent()];
    let dtype = byte(m);
    let step = m.random.real(4e-3, 2e-2) as f32;
    let scale = m.constant_of(Tensor::scalar(step));
    let zero = zero(m, dtype);
    let x = if m.once_in(2) {
        m.input(&shape)
    } else {
        let t = m.bytes(dtype, &shape);
        let q = m.input_of(t);
        let real = m.op(Dequantize { axis: 1, block: 0, to: DType::F32 }, &[Some(q), Some(scale), zero])?;
        if m.once_in(2) {
            return Some(real);
        }
        Value { node: real, result: 0 }
    };
    let other = m.constant_of(Tensor::scalar(step * 0.7));
    let op = Quantize { axis: 1, block: 0, precision: DType::F32, saturate: true, to: dtype };
    m.op(op, &[Some(x), Some(other), zero])
}
