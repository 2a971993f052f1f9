//! Attention of several heads, as ONNX Runtime's optimizer writes it.

use optc_ir::ops::nn::{self, AttentionScores};
use optc_ir::ops::{math, tensor};
use optc_ir::{Real, Value};

use super::mask::{AttentionRows, alike, mask};
use super::rotary::last_extent;
use super::{MICROSOFT, extent_of, is_named, plus, refuse_flags, refuse_inputs, refuse_outputs, reshaped, unsqueezed};
use crate::mapping::{MapError, NodeCx};
use crate::ops::attention::{join_heads, list, split_heads};
use crate::ops::{Mapped, Table, rank_of};

pub(crate) const TABLE: Table =
    &[(MICROSOFT, "MultiHeadAttention", several_heads), (MICROSOFT, "Attention", projected)];

/// Keys and values of the past come before those of the node, and are results together with them.
fn several_heads(cx: &mut NodeCx) -> Mapped {
    cx.attrs.ignore(&["num_heads"]); // read with the operands that it splits
    refuse_inputs(cx, &[(8, "past_sequence_length"), (9, "cache_indirection")])?;
    refuse_outputs(cx, &[(3, "qk")])?;
    let [q, k, v] = heads(cx)?;
    let (even, masks) = (alike(cx, q, k, 2), [cx.optional(4), cx.optional(5)]);
    let past = match (cx.optional(6), cx.optional(7)) {
        (Some(past_k), Some(past_v)) => Some([past_k, past_v]),
        (None, None) => None,
        _ => return Err(MapError::Invalid("only one of `past_key` and `past_value` is given".into())),
    };
    let (y, k, v) = attended(cx, [q, k, v], past, even, masks)?;
    Ok(vec![y, k, v])
}

/// Queries, keys and values with their parts of the bias and split in heads. Keys and values of another sequence may be
/// split already, and then have their bias.
fn heads(cx: &mut NodeCx) -> Result<[Value; 3], MapError> {
    let q = cx.input(0)?;
    let operands = match (cx.optional(1), cx.optional(2)) {
        (Some(k), Some(v)) if rank_of(cx, k)? == 4 && rank_of(cx, v)? == 4 => {
            let mut q = q;
            if let Some(bias) = cx.optional(3) {
                let size = last_extent(cx, q, "`query`")?;
                let rest = last_extent(cx, bias, "`bias`")? - size;
                let parts = cx.emit(tensor::Split { axis: 0, parts: 0, sizes: vec![size, rest] }, &[Some(bias)])?;
                q = plus(cx, q, Some(parts[0]))?;
            }
            return Ok([split_heads(cx, q, "num_heads")?, k, v]);
        }
        (Some(k), Some(v)) => [q, k, v],
        (Some(kv), None) => {
            let [k, v] = unpacked(cx, kv, "key")?;
            [q, k, v]
        }
        (None, None) => unpacked(cx, q, "query")?,
        (None, Some(_)) => return Err(MapError::Input(1)),
    };
    for (v, name) in operands.into_iter().zip(["query", "key", "value"]) {
        let rank = rank_of(cx, v)?;
        if rank != 3 {
            return Err(MapError::Unsupported(format!("`{name}` has rank {rank}, supported is 3")));
        }
    }
    let [q, k, v] = biased(cx, operands)?;
    Ok([split_heads(cx, q, "num_heads")?, split_heads(cx, k, "num_heads")?, split_heads(cx, v, "num_heads")?])
}

/// The `N` operands that lie in one of `[batch, rows, heads, N, size]`, with their heads side by side.
fn unpacked<const N: usize>(cx: &mut NodeCx, x: Value, name: &str) -> Result<[Value; N], MapError> {
    let rank = rank_of(cx, x)?;
    if rank != 5 {
        return Err(MapError::Unsupported(format!("`{name}` has rank {rank}, expected 5 where others are absent")));
    }
    let parts = cx.emit(tensor::Split { axis: 3, parts: 0, sizes: vec![1; N] }, &[Some(x)])?;
    let parts = parts.into_iter().map(|part| reshaped(cx, part, &[0, 0, -1])).collect::<Result<Vec<_>, _>>()?;
    parts.try_into().map_err(|_| MapError::Invalid(format!("`{name}` does not hold {N} operands")))
}

