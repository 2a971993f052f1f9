//! Products in bfloat16 (`precision = bf16`): constant weights are packed rounded, activations are rounded as they are
//! staged, where they are not stored as bfloat16.

use optc_ir::ops::nn::Conv;
use optc_kernel::expr::Expr;
use optc_kernels::int8::{Int8Form, NarrowProduct, Pack, pack};
use optc_kernels::window::Axis;
use optc_tensor::{DType, Tensor, bf16};
use optc_types::ReasonCode;

use super::cx::Cx;
use super::elementwise::elementwise;
use super::moves::plain_copy;
use super::operands::only_f32;
use super::product::{MatrixStack, NarrowConv, PackedRight, add_packed, matrix_product, narrow_conv, narrow_nr};
use super::weights::{MatrixProduct, Right};
use super::{Declined, Lowered, Site, TensorView};

/// The bits of the bfloat16 that is nearest to a weight.
fn rounded(weight: f32) -> i16 {
    bf16::from_f32(weight).to_bits() as i16
}

fn floats(t: &Tensor) -> Result<&[f32], Declined> {
    t.as_slice::<f32>().map_err(Declined::from)
}

/// Floats rounded to bfloat16, as floats.
pub(super) fn rounded_floats(t: &Tensor) -> Result<Tensor, Declined> {
    let all: Vec<f32> = floats(t)?.iter().map(|&w| bf16::from_f32(w).to_f32()).collect();
    Tensor::from_slice(t.shape(), &all).map_err(Declined::from)
}

/// Refuses factors that a product of this precision does not read.
pub(super) fn only_factors(view: &TensorView, precision: DType) -> Result<(), Declined> {
    if precision == DType::BF16 && view.dtype == DType::BF16 { Ok(()) } else { only_f32(view) }
}

/// Refuses a precision that a family has no kernel for.
pub(super) fn only_f32_precision(precision: DType) -> Result<(), Declined> {
    match precision {
        DType::F32 => Ok(()),
        other => {
            Err(Declined::new(ReasonCode::Numbers, format!("no kernel of this kind rounds its operands to {other}")))
        }
    }
}

/// A view that is dense, as bfloat16: rounded, where it is `f32`.
pub(super) fn rounded_copy(cx: &mut Cx, view: TensorView, loc: &[String]) -> Result<TensorView, Declined> {
    if view.dtype == DType::BF16 {
        return Ok(view);
    }
    let at = cx.temp(view.len() * DType::BF16.bits() / 8);
    let copy = TensorView { at, dtype: DType::BF16, ..view.clone() };
    elementwise(cx, &Expr::Operand(0), &[view], &copy, loc)?;
    Ok(copy)
}

/// A dense convolution with constant weights `[filters, channels, 1, rows, columns]` over two axes, as in ONNX.
pub(super) fn bf16_conv(cx: &mut Cx, op: &Conv, site: &Site, x: &TensorView, axes: [Axis; 3]) -> Lowered {
    let weights = cx.constant(site.operand(1)?).cloned();
    let weights = weights.ok_or_else(|| Declined::new(ReasonCode::NotConstant, "in bfloat16, weights are constant"))?;
    if axes[0] != Axis::NONE {
        return Err(Declined::new(ReasonCode::Shape, "convolutions in bfloat16 have at most two spatial axes"));
    }
    let (shape, w) = (weights.shape(), floats(&weights)?);
    let groups = usize::try_from(op.groups).map_err(|_| Declined::new(ReasonCode::Attribute, "no groups"))?;
    let (isa, axes) = (cx.target.isa, [axes[1], axes[2]]);
    let conv = NarrowConv { site, bias: 2, x, src_zero: 0, axes, groups, shape };
    let all = || w.iter().map(|&w| rounded(w)).collect();
    let form = |p: &NarrowProduct| Int8Form::bf16(isa, p.axes[1].out, p.run(), p.axes[1].kernel == 1);
    narrow_conv(cx, conv, &[&weights], all, form)
}

/// A matrix product with one constant right operand.
pub(super) fn bf16_product(cx: &mut Cx, p: MatrixProduct) -> Lowered {
    let MatrixProduct { a, b, dst, epilogue, loc, .. } = p;
    let Right::Constant { tensor, batches: 1, pack: of } = b else {
        return Err(Declined::new(ReasonCode::NotConstant, "in bfloat16, the right operand is one constant matrix"));
    };
    let w = floats(&tensor)?;
    let rank = dst.shape.len();
    let form = Int8Form::bf16(cx.target.isa, dst.shape[rank - 2], of.k, true);
    let packing = Pack { form, rows: 1, taps: 1, k: of.k, n: of.n, zero: 0 };
    let (nr, how) = (narrow_nr(cx, form), format!(", {} and {} apart", of.k_stride, of.n_stride));
    let at = add_packed(cx, &[&tensor], &how, (1, &packing, nr), || {
        pack(&packing, nr, |_, _, k, n| rounded(w[k * of.k_stride + n * of.n_stride]))
    })?;
    let right = PackedRight { at, own: false, form };
    let a = if a.strides[a.shape.len() - 1] != 1 && of.k != 1 { plain_copy(cx, &a, loc)? } else { a };
    let a = a.broadcast(&[&dst.shape[..rank - 1], &[of.k]].concat());
    let a = a.ok_or_else(|| Declined::new(ReasonCode::Shape, "batches do not broadcast"))?;
    matrix_product(cx, MatrixStack { a, right, dst, epilogue, src_zero: 0 }, loc)
}
