//! Convolutions: dense and grouped ones are contractions, depthwise ones are windows.

use optc_ir::ops::nn::Conv;
use optc_ir::{Encoding, Value};
use optc_kernel::expr::Expr;
use optc_kernels::contract;
use optc_kernels::window::{self, Axis, Reduce, Window};
use optc_kernels::winograd::Winograd;
use optc_tensor::{DType, Tensor, TensorError};
use optc_types::steps::{BufRef, Info};
use optc_types::{Numbers, Product};

use super::bf16::{only_f32_precision, only_factors, rounded_floats};
use super::contract::{Call, Placed, only_f32};
use super::elementwise::mem_of;
use super::separable::Depthwise;
use super::sparse::{self, Block, Geometry, Matrix};
use super::winograd::{Way, three_by_three};
use super::{Declined, Epilogue, Lowered, Lowering, Site, View};

impl Lowering {
    pub(super) fn conv(&mut self, op: &Conv, site: &Site) -> Lowered {
        if let Some(block) = self.block_of(site.operand(1)?) {
            only_f32_precision(op.precision)?;
            return self.conv_in_blocks(op, site, block);
        }
        let dst = site.result()?.clone();
        if dst.is_empty() {
            return Err(Declined::new("an empty convolution"));
        }
        let weights = self.filters(site.operand(1)?)?;
        let shape = weights.shape().to_vec();
        let depthwise = shape[1] == 1 && op.groups > 1 && shape[0] as i64 == op.groups;
        // A depthwise kernel reads what it writes: channels last, or pixels side by side.
        let plain = depthwise && dst.is(Encoding::Plain) && !dst.is(Encoding::Nhwc);
        let x = self.view_in(site.operand(0)?, if plain { Encoding::Plain } else { Encoding::Nhwc })?;
        only_factors(&x, op.precision)?;
        let kernel = &shape[2..];
        let axes = axes(&x.shape[2..], &dst.shape[2..], kernel, &op.strides, &op.dilations, &op.pads)?;
        let groups = usize::try_from(op.groups).map_err(|_| Declined::new("no groups"))?;
        if !depthwise && op.precision == DType::BF16 {
            return self.bf16_conv(op, site, &x, axes);
        }
        let fused = self.epilogue(site, 2, &dst)?;
        if depthwise {
            let (x, weights) = match op.precision {
                DType::BF16 => (self.rounded_copy(x, &site.loc)?, rounded_filters(weights)?),
                _ => (x, weights),
            };
            let problem = Window {
                batch: x.shape[0],
                channels: groups,
                axes,
                reduce: Reduce::Dot,
                src: image(&x)?,
                src_zero: 0,
                dst: image(&dst)?,
                operands: fused.operands,
                epilogue: fused.expr,
            };
            if let Filters::Constant(t) = &weights {
                let (weights, value) = (t.as_slice().map_err(|e| Declined::new(e.to_string()))?, site.operand(0)?);
                let (window, places, loc) = (&problem, &fused.places[..], &site.loc[..]);
                if self.separable(&Depthwise { value, src: &x, window, weights, places, dst: dst.at, loc }) {
                    return Ok(());
                }
            }
            let filters = self.depthwise_filters(&weights, groups, &site.loc)?;
            return self.window(&problem, &x, Some(filters), &fused.places, &dst, &site.loc);
        }
        let problem = contract::Conv {
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
        if let (1, [Axis::NONE, h, x_axis], Filters::Constant(t)) = (groups, axes, &weights) {
            let staged_bytes = sparse::staged_bytes(&x, [h, x_axis]);
            let (m, k) = (shape[0], t.len() / shape[0]);
            let w = t.as_slice::<f32>().map_err(|e| Declined::new(e.to_string()))?;
            let three_by_three = three_by_three(&problem);
            self.weigh(
                w,
                Product { staged_bytes, three_by_three, ..Product::new(dst.len() / m, k, m, Numbers::Floats) },
            );
        }
        let way = if matches!(weights, Filters::Constant(_)) { self.way_of(&problem) } else { None };
        match (&weights, way) {
            (Filters::Constant(t), Some((Way(Some(form)), _))) => {
                let w = t.as_slice::<f32>().map_err(|e| Declined::new(e.to_string()))?;
                let winograd = Winograd::of(&problem, form).ok_or_else(|| Declined::new("no 3x3 convolution"))?;
                self.winograd(&winograd, w, x.at, &fused.places, dst.at, &site.loc)?;
            }
            _ => self.convolution(&problem, x.at, &weights, &fused.places, dst.at, &site.loc)?,
        }
        if let Some((_, point)) = way {
            self.close(point);
        }
        Ok(())
    }

    fn conv_in_blocks(&mut self, op: &Conv, site: &Site, block: Block) -> Lowered {
        let Filters::Constant(t) = self.filters(site.operand(1)?)? else {
            return Err(Declined::new("the weights are not constant"));
        };
        let floats = t.as_slice::<f32>().map_err(|e| Declined::new(e.to_string()))?.to_vec();
        let filters = sparse::Filters { matrix: Matrix::Floats(floats), shape: t.shape().to_vec(), block };
        let (dilations, pads, strides) = (&op.dilations, &op.pads, &op.strides);
        self.sparse_conv(&Geometry { dilations, groups: op.groups, pads, strides }, site, &filters, 2)
    }

    fn filters(&mut self, value: Value) -> Result<Filters, Declined> {
        if let Some(tensor) = self.constant(value).cloned() {
            tensor.as_slice::<f32>().map_err(|e| Declined::new(e.to_string()))?;
            return Ok(Filters::Constant(tensor));
        }
        let view = self.view(value)?;
        only_f32(&view)?;
        Ok(Filters::Computed(view))
    }

    /// The filters of a depthwise convolution, `[taps…, channels]`.
    fn depthwise_filters(&mut self, w: &Filters, channels: usize, loc: &[String]) -> Result<BufRef, Declined> {
        match w {
            Filters::Constant(t) => {
                let w = t.as_slice::<f32>().map_err(|e| Declined::new(e.to_string()))?;
                Ok(self.add_constant(floats(&window::filters(w, channels))?))
            }
            Filters::Computed(view) => {
                let rank = view.shape.len();
                let taps_first: Vec<usize> = (2..rank).chain([1, 0]).collect();
                Ok(self.plain_copy(&permuted(view, &taps_first), loc)?.at)
            }
        }
    }

    /// The filters of a dense convolution in panels of `nr` columns; computed ones get their channels last before.
    fn packed_filters(
        &mut self,
        w: &Filters,
        c: &contract::Conv,
        nr: usize,
        loc: &[String],
    ) -> Result<BufRef, Declined> {
        match w {
            Filters::Constant(t) => {
                let w = t.as_slice::<f32>().map_err(|e| Declined::new(e.to_string()))?;
                let threads = self.options.threads;
                self.constant_floats(c.packed_len(nr), |packed| c.pack_weights(w, nr, threads, packed))
            }
            Filters::Computed(view) => {
                let rank = view.shape.len();
                let channels_last: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
                let from = self.plain_copy(&permuted(view, &channels_last), loc)?;
                let p = c.pack();
                // The elements of all taps lie side by side: one long tap.
                let one = contract::PackB { taps: 1, k: p.taps * p.k, ..p };
                Ok(self.packing(&from, c.groups, c.group_weights(1), &one, nr, loc))
            }
        }
    }

    /// Emits the contraction of a convolution.
    pub(super) fn convolution(
        &mut self,
        problem: &contract::Conv,
        a: BufRef,
        weights: &Filters,
        places: &[BufRef],
        dst: BufRef,
        loc: &[String],
    ) -> Lowered {
        let mut contract = contract::conv(problem);
        let (schedule, point) = self.schedule(&contract);
        let b = self.packed_filters(weights, problem, schedule.nr, loc)?;
        let operands = std::mem::take(&mut contract.operands);
        let operands = operands.into_iter().zip(places).map(|(operand, &at)| Placed { operand, at }).collect();
        let epilogue = std::mem::replace(&mut contract.epilogue, Expr::Operand(0));
        self.contract(Call { contract, a, b, dst, operands, epilogue, schedule, loc: loc.to_vec() })?;
        self.close(point);
        Ok(())
    }

    /// Emits the kernel of a window.
    pub(super) fn window(
        &mut self,
        problem: &Window,
        src: &View,
        weights: Option<BufRef>,
        places: &[BufRef],
        dst: &View,
        loc: &[String],
    ) -> Lowered {
        let built = window::window(problem, self.target.isa);
        let mut args = vec![src.at];
        args.extend(weights);
        if let Some(table) = built.table {
            args.push(self.add_constant(Tensor::from_bytes(DType::U8, &[table.len()], &table)?));
        }
        args.extend(places);
        args.push(dst.at);
        let taps: usize = problem.axes.iter().map(|a| a.kernel).product();
        let each = if problem.reduce == Reduce::Dot { 2.0 } else { 1.0 };
        let flops = each * (dst.len() * taps) as f64;
        if problem.reduce == Reduce::Dot {
            let pixels = problem.batch * problem.axes.iter().map(|a| a.out).product::<usize>();
            let (batch, inputs) = (problem.channels, src.len());
            let product = Product::new(pixels, taps, 1, Numbers::Floats);
            self.product = Some(Product { batch, inputs, depthwise: true, ..product });
        }
        let bytes = (src.span_bytes() + dst.span_bytes()) as f64;
        self.kernel(built.kernel, args, None, Info { loc: loc.to_vec(), flops, bytes, ..Info::default() });
        Ok(())
    }

    /// The epilogue of a site, with the bias in operand `slot`, one value for each index of axis 1.
    pub(super) fn biased(&mut self, site: &Site, slot: usize, dst: &View) -> Result<Epilogue, Declined> {
        let mut epilogue = site.epilogue.clone();
        if let Some(bias) = site.optional(slot) {
            let bias = self.view(bias)?;
            let mut shape = vec![1; dst.shape.len()];
            shape[1] = dst.shape[1];
            let wide = bias.reshaped(&shape).and_then(|v| v.broadcast(&dst.shape));
            epilogue.operands.push(wide.ok_or_else(|| Declined::new("a bias that is not one value a channel"))?);
            let sum = Expr::Operand(0).plus(Expr::Operand(epilogue.operands.len()));
            epilogue.expr = epilogue.expr.with_operand(0, &sum);
        }
        Ok(epilogue)
    }

    /// The epilogue of a site over images, with the bias in operand `slot` of an op that has one.
    pub(super) fn epilogue(&mut self, site: &Site, slot: usize, dst: &View) -> Result<Fused, Declined> {
        let epilogue = self.biased(site, slot, dst)?;
        let places = epilogue.operands.iter().map(|v| v.at).collect();
        Ok(Fused {
            expr: epilogue.expr,
            operands: epilogue.operands.iter().map(image).collect::<Result<_, _>>()?,
            places,
        })
    }
}

/// Constant filters rounded to bfloat16.
fn rounded_filters(w: Filters) -> Result<Filters, Declined> {
    match w {
        Filters::Constant(t) => Ok(Filters::Constant(rounded_floats(&t)?)),
        Filters::Computed(_) => Err(Declined::new("in bfloat16, weights are constant")),
    }
}

/// The weights of a convolution as ONNX has them.
pub(super) enum Filters {
    Constant(Tensor),
    Computed(View),
}

impl Filters {
    fn shape(&self) -> &[usize] {
        match self {
            Filters::Constant(t) => t.shape(),
            Filters::Computed(view) => &view.shape,
        }
    }
}

fn permuted(view: &View, perm: &[usize]) -> View {
    let shape = perm.iter().map(|&d| view.shape[d]).collect();
    View { shape, strides: perm.iter().map(|&d| view.strides[d]).collect(), ..view.clone() }
}

/// An epilogue over images.
pub(super) struct Fused {
    pub expr: Expr,
    pub operands: Vec<window::View>,
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
pub(super) fn image(view: &View) -> Result<window::View, Declined> {
    let strides = view.byte_strides();
    let mut all = [0; 5];
    (all[0], all[4]) = (strides[0], strides[1]);
    let spatial = &strides[2..];
    all[4 - spatial.len()..4].copy_from_slice(spatial);
    Ok(window::View { mem: mem_of(view.dtype)?, bytes: view.span_bytes(), offset: 0, strides: all })
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
        return Err(Declined::new(format!("{n} spatial axes")));
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
