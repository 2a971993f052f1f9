//! The LSTM with quantized weights whose operands are quantized as they come.

use optc_tensor::{DType, Tensor};

use super::quantize::{quantize_u8, range_of};
use crate::ops::nn::{Lstm, RecurrentActivation, RecurrentDirection, RecurrentExtents, States, check_operand};
use crate::{Args, Dim, Facts, InferCx, OpError, Real, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// `nn.lstm` with the products of quantized integers: `w: [D, I, 4H]` and `r: [D, H, 4H]` are 8-bit integers with
    /// scales and zero points for each direction, or each of its columns; operands and states of a step are quantized
    /// over the whole batch as by `quant.dynamic_quantize`. The operands of all steps are quantized at once.
    ///
    /// - (C1) `direction` is `forward`, `reverse` or `bidirectional`, and `D` is 1 or 2 to match.
    /// - (C2) The shapes are those above and those of `nn.lstm`.
    /// - (C3) There are three activations for each direction.
    /// - (C4) `x` and the scales are `f32`, weights and zero points `i8` or `u8`.
    "quant.dynamic_lstm" = DynamicLstm(
        x, w, r, bias: optional, lengths: optional, h0: optional, c0: optional, peephole: optional,
        w_scale: optional, w_zero: optional, r_scale: optional, r_zero: optional
    ) {
        /// The first parameter of each activation; empty for their defaults.
        activation_alpha: Vec<Real> = vec![],
        /// The second parameter of each activation; empty for their defaults.
        activation_beta: Vec<Real> = vec![],
        /// Of the gates, the candidate and the cell, for each direction; empty for `sigmoid`, `tanh`, `tanh`.
        activations: Vec<RecurrentActivation> = vec![],
        /// Bound on the operands of gates and candidate (not on the cell, as runtimes have it); 0 for none.
        clip: Real = Real(0.0),
        /// In which order the steps are taken.
        direction: RecurrentDirection = RecurrentDirection::Forward,
        /// Whether the forget gate is one minus the input gate.
        input_forget: bool = false,
    }
}

impl From<Lstm> for DynamicLstm {
    fn from(op: Lstm) -> DynamicLstm {
        let Lstm { activation_alpha, activation_beta, activations, clip, direction, input_forget } = op;
        DynamicLstm { activation_alpha, activation_beta, activations, clip, direction, input_forget }
    }
}

impl DynamicLstm {
    /// Checks the shapes of the weights, as far as they are known.
    fn check_weights(&self, cx: &InferCx) -> Result<(), OpError> {
        let dim = |slot: usize, d: usize| -> Result<Dim, OpError> {
            let shape = cx.tensor(slot)?.shape.as_ref();
            Ok(shape.and_then(|s| s.get(d)).cloned().unwrap_or(Dim::Unknown))
        };
        let directions = Dim::Known(self.direction.reversed().len());
        let hidden = dim(2, 1)?;
        let columns = hidden.known().and_then(|h| h.checked_mul(4)).map_or(Dim::Unknown, Dim::Known);
        check_operand(cx, 1, vec![directions.clone(), dim(0, 2)?, columns.clone()])?;
        check_operand(cx, 2, vec![directions, hidden, columns])
    }

    fn lstm(&self) -> Lstm {
        let DynamicLstm { activation_alpha, activation_beta, activations, clip, direction, input_forget } =
            self.clone();
        Lstm { activation_alpha, activation_beta, activations, clip, direction, input_forget }
    }
}

/// The type of weights as `nn.lstm` has them, with their columns in the middle.
fn turned(weights: &TensorType) -> Type {
    let mut weights = weights.clone();
    if let Some([_, rows, columns]) = weights.shape.as_deref_mut() {
        std::mem::swap(rows, columns);
    }
    weights.into()
}

