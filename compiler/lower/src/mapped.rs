//! Ops that pick elements by a rule that is known at compile time: padding of every kind, tiling, nearest resampling,
//! gathers and scatters at constant indices.
//!
//! Each axis of the result is a map to indices of the source. A map is cut into runs, in which the source advances by
//! one step for every `repeat` elements; each combination of runs is a piece of one movement kernel.

use optc_ir::ops::{nn, tensor};
use optc_ir::{Encoding, Op};
use optc_kernels::movement::{Piece, PiecePlace, Source};
use optc_tensor::Tensor;
use optc_types::ReasonCode;

use super::cx::Cx;
use super::moves::{copy, emit, place};
use super::{Declined, Lowered, Site, TensorView};

/// Where each element of an axis comes from; `None` for one that is filled.
type Map = Vec<Option<usize>>;

/// A map has an entry for each element of an axis: longer ones would take longer to look through than to move.
const MAX_AXIS: usize = 1 << 22;
/// More pieces than this make too large a kernel.
const MAX_PIECES: usize = 64;

/// Elements `at..at + count * repeat` of an axis: `repeat` times each of `count` elements of the source, `step` apart.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    at: usize,
    count: usize,
    repeat: usize,
    /// The first element of the source; `None` where the run is filled.
    from: Option<usize>,
    step: i64,
}

/// Cuts a map into runs.
fn runs(map: &[Option<usize>]) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut at = 0;
    while at < map.len() {
        let same = |from: usize| map[from..].iter().take_while(|&&i| i == map[from]).count();
        let repeat = same(at);
        let Some(from) = map[at] else {
            runs.push(Run { at, count: repeat, repeat: 1, from: None, step: 0 });
            at += repeat;
            continue;
        };
        let index = |block: usize| map.get(at + block * repeat).copied().flatten().map(|i| i as i64);
        let step = index(1).map_or(0, |next| next - from as i64);
        let fits = |&block: &usize| {
            let start = at + block * repeat;
            index(block) == Some(from as i64 + block as i64 * step) && same(start) >= repeat
        };
        let count = 1 + (1..).take_while(fits).count();
        runs.push(Run { at, count, repeat, from: Some(from), step });
        at += count * repeat;
    }
    runs
}

/// Lowers an op of this family.
pub(super) fn op(cx: &mut Cx, op: &Op, site: &Site) -> Lowered {
    site.without_epilogue()?;
    let mut dst = site.result()?.clone();
    if let Op::ScatterNd(op) = op {
        return scatter(cx, op, site, &dst);
    }
    if let Some(n) = dst.shape.iter().find(|&&n| n > MAX_AXIS) {
        return Err(Declined::new(
            ReasonCode::Shape,
            format!("an axis of {n} elements is not mapped, expected at most {MAX_AXIS}"),
        ));
    }
    let x = cx.view(site.operand(0)?)?;
    let maps: Vec<Map> = match op {
        Op::Gather(op) => {
            let (axis, map) = gather(cx, op, site, &x)?;
            let mut shape = x.shape.clone();
            shape[axis] = map.len();
            dst = dst
                .reshaped(&shape)
                .ok_or_else(|| Declined::new(ReasonCode::Layout, "the result's layout is not plain"))?;
            let whole = |n: usize| (0..n).map(Some).collect();
            shape.iter().enumerate().map(|(d, &n)| if d == axis { map.clone() } else { whole(n) }).collect()
        }
        Op::Tile(_) => {
            let turn = |(&n, &all): (&usize, &usize)| (0..all).map(|i| Some(i % n)).collect();
            x.shape.iter().zip(&dst.shape).map(turn).collect()
        }
        Op::Resize(op) => resize(cx, op, site, &x)?,
        Op::Pad(op) => pad(cx, op, site, &x)?,
        other => return Err(Declined::new(ReasonCode::Attribute, format!("`{}` does not map elements", other.name()))),
    };
    mapped(cx, &x, &dst, &maps, site)
}

