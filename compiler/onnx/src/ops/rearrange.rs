//! Ops that repeat, reverse, centre or fold a tensor, or move blocks between space and depth.

use optc_ir::ops::{math, tensor};
use optc_ir::{Dim, Value};
use optc_tensor::Tensor;

use super::{Mapped, Table, direct};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    ("", "Tile", |cx| direct(cx, tensor::Tile {}, 2)),
    ("", "ReverseSequence", |cx| {
        let (batch_axis, time_axis) = (cx.attrs.int_or("batch_axis", 1)?, cx.attrs.int_or("time_axis", 0)?);
        direct(cx, tensor::ReverseSequence { batch_axis, time_axis }, 2)
    }),
    ("", "CenterCropPad", |cx| {
        let axes = cx.attrs.ints("axes")?.unwrap_or_default();
        direct(cx, tensor::CenterCropPad { axes }, 2)
    }),
    ("", "Col2Im", |cx| {
        let list = |name| Ok::<_, MapError>(cx.attrs.ints(name)?.unwrap_or_default());
        let (dilations, pads, strides) = (list("dilations")?, list("pads")?, list("strides")?);
        direct(cx, tensor::Col2Im { dilations, pads, strides }, 3)
    }),
    ("", "DepthToSpace", depth_to_space),
    ("", "SpaceToDepth", space_to_depth),
];

/// An extent of a shape that is put together.
#[derive(Clone, Copy)]
enum Extent {
    Of(usize),
    Fixed(i64),
    Times(usize, i64),
    Over(usize, i64),
}

/// A shape operand made from the extents of `x`: a constant where they are known, else computed.
fn shape_of(cx: &mut NodeCx, x: Value, extents: &[Extent]) -> Result<Value, MapError> {
    let dims = cx.ty(x).as_tensor().and_then(|t| t.shape.clone()).unwrap_or_default();
    let known = |d: usize| dims.get(d).and_then(Dim::known).map(|n| n as i64);
    let fixed: Option<Vec<i64>> = extents
        .iter()
        .map(|e| match *e {
            Extent::Of(d) => known(d),
            Extent::Fixed(n) => Some(n),
            Extent::Times(d, k) => known(d)?.checked_mul(k),
            Extent::Over(d, k) => known(d).map(|n| n / k),
        })
        .collect();
    if let Some(fixed) = fixed {
        return Ok(cx.constant(Tensor::from_slice(&[fixed.len()], &fixed)?));
    }
    let shape = cx.emit1(tensor::ShapeOf { start: 0, end: i64::MAX }, &[x])?;
    let vector = |cx: &mut NodeCx, n: i64| Ok::<_, MapError>(cx.constant(Tensor::from_slice(&[1], &[n])?));
    let mut parts = vec![];
    for &extent in extents {
        let (d, factor) = match extent {
            Extent::Fixed(n) => {
                parts.push(Some(vector(cx, n)?));
                continue;
            }
            Extent::Of(d) => (d, None),
            Extent::Times(d, k) | Extent::Over(d, k) => (d, Some(vector(cx, k)?)),
        };
        let at = vector(cx, d as i64)?;
        let n = cx.emit1(tensor::Gather { axis: 0 }, &[shape, at])?;
        parts.push(Some(match (extent, factor) {
            (Extent::Times(..), Some(k)) => cx.emit1(math::Mul {}, &[n, k])?,
            (Extent::Over(..), Some(k)) => cx.emit1(math::Div {}, &[n, k])?,
            _ => n,
        }));
    }
    Ok(cx.emit(tensor::Concat { axis: 0 }, &parts)?[0])
}

/// `blocksize` and whether `mode` is DCR, where the block's axes stand before the channels.
fn block(cx: &NodeCx) -> Result<(i64, bool), MapError> {
    let size = cx.attrs.int("blocksize")?.filter(|b| (1..1 << 15).contains(b));
    let size = size.ok_or_else(|| MapError::Invalid("`blocksize` is missing or out of range".to_owned()))?;
    Ok((size, cx.attrs.word_or("mode", &[("DCR", true), ("CRD", false)], true)?))
}

fn reshape_transpose_reshape(cx: &mut NodeCx, x: Value, split: &[Extent], perm: &[i64], joined: &[Extent]) -> Mapped {
    let (split, joined) = (shape_of(cx, x, split)?, shape_of(cx, x, joined)?);
    let apart = cx.emit1(tensor::Reshape { allow_zero: true }, &[x, split])?;
    let moved = cx.emit1(tensor::Transpose { perm: perm.to_vec() }, &[apart])?;
    Ok(vec![cx.emit1(tensor::Reshape { allow_zero: true }, &[moved, joined])?])
}

fn depth_to_space(cx: &mut NodeCx) -> Mapped {
    use Extent::{Fixed, Of, Over, Times};
    let ((b, block_first), x) = (block(cx)?, cx.input(0)?);
    let (split, perm) = match block_first {
        true => ([Of(0), Fixed(b), Fixed(b), Over(1, b * b), Of(2), Of(3)], [0, 3, 4, 1, 5, 2]),
        false => ([Of(0), Over(1, b * b), Fixed(b), Fixed(b), Of(2), Of(3)], [0, 1, 4, 2, 5, 3]),
    };
    reshape_transpose_reshape(cx, x, &split, &perm, &[Of(0), Over(1, b * b), Times(2, b), Times(3, b)])
}

fn space_to_depth(cx: &mut NodeCx) -> Mapped {
    use Extent::{Fixed, Of, Over, Times};
    let ((b, block_first), x) = (block(cx)?, cx.input(0)?);
    let split = [Of(0), Of(1), Over(2, b), Fixed(b), Over(3, b), Fixed(b)];
    let perm = if block_first { [0, 3, 5, 1, 2, 4] } else { [0, 1, 3, 5, 2, 4] };
    reshape_transpose_reshape(cx, x, &split, &perm, &[Of(0), Times(1, b * b), Over(2, b), Over(3, b)])
}
