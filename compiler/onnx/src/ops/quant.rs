//! Quantization and the products of quantized integers.

use optc_ir::Value;
use optc_ir::ops::{math, quant, tensor};
use optc_tensor::{DType, Tensor};

use super::cast::{dtype_attribute, small_float_saturates};
use super::contrib::MICROSOFT;
use super::conv::conv_attrs;
use super::{Mapped, Table, rank_of, recurrent};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    ("", "QuantizeLinear", quantize),
    ("", "DequantizeLinear", dequantize),
    (MICROSOFT, "QuantizeLinear", quantize),
    (MICROSOFT, "DequantizeLinear", dequantize),
    ("", "DynamicQuantizeLinear", |cx| {
        let x = cx.input(0)?;
        cx.emit(quant::DynamicQuantize {}, &[Some(x)])
    }),
    ("", "MatMulInteger", |cx| {
        let operands = [Some(cx.input(0)?), Some(cx.input(1)?), cx.optional(2), cx.optional(3)];
        cx.emit(quant::QuantMatMul {}, &operands)
    }),
    ("", "ConvInteger", |cx| {
        let (x, w) = (cx.input(0)?, cx.input(1)?);
        let operands = [Some(x), Some(w), cx.optional(2), cx.optional(3)];
        let op = conv(cx, x, w)?;
        cx.emit(op, &operands)
    }),
    ("", "QLinearMatMul", matmul),
    ("", "QLinearConv", |cx| {
        let x = cx.input(0)?;
        qlinear_conv(cx, x)
    }),
    (MICROSOFT, "MatMulIntegerToFloat", matmul_to_float),
    (MICROSOFT, "DynamicQuantizeMatMul", dynamic_matmul),
    (MICROSOFT, "DynamicQuantizeLSTM", dynamic_lstm),
    (MICROSOFT, "QLinearAdd", |cx| qlinear_binary(cx, math::Add {}.into())),
    (MICROSOFT, "QLinearMul", |cx| qlinear_binary(cx, math::Mul {}.into())),
    (MICROSOFT, "QLinearSigmoid", |cx| qlinear_unary(cx, math::Sigmoid {}.into())),
    (MICROSOFT, "QLinearLeakyRelu", |cx| {
        let alpha = optc_ir::Real(cx.attrs.float_or("alpha", 0.01)?);
        qlinear_unary(cx, math::LeakyRelu { alpha }.into())
    }),
    (MICROSOFT, "QLinearConcat", qlinear_concat),
];

/// The dtype named by an attribute whose 0 stands for none.
fn optional_dtype(cx: &NodeCx, name: &str) -> Result<Option<DType>, MapError> {
    match cx.attrs.int(name)? {
        None | Some(0) => Ok(None),
        Some(_) => dtype_attribute(cx, name),
    }
}

fn quantize(cx: &mut NodeCx) -> Mapped {
    let (axis, block) = (cx.attrs.int_or("axis", 1)?, cx.attrs.int_or("block_size", 0)?);
    let (x, scale, zero) = (cx.input(0)?, cx.input(1)?, cx.optional(2));
    let named = optional_dtype(cx, "output_dtype")?;
    let to = match (zero, named) {
        (Some(zero), None) => cx.dtype(zero)?,
        (_, Some(to)) => to,
        (None, None) => DType::U8,
    };
    let saturate = small_float_saturates(cx, to)?;
    let precision = optional_dtype(cx, "precision")?.unwrap_or(cx.dtype(scale)?);
    cx.emit(quant::Quantize { axis, block, precision, saturate, to }, &[Some(x), Some(scale), zero])
}

fn dequantize(cx: &mut NodeCx) -> Mapped {
    let (axis, block) = (cx.attrs.int_or("axis", 1)?, cx.attrs.int_or("block_size", 0)?);
    let (x, scale, zero) = (cx.input(0)?, cx.input(1)?, cx.optional(2));
    let to = optional_dtype(cx, "output_dtype")?.unwrap_or(cx.dtype(scale)?);
    cx.emit(quant::Dequantize { axis, block, to }, &[Some(x), Some(scale), zero])
}

