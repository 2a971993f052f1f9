//! Normalisations in one op with what is added before, or with the look-up of embeddings.

use optc_ir::ops::{math, nn, quant, tensor};
use optc_ir::{Real, Value};
use optc_tensor::{DType, Tensor};

use super::{MICROSOFT, extent_of, is_named, part, plus, refuse_outputs};
use crate::mapping::{MapError, NodeCx};
use crate::ops::attention::list;
use crate::ops::norm::{layer_norm, scalar_like};
use crate::ops::{Mapped, Table};

pub(crate) const TABLE: Table = &[
    // ONNX Runtime defines the first two in the standard's domain, but models have them in its own as well.
    ("", "SimplifiedLayerNormalization", simplified),
    (MICROSOFT, "SimplifiedLayerNormalization", simplified),
    (MICROSOFT, "LayerNormalization", layer_norm),
    (MICROSOFT, "SkipLayerNormalization", |cx| {
        let (shift, bias) = (cx.optional(3), cx.optional(4));
        skip_norm(cx, Some(shift), bias)
    }),
    (MICROSOFT, "SkipSimplifiedLayerNormalization", |cx| {
        let bias = cx.optional(3);
        skip_norm(cx, None, bias)
    }),
    (MICROSOFT, "EmbedLayerNormalization", |cx| {
        cx.attrs.ignore(&["mask_index_type"]); // what type the second result is said to have
        let plain = |table: Option<Value>| table.map(|table| Lookup { table, points: None });
        let tables = [plain(Some(cx.input(2)?)), plain(Some(cx.input(3)?)), plain(cx.optional(4))];
        let (scale, shift) = (cx.input(5)?, cx.input(6)?);
        embed(cx, tables, [scale, shift], cx.optional(8))
    }),
    (MICROSOFT, "QEmbedLayerNormalization", |cx| {
        let quantized = |cx: &NodeCx, i: usize, scale: usize| {
            let table = cx.optional(i)?;
            Some(Lookup { table, points: Some([cx.optional(scale)?, cx.optional(scale + 5)?]) })
        };
        let tables = [quantized(cx, 2, 8), quantized(cx, 3, 9), quantized(cx, 4, 10)];
        let mut ends = vec![];
        for (i, scale) in [(5, 11), (6, 12)] {
            let (x, points) = (cx.input(i)?, [cx.input(scale)?, cx.input(scale + 5)?]);
            ends.push(dequantized(cx, x, points)?);
        }
        embed(cx, tables, [ends[0], ends[1]], None)
    }),
];

/// A table of embeddings, with the scale and the zero point of integers.
struct Lookup {
    table: Value,
    points: Option<[Value; 2]>,
}

impl Lookup {
    /// The rows that `f` takes of the table, as reals.
    fn rows(
        &self,
        cx: &mut NodeCx,
        f: impl FnOnce(&mut NodeCx, Value) -> Result<Value, MapError>,
    ) -> Result<Value, MapError> {
        let rows = f(cx, self.table)?;
        self.points.map_or(Ok(rows), |points| dequantized(cx, rows, points))
    }
}

/// Integers of one scale as reals.
fn dequantized(cx: &mut NodeCx, x: Value, [scale, zero]: [Value; 2]) -> Result<Value, MapError> {
    cx.emit1(quant::Dequantize { axis: 0, block: 0, to: DType::F32 }, &[x, scale, zero])
}

/// RMS normalisation: what is left of a layer normalisation without mean and bias.
fn simplified(cx: &mut NodeCx) -> Mapped {
    cx.attrs.ignore(&["stash_type"]); // intermediate results are at least as wide here
    refuse_outputs(cx, &[(1, "inv_std_var")])?;
    let (axis, epsilon) = (cx.attrs.int_or("axis", -1)?, Real(cx.attrs.float_or("epsilon", 1e-5)?));
    let operands = [cx.input(0)?, cx.input(1)?];
    Ok(vec![cx.emit1(nn::RmsNorm { axis, epsilon }, &operands)?])
}

