//! Attention of groups of heads over a cache of keys and values, as onnxruntime-genai writes decoders.
//!
//! The keys of a sequence are the first `seqlens_k + 1` rows of its part of the cache, the last of them those of the
//! node. Everything else of a cache that is a result is zero, as where ONNX Runtime has a buffer of its own for it.

use optc_ir::ops::nn::{self, AttentionScores};
use optc_ir::ops::tensor::PadMode;
use optc_ir::ops::{math, tensor};
use optc_ir::{Real, Value};
use optc_tensor::DType;

use super::rotary::last_extent;
use super::{MICROSOFT, counted, extent_of, integer, refuse_inputs, refuse_outputs, reshaped, unsqueezed, wide};
use crate::mapping::{MapError, NodeCx};
use crate::ops::attention::{join_heads, list, split_heads};
use crate::ops::norm::scalar_like;
use crate::ops::{Mapped, Table, rank_of};

pub(crate) const TABLE: Table = &[(MICROSOFT, "GroupQueryAttention", group_query)];

/// Where the rows of a node stand in their sequences. All are `i64`.
struct Places {
    /// How many rows the node has for each sequence, as a list of one.
    rows: Value,
    /// How many keys the longest sequence has, as a list of one.
    total: Value,
    /// How many keys each sequence has.
    keys: Value,
    /// How many rows of each sequence are not padding, where the node says so.
    valid: Option<Value>,
    /// How many keys of each sequence are of the past.
    past: Value,
    /// The place of each row, `[batch, rows]`.
    at: Value,
}

fn group_query(cx: &mut NodeCx) -> Mapped {
    refuse(cx)?;
    let [q, mut k, v] = operands(cx)?;
    let places = places(cx, q)?;
    let [mut q, v] = [split_heads(cx, q, "num_heads")?, split_heads(cx, v, "kv_num_heads")?];
    k = split_heads(cx, k, "kv_num_heads")?;
    if cx.attrs.flag("do_rotary", false)? {
        let at = angles_at(cx, &places)?;
        q = rotated(cx, q, at)?;
        k = rotated(cx, k, at)?;
    }
    cx.attrs.ignore(&["rotary_interleaved", "qk_output"]); // of what is not there
    let (k, v) = match (cx.optional(3), cx.optional(4)) {
        (Some(past_k), Some(past_v)) => (cached(cx, past_k, k, &places)?, cached(cx, past_v, v, &places)?),
        (None, None) => (k, v),
        _ => return Err(MapError::Invalid("only one of `past_key` and `past_value` is given".into())),
    };
    let seen = seen(cx, k, &places)?;
    let y = attended(cx, q, k, v, seen)?;
    Ok(vec![y, k, v])
}

/// Refuses what ONNX Runtime does not do on CPUs, or what is not mapped.
fn refuse(cx: &NodeCx) -> Result<(), MapError> {
    refuse_inputs(cx, &[(12, "k_scale"), (13, "v_scale"), (14, "q_norm_weight"), (15, "k_norm_weight")])?;
    refuse_outputs(cx, &[(3, "output_qk")])?;
    for name in ["k_quant_type", "v_quant_type"] {
        let kind = cx.attrs.string_or(name, "NONE")?;
        if kind != "NONE" {
            return Err(MapError::Unsupported(format!("`{name}` is \"{kind}\": caches of integers are not supported")));
        }
    }
    for name in ["kv_cache_bit_width", "sliding_window_cache"] {
        if cx.attrs.int_or(name, 0)? != 0 {
            return Err(MapError::Unsupported(format!("`{name}` is not supported")));
        }
    }
    cx.attrs.ignore(&["qk_norm_epsilon", "q_norm_epsilon", "k_norm_epsilon"]); // of inputs that are refused
    Ok(())
}

/// Queries, keys and values, which may lie side by side in the first input.
fn operands(cx: &mut NodeCx) -> Result<[Value; 3], MapError> {
    let q = cx.input(0)?;
    let [q, k, v] = match (cx.optional(1), cx.optional(2)) {
        (Some(k), Some(v)) => [q, k, v],
        (None, None) => {
            let (heads, groups) = (cx.attrs.int_or("num_heads", 0)?, cx.attrs.int_or("kv_num_heads", 0)?);
            let (all, each) = (last_extent(cx, q, "`query`")?, heads.saturating_add(groups.saturating_mul(2)));
            if heads < 1 || groups < 1 || all % each != 0 {
                let reason = format!("{all} elements are not those of {heads} heads and {groups} groups");
                return Err(MapError::Invalid(reason));
            }
            let size = all / each;
            let sizes = vec![heads * size, groups * size, groups * size];
            let parts = cx.emit(tensor::Split { axis: -1, parts: 0, sizes }, &[Some(q)])?;
            [parts[0], parts[1], parts[2]]
        }
        _ => return Err(MapError::Invalid("only one of `key` and `value` is given".into())),
    };
    for (v, name) in [(q, "query"), (k, "key"), (v, "value")] {
        let rank = rank_of(cx, v)?;
        if rank != 3 {
            return Err(MapError::Unsupported(format!("`{name}` has rank {rank}, supported is 3")));
        }
    }
    Ok([q, k, v])
}

