//! Normalisations.

use optc_ir::ops::{math, nn, tensor};
use optc_ir::{Real, Value};
use optc_tensor::{DType, Tensor};

use super::conv::channels;
use super::{Mapped, Table, rank_of};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    ("", "BatchNormalization", batch_norm),
    ("", "InstanceNormalization", |cx| {
        let epsilon = Real(cx.attrs.float_or("epsilon", 1e-5)?);
        let operands = [cx.input(0)?, cx.input(1)?, cx.input(2)?];
        Ok(vec![cx.emit1(nn::GroupNorm { epsilon, groups: 0 }, &operands)?])
    }),
    ("", "GroupNormalization", group_norm),
    ("", "LayerNormalization", layer_norm),
    ("", "RMSNormalization", |cx| {
        cx.attrs.ignore(&["stash_type"]); // intermediate results are at least as wide here
        let (axis, epsilon) = (cx.attrs.int_or("axis", -1)?, Real(cx.attrs.float_or("epsilon", 1e-5)?));
        let operands = [cx.input(0)?, cx.input(1)?];
        Ok(vec![cx.emit1(nn::RmsNorm { axis, epsilon }, &operands)?])
    }),
    ("", "LRN", |cx| {
        let missing = || MapError::Invalid("attribute `size` is missing".to_owned());
        let size = cx.attrs.int("size")?.ok_or_else(missing)?;
        let (alpha, beta) = (Real(cx.attrs.float_or("alpha", 1e-4)?), Real(cx.attrs.float_or("beta", 0.75)?));
        let bias = Real(cx.attrs.float_or("bias", 1.0)?);
        let x = cx.input(0)?;
        Ok(vec![cx.emit1(nn::Lrn { alpha, beta, bias, size }, &[x])?])
    }),
    ("", "LpNormalization", |cx| {
        let (axis, p) = (cx.attrs.int_or("axis", -1)?, cx.attrs.int_or("p", 2)?);
        let x = cx.input(0)?;
        Ok(vec![cx.emit1(nn::LpNorm { axis, p }, &[x])?])
    }),
    ("", "MeanVarianceNormalization", mean_variance),
];

/// The mean of `x` over `axes`, which stay.
fn mean(cx: &mut NodeCx, x: Value, axes: &[i64]) -> Result<Value, MapError> {
    let kind = math::ReduceKind::Mean;
    cx.emit1(math::Reduce { all_if_empty: false, kind, axes: axes.to_vec(), keep_dims: true }, &[x])
}

/// Mean and population variance of `x` over `axes`, and `x` without its mean.
fn moments(cx: &mut NodeCx, x: Value, axes: &[i64]) -> Result<(Value, Value, Value), MapError> {
    let average = mean(cx, x, axes)?;
    let centred = cx.emit1(math::Sub {}, &[x, average])?;
    let squares = cx.emit1(math::Mul {}, &[centred, centred])?;
    let variance = mean(cx, squares, axes)?;
    Ok((average, variance, centred))
}

/// A constant of the dtype of `like`.
pub(super) fn scalar_like(cx: &mut NodeCx, like: Value, v: f64) -> Result<Value, MapError> {
    let dtype = cx.dtype(like)?;
    Ok(cx.constant(Tensor::from_f64(dtype, &[], &[v])?))
}

/// In training mode the statistics are the batch's, and the running ones become results.
fn batch_norm(cx: &mut NodeCx) -> Mapped {
    let epsilon = Real(cx.attrs.float_or("epsilon", 1e-5)?);
    let momentum = cx.attrs.float_or("momentum", 0.9)?;
    if !cx.attrs.flag("spatial", true)? {
        return Err(MapError::Unsupported("statistics for each activation (`spatial` 0) are not supported".to_owned()));
    }
    cx.attrs.ignore(&["is_test"]);
    let training = cx.attrs.flag("training_mode", false)?;
    let mut operands = (0..5).map(|i| cx.input(i)).collect::<Result<Vec<_>, _>>()?;
    if !training {
        return Ok(vec![cx.emit1(nn::BatchNorm { epsilon }, &operands)?]);
    }
    let (x, dtype) = (operands[0], cx.dtype(operands[3])?);
    let mut axes: Vec<i64> = (0..rank_of(cx, x)? as i64).collect();
    if axes.len() < 2 {
        return Err(MapError::Unsupported("training mode needs a channel axis".to_owned()));
    }
    axes.remove(1);
    let wide = if dtype == DType::F64 { x } else { cx.emit1(math::Cast { to: DType::F32 }, &[x])? };
    let (average, variance, _) = moments(cx, wide, &axes)?;
    let mut results = vec![];
    for (slot, value) in [(3, average), (4, variance)] {
        let flat = cx.constant(Tensor::from_slice(&[1], &[-1i64])?);
        let value = cx.emit1(tensor::Reshape { allow_zero: false }, &[value, flat])?;
        let current = cx.emit1(math::Cast { to: dtype }, &[value])?;
        let (old, new) = (scalar_like(cx, current, momentum as f64)?, scalar_like(cx, current, 1.0 - momentum as f64)?);
        let old = cx.emit1(math::Mul {}, &[operands[slot], old])?;
        let new = cx.emit1(math::Mul {}, &[current, new])?;
        results.push(cx.emit1(math::Add {}, &[old, new])?);
        operands[slot] = current;
    }
    results.insert(0, cx.emit1(nn::BatchNorm { epsilon }, &operands)?);
    Ok(results)
}

