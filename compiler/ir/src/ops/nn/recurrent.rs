//! What the recurrent layers share: their geometry, the order of steps, activation functions and products.

use optc_tensor::Tensor;

use crate::ops::eval::bounded;
use crate::ops::math::product;
use crate::ops::message::type_of;
use crate::{Dim, InferCx, OpError, Real, TensorType, Type, ensure, text_enum};

text_enum! {
    /// In which order a recurrent layer takes its steps.
    pub enum RecurrentDirection {
        /// From the first on.
        Forward = "forward",
        /// From the last on.
        Reverse = "reverse",
        /// Once in each order.
        Bidirectional = "bidirectional",
    }
}

impl RecurrentDirection {
    /// For each direction of the layer, whether it starts at the end.
    pub fn reversed(self) -> &'static [bool] {
        match self {
            RecurrentDirection::Forward => &[false],
            RecurrentDirection::Reverse => &[true],
            RecurrentDirection::Bidirectional => &[false, true],
        }
    }
}

/// The types of the results: all states `[T, D, B, H]`, then `last` states `[D, B, H]`. There are `gates` gates.
pub(crate) fn result_types(
    cx: &InferCx,
    direction: RecurrentDirection,
    gates: usize,
    last: usize,
) -> Result<Vec<Type>, OpError> {
    let (x, r) = (cx.tensor(0)?, cx.tensor(2)?);
    let d = Dim::Known(direction.reversed().len());
    ensure!(x.dtype.is_float(), "C2", "`x` is {}, expected a float", x.dtype);
    ensure!(x.rank().is_none_or(|r| r == 3) && r.rank().is_none_or(|r| r == 3), "C2", "`x` is {x}, `r` is {r}");
    let at = |t: &TensorType, i: usize| t.shape.as_ref().map_or(Dim::Unknown, |s| s[i].clone());
    let (t, b, h) = (at(x, 0), at(x, 1), at(r, 2));
    let times = |n: usize| h.known().and_then(|h| h.checked_mul(n)).map_or(Dim::Unknown, Dim::Known);
    let last_state = vec![d.clone(), b.clone(), h.clone()];
    check_operand(cx, 1, vec![d.clone(), times(gates), at(x, 2)])?;
    check_operand(cx, 2, vec![d.clone(), times(gates), h.clone()])?;
    check_operand(cx, 3, vec![d.clone(), times(2 * gates)])?;
    check_operand(cx, 4, vec![b.clone()])?;
    (5..5 + last).try_for_each(|slot| check_operand(cx, slot, last_state.clone()))?;
    let state: Type = TensorType::new(x.dtype, last_state).into();
    let mut types = vec![TensorType::new(x.dtype, vec![t, d, b, h]).into()];
    types.extend(std::iter::repeat_n(state, last));
    Ok(types)
}

/// Checks that operand `slot`, where there is one, has these dims as far as they are known.
pub(crate) fn check_operand(cx: &InferCx, slot: usize, dims: Vec<Dim>) -> Result<(), OpError> {
    if !cx.has(slot) {
        return Ok(());
    }
    let t = cx.tensor(slot)?;
    let expected: Type = TensorType::new(t.dtype, dims).into();
    ensure!(expected.admits(&t.clone().into()), "C2", "operand {slot} is {t}, expected {expected}");
    Ok(())
}

/// The extents of a layer and the lengths of its sequences.
pub(crate) struct RecurrentExtents {
    pub steps: usize,
    pub batch: usize,
    pub inputs: usize,
    pub hidden: usize,
    /// For each direction, whether it starts at the end.
    pub directions: &'static [bool],
    lengths: Vec<usize>,
}

