//! Attention of several heads, as ONNX Runtime's optimizer writes it.

use optc_ir::ops::nn::{self, AttentionScores};
use optc_ir::ops::{math, tensor};
use optc_ir::{Real, Value};
use optc_tensor::Tensor;

use super::rotary::last_extent;
use super::{MICROSOFT, plus, refuse_inputs, refuse_outputs};
use crate::mapping::{MapError, NodeCx};
use crate::ops::attention::{join_heads, list, split_heads};
use crate::ops::norm::scalar_like;
use crate::ops::{Mapped, Table, rank_of};

pub(crate) const TABLE: Table =
    &[(MICROSOFT, "MultiHeadAttention", several_heads), (MICROSOFT, "Attention", projected)];

/// Queries, keys and values have three dims each; keys and values of the past come before those of the node, and are
/// results together with them.
fn several_heads(cx: &mut NodeCx) -> Mapped {
    cx.attrs.ignore(&["num_heads"]); // read with the operands that it splits
    refuse_inputs(cx, &[(8, "past_sequence_length"), (9, "cache_indirection")])?;
    refuse_outputs(cx, &[(3, "qk")])?;
    let operands = [0, 1, 2].map(|i| cx.optional(i));
    let [Some(q), Some(k), Some(v)] = operands else {
        return Err(MapError::Unsupported("queries, keys and values in one input are not supported".into()));
    };
    for (v, name) in [(q, "query"), (k, "key"), (v, "value")] {
        let rank = rank_of(cx, v)?;
        if rank != 3 {
            return Err(MapError::Unsupported(format!("`{name}` has rank {rank}, supported is 3")));
        }
    }
    let [q, k, v] = biased(cx, [q, k, v])?;
    let q = split_heads(cx, q, "num_heads")?;
    let (mut k, mut v) = (split_heads(cx, k, "num_heads")?, split_heads(cx, v, "num_heads")?);
    let mut offset = None;
    if let (Some(past_k), Some(past_v)) = (cx.optional(6), cx.optional(7)) {
        k = cx.emit1(tensor::Concat { axis: 2 }, &[past_k, k])?;
        v = cx.emit1(tensor::Concat { axis: 2 }, &[past_v, v])?;
        offset = Some(cx.emit1(tensor::ShapeOf { start: 2, end: 3 }, &[past_k])?);
    }
    let mask = mask(cx, q, cx.optional(4))?;
    let y = attended(cx, [q, k, v], mask, offset)?;
    Ok(vec![y, k, v])
}

/// Queries, keys and values are products of one operand, whose weights and biases lie side by side.
fn projected(cx: &mut NodeCx) -> Mapped {
    cx.attrs.ignore(&["num_heads"]); // read with the operands that it splits
    refuse_inputs(cx, &[(4, "past"), (6, "past_sequence_length")])?;
    refuse_outputs(cx, &[(1, "present")])?;
    for name in ["do_rotary", "past_present_share_buffer", "rotary_embedding_dim"] {
        if cx.attrs.int_or(name, 0)? != 0 {
            return Err(MapError::Unsupported(format!("`{name}` is not supported")));
        }
    }
    let (x, weights, bias) = (cx.input(0)?, cx.input(1)?, cx.optional(2));
    let all = last_extent(cx, weights, "`weights`")?;
    let sizes = match cx.attrs.ints("qkv_hidden_sizes")? {
        Some(sizes) => sizes,
        None => vec![all / 3; 3],
    };
    let product = cx.emit1(math::MatMul::default(), &[x, weights])?;
    let sum = plus(cx, product, bias)?;
    let parts = cx.emit(tensor::Split { axis: -1, parts: 0, sizes }, &[Some(sum)])?;
    let &[q, k, v] = &parts[..] else {
        return Err(MapError::Invalid("`qkv_hidden_sizes` has not three elements".into()));
    };
    let q = split_heads(cx, q, "num_heads")?;
    let (k, v) = (split_heads(cx, k, "num_heads")?, split_heads(cx, v, "num_heads")?);
    let mask = mask(cx, q, cx.optional(3))?;
    Ok(vec![attended(cx, [q, k, v], mask, None)?])
}

/// The attention itself, its heads side by side; `offset` is where the first query stands, 0 where it is not given.
fn attended(
    cx: &mut NodeCx,
    [q, k, v]: [Value; 3],
    mask: Option<Value>,
    mut offset: Option<Value>,
) -> Result<Value, MapError> {
    let causal = cx.attrs.flag("unidirectional", false)?;
    if causal && offset.is_none() {
        offset = Some(list(cx, &[0])?);
    }
    let op = nn::Attention {
        causal,
        formula: false,
        left: -1,
        right: -1,
        scale: Real(cx.attrs.float_or("scale", 0.0)?),
        scores: AttentionScores::Absent,
        softcap: Real(0.0),
    };
    let y = cx.emit(op, &[Some(q), Some(k), Some(v), mask, None, offset])?[0];
    join_heads(cx, y)
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

/// What is added to the scores: a large negative number for keys that are padding, and what the node is given.
fn mask(cx: &mut NodeCx, q: Value, padding: Option<Value>) -> Result<Option<Value>, MapError> {
    let given = cx.optional(5);
    let Some(padding) = padding else { return Ok(given) };
    let rank = rank_of(cx, padding)?;
    if rank != 2 {
        return Err(MapError::Unsupported(format!("the mask of keys has rank {rank}, supported is 2")));
    }
    let far = f64::from(cx.attrs.float_or("mask_filter_value", -10_000.0)?);
    let (zero, far) = (scalar_like(cx, q, 0.0)?, scalar_like(cx, q, far)?);
    let none = Tensor::from_i64(cx.dtype(padding)?, &[], &[0])?;
    let none = cx.constant(none);
    let seen = cx.emit1(math::Greater {}, &[padding, none])?;
    let added = cx.emit1(math::Where {}, &[seen, zero, far])?;
    let axes = list(cx, &[1, 2])?;
    let added = cx.emit1(tensor::Unsqueeze {}, &[added, axes])?;
    plus(cx, added, given).map(Some)
}
