//! Ops that move elements: concatenation, padding, changes of layout, and copies of views.
//!
//! What only renames bytes is a view already (see `shape.rs`); what is left here copies.

use optc_ir::Op;
use optc_ir::ops::tensor;
use optc_kernels::movement::{Piece, PiecePlace, Source};
use optc_types::ReasonCode;
use optc_types::steps::BufRef;

use super::cx::Cx;
use super::moves::{copy, emit, emit_bytes, place};
use super::{Declined, Lowered, Site, TensorView, mapped};

/// Operands of a concatenation that one kernel copies: each has a place in its code.
const MAX_SOURCES: usize = 64;

/// Lowers an op of this family.
pub(super) fn op(cx: &mut Cx, op: &Op, site: &Site) -> Lowered {
    site.without_epilogue()?;
    match op {
        Op::ConvertLayout(_) => {
            let src = cx.view(site.operand(0)?)?;
            copy(cx, &src, site.result()?, &site.loc)
        }
        Op::Concat(op) => concat(cx, op, site),
        Op::Pad(op) if op.mode == tensor::PadMode::Constant => pad(cx, op, site),
        Op::Pad(_) => mapped::op(cx, op, site),
        _ => Err(Declined::new(ReasonCode::Layout, format!("`{}` is no view of its operand here", op.name()))),
    }
}

/// The operands one after the other: a piece each.
fn concat(cx: &mut Cx, op: &tensor::Concat, site: &Site) -> Lowered {
    let dst = site.result()?.clone();
    let rank = dst.shape.len() as i64;
    let axis = if op.axis < 0 { op.axis + rank } else { op.axis } as usize;
    let (mut sources, mut pieces) = (Vec::new(), Vec::new());
    let mut at = 0;
    for slot in 0..site.operands.len() {
        let src = cx.view(site.operand(slot)?)?;
        let to = PiecePlace { offset: at * dst.byte_strides()[axis], ..place(&dst) };
        at += src.shape[axis] as i64;
        pieces.push(Piece { shape: src.shape.clone(), source: Source::Copy(sources.len(), place(&src)), dst: to });
        sources.push(src);
        if sources.len() == MAX_SOURCES && slot + 1 < site.operands.len() {
            emit_part(cx, &std::mem::take(&mut sources), std::mem::take(&mut pieces), &dst, &site.loc)?;
        }
    }
    if sources.len() == site.operands.len() {
        return emit(cx, &sources, pieces, &dst, &site.loc);
    }
    emit_part(cx, &sources, pieces, &dst, &site.loc)
}

/// Emits the kernel that moves pieces which fill the result from the first one on. It knows nothing of the bytes
/// before, so that parts of equal extents share a kernel.
fn emit_part(cx: &mut Cx, sources: &[TensorView], mut pieces: Vec<Piece>, dst: &TensorView, loc: &[String]) -> Lowered {
    let begin = pieces.first().map_or(0, |piece| piece.dst.offset);
    let reach = |piece: &Piece| {
        let steps = piece.shape.iter().zip(&piece.dst.strides).map(|(&n, &stride)| (n as i64 - 1) * stride);
        piece.dst.offset + steps.sum::<i64>() + dst.width() as i64
    };
    let end = pieces.iter().filter(|piece| !piece.shape.contains(&0)).map(reach).max().unwrap_or(begin);
    pieces.iter_mut().for_each(|piece| piece.dst.offset -= begin);
    let at = BufRef { offset: dst.at.offset + begin as usize, ..dst.at };
    emit_bytes(cx, sources, pieces, at, dst.width(), (end - begin) as usize, loc)
}

/// The operand, and a constant around it: for each dim those before and those after, within what the dims before it
/// keep.
fn pad(cx: &mut Cx, op: &tensor::Pad, site: &Site) -> Lowered {
    let mut value = [0; 8];
    if let Some(operand) = site.optional(1) {
        let constant = cx
            .constant(operand)
            .ok_or_else(|| Declined::new(ReasonCode::NotConstant, "kernels pad by constants alone"))?;
        value.iter_mut().zip(constant.bytes()).for_each(|(to, from)| *to = *from);
    }
    let (src, dst) = (cx.view(site.operand(0)?)?, site.result()?.clone());
    let (from, to) = (src.byte_strides(), dst.byte_strides());
    let list = |slot: usize| match site.optional(slot) {
        None => Ok(None),
        Some(value) => {
            cx.constant(value).map(Some).ok_or_else(|| Declined::new(ReasonCode::OpenShape, "the pads depend on data"))
        }
    };
    let pairs =
        op.pairs(list(2)?, list(3)?, dst.shape.len()).map_err(|e| Declined::new(ReasonCode::Shape, e.to_string()))?;
    let (mut shape, mut offset, mut start) = (dst.shape.clone(), 0, 0);
    let mut pieces = Vec::new();
    let fill = |shape: &[usize], offset: i64| Piece {
        shape: shape.to_vec(),
        source: Source::Fill(value),
        dst: PiecePlace { offset, strides: to.clone() },
    };
    for d in 0..shape.len() {
        let before = pairs[d].0;
        let (n, all) = (src.shape[d] as i64, shape[d] as i64);
        // The elements that stay are those from `low` to `high` of the result.
        let low = before.clamp(0, all);
        let high = (before + n).clamp(low, all);
        for (part, begin) in [(low, 0), (all - high, high)] {
            shape[d] = part as usize;
            if part > 0 {
                pieces.push(fill(&shape, offset + begin * to[d]));
            }
        }
        shape[d] = (high - low) as usize;
        offset += low * to[d];
        start += (low - before).max(0) * from[d];
    }
    let source = Source::Copy(0, PiecePlace { offset: start, strides: from });
    pieces.push(Piece { shape, source, dst: PiecePlace { offset, strides: to.clone() } });
    emit(cx, &[src], pieces, &dst, &site.loc)
}
