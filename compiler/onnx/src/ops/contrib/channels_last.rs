//! Convolutions and poolings of quantized operands, whose channels may be last.

use optc_ir::Value;
use optc_ir::ops::nn::PoolKind;
use optc_ir::ops::{math, quant, tensor};
use optc_tensor::{DType, Tensor};

use super::MICROSOFT;
use crate::mapping::{MapError, NodeCx};
use crate::ops::pool::pooled;
use crate::ops::quant::{qlinear_conv, quantized, real, scalar};
use crate::ops::{Mapped, Table, rank_of};

pub(crate) const TABLE: Table = &[
    (MICROSOFT, "QLinearConv", |cx| {
        let x = cx.input(0)?;
        let last = cx.attrs.flag("channels_last", false)?;
        around(cx, x, last, |cx, x| Ok(qlinear_conv(cx, x)?[0]))
    }),
    (MICROSOFT, "QLinearAveragePool", |cx| {
        let last = cx.attrs.flag("channels_last", false)?;
        let x = real(cx, 0)?;
        let y = around(cx, x, last, |cx, x| pooled(cx, x, PoolKind::Mean))?[0];
        quantized(cx, y, 3)
    }),
    (MICROSOFT, "QLinearGlobalAveragePool", global_pool),
    (MICROSOFT, "NhwcMaxPool", |cx| {
        let x = cx.input(0)?;
        around(cx, x, true, |cx, x| pooled(cx, x, PoolKind::Max))
    }),
];

/// What `f` makes of `x` with its channels second.
fn around(
    cx: &mut NodeCx,
    x: Value,
    last: bool,
    f: impl FnOnce(&mut NodeCx, Value) -> Result<Value, MapError>,
) -> Mapped {
    if !last {
        return Ok(vec![f(cx, x)?]);
    }
    let rank = rank_of(cx, x)? as i64;
    if rank < 3 {
        return Err(MapError::Invalid(format!("the operand has rank {rank}, which leaves no spatial axis")));
    }
    let first = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let x = cx.emit1(tensor::Transpose { perm: first }, &[x])?;
    let y = f(cx, x)?;
    let last = [0].into_iter().chain(2..rank).chain([1]).collect();
    Ok(vec![cx.emit1(tensor::Transpose { perm: last }, &[y])?])
}

/// The sum of integers, with one factor that takes it to the scale of the mean.
fn global_pool(cx: &mut NodeCx) -> Mapped {
    let last = cx.attrs.flag("channels_last", false)?;
    let (x, x_scale, x_zero) = (cx.input(0)?, cx.input(1)?, cx.optional(2));
    let (y_scale, y_zero) = (cx.input(3)?, cx.optional(4));
    let rank = rank_of(cx, x)? as i64;
    let (start, end) = if last { (1, rank - 1) } else { (2, rank) };
    if start >= end {
        return Err(MapError::Invalid("the operand has no spatial axis".to_owned()));
    }
    let sum = quant::QuantSum { axes: (start..end).collect(), keep_dims: true };
    let sum = cx.emit(sum, &[Some(x), x_zero])?[0];
    let extents = cx.emit1(tensor::ShapeOf { start, end }, &[x])?;
    let product = math::Reduce { all_if_empty: true, kind: math::ReduceKind::Prod, axes: vec![0], keep_dims: false };
    let count = cx.emit1(product, &[extents])?;
    let count = cx.emit1(math::Cast { to: DType::F32 }, &[count])?;
    let (x_scale, y_scale) = (scalar(cx, x_scale)?, scalar(cx, y_scale)?);
    let divisor = cx.emit1(math::Mul {}, &[y_scale, count])?;
    let scale = cx.emit1(math::Div {}, &[x_scale, divisor])?;
    let zero = match y_zero {
        Some(zero) => scalar(cx, zero)?,
        None => {
            let zero = Tensor::from_i64(cx.dtype(x)?, &[], &[0])?;
            cx.constant(zero)
        }
    };
    Ok(vec![cx.emit1(quant::Requantize {}, &[sum, scale, zero])?])
}
