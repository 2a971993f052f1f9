//! Layers of experts, of which each row goes through a few.
//!
//! All experts see all rows, and what a row was not sent through is left out of its sum: which experts a row chooses is
//! known only from its numbers, and products are of whole matrices.

use optc_ir::ops::math::{self, ReduceKind};
use optc_ir::ops::{nn, tensor};
use optc_ir::{Real, Value};

use super::rotary::last_extent;
use super::{MICROSOFT, counted, plus, refuse_inputs, reshaped, unsqueezed};
use crate::mapping::{MapError, NodeCx};
use crate::ops::attention::list;
use crate::ops::norm::scalar_like;
use crate::ops::{Mapped, Table};

pub(crate) const TABLE: Table = &[(MICROSOFT, "MoE", mixture)];

fn mixture(cx: &mut NodeCx) -> Mapped {
    refuse_inputs(cx, &[(6, "fc3_experts_weights"), (7, "fc3_experts_bias")])?;
    for name in ["use_sparse_mixer", "swiglu_limit_after_activation"] {
        if cx.attrs.int_or(name, 0)? != 0 {
            return Err(MapError::Unsupported(format!("`{name}` is not supported")));
        }
    }
    let (x, router) = (cx.input(0)?, cx.input(1)?);
    let (first, second) = ((cx.input(2)?, cx.optional(3)), (cx.input(4)?, cx.optional(5)));
    let size = last_extent(cx, x, "`input`")?;
    let rows = reshaped(cx, x, &[1, -1, size])?;
    let inner = product(cx, rows, first)?;
    let inner = activated(cx, inner)?;
    let outer = product(cx, inner, second)?;
    let shares = shares(cx, router)?;
    let (zero, none) = (scalar_like(cx, shares, 0.0)?, scalar_like(cx, outer, 0.0)?);
    let chosen = cx.emit1(math::Greater {}, &[shares, zero])?;
    let parts = cx.emit1(math::Mul {}, &[outer, shares])?;
    let parts = cx.emit1(math::Where {}, &[chosen, parts, none])?;
    let sum = summed(cx, parts, 0)?;
    let shape = cx.emit1(tensor::ShapeOf { start: 0, end: i64::MAX }, &[x])?;
    Ok(vec![cx.emit1(tensor::Reshape { allow_zero: false }, &[sum, shape])?])
}

/// The sum of `x` over an axis, which goes.
fn summed(cx: &mut NodeCx, x: Value, axis: i64) -> Result<Value, MapError> {
    let sum = math::Reduce { all_if_empty: false, kind: ReduceKind::Sum, axes: vec![axis], keep_dims: false };
    cx.emit1(sum, &[x])
}

/// The rows times the matrix of each expert, `[experts, outputs, inputs]`, and its bias: `[experts, rows, outputs]`.
fn product(cx: &mut NodeCx, rows: Value, (weights, bias): (Value, Option<Value>)) -> Result<Value, MapError> {
    let weights = cx.emit1(tensor::Transpose { perm: vec![0, 2, 1] }, &[weights])?;
    let y = cx.emit1(math::MatMul::default(), &[rows, weights])?;
    let bias = bias.map(|bias| unsqueezed(cx, bias, &[1])).transpose()?;
    plus(cx, y, bias)
}

fn activated(cx: &mut NodeCx, x: Value) -> Result<Value, MapError> {
    let name = cx.attrs.string_or("activation_type", "relu")?;
    let (alpha, beta) = (cx.attrs.float_or("activation_alpha", 1.0)?, cx.attrs.float_or("activation_beta", 0.0)?);
    let (limit, layout) = (cx.attrs.float("swiglu_limit")?, cx.attrs.int_or("swiglu_fusion", 0)?);
    match name.as_str() {
        "relu" => cx.emit1(math::Relu {}, &[x]),
        "gelu" => cx.emit1(math::Gelu { approximate: true }, &[x]),
        "silu" => cx.emit1(math::Swish { alpha: Real(1.0) }, &[x]),
        "identity" => Ok(x),
        "swiglu" if layout == 1 => swiglu(cx, x, [alpha, beta], limit),
        "swiglu" => {
            let reason = format!("`swiglu_fusion` is {layout}, supported is 1, as on ONNX Runtime's CPUs");
            Err(MapError::Unsupported(reason))
        }
        other => Err(MapError::Unsupported(format!("`activation_type` \"{other}\" is not supported"))),
    }
}

/// Of each two neighbours, the first gates the second.
fn swiglu(cx: &mut NodeCx, x: Value, [alpha, beta]: [f32; 2], limit: Option<f32>) -> Result<Value, MapError> {
    let pairs = reshaped(cx, x, &[0, 0, -1, 2])?;
    let parts = cx.emit(tensor::Split { axis: 3, parts: 0, sizes: vec![1, 1] }, &[Some(pairs)])?;
    let last = list(cx, &[3])?;
    let mut gate = cx.emit1(tensor::Squeeze {}, &[parts[0], last])?;
    let mut linear = cx.emit1(tensor::Squeeze {}, &[parts[1], last])?;
    if let Some(limit) = limit {
        let (low, high) = (scalar_like(cx, x, -f64::from(limit))?, scalar_like(cx, x, limit.into())?);
        gate = cx.emit1(math::Min {}, &[gate, high])?;
        linear = cx.emit1(math::Clip {}, &[linear, low, high])?;
    }
    let gate = cx.emit1(math::Swish { alpha: Real(alpha) }, &[gate])?;
    let beta = scalar_like(cx, x, beta.into())?;
    let linear = cx.emit1(math::Add {}, &[linear, beta])?;
    cx.emit1(math::Mul {}, &[gate, linear])
}

/// The share of each expert in each row, `[experts, rows, 1]`: the probabilities of the best, and 0 of others.
fn shares(cx: &mut NodeCx, router: Value) -> Result<Value, MapError> {
    let k = cx.attrs.int_or("k", 1)?;
    let experts = last_extent(cx, router, "`router_probs`")?;
    if !(1..=experts).contains(&k) {
        return Err(MapError::Invalid(format!("`k` is {k} of {experts} experts")));
    }
    let all = cx.emit1(nn::Softmax { axis: -1, log: false }, &[router])?;
    let count = list(cx, &[k])?;
    let best = cx.emit(math::TopK { axis: -1, largest: true }, &[Some(all), Some(count)])?;
    let (mut share, place) = (best[0], unsqueezed(cx, best[1], &[2])?);
    if cx.attrs.flag("normalize_routing_weights", false)? {
        let sum = math::Reduce { all_if_empty: false, kind: ReduceKind::Sum, axes: vec![-1], keep_dims: true };
        let sum = cx.emit1(sum, &[share])?;
        share = cx.emit1(math::Div {}, &[share, sum])?;
    }
    let (share, end) = (unsqueezed(cx, share, &[2])?, list(cx, &[experts])?);
    let (each, zero) = (counted(cx, end)?, scalar_like(cx, share, 0.0)?);
    let is_place = cx.emit1(math::Equal {}, &[place, each])?;
    let spread = cx.emit1(math::Where {}, &[is_place, share, zero])?;
    let spread = summed(cx, spread, 1)?;
    let turned = cx.emit1(tensor::Transpose { perm: vec![1, 0] }, &[spread])?;
    unsqueezed(cx, turned, &[2])
}
