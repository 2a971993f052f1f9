//! Convolutions.

use optc_ir::ops::nn;
use optc_ir::{Dim, Value};

use super::window::{WindowAttrs, halves, list, weights_kernel, window};
use super::{Mapped, Table};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table =
    &[("", "Conv", conv), ("", "ConvTranspose", conv_transpose), ("", "DeformConv", deform_conv)];

/// The attributes of a convolution of `x` with `w`.
pub(super) fn conv_attrs(cx: &NodeCx, x: Value, w: Value) -> Result<nn::Conv, MapError> {
    let kernel = weights_kernel(cx, w)?;
    let WindowAttrs { strides, dilations, pads, .. } = window(cx, x, &kernel)?;
    let groups = cx.attrs.int_or("group", 1)?;
    Ok(nn::Conv { dilations, groups, pads, strides, ..nn::Conv::default() })
}

fn conv(cx: &mut NodeCx) -> Mapped {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let op = conv_attrs(cx, x, w)?;
    let bias = cx.optional(2);
    cx.emit(op, &[Some(x), Some(w), bias])
}

fn conv_transpose(cx: &mut NodeCx) -> Mapped {
    let bias = cx.optional(2);
    transposed_conv(cx, None, bias)
}

/// Pads follow from `output_shape` or `auto_pad` where one is given: together they are what the whole result,
/// `stride · (n − 1) + output_padding + span`, has too much; where it has too little, zeros are added at the end.
pub(super) fn transposed_conv(cx: &mut NodeCx, pads: Option<Vec<i64>>, bias: Option<Value>) -> Mapped {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let kernel = weights_kernel(cx, w)?;
    let n = kernel.len();
    let (strides, dilations) = (list(cx, "strides", n, 1)?, list(cx, "dilations", n, 1)?);
    let mut output_padding = list(cx, "output_padding", n, 0)?;
    let mut pads = pads.map_or_else(|| list(cx, "pads", 2 * n, 0), Ok)?;
    if pads.len() != 2 * n {
        return Err(MapError::Invalid(format!("there are {} pads for {n} spatial axes", pads.len())));
    }
    let auto = cx.attrs.string_or("auto_pad", "NOTSET")?;
    let small = |v: &[i64], low: i64| v.iter().all(|v| (low..1 << 31).contains(v));
    if !small(&strides, 1) || !small(&dilations, 1) || !small(&kernel, 1) || !small(&output_padding, 0) {
        return Err(MapError::Invalid(
            "strides, dilations, kernel extents or output padding are out of range".to_owned(),
        ));
    }
    let shape = cx.attrs.ints("output_shape")?;
    // Some exporters give the batch and channels as well.
    let shape = shape.map(|s| s[s.len().saturating_sub(n)..].to_vec());
    let same = matches!(auto.as_str(), "SAME_UPPER" | "SAME_LOWER");
    let whole = |d: usize, extent: i64| {
        (extent.max(1) - 1)
            .saturating_mul(strides[d])
            .saturating_add(output_padding[d])
            .saturating_add((kernel[d] - 1) * dilations[d] + 1)
    };
    let total: Option<Vec<i64>> = match (&shape, auto.as_str()) {
        (Some(shape), "NOTSET" | "" | "VALID" | "SAME_UPPER" | "SAME_LOWER") if shape.len() == n => {
            let extents = spatial(cx, x, n)?;
            Some((0..n).map(|d| whole(d, extents[d]).saturating_sub(shape[d])).collect())
        }
        (Some(shape), _) if shape.len() != n => {
            return Err(MapError::Invalid(format!("`output_shape` is {shape:?} for {n} spatial axes")));
        }
        // The result's extent is `stride · n`.
        (None, "SAME_UPPER" | "SAME_LOWER") => Some((0..n).map(|d| whole(d, 1) - strides[d]).collect()),
        (None, "VALID") => Some(vec![0; n]),
        (None, "NOTSET" | "") => None,
        (_, other) => return Err(MapError::Invalid(format!("`auto_pad` is \"{other}\""))),
    };
    for (d, &total) in total.iter().flatten().enumerate() {
        let lower = !(same && auto == "SAME_UPPER");
        (pads[d], pads[d + n]) = halves(total.max(0), lower);
        output_padding[d] = output_padding[d].saturating_add((-total).max(0));
    }
    let groups = cx.attrs.int_or("group", 1)?;
    let op = nn::ConvTranspose { dilations, groups, output_padding, pads, strides };
    cx.emit(op, &[Some(x), Some(w), bias])
}

/// The spatial extents of `x`, which must be known.
fn spatial(cx: &NodeCx, x: Value, n: usize) -> Result<Vec<i64>, MapError> {
    let dims = cx.ty(x).as_tensor().and_then(|t| t.shape.as_deref()).and_then(|s| s.get(2..)).unwrap_or_default();
    let extents: Option<Vec<i64>> = dims.iter().map(|d| d.known().and_then(|n| i64::try_from(n).ok())).collect();
    let unknown = || MapError::Open("`output_shape` needs known spatial extents".to_owned());
    extents.filter(|e| e.len() == n).ok_or_else(unknown)
}

fn deform_conv(cx: &mut NodeCx) -> Mapped {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let kernel = weights_kernel(cx, w)?;
    let WindowAttrs { strides, dilations, pads, .. } = window(cx, x, &kernel)?;
    let (groups, offset_groups) = (cx.attrs.int_or("group", 1)?, cx.attrs.int_or("offset_group", 1)?);
    let operands = [Some(x), Some(w), Some(cx.input(2)?), cx.optional(3), cx.optional(4)];
    cx.emit(nn::DeformConv { dilations, groups, offset_groups, pads, strides }, &operands)
}

/// The extents that are known of the channel axis.
pub(super) fn channels(cx: &NodeCx, x: Value) -> Result<usize, MapError> {
    let dims = cx.ty(x).as_tensor().and_then(|t| t.shape.as_deref());
    let channels = dims.and_then(|s| s.get(1)).and_then(Dim::known);
    channels.ok_or_else(|| MapError::Open("the number of channels is not known".to_owned()))
}
