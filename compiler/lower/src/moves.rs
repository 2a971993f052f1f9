//! Moving elements from one place to another: copies of views, values in other layouts, and the kernels of pieces.

use optc_ir::{Encoding, TensorType, Value};
use optc_kernels::movement::{Movement, Piece, PiecePlace, movement, name};
use optc_types::ReasonCode;
use optc_types::steps::{Arrange, BufRef, Step, StepInfo};

use super::cx::Cx;
use super::{Declined, Lowered, TensorView, strides_in};

/// A value as a dense view in an encoding; copied there where it lies differently (once for all who ask).
///
/// # Errors
/// As [`Cx::view`], or its dtype cannot be copied by kernels.
pub(super) fn view_in(cx: &mut Cx, value: Value, encoding: Encoding) -> Result<TensorView, Declined> {
    let view = cx.view(value)?;
    if view.is(encoding) {
        let strides = strides_in(&view.shape, encoding);
        return Ok(TensorView { strides, ..view });
    }
    if let Some(copy) = cx.places.copy(value, encoding) {
        return Ok(copy.clone());
    }
    let ty = TensorType::fixed(view.dtype, &view.shape).with_encoding(encoding);
    let dst = cx.dense(&ty)?;
    let loc = cx.graph.node(value.node).loc.clone();
    copy(cx, &view, &dst, &loc)?;
    cx.places.set_copy(value, encoding, dst.clone());
    Ok(dst)
}

/// A dense plain copy of a view that is not a value's own.
pub(super) fn plain_copy(cx: &mut Cx, view: &TensorView, loc: &[String]) -> Result<TensorView, Declined> {
    let at = cx.temp(view.len() * view.width());
    let strides = strides_in(&view.shape, Encoding::Plain);
    let dst = TensorView { at, dtype: view.dtype, shape: view.shape.clone(), strides };
    copy(cx, view, &dst, loc)?;
    Ok(dst)
}

/// Copies a view into another one of its shape.
pub(super) fn copy(cx: &mut Cx, src: &TensorView, dst: &TensorView, loc: &[String]) -> Lowered {
    let width = src.width();
    movable(width)?;
    let bytes = (2 * src.len() * width) as f64;
    let info = StepInfo { name: name(width), loc: loc.to_vec(), bytes, ..StepInfo::default() };
    cx.notes.names.push(info.name.clone());
    let (from, to) = ((src.at, src.byte_strides()), (dst.at, dst.byte_strides()));
    let point = cx.out.point;
    cx.out.step(Step::Arrange(Arrange { shape: src.shape.clone(), width, src: from, dst: to, point, info }));
    Ok(())
}

/// Where the elements of a view are, from its first on.
pub(super) fn place(view: &TensorView) -> PiecePlace {
    PiecePlace { offset: 0, strides: view.byte_strides() }
}

/// Emits the kernel that moves pieces.
pub(super) fn emit(
    cx: &mut Cx,
    sources: &[TensorView],
    pieces: Vec<Piece>,
    dst: &TensorView,
    loc: &[String],
) -> Lowered {
    emit_bytes(cx, sources, pieces, dst.at, dst.width(), dst.span_bytes(), loc)
}

/// [`emit`] into `dst_bytes` bytes from `dst` on.
pub(super) fn emit_bytes(
    cx: &mut Cx,
    sources: &[TensorView],
    pieces: Vec<Piece>,
    dst: BufRef,
    width: usize,
    dst_bytes: usize,
    loc: &[String],
) -> Lowered {
    movable(width)?;
    let bytes = pieces.iter().map(|piece| 2 * piece.shape.iter().product::<usize>() * width).sum::<usize>() as f64;
    let lengths = sources.iter().map(TensorView::span_bytes).collect();
    let problem = Movement { width, sources: lengths, dst_bytes, pieces };
    let kernel = movement(&problem, cx.target.isa);
    let mut args: Vec<BufRef> = sources.iter().map(|view| view.at).collect();
    args.push(dst);
    cx.kernel(kernel, args, None, StepInfo { loc: loc.to_vec(), bytes, ..StepInfo::default() });
    Ok(())
}

/// Refuses elements of a width that kernels do not move.
fn movable(width: usize) -> Result<(), Declined> {
    let known = [1, 2, 4, 8].contains(&width);
    known
        .then_some(())
        .ok_or_else(|| Declined::new(ReasonCode::Numbers, format!("kernels do not move elements of {width} bytes")))
}