/// A sequence with fewer keys than the node has rows has no past, and padding after its rows.
fn places(cx: &mut NodeCx, q: Value) -> Result<Places, MapError> {
    let (last, total) = (cx.input(5)?, cx.input(6)?);
    let (last, total) = (wide(cx, last)?, wide(cx, total)?);
    let (last, total) = (reshaped(cx, last, &[-1])?, reshaped(cx, total, &[1])?);
    let (one, rows) = (integer(cx, 1), extent_of(cx, q, 1)?);
    let keys = cx.emit1(math::Add {}, &[last, one])?;
    let valid = cx.optional(16).map(|valid| wide(cx, valid)).transpose()?;
    let new = valid.map_or_else(|| cx.emit1(math::Min {}, &[keys, rows]), Ok)?;
    let past = cx.emit1(math::Sub {}, &[keys, new])?;
    let (first, i) = (unsqueezed(cx, past, &[1])?, counted(cx, rows)?);
    let at = cx.emit1(math::Add {}, &[first, i])?;
    Ok(Places { rows, total, keys, valid, past, at })
}

/// The places whose angles rotate the rows: those that the node gives, of which a first prompt uses only the first one,
/// or their own.
fn angles_at(cx: &mut NodeCx, places: &Places) -> Result<Value, MapError> {
    let i = counted(cx, places.rows)?;
    let zero = integer(cx, 0);
    let Some(given) = cx.optional(9) else {
        let Some(valid) = places.valid else { return Ok(places.at) };
        // Padding may stand after the last angle.
        let valid = unsqueezed(cx, valid, &[1])?;
        let is_row = cx.emit1(math::Less {}, &[i, valid])?;
        return cx.emit1(math::Where {}, &[is_row, places.at, zero]);
    };
    if places.valid.is_some() {
        return Ok(given);
    }
    let flat = reshaped(cx, given, &[-1])?;
    let first = list(cx, &[0])?;
    let first = cx.emit1(tensor::Gather { axis: 0 }, &[flat, first])?;
    let counted = cx.emit1(math::Add {}, &[first, i])?;
    let is_prompt = cx.emit1(math::Equal {}, &[places.rows, places.total])?;
    cx.emit1(math::Where {}, &[is_prompt, counted, given])
}

/// Heads rotated by the angles at these places.
fn rotated(cx: &mut NodeCx, x: Value, at: Value) -> Result<Value, MapError> {
    let (cos, sin) = (cx.input(7)?, cx.input(8)?);
    let (dims, interleaved) = (2 * last_extent(cx, cos, "`cos_cache`")?, cx.attrs.flag("rotary_interleaved", false)?);
    cx.emit1(nn::RotaryEmbedding { dims, interleaved }, &[x, cos, sin, at])
}

/// The cache, which grows to the longest sequence, with the node's rows after those of the past, and zeros after them.
fn cached(cx: &mut NodeCx, past: Value, new: Value, places: &Places) -> Result<Value, MapError> {
    let room = extent_of(cx, past, 2)?;
    let all = cx.emit1(math::Max {}, &[room, places.total])?;
    let grown = grown(cx, past, 2, [room, all])?;
    let kept = up_to(cx, grown, places.past)?;
    let all = cx.emit1(tensor::UpdateCache { axis: -2, circular: false }, &[kept, new, places.past])?;
    if places.valid.is_some() { up_to(cx, all, places.keys) } else { Ok(all) }
}

/// The first rows of each sequence of a cache, and zeros.
fn up_to(cx: &mut NodeCx, cache: Value, ends: Value) -> Result<Value, MapError> {
    let (rows, ends) = (extent_of(cx, cache, 2)?, unsqueezed(cx, ends, &[1, 2, 3])?);
    let j = counted(cx, rows)?;
    let j = unsqueezed(cx, j, &[1])?;
    let (kept, zero) = (cx.emit1(math::Less {}, &[j, ends])?, scalar_like(cx, cache, 0.0)?);
    cx.emit1(math::Where {}, &[kept, cache, zero])
}