/// Queries, keys and values are products of one operand, whose weights and biases lie side by side.
fn projected(cx: &mut NodeCx) -> Mapped {
    refuse_flags(cx, &["do_rotary", "past_present_share_buffer", "rotary_embedding_dim"])?;
    refuse_inputs(cx, &[(6, "past_sequence_length")])?;
    let (x, weights, bias) = (cx.input(0)?, cx.input(1)?, cx.optional(2));
    let product = cx.emit1(math::MatMul::default(), &[x, weights])?;
    let sum = plus(cx, product, bias)?;
    let all = last_extent(cx, weights, "`weights`")?;
    let sizes = cx.attrs.ints("qkv_hidden_sizes")?.unwrap_or_else(|| vec![all / 3; 3]);
    let masks = [cx.optional(3), cx.optional(5)];
    side_by_side(cx, sum, sizes, cx.optional(4), masks)
}

/// Attention of queries, keys and values that lie side by side in `x`. Keys and values of the past are one operand, and
/// one result with those of the node.
pub(super) fn side_by_side(
    cx: &mut NodeCx,
    x: Value,
    sizes: Vec<i64>,
    past: Option<Value>,
    masks: [Option<Value>; 2],
) -> Mapped {
    cx.attrs.ignore(&["num_heads"]); // read with the operands that it splits
    let parts = cx.emit(tensor::Split { axis: -1, parts: 0, sizes }, &[Some(x)])?;
    let &[q, k, v] = &parts[..] else {
        return Err(MapError::Invalid("`qkv_hidden_sizes` has not three elements".into()));
    };
    let q = split_heads(cx, q, "num_heads")?;
    let (k, v) = (split_heads(cx, k, "num_heads")?, split_heads(cx, v, "num_heads")?);
    let past = match past {
        Some(past) => {
            let parts = cx.emit(tensor::Split { axis: 0, parts: 0, sizes: vec![1, 1] }, &[Some(past)])?;
            Some([without_first(cx, parts[0])?, without_first(cx, parts[1])?])
        }
        None => None,
    };
    let (y, k, v) = attended(cx, [q, k, v], past, true, masks)?;
    if !is_named(cx, 1) {
        return Ok(vec![y]);
    }
    let (k, v) = (unsqueezed(cx, k, &[0])?, unsqueezed(cx, v, &[0])?);
    Ok(vec![y, cx.emit1(tensor::Concat { axis: 0 }, &[k, v])?])
}

/// `[1, batch, heads, rows, size]` without its first axis.
fn without_first(cx: &mut NodeCx, x: Value) -> Result<Value, MapError> {
    let axis = list(cx, &[0])?;
    cx.emit1(tensor::Squeeze {}, &[x, axis])
}

/// The attention itself with its heads side by side, and the keys and values of the past and the node. `masks` say what
/// is padding, and what is added to the scores.
fn attended(
    cx: &mut NodeCx,
    [q, mut k, mut v]: [Value; 3],
    past: Option<[Value; 2]>,
    even: bool,
    masks: [Option<Value>; 2],
) -> Result<(Value, Value, Value), MapError> {
    let mut length = None;
    if let Some([past_k, past_v]) = past {
        k = cx.emit1(tensor::Concat { axis: 2 }, &[past_k, k])?;
        v = cx.emit1(tensor::Concat { axis: 2 }, &[past_v, v])?;
        length = Some(extent_of(cx, past_k, 2)?);
    }
    let (mask, causal) = mask(cx, &AttentionRows { queries: q, keys: k, past: length, even }, masks)?;
    let offset = match (causal, length) {
        (true, None) => Some(list(cx, &[0])?),
        (true, length) => length,
        (false, _) => None,
    };
    let op = nn::Attention {
        causal,
        formula: true,
        left: -1,
        right: -1,
        scale: Real(cx.attrs.float_or("scale", 0.0)?),
        scores: AttentionScores::Absent,
        softcap: Real(0.0),
    };
    let y = cx.emit(op, &[Some(q), Some(k), Some(v), mask, None, offset])?[0];
    Ok((join_heads(cx, y)?, k, v))
}

/// The operands with their parts of the bias, if there is one.
fn biased(cx: &mut NodeCx, operands: [Value; 3]) -> Result<[Value; 3], MapError> {
    let Some(bias) = cx.optional(3) else { return Ok(operands) };
    let mut sizes = vec![];
    for v in operands {
        sizes.push(last_extent(cx, v, "an operand")?);
    }
    let parts = cx.emit(tensor::Split { axis: 0, parts: 0, sizes }, &[Some(bias)])?;
    let mut sums = operands;
    for (sum, part) in sums.iter_mut().zip(parts) {
        *sum = plus(cx, *sum, Some(part))?;
    }
    Ok(sums)
}
