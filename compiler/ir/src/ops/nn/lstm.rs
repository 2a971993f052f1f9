//! The long short-term memory layer of ONNX (Hochreiter and Schmidhuber 1997), with default activations.

use optc_tensor::Tensor;

use crate::{Args, Dim, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// `x: [T, B, I]`, `w: [D, 4H, I]`, `r: [D, 4H, H]`, `bias: [D, 8H]`, `lengths: [B]`, `h0` and `c0`: `[D, B, H]`,
    /// `peephole: [D, 3H]`; results `y: [T, D, B, H]`, `h: [D, B, H]`, `c: [D, B, H]`. Gates come in the order i, o, f, c.
    ///
    /// - (C1) `direction` is `forward`, `reverse` or `bidirectional`, and `D` is 1 or 2 to match.
    /// - (C2) The shapes are those above.
    "nn.lstm" = Lstm(x, w, r, bias: optional, lengths: optional, h0: optional, c0: optional, peephole: optional) {
        /// In which order the steps are taken.
        direction: String = "forward".to_owned(),
    }
}

impl Lstm {
    fn directions(&self) -> Result<&'static [bool], OpError> {
        match self.direction.as_str() {
            "forward" => Ok(&[false]),
            "reverse" => Ok(&[true]),
            "bidirectional" => Ok(&[false, true]),
            other => Err(OpError::Constraint { constraint: "C1", reason: format!("there is no direction `{other}`") }),
        }
    }
}

impl Semantics for Lstm {
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, r) = (cx.tensor(0)?, cx.tensor(2)?);
        let d = Dim::Known(self.directions()?.len());
        ensure!(x.rank().is_none_or(|r| r == 3) && r.rank().is_none_or(|r| r == 3), "C2", "`x` is {x}, `r` is {r}");
        let at = |t: &TensorType, i: usize| t.shape.as_ref().map_or(Dim::Unknown, |s| s[i].clone());
        let (t, b, h) = (at(x, 0), at(x, 1), at(r, 2));
        let state: Type = TensorType::new(x.dtype, vec![d.clone(), b.clone(), h.clone()]).into();
        Ok(vec![TensorType::new(x.dtype, vec![t, d, b, h]).into(), state.clone(), state])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, w, r) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
        ensure!(x.rank() == 3 && w.rank() == 3 && r.rank() == 3, "C2", "`x`, `w` or `r` is not of rank 3");
        let directions = self.directions()?;
        let (steps, batch, inputs) = (x.shape()[0], x.shape()[1], x.shape()[2]);
        let (d, h) = (directions.len(), r.shape()[2]);
        ensure!(w.shape() == [d, 4 * h, inputs] && r.shape() == [d, 4 * h, h], "C2", "`w` or `r` has another shape");
        let optional = |slot: usize, n: usize| -> Result<Vec<f64>, OpError> {
            let v = args.optional(slot).map_or_else(|| vec![0.0; n], Tensor::to_f64_vec);
            ensure!(v.len() == n, "C2", "operand {slot} has {} elements, expected {n}", v.len());
            Ok(v)
        };
        let bias = optional(3, d * 8 * h)?;
        let lengths = match args.optional(4) {
            Some(t) => t.to_i64_vec(),
            None => vec![steps as i64; batch],
        };
        let in_range = lengths.len() == batch && lengths.iter().all(|&l| (0..=steps as i64).contains(&l));
        ensure!(in_range, "C2", "`lengths` are {lengths:?} for {batch} sequences of {steps} steps");
        let (mut hs, mut cs) = (optional(5, d * batch * h)?, optional(6, d * batch * h)?);
        let peephole = optional(7, d * 3 * h)?;
        let (xv, wv, rv) = (x.to_f64_vec(), w.to_f64_vec(), r.to_f64_vec());
        let mut y = vec![0.0; steps * d * batch * h];
        for (dir, &reverse) in directions.iter().enumerate() {
            let weights = Weights {
                w: &wv[dir * 4 * h * inputs..][..4 * h * inputs],
                r: &rv[dir * 4 * h * h..][..4 * h * h],
                bias: &bias[dir * 8 * h..][..8 * h],
                peephole: &peephole[dir * 3 * h..][..3 * h],
            };
            for b in 0..batch {
                let state = (dir * batch + b) * h;
                for step in 0..lengths[b] as usize {
                    let t = if reverse { lengths[b] as usize - 1 - step } else { step };
                    let input = &xv[(t * batch + b) * inputs..][..inputs];
                    weights.step(input, &mut hs[state..state + h], &mut cs[state..state + h]);
                    y[((t * d + dir) * batch + b) * h..][..h].copy_from_slice(&hs[state..state + h]);
                }
            }
        }
        let tensor = |shape: &[usize], v: &[f64]| Tensor::from_f64(x.dtype(), shape, v).map(Val::Tensor);
        Ok(vec![tensor(&[steps, d, batch, h], &y)?, tensor(&[d, batch, h], &hs)?, tensor(&[d, batch, h], &cs)?])
    }
}

struct Weights<'a> {
    w: &'a [f64],
    r: &'a [f64],
    bias: &'a [f64],
    peephole: &'a [f64],
}

impl Weights<'_> {
    /// One time step: updates hidden and cell state.
    fn step(&self, x: &[f64], hidden: &mut [f64], cell: &mut [f64]) {
        let h = hidden.len();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let gates: Vec<f64> = (0..4 * h)
            .map(|g| {
                let (w, r) = (&self.w[g * x.len()..][..x.len()], &self.r[g * h..][..h]);
                dot(w, x) + dot(r, hidden) + self.bias[g] + self.bias[4 * h + g]
            })
            .collect();
        let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
        for k in 0..h {
            let input = sigmoid(gates[k] + self.peephole[k] * cell[k]);
            let forget = sigmoid(gates[2 * h + k] + self.peephole[2 * h + k] * cell[k]);
            cell[k] = forget * cell[k] + input * gates[3 * h + k].tanh();
            let output = sigmoid(gates[h + k] + self.peephole[h + k] * cell[k]);
            hidden[k] = output * cell[k].tanh();
        }
    }
}
