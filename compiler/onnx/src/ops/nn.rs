//! Convolution, pooling, normalisation, softmax, Gemm and LSTM.

use optc_ir::ops::{math, nn, tensor};
use optc_ir::{Dim, Real, Value};

use super::{Mapped, Table};
use crate::import::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    ("", "Conv", conv),
    ("", "Gemm", gemm),
    ("", "MaxPool", |cx| pool(cx, "max")),
    ("", "AveragePool", |cx| pool(cx, "mean")),
    ("", "GlobalAveragePool", |cx| global_pool(cx, "mean")),
    ("", "GlobalMaxPool", |cx| global_pool(cx, "max")),
    ("", "BatchNormalization", batch_norm),
    ("", "LayerNormalization", layer_norm),
    ("", "Softmax", |cx| softmax(cx, false)),
    ("", "LogSoftmax", |cx| softmax(cx, true)),
    ("", "LSTM", lstm),
    ("", "Pad", pad),
];

fn rank_of(cx: &NodeCx, x: Value) -> Result<usize, MapError> {
    let rank = cx.ty(x).as_tensor().and_then(|t| t.rank());
    rank.ok_or_else(|| MapError::Unsupported("the operand's rank is not known".to_owned()))
}

/// Strides, dilations and resolved pads of a sliding window.
struct Window {
    strides: Vec<i64>,
    dilations: Vec<i64>,
    pads: Vec<i64>,
}

/// Reads the attributes of a window of extents `kernel` over `x`.
fn window(cx: &NodeCx, x: Value, kernel: &[i64]) -> Result<Window, MapError> {
    let n = kernel.len();
    let list = |name: &str, len: usize, default: i64| match cx.attrs.ints(name)? {
        Some(v) if v.len() == len => Ok(v),
        Some(v) => Err(MapError::Invalid(format!("`{name}` has {} entries, expected {len}", v.len()))),
        None => Ok(vec![default; len]),
    };
    let (strides, dilations) = (list("strides", n, 1)?, list("dilations", n, 1)?);
    if strides.iter().chain(&dilations).chain(kernel).any(|&v| v < 1) {
        return Err(MapError::Invalid("strides, dilations and kernel extents must be positive".to_owned()));
    }
    let auto = cx.attrs.string_or("auto_pad", "NOTSET")?;
    let given = list("pads", 2 * n, 0)?;
    let pads = match auto.as_str() {
        "NOTSET" => given,
        "VALID" => vec![0; 2 * n],
        "SAME_UPPER" | "SAME_LOWER" => same_pads(cx, x, kernel, &strides, &dilations, auto == "SAME_LOWER")?,
        other => return Err(MapError::Invalid(format!("`auto_pad` is \"{other}\""))),
    };
    Ok(Window { strides, dilations, pads })
}

/// Pads that make each result extent `ceil(extent / stride)`; the odd one goes to the end, or to the begin for `lower`.
fn same_pads(
    cx: &NodeCx,
    x: Value,
    kernel: &[i64],
    strides: &[i64],
    dilations: &[i64],
    lower: bool,
) -> Result<Vec<i64>, MapError> {
    let dims = cx.ty(x).as_tensor().and_then(|t| t.shape.as_deref()).unwrap_or_default();
    let mut pads = vec![0; 2 * kernel.len()];
    for (d, &k) in kernel.iter().enumerate() {
        let extent = dims.get(d + 2).and_then(Dim::known);
        let unknown = || MapError::Unsupported("`auto_pad` needs known spatial extents".to_owned());
        let extent = i64::try_from(extent.ok_or_else(unknown)?).map_err(|_| unknown())?;
        let reach = (k - 1).checked_mul(dilations[d]).and_then(|r| r.checked_add(1));
        let steps = (extent.max(1) - 1) / strides[d] * strides[d];
        let large = || MapError::Invalid("the window is too large".to_owned());
        let total = reach.and_then(|r| r.checked_add(steps)).ok_or_else(large)?.saturating_sub(extent).max(0);
        let (less, more) = (total / 2, total - total / 2);
        (pads[d], pads[d + kernel.len()]) = if lower { (more, less) } else { (less, more) };
    }
    Ok(pads)
}