impl RecurrentExtents {
    /// The layer over `x: [T, B, I]` with `hidden` states.
    ///
    /// # Errors
    /// `x` or `lengths` do not fit.
    pub fn new(
        x: &Tensor,
        lengths: Option<&Tensor>,
        direction: RecurrentDirection,
        hidden: usize,
    ) -> Result<RecurrentExtents, OpError> {
        ensure!(x.rank() == 3 && x.dtype().is_float(), "C2", "`x` is {}, expected three dims of floats", type_of(x));
        let (steps, batch, inputs) = (x.shape()[0], x.shape()[1], x.shape()[2]);
        let lengths = lengths.map_or_else(|| vec![steps as i64; batch], Tensor::to_i64_vec);
        let fits = lengths.len() == batch && lengths.iter().all(|&l| (0..=steps as i64).contains(&l));
        ensure!(fits, "C2", "`lengths` are {lengths:?} for {batch} sequences of {steps} steps");
        let lengths = lengths.into_iter().map(|l| l as usize).collect();
        let layer = RecurrentExtents { steps, batch, inputs, hidden, directions: direction.reversed(), lengths };
        bounded(&layer.states())?;
        Ok(layer)
    }

    /// The shape of all states.
    pub fn states(&self) -> [usize; 4] {
        [self.steps, self.directions.len(), self.batch, self.hidden]
    }

    /// The shape of the last states.
    pub fn last(&self) -> [usize; 3] {
        [self.directions.len(), self.batch, self.hidden]
    }

    /// The values of an operand of `shape`; zeros where it is absent.
    ///
    /// # Errors
    /// It has another shape.
    pub fn operand(&self, t: Option<&Tensor>, shape: &[usize]) -> Result<Vec<f64>, OpError> {
        let Some(t) = t else { return Ok(vec![0.0; bounded(shape)?]) };
        ensure!(t.shape() == shape, "C2", "an operand has shape {:?}, expected {shape:?}", t.shape());
        Ok(t.to_f64_vec())
    }

    /// Walks along the sequences: calls `f` for each step with the sequences that still run and the time each is at.
    pub fn walk(&self, reverse: bool, mut f: impl FnMut(&[(usize, usize)])) {
        for step in 0..self.lengths.iter().copied().max().unwrap_or(0) {
            let running = self.lengths.iter().enumerate().filter(|&(_, &length)| step < length);
            let at = |(b, &length): (usize, &usize)| (b, if reverse { length - 1 - step } else { step });
            f(&running.map(at).collect::<Vec<_>>());
        }
    }
}

/// A product with a matrix: rows in, rows out.
pub(crate) type RowsProduct<'a> = dyn Fn(&[f64]) -> Vec<f64> + 'a;

/// The product with the transpose of `w: [rows, inner]`, which is kept transposed.
pub(crate) fn product_with(w: &[f64], rows: usize, inner: usize) -> impl Fn(&[f64]) -> Vec<f64> {
    let mut transposed = vec![0.0; rows * inner];
    for (i, row) in w.chunks(inner.max(1)).enumerate() {
        row.iter().enumerate().for_each(|(k, &v)| transposed[k * rows + i] = v);
    }
    move |x| match inner {
        0 => vec![],
        _ => product(x, &transposed, x.len() / inner, inner, rows),
    }
}

/// An activation function with its parameters, and the bound on its operand.
#[derive(Clone, Copy)]
pub(crate) struct Activation {
    function: fn(f64, f64, f64) -> f64,
    alpha: f64,
    beta: f64,
    clip: f64,
}

text_enum! {
    /// An activation function of a recurrent layer.
    pub enum RecurrentActivation {
        /// `1 / (1 + e⁻ˣ)`.
        Sigmoid = "sigmoid",
        /// `tanh x`.
        Tanh = "tanh",
        /// `max(x, 0)`.
        Relu = "relu",
        /// `alpha · x + beta`.
        Affine = "affine",
        /// `x`, below zero `alpha · x`.
        LeakyRelu = "leaky_relu",
        /// `x` above `alpha`, else zero.
        ThresholdedRelu = "thresholded_relu",
        /// `alpha · tanh(beta · x)`.
        ScaledTanh = "scaled_tanh",
        /// `alpha · x + beta` between 0 and 1.
        HardSigmoid = "hard_sigmoid",
        /// `x`, below zero `alpha · (eˣ − 1)`.
        Elu = "elu",
        /// `x / (1 + |x|)`.
        Softsign = "softsign",
        /// `ln(1 + eˣ)`.
        Softplus = "softplus",
    }
}