/// The integer convolution of `x` with `w`.
fn conv(cx: &NodeCx, x: Value, w: Value) -> Result<quant::QuantConv, MapError> {
    let conv = conv_attrs(cx, x, w)?;
    let (dilations, pads, strides) = (conv.dilations, conv.pads, conv.strides);
    Ok(quant::QuantConv { dilations, groups: conv.groups, pads, strides })
}

/// `a · b / c` in `f32`: what takes a sum of products to the scale of its result.
pub(super) fn combined_scale(cx: &mut NodeCx, a: Value, b: Value, c: Option<Value>) -> Result<Value, MapError> {
    let (a, b) = (cx.emit1(math::Cast { to: DType::F32 }, &[a])?, cx.emit1(math::Cast { to: DType::F32 }, &[b])?);
    let product = cx.emit1(math::Mul {}, &[a, b])?;
    let Some(c) = c else { return Ok(product) };
    let c = cx.emit1(math::Cast { to: DType::F32 }, &[c])?;
    cx.emit1(math::Div {}, &[product, c])
}

/// A vector of scales as a column of `trailing` ones after it; a single scale as a scalar.
pub(super) fn column(cx: &mut NodeCx, v: Value, trailing: usize) -> Result<Value, MapError> {
    let shape = cx.ty(v).as_tensor().and_then(|t| t.static_shape());
    let mut to: Vec<i64> = match shape.as_deref() {
        Some([] | [1]) => vec![],
        Some([n]) => vec![*n as i64],
        Some(_) if trailing == 1 => return Ok(v),
        _ => return Err(MapError::Open("the shape of a scale is not known".to_owned())),
    };
    if !to.is_empty() {
        to.extend(std::iter::repeat_n(1, trailing));
    }
    let shape = cx.constant(Tensor::from_slice(&[to.len()], &to)?);
    cx.emit1(tensor::Reshape { allow_zero: false }, &[v, shape])
}

/// Scales of `a` are for its rows, those of `b` for its columns.
fn matmul(cx: &mut NodeCx) -> Mapped {
    let [a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero] = inputs(cx)?;
    let sum = cx.emit(quant::QuantMatMul {}, &[Some(a), Some(b), Some(a_zero), Some(b_zero)])?[0];
    let a_scale = column(cx, a_scale, 1)?;
    let scale = combined_scale(cx, a_scale, b_scale, Some(y_scale))?;
    let y_zero = scalar(cx, y_zero)?;
    let scale = scalar(cx, scale)?;
    Ok(vec![cx.emit1(quant::Requantize {}, &[sum, scale, y_zero])?])
}

/// The node's first inputs, all of which must be there.
fn inputs<const N: usize>(cx: &NodeCx) -> Result<[Value; N], MapError> {
    let list = (0..N).map(|i| cx.input(i)).collect::<Result<Vec<_>, _>>()?;
    list.try_into().map_err(|_| MapError::Input(N))
}

/// One scale or zero point as a scalar, so that it does not raise the rank of what it broadcasts to; others as they
/// are.
pub(super) fn scalar(cx: &mut NodeCx, v: Value) -> Result<Value, MapError> {
    let one =
        cx.ty(v).as_tensor().and_then(|t| t.static_shape()).is_some_and(|s| !s.is_empty() && s.iter().all(|&n| n == 1));
    if !one {
        return Ok(v);
    }
    let shape = cx.constant(Tensor::from_slice::<i64>(&[0], &[])?);
    cx.emit1(tensor::Reshape { allow_zero: false }, &[v, shape])
}

/// The convolution of the node on `x`, which stands for its first input.
pub(super) fn qlinear_conv(cx: &mut NodeCx, x: Value) -> Mapped {
    let [_, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero] = inputs(cx)?;
    let bias = cx.optional(8);
    let op = conv(cx, x, w)?;
    let spatial = rank_of(cx, w)?.saturating_sub(2);
    let sum = cx.emit(op, &[Some(x), Some(w), Some(x_zero), Some(w_zero), bias])?[0];
    let x_scale = scalar(cx, x_scale)?;
    let w_scale = column(cx, w_scale, spatial)?;
    let y_scale = scalar(cx, y_scale)?;
    let scale = combined_scale(cx, x_scale, w_scale, Some(y_scale))?;
    let y_zero = scalar(cx, y_zero)?;
    Ok(vec![cx.emit1(quant::Requantize {}, &[sum, scale, y_zero])?])
}

