//! Convolutions of quantized integers: dense ones as integer contractions, depthwise ones as windows in `f32` where
//! that is exact.
//!
//! A zero point that is computed is not taken off the pixels: the images get a border of it where they are padded, and
//! a multiple of each filter's sum is taken off the result.

use optc_ir::ops::quant::QuantConv;
use optc_ir::{Encoding, Value};
use optc_kernel::expr::{Expr, Func};
use optc_kernel::tile::Unary;
use optc_kernels::int8::{Int8Form, NarrowProduct};
use optc_kernels::window::{self, Axis, WindowNest, WindowReduce};
use optc_tensor::{DType, Tensor};
use optc_types::ReasonCode;
use optc_types::steps::BufRef;

use super::conv::window;
use super::cx::Cx;
use super::integers::{QuantizedWeights, ZeroOf};
use super::moves::{copy, view_in};
use super::operands::{axes, epilogue, floats, image};
use super::product::{EXACT, NarrowConv, narrow_conv, of_float, weighed, without_zero, zero_point};
use super::sparse::{Geometry, Matrix, SparseFilters, block_of, sparse_conv, weigh};
use super::{Declined, Lowered, Site, TensorView, elementwise, sparse, strides_in};

pub(super) fn quant_conv(cx: &mut Cx, op: &QuantConv, site: &Site) -> Lowered {
    let dst = site.result()?.clone();
    let shape = cx.ty(site.operand(1)?)?.static_shape().unwrap_or_default();
    let filter: usize = shape[1..].iter().product();
    let w = QuantizedWeights::of(cx, site.operand(1)?, site.optional(3), ZeroOf::Filter(filter))?;
    let computed = site.optional(2).filter(|&zero| cx.constant(zero).is_none());
    let src_zero = if computed.is_some() { 0 } else { zero_point(cx, site.optional(2))? };
    // Sparse kernels begin with constant sums.
    if let (Some(block), None) = (block_of(cx, site.operand(1)?), computed) {
        let filters = SparseFilters { matrix: Matrix::Integers(w.values(), src_zero), shape, block };
        let (dilations, pads, strides) = (&op.dilations, &op.pads, &op.strides);
        return sparse_conv(cx, &Geometry { dilations, groups: op.groups, pads, strides }, site, &filters, 4);
    }
    let depthwise = op.groups > 1 && shape[1] == 1 && shape[0] as i64 == op.groups;
    // A depthwise kernel reads what it writes: channels last, or pixels side by side.
    let plain = depthwise && dst.is(Encoding::Plain) && !dst.is(Encoding::Nhwc);
    let x = view_in(cx, site.operand(0)?, if plain { Encoding::Plain } else { Encoding::Nhwc })?;
    if dst.is_empty() || x.is_empty() {
        return Err(Declined::new(ReasonCode::Empty, "an empty convolution"));
    }
    let axes = axes(&x.shape[2..], &dst.shape[2..], &shape[2..], &op.strides, &op.dilations, &op.pads)?;
    let groups = usize::try_from(op.groups).map_err(|_| Declined::new(ReasonCode::Attribute, "no groups"))?;
    if let Some(zero) = computed {
        let without = without_computed_zero(cx, site, zero, &w, filter)?;
        let (x, axes) = padded_with(cx, x, zero, axes, &site.loc)?;
        return integer_conv(cx, &without, &x, 0, (&w, &shape), axes, groups, depthwise);
    }
    integer_conv(cx, site, &x, src_zero, (&w, &shape), axes, groups, depthwise)
}

/// The site of a convolution whose zero point is computed: a multiple of each filter's sum is taken off the result.
/// Nothing may be padded.
fn without_computed_zero(
    cx: &mut Cx,
    site: &Site,
    zero: Value,
    w: &QuantizedWeights,
    filter: usize,
) -> Result<Site, Declined> {
    let (zero, shape) = (cx.view(zero)?, site.result()?.shape.clone());
    let mut channels = vec![1; shape.len()];
    channels[1] = w.len() / filter.max(1);
    let at = cx.packed(&w.sources(), "operand 1, sums of filters", || {
        let sum = |of: &[i16]| of.iter().map(|&v| i32::from(v)).sum::<i32>();
        Ok(Tensor::from_slice(&channels, &w.values().chunks(filter.max(1)).map(sum).collect::<Vec<_>>())?)
    })?;
    let sums = TensorView { at, dtype: DType::I32, strides: strides_in(&channels, Encoding::Plain), shape: channels };
    let epilogue = without_zero(site.epilogue.clone(), &zero, &sums, &shape)?;
    let (operands, results, loc) = (site.operands.clone(), site.results.clone(), site.loc.clone());
    Ok(Site { operands, results, epilogue, loc })
}

