//! Resampling, and the choice of boxes.

use optc_ir::ops::nn;
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

/// What a resampling was before opset 11: asymmetric, without a choice of the nearest element.
fn simple(mode: String) -> nn::Resize {
    nn::Resize {
        antialias: false,
        aspect: "stretch".to_owned(),
        axes: vec![],
        coordinate: "asymmetric".to_owned(),
        cubic_a: Real(-0.75),
        exclude_outside: false,
        extrapolation: Real(0.0),
        mode: if mode == "bilinear" { "linear".to_owned() } else { mode },
        nearest: "simple".to_owned(),
    }
}

/// The value, unless it is an empty list, which stands for none.
fn unless_empty(cx: &NodeCx, v: Option<Value>) -> Option<Value> {
    v.filter(|&v| cx.ty(v).as_tensor().and_then(|t| t.static_shape()).as_deref() != Some(&[0]))
}

fn resize(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let mode = cx.attrs.string_or("mode", "nearest")?;
    if cx.opset < 11 {
        let scales = cx.input(1)?;
        return cx.emit(simple(mode), &[Some(x), Some(scales)]);
    }
    let op = nn::Resize {
        antialias: cx.attrs.flag("antialias", false)?,
        aspect: cx.attrs.string_or("keep_aspect_ratio_policy", "stretch")?,
        axes: cx.attrs.ints("axes")?.unwrap_or_default(),
        coordinate: cx.attrs.string_or("coordinate_transformation_mode", "half_pixel")?,
        cubic_a: Real(cx.attrs.float_or("cubic_coeff_a", -0.75)?),
        exclude_outside: cx.attrs.flag("exclude_outside", false)?,
        extrapolation: Real(cx.attrs.float_or("extrapolation_value", 0.0)?),
        mode,
        nearest: cx.attrs.string_or("nearest_mode", "round_prefer_floor")?,
    };
    let (scales, sizes) = (unless_empty(cx, cx.optional(2)), unless_empty(cx, cx.optional(3)));
    let region = unless_empty(cx, cx.optional(1)).filter(|_| op.coordinate == "tf_crop_and_resize");
    cx.emit(op, &[Some(x), scales, sizes, region])
}

/// The factors are an attribute before opset 9.
fn upsample(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let mode = cx.attrs.string_or("mode", "nearest")?;
    let scales = match cx.attrs.floats("scales")? {
        Some(scales) => cx.constant(Tensor::from_slice(&[scales.len()], &scales)?),
        None => cx.input(1)?,
    };
    cx.emit(simple(mode), &[Some(x), Some(scales)])
}

/// Before opset 20 the modes were named after two axes.
fn grid_sample(cx: &mut NodeCx) -> Mapped {
    let align_corners = cx.attrs.flag("align_corners", false)?;
    let mode = match cx.attrs.string_or("mode", "linear")?.as_str() {
        "bilinear" => "linear".to_owned(),
        "bicubic" => "cubic".to_owned(),
        other => other.to_owned(),
    };
    let padding = cx.attrs.string_or("padding_mode", "zeros")?;
    let operands = [cx.input(0)?, cx.input(1)?];
    let op = nn::GridSample { align_corners, mode, padding };
    Ok(vec![cx.emit1(op, &operands)?])
}