fn conv(cx: &mut NodeCx) -> Mapped {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let weights = cx.ty(w).as_tensor().and_then(|t| t.shape.as_deref()).and_then(|s| s.get(2..));
    let extents: Option<Vec<i64>> = weights.and_then(|s| s.iter().map(|d| d.known().map(|n| n as i64)).collect());
    let kernel = match (cx.attrs.ints("kernel_shape")?, extents) {
        (Some(k), Some(e)) if k != e => {
            return Err(MapError::Invalid(format!("`kernel_shape` is {k:?}, but the weights' window is {e:?}")));
        }
        (Some(k), _) => k,
        (None, Some(e)) => e,
        (None, None) => return Err(MapError::Unsupported("the shape of the weights is not known".to_owned())),
    };
    let Window { strides, dilations, pads } = window(cx, x, &kernel)?;
    let groups = cx.attrs.int_or("group", 1)?;
    let bias = cx.optional(2);
    cx.emit(nn::Conv { dilations, groups, pads, strides }, &[Some(x), Some(w), bias])
}

fn gemm(cx: &mut NodeCx) -> Mapped {
    let (alpha, beta) = (Real(cx.attrs.float_or("alpha", 1.0)?), Real(cx.attrs.float_or("beta", 1.0)?));
    let (trans_a, trans_b) = (cx.attrs.flag("transA", false)?, cx.attrs.flag("transB", false)?);
    let operands = [Some(cx.input(0)?), Some(cx.input(1)?), cx.optional(2)];
    cx.emit(nn::Gemm { alpha, beta, trans_a, trans_b }, &operands)
}

fn pool(cx: &mut NodeCx, kind: &str) -> Mapped {
    let x = cx.input(0)?;
    let missing = || MapError::Invalid("attribute `kernel_shape` is missing".to_owned());
    let kernel = cx.attrs.ints("kernel_shape")?.ok_or_else(missing)?;
    let Window { strides, dilations, pads } = window(cx, x, &kernel)?;
    let ceil_mode = cx.attrs.flag("ceil_mode", false)?;
    let count_include_pad = kind == "mean" && cx.attrs.flag("count_include_pad", false)?;
    cx.attrs.ignore(&["storage_order"]); // it concerns the indices output alone, which is refused
    let kind = kind.to_owned();
    let op = nn::Pool { ceil_mode, count_include_pad, dilations, kernel, kind, pads, strides };
    Ok(vec![cx.emit1(op, &[x])?])
}

fn global_pool(cx: &mut NodeCx, kind: &str) -> Mapped {
    let x = cx.input(0)?;
    let axes: Vec<i64> = (2..rank_of(cx, x)? as i64).collect();
    if axes.is_empty() {
        return Ok(vec![x]);
    }
    Ok(vec![cx.emit1(math::Reduce { kind: kind.to_owned(), axes, keep_dims: true }, &[x])?])
}

fn batch_norm(cx: &mut NodeCx) -> Mapped {
    let epsilon = Real(cx.attrs.float_or("epsilon", 1e-5)?);
    cx.attrs.ignore(&["momentum"]);
    if cx.attrs.flag("training_mode", false)? || !cx.attrs.flag("spatial", true)? {
        return Err(MapError::Unsupported("training mode and per-activation statistics are not supported".to_owned()));
    }
    let operands = (0..5).map(|i| cx.input(i)).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![cx.emit1(nn::BatchNorm { epsilon }, &operands)?])
}