/// Images with a computed value around them in place of padding.
fn padded_with(
    cx: &mut Cx,
    x: TensorView,
    value: Value,
    mut axes: [Axis; 3],
    loc: &[String],
) -> Result<(TensorView, [Axis; 3]), Declined> {
    let (rank, mut shape) = (x.shape.len(), x.shape.clone());
    let mut first = vec![0; rank];
    for (d, axis) in (2..rank).zip(axes[5 - rank..].iter_mut()) {
        first[d] = axis.pads[0];
        axis.size += axis.pads[0] + axis.pads[1];
        (shape[d], axis.pads) = (axis.size, [0, 0]);
    }
    if shape == x.shape {
        return Ok((x, axes));
    }
    let encoding = if x.is(Encoding::Nhwc) { Encoding::Nhwc } else { Encoding::Plain };
    let at = cx.temp(shape.iter().product::<usize>() * x.width());
    let padded = TensorView { at, dtype: x.dtype, strides: strides_in(&shape, encoding), shape };
    let value = TensorView { shape: vec![], strides: vec![], ..cx.view(value)? };
    let value = value
        .broadcast(&padded.shape)
        .ok_or_else(|| Declined::new(ReasonCode::NotConstant, "padding of several values"))?;
    elementwise::elementwise(cx, &Expr::Operand(0), &[value], &padded, loc)?;
    let offset: i64 = first.iter().zip(&padded.strides).map(|(&i, s)| i as i64 * s).sum();
    let at = BufRef { offset: at.offset + offset as usize * x.width(), ..at };
    let inside = TensorView { at, shape: x.shape.clone(), ..padded.clone() };
    copy(cx, &x, &inside, loc)?;
    Ok((padded, axes))
}

/// Emits the kernels of a convolution of integers with constant weights.
#[expect(clippy::too_many_arguments, reason = "what is known of a convolution, each of its own kind")]
fn integer_conv(
    cx: &mut Cx,
    site: &Site,
    x: &TensorView,
    src_zero: i32,
    (w, shape): (&QuantizedWeights, &[usize]),
    axes: [Axis; 3],
    groups: usize,
    depthwise: bool,
) -> Lowered {
    let dst = site.result()?.clone();
    if depthwise {
        return quant_depthwise(cx, site, x, src_zero, w, axes, groups);
    }
    if axes[0] != Axis::NONE {
        return Err(Declined::new(ReasonCode::Shape, "integer convolutions have at most two spatial axes"));
    }
    if groups == 1 {
        let (staged_bytes, m) = (sparse::staged_bytes(x, [axes[1], axes[2]]), shape[0]);
        let product = weighed(m, w.len() / m, dst.len() / m, staged_bytes);
        weigh(cx, w.share_of_zeros(cx), || w.values(), product);
    }
    let (isa, axes, bytes) = (cx.target.isa, [axes[1], axes[2]], w.fit_bytes(cx));
    let conv = NarrowConv { site, bias: 4, x, src_zero, axes, groups, shape };
    let form = |p: &NarrowProduct| Int8Form::choose(isa, p.axes[1].out, bytes);
    narrow_conv(cx, conv, &w.sources(), || w.values(), form)
}

/// A depthwise convolution with `f32` sums.
fn quant_depthwise(
    cx: &mut Cx,
    site: &Site,
    x: &TensorView,
    src_zero: i32,
    integers: &QuantizedWeights,
    axes: [Axis; 3],
    channels: usize,
) -> Lowered {
    let (dst, w) = (site.result()?.clone(), integers.values());
    let taps = w.len() / channels.max(1);
    let sums = w.chunks(taps.max(1)).map(|of| 255 * of.iter().map(|&v| i64::from(v).abs()).sum::<i64>());
    let largest = sums.max().unwrap_or(0);
    let bias = small_bias(cx, site.optional(4), EXACT - largest)?;
    let fused = epilogue(cx, site, 4, &dst)?;
    // The bias is an operand after those of the fused expression; as `f32` it adds to the sum exactly.
    let expr = match bias {
        true => float_sum(&fused.expr, fused.operands.len()),
        false => of_float(&fused.expr),
    };
    let problem = WindowNest {
        batch: x.shape[0],
        channels,
        axes,
        reduce: WindowReduce::Dot,
        src: image(x)?,
        src_zero,
        dst: image(&dst)?,
        operands: fused.operands,
        epilogue: expr,
    };
    if largest >= EXACT {
        return Err(Declined::new(ReasonCode::Numbers, "the window's sums are not exact in f32"));
    }
    let filters = cx.packed(&integers.sources(), "operand 1, channels last", || {
        let w: Vec<f32> = w.iter().map(|&v| f32::from(v)).collect();
        Ok(floats(&window::filters(&w, channels))?)
    })?;
    window(cx, &problem, x, Some(filters), &fused.places, &dst, &site.loc)?;
    Ok(())
}

/// Whether there is a constant bias whose values are all below `bound`.
fn small_bias(cx: &Cx, bias: Option<Value>, bound: i64) -> Result<bool, Declined> {
    let Some(t) = bias.and_then(|v| cx.constant(v)) else { return Ok(false) };
    Ok(t.to_i64_vec().into_iter().all(|v| v.abs() < bound))
}

/// [`of_float`], where the sum has operand `bias` added, whose sum with it is exact as well.
fn float_sum(expr: &Expr, bias: usize) -> Expr {
    let biased = Expr::Operand(0).plus(Expr::Operand(bias));
    let whole = Expr::Operand(0).plus(Expr::Operand(bias).to_float());
    match expr {
        Expr::Func(Func::Lane(Unary::ToFloat), x) if **x == biased => whole,
        e if *e == biased => whole.to_int(),
        Expr::Operand(_) | Expr::Const(_) | Expr::Int(_) => expr.clone(),
        Expr::Func(f, x) => float_sum(x, bias).func(*f),
        Expr::Binary(op, of) => float_sum(&of[0], bias).binary(*op, float_sum(&of[1], bias)),
        Expr::Cmp(cmp, of) => float_sum(&of[0], bias).cmp(*cmp, float_sum(&of[1], bias)),
        Expr::Select(of) => float_sum(&of[0], bias).select(float_sum(&of[1], bias), float_sum(&of[2], bias)),
    }
}