/// `dst[i] = src[maps(i)]`, or zero.
fn mapped(cx: &mut Cx, src: &TensorView, dst: &TensorView, maps: &[Map], site: &Site) -> Lowered {
    if !maps.iter().map(Vec::len).eq(dst.shape.iter().copied()) {
        return Err(Declined::new(ReasonCode::Shape, "the result has another shape than its operands say"));
    }
    let (from, to) = (src.byte_strides(), dst.byte_strides());
    let nothing = Piece {
        shape: Vec::new(),
        source: Source::Copy(0, PiecePlace { offset: 0, strides: Vec::new() }),
        dst: PiecePlace { offset: 0, strides: Vec::new() },
    };
    let mut pieces = vec![nothing];
    for (d, map) in maps.iter().enumerate() {
        let runs = runs(map);
        if runs.len() * pieces.len() > MAX_PIECES {
            return Err(Declined::new(ReasonCode::Shape, "its elements come from too many places"));
        }
        let with = |piece: &Piece, run: &Run| {
            let mut piece = piece.clone();
            piece.shape.extend([run.count, run.repeat]);
            piece.dst.offset += run.at as i64 * to[d];
            piece.dst.strides.extend([run.repeat as i64 * to[d], to[d]]);
            match (&mut piece.source, run.from) {
                (Source::Copy(_, place), Some(first)) => {
                    place.offset += first as i64 * from[d];
                    place.strides.extend([run.step * from[d], 0]);
                }
                (source, _) => *source = Source::Fill([0; 8]),
            }
            piece
        };
        pieces = pieces.iter().flat_map(|piece| runs.iter().map(move |run| with(piece, run))).collect();
    }
    emit(cx, std::slice::from_ref(src), pieces, dst, &site.loc)
}

/// The constant in an operand that is present.
fn constant(cx: &Cx, site: &Site, slot: usize) -> Result<Option<Tensor>, Declined> {
    let Some(value) = site.optional(slot) else { return Ok(None) };
    let found = cx.constant(value).cloned();
    found.map(Some).ok_or_else(|| Declined::new(ReasonCode::NotConstant, format!("operand {slot} is not constant")))
}

/// The axis of a gather at constant indices, and its map.
fn gather(cx: &Cx, op: &tensor::Gather, site: &Site, x: &TensorView) -> Result<(usize, Map), Declined> {
    let indices = constant(cx, site, 1)?.ok_or_else(|| Declined::new(ReasonCode::Empty, "there are no indices"))?;
    let rank = x.shape.len() as i64;
    let axis = usize::try_from(if op.axis < 0 { op.axis + rank } else { op.axis }).ok();
    let axis = axis
        .filter(|&d| d < x.shape.len())
        .ok_or_else(|| Declined::new(ReasonCode::Attribute, "there is no such axis"))?;
    let n = x.shape[axis] as i64;
    let wrapped = |i: i64| usize::try_from(if i < 0 { i + n } else { i }).ok().filter(|&i| i < n as usize);
    let map: Map = indices.to_i64_vec().into_iter().map(wrapped).collect();
    if map.iter().any(Option::is_none) {
        return Err(Declined::new(ReasonCode::Shape, "an index is out of range"));
    }
    Ok((axis, map))
}

fn resize(cx: &Cx, op: &nn::Resize, site: &Site, x: &TensorView) -> Result<Vec<Map>, Declined> {
    let lists = [constant(cx, site, 1)?, constant(cx, site, 2)?, constant(cx, site, 3)?];
    let lists = lists.each_ref().map(Option::as_ref);
    let maps = op.picks(&x.shape, lists).map_err(|e| Declined::new(ReasonCode::Shape, e.to_string()))?;
    let maps =
        maps.ok_or_else(|| Declined::new(ReasonCode::Attribute, format!("kernels do not resample by `{}`", op.mode)))?;
    Ok(maps.into_iter().map(|map| map.into_iter().map(Some).collect()).collect())
}

fn pad(cx: &Cx, op: &tensor::Pad, site: &Site, x: &TensorView) -> Result<Vec<Map>, Declined> {
    let (by, axes) = (constant(cx, site, 2)?, constant(cx, site, 3)?);
    op.sources(&x.shape, by.as_ref(), axes.as_ref()).map_err(|e| Declined::new(ReasonCode::Shape, e.to_string()))
}

