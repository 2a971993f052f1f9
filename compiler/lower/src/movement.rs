//! Ops that move elements: concatenation, padding, changes of layout, and copies of views.
//!
//! What only renames bytes is a view already (see `shape.rs`); what is left here copies.

use optc_ir::Op;
use optc_ir::ops::tensor;
use optc_kernels::movement::{Movement, Piece, Place, Source, movement};
use optc_types::steps::{BufRef, Info};

use super::{Declined, Lowered, Lowering, Site, View, mapped};

/// Operands of a concatenation that one kernel copies: each has a place in its code.
const MAX_SOURCES: usize = 64;

/// Lowers an op of this family.
pub(super) fn op(lw: &mut Lowering, op: &Op, site: &Site) -> Lowered {
    site.without_epilogue()?;
    match op {
        Op::ConvertLayout(_) => {
            let src = lw.view(site.operand(0)?)?;
            copy(lw, &src, site.result()?, &site.loc)
        }
        Op::Concat(op) => concat(lw, op, site),
        Op::Pad(op) if op.mode == "constant" => pad(lw, op, site),
        Op::Pad(_) => mapped::op(lw, op, site),
        _ => Err(Declined::new(format!("`{}` is no view of its operand here", op.name()))),
    }
}

/// Copies a view into another one of its shape.
pub(super) fn copy(lw: &mut Lowering, src: &View, dst: &View, loc: &[String]) -> Lowered {
    let piece = Piece { shape: src.shape.clone(), source: Source::Copy(0, place(src)), dst: place(dst) };
    emit(lw, std::slice::from_ref(src), vec![piece], dst, loc)
}

/// Where the elements of a view are, from its first on.
pub(super) fn place(view: &View) -> Place {
    Place { offset: 0, strides: view.byte_strides() }
}

/// Emits the kernel that moves pieces.
pub(super) fn emit(lw: &mut Lowering, sources: &[View], pieces: Vec<Piece>, dst: &View, loc: &[String]) -> Lowered {
    emit_bytes(lw, sources, pieces, dst.at, dst.width(), dst.span_bytes(), loc)
}

/// [`emit`] into `dst_bytes` bytes from `dst` on.
fn emit_bytes(
    lw: &mut Lowering,
    sources: &[View],
    pieces: Vec<Piece>,
    dst: BufRef,
    width: usize,
    dst_bytes: usize,
    loc: &[String],
) -> Lowered {
    if ![1, 2, 4, 8].contains(&width) {
        return Err(Declined::new(format!("kernels do not move elements of {width} bytes")));
    }
    let bytes = pieces.iter().map(|piece| 2 * piece.shape.iter().product::<usize>() * width).sum::<usize>() as f64;
    let lengths = sources.iter().map(View::span_bytes).collect();
    let problem = Movement { width, sources: lengths, dst_bytes, pieces };
    let kernel = movement(&problem, lw.target.isa);
    let mut args: Vec<BufRef> = sources.iter().map(|view| view.at).collect();
    args.push(dst);
    lw.kernel(kernel, args, None, Info { loc: loc.to_vec(), bytes, ..Info::default() });
    Ok(())
}

/// The operands one behind the other: a piece each.
fn concat(lw: &mut Lowering, op: &tensor::Concat, site: &Site) -> Lowered {
    let dst = site.result()?.clone();
    let rank = dst.shape.len() as i64;
    let axis = if op.axis < 0 { op.axis + rank } else { op.axis } as usize;
    let (mut sources, mut pieces) = (Vec::new(), Vec::new());
    let mut at = 0;
    for slot in 0..site.operands.len() {
        let src = lw.view(site.operand(slot)?)?;
        let to = Place { offset: at * dst.byte_strides()[axis], ..place(&dst) };
        at += src.shape[axis] as i64;
        pieces.push(Piece { shape: src.shape.clone(), source: Source::Copy(sources.len(), place(&src)), dst: to });
        sources.push(src);
        if sources.len() == MAX_SOURCES && slot + 1 < site.operands.len() {
            emit_part(lw, &std::mem::take(&mut sources), std::mem::take(&mut pieces), &dst, &site.loc)?;
        }
    }
    if sources.len() == site.operands.len() {
        return emit(lw, &sources, pieces, &dst, &site.loc);
    }
    emit_part(lw, &sources, pieces, &dst, &site.loc)
}

/// Emits the kernel that moves pieces which fill the result from the first one on. It knows nothing of the bytes before, so that parts of
/// equal extents share a kernel.
fn emit_part(lw: &mut Lowering, sources: &[View], mut pieces: Vec<Piece>, dst: &View, loc: &[String]) -> Lowered {
    let begin = pieces.first().map_or(0, |piece| piece.dst.offset);
    let reach = |piece: &Piece| {
        let steps = piece.shape.iter().zip(&piece.dst.strides).map(|(&n, &stride)| (n as i64 - 1) * stride);
        piece.dst.offset + steps.sum::<i64>() + dst.width() as i64
    };
    let end = pieces.iter().filter(|piece| !piece.shape.contains(&0)).map(reach).max().unwrap_or(begin);
    pieces.iter_mut().for_each(|piece| piece.dst.offset -= begin);
    let at = BufRef { offset: dst.at.offset + begin as usize, ..dst.at };
    emit_bytes(lw, sources, pieces, at, dst.width(), (end - begin) as usize, loc)
}

/// The operand, and a constant around it: for each dim those before and those behind, within what the dims before it keep.
fn pad(lw: &mut Lowering, op: &tensor::Pad, site: &Site) -> Lowered {
    let mut value = [0; 8];
    if let Some(operand) = site.optional(1) {
        let constant = lw.constant(operand).ok_or_else(|| Declined::new("kernels pad by constants alone"))?;
        value.iter_mut().zip(constant.bytes()).for_each(|(to, from)| *to = *from);
    }
    let (src, dst) = (lw.view(site.operand(0)?)?, site.result()?.clone());
    let (from, to) = (src.byte_strides(), dst.byte_strides());
    let list = |slot: usize| match site.optional(slot) {
        None => Ok(None),
        Some(value) => lw.constant(value).map(Some).ok_or_else(|| Declined::new("the pads depend on data")),
    };
    let pairs = op.pairs(list(2)?, list(3)?, dst.shape.len()).map_err(|e| Declined::new(e.to_string()))?;
    let (mut shape, mut offset, mut start) = (dst.shape.clone(), 0, 0);
    let mut pieces = Vec::new();
    let fill = |shape: &[usize], offset: i64| Piece {
        shape: shape.to_vec(),
        source: Source::Fill(value),
        dst: Place { offset, strides: to.clone() },
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
    let source = Source::Copy(0, Place { offset: start, strides: from });
    pieces.push(Piece { shape, source, dst: Place { offset, strides: to.clone() } });
    emit(lw, &[src], pieces, &dst, &site.loc)
}
