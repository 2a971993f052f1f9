//! Convolutions: dense and grouped ones are contractions, depthwise ones are windows.

use std::borrow::Cow;

use optc_ir::ops::nn::Conv;
use optc_ir::{Encoding, Value};
use optc_kernel::expr::Expr;
use optc_kernel::tile::MemType;
use optc_kernels::contract;
use optc_kernels::window::{self, Axis, WindowNest, WindowReduce};
use optc_kernels::winograd::Winograd;
use optc_tensor::{DType, Tensor};
use optc_types::steps::{BufRef, StepInfo};
use optc_types::{Numbers, Product, ReasonCode};

use super::bf16::{bf16_conv, only_f32_precision, only_factors, rounded_copy, rounded_floats};
use super::contract::{ContractCall, Strips, contraction, strip_mem};
use super::cx::Cx;
use super::dots::conv_dots;
use super::matmul::packing;
use super::moves::{plain_copy, view_in};
use super::operands::{Placed, axes, epilogue, floats, image, only_f32, permuted};
use super::separable::{Depthwise, separable};
use super::sparse::{BlockSize, Geometry, Matrix, block_of, sparse_conv, weigh, zeros_of};
use super::weights::DenseFilters;
use super::winograd::{Way, filtered, three_by_three, way_of};
use super::{Declined, Lowered, Site, TensorView, sparse};

pub(super) fn conv(cx: &mut Cx, op: &Conv, site: &Site) -> Lowered {
    if let Some(block) = block_of(cx, site.operand(1)?) {
        only_f32_precision(op.precision)?;
        return conv_in_blocks(cx, op, site, block);
    }
    let dst = site.result()?.clone();
    if dst.is_empty() {
        return Err(Declined::new(ReasonCode::Empty, "an empty convolution"));
    }
    let weights = filters(cx, site.operand(1)?)?;
    let shape = cx.ty(site.operand(1)?)?.static_shape().unwrap_or_default();
    let depthwise = shape[1] == 1 && op.groups > 1 && shape[0] as i64 == op.groups;
    // A depthwise kernel reads what it writes: channels last, or pixels side by side.
    let plain = depthwise && dst.is(Encoding::Plain) && !dst.is(Encoding::Nhwc);
    let x = view_in(cx, site.operand(0)?, if plain { Encoding::Plain } else { Encoding::Nhwc })?;
    only_factors(&x, op.precision)?;
    let kernel = &shape[2..];
    let axes = axes(&x.shape[2..], &dst.shape[2..], kernel, &op.strides, &op.dilations, &op.pads)?;
    let groups = usize::try_from(op.groups).map_err(|_| Declined::new(ReasonCode::Attribute, "no groups"))?;
    if !depthwise && op.precision == DType::BF16 {
        return bf16_conv(cx, op, site, &x, axes);
    }
    let fused = epilogue(cx, site, 2, &dst)?;
    if depthwise {
        let x = if op.precision == DType::BF16 { rounded_copy(cx, x, &site.loc)? } else { x };
        let problem = WindowNest {
            batch: x.shape[0],
            channels: groups,
            axes,
            reduce: WindowReduce::Dot,
            src: image(&x)?,
            src_zero: 0,
            dst: image(&dst)?,
            operands: fused.operands,
            epilogue: fused.expr,
        };
        if let DenseFilters::Constant(t) = &weights {
            let (weights, value) = (t, site.operand(0)?);
            let (window, places, loc) = (&problem, &fused.places[..], &site.loc[..]);
            if separable(cx, &Depthwise { value, src: &x, window, weights, places, dst: dst.at, loc }) {
                return Ok(());
            }
        }
        let filters = depthwise_filters(cx, &weights, groups, op.precision, &site.loc)?;
        return window(cx, &problem, &x, Some(filters), &fused.places, &dst, &site.loc);
    }
    let problem = contract::ConvNest {
        batch: x.shape[0],
        channels: shape[1],
        filters: shape[0] / groups,
        groups,
        axes,
        src: image(&x)?,
        dst: image(&dst)?,
        operands: fused.operands,
        epilogue: fused.expr,
    };
    if let (1, [Axis::NONE, h, x_axis], DenseFilters::Constant(t)) = (groups, axes, &weights) {
        let staged_bytes = sparse::staged_bytes(&x, [h, x_axis]);
        let (m, k) = (shape[0], t.len() / shape[0]);
        let w = t.as_slice::<f32>()?;
        let three_by_three = three_by_three(&problem);
        let product = Product::new(dst.len() / m, k, m, Numbers::Floats);
        weigh(cx, zeros_of(cx, t), || w.to_vec(), Product { staged_bytes, three_by_three, ..product });
    }
    if let Some(lowered) = conv_dots(cx, &problem, x.at, &weights, &fused.places, dst.at, &site.loc) {
        return lowered;
    }
    let way = if matches!(weights, DenseFilters::Constant(_)) { way_of(cx, &problem) } else { None };
    match (&weights, way) {
        (DenseFilters::Constant(t), Some((Way(Some(form)), _))) => {
            let winograd = Winograd::of(&problem, form)
                .ok_or_else(|| Declined::new(ReasonCode::NotFiltered, "no 3x3 convolution"))?;
            filtered(cx, &winograd, t, x.at, &fused.places, dst.at, &site.loc)?;
        }
        _ => convolution(cx, &problem, x.at, &weights, &fused.places, dst.at, &site.loc)?,
    }
    if let Some((_, point)) = way {
        cx.close(point);
    }
    Ok(())
}

