//! Quantization whose scales are found at run time: `quant.dynamic_quantize` and `quant.dynamic_lstm`.

use optc_ir::ops::quant::{self, DynamicLstm, DynamicQuantize};
use optc_ir::{Decl, Encoding};
use optc_kernel::expr::Expr;
use optc_kernel::tile::MemType;
use optc_kernels::dynamic::range_kernel;
use optc_kernels::int8::{Int8Form, Pack, pack};
use optc_kernels::recurrent;
use optc_tensor::{DType, Tensor};
use optc_types::ReasonCode;
use optc_types::steps::{BufRef, StepInfo};

use super::cx::Cx;
use super::moves::{plain_copy, view_in};
use super::operands::{floats, only_f32};
use super::product::{EXACT, MatrixStack, PackedRight, add_packed, matrix_product, narrow_nr};
use super::recurrent::{Attrs, LSTM_ACTIVATIONS, RecurrentLayer, StateWeights, layer, lengths, recurrent, values};
use super::{Declined, Epilogue, Lowered, Site, TensorView, elementwise, strides_in};

/// Quantized weights `[directions, inner, columns]` without their zero points, and a scale for each column of a
/// direction.
struct Weights {
    /// What they are made from.
    of: Tensor,
    zeros: Option<Tensor>,
    values: Vec<i16>,
    scales: Vec<f32>,
    directions: usize,
    inner: usize,
    columns: usize,
}

impl Weights {
    /// Whether each is a signed byte.
    fn fit_bytes(&self) -> bool {
        self.values.iter().all(|&w| i8::try_from(w).is_ok())
    }

    fn sources(&self) -> Vec<&Tensor> {
        std::iter::once(&self.of).chain(&self.zeros).collect()
    }

    /// The weight of row `k` in column `n` of all directions' columns.
    fn at(&self, k: usize, n: usize) -> i16 {
        let (dir, column) = (n / self.columns, n % self.columns);
        self.values[(dir * self.inner + k) * self.columns + column]
    }

    /// The sums of the columns of all directions.
    fn sums(&self, of: impl Fn(i16) -> i64) -> Vec<i64> {
        let columns = 0..self.directions * self.columns;
        columns.map(|n| (0..self.inner).map(|k| of(self.at(k, n))).sum()).collect()
    }
}

pub(super) fn dynamic_quantize(cx: &mut Cx, _: &DynamicQuantize, site: &Site) -> Lowered {
    site.without_epilogue()?;
    let x = cx.view(site.operand(0)?)?;
    let [y, scale, zero] = &site.results[..] else {
        return Err(Declined::new(ReasonCode::Attribute, "it has three results"));
    };
    let (y, scale, zero) = (y.clone(), scale.clone(), zero.clone());
    quantized(cx, x, &y, [&scale, &zero], &site.loc)
}

/// Emits the kernels that quantize `x` to `y` with a scale and a zero point that they find.
fn quantized(cx: &mut Cx, x: TensorView, y: &TensorView, [scale, zero]: [&TensorView; 2], loc: &[String]) -> Lowered {
    only_f32(&x)?;
    if x.is_empty() {
        return Err(Declined::new(ReasonCode::Empty, "an empty value has no range"));
    }
    let dense = x.is(Encoding::Plain) || x.is(Encoding::Nhwc);
    let x = if dense { x } else { plain_copy(cx, &x, loc)? };
    let info = StepInfo { loc: loc.to_vec(), bytes: 4.0 * x.len() as f64, ..StepInfo::default() };
    let kernel = range_kernel(x.len(), cx.target.isa);
    cx.kernel(kernel, vec![x.at, scale.at, zero.at], None, info);
    let wide =
        |v: &TensorView| v.broadcast(&y.shape).ok_or_else(|| Declined::new(ReasonCode::Shape, "a scale is one value"));
    let operands = [x, wide(scale)?, wide(zero)?];
    let expr = quant::quantized([0, 1, 2].map(Expr::Operand), DType::U8)?;
    elementwise::elementwise(cx, &expr, &operands, y, loc)
}

