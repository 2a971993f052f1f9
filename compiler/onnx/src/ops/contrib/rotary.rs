//! Rotary position embeddings whose angles are looked up by position.

use optc_ir::ops::{nn, tensor};
use optc_ir::{Dim, Value};
use optc_tensor::Tensor;

use super::MICROSOFT;
use crate::mapping::{MapError, NodeCx};
use crate::ops::attention::{join_heads, list};
use crate::ops::{Mapped, Table, rank_of};

pub(crate) const TABLE: Table = &[(MICROSOFT, "RotaryEmbedding", rotary_embedding)];

/// As the standard's op, but for the order of its operands, positions that may be given by their first one, and heads
/// whose size may follow from that of the angles.
fn rotary_embedding(cx: &mut NodeCx) -> Mapped {
    let scale = cx.attrs.float_or("scale", 1.0)?;
    if scale != 1.0 {
        return Err(MapError::Unsupported(format!("`scale` is {scale}, supported is 1")));
    }
    if cx.attrs.flag("is_packed_batching", false)? {
        return Err(MapError::Unsupported("`is_packed_batching` is not supported".into()));
    }
    let (dims, interleaved) = (cx.attrs.int_or("rotary_embedding_dim", 0)?, cx.attrs.flag("interleaved", false)?);
    let heads = cx.attrs.int_or("num_heads", 0)?;
    let (mut x, positions, cos, sin) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.input(3)?);
    let flat = rank_of(cx, x)? == 3;
    let along = if flat { 1 } else { 2 };
    let positions = if rank_of(cx, positions)? == 1 { counted(cx, positions, x, along)? } else { positions };
    if flat {
        let split = match heads {
            1.. => [0, 0, heads, -1],
            _ => [0, 0, -1, 2 * last_extent(cx, cos, "`cos_cache`")?],
        };
        let split = list(cx, &split)?;
        x = cx.emit1(tensor::Reshape { allow_zero: false }, &[x, split])?;
        x = cx.emit1(tensor::Transpose { perm: vec![0, 2, 1, 3] }, &[x])?;
    }
    let y = cx.emit1(nn::RotaryEmbedding { dims, interleaved }, &[x, cos, sin, positions])?;
    Ok(vec![if flat { join_heads(cx, y)? } else { y }])
}

/// The positions `first, first + 1, …` of each row of `x`, whose rows go along an axis.
fn counted(cx: &mut NodeCx, first: Value, x: Value, along: i64) -> Result<Value, MapError> {
    let none = list(cx, &[])?;
    let first = cx.emit1(tensor::Reshape { allow_zero: false }, &[first, none])?;
    let (rows, items) = (tensor::ShapeOf { start: along, end: along + 1 }, tensor::ShapeOf { start: 0, end: 1 });
    let (rows, items) = (cx.emit1(rows, &[x])?, cx.emit1(items, &[x])?);
    let scalar = cx.emit1(tensor::Reshape { allow_zero: false }, &[rows, none])?;
    let end = cx.emit1(optc_ir::ops::math::Add {}, &[first, scalar])?;
    let one = cx.constant(Tensor::scalar(1i64));
    let counted = cx.emit1(tensor::Range {}, &[first, end, one])?;
    let shape = cx.emit1(tensor::Concat { axis: 0 }, &[items, rows])?;
    cx.emit1(tensor::Expand {}, &[counted, shape])
}

/// The last extent of a value, which must be known.
pub(super) fn last_extent(cx: &NodeCx, v: Value, name: &str) -> Result<i64, MapError> {
    let last = cx.ty(v).as_tensor().and_then(|t| t.shape.as_ref()?.last().and_then(Dim::known));
    last.map(|n| n as i64).ok_or_else(|| MapError::Unsupported(format!("the last extent of {name} is not known")))
}
