//! `ai.onnx.ml`: classical machine learning.

use optc_ir::ops::{math, ml, tensor};
use optc_ir::{Const, Value};
use optc_tensor::{DType, Tensor};

use super::{Mapped, Table};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    ("ai.onnx.ml", "ArrayFeatureExtractor", feature_extractor),
    ("ai.onnx.ml", "Binarizer", binarizer),
    ("ai.onnx.ml", "LabelEncoder", label_encoder),
    ("ai.onnx.ml", "Scaler", scaler),
];

fn floats(cx: &mut NodeCx, values: &[f32]) -> Result<Value, MapError> {
    Ok(cx.constant(Tensor::from_slice(&[values.len()], values)?))
}

/// The columns of `x` that the indices name; a vector counts as one row.
fn feature_extractor(cx: &mut NodeCx) -> Mapped {
    let (mut x, indices) = (cx.input(0)?, cx.input(1)?);
    if cx.ty(x).as_tensor().and_then(|t| t.rank()) == Some(1) {
        let axes = cx.constant(Tensor::from_slice(&[1], &[0i64])?);
        x = cx.emit1(tensor::Unsqueeze {}, &[x, axes])?;
    }
    let flat = cx.constant(Tensor::from_slice(&[1], &[-1i64])?);
    let indices = cx.emit1(tensor::Reshape { allow_zero: false }, &[indices, flat])?;
    Ok(vec![cx.emit1(tensor::Gather { axis: -1 }, &[x, indices])?])
}

fn binarizer(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let (dtype, threshold) = (cx.dtype(x)?, cx.attrs.float_or("threshold", 0.0)?);
    let threshold = cx.constant(Tensor::from_f64(dtype, &[], &[f64::from(threshold)])?);
    let above = cx.emit1(math::Greater {}, &[x, threshold])?;
    Ok(vec![cx.emit1(math::Cast { to: dtype }, &[above])?])
}

/// `(x - offset) * scale` in `f32`.
fn scaler(cx: &mut NodeCx) -> Mapped {
    let missing = |name: &str| MapError::Invalid(format!("attribute `{name}` is missing"));
    let offset = cx.attrs.floats("offset")?.ok_or_else(|| missing("offset"))?;
    let scale = cx.attrs.floats("scale")?.ok_or_else(|| missing("scale"))?;
    let mut x = cx.input(0)?;
    if cx.dtype(x)? != DType::F32 {
        x = cx.emit1(math::Cast { to: DType::F32 }, &[x])?;
    }
    let (offset, scale) = (floats(cx, &offset)?, floats(cx, &scale)?);
    let centred = cx.emit1(math::Sub {}, &[x, offset])?;
    Ok(vec![cx.emit1(math::Mul {}, &[centred, scale])?])
}

/// Keys and values come as lists of strings, integers or floats, or as tensors.
fn label_encoder(cx: &mut NodeCx) -> Mapped {
    let keys = labels(cx, "keys")?.ok_or_else(|| MapError::Invalid("the keys are missing".to_owned()))?;
    let values = labels(cx, "values")?.ok_or_else(|| MapError::Invalid("the values are missing".to_owned()))?;
    let default = default_label(cx, values.dtype())?;
    let x = cx.input(0)?;
    Ok(vec![cx.emit1(ml::Lookup { keys: Const(keys), values: Const(values), default: Const(default) }, &[x])?])
}

fn labels(cx: &NodeCx, what: &str) -> Result<Option<Tensor>, MapError> {
    if let Some(t) = cx.tensor_attribute(&format!("{what}_tensor"))? {
        return Ok(Some(t));
    }
    if let Some(v) = cx.attrs.strings(&format!("{what}_strings"))? {
        return Ok(Some(Tensor::from_strings(&[v.len()], v)?));
    }
    if let Some(v) = cx.attrs.ints(&format!("{what}_int64s"))? {
        return Ok(Some(Tensor::from_slice(&[v.len()], &v)?));
    }
    let floats = cx.attrs.floats(&format!("{what}_floats"))?;
    Ok(floats.map(|v| Tensor::from_slice(&[v.len()], &v)).transpose()?)
}

/// What stands for labels that are not among the keys: one element of `dtype`.
fn default_label(cx: &NodeCx, dtype: DType) -> Result<Tensor, MapError> {
    let (text, int) = (cx.attrs.string_or("default_string", "_Unused")?, cx.attrs.int_or("default_int64", -1)?);
    let float = cx.attrs.float_or("default_float", -0.0)?;
    if let Some(t) = cx.tensor_attribute("default_tensor")? {
        return Ok(t);
    }
    Ok(match dtype {
        DType::Str => Tensor::from_strings(&[], vec![text])?,
        d if d.is_real() => Tensor::from_f64(d, &[], &[f64::from(float)])?,
        d => Tensor::from_i64(d, &[], &[int])?,
    })
}