impl RecurrentActivation {
    /// The defaults of `alpha` and `beta`; `None` for a parameter that the function does not have.
    pub fn defaults(self) -> (Option<f64>, Option<f64>) {
        match self {
            RecurrentActivation::Affine => (Some(1.0), Some(0.0)),
            RecurrentActivation::LeakyRelu => (Some(0.01), None),
            RecurrentActivation::ScaledTanh => (Some(1.0), Some(1.0)),
            RecurrentActivation::HardSigmoid => (Some(0.2), Some(0.5)),
            RecurrentActivation::ThresholdedRelu | RecurrentActivation::Elu => (Some(1.0), None),
            RecurrentActivation::Sigmoid
            | RecurrentActivation::Tanh
            | RecurrentActivation::Relu
            | RecurrentActivation::Softsign
            | RecurrentActivation::Softplus => (None, None),
        }
    }

    /// The function of an operand, `alpha` and `beta`.
    fn function(self) -> fn(f64, f64, f64) -> f64 {
        match self {
            RecurrentActivation::Sigmoid => |x, _, _| 1.0 / (1.0 + (-x).exp()),
            RecurrentActivation::Tanh => |x, _, _| x.tanh(),
            RecurrentActivation::Relu => |x, _, _| x.max(0.0),
            RecurrentActivation::Affine => |x, a, b| a * x + b,
            RecurrentActivation::LeakyRelu => |x, a, _| if x < 0.0 { a * x } else { x },
            RecurrentActivation::ThresholdedRelu => |x, a, _| if x > a { x } else { 0.0 },
            RecurrentActivation::ScaledTanh => |x, a, b| a * (b * x).tanh(),
            RecurrentActivation::HardSigmoid => |x, a, b| (a * x + b).clamp(0.0, 1.0),
            RecurrentActivation::Elu => |x, a, _| if x < 0.0 { a * x.exp_m1() } else { x },
            RecurrentActivation::Softsign => |x, _, _| x / (1.0 + x.abs()),
            RecurrentActivation::Softplus => |x, _, _| x.max(0.0) + (-x.abs()).exp().ln_1p(),
        }
    }
}

impl Activation {
    /// The activation of a bounded operand.
    pub fn of(&self, x: f64) -> f64 {
        self.unbounded(if self.clip > 0.0 { x.clamp(-self.clip, self.clip) } else { x })
    }

    /// The activation of an operand as it is.
    pub fn unbounded(&self, x: f64) -> f64 {
        (self.function)(x, self.alpha, self.beta)
    }
}

/// The attributes of an op that choose its activations.
pub(crate) struct Activations<'a> {
    pub names: &'a [RecurrentActivation],
    pub alpha: &'a [Real],
    pub beta: &'a [Real],
    pub clip: Real,
}

impl Activations<'_> {
    /// The activations of each direction: `defaults` where none are named.
    ///
    /// # Errors
    /// There is not one for each place.
    pub fn resolve<const N: usize>(
        &self,
        count: usize,
        defaults: [RecurrentActivation; N],
    ) -> Result<Vec<[Activation; N]>, OpError> {
        let expected = count * N;
        let fits = |n: usize| n == 0 || n == expected;
        for (what, n) in [("names", self.names.len()), ("alphas", self.alpha.len()), ("betas", self.beta.len())] {
            ensure!(fits(n), "C3", "there are {n} {what} of activations, expected {expected}");
        }
        ensure!((0.0..=f32::MAX).contains(&self.clip.0), "C3", "`clip` is {}", self.clip.0);
        let activation = |i: usize| {
            let name = self.names.get(i).copied().unwrap_or(defaults[i % N]);
            let (alpha, beta) = name.defaults();
            let or = |list: &[Real], default: Option<f64>| list.get(i).map_or(default.unwrap_or(0.0), |v| v.0 as f64);
            let clip = self.clip.0 as f64;
            Activation { function: name.function(), alpha: or(self.alpha, alpha), beta: or(self.beta, beta), clip }
        };
        let all: Vec<Activation> = (0..expected).map(activation).collect();
        Ok(all.chunks_exact(N).map(|c| std::array::from_fn(|i| c[i])).collect())
    }
}
