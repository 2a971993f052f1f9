//! Transposed convolutions, cut by the phases of their strides.
//!
//! Result `o = first + stride * q` of an axis sees the taps `k` for which `first + pad - k * dilation` is a multiple of
//! the stride. The taps of one phase are evenly spaced, so that a phase is a convolution of stride 1 into every
//! `stride`-th element: nothing is multiplied by inserted zeros, and no element is written twice.

use optc_ir::Encoding;
use optc_ir::ops::nn::ConvTranspose;
use optc_kernel::expr::Expr;
use optc_kernel::space;
use optc_kernels::contract;
use optc_kernels::elementwise::{Elementwise, elementwise};
use optc_kernels::window::{self, Axis, WindowNest, WindowReduce};
use optc_tensor::Tensor;
use optc_types::ReasonCode;
use optc_types::steps::{BufRef, StepInfo};

use super::conv::{convolution, window};
use super::cx::Cx;
use super::moves::view_in;
use super::operands::{ImageEpilogue, epilogue, floats, image, only_f32};
use super::weights::{DenseFilters, FiltersPart};
use super::{Declined, Lowered, Site, TensorView};

/// The elements `first`, `first + stride`, … of one axis of the result.
#[derive(Clone, Debug, PartialEq)]
struct Phase {
    first: usize,
    /// The taps that they see, in the order of the source's elements.
    taps: Vec<usize>,
    /// The convolution along the axis.
    axis: Axis,
    /// Elements of the source before the first one that is read.
    skip: usize,
}

/// The phases of an axis; `dilation` and `stride` are at least 1.
fn phases(size: usize, out: usize, kernel: usize, stride: usize, dilation: usize, pad: usize) -> Vec<Phase> {
    let at = |first: usize, tap: usize| (first + pad) as i64 - (tap * dilation) as i64;
    let phase = |first: usize| {
        let sees = |&tap: &usize| at(first, tap).rem_euclid(stride as i64) == 0;
        let mut taps: Vec<usize> = (0..kernel).rev().filter(sees).collect();
        let low = taps.first().map_or(0, |&tap| at(first, tap).div_euclid(stride as i64));
        let skip = low.max(0) as usize;
        if skip >= size {
            taps.clear();
        }
        let apart = taps.windows(2).next().map_or(1, |pair| (pair[0] - pair[1]) * dilation / stride);
        let axis = Axis {
            size: size.saturating_sub(skip),
            out: (out - first).div_ceil(stride),
            kernel: taps.len(),
            stride: 1,
            dilation: apart,
            pads: [(-low).max(0) as usize, 0],
        };
        Phase { first, taps, axis, skip }
    };
    (0..stride.min(out)).map(phase).collect()
}

/// What all phases share.
struct Transposed<'a> {
    x: TensorView,
    dst: TensorView,
    /// `[channels, filters of a group, taps…]`, and its elements.
    weights: &'a Tensor,
    values: &'a [f32],
    /// Taps of planes, rows and columns.
    kernel: [usize; 3],
    strides: [usize; 3],
    channels: usize,
    filters: usize,
    groups: usize,
    fused: ImageEpilogue,
    loc: &'a [String],
}

pub(super) fn conv_transpose(cx: &mut Cx, op: &ConvTranspose, site: &Site) -> Lowered {
    let dst = site.result()?.clone();
    only_f32(&dst)?;
    let x = view_in(cx, site.operand(0)?, Encoding::Nhwc)?;
    let weights = cx.constant(site.operand(1)?).cloned();
    let weights = weights.ok_or_else(|| Declined::new(ReasonCode::NotConstant, "the weights are not constant"))?;
    let spatial = x.shape.len().saturating_sub(2);
    if dst.is_empty() || x.is_empty() || weights.is_empty() || !(1..=3).contains(&spatial) {
        return Err(Declined::new(ReasonCode::Empty, "it is empty, or has more than three spatial axes"));
    }
    let groups = usize::try_from(op.groups).map_err(|_| Declined::new(ReasonCode::Attribute, "no groups"))?;
    let shape = weights.shape();
    let at = |v: &[i64], i: usize, default: usize| v.get(i).map_or(default, |&x| x as usize);
    let (mut kernel, mut strides) = ([1; 3], [1; 3]);
    let mut all = [(); 3].map(|()| phases(1, 1, 1, 1, 1, 0));
    for i in 0..spatial {
        let d = 3 - spatial + i;
        (kernel[d], strides[d]) = (shape[2 + i], at(&op.strides, i, 1));
        let (dilation, pad) = (at(&op.dilations, i, 1), at(&op.pads, i, 0));
        all[d] = phases(x.shape[2 + i], dst.shape[2 + i], kernel[d], strides[d], dilation, pad);
    }
    let fused = epilogue(cx, site, 2, &dst)?;
    let t = Transposed {
        weights: &weights,
        values: weights.as_slice::<f32>()?,
        kernel,
        strides,
        channels: shape[0] / groups.max(1),
        filters: shape[1],
        groups,
        fused,
        loc: &site.loc,
        x,
        dst,
    };
    for planes in &all[0] {
        for rows in &all[1] {
            for columns in &all[2] {
                phase(cx, &t, [planes, rows, columns])?;
            }
        }
    }
    Ok(())
}