/// The operand copied, and the updates copied over it: their places must be even in the dims of the indices.
fn scatter(cx: &mut Cx, op: &tensor::ScatterNd, site: &Site, dst: &TensorView) -> Lowered {
    if op.reduction != tensor::ScatterReduction::None {
        return Err(Declined::new(ReasonCode::Attribute, format!("kernels do not scatter by `{}`", op.reduction)));
    }
    let indices = constant(cx, site, 1)?.ok_or_else(|| Declined::new(ReasonCode::Empty, "there are no indices"))?;
    let (x, updates) = (cx.view(site.operand(0)?)?, cx.view(site.operand(2)?)?);
    if !dst.is(Encoding::Plain) {
        return Err(Declined::new(ReasonCode::Layout, "the result's layout is not plain"));
    }
    let starts = op.starts(&x.shape, &indices).map_err(|e| Declined::new(ReasonCode::Shape, e.to_string()))?;
    let depth = indices.shape().last().copied().unwrap_or(0);
    let lead = &indices.shape()[..indices.rank().saturating_sub(1)];
    if updates.shape != [lead, &x.shape[depth..]].concat() {
        return Err(Declined::new(ReasonCode::Shape, "the updates do not fit the indices"));
    }
    copy(cx, &x, dst, &site.loc)?;
    if updates.is_empty() {
        return Ok(());
    }
    let strides =
        even(&starts, lead).ok_or_else(|| Declined::new(ReasonCode::Layout, "kernels scatter only at even places"))?;
    let width = dst.width() as i64;
    let mut to = PiecePlace { offset: starts[0] as i64 * width, strides: strides.iter().map(|s| s * width).collect() };
    to.strides.extend(&dst.byte_strides()[depth..]);
    let source = Source::Copy(0, place(&updates));
    let piece = Piece { shape: updates.shape.clone(), source, dst: to };
    emit(cx, &[updates], vec![piece], dst, &site.loc)
}

/// The strides with which `starts`, row-major over `lead`, are reached from the first; `None` where they are not even
/// or not distinct.
fn even(starts: &[usize], lead: &[usize]) -> Option<Vec<i64>> {
    let units = super::strides_in(lead, Encoding::Plain);
    let stride = |(&n, &unit): (&usize, &i64)| match n {
        1 => 0,
        _ => starts[unit as usize] as i64 - starts[0] as i64,
    };
    let strides: Vec<i64> = lead.iter().zip(&units).map(stride).collect();
    let at = |i: usize| {
        let index = |d: usize| (i as i64 / units[d]) % lead[d] as i64;
        starts[0] as i64 + (0..lead.len()).map(|d| index(d) * strides[d]).sum::<i64>()
    };
    let mut sorted = starts.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let fits = sorted.len() == starts.len() && starts.iter().enumerate().all(|(i, &s)| s as i64 == at(i));
    fits.then_some(strides)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(map: &[usize]) -> usize {
        let map: Map = map.iter().copied().map(Some).collect();
        let mut found = Vec::new();
        let runs = runs(&map);
        for run in &runs {
            assert_eq!(run.at, found.len());
            for i in 0..run.count as i64 {
                found.extend(vec![run.from.map(|from| (from as i64 + i * run.step) as usize); run.repeat]);
            }
        }
        assert_eq!(found, map);
        runs.len()
    }

    #[test]
    fn runs_give_the_map_again() {
        assert_eq!(expanded(&[0, 0, 1, 1, 2, 2]), 1);
        assert_eq!(expanded(&[2, 1, 0, 1, 2, 3]), 2);
        assert_eq!(expanded(&[0, 1, 1, 2]), 2);
        assert_eq!(expanded(&[4, 4, 4]), 1);
        expanded(&[0, 0, 1, 2, 2, 3, 4, 4]);
        expanded(&[7, 3, 3, 9, 0]);
    }

    #[test]
    fn places_that_repeat_are_not_even() {
        assert_eq!(even(&[3, 5, 13, 15], &[2, 2]), Some(vec![10, 2]));
        assert_eq!(even(&[3, 5, 5, 7], &[2, 2]), None);
        assert_eq!(even(&[0, 1, 3], &[3]), None);
    }
}
