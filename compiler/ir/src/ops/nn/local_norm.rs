//! Normalisations without parameters: across neighbouring channels, and by a norm.

use optc_tensor::Tensor;

use super::softmax::map_lines;
use crate::ops::axis_of;
use crate::{Anchor, Args, Facts, InferCx, ItemCx, OpError, Real, Semantics, Type, Val, ensure, op};

op! {
    /// Local response normalisation (Krizhevsky et al. 2012) across the channels of `x: [N, C, D…]`: `x / (bias + alpha
    /// / size · Σ x²)^beta`, summed over the `size` channels around each, `(size − 1) / 2` of them before it.
    ///
    /// - (C1) `x` is a float of rank 2 or more.
    /// - (C2) `size` is positive.
    "nn.lrn" = Lrn(x) {
        /// Weight of the squares.
        alpha: Real = Real(1e-4),
        /// The power.
        beta: Real = Real(0.75),
        /// Added to the sum.
        bias: Real = Real(1.0),
        /// Channels that are summed.
        size: i64,
    }
}

impl Semantics for Lrn {
    const FACTS: Facts<Lrn> = Facts::host("there is no kernel for it");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        ensure!(x.dtype.is_float() && x.rank().is_none_or(|r| r >= 2), "C1", "`x` is {x}");
        ensure!(self.size > 0, "C2", "`size` is {}", self.size);
        Ok(vec![x.clone().into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        ensure!(x.rank() >= 2 && self.size > 0, "C1", "`x` has shape {:?}, `size` is {}", x.shape(), self.size);
        let channels = x.shape()[1];
        let plane: usize = x.shape()[2..].iter().product();
        let v = x.to_f64_vec();
        let (before, after) = ((self.size - 1) / 2, self.size / 2);
        let (alpha, beta, bias) = (self.alpha.0 as f64 / self.size as f64, self.beta.0 as f64, self.bias.0 as f64);
        let value = |i: usize| {
            let c = i / plane % channels;
            let first = i - c * plane;
            let low = c.saturating_sub(before as usize);
            let high = c.saturating_add(after as usize).min(channels - 1);
            let squares: f64 = (low..=high).map(|c| v[first + c * plane]).map(|v| v * v).sum();
            v[i] / (bias + alpha * squares).powf(beta)
        };
        let y: Vec<f64> = (0..v.len()).map(value).collect();
        Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &y)?.into()])
    }
}

op! {
    /// `x` divided by its norm along `axis`; zeros stay zeros.
    ///
    /// - (C1) `x` is a float.
    /// - (C2) `p` is 1 or 2.
    "nn.lp_norm" = LpNorm(x) {
        /// The axis; negative from the end.
        axis: i64 = -1,
        /// Which norm.
        p: i64 = 2,
    }
}

impl Semantics for LpNorm {
    const FACTS: Facts<LpNorm> = Facts::anchor(Anchor::Float);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        ensure!(x.dtype.is_float(), "C1", "`x` is {}, expected a float", x.dtype);
        ensure!(matches!(self.p, 1 | 2), "C2", "`p` is {}", self.p);
        x.rank().map_or(Ok(0), |rank| axis_of(self.axis, rank))?;
        Ok(vec![x.clone().into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.spares([self.axis])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let y = map_lines(args.tensor(0)?, self.axis, |line| {
            let norm = match self.p {
                1 => line.iter().map(|v| v.abs()).sum::<f64>(),
                _ => line.iter().map(|v| v * v).sum::<f64>().sqrt(),
            };
            if norm != 0.0 {
                line.iter_mut().for_each(|v| *v /= norm);
            }
        })?;
        Ok(vec![y.into()])
    }
}