fn conv_in_blocks(cx: &mut Cx, op: &Conv, site: &Site, block: BlockSize) -> Lowered {
    let DenseFilters::Constant(t) = filters(cx, site.operand(1)?)? else {
        return Err(Declined::new(ReasonCode::NotConstant, "the weights are not constant"));
    };
    let floats = t.as_slice::<f32>()?.to_vec();
    let filters = sparse::SparseFilters { matrix: Matrix::Floats(floats), shape: t.shape().to_vec(), block };
    let (dilations, pads, strides) = (&op.dilations, &op.pads, &op.strides);
    sparse_conv(cx, &Geometry { dilations, groups: op.groups, pads, strides }, site, &filters, 2)
}

fn filters<'a>(cx: &mut Cx, value: Value) -> Result<DenseFilters<'a>, Declined> {
    if let Some(tensor) = cx.constant(value).cloned() {
        tensor.as_slice::<f32>()?;
        return Ok(DenseFilters::Constant(tensor));
    }
    let view = cx.view(value)?;
    only_f32(&view)?;
    Ok(DenseFilters::Computed(view))
}

/// The filters of a depthwise convolution, `[taps…, channels]`; constant ones are rounded to the precision.
fn depthwise_filters(
    cx: &mut Cx,
    w: &DenseFilters,
    channels: usize,
    precision: DType,
    loc: &[String],
) -> Result<BufRef, Declined> {
    match w {
        DenseFilters::Constant(t) if precision == DType::BF16 => {
            cx.packed(&[t], "operand 1, rounded to bf16, channels last", || {
                Ok(floats(&window::filters(rounded_floats(t)?.as_slice()?, channels))?)
            })
        }
        DenseFilters::Constant(t) => {
            cx.packed(&[t], "operand 1, channels last", || Ok(floats(&window::filters(t.as_slice()?, channels))?))
        }
        DenseFilters::Part(part) => cx.packed(&[part.of], format!("operand 1, {}, channels last", part.which), || {
            Ok(floats(&window::filters(&(part.take)(), channels))?)
        }),
        DenseFilters::Computed(_) if precision == DType::BF16 => {
            Err(Declined::new(ReasonCode::NotConstant, "in bfloat16, weights are constant"))
        }
        DenseFilters::Computed(view) => {
            let rank = view.shape.len();
            let taps_first: Vec<usize> = (2..rank).chain([1, 0]).collect();
            Ok(plain_copy(cx, &permuted(view, &taps_first), loc)?.at)
        }
    }
}

