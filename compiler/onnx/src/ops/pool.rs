//! Pooling.

use optc_ir::ops::math::{self, ReduceKind};
use optc_ir::ops::nn::{self, PoolKind, RoiAlignMode};
use optc_ir::{Real, Value};
use optc_tensor::Tensor;

use super::window::{WindowAttrs, kernel_shape, list, window};
use super::{Mapped, Table, rank_of};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    ("", "MaxPool", max_pool),
    ("", "AveragePool", average_pool),
    ("", "LpPool", lp_pool),
    ("", "GlobalAveragePool", |cx| global_pool(cx, ReduceKind::Mean)),
    ("", "GlobalMaxPool", |cx| global_pool(cx, ReduceKind::Max)),
    ("", "GlobalLpPool", global_lp_pool),
    ("", "MaxUnpool", max_unpool),
    ("", "MaxRoiPool", max_roi_pool),
    ("", "RoiAlign", roi_align),
];

/// What all poolings of `x` take: kernel, window and rounding. With `auto_pad` the extents divide, so that nothing is
/// rounded.
fn pooling(cx: &NodeCx, x: Value) -> Result<(Vec<i64>, WindowAttrs, bool), MapError> {
    let kernel = kernel_shape(cx)?;
    let window = window(cx, x, &kernel)?;
    let ceil_mode = cx.attrs.flag("ceil_mode", false)? && !window.auto;
    Ok((kernel, window, ceil_mode))
}

fn max_pool(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let (kernel, WindowAttrs { strides, dilations, pads, .. }, ceil_mode) = pooling(cx, x)?;
    let column_major = cx.attrs.flag("storage_order", false)?;
    if cx.node.output.get(1).is_some_and(|name| !name.is_empty()) {
        let op = nn::MaxPoolIndices { ceil_mode, column_major, dilations, kernel, pads, strides };
        return cx.emit(op, &[Some(x)]);
    }
    Ok(vec![pooled(cx, x, PoolKind::Max)?])
}

fn average_pool(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    Ok(vec![pooled(cx, x, PoolKind::Mean)?])
}

/// The pooling of the node on `x`.
pub(super) fn pooled(cx: &mut NodeCx, x: Value, kind: PoolKind) -> Result<Value, MapError> {
    let (kernel, WindowAttrs { strides, dilations, pads, .. }, ceil_mode) = pooling(cx, x)?;
    let count_include_pad = kind == PoolKind::Mean && cx.attrs.flag("count_include_pad", false)?;
    cx.emit1(nn::Pool { ceil_mode, count_include_pad, dilations, kernel, kind, pads, strides }, &[x])
}

fn lp_pool(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let (kernel, WindowAttrs { strides, dilations, pads, .. }, ceil_mode) = pooling(cx, x)?;
    let p = cx.attrs.int_or("p", 2)?;
    Ok(vec![cx.emit1(nn::LpPool { ceil_mode, dilations, kernel, p, pads, strides }, &[x])?])
}

/// `x` reduced over its spatial axes.
fn reduce_spatial(cx: &mut NodeCx, x: Value, kind: ReduceKind) -> Result<Value, MapError> {
    let axes: Vec<i64> = (2..rank_of(cx, x)? as i64).collect();
    if axes.is_empty() {
        return Err(MapError::Invalid("the operand has no spatial axis".to_owned()));
    }
    cx.emit1(math::Reduce { all_if_empty: false, kind, axes, keep_dims: true }, &[x])
}

fn global_pool(cx: &mut NodeCx, kind: ReduceKind) -> Mapped {
    let x = cx.input(0)?;
    Ok(vec![reduce_spatial(cx, x, kind)?])
}

fn global_lp_pool(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let p = cx.attrs.int_or("p", 2)?;
    match p {
        1 => return Ok(vec![reduce_spatial(cx, x, ReduceKind::L1)?]),
        2 => return Ok(vec![reduce_spatial(cx, x, ReduceKind::L2)?]),
        p if p < 1 => return Err(MapError::Invalid(format!("`p` is {p}"))),
        _ => (),
    }
    let dtype = cx.dtype(x)?;
    let power = cx.constant(Tensor::from_f64(dtype, &[], &[p as f64])?);
    let root = cx.constant(Tensor::from_f64(dtype, &[], &[1.0 / p as f64])?);
    let size = cx.emit1(math::Abs {}, &[x])?;
    let powers = cx.emit1(math::Pow {}, &[size, power])?;
    let sum = reduce_spatial(cx, powers, ReduceKind::Sum)?;
    Ok(vec![cx.emit1(math::Pow {}, &[sum, root])?])
}

fn max_unpool(cx: &mut NodeCx) -> Mapped {
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    let kernel = kernel_shape(cx)?;
    let (strides, pads) = (list(cx, "strides", kernel.len(), 1)?, list(cx, "pads", 2 * kernel.len(), 0)?);
    let extents = cx.optional(2);
    cx.emit(nn::MaxUnpool { kernel, pads, strides }, &[Some(x), Some(indices), extents])
}

fn max_roi_pool(cx: &mut NodeCx) -> Mapped {
    let missing = || MapError::Invalid("attribute `pooled_shape` is missing".to_owned());
    let pooled_shape = cx.attrs.ints("pooled_shape")?.ok_or_else(missing)?;
    let spatial_scale = Real(cx.attrs.float_or("spatial_scale", 1.0)?);
    let operands = [cx.input(0)?, cx.input(1)?];
    Ok(vec![cx.emit1(nn::MaxRoiPool { pooled_shape, spatial_scale }, &operands)?])
}

/// Before opset 16 there was no half-pixel shift.
fn roi_align(cx: &mut NodeCx) -> Mapped {
    let coordinates = [("half_pixel", true), ("output_half_pixel", false)];
    let half_pixel = cx.attrs.word_or("coordinate_transformation_mode", &coordinates, cx.opset >= 16)?;
    let mode = cx.attrs.text_or("mode", RoiAlignMode::Avg)?;
    let op = nn::RoiAlign {
        half_pixel,
        mode,
        output_height: cx.attrs.int_or("output_height", 1)?,
        output_width: cx.attrs.int_or("output_width", 1)?,
        sampling_ratio: cx.attrs.int_or("sampling_ratio", 0)?,
        spatial_scale: Real(cx.attrs.float_or("spatial_scale", 1.0)?),
    };
    let operands = [cx.input(0)?, cx.input(1)?, cx.input(2)?];
    Ok(vec![cx.emit1(op, &operands)?])
}