/// Before opset 21 scale and bias are given per group, since then per channel.
fn group_norm(cx: &mut NodeCx) -> Mapped {
    cx.attrs.ignore(&["stash_type"]); // intermediate results are at least as wide here
    let epsilon = Real(cx.attrs.float_or("epsilon", 1e-5)?);
    let missing = || MapError::Invalid("attribute `num_groups` is missing".to_owned());
    let groups = cx.attrs.int("num_groups")?.ok_or_else(missing)?;
    if groups < 1 {
        return Err(MapError::Invalid(format!("`num_groups` is {groups}")));
    }
    let mut operands = [cx.input(0)?, cx.input(1)?, cx.input(2)?];
    if cx.opset < 21 {
        let per_group = channels(cx, operands[0])? as i64 / groups;
        for v in &mut operands[1..] {
            let (axis, shape) = (Tensor::from_slice(&[1], &[1i64])?, Tensor::from_slice(&[2], &[groups, per_group])?);
            let (axis, shape) = (cx.constant(axis), cx.constant(shape));
            let flat = cx.constant(Tensor::from_slice(&[1], &[-1i64])?);
            let column = cx.emit1(tensor::Unsqueeze {}, &[*v, axis])?;
            let spread = cx.emit1(tensor::Expand {}, &[column, shape])?;
            *v = cx.emit1(tensor::Reshape { allow_zero: false }, &[spread, flat])?;
        }
    }
    Ok(vec![cx.emit1(nn::GroupNorm { epsilon, groups }, &operands)?])
}

/// The optional results are the mean and the inverse of the standard deviation, in the dtype that `stash_type` names.
pub(super) fn layer_norm(cx: &mut NodeCx) -> Mapped {
    let stash = super::cast::dtype_attribute(cx, "stash_type")?.unwrap_or(DType::F32);
    let (axis, epsilon) = (cx.attrs.int_or("axis", -1)?, Real(cx.attrs.float_or("epsilon", 1e-5)?));
    let x = cx.input(0)?;
    let operands = [Some(x), Some(cx.input(1)?), cx.optional(2)];
    let mut results = cx.emit(nn::LayerNorm { axis, epsilon }, &operands)?;
    if cx.node.output.len() > 1 {
        let rank = rank_of(cx, x)? as i64;
        let axes: Vec<i64> = (if axis < 0 { axis + rank } else { axis }..rank).collect();
        let x = cx.emit1(math::Cast { to: stash }, &[x])?;
        let (average, variance, _) = moments(cx, x, &axes)?;
        let epsilon = scalar_like(cx, variance, epsilon.0 as f64)?;
        let sum = cx.emit1(math::Add {}, &[variance, epsilon])?;
        let deviation = cx.emit1(math::Sqrt {}, &[sum])?;
        results.extend([average, cx.emit1(math::Reciprocal {}, &[deviation])?]);
    }
    Ok(results)
}

/// The standard's function body adds `1e-9` to the standard deviation.
fn mean_variance(cx: &mut NodeCx) -> Mapped {
    let axes = cx.attrs.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let x = cx.input(0)?;
    let (_, variance, centred) = moments(cx, x, &axes)?;
    let deviation = cx.emit1(math::Sqrt {}, &[variance])?;
    let epsilon = scalar_like(cx, deviation, 1e-9)?;
    let divisor = cx.emit1(math::Add {}, &[deviation, epsilon])?;
    Ok(vec![cx.emit1(math::Div {}, &[centred, divisor])?])
}
