//! The long short-term memory layer of ONNX (Hochreiter and Schmidhuber 1997).

use optc_tensor::{DType, Tensor};

use super::recurrent::{
    Activation, Activations, RecurrentActivation, RecurrentDirection, RecurrentExtents, RowsProduct, check_operand,
    product_with, result_types,
};
use crate::{Args, Dim, Facts, InferCx, OpError, Real, Semantics, Type, Val, ensure, op};

op! {
    /// `x: [T, B, I]`, `w: [D, 4H, I]`, `r: [D, 4H, H]`, `bias: [D, 8H]`, `lengths: [B]`, `h0` and `c0`: `[D, B, H]`,
    /// `peephole: [D, 3H]`; results `y: [T, D, B, H]`, `h: [D, B, H]`, `c: [D, B, H]`. Gates come in the order i, o, f,
    /// c.
    ///
    /// - (C1) `direction` is `forward`, `reverse` or `bidirectional`, and `D` is 1 or 2 to match.
    /// - (C2) The shapes are those above.
    /// - (C3) There are three activations for each direction.
    "nn.lstm" = Lstm(x, w, r, bias: optional, lengths: optional, h0: optional, c0: optional, peephole: optional) {
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

impl Lstm {
    fn activations(&self) -> Result<Vec<[Activation; 3]>, OpError> {
        let (names, alpha, beta) = (&self.activations, &self.activation_alpha, &self.activation_beta);
        let activations = Activations { names, alpha, beta, clip: self.clip };
        let (gate, tanh) = (RecurrentActivation::Sigmoid, RecurrentActivation::Tanh);
        activations.resolve(self.direction.reversed().len(), [gate, tanh, tanh])
    }
}

impl Semantics for Lstm {
    const FACTS: Facts<Lstm> = Facts::family();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        self.activations()?;
        let types = result_types(cx, self.direction, 4, 2)?;
        // The last states have the directions and the units that the peephole has.
        let (d, h) = match types.last().and_then(Type::as_tensor).and_then(|t| t.shape.as_deref()) {
            Some([d, _, h]) => (d.clone(), h.known()),
            _ => (Dim::Unknown, None),
        };
        let weights = h.and_then(|h| h.checked_mul(3)).map_or(Dim::Unknown, Dim::Known);
        check_operand(cx, 7, vec![d, weights])?;
        Ok(types)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, r) = (args.tensor(0)?, args.tensor(2)?);
        ensure!(r.rank() == 3, "C2", "`r` has shape {:?}", r.shape());
        let layer = RecurrentExtents::new(x, args.optional(4), self.direction, r.shape()[2])?;
        let (d, h, inputs) = (layer.directions.len(), layer.hidden, layer.inputs);
        let w = layer.operand(args.optional(1), &[d, 4 * h, inputs])?;
        let r = layer.operand(Some(r), &[d, 4 * h, h])?;
        let mut states = States::new(self, &layer, args)?;
        let xv = x.to_f64_vec();
        for dir in 0..d {
            let gates = product_with(&w[dir * 4 * h * inputs..][..4 * h * inputs], 4 * h, inputs)(&xv);
            let recur = product_with(&r[dir * 4 * h * h..][..4 * h * h], 4 * h, h);
            states.run(&layer, dir, &gates, &recur);
        }
        states.results(&layer, x.dtype())
    }
}

/// A layer's parameters besides the weights, its state, and what it has given so far.
pub(crate) struct States {
    bias: Vec<f64>,
    peephole: Vec<f64>,
    activations: Vec<[Activation; 3]>,
    input_forget: bool,
    hidden: Vec<f64>,
    cell: Vec<f64>,
    y: Vec<f64>,
}

impl States {
    /// The start of a layer, whose operands from the bias on are `args`'.
    ///
    /// # Errors
    /// An operand has another shape than the layer asks for.
    pub fn new(op: &Lstm, layer: &RecurrentExtents, args: &Args) -> Result<States, OpError> {
        let (d, h) = (layer.directions.len(), layer.hidden);
        Ok(States {
            bias: layer.operand(args.optional(3), &[d, 8 * h])?,
            peephole: layer.operand(args.optional(7), &[d, 3 * h])?,
            activations: op.activations()?,
            input_forget: op.input_forget,
            hidden: layer.operand(args.optional(5), &layer.last())?,
            cell: layer.operand(args.optional(6), &layer.last())?,
            y: vec![0.0; layer.states().iter().product()],
        })
    }

    /// Runs direction `dir`: `gates` are the products of all steps' operands, `recur` the product with a step's states.
    pub fn run(&mut self, layer: &RecurrentExtents, dir: usize, gates: &[f64], recur: &RowsProduct) {
        let (d, h, batch) = (layer.directions.len(), layer.hidden, layer.batch);
        let unit = Unit {
            bias: &self.bias[dir * 8 * h..][..8 * h],
            peephole: &self.peephole[dir * 3 * h..][..3 * h],
            activations: self.activations[dir],
            input_forget: self.input_forget,
        };
        let hidden = &mut self.hidden[dir * batch * h..][..batch * h];
        let cell = &mut self.cell[dir * batch * h..][..batch * h];
        layer.walk(layer.directions[dir], |running| {
            let products = recur(hidden);
            for &(b, t) in running {
                let input = gates.get((t * batch + b) * 4 * h..).unwrap_or_default();
                let sum = |i: usize| input.get(i).copied().unwrap_or(0.0) + products[b * 4 * h + i];
                let sums: Vec<f64> = (0..4 * h).map(sum).collect();
                unit.step(&sums, &mut hidden[b * h..][..h], &mut cell[b * h..][..h]);
                self.y[((t * d + dir) * batch + b) * h..][..h].copy_from_slice(&hidden[b * h..][..h]);
            }
        });
    }

    /// The results: all hidden states, the last hidden and the last cell states.
    ///
    /// # Errors
    /// A tensor cannot be made.
    pub fn results(self, layer: &RecurrentExtents, dtype: DType) -> Result<Vec<Val>, OpError> {
        let tensor = |shape: &[usize], v: &[f64]| Tensor::from_f64(dtype, shape, v).map(Val::Tensor);
        let last = layer.last();
        Ok(vec![tensor(&layer.states(), &self.y)?, tensor(&last, &self.hidden)?, tensor(&last, &self.cell)?])
    }
}

struct Unit<'a> {
    bias: &'a [f64],
    peephole: &'a [f64],
    activations: [Activation; 3],
    input_forget: bool,
}

impl Unit<'_> {
    /// One step of one sequence from the gates' sums: updates hidden and cell state.
    fn step(&self, sums: &[f64], hidden: &mut [f64], cell: &mut [f64]) {
        let h = hidden.len();
        let [gate, candidate, output] = self.activations;
        let sum = |g: usize, k: usize| sums[g * h + k] + self.bias[g * h + k] + self.bias[(4 + g) * h + k];
        for k in 0..h {
            let input = gate.of(sum(0, k) + self.peephole[k] * cell[k]);
            let forget = gate.of(sum(2, k) + self.peephole[2 * h + k] * cell[k]);
            let forget = if self.input_forget { 1.0 - input } else { forget };
            cell[k] = forget * cell[k] + input * candidate.of(sum(3, k));
            hidden[k] = gate.of(sum(1, k) + self.peephole[h + k] * cell[k]) * output.unbounded(cell[k]);
        }
    }
}
