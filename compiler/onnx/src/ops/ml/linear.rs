//! Linear models, and distances.

use optc_ir::ops::{math, ml};
use optc_tensor::DType;

use super::scores::{Labels, Transform, above, transformed, two_columns};
use super::{float_samples, floats, invalid, product};
use crate::mapping::{MapError, NodeCx};
use crate::ops::Mapped;

pub(super) fn regressor(cx: &mut NodeCx) -> Mapped {
    let transform = Transform::of(cx)?;
    let (coefficients, targets) = (floats(cx, "coefficients")?, cx.attrs.int_or("targets", 1)?);
    let intercepts = cx.attrs.floats("intercepts")?.unwrap_or_default();
    let rows = usize::try_from(targets).map_err(|_| invalid(format!("there are {targets} targets")))?;
    // ONNX Runtime leaves out intercepts of another number.
    let intercepts = if intercepts.len() == rows { intercepts } else { vec![] };
    let x = float_samples(cx)?;
    let scores = product(cx, x, &coefficients, rows, 1.0, &intercepts)?;
    Ok(vec![transformed(cx, scores, rows, transform)?])
}

/// Two classes may have one row of coefficients: those of the second.
pub(super) fn classifier(cx: &mut NodeCx) -> Mapped {
    cx.attrs.ignore(&["multi_class"]);
    let (transform, labels) = (Transform::of(cx)?, Labels::of(cx, "classlabels_ints")?);
    let coefficients = floats(cx, "coefficients")?;
    let intercepts = cx.attrs.floats("intercepts")?.filter(|v| !v.is_empty());
    let intercepts = intercepts.unwrap_or_else(|| vec![0.0; labels.len()]);
    let rows = intercepts.len();
    if rows != labels.len() && (rows, labels.len()) != (1, 2) {
        return Err(invalid(format!("there are {rows} intercepts for {} classes", labels.len())));
    }
    let x = float_samples(cx)?;
    let scores = product(cx, x, &coefficients, rows, 1.0, &intercepts)?;
    if rows > 1 {
        let label = labels.of_greatest(cx, scores)?;
        return Ok(vec![label, transformed(cx, scores, rows, transform)?]);
    }
    let positive = above(cx, scores, 0.0)?;
    let label = labels.by(cx, positive)?;
    Ok(vec![label, if labels.len() == 2 { two_columns(cx, scores, false, transform)? } else { scores }])
}

/// ONNX Runtime's distances between the rows of two matrices.
pub(super) fn distances(cx: &mut NodeCx) -> Mapped {
    let metric = cx.attrs.string_or("metric", "sqeuclidean")?;
    let (x, y) = (cx.input(0)?, cx.input(1)?);
    if !matches!(cx.dtype(x)?, DType::F32 | DType::F64) {
        return Err(invalid(format!("the operand is {}, expected f32 or f64", cx.dtype(x)?)));
    }
    let squares = cx.emit1(ml::SquaredDistance {}, &[x, y])?;
    match &*metric {
        "sqeuclidean" => Ok(vec![squares]),
        "euclidean" => Ok(vec![cx.emit1(math::Sqrt {}, &[squares])?]),
        _ => Err(MapError::Unsupported(format!("`metric` is {metric:?}, expected \"euclidean\" or \"sqeuclidean\""))),
    }
}