/// Normalises `input + skip + bias`, which is a result as well, over the last axis: with its mean where there is a
/// `shift`, if only an absent one.
fn skip_norm(cx: &mut NodeCx, shift: Option<Option<Value>>, bias: Option<Value>) -> Mapped {
    refuse_outputs(cx, &[(1, "mean"), (2, "inv_std_var")])?;
    let epsilon = Real(cx.attrs.float_or("epsilon", 1e-12)?);
    let (x, skip, scale) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let sum = cx.emit1(math::Add {}, &[x, skip])?;
    let sum = plus(cx, sum, bias)?;
    let y = match shift {
        Some(shift) => cx.emit(nn::LayerNorm { axis: -1, epsilon }, &[Some(sum), Some(scale), shift])?[0],
        None => cx.emit1(nn::RmsNorm { axis: -1, epsilon }, &[sum, scale])?,
    };
    Ok(vec![y, sum, sum, sum]) // nobody names the two in the middle
}

/// The sum of the embeddings of words, positions and segments, normalised; the number of ones in each row of the mask;
/// and the sum. Positions count where they are not given.
fn embed(
    cx: &mut NodeCx,
    [words, positions, segments]: [Option<Lookup>; 3],
    [scale, shift]: [Value; 2],
    places: Option<Value>,
) -> Mapped {
    let epsilon = Real(cx.attrs.float_or("epsilon", 1e-12)?);
    let (ids, segment_ids, mask) = (cx.input(0)?, cx.optional(1), cx.optional(7));
    let words = words.ok_or(MapError::Input(2))?;
    let positions = positions.ok_or(MapError::Input(3))?;
    let gathered = |ids: Value| move |cx: &mut NodeCx, table| cx.emit1(tensor::Gather { axis: 0 }, &[table, ids]);
    let mut sum = words.rows(cx, gathered(ids))?;
    let places = match places {
        Some(at) => positions.rows(cx, gathered(at))?,
        None => positions.rows(cx, |cx, table| {
            let (steps, first) = (extent_of(cx, ids, 1)?, list(cx, &[0])?);
            part(cx, table, 0, [first, steps])
        })?,
    };
    sum = cx.emit1(math::Add {}, &[sum, places])?;
    match (segment_ids, segments) {
        (Some(ids), Some(segments)) => {
            let rows = segments.rows(cx, gathered(ids))?;
            sum = cx.emit1(math::Add {}, &[sum, rows])?;
        }
        (None, None) => (),
        _ => return Err(MapError::Invalid("only one of `segment_ids` and `segment_embedding` is given".to_owned())),
    }
    let y = cx.emit(nn::LayerNorm { axis: -1, epsilon }, &[Some(sum), Some(scale), Some(shift)])?[0];
    let counts = if is_named(cx, 1) { mask_index(cx, ids, mask)? } else { sum };
    Ok(vec![y, counts, sum])
}

/// How many ones each row of the mask has; zeros without one.
fn mask_index(cx: &mut NodeCx, ids: Value, mask: Option<Value>) -> Result<Value, MapError> {
    let Some(mask) = mask else {
        let batch = cx.emit1(tensor::ShapeOf { start: 0, end: 1 }, &[ids])?;
        let zero = optc_ir::Const(Tensor::from_slice(&[1], &[0i32])?);
        return cx.emit1(tensor::Fill { value: zero }, &[batch]);
    };
    let one = scalar_like(cx, mask, 1.0)?;
    let ones = cx.emit1(math::Equal {}, &[mask, one])?;
    let ones = cx.emit1(math::Cast { to: DType::I32 }, &[ones])?;
    let sum = math::Reduce { all_if_empty: false, kind: math::ReduceKind::Sum, axes: vec![1], keep_dims: false };
    cx.emit1(sum, &[ones])
}
