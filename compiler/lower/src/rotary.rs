//! Rotary position embedding: one elementwise kernel with two results, the first and the second elements of all pairs.
//!
//! ```text
//! for batch, head, step { for pair { y₁ = c · x₁ − s · x₂; y₂ = s · x₁ + c · x₂ } }
//! ```
//!
//! Halves and neighbours of a row differ in strides alone. What is not rotated is copied. Positions are checked, and
//! gathers pick their rows before.

use optc_ir::ops::nn::RotaryEmbedding;
use optc_ir::{Decl, Encoding, Value};
use optc_kernel::expr::Expr;
use optc_kernel::nest::IndexMem;
use optc_kernels::elementwise::{self as kernels, Elementwise};
use optc_kernels::gather::{GatherNest, gather};
use optc_tensor::DType;
use optc_types::ReasonCode;
use optc_types::steps::{BufRef, Step, StepInfo};

use super::cx::Cx;
use super::moves::{copy, view_in};
use super::operands::{kernel_view, only_f32};
use super::places::stored;
use super::{Declined, Lowered, Site, TensorView, strides_in};

/// Lowers a rotary embedding.
pub(super) fn rotary_embedding(cx: &mut Cx, op: &RotaryEmbedding, site: &Site) -> Lowered {
    site.without_epilogue()?;
    let (x, dst) = (cx.view(site.operand(0)?)?, site.result()?.clone());
    let [cos, sin] = [1, 2].map(|slot| site.operand(slot).and_then(|value| view_in(cx, value, Encoding::Plain)));
    let (cos, sin) = match site.optional(3) {
        Some(positions) => picked(cx, site, positions, [cos?, sin?])?,
        None => (cos?, sin?),
    };
    [&x, &dst, &cos, &sin].into_iter().try_for_each(only_f32)?;
    let &[batch, heads, steps, size] = &x.shape[..] else {
        return Err(Declined::new(ReasonCode::Shape, "an operand that is not of rank 4"));
    };
    let rotated = op.rotated(size).map_err(|e| Declined::new(ReasonCode::Shape, e.to_string()))?;
    let half = rotated / 2;
    if x.is_empty() || half == 0 {
        return Err(Declined::new(ReasonCode::Empty, "nothing is rotated"));
    }
    let shape = [batch, heads, steps, half];
    let angles = |v: TensorView| {
        let wide = v.reshaped(&[batch, 1, steps, half]).and_then(|v| v.broadcast(&shape));
        wide.ok_or_else(|| Declined::new(ReasonCode::Shape, "there is not one angle for each pair of a step"))
    };
    let operands = [part(&x, op, half, 0), part(&x, op, half, 1), angles(cos)?, angles(sin)?];
    let [re, im, c, s] = [0, 1, 2, 3].map(Expr::Operand);
    let exprs = [c.clone().times(re.clone()).minus(s.clone().times(im.clone())), s.times(re).plus(c.times(im))];
    let results = [part(&dst, op, half, 0), part(&dst, op, half, 1)];
    let views = operands.iter().map(kernel_view).collect::<Result<Vec<_>, _>>()?;
    let stored =
        results.iter().zip(exprs).map(|(v, expr)| Ok((kernel_view(v)?, expr))).collect::<Result<_, Declined>>()?;
    let kernel =
        kernels::elementwise(&Elementwise { shape: shape.to_vec(), operands: views, results: stored }, cx.target.isa);
    let args: Vec<BufRef> = operands.iter().chain(&results).map(|v| v.at).collect();
    let pairs = shape.iter().product::<usize>() as f64;
    let info = StepInfo { loc: site.loc.clone(), flops: 6.0 * pairs, bytes: 24.0 * pairs, ..StepInfo::default() };
    cx.kernel(kernel, args, None, info);
    if rotated == size {
        return Ok(());
    }
    let rest = |v: &TensorView| sliced(v, rotated, size - rotated, 1);
    copy(cx, &rest(&x), &rest(&dst), &site.loc)
}

/// The rows of both tables `[P, R/2]` at positions `[B, S]`.
fn picked(
    cx: &mut Cx,
    site: &Site,
    positions: Value,
    tables: [TensorView; 2],
) -> Result<(TensorView, TensorView), Declined> {
    let positions = view_in(cx, positions, Encoding::Plain)?;
    let index = match positions.dtype {
        DType::I32 => IndexMem::I32,
        DType::I64 => IndexMem::I64,
        other => return Err(Declined::new(ReasonCode::Numbers, format!("positions are {other}"))),
    };
    let &[rows, half] = &tables[0].shape[..] else {
        return Err(Declined::new(ReasonCode::Shape, "a table that is not of rank 2"));
    };
    if rows == 0 || tables[1].shape != tables[0].shape {
        return Err(Declined::new(ReasonCode::Shape, "tables of different shapes, or without rows"));
    }
    tables.iter().try_for_each(only_f32)?;
    let (lengths, op) = (stored(&positions), RotaryEmbedding::NAME.to_owned());
    cx.out.step(Step::CheckLengths { lengths, most: rows - 1, op, loc: site.loc.join(", ") });
    let problem = GatherNest { outer: 1, extent: rows, count: positions.len(), row: 4 * half, index };
    let shape = [&positions.shape[..], &[half]].concat();
    let [cos, sin] = tables.map(|table| {
        let at = cx.temp(4 * half * positions.len());
        let bytes = 8.0 * (half * positions.len()) as f64;
        let info = StepInfo { loc: site.loc.clone(), bytes, ..StepInfo::default() };
        cx.kernel(gather(&problem, cx.target.isa), vec![table.at, positions.at, at], None, info);
        TensorView { at, dtype: DType::F32, strides: strides_in(&shape, Encoding::Plain), shape: shape.clone() }
    });
    Ok((cos, sin))
}

/// The first or the second elements of all pairs.
fn part(view: &TensorView, op: &RotaryEmbedding, half: usize, second: usize) -> TensorView {
    match op.interleaved {
        true => sliced(view, second, half, 2),
        false => sliced(view, second * half, half, 1),
    }
}

/// `count` elements of each row from `start` on, `step` apart.
fn sliced(view: &TensorView, start: usize, count: usize, step: i64) -> TensorView {
    let (mut shape, mut strides) = (view.shape.clone(), view.strides.clone());
    let last = strides.len() - 1;
    let at = BufRef { offset: view.at.offset + start * strides[last] as usize * view.width(), ..view.at };
    (shape[last], strides[last]) = (count, step * strides[last]);
    TensorView { at, shape, strides, ..view.clone() }
}
