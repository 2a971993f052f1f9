//! Rotary position embeddings whose angles are looked up by position.

use optc_ir::ops::{math, nn, tensor};
use optc_ir::{Dim, Value};
use optc_tensor::{DType, Tensor};

use super::MICROSOFT;
use crate::mapping::{MapError, NodeCx};
use crate::ops::attention::{join_heads, list};
use crate::ops::{Mapped, Table, rank_of};

pub(crate) const TABLE: Table =
    &[(MICROSOFT, "RotaryEmbedding", rotary_embedding), (MICROSOFT, "MRotaryEmbedding", of_three_positions)];

/// What is refused of both.
fn refuse(cx: &NodeCx) -> Result<(), MapError> {
    let scale = cx.attrs.float_or("scale", 1.0)?;
    if scale != 1.0 {
        return Err(MapError::Unsupported(format!("`scale` is {scale}, supported is 1")));
    }
    if cx.attrs.flag("is_packed_batching", false)? {
        return Err(MapError::Unsupported("`is_packed_batching` is not supported".into()));
    }
    Ok(())
}

/// As the standard's op, but for the order of its operands, positions that may be given by their first one, and heads
/// whose size may follow from that of the angles.
fn rotary_embedding(cx: &mut NodeCx) -> Mapped {
    refuse(cx)?;
    let (x, positions, cos, sin) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.input(3)?);
    let along = if rank_of(cx, x)? == 3 { 1 } else { 2 };
    let positions = if rank_of(cx, positions)? == 1 { counted(cx, positions, x, along)? } else { positions };
    rotated(cx, x, [cos, sin], Some(positions))
}

/// `x`, whose heads may lie side by side, rotated by the angles of its rows.
fn rotated(cx: &mut NodeCx, mut x: Value, [cos, sin]: [Value; 2], positions: Option<Value>) -> Mapped {
    let (dims, interleaved) = (cx.attrs.int_or("rotary_embedding_dim", 0)?, cx.attrs.flag("interleaved", false)?);
    let heads = cx.attrs.int_or("num_heads", 0)?;
    let flat = rank_of(cx, x)? == 3;
    if flat {
        let split = match heads {
            1.. => [0, 0, heads, -1],
            _ => [0, 0, -1, 2 * last_extent(cx, cos, "`cos_cache`")?],
        };
        let split = list(cx, &split)?;
        x = cx.emit1(tensor::Reshape { allow_zero: false }, &[x, split])?;
        x = cx.emit1(tensor::Transpose { perm: vec![0, 2, 1, 3] }, &[x])?;
    }
    let y = cx.emit(nn::RotaryEmbedding { dims, interleaved }, &[Some(x), Some(cos), Some(sin), positions])?[0];
    Ok(vec![if flat { join_heads(cx, y)? } else { y }])
}

/// Each row has three positions, `[3, batch, rows]`, and each of its angles is that of one of them: in three sections
/// one after the other, or in turn as far as the second and the third go, and then those of the first.
fn of_three_positions(cx: &mut NodeCx) -> Mapped {
    refuse(cx)?;
    let (x, positions, cos, sin) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.input(3)?);
    let half = last_extent(cx, cos, "`cos_cache`")?;
    let sections = cx.attrs.ints("mrope_section")?.unwrap_or_default();
    let &[time, height, width] = &sections[..] else {
        return Err(MapError::Invalid(format!("`mrope_section` has {} elements, expected 3", sections.len())));
    };
    if sections.iter().any(|&n| !(0..=half).contains(&n)) || time + height + width != half {
        return Err(MapError::Invalid(format!("`mrope_section` is {sections:?} for {half} angles")));
    }
    let of = match cx.attrs.int_or("mrope_layout", 0)? {
        0 => |k: i64, [time, height, _]: [i64; 3]| if k < time { 0 } else { 1 + i64::from(k >= time + height) },
        1 => |k: i64, [_, height, width]: [i64; 3]| match k % 3 {
            1 if k < 3 * height => 1,
            2 if k < 3 * width => 2,
            _ => 0,
        },
        other => return Err(MapError::Invalid(format!("`mrope_layout` is {other}, expected 0 or 1"))),
    };
    let of: Vec<i64> = (0..half).map(|k| of(k, [time, height, width])).collect();
    let angles = [chosen(cx, cos, positions, &of)?, chosen(cx, sin, positions, &of)?];
    rotated(cx, x, angles, None)
}

/// The rows of a table at three positions each, with each column from the position that `of` says.
fn chosen(cx: &mut NodeCx, table: Value, positions: Value, of: &[i64]) -> Result<Value, MapError> {
    let rows = cx.emit1(tensor::Gather { axis: 0 }, &[table, positions])?;
    let parts = cx.emit(tensor::Split { axis: 0, parts: 0, sizes: vec![1; 3] }, &[Some(rows)])?;
    let first = list(cx, &[0])?;
    let mut y = cx.emit1(tensor::Squeeze {}, &[parts[0], first])?;
    for (i, &part) in parts.iter().enumerate().skip(1) {
        let part = cx.emit1(tensor::Squeeze {}, &[part, first])?;
        let mask: Vec<i64> = of.iter().map(|&of| i64::from(of == i as i64)).collect();
        let mask = cx.constant(Tensor::from_i64(DType::Bool, &[of.len()], &mask)?);
        y = cx.emit1(math::Where {}, &[mask, part, y])?;
    }
    Ok(y)
}

/// The positions `first, first + 1, …` of each row of `x`, whose rows go along an axis.
fn counted(cx: &mut NodeCx, first: Value, x: Value, along: i64) -> Result<Value, MapError> {
    let none = list(cx, &[])?;
    let first = cx.emit1(tensor::Reshape { allow_zero: false }, &[first, none])?;
    let (rows, items) = (tensor::ShapeOf { start: along, end: along + 1 }, tensor::ShapeOf { start: 0, end: 1 });
    let (rows, items) = (cx.emit1(rows, &[x])?, cx.emit1(items, &[x])?);
    let scalar = cx.emit1(tensor::Reshape { allow_zero: false }, &[rows, none])?;
    let end = cx.emit1(math::Add {}, &[first, scalar])?;
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
