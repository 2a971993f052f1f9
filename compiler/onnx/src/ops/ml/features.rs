//! What is done to features before they are learned from.

use optc_ir::ops::math::ReduceKind;
use optc_ir::ops::{math, tensor};
use optc_ir::{Op, Value};
use optc_tensor::{DType, Tensor};

use super::{cast, floats, invalid, missing, samples, scalar, vector};
use crate::mapping::{MapError, NodeCx};
use crate::ops::Mapped;

/// The columns of `x` that the indices name; a vector counts as one row.
pub(super) fn extractor(cx: &mut NodeCx) -> Mapped {
    let (mut x, indices) = (cx.input(0)?, cx.input(1)?);
    if cx.ty(x).as_tensor().and_then(|t| t.rank()) == Some(1) {
        x = samples(cx)?;
    }
    let flat = cx.constant(Tensor::from_slice(&[1], &[-1i64])?);
    let indices = cx.emit1(tensor::Reshape { allow_zero: false }, &[indices, flat])?;
    Ok(vec![cx.emit1(tensor::Gather { axis: -1 }, &[x, indices])?])
}

pub(super) fn binarizer(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let (dtype, threshold) = (cx.dtype(x)?, cx.attrs.float_or("threshold", 0.0)?);
    let threshold = scalar(cx, dtype, f64::from(threshold))?;
    let above = cx.emit1(math::Greater {}, &[x, threshold])?;
    Ok(vec![cx.emit1(math::Cast { to: dtype }, &[above])?])
}

/// `(x - offset) * scale` in `f32`.
pub(super) fn scaler(cx: &mut NodeCx) -> Mapped {
    let (offset, scale) = (floats(cx, "offset")?, floats(cx, "scale")?);
    let x = cx.input(0)?;
    let x = cast(cx, x, DType::F32)?;
    let (offset, scale) = (vector(cx, &offset)?, vector(cx, &scale)?);
    let centred = cx.emit1(math::Sub {}, &[x, offset])?;
    Ok(vec![cx.emit1(math::Mul {}, &[centred, scale])?])
}

/// Each row by its norm, in `f32`; a row whose norm is 0 stays. The maximum is that of the numbers as they are.
pub(super) fn normalizer(cx: &mut NodeCx) -> Mapped {
    let words = [("MAX", ReduceKind::Max), ("L1", ReduceKind::L1), ("L2", ReduceKind::L2)];
    let kind = cx.attrs.word_or("norm", &words, ReduceKind::Max)?;
    let x = cx.input(0)?;
    let x = cast(cx, x, DType::F32)?;
    let by = math::Reduce { all_if_empty: false, kind, axes: vec![-1], keep_dims: true };
    let norm = cx.emit1(by, &[x])?;
    let (zero, one) = (scalar(cx, DType::F32, 0.0)?, scalar(cx, DType::F32, 1.0)?);
    let none = cx.emit1(math::Equal {}, &[norm, zero])?;
    let norm = cx.emit1(math::Where {}, &[none, one, norm])?;
    Ok(vec![cx.emit1(math::Div {}, &[x, norm])?])
}

/// One value for another: NaN where that is what is replaced. There is one for each feature, or one for all.
pub(super) fn imputer(cx: &mut NodeCx) -> Mapped {
    let floats = cx.attrs.floats("imputed_value_floats")?.filter(|v| !v.is_empty());
    let ints = cx.attrs.ints("imputed_value_int64s")?.filter(|v| !v.is_empty());
    let (float, int) = (cx.attrs.float_or("replaced_value_float", 0.0)?, cx.attrs.int_or("replaced_value_int64", 0)?);
    let x = cx.input(0)?;
    let dtype = cx.dtype(x)?;
    let values: Vec<f64>;
    let (imputed, replaced) = match (floats, ints) {
        (Some(v), None) if dtype.is_float() => {
            values = v.into_iter().map(f64::from).collect();
            (Tensor::from_f64(dtype, &[values.len()], &values)?, Tensor::from_f64(dtype, &[], &[f64::from(float)])?)
        }
        (None, Some(v)) if dtype.is_int() => {
            (Tensor::from_i64(dtype, &[v.len()], &v)?, Tensor::from_i64(dtype, &[], &[int])?)
        }
        (Some(_), Some(_)) => return Err(invalid("floats and integers are imputed, expected one of them")),
        (None, None) => return Err(missing("imputed_value_floats")),
        _ => return Err(invalid(format!("the operand is {dtype}, the imputed values are of another kind"))),
    };
    let features = cx.ty(x).as_tensor().and_then(|t| t.shape.as_ref()?.last()?.known());
    let n = imputed.len();
    if n != 1 && features.is_some_and(|features| features != n) {
        let features = features.unwrap_or_default();
        return Err(invalid(format!("there are {n} imputed values for {features} features")));
    }
    let replaced = cx.constant(replaced);
    let lacking = match dtype.is_float() && float.is_nan() {
        true => cx.emit1(math::IsNan {}, &[x])?,
        false => cx.emit1(math::Equal {}, &[x, replaced])?,
    };
    let imputed = cx.constant(imputed);
    Ok(vec![cx.emit1(math::Where {}, &[lacking, imputed, x])?])
}

/// The inputs side by side in `f32`, each cut or filled up with zeros to its number of features.
pub(super) fn vectorizer(cx: &mut NodeCx) -> Mapped {
    let widths = cx.attrs.ints("inputdimensions")?.ok_or_else(|| missing("inputdimensions"))?;
    if widths.len() != cx.inputs.len() {
        let (n, inputs) = (widths.len(), cx.inputs.len());
        return Err(invalid(format!("there are {inputs} inputs and {n} numbers of features")));
    }
    if let Some(width) = widths.iter().find(|&&width| width < 0) {
        return Err(invalid(format!("{width} features are none")));
    }
    let mut parts = vec![];
    for (slot, &width) in widths.iter().enumerate() {
        parts.push(part(cx, slot, width)?);
    }
    Ok(vec![cx.emit1(tensor::Concat { axis: 1 }, &parts)?])
}

fn part(cx: &mut NodeCx, slot: usize, width: i64) -> Result<Value, MapError> {
    let mut x = cx.input(slot)?;
    let flat = match super::rank_of(cx, x)? {
        1 => Some([1, -1]),
        2 => None,
        _ => Some([0, -1]),
    };
    if let Some(shape) = flat {
        let shape = cx.constant(Tensor::from_slice(&[2], &shape)?);
        x = cx.emit1(tensor::Reshape { allow_zero: false }, &[x, shape])?;
    }
    let x = cast(cx, x, DType::F32)?;
    let found = cx.ty(x).as_tensor().and_then(|t| t.shape.as_ref()?.get(1)?.known());
    let found = found.ok_or_else(|| MapError::Unsupported(format!("the features of input {slot} are not known")))?;
    let lacking = width.saturating_sub(found as i64);
    let ints = |cx: &mut NodeCx, v: i64| Ok::<_, MapError>(cx.constant(Tensor::from_slice(&[1], &[v])?));
    if lacking < 0 {
        let (start, end, axis) = (ints(cx, 0)?, ints(cx, width)?, ints(cx, 1)?);
        return cx.emit1(tensor::Slice {}, &[x, start, end, axis]);
    }
    if lacking > 0 {
        let pad: Op = tensor::Pad { mode: tensor::PadMode::Constant, pads: vec![0, 0, 0, lacking] }.into();
        return cx.emit1(pad, &[x]);
    }
    Ok(x)
}