/// The product of quantized matrices as reals, plus a bias.
pub(super) fn real_product(
    cx: &mut NodeCx,
    (a, a_scale, a_zero): (Value, Value, Option<Value>),
    (b, b_scale, b_zero): (Value, Value, Option<Value>),
    bias: Option<Value>,
) -> Mapped {
    let sum = cx.emit(quant::QuantMatMul {}, &[Some(a), Some(b), a_zero, b_zero])?[0];
    let real = cx.emit1(math::Cast { to: DType::F32 }, &[sum])?;
    let a_scale = column(cx, a_scale, 1)?;
    let scale = combined_scale(cx, a_scale, b_scale, None)?;
    let scale = scalar(cx, scale)?;
    let product = cx.emit1(math::Mul {}, &[real, scale])?;
    match bias {
        Some(bias) => Ok(vec![cx.emit1(math::Add {}, &[product, bias])?]),
        None => Ok(vec![product]),
    }
}

fn matmul_to_float(cx: &mut NodeCx) -> Mapped {
    let [a, b, a_scale, b_scale] = inputs(cx)?;
    let (a_zero, b_zero, bias) = (cx.optional(4), cx.optional(5), cx.optional(6));
    real_product(cx, (a, a_scale, a_zero), (b, b_scale, b_zero), bias)
}

fn dynamic_matmul(cx: &mut NodeCx) -> Mapped {
    let [a, b, b_scale] = inputs(cx)?;
    let (b_zero, bias) = (cx.optional(3), cx.optional(4));
    let quantized = cx.emit(quant::DynamicQuantize {}, &[Some(a)])?;
    real_product(cx, (quantized[0], quantized[1], Some(quantized[2])), (b, b_scale, b_zero), bias)
}

fn dynamic_lstm(cx: &mut NodeCx) -> Mapped {
    let (op, batch_first) = recurrent::lstm_attrs(cx)?;
    let operands = recurrent::operands(cx, 12, &[5, 6], batch_first)?;
    let values = cx.emit(quant::DynamicLstm::from(op), &operands)?;
    recurrent::results(cx, values, batch_first)
}

/// The reals that inputs `i..i + 3` (value, scale, zero point) stand for.
pub(super) fn real(cx: &mut NodeCx, i: usize) -> Result<Value, MapError> {
    let (x, scale, zero) = (cx.input(i)?, cx.input(i + 1)?, cx.optional(i + 2));
    let op = quant::Dequantize { axis: 1, block: 0, to: DType::F32 };
    Ok(cx.emit(op, &[Some(x), Some(scale), zero])?[0])
}

/// `y` quantized with the scale and zero point in inputs `i` and `i + 1`, or as `u8` without the latter.
pub(super) fn quantized(cx: &mut NodeCx, y: Value, i: usize) -> Mapped {
    let (scale, zero) = (cx.input(i)?, cx.optional(i + 1));
    let to = zero.map_or(Ok(DType::U8), |zero| cx.dtype(zero))?;
    cx.emit(
        quant::Quantize { axis: 1, block: 0, precision: DType::F32, saturate: true, to },
        &[Some(y), Some(scale), zero],
    )
}

/// An op on two reals, with a quantized result.
fn qlinear_binary(cx: &mut NodeCx, op: optc_ir::Op) -> Mapped {
    let (a, b) = (real(cx, 0)?, real(cx, 3)?);
    let y = cx.emit1(op, &[a, b])?;
    quantized(cx, y, 6)
}

/// An op on one real, with a quantized result.
fn qlinear_unary(cx: &mut NodeCx, op: optc_ir::Op) -> Mapped {
    let x = real(cx, 0)?;
    let y = cx.emit1(op, &[x])?;
    quantized(cx, y, 3)
}

/// The result's scale and zero point come first, then value, scale and zero point of each operand.
fn qlinear_concat(cx: &mut NodeCx) -> Mapped {
    let axis = cx.attrs.int("axis")?.ok_or_else(|| MapError::Invalid("attribute `axis` is missing".to_owned()))?;
    let mut parts = vec![];
    for i in (2..cx.inputs.len()).step_by(3) {
        parts.push(Some(real(cx, i)?));
    }
    let y = cx.emit(tensor::Concat { axis }, &parts)?[0];
    quantized(cx, y, 0)
}
