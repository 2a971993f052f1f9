//! Reductions over axes.

use optc_tensor::{Tensor, for_each_index, strides_of};

use crate::ops::axis_of;
use crate::{Args, Dim, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// Reduces `x` over `axes`.
    ///
    /// - (C1) `kind` is one of `sum`, `mean`, `max`, `min`, `prod`, `sum_square`, `l1`, `l2`, `log_sum`, `log_sum_exp`.
    /// - (C2) `axes` lie within the rank; with none given every axis is reduced.
    /// - (C3) A reduced extent stays as 1 with `keep_dims`, else it goes.
    "math.reduce" = Reduce(x) {
        /// What is computed.
        kind: String,
        /// The axes, negative ones from the end.
        axes: Vec<i64> = vec![],
        /// Whether reduced extents stay.
        keep_dims: bool = true,
    }
}

impl Reduce {
    fn axes(&self, rank: usize) -> Result<Vec<bool>, OpError> {
        let mut reduced = vec![self.axes.is_empty(); rank];
        for &a in &self.axes {
            reduced[axis_of(a, rank)?] = true;
        }
        Ok(reduced)
    }

    fn apply(&self, v: &[f64]) -> Result<f64, OpError> {
        let sum = || v.iter().sum::<f64>();
        let nan = v.iter().copied().find(|x| x.is_nan());
        Ok(match self.kind.as_str() {
            "sum" => sum(),
            "mean" => sum() / v.len() as f64,
            "max" => nan.unwrap_or_else(|| v.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
            "min" => nan.unwrap_or_else(|| v.iter().copied().fold(f64::INFINITY, f64::min)),
            "prod" => v.iter().product(),
            "sum_square" => v.iter().map(|x| x * x).sum(),
            "l1" => v.iter().map(|x| x.abs()).sum(),
            "l2" => v.iter().map(|x| x * x).sum::<f64>().sqrt(),
            "log_sum" => sum().ln(),
            "log_sum_exp" => {
                let top = v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let top = if top.is_finite() { top } else { 0.0 };
                v.iter().map(|x| (x - top).exp()).sum::<f64>().ln() + top
            }
            other => {
                let reason = format!("there is no reduction `{other}`");
                return Err(OpError::Constraint { constraint: "C1", reason });
            }
        })
    }

    fn keep<T: Clone>(&self, shape: &[T], reduced: &[bool], one: T) -> Vec<T> {
        let dims = shape
            .iter()
            .zip(reduced)
            .map(|(n, &r)| if r { self.keep_dims.then(|| one.clone()) } else { Some(n.clone()) });
        dims.flatten().collect()
    }
}

impl Semantics for Reduce {
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        self.apply(&[0.0])?;
        let Some(shape) = &x.shape else { return Ok(vec![TensorType::unranked(x.dtype).into()]) };
        let reduced = self.axes(shape.len())?;
        Ok(vec![TensorType::new(x.dtype, self.keep(shape, &reduced, Dim::Known(1))).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let reduced = self.axes(x.rank())?;
        let shape = self.keep(x.shape(), &reduced, 1);
        let kept: Vec<usize> = x.shape().iter().zip(&reduced).map(|(&n, &r)| if r { 1 } else { n }).collect();
        let groups: usize = kept.iter().product();
        ensure!(!x.is_empty() || groups == 0 || self.kind != "mean", "C1", "the mean of nothing is not defined");
        let strides = strides_of(&kept);
        let mut members = vec![vec![]; groups];
        let values = x.to_f64_vec();
        let mut at = 0;
        for_each_index(x.shape(), |index| {
            let group: usize = (0..index.len()).filter(|&d| !reduced[d]).map(|d| index[d] * strides[d]).sum();
            members[group].push(values[at]);
            at += 1;
        });
        let out = members.iter().map(|m| self.apply(m)).collect::<Result<Vec<f64>, _>>()?;
        Ok(vec![Tensor::from_f64(x.dtype(), &shape, &out)?.into()])
    }
}