/// A buffer for a value of the op at hand.
fn temp_view(cx: &mut Cx, dtype: DType, shape: &[usize]) -> TensorView {
    let bytes = shape.iter().product::<usize>() * dtype.bits() / 8;
    let strides = strides_in(shape, Encoding::Plain);
    TensorView { at: cx.temp(bytes), dtype, shape: shape.to_vec(), strides }
}

pub(super) fn dynamic_lstm(cx: &mut Cx, op: &DynamicLstm, site: &Site) -> Lowered {
    let attrs = Attrs::new(&op.activations, [&op.activation_alpha, &op.activation_beta], op.clip, op.direction);
    let (w, r) = (narrow_weights(cx, site, 1, [8, 9])?, narrow_weights(cx, site, 2, [10, 11])?);
    // The sums over a state are those of integers, in `f32`.
    if r.sums(|v| 255 * i64::from(v).abs()).into_iter().any(|s| s >= EXACT) {
        return Err(Declined::new(ReasonCode::Numbers, "the sums over the state are not exact in f32"));
    }
    let peepholes = values(cx, site, 7)?.unwrap_or_default();
    let rows = if peepholes.is_empty() { 0 } else { 3 };
    let cell = |d: usize| {
        let activations = attrs.activations(d, LSTM_ACTIVATIONS);
        recurrent::dynamic(recurrent::lstm(&activations, rows > 0, op.input_forget), rows)
    };
    let h = r.inner;
    let mut problem = layer(cx, site, h, &attrs, 4, rows + 4, cell)?;
    if lengths(cx, site, problem.steps)?.is_some() {
        // States of sequences that have ended have no share in the scale.
        return Err(Declined::new(ReasonCode::Shape, "sequences of different lengths"));
    }
    if r.fit_bytes() {
        problem.weights = MemType::I8;
    }
    let constants = (0..r.directions).flat_map(|d| {
        let scales = &r.scales[d * r.columns..][..r.columns];
        [&peepholes[d * rows * h..][..rows * h], scales].concat()
    });
    let constants = constants.collect();
    let turned = || {
        let all = (0..r.directions * r.columns).flat_map(|n| (0..h).map(move |k| (k, n)));
        all.map(|(k, n)| f32::from(r.at(k, n))).collect()
    };
    let input = dynamic_products(cx, site, &w, h)?;
    let state = StateWeights { of: &r.sources(), words: ", integers", take: &turned };
    let layer = RecurrentLayer { op: DynamicLstm::NAME, problem, merged: vec![true; 4], constants };
    recurrent(cx, site, layer, Some(6), state, input)
}

/// Constant weights in operand `slot`, with scales and zero points in two others.
fn narrow_weights(cx: &Cx, site: &Site, slot: usize, [scale, zero]: [usize; 2]) -> Result<Weights, Declined> {
    let constant = |slot: usize| -> Result<Option<&Tensor>, Declined> {
        let Some(value) = site.optional(slot) else { return Ok(None) };
        cx.constant(value)
            .map(Some)
            .ok_or_else(|| Declined::new(ReasonCode::NotConstant, "the weights are not constant"))
    };
    let absent = || Declined::new(ReasonCode::Absent, "the weights or their scales are absent");
    let (w, scale) = (constant(slot)?.ok_or_else(absent)?, constant(scale)?.ok_or_else(absent)?);
    let &[directions, inner, columns] = w.shape() else {
        return Err(Declined::new(ReasonCode::Shape, "weights of another rank than 3"));
    };
    let all = directions * columns;
    let spread = |v: Vec<f64>| -> Result<Vec<f64>, Declined> {
        let fits = v.len() == directions || v.len() == all;
        let share = all / v.len().max(1);
        if fits { Ok((0..all).map(|i| v[i / share]).collect()) } else { Err(absent()) }
    };
    let scales = spread(scale.to_f64_vec())?.into_iter().map(|s| s as f32).collect();
    let zeros = spread(constant(zero)?.map_or_else(|| vec![0.0; directions], Tensor::to_f64_vec))?;
    let column = |i: usize| i / (inner * columns).max(1) * columns + i % columns.max(1);
    let values = w.to_i64_vec().into_iter().enumerate().map(|(i, v)| (v - zeros[column(i)] as i64) as i16);
    let zeros = constant(zero)?.cloned();
    Ok(Weights { of: w.clone(), zeros, values: values.collect(), scales, directions, inner, columns })
}