/// The packed filters of a dense convolution; computed ones get their channels last before, and are packed `nr` columns
/// at a time.
fn packed_filters(
    cx: &mut Cx,
    w: &DenseFilters,
    c: &contract::ConvNest,
    (nr, mem): (usize, MemType),
    loc: &[String],
) -> Result<BufRef, Declined> {
    let lanes = cx.target.isa.lanes();
    let len = c.packed_len(lanes);
    match w {
        DenseFilters::Constant(t) => {
            let recipe = format!("operand 1, {} groups in strips of {lanes}", c.groups);
            filter_strips(cx, c, Strips { of: t, recipe, len, mem }, || Ok(Cow::Borrowed(t.as_slice()?)))
        }
        DenseFilters::Part(part) => {
            let recipe = format!("operand 1, {}, {} groups in strips of {lanes}", part.which, c.groups);
            filter_strips(cx, c, Strips { of: part.of, recipe, len, mem }, || Ok(Cow::Owned((part.take)())))
        }
        DenseFilters::Computed(view) => {
            let rank = view.shape.len();
            let channels_last: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
            let from = plain_copy(cx, &permuted(view, &channels_last), loc)?;
            let p = c.pack();
            // The elements of all taps lie side by side: one long tap.
            let one = contract::PackB { taps: 1, k: p.taps * p.k, ..p };
            Ok(packing(cx, &from, c.groups, c.group_weights(1), &one, nr, loc))
        }
    }
}

/// Adds the filters that `take` gives, packed for all groups.
fn filter_strips<'w>(
    cx: &mut Cx,
    c: &contract::ConvNest,
    strips: Strips,
    take: impl FnOnce() -> Result<Cow<'w, [f32]>, Declined>,
) -> Result<BufRef, Declined> {
    let (lanes, threads) = (cx.target.isa.lanes(), cx.threads);
    let floats = |w: &[f32], packed: &mut [f32]| c.pack_weights(w, lanes, threads, packed);
    strips.add(cx, take, floats, |w, packed| c.pack_weights(w, lanes, threads, packed))
}

/// Emits the contraction of a convolution.
pub(super) fn convolution(
    cx: &mut Cx,
    problem: &contract::ConvNest,
    a: BufRef,
    weights: &DenseFilters,
    places: &[BufRef],
    dst: BufRef,
    loc: &[String],
) -> Lowered {
    let b_mem = match weights {
        DenseFilters::Constant(t) => strip_mem(cx, t)?,
        DenseFilters::Part(part) => strip_mem(cx, part.of)?,
        DenseFilters::Computed(_) => MemType::F32,
    };
    let mut contract = contract::Contract { b_mem, ..contract::conv(problem) };
    let (schedule, point) = cx.schedule(&contract);
    let b = packed_filters(cx, weights, problem, (schedule.nr, contract.b_mem), loc)?;
    let operands = std::mem::take(&mut contract.operands);
    let operands = operands.into_iter().zip(places).map(|(operand, &at)| Placed { operand, at }).collect();
    let epilogue = std::mem::replace(&mut contract.epilogue, Expr::Operand(0));
    contraction(cx, ContractCall { contract, a, b, dst, operands, epilogue, schedule, loc: loc.to_vec() })?;
    cx.close(point);
    Ok(())
}

/// Emits the kernel of a window.
pub(super) fn window(
    cx: &mut Cx,
    problem: &WindowNest,
    src: &TensorView,
    weights: Option<BufRef>,
    places: &[BufRef],
    dst: &TensorView,
    loc: &[String],
) -> Lowered {
    let built = window::window(problem, cx.target.isa);
    let mut args = vec![src.at];
    args.extend(weights);
    if let Some(table) = built.table {
        args.push(cx.add_constant("offsets of taps", Tensor::from_bytes(DType::U8, &[table.len()], &table)?));
    }
    args.extend(places);
    args.push(dst.at);
    let taps: usize = problem.axes.iter().map(|a| a.kernel).product();
    let each = if problem.reduce == WindowReduce::Dot { 2.0 } else { 1.0 };
    let flops = each * (dst.len() * taps) as f64;
    if problem.reduce == WindowReduce::Dot {
        let pixels = problem.batch * problem.axes.iter().map(|a| a.out).product::<usize>();
        let (batch, inputs) = (problem.channels, src.len());
        let product = Product::new(pixels, taps, 1, Numbers::Floats);
        cx.notes.product = Some(Product { batch, inputs, depthwise: true, ..product });
    }
    let bytes = (src.span_bytes() + dst.span_bytes()) as f64;
    cx.kernel(built.kernel, args, None, StepInfo { loc: loc.to_vec(), flops, bytes, ..StepInfo::default() });
    Ok(())
}
