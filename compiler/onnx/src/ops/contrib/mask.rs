//! Which keys the queries of ONNX Runtime's attentions see, as what is added to their scores.
//!
//! A key that is padding gets the node's `mask_filter_value`, a key after its query the lowest number that there is:
//! a query that sees none of its keys weighs all of them alike.

use optc_ir::ops::math;
use optc_ir::{Dim, Value};
use optc_tensor::{DType, Tensor};

use super::{counted, extent_of, integer, part, plus, unsqueezed, wide};
use crate::mapping::{MapError, NodeCx};
use crate::ops::attention::list;
use crate::ops::norm::scalar_like;
use crate::ops::rank_of;

/// Queries and keys of an attention, `[batch, heads, rows, size]`.
pub(super) struct AttentionRows {
    pub queries: Value,
    /// Those of the past, if there are any, and those of the node.
    pub keys: Value,
    /// How many keys are of the past, as a list of one.
    pub past: Option<Value>,
    /// Whether the node has as many keys as queries.
    pub even: bool,
}

/// Whether two values are known to have one extent along an axis.
pub(super) fn alike(cx: &NodeCx, a: Value, b: Value, axis: usize) -> bool {
    let extent = |v: Value| cx.ty(v).as_tensor().and_then(|t| t.shape.as_ref()?.get(axis).cloned());
    extent(a).is_some_and(|n| n != Dim::Unknown && extent(b) == Some(n))
}

/// What is added to the scores, and whether keys after a query are still to be left out. The node may say what is
/// padding, and give what is added to the scores.
pub(super) fn mask(
    cx: &mut NodeCx,
    rows: &AttentionRows,
    [padding, given]: [Option<Value>; 2],
) -> Result<(Option<Value>, bool), MapError> {
    let causal = cx.attrs.flag("unidirectional", false)?;
    let far = f64::from(cx.attrs.float_or("mask_filter_value", -10_000.0)?);
    let padding = match padding {
        Some(padding) => padded(cx, rows, padding, far)?,
        None => None,
    };
    if !causal {
        return Ok((padding.map_or(Ok(given), |padding| plus(cx, padding, given).map(Some))?, false));
    }
    if padding.is_none() && given.is_none() && rows.even {
        return Ok((None, true));
    }
    let before = not_after(cx, rows)?;
    let lowest = match cx.dtype(rows.queries)? {
        DType::F16 => -65_504.0,
        _ => f64::from(f32::MIN),
    };
    let lowest = scalar_like(cx, rows.queries, lowest)?;
    let seen = padding.map_or_else(|| scalar_like(cx, rows.queries, 0.0), Ok)?;
    let added = cx.emit1(math::Where {}, &[before, seen, lowest])?;
    Ok((Some(plus(cx, added, given)?), false))
}

/// Whether a key does not come after a query, `[queries, keys]`. Where there are not as many keys as queries, the last
/// query sees all of them, as in ONNX Runtime.
fn not_after(cx: &mut NodeCx, rows: &AttentionRows) -> Result<Value, MapError> {
    let (queries, keys) = (extent_of(cx, rows.queries, 2)?, extent_of(cx, rows.keys, 2)?);
    let (i, j) = (counted(cx, queries)?, counted(cx, keys)?);
    let i = unsqueezed(cx, i, &[1])?;
    let at = plus(cx, i, rows.past)?;
    let before = cx.emit1(math::LessEqual {}, &[j, at])?;
    if rows.even {
        return Ok(before);
    }
    let one = integer(cx, 1);
    let last = cx.emit1(math::Sub {}, &[queries, one])?;
    let last = cx.emit1(math::Equal {}, &[i, last])?;
    cx.emit1(math::Or {}, &[before, last])
}

/// What padding adds, as it broadcasts to `[batch, heads, queries, keys]`: nothing is padding where the mask has one
/// element for each sequence of several keys.
fn padded(cx: &mut NodeCx, rows: &AttentionRows, padding: Value, far: f64) -> Result<Option<Value>, MapError> {
    let (seen, axes) = match rank_of(cx, padding)? {
        1 => (within(cx, rows, padding)?, &[1, 2][..]),
        2 if super::rotary::last_extent(cx, padding, "the mask").is_ok_and(|n| n == 1) => return Ok(None),
        rank @ (2 | 3) => {
            let none = Tensor::from_i64(cx.dtype(padding)?, &[], &[0])?;
            let none = cx.constant(none);
            let seen = cx.emit1(math::Greater {}, &[padding, none])?;
            (seen, if rank == 2 { &[1, 2][..] } else { &[1][..] })
        }
        rank => {
            let reason = format!("the mask of keys has rank {rank}, supported are 1 to 3, as on ONNX Runtime's CPUs");
            return Err(MapError::Unsupported(reason));
        }
    };
    let (zero, far) = (scalar_like(cx, rows.queries, 0.0)?, scalar_like(cx, rows.queries, far)?);
    let added = cx.emit1(math::Where {}, &[seen, zero, far])?;
    unsqueezed(cx, added, axes).map(Some)
}

/// Whether a key lies within its sequence, `[batch, keys]`. The bounds are how many keys each has, followed by the
/// first key of each, or by where sequences would start and end if they followed each other, which says nothing more.
fn within(cx: &mut NodeCx, rows: &AttentionRows, bounds: Value) -> Result<Value, MapError> {
    let (keys, batch) = (extent_of(cx, rows.keys, 2)?, extent_of(cx, rows.queries, 0)?);
    let j = counted(cx, keys)?;
    let (first, bounds_are) = (list(cx, &[0])?, bounds_are(cx, rows, bounds)?);
    let ends = part(cx, bounds, 0, [first, batch])?;
    let ends = column(cx, ends)?;
    let seen = cx.emit1(math::Less {}, &[j, ends])?;
    if bounds_are == Bounds::Lengths {
        return Ok(seen);
    }
    let end = list(cx, &[i64::MAX])?;
    let starts = part(cx, bounds, 0, [batch, end])?;
    let starts = column(cx, starts)?;
    let started = cx.emit1(math::GreaterEqual {}, &[j, starts])?;
    cx.emit1(math::And {}, &[seen, started])
}

/// A list of integers as a column.
fn column(cx: &mut NodeCx, x: Value) -> Result<Value, MapError> {
    let x = wide(cx, x)?;
    unsqueezed(cx, x, &[1])
}

/// What a mask of rank 1 holds.
#[derive(PartialEq)]
enum Bounds {
    /// Lengths, or these first.
    Lengths,
    /// Ends, then starts.
    EndsAndStarts,
}

fn bounds_are(cx: &NodeCx, rows: &AttentionRows, bounds: Value) -> Result<Bounds, MapError> {
    if alike(cx, bounds, rows.queries, 0) {
        return Ok(Bounds::Lengths);
    }
    let extent = |v: Value| cx.ty(v).as_tensor().and_then(|t| t.shape.as_ref()?.first().and_then(Dim::known));
    match (extent(bounds), extent(rows.queries)) {
        (Some(n), Some(batch)) if n == 3 * batch + 2 => Ok(Bounds::Lengths),
        (Some(n), Some(batch)) if n == 2 * batch => Ok(Bounds::EndsAndStarts),
        (Some(n), Some(batch)) => Err(MapError::Invalid(format!("the mask has {n} elements for {batch} sequences"))),
        _ => {
            let reason =
                "a mask of rank 1 needs a known extent, or that of the batch: give the dims numbers or one name";
            Err(MapError::Unsupported(reason.into()))
        }
    }
}
