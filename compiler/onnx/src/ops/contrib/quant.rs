//! Products, softmaxes, choices and attention of quantized operands.

use optc_ir::Value;
use optc_ir::ops::{math, nn, quant, tensor};
use optc_tensor::{DType, Tensor};

use super::attention::side_by_side;
use super::rotary::last_extent;
use super::{MICROSOFT, plus, refuse_flags};
use crate::mapping::{MapError, NodeCx};
use crate::ops::quant::{column, combined_scale, quantized, real, real_product, scalar};
use crate::ops::{Mapped, Table, rank_of};

pub(crate) const TABLE: Table = &[
    (MICROSOFT, "QGemm", gemm),
    (MICROSOFT, "QLinearSoftmax", softmax),
    (MICROSOFT, "QAttention", attention),
    (MICROSOFT, "QLinearWhere", choice),
];

/// `alpha · (a · b + c)`, where `c` are integers at the scale of the product; quantized where a scale is given for
/// that.
fn gemm(cx: &mut NodeCx) -> Mapped {
    let (a, a_scale, a_zero) = (cx.input(0)?, cx.input(1)?, cx.optional(2));
    let (b, b_scale, b_zero) = (cx.input(3)?, cx.input(4)?, cx.optional(5));
    let (c, y_scale, y_zero) = (cx.optional(6), cx.optional(7), cx.optional(8));
    let alpha = cx.attrs.float_or("alpha", 1.0)?;
    let (a, b) = (turned(cx, a, "transA")?, turned(cx, b, "transB")?);
    let sum = cx.emit(quant::QuantMatMul {}, &[Some(a), Some(b), a_zero, b_zero])?[0];
    let sum = plus(cx, sum, c)?;
    let a_scale = column(cx, a_scale, 1)?;
    let mut scale = combined_scale(cx, a_scale, b_scale, y_scale)?;
    if alpha != 1.0 {
        let alpha = cx.constant(Tensor::scalar(alpha));
        scale = cx.emit1(math::Mul {}, &[scale, alpha])?;
    }
    let scale = scalar(cx, scale)?;
    if y_scale.is_none() {
        let real = cx.emit1(math::Cast { to: DType::F32 }, &[sum])?;
        return Ok(vec![cx.emit1(math::Mul {}, &[real, scale])?]);
    }
    let zero = match y_zero {
        Some(zero) => scalar(cx, zero)?,
        None => cx.constant(Tensor::scalar(0u8)),
    };
    Ok(vec![cx.emit1(quant::Requantize {}, &[sum, scale, zero])?])
}

/// A matrix, transposed where the attribute says so.
fn turned(cx: &mut NodeCx, x: Value, name: &str) -> Result<Value, MapError> {
    match cx.attrs.flag(name, false)? {
        true => cx.emit1(tensor::Transpose { perm: vec![1, 0] }, &[x]),
        false => Ok(x),
    }
}

/// As the attention of reals whose queries, keys and values are products of one operand.
fn attention(cx: &mut NodeCx) -> Mapped {
    refuse_flags(cx, &["do_rotary", "past_present_share_buffer"])?;
    let (x, weights, bias) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (x_scale, scale) = (cx.input(3)?, cx.input(4)?);
    let (x_zero, zero) = (cx.optional(6), cx.optional(7));
    let sum = real_product(cx, (x, x_scale, x_zero), (weights, scale, zero), Some(bias))?[0];
    let third = last_extent(cx, weights, "`weight`")? / 3;
    let masks = [cx.optional(5), None];
    side_by_side(cx, sum, vec![third; 3], cx.optional(8), masks)
}

/// Both choices are brought to the scale of the result.
fn choice(cx: &mut NodeCx) -> Mapped {
    let condition = cx.input(0)?;
    let (x, y) = (real(cx, 1)?, real(cx, 4)?);
    let chosen = cx.emit1(math::Where {}, &[condition, x, y])?;
    quantized(cx, chosen, 7)
}

/// Before opset 13 a softmax went over all axes from its own on, which is the same for the last one.
fn softmax(cx: &mut NodeCx) -> Mapped {
    let (axis, opset) = (cx.attrs.int_or("axis", -1)?, cx.attrs.int_or("opset", 13)?);
    let x = real(cx, 0)?;
    let rank = rank_of(cx, x)? as i64;
    if opset < 13 && axis != -1 && axis != rank - 1 {
        return Err(MapError::Unsupported(format!("`axis` {axis} of {rank} with `opset` {opset} is not supported")));
    }
    let y = cx.emit1(nn::Softmax { axis, log: false }, &[x])?;
    quantized(cx, y, 3)
}
