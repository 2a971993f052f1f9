//! The simple recurrent layer of ONNX (Elman 1990).

use optc_tensor::Tensor;

use super::recurrent::{
    Activations, RecurrentActivation, RecurrentDirection, RecurrentExtents, product_with, result_types,
};
use crate::{Args, Facts, InferCx, OpError, Real, Semantics, Type, Val, ensure, op};

op! {
    /// `x: [T, B, I]`, `w: [D, H, I]`, `r: [D, H, H]`, `bias: [D, 2H]`, `lengths: [B]`, `h0: [D, B, H]`; results `y:
    /// [T, D, B, H]` and `h: [D, B, H]`. A step is `h = f(w·x + r·h + bias)`; states after a sequence's end are zero
    /// in `y`.
    ///
    /// - (C1) `direction` is `forward`, `reverse` or `bidirectional`, and `D` is 1 or 2 to match.
    /// - (C2) The shapes are those above.
    /// - (C3) There is one activation for each direction.
    "nn.rnn" = Rnn(x, w, r, bias: optional, lengths: optional, h0: optional) {
        /// The first parameter of each activation; empty for their defaults.
        activation_alpha: Vec<Real> = vec![],
        /// The second parameter of each activation; empty for their defaults.
        activation_beta: Vec<Real> = vec![],
        /// `f` for each direction; empty for `tanh`.
        activations: Vec<RecurrentActivation> = vec![],
        /// Bound on the operands of activations; 0 for none.
        clip: Real = Real(0.0),
        /// In which order the steps are taken.
        direction: RecurrentDirection = RecurrentDirection::Forward,
    }
}

impl Rnn {
    fn activations(&self) -> Result<Vec<[super::recurrent::Activation; 1]>, OpError> {
        let (names, alpha, beta) = (&self.activations, &self.activation_alpha, &self.activation_beta);
        Activations { names, alpha, beta, clip: self.clip }
            .resolve(self.direction.reversed().len(), [RecurrentActivation::Tanh])
    }
}

impl Semantics for Rnn {
    const FACTS: Facts<Rnn> = Facts::family();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        self.activations()?;
        result_types(cx, self.direction, 1, 1)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, r) = (args.tensor(0)?, args.tensor(2)?);
        ensure!(r.rank() == 3, "C2", "`r` has shape {:?}", r.shape());
        let layer = RecurrentExtents::new(x, args.optional(4), self.direction, r.shape()[2])?;
        let (d, h, inputs) = (layer.directions.len(), layer.hidden, layer.inputs);
        let w = layer.operand(args.optional(1), &[d, h, inputs])?;
        let r = layer.operand(Some(r), &[d, h, h])?;
        let bias = layer.operand(args.optional(3), &[d, 2 * h])?;
        let mut hidden = layer.operand(args.optional(5), &layer.last())?;
        let activations = self.activations()?;
        let xv = x.to_f64_vec();
        let mut y = vec![0.0; layer.states().iter().product()];
        for (dir, &reverse) in layer.directions.iter().enumerate() {
            let gates = product_with(&w[dir * h * inputs..][..h * inputs], h, inputs)(&xv);
            let recur = product_with(&r[dir * h * h..][..h * h], h, h);
            let (bias, [f]) = (&bias[dir * 2 * h..], activations[dir]);
            let state = &mut hidden[dir * layer.batch * h..][..layer.batch * h];
            layer.walk(reverse, |running| {
                let products = recur(state);
                for &(b, t) in running {
                    for k in 0..h {
                        let input = gates.get((t * layer.batch + b) * h + k).copied().unwrap_or(0.0);
                        state[b * h + k] = f.of(input + products[b * h + k] + bias[k] + bias[h + k]);
                    }
                    y[((t * d + dir) * layer.batch + b) * h..][..h].copy_from_slice(&state[b * h..][..h]);
                }
            });
        }
        let tensor = |shape: &[usize], v: &[f64]| Tensor::from_f64(x.dtype(), shape, v).map(Val::Tensor);
        Ok(vec![tensor(&layer.states(), &y)?, tensor(&layer.last(), &hidden)?])
    }
}
