//! The gated recurrent unit of ONNX (Cho et al. 2014).

use optc_tensor::Tensor;

use super::recurrent::{
    Activation, Activations, RecurrentActivation, RecurrentDirection, RecurrentExtents, RowsProduct, product_with,
    result_types,
};
use crate::{Args, Facts, InferCx, OpError, Real, Semantics, Type, Val, ensure, op};

op! {
    /// `x: [T, B, I]`, `w: [D, 3H, I]`, `r: [D, 3H, H]`, `bias: [D, 6H]`, `lengths: [B]`, `h0: [D, B, H]`; results `y:
    /// [T, D, B, H]` and `h: [D, B, H]`. Gates come in the order z, r, h. A step is `h = (1 − z)·g(…) + z·h` where the
    /// candidate takes `r·(R·h + bias)` with `linear_before_reset`, else `R·(r·h) + bias`.
    ///
    /// - (C1) `direction` is `forward`, `reverse` or `bidirectional`, and `D` is 1 or 2 to match.
    /// - (C2) The shapes are those above.
    /// - (C3) There are two activations for each direction.
    "nn.gru" = Gru(x, w, r, bias: optional, lengths: optional, h0: optional) {
        /// The first parameter of each activation; empty for their defaults.
        activation_alpha: Vec<Real> = vec![],
        /// The second parameter of each activation; empty for their defaults.
        activation_beta: Vec<Real> = vec![],
        /// Of the gates and of the candidate, for each direction; empty for `sigmoid` and `tanh`.
        activations: Vec<RecurrentActivation> = vec![],
        /// Bound on the operands of activations; 0 for none.
        clip: Real = Real(0.0),
        /// In which order the steps are taken.
        direction: RecurrentDirection = RecurrentDirection::Forward,
        /// Whether the reset gate comes after the product.
        linear_before_reset: bool = false,
    }
}

impl Gru {
    fn activations(&self) -> Result<Vec<[Activation; 2]>, OpError> {
        let (names, alpha, beta) = (&self.activations, &self.activation_alpha, &self.activation_beta);
        let activations = Activations { names, alpha, beta, clip: self.clip };
        activations.resolve(self.direction.reversed().len(), [RecurrentActivation::Sigmoid, RecurrentActivation::Tanh])
    }
}

impl Semantics for Gru {
    const FACTS: Facts<Gru> = Facts::family();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        self.activations()?;
        result_types(cx, self.direction, 3, 1)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, r) = (args.tensor(0)?, args.tensor(2)?);
        ensure!(r.rank() == 3, "C2", "`r` has shape {:?}", r.shape());
        let layer = RecurrentExtents::new(x, args.optional(4), self.direction, r.shape()[2])?;
        let (d, h, inputs) = (layer.directions.len(), layer.hidden, layer.inputs);
        let w = layer.operand(args.optional(1), &[d, 3 * h, inputs])?;
        let r = layer.operand(Some(r), &[d, 3 * h, h])?;
        let bias = layer.operand(args.optional(3), &[d, 6 * h])?;
        let mut hidden = layer.operand(args.optional(5), &layer.last())?;
        let activations = self.activations()?;
        let xv = x.to_f64_vec();
        let mut y = vec![0.0; layer.states().iter().product()];
        for (dir, &reverse) in layer.directions.iter().enumerate() {
            let gates = product_with(&w[dir * 3 * h * inputs..][..3 * h * inputs], 3 * h, inputs)(&xv);
            let r = &r[dir * 3 * h * h..][..3 * h * h];
            let (recur, candidate) = (product_with(r, 3 * h, h), product_with(&r[2 * h * h..], h, h));
            let unit = Unit {
                bias: &bias[dir * 6 * h..][..6 * h],
                activations: activations[dir],
                candidate: (!self.linear_before_reset).then_some(&candidate),
            };
            let state = &mut hidden[dir * layer.batch * h..][..layer.batch * h];
            layer.walk(reverse, |running| {
                let products = recur(state);
                for &(b, t) in running {
                    let row = gates.get((t * layer.batch + b) * 3 * h..).unwrap_or_default();
                    unit.step(row, &products[b * 3 * h..][..3 * h], &mut state[b * h..][..h]);
                    y[((t * d + dir) * layer.batch + b) * h..][..h].copy_from_slice(&state[b * h..][..h]);
                }
            });
        }
        let tensor = |shape: &[usize], v: &[f64]| Tensor::from_f64(x.dtype(), shape, v).map(Val::Tensor);
        Ok(vec![tensor(&layer.states(), &y)?, tensor(&layer.last(), &hidden)?])
    }
}

struct Unit<'a> {
    bias: &'a [f64],
    activations: [Activation; 2],
    /// The product of the candidate, where it is taken after the reset.
    candidate: Option<&'a RowsProduct<'a>>,
}

impl Unit<'_> {
    /// One step of one sequence: `input` and `products` are the gates' shares of the operand and of the state.
    fn step(&self, input: &[f64], products: &[f64], state: &mut [f64]) {
        let h = state.len();
        let [gate, candidate] = self.activations;
        let input = |i: usize| input.get(i).copied().unwrap_or(0.0);
        let gates = |g: usize| {
            let value = move |k: usize| input(g * h + k) + products[g * h + k] + self.bias[g * h + k];
            (0..h).map(move |k| gate.of(value(k) + self.bias[(3 + g) * h + k]))
        };
        let (update, reset): (Vec<f64>, Vec<f64>) = (gates(0).collect(), gates(1).collect());
        let recurrent: Vec<f64> = match self.candidate {
            Some(product) => {
                let kept: Vec<f64> = state.iter().zip(&reset).map(|(s, r)| s * r).collect();
                product(&kept).into_iter().zip(&self.bias[5 * h..]).map(|(p, b)| p + b).collect()
            }
            None => (0..h).map(|k| reset[k] * (products[2 * h + k] + self.bias[5 * h + k])).collect(),
        };
        for k in 0..h {
            let new = candidate.of(input(2 * h + k) + self.bias[2 * h + k] + recurrent[k]);
            state[k] = (1.0 - update[k]) * new + update[k] * state[k];
        }
    }
}