/// The products of the operands of all steps, quantized at once: `[steps * batch, directions * 4 * hidden]` with all
/// biases.
fn dynamic_products(cx: &mut Cx, site: &Site, w: &Weights, h: usize) -> Result<BufRef, Declined> {
    let x = view_in(cx, site.operand(0)?, Encoding::Plain)?;
    let &[steps, batch, k] = &x.shape[..] else {
        return Err(Declined::new(ReasonCode::Shape, "an operand that is not of rank 3"));
    };
    let (m, n, loc) = (steps * batch, w.directions * w.columns, &site.loc);
    if w.inner != k || w.columns != 4 * h {
        return Err(Declined::new(ReasonCode::Shape, "weights that do not fit the operand"));
    }
    let (a, scale, zero) =
        (temp_view(cx, DType::U8, &x.shape), temp_view(cx, DType::F32, &[]), temp_view(cx, DType::U8, &[]));
    quantized(cx, x, &a, [&scale, &zero], loc)?;
    let form = Int8Form::choose(cx.target.isa, m, w.fit_bytes());
    let packing = Pack { form, rows: 1, taps: 1, k, n, zero: form.staged_zero(MemType::U8, 0) };
    let nr = narrow_nr(cx, form);
    let at = add_packed(cx, &w.sources(), "", (1, &packing, nr), || pack(&packing, nr, |_, _, k, n| w.at(k, n)))?;
    let right = PackedRight { at, own: false, form };
    let dst = temp_view(cx, DType::F32, &[m, n]);
    let mut operands = vec![scale, zero];
    let sums: Vec<i32> = w.sums(i64::from).into_iter().map(|s| s as i32).collect();
    operands.push(row(cx, Tensor::from_slice(&[n], &sums), n)?);
    operands.push(row(cx, Tensor::from_slice(&[n], &w.scales), n)?);
    let of = Expr::Operand;
    let sum = of(0).minus(of(2).times(of(3))).to_float();
    let mut expr = sum.times(of(1).times(of(4)));
    if let Some(bias) = values(cx, site, 3)? {
        let both = |i: usize| bias[i / (4 * h) * 8 * h + i % (4 * h)] + bias[i / (4 * h) * 8 * h + 4 * h + i % (4 * h)];
        operands.push(row(cx, floats(&(0..n).map(both).collect::<Vec<_>>()), n)?);
        expr = expr.plus(of(5));
    }
    let wide = operands.iter().map(|v| v.broadcast(&dst.shape)).collect::<Option<Vec<_>>>();
    let operands = wide.ok_or_else(|| Declined::new(ReasonCode::Shape, "an operand does not broadcast"))?;
    let a = TensorView { shape: vec![m, k], strides: strides_in(&[m, k], Encoding::Plain), ..a };
    let at = dst.at;
    matrix_product(cx, MatrixStack { a, right, dst, epilogue: Epilogue { expr, operands }, src_zero: 0 }, loc)?;
    Ok(at)
}

/// A constant row of `n` values.
fn row(cx: &mut Cx, values: Result<Tensor, optc_tensor::TensorError>, n: usize) -> Result<TensorView, Declined> {
    let values = values.map_err(|e| Declined::new(ReasonCode::Shape, e.to_string()))?;
    let dtype = values.dtype();
    Ok(TensorView { at: cx.add_constant("a row of values", values), dtype, shape: vec![n], strides: vec![1] })
}
