//! Words that families share: dims that are one, images, axes of windows, epilogues with a bias.

use optc_kernel::expr::Expr;
use optc_kernel::space;
use optc_kernel::tile::MemType;
use optc_kernels::contract::Operand;
use optc_kernels::window::{self, Axis};
use optc_tensor::{DType, Tensor, TensorError};
use optc_types::ReasonCode;
use optc_types::steps::BufRef;

use super::cx::Cx;
use super::{Declined, Epilogue, Site, TensorView};

/// Two dims of extents `outer` and `inner` are one dim when their strides fit. `None` when they do not.
pub(super) fn collapse(dims: &[(usize, i64)]) -> Option<i64> {
    let mut stride = None;
    let mut extent = 1i64;
    for &(n, s) in dims.iter().rev().filter(|(n, _)| *n != 1) {
        match stride {
            None => stride = Some(s),
            Some(inner) if s == inner * extent => {}
            Some(_) => return None,
        }
        extent *= n as i64;
    }
    Some(stride.unwrap_or(0))
}

/// The dims `range` of a view.
pub(super) fn dims(view: &TensorView, range: std::ops::Range<usize>) -> Vec<(usize, i64)> {
    range.map(|d| (view.shape[d], view.strides[d])).collect()
}

/// An operand of the epilogue with its place.
pub(super) struct Placed {
    pub operand: Operand,
    pub at: BufRef,
}

/// Refuses what is not `f32`.
pub(super) fn only_f32(view: &TensorView) -> Result<(), Declined> {
    match view.dtype {
        DType::F32 => Ok(()),
        other => Err(Declined::new(ReasonCode::Numbers, format!("{other} has no contraction kernel"))),
    }
}

/// The epilogue of a site, with the bias in operand `slot`, one value for each index of axis 1.
pub(super) fn biased(cx: &mut Cx, site: &Site, slot: usize, dst: &TensorView) -> Result<Epilogue, Declined> {
    let mut epilogue = site.epilogue.clone();
    if let Some(bias) = site.optional(slot) {
        let bias = cx.view(bias)?;
        let mut shape = vec![1; dst.shape.len()];
        shape[1] = dst.shape[1];
        let wide = bias.reshaped(&shape).and_then(|v| v.broadcast(&dst.shape));
        epilogue
            .operands
            .push(wide.ok_or_else(|| Declined::new(ReasonCode::Shape, "a bias that is not one value a channel"))?);
        let sum = Expr::Operand(0).plus(Expr::Operand(epilogue.operands.len()));
        epilogue.expr = epilogue.expr.with_operand(0, &sum);
    }
    Ok(epilogue)
}

/// The epilogue of a site over images, with the bias in operand `slot` of an op that has one.
pub(super) fn epilogue(cx: &mut Cx, site: &Site, slot: usize, dst: &TensorView) -> Result<ImageEpilogue, Declined> {
    let epilogue = biased(cx, site, slot, dst)?;
    let places = epilogue.operands.iter().map(|v| v.at).collect();
    Ok(ImageEpilogue {
        expr: epilogue.expr,
        operands: epilogue.operands.iter().map(image).collect::<Result<_, _>>()?,
        places,
    })
}

/// A view with its dims in another order.
pub(super) fn permuted(view: &TensorView, perm: &[usize]) -> TensorView {
    let shape = perm.iter().map(|&d| view.shape[d]).collect();
    TensorView { shape, strides: perm.iter().map(|&d| view.strides[d]).collect(), ..view.clone() }
}

/// An epilogue over images.
pub(super) struct ImageEpilogue {
    pub expr: Expr,
    pub operands: Vec<window::ImageView>,
    pub places: Vec<BufRef>,
}

/// A constant of floats.
///
/// # Errors
/// There is no memory for it.
pub(super) fn floats(values: &[f32]) -> Result<Tensor, TensorError> {
    Tensor::from_slice(&[values.len()], values)
}

/// A tensor `[images, channels, spatial…]` of up to three spatial axes as images.
///
/// # Errors
/// Kernels do not compute with the dtype.
pub(super) fn image(view: &TensorView) -> Result<window::ImageView, Declined> {
    let strides = view.byte_strides();
    let mut all = [0; 5];
    (all[0], all[4]) = (strides[0], strides[1]);
    let spatial = &strides[2..];
    all[4 - spatial.len()..4].copy_from_slice(spatial);
    Ok(window::ImageView { mem: mem_of(view.dtype)?, bytes: view.span_bytes(), offset: 0, strides: all })
}

/// The axes of a window; attributes that are left out are ones or zeros.
pub(super) fn axes(
    from: &[usize],
    to: &[usize],
    kernel: &[usize],
    strides: &[i64],
    dilations: &[i64],
    pads: &[i64],
) -> Result<[Axis; 3], Declined> {
    let n = kernel.len();
    if n == 0 || n > 3 {
        return Err(Declined::new(ReasonCode::Shape, format!("{n} spatial axes")));
    }
    let at = |v: &[i64], i: usize, default: usize| v.get(i).map_or(default, |&x| x as usize);
    let mut axes = [Axis::NONE; 3];
    for (i, axis) in axes[3 - n..].iter_mut().enumerate() {
        *axis = Axis {
            size: from[i],
            out: to[i],
            kernel: kernel[i],
            stride: at(strides, i, 1),
            dilation: at(dilations, i, 1),
            pads: [at(pads, i, 0), at(pads, n + i, 0)],
        };
    }
    Ok(axes)
}

/// What an element in memory is to kernels.
///
/// # Errors
/// They do not compute with the dtype.
pub(super) fn mem_of(dtype: DType) -> Result<MemType, Declined> {
    Ok(match dtype {
        DType::F32 => MemType::F32,
        DType::BF16 => MemType::Bf16,
        DType::F16 => MemType::F16,
        DType::I32 => MemType::I32,
        DType::I64 => MemType::I64,
        DType::U16 => MemType::U16,
        DType::I16 => MemType::I16,
        DType::U8 | DType::Bool => MemType::U8,
        DType::I8 => MemType::I8,
        other => return Err(Declined::new(ReasonCode::Numbers, format!("kernels do not compute with {other}"))),
    })
}

/// A view as kernels see it: from the place that it is given.
///
/// # Errors
/// Kernels do not compute with the dtype.
pub(super) fn kernel_view(view: &TensorView) -> Result<space::ByteView, Declined> {
    Ok(space::ByteView { mem: mem_of(view.dtype)?, bytes: view.span_bytes(), offset: 0, strides: view.byte_strides() })
}
