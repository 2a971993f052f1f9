//! Attention, rotary embedding and causal convolution.

use optc_ir::ops::nn::{self, AttentionScores, UpdateRule};
use optc_ir::ops::{math, tensor};
use optc_ir::{Real, Value};
use optc_tensor::Tensor;

use super::conv::channels;
use super::{Mapped, Table, rank_of};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    ("", "Attention", attention),
    ("", "LinearAttention", linear_attention),
    ("", "RotaryEmbedding", rotary_embedding),
    ("", "CausalConvWithState", causal_conv),
];

/// A constant list of integers.
pub(super) fn list(cx: &mut NodeCx, v: &[i64]) -> Result<Value, MapError> {
    Ok(cx.constant(Tensor::from_slice(&[v.len()], v)?))
}

/// `[B, S, heads · E]` as `[B, heads, S, E]`.
pub(super) fn split_heads(cx: &mut NodeCx, x: Value, name: &str) -> Result<Value, MapError> {
    let missing = || MapError::Invalid(format!("attribute `{name}` is missing, which operands of rank 3 need"));
    let heads = cx.attrs.int(name)?.filter(|&h| h > 0).ok_or_else(missing)?;
    let shape = list(cx, &[0, 0, heads, -1])?;
    let split = cx.emit1(tensor::Reshape { allow_zero: false }, &[x, shape])?;
    cx.emit1(tensor::Transpose { perm: vec![0, 2, 1, 3] }, &[split])
}

/// `[B, H, S, E]` as `[B, S, H · E]`.
pub(super) fn join_heads(cx: &mut NodeCx, x: Value) -> Result<Value, MapError> {
    let moved = cx.emit1(tensor::Transpose { perm: vec![0, 2, 1, 3] }, &[x])?;
    let shape = list(cx, &[0, 0, -1])?;
    cx.emit1(tensor::Reshape { allow_zero: false }, &[moved, shape])
}

/// The dtype of the softmax is ignored: all steps are at least as wide. Keys and values of the past come before those
/// of the node, and are results together with them.
fn attention(cx: &mut NodeCx) -> Mapped {
    cx.attrs.ignore(&["softmax_precision", "q_num_heads", "kv_num_heads"]);
    let mode = cx.attrs.int_or("qk_matmul_output_mode", 0)?;
    let scores = match (cx.node.output.get(3).is_some_and(|name| !name.is_empty()), mode) {
        (false, 0..=3) => AttentionScores::Absent,
        (true, 0) => AttentionScores::Raw,
        (true, 1) => AttentionScores::Capped,
        (true, 2) => AttentionScores::Masked,
        (true, 3) => AttentionScores::Probabilities,
        _ => return Err(MapError::Invalid(format!("`qk_matmul_output_mode` is {mode}"))),
    };
    let op = nn::Attention {
        causal: cx.attrs.flag("is_causal", false)?,
        formula: false,
        left: cx.attrs.int_or("left_window_size", -1)?,
        right: cx.attrs.int_or("right_window_size", -1)?,
        scale: Real(cx.attrs.float_or("scale", 0.0)?),
        scores,
        softcap: Real(cx.attrs.float_or("softcap", 0.0)?),
    };
    let (mut q, mut k, mut v) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let flat = rank_of(cx, q)? == 3;
    if flat {
        q = split_heads(cx, q, "q_num_heads")?;
        k = split_heads(cx, k, "kv_num_heads")?;
        v = split_heads(cx, v, "kv_num_heads")?;
    }
    let mut offset = None;
    if let (Some(past_k), Some(past_v)) = (cx.optional(4), cx.optional(5)) {
        k = cx.emit1(tensor::Concat { axis: 2 }, &[past_k, k])?;
        v = cx.emit1(tensor::Concat { axis: 2 }, &[past_v, v])?;
        offset = Some(cx.emit1(tensor::ShapeOf { start: 2, end: 3 }, &[past_k])?);
    }
    let (mask, lengths) = (cx.optional(3), cx.optional(6));
    let values = cx.emit(op, &[Some(q), Some(k), Some(v), mask, lengths, offset])?;
    let y = if flat { join_heads(cx, values[0])? } else { values[0] };
    let mut results = vec![y, k, v];
    results.extend(values.get(1));
    Ok(results)
}