/// Emits the kernel of one phase of each axis.
fn phase(cx: &mut Cx, t: &Transposed, phases: [&Phase; 3]) -> Lowered {
    let place = |view: &window::ImageView| every(view, phases.map(|p| p.first), t.strides);
    let (dst, operands) = (place(&image(&t.dst)?), t.fused.operands.iter().map(place).collect::<Vec<_>>());
    let axes = phases.map(|p| p.axis);
    if axes.iter().any(|a| a.kernel == 0) {
        return no_taps(cx, t, axes, dst, operands);
    }
    let src = every(&image(&t.x)?, phases.map(|p| p.skip), [1; 3]);
    let take = || t.weights_of(phases);
    let which = format!("taps {:?}", phases.map(|p| &p.taps));
    let (batch, epilogue) = (t.x.shape[0], t.fused.expr.clone());
    if t.groups > 1 && t.filters == 1 && t.channels == 1 {
        let problem = WindowNest {
            batch,
            channels: t.groups,
            axes,
            reduce: WindowReduce::Dot,
            src,
            src_zero: 0,
            dst,
            operands,
            epilogue,
        };
        let filters = cx.packed(&[t.weights], format!("operand 1, {which}, channels last"), || {
            Ok(floats(&window::filters(&take(), t.groups))?)
        })?;
        window(cx, &problem, &t.x, Some(filters), &t.fused.places, &t.dst, t.loc)?;
        return Ok(());
    }
    let (channels, filters, groups) = (t.channels, t.filters, t.groups);
    let problem = contract::ConvNest { batch, channels, filters, groups, axes, src, dst, operands, epilogue };
    let weights = DenseFilters::Part(FiltersPart { of: t.weights, which, take: &take });
    convolution(cx, &problem, t.x.at, &weights, &t.fused.places, t.dst.at, t.loc)
}

/// Emits the kernel of elements that no tap reaches: their sum is zero.
fn no_taps(
    cx: &mut Cx,
    t: &Transposed,
    axes: [Axis; 3],
    dst: window::ImageView,
    operands: Vec<window::ImageView>,
) -> Lowered {
    let view = |v: &window::ImageView| space::ByteView {
        mem: v.mem,
        bytes: v.bytes,
        offset: v.offset,
        strides: v.strides.to_vec(),
    };
    let zero = |i: usize| i.checked_sub(1).map_or(Expr::Const(0.0), Expr::Operand);
    let shape = vec![t.x.shape[0], axes[0].out, axes[1].out, axes[2].out, t.filters * t.groups];
    let bytes = 4.0 * shape.iter().product::<usize>() as f64;
    let results = vec![(view(&dst), t.fused.expr.with_operands(&zero))];
    let problem = Elementwise { shape, operands: operands.iter().map(view).collect(), results };
    let args: Vec<BufRef> = t.fused.places.iter().copied().chain([t.dst.at]).collect();
    let info = StepInfo { loc: t.loc.to_vec(), bytes, ..StepInfo::default() };
    cx.kernel(elementwise(&problem, cx.target.isa), args, None, info);
    Ok(())
}

impl Transposed<'_> {
    /// The weights of a phase as those of a convolution: `[groups * filters, channels, taps…]`.
    fn weights_of(&self, phases: [&Phase; 3]) -> Vec<f32> {
        let [planes, rows, columns] = phases.map(|p| &p.taps);
        let [_, h, w] = self.kernel;
        let area: usize = self.kernel.iter().product();
        let mut all = Vec::new();
        for filter in 0..self.groups * self.filters {
            let (group, filter) = (filter / self.filters, filter % self.filters);
            for channel in 0..self.channels {
                let from = ((group * self.channels + channel) * self.filters + filter) * area;
                for plane in planes {
                    for row in rows {
                        all.extend(columns.iter().map(|column| self.values[from + (plane * h + row) * w + column]));
                    }
                }
            }
        }
        all
    }
}

/// Every `strides`-th element of each spatial axis, from `first` on.
fn every(view: &window::ImageView, first: [usize; 3], strides: [usize; 3]) -> window::ImageView {
    let mut some = *view;
    for d in 0..3 {
        some.offset += first[d] as i64 * view.strides[1 + d];
        some.strides[1 + d] *= strides[d] as i64;
    }
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each phase must see the elements that the definition names.
    #[test]
    fn phases_see_what_the_taps_spread() {
        for (size, kernel, stride, dilation, pad, extra) in
            [(5, 3, 2, 1, 1, 1), (4, 4, 3, 2, 0, 2), (3, 2, 4, 1, 0, 0), (2, 5, 2, 2, 3, 0), (6, 3, 6, 4, 5, 1)]
        {
            let out = stride * (size - 1) + dilation * (kernel - 1) + 1 + extra - pad;
            let mut want = vec![vec![]; out];
            for i in 0..size {
                for k in (0..kernel).rev() {
                    if let Some(o) = (i * stride + k * dilation).checked_sub(pad).filter(|&o| o < out) {
                        want[o].push((i, k));
                    }
                }
            }
            let mut found = vec![vec![]; out];
            for p in phases(size, out, kernel, stride, dilation, pad) {
                for q in (0..p.axis.out).filter(|_| p.axis.kernel > 0) {
                    let seen = p.axis.taps(q).map(|t| (p.skip + q + t * p.axis.dilation - p.axis.pads[0], p.taps[t]));
                    found[p.first + stride * q].extend(seen);
                }
            }
            want.iter_mut().for_each(|list| list.sort_unstable());
            assert_eq!(found, want, "{size} {kernel} {stride} {dilation} {pad}");
        }
    }
}
