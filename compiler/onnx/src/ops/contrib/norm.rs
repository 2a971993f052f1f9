//! Normalisations in one op with what is added before, or with the look-up of embeddings.

use optc_ir::ops::{math, nn, tensor};
use optc_ir::{Real, Value};
use optc_tensor::{DType, Tensor};

use super::{MICROSOFT, is_named, plus, refuse_outputs};
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
    (MICROSOFT, "EmbedLayerNormalization", embed),
];

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
/// and the sum.
fn embed(cx: &mut NodeCx) -> Mapped {
    cx.attrs.ignore(&["mask_index_type"]); // what type the second result is said to have
    let epsilon = Real(cx.attrs.float_or("epsilon", 1e-12)?);
    let (ids, words, positions) = (cx.input(0)?, cx.input(2)?, cx.input(3)?);
    let (segment_ids, segments) = (cx.optional(1), cx.optional(4));
    let (scale, shift, mask) = (cx.input(5)?, cx.input(6)?, cx.optional(7));
    let gather = tensor::Gather { axis: 0 };
    let mut sum = cx.emit1(gather.clone(), &[words, ids])?;
    let places = match cx.optional(8) {
        Some(at) => cx.emit1(gather.clone(), &[positions, at])?,
        None => {
            let steps = cx.emit1(tensor::ShapeOf { start: 1, end: 2 }, &[ids])?;
            let first = list(cx, &[0])?;
            cx.emit1(tensor::Slice {}, &[positions, first, steps, first])?
        }
    };
    sum = cx.emit1(math::Add {}, &[sum, places])?;
    match (segment_ids, segments) {
        (Some(ids), Some(segments)) => {
            let rows = cx.emit1(gather, &[segments, ids])?;
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