/// Which keys of the cache a row sees, `[batch, 1, rows, keys]`: those of its sequence, and where the attention is
/// causal none after its own place, nor as many before as a window says.
fn seen(cx: &mut NodeCx, k: Value, places: &Places) -> Result<Value, MapError> {
    let causal = cx.attrs.flag("causal", true)?;
    let window = cx.attrs.int_or("local_window_size", -1)?;
    if window >= 0 && !causal {
        return Err(MapError::Invalid(format!("`local_window_size` is {window} where `causal` is 0")));
    }
    let all = extent_of(cx, k, 2)?;
    let (j, ends) = (counted(cx, all)?, unsqueezed(cx, places.keys, &[1, 2, 3])?);
    let seen = cx.emit1(math::Less {}, &[j, ends])?;
    if !causal {
        return Ok(seen);
    }
    let at = unsqueezed(cx, places.at, &[1, 3])?;
    let before = cx.emit1(math::LessEqual {}, &[j, at])?;
    let seen = cx.emit1(math::And {}, &[seen, before])?;
    if window < 0 {
        return Ok(seen);
    }
    let window = integer(cx, window);
    let out = cx.emit1(math::Sub {}, &[at, window])?;
    let inside = cx.emit1(math::Greater {}, &[j, out])?;
    cx.emit1(math::And {}, &[seen, inside])
}

/// The attention of the rows over the cache, its heads side by side.
fn attended(cx: &mut NodeCx, q: Value, mut k: Value, mut v: Value, seen: Value) -> Result<Value, MapError> {
    let mut mask = seen;
    if let Some(bias) = cx.optional(10) {
        let bias = widened(cx, bias, k)?;
        let never = scalar_like(cx, q, f64::NEG_INFINITY)?;
        mask = cx.emit1(math::Where {}, &[seen, bias, never])?;
    }
    let sink = match (cx.optional(11), cx.attrs.int_or("smooth_softmax", -1)?) {
        (Some(sink), _) => Some(sink),
        (None, 1..) => {
            let heads = cx.attrs.int_or("num_heads", 0)?.max(1);
            let zero = scalar_like(cx, q, 0.0)?;
            let heads = list(cx, &[heads])?;
            Some(cx.emit1(tensor::Expand {}, &[zero, heads])?)
        }
        (None, _) => None,
    };
    if let Some(sink) = sink {
        mask = sunk(cx, q, mask, sink)?;
        (k, v) = (with_zeros(cx, k)?, with_zeros(cx, v)?);
    }
    let op = nn::Attention {
        causal: false,
        formula: false,
        left: -1,
        right: -1,
        scale: Real(cx.attrs.float_or("scale", 0.0)?),
        scores: AttentionScores::Absent,
        softcap: Real(cx.attrs.float_or("softcap", 0.0)?),
    };
    let y = cx.emit(op, &[Some(q), Some(k), Some(v), Some(mask), None, None])?[0];
    join_heads(cx, y)
}

/// What is added to the scores, as wide as the cache, which may have room for more keys than there are.
fn widened(cx: &mut NodeCx, bias: Value, k: Value) -> Result<Value, MapError> {
    let (keys, all) = (extent_of(cx, bias, 3)?, extent_of(cx, k, 2)?);
    grown(cx, bias, 3, [keys, all])
}

/// `x` with zeros after it, so that its extent along an axis is another one.
fn grown(cx: &mut NodeCx, x: Value, axis: i64, [from, to]: [Value; 2]) -> Result<Value, MapError> {
    let more = cx.emit1(math::Sub {}, &[to, from])?;
    let (zero, axis) = (list(cx, &[0])?, list(cx, &[axis])?);
    let by = cx.emit1(tensor::Concat { axis: 0 }, &[zero, more])?;
    let op = tensor::Pad { mode: PadMode::Constant, pads: vec![] };
    Ok(cx.emit(op, &[Some(x), None, Some(by), Some(axis)])?[0])
}

/// A mask with one more key, whose score is that of the head: where its value is zero, it only makes the others less.
fn sunk(cx: &mut NodeCx, q: Value, mask: Value, sink: Value) -> Result<Value, MapError> {
    let (zero, never) = (scalar_like(cx, q, 0.0)?, scalar_like(cx, q, f64::NEG_INFINITY)?);
    let added = match cx.dtype(mask)? {
        DType::Bool => cx.emit1(math::Where {}, &[mask, zero, never])?,
        _ => mask,
    };
    let (batch, heads) = (extent_of(cx, q, 0)?, extent_of(cx, q, 1)?);
    let (rows, keys) = (extent_of(cx, q, 2)?, extent_of(cx, mask, 3)?);
    let mut columns = vec![];
    let one = list(cx, &[1])?;
    let sink = reshaped(cx, sink, &[-1, 1, 1])?;
    for (part, width) in [(added, keys), (sink, one)] {
        let shape = cx.emit1(tensor::Concat { axis: 0 }, &[batch, heads, rows, width])?;
        columns.push(cx.emit1(tensor::Expand {}, &[part, shape])?);
    }
    cx.emit1(tensor::Concat { axis: 3 }, &columns)
}

/// Heads with one more row, of zeros.
fn with_zeros(cx: &mut NodeCx, x: Value) -> Result<Value, MapError> {
    let pads = vec![0, 0, 0, 0, 0, 0, 1, 0];
    cx.emit1(tensor::Pad { mode: PadMode::Constant, pads }, &[x])
}
