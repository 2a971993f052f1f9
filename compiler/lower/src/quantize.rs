//! Where the scales of changes between reals and quantized integers lie.

use optc_ir::Op;
use optc_ir::ops::quant::{Dequantize, Quantize};

use super::TensorView;

/// An operand of an op as it broadcasts to a result of this rank: scales and zero points of `quant.quantize` and
/// `quant.dequantize` lie along the op's axis, not along the last one.
pub(super) fn along_axis(op: &Op, slot: usize, view: TensorView, rank: usize) -> TensorView {
    let (Op::Quantize(Quantize { axis, .. }) | Op::Dequantize(Dequantize { axis, .. })) = op else { return view };
    let axis = if *axis < 0 { axis + rank as i64 } else { *axis };
    match (view.shape.len(), usize::try_from(axis)) {
        (1, Ok(axis)) if slot > 0 && axis < rank => {
            let behind = rank - axis - 1;
            let (mut shape, mut strides) = (view.shape.clone(), view.strides.clone());
            shape.resize(1 + behind, 1);
            strides.resize(1 + behind, 0);
            TensorView { shape, strides, ..view }
        }
        _ => view,
    }
}