pub(super) fn linear_attention(cx: &mut NodeCx) -> Mapped {
    cx.attrs.ignore(&["chunk_size"]); // a hint for implementations
    let missing = |name: &str| MapError::Invalid(format!("attribute `{name}` is missing"));
    let op = nn::LinearAttention {
        kv_heads: cx.attrs.int("kv_num_heads")?.ok_or_else(|| missing("kv_num_heads"))?,
        q_heads: cx.attrs.int("q_num_heads")?.ok_or_else(|| missing("q_num_heads"))?,
        rule: cx.attrs.text_or("update_rule", UpdateRule::GatedDelta)?,
        scale: Real(cx.attrs.float_or("scale", 0.0)?),
    };
    cx.input(0)?;
    let operands: Vec<_> = (0..6).map(|i| cx.optional(i)).collect();
    cx.emit(op, &operands)
}

fn rotary_embedding(cx: &mut NodeCx) -> Mapped {
    cx.attrs.ignore(&["num_heads"]);
    let (dims, interleaved) = (cx.attrs.int_or("rotary_embedding_dim", 0)?, cx.attrs.flag("interleaved", false)?);
    let mut x = cx.input(0)?;
    let flat = rank_of(cx, x)? == 3;
    if flat {
        x = split_heads(cx, x, "num_heads")?;
    }
    let operands = [Some(x), Some(cx.input(1)?), Some(cx.input(2)?), cx.optional(3)];
    let y = cx.emit(nn::RotaryEmbedding { dims, interleaved }, &operands)?[0];
    Ok(vec![if flat { join_heads(cx, y)? } else { y }])
}

/// A depthwise convolution that sees the state, or zeros, before the operand; the last `k − 1` positions are the next
/// state.
pub(super) fn causal_conv(cx: &mut NodeCx) -> Mapped {
    let activation = cx.attrs.string_or("activation", "none")?;
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let (groups, kernel) = (channels(cx, x)? as i64, super::window::weights_kernel(cx, w)?);
    let [kernel] = kernel[..] else { return Err(MapError::Invalid("the weights are not of rank 3".to_owned())) };
    let whole = match cx.optional(3) {
        Some(past) => cx.emit1(tensor::Concat { axis: 2 }, &[past, x])?,
        None => {
            let dtype = cx.dtype(x)?;
            let batch = cx.emit1(tensor::ShapeOf { start: 0, end: 1 }, &[x])?;
            let rest = list(cx, &[groups, (kernel - 1).max(0)])?;
            let shape = cx.emit1(tensor::Concat { axis: 0 }, &[batch, rest])?;
            let zero = optc_ir::Const(Tensor::from_f64(dtype, &[1], &[0.0])?);
            let zeros = cx.emit1(tensor::Fill { value: zero }, &[shape])?;
            cx.emit1(tensor::Concat { axis: 2 }, &[zeros, x])?
        }
    };
    let bias = cx.optional(2);
    let op = nn::Conv { groups, ..nn::Conv::default() };
    let mut y = cx.emit(op, &[Some(whole), Some(w), bias])?[0];
    match activation.as_str() {
        "none" => (),
        "silu" | "swish" => {
            let gate = cx.emit1(math::Sigmoid {}, &[y])?;
            y = cx.emit1(math::Mul {}, &[y, gate])?;
        }
        other => return Err(MapError::Invalid(format!("there is no activation \"{other}\""))),
    }
    // With a kernel of one the state is empty: it starts at the end.
    let start = list(cx, &[if kernel > 1 { 1 - kernel } else { i64::MAX }])?;
    let (end, axis) = (list(cx, &[i64::MAX])?, list(cx, &[2])?);
    let state = cx.emit1(tensor::Slice {}, &[whole, start, end, axis])?;
    Ok(vec![y, state])
}
