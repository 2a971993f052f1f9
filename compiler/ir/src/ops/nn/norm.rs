//! Normalisations and softmax.

use optc_tensor::Tensor;

use crate::ops::axis_of;
use crate::{Args, InferCx, OpError, Real, Semantics, Type, Val, ensure, op};

op! {
    /// Batch normalisation with given statistics: `scale · (x − mean) / √(var + epsilon) + bias` per channel (axis 1).
    ///
    /// - (C1) The four vectors have one element a channel.
    "nn.batch_norm" = BatchNorm(x, scale, bias, mean, var) {
        /// Added to the variance.
        epsilon: Real = Real(1e-5),
    }
}

impl Semantics for BatchNorm {
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        Ok(vec![cx.tensor(0)?.clone().into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let channels = x.shape().get(1).copied().unwrap_or(1);
        let v = (1..5).map(|s| args.tensor(s).map(Tensor::to_f64_vec)).collect::<Result<Vec<_>, _>>()?;
        ensure!(v.iter().all(|v| v.len() == channels), "C1", "statistics do not fit {channels} channels");
        let inner = x.shape().iter().skip(2).product::<usize>().max(1);
        let y: Vec<f64> = (x.to_f64_vec().into_iter().enumerate())
            .map(|(i, value)| {
                let c = i / inner % channels;
                v[0][c] * (value - v[2][c]) / (v[3][c] + self.epsilon.0 as f64).sqrt() + v[1][c]
            })
            .collect();
        Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &y)?.into()])
    }
}

op! {
    /// Layer normalisation over the axes from `axis` on: zero mean and unit variance, then `scale` and `bias` of their extents.
    ///
    /// - (C1) `scale` and `bias` have as many elements as are normalised together, or one.
    "nn.layer_norm" = LayerNorm(x, scale, bias: optional) {
        /// The first normalised axis; negative from the end.
        axis: i64 = -1,
        /// Added to the variance.
        epsilon: Real = Real(1e-5),
    }
}

impl Semantics for LayerNorm {
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        if let Some(rank) = x.rank() {
            axis_of(self.axis, rank)?;
        }
        Ok(vec![x.clone().into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let inner: usize = x.shape()[axis_of(self.axis, x.rank())?..].iter().product();
        let scale = args.tensor(1)?.to_f64_vec();
        let bias = args.optional(2).map_or(vec![0.0], Tensor::to_f64_vec);
        let fits = [scale.len(), bias.len()].iter().all(|&n| n == inner || n == 1);
        ensure!(fits, "C1", "`scale` and `bias` have {} and {} elements, expected {inner}", scale.len(), bias.len());
        let mut y = x.to_f64_vec();
        for row in y.chunks_mut(inner.max(1)) {
            let mean = row.iter().sum::<f64>() / inner as f64;
            let var = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / inner as f64;
            let inv = 1.0 / (var + self.epsilon.0 as f64).sqrt();
            for (i, v) in row.iter_mut().enumerate() {
                *v = (*v - mean) * inv * scale[i % scale.len()] + bias[i % bias.len()];
            }
        }
        Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &y)?.into()])
    }
}

op! {
    /// `exp(x − max) / Σ exp(x − max)` along `axis`.
    "nn.softmax" = Softmax(x) {
        /// The axis; negative from the end.
        axis: i64 = -1,
        /// Whether the result is the logarithm.
        log: bool = false,
    }
}

impl Semantics for Softmax {
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        if let Some(rank) = x.rank() {
            axis_of(self.axis, rank)?;
        }
        Ok(vec![x.clone().into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let axis = axis_of(self.axis, x.rank())?;
        let (n, inner) = (x.shape()[axis], x.shape()[axis + 1..].iter().product::<usize>());
        let mut v = x.to_f64_vec();
        for line in 0..v.len().checked_div(n).unwrap_or(0) {
            let at = |k: usize| line / inner * n * inner + k * inner + line % inner;
            let top = (0..n).map(|k| v[at(k)]).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = (0..n).map(|k| (v[at(k)] - top).exp()).sum();
            for k in 0..n {
                let shifted = v[at(k)] - top;
                v[at(k)] = if self.log { shifted - sum.ln() } else { shifted.exp() / sum };
            }
        }
        Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &v)?.into()])
    }
}