/// `stash_type` names the dtype of intermediate results; they are at least as wide here.
fn layer_norm(cx: &mut NodeCx) -> Mapped {
    cx.attrs.ignore(&["stash_type"]);
    let (axis, epsilon) = (cx.attrs.int_or("axis", -1)?, Real(cx.attrs.float_or("epsilon", 1e-5)?));
    let operands = [Some(cx.input(0)?), Some(cx.input(1)?), cx.optional(2)];
    cx.emit(nn::LayerNorm { axis, epsilon }, &operands)
}

/// Before opset 13 the dims from `axis` on count as one; since then only `axis` is normalised.
fn softmax(cx: &mut NodeCx, log: bool) -> Mapped {
    let x = cx.input(0)?;
    if cx.opset >= 13 {
        let axis = cx.attrs.int_or("axis", -1)?;
        return Ok(vec![cx.emit1(nn::Softmax { axis, log }, &[x])?]);
    }
    let axis = cx.attrs.int_or("axis", 1)?;
    let rank = rank_of(cx, x)? as i64;
    if axis == rank - 1 || axis == -1 {
        return Ok(vec![cx.emit1(nn::Softmax { axis: -1, log }, &[x])?]);
    }
    let shape = cx.emit1(tensor::ShapeOf { start: 0, end: i64::MAX }, &[x])?;
    let flat = cx.emit1(tensor::Flatten { axis }, &[x])?;
    let y = cx.emit1(nn::Softmax { axis: -1, log }, &[flat])?;
    Ok(vec![cx.emit1(tensor::Reshape { allow_zero: true }, &[y, shape])?])
}

fn lstm(cx: &mut NodeCx) -> Mapped {
    let direction = cx.attrs.string_or("direction", "forward")?;
    let activations = cx.attrs.strings("activations")?.unwrap_or_default();
    let usual =
        activations.iter().zip(["Sigmoid", "Tanh", "Tanh"].iter().cycle()).all(|(a, b)| a.eq_ignore_ascii_case(b));
    let coupled = cx.attrs.flag("input_forget", false)?;
    let batch_first = cx.attrs.flag("layout", false)?;
    if !usual || coupled || batch_first || cx.attrs.has("clip") {
        let reason = "LSTM with other activations, coupled gates, `clip` or `layout` 1 is not supported";
        return Err(MapError::Unsupported(reason.to_owned()));
    }
    cx.attrs.ignore(&["hidden_size", "activation_alpha", "activation_beta"]);
    let operands: Vec<_> = (0..8).map(|i| cx.optional(i)).collect();
    cx.emit(nn::Lstm { direction }, &operands)
}

/// Pads come from an attribute before opset 11; a fill value other than zero is not supported.
fn pad(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let mode = match cx.attrs.string_or("mode", "constant")?.as_str() {
        "constant" => "zero",
        "edge" => "edge",
        "reflect" => "reflect",
        other => return Err(MapError::Unsupported(format!("`mode` \"{other}\" is not supported"))),
    };
    let unknown = |what: &str| MapError::Unsupported(format!("`{what}` is not a constant"));
    let (pads, value) = if cx.opset < 11 {
        (cx.attrs.ints("pads")?, cx.attrs.float_or("value", 0.0)? as f64)
    } else {
        let pads = cx.constant_of(cx.input(1)?).ok_or_else(|| unknown("pads"))?.to_i64_vec();
        let value = cx.optional(2).map(|v| cx.constant_of(v).ok_or_else(|| unknown("constant_value"))).transpose()?;
        (Some(pads), value.and_then(|t| t.to_f64_vec().first().copied()).unwrap_or(0.0))
    };
    if cx.optional(3).is_some() || (mode == "zero" && value != 0.0) {
        return Err(MapError::Unsupported("Pad with `axes` or a value other than zero is not supported".to_owned()));
    }
    let pads = pads.ok_or_else(|| MapError::Invalid("`pads` is missing".to_owned()))?;
    Ok(vec![cx.emit1(tensor::Pad { mode: mode.to_owned(), pads }, &[x])?])
}