impl Semantics for DynamicLstm {
    const FACTS: Facts<DynamicLstm> = Facts::family();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, w, r) = (cx.tensor(0)?, cx.tensor(1)?, cx.tensor(2)?);
        let narrow = |t: &TensorType| matches!(t.dtype, DType::I8 | DType::U8);
        ensure!(x.dtype == DType::F32 && narrow(w) && narrow(r), "C4", "`x` is {x}, `w` is {w}, `r` is {r}");
        for (slot, scale) in [(8, true), (9, false), (10, true), (11, false)].into_iter().filter(|s| cx.has(s.0)) {
            let t = cx.tensor(slot)?;
            let fits = if scale { t.dtype == DType::F32 } else { narrow(t) };
            ensure!(fits, "C4", "operand {slot} is {t}, expected {}", if scale { "f32" } else { "i8 or u8" });
        }
        self.check_weights(cx)?;
        let (w, r) = (turned(w), turned(r));
        let mut types = cx.types.to_vec();
        (types[1], types[2]) = (Some(&w), Some(&r));
        self.lstm().infer(&InferCx { types: &types, consts: &[], regions: &[] })
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, w, r) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
        ensure!(r.rank() == 3 && x.dtype() == DType::F32, "C2", "`r` has shape {:?}", r.shape());
        let layer = RecurrentExtents::new(x, args.optional(4), self.direction, r.shape()[1])?;
        let (d, h) = (layer.directions.len(), layer.hidden);
        let fits = w.shape() == [d, layer.inputs, 4 * h] && r.shape() == [d, h, 4 * h];
        ensure!(fits, "C2", "`w` has shape {:?}, `r` {:?}", w.shape(), r.shape());
        let inputs = Weights::new(w, args.optional(8).ok_or(OpError::Operand { slot: 8 })?, args.optional(9), d)?;
        let recurrent = Weights::new(r, args.optional(10).ok_or(OpError::Operand { slot: 10 })?, args.optional(11), d)?;
        let mut states = States::new(&self.lstm(), &layer, args)?;
        let xv = x.to_f64_vec();
        for dir in 0..d {
            let gates = inputs.product(dir, &xv);
            states.run(&layer, dir, &gates, &|rows| recurrent.product(dir, rows));
        }
        states.results(&layer, DType::F32)
    }
}

/// Quantized weights `[D, inner, columns]` without their zero points, and their scales.
struct Weights {
    values: Vec<i32>,
    scales: Vec<f32>,
    inner: usize,
    columns: usize,
}

impl Weights {
    fn new(w: &Tensor, scale: &Tensor, zero: Option<&Tensor>, directions: usize) -> Result<Weights, OpError> {
        let (inner, columns) = (w.shape()[1], w.shape()[2]);
        let spread = |v: Vec<f64>| -> Result<Vec<f64>, OpError> {
            let fits = v.len() == directions || v.len() == directions * columns;
            ensure!(fits, "C2", "{} scales or zero points for {directions}×{columns} columns", v.len());
            let share = directions * columns / v.len().max(1);
            Ok((0..directions * columns).map(|i| v[i / share]).collect())
        };
        let scales = spread(scale.to_f64_vec())?.into_iter().map(|s| s as f32).collect();
        let zeros = spread(zero.map_or_else(|| vec![0.0; directions], Tensor::to_f64_vec))?;
        let plane = (inner * columns).max(1);
        let value = |(i, v): (usize, i64)| v as i32 - zeros[i / plane * columns + i % columns] as i32;
        let values = w.to_i64_vec().into_iter().enumerate().map(value).collect();
        Ok(Weights { values, scales, inner, columns })
    }

    /// The rows `x`, quantized together, times the weights of direction `dir`.
    fn product(&self, dir: usize, x: &[f64]) -> Vec<f64> {
        let x: Vec<f32> = x.iter().map(|&v| v as f32).collect();
        let (scale, zero) = range_of(&x);
        let quantized: Vec<i32> = quantize_u8(&x, scale, zero).into_iter().map(|v| v as i32 - zero as i32).collect();
        let weights = &self.values[dir * self.inner * self.columns..];
        let mut sums = vec![0i32; self.columns];
        let mut y = vec![];
        for row in quantized.chunks(self.inner.max(1)) {
            sums.fill(0);
            for (v, weights) in row.iter().zip(weights.chunks(self.columns.max(1))) {
                sums.iter_mut().zip(weights).for_each(|(s, w)| *s = s.wrapping_add(v * w));
            }
            let scales = &self.scales[dir * self.columns..];
            y.extend(sums.iter().zip(scales).map(|(&s, w)| (s as f32 * (scale * w)) as f64));
        }
        y
    }
}
