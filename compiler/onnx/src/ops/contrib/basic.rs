//! Ops that the standard has as well, before or in another form.

use optc_ir::Value;
use optc_ir::ops::tensor::PadMode;
use optc_ir::ops::{math, tensor};
use optc_tensor::DType;

use super::{MICROSOFT, counted, extent_of, integer, reshaped, unsqueezed, wide};
use crate::mapping::{MapError, NodeCx};
use crate::ops::conv::transposed_conv;
use crate::ops::generate::triangle;
use crate::ops::norm::scalar_like;
use crate::ops::resize::grid_sample;
use crate::ops::{Mapped, Table, direct, rank_of};

pub(crate) const TABLE: Table = &[
    (MICROSOFT, "ConvTransposeWithDynamicPads", |cx| {
        let open = || MapError::Unsupported("`Pads` is supported only as an initializer".into());
        let pads = cx.constant_of(cx.input(2)?).ok_or_else(open)?.to_i64_vec();
        let bias = cx.optional(3);
        transposed_conv(cx, Some(pads), bias)
    }),
    (MICROSOFT, "ExpandDims", |cx| {
        let (x, axis) = (cx.input(0)?, cx.input(1)?);
        let axis = wide(cx, axis)?;
        let axis = reshaped(cx, axis, &[1])?;
        Ok(vec![cx.emit1(tensor::Unsqueeze {}, &[x, axis])?])
    }),
    (MICROSOFT, "GatherND", |cx| direct(cx, tensor::GatherNd { batch_dims: 0 }, 2)),
    (MICROSOFT, "GridSample", grid_sample),
    (MICROSOFT, "MatMulInteger16", |cx| {
        let (a, b, to) = (cx.input(0)?, cx.input(1)?, DType::I32);
        if [a, b].iter().any(|&v| cx.dtype(v).is_ok_and(|dtype| dtype != DType::I16)) {
            return Err(MapError::Unsupported("the operands are not both of i16, as on ONNX Runtime's CPUs".into()));
        }
        let operands = [cx.emit1(math::Cast { to }, &[a])?, cx.emit1(math::Cast { to }, &[b])?];
        Ok(vec![cx.emit1(math::MatMul::default(), &operands)?])
    }),
    (MICROSOFT, "Pad", pad),
    (MICROSOFT, "Range", range),
    (MICROSOFT, "SampleOp", |cx| Ok(vec![cx.input(0)?])),
    (MICROSOFT, "Trilu", triangle),
    (MICROSOFT, "UnfoldTensor", unfold),
    (MICROSOFT, "Unique", |cx| {
        let x = cx.input(0)?;
        let found = cx.emit(tensor::Unique { axis: 0, sorted: false }, &[Some(x)])?;
        // The standard's op gives the places of the first ones as well.
        Ok(vec![found[0], found[2], found[3]])
    }),
];

/// Pads and value may have an axis more than the standard's.
fn pad(cx: &mut NodeCx) -> Mapped {
    let mode = cx.attrs.text_or("mode", PadMode::Constant)?;
    let (x, by) = (cx.input(0)?, cx.input(1)?);
    let value = cx.optional(2).map(|value| reshaped(cx, value, &[])).transpose()?;
    let pads = cx.constant_of(by).map(|pads| pads.to_i64_vec());
    match pads {
        Some(pads) => cx.emit(tensor::Pad { mode, pads }, &[Some(x), value]),
        None => {
            let by = reshaped(cx, by, &[-1])?;
            cx.emit(tensor::Pad { mode, pads: vec![] }, &[Some(x), value, Some(by)])
        }
    }
}

/// Numbers may be lists of one; the last is 1 where it is absent.
fn range(cx: &mut NodeCx) -> Mapped {
    let (start, limit) = (cx.input(0)?, cx.input(1)?);
    let delta = cx.optional(2).map_or_else(|| scalar_like(cx, start, 1.0), Ok)?;
    let mut operands = vec![];
    for v in [start, limit, delta] {
        operands.push(reshaped(cx, v, &[])?);
    }
    Ok(vec![cx.emit1(tensor::Range {}, &operands)?])
}

/// All slices of a size along an axis, with the elements of each along a new last one.
fn unfold(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let rank = rank_of(cx, x)? as i64;
    let (dim, step) = (cx.attrs.int_or("dim", -1)?, cx.attrs.int_or("step", 1)?);
    let size = cx.attrs.int("size")?.ok_or_else(|| MapError::Invalid("attribute `size` is missing".into()))?;
    if !(-rank..rank).contains(&dim) || step < 1 || size < 1 {
        return Err(MapError::Invalid(format!("`dim` is {dim}, `size` {size} and `step` {step} for rank {rank}")));
    }
    let dim = dim.rem_euclid(rank);
    let places = places(cx, x, dim, [size, step])?;
    let slices = cx.emit1(tensor::Gather { axis: dim }, &[x, places])?;
    let perm = (0..=rank).filter(|&d| d != dim + 1).chain([dim + 1]).collect();
    Ok(vec![cx.emit1(tensor::Transpose { perm }, &[slices])?])
}

/// The places of the elements of each slice, `[slices, size]`.
fn places(cx: &mut NodeCx, x: Value, dim: i64, [size, step]: [i64; 2]) -> Result<Value, MapError> {
    let (extent, too_many) = (extent_of(cx, x, dim)?, integer(cx, size - 1));
    let end = cx.emit1(math::Sub {}, &[extent, too_many])?;
    let end = reshaped(cx, end, &[])?;
    let (zero, step) = (integer(cx, 0), integer(cx, step));
    let starts = cx.emit1(tensor::Range {}, &[zero, end, step])?;
    let starts = unsqueezed(cx, starts, &[1])?;
    let size = crate::ops::attention::list(cx, &[size])?;
    let within = counted(cx, size)?;
    cx.emit1(math::Add {}, &[starts, within])
}
