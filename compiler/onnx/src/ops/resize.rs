//! Resampling, and the choice of boxes.

use optc_ir::ops::nn::{self, AspectPolicy, CoordinateTransform, GridPadding, Interpolation, NearestMode};
use optc_ir::{Real, Value};
use optc_tensor::Tensor;

use super::{Mapped, Table};
use crate::mapping::NodeCx;

pub(crate) const TABLE: Table = &[
    ("", "Resize", resize),
    ("", "Upsample", upsample),
    ("", "GridSample", grid_sample),
    ("", "AffineGrid", |cx| {
        let align_corners = cx.attrs.flag("align_corners", false)?;
        let operands = [cx.input(0)?, cx.input(1)?];
        Ok(vec![cx.emit1(nn::AffineGrid { align_corners }, &operands)?])
    }),
    ("", "NonMaxSuppression", |cx| {
        let centred = cx.attrs.flag("center_point_box", false)?;
        cx.input(1)?;
        let operands: Vec<_> = (0..5).map(|i| cx.optional(i)).collect();
        cx.emit(nn::NonMaxSuppression { centred }, &operands)
    }),
];

/// ONNX's words for the nearest element.
const NEAREST_MODES: &[(&str, NearestMode)] = &[
    ("round_prefer_floor", NearestMode::RoundPreferFloor),
    ("round_prefer_ceil", NearestMode::RoundPreferCeil),
    ("floor", NearestMode::Floor),
    ("ceil", NearestMode::Ceil),
];

/// The interpolations before opset 11: `linear` was called `bilinear` at first.
const OLD_MODES: &[(&str, Interpolation)] = &[
    ("nearest", Interpolation::Nearest),
    ("linear", Interpolation::Linear),
    ("bilinear", Interpolation::Linear),
    ("cubic", Interpolation::Cubic),
];

/// The interpolations of points of a grid, which were named after two axes before opset 20.
const GRID_MODES: &[(&str, Interpolation)] = &[
    ("linear", Interpolation::Linear),
    ("bilinear", Interpolation::Linear),
    ("nearest", Interpolation::Nearest),
    ("cubic", Interpolation::Cubic),
    ("bicubic", Interpolation::Cubic),
];

/// What a resampling was before opset 11: asymmetric, without a choice of the nearest element.
fn simple(mode: Interpolation) -> nn::Resize {
    nn::Resize {
        antialias: false,
        aspect: AspectPolicy::Stretch,
        axes: vec![],
        coordinate: CoordinateTransform::Asymmetric,
        cubic_a: Real(-0.75),
        exclude_outside: false,
        extrapolation: Real(0.0),
        mode,
        nearest: NearestMode::Simple,
    }
}

/// The value, unless it is an empty list, which stands for none.
fn unless_empty(cx: &NodeCx, v: Option<Value>) -> Option<Value> {
    v.filter(|&v| cx.ty(v).as_tensor().and_then(|t| t.static_shape()).as_deref() != Some(&[0]))
}

fn resize(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    if cx.opset < 11 {
        let mode = cx.attrs.word_or("mode", OLD_MODES, Interpolation::Nearest)?;
        let scales = cx.input(1)?;
        return cx.emit(simple(mode), &[Some(x), Some(scales)]);
    }
    let op = nn::Resize {
        antialias: cx.attrs.flag("antialias", false)?,
        aspect: cx.attrs.text_or("keep_aspect_ratio_policy", AspectPolicy::Stretch)?,
        axes: cx.attrs.ints("axes")?.unwrap_or_default(),
        coordinate: cx.attrs.text_or("coordinate_transformation_mode", CoordinateTransform::HalfPixel)?,
        cubic_a: Real(cx.attrs.float_or("cubic_coeff_a", -0.75)?),
        exclude_outside: cx.attrs.flag("exclude_outside", false)?,
        extrapolation: Real(cx.attrs.float_or("extrapolation_value", 0.0)?),
        mode: cx.attrs.text_or("mode", Interpolation::Nearest)?,
        nearest: cx.attrs.word_or("nearest_mode", NEAREST_MODES, NearestMode::RoundPreferFloor)?,
    };
    let (scales, sizes) = (unless_empty(cx, cx.optional(2)), unless_empty(cx, cx.optional(3)));
    let crops = op.coordinate == CoordinateTransform::TfCropAndResize;
    let region = unless_empty(cx, cx.optional(1)).filter(|_| crops);
    cx.emit(op, &[Some(x), scales, sizes, region])
}

/// The factors are an attribute before opset 9.
fn upsample(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let mode = cx.attrs.word_or("mode", OLD_MODES, Interpolation::Nearest)?;
    let scales = match cx.attrs.floats("scales")? {
        Some(scales) => cx.constant(Tensor::from_slice(&[scales.len()], &scales)?),
        None => cx.input(1)?,
    };
    cx.emit(simple(mode), &[Some(x), Some(scales)])
}

/// Only the names of the interpolations have changed since ONNX Runtime had this op first.
pub(super) fn grid_sample(cx: &mut NodeCx) -> Mapped {
    let align_corners = cx.attrs.flag("align_corners", false)?;
    let mode = cx.attrs.word_or("mode", GRID_MODES, Interpolation::Linear)?;
    let padding = cx.attrs.text_or("padding_mode", GridPadding::Zeros)?;
    let operands = [cx.input(0)?, cx.input(1)?];
    let op = nn::GridSample { align_corners, mode, padding };
    Ok(vec![cx.emit1(op, &operands)?])
}
