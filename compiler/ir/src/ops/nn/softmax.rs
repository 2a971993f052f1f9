//! Softmax, its logarithm, and the one-hot maximum.

use optc_tensor::{Tensor, TensorMut};

use crate::ops::eval::eval_new;
use crate::ops::native::{NativeElement, by_native};
use crate::ops::number::round_to;
use crate::ops::{axis_of, bad_dtype};
use crate::{Anchor, Args, Facts, InferCx, ItemCx, OpError, Operands, Semantics, Type, Val, ensure, op};

op! {
    /// `exp(x − max) / Σ exp(x − max)` along `axis`. On 16-bit floats the result of each step is rounded, as the
    /// function that the standard defines it by does.
    ///
    /// - (C1) `x` is a float.
    "nn.softmax" = Softmax(x) {
        /// The axis; negative from the end.
        axis: i64 = -1,
        /// Whether the result is the logarithm.
        log: bool = false,
    }
}

/// The type of `x`, a float that has the axis.
fn same_along(cx: &InferCx, axis: i64) -> Result<Vec<Type>, OpError> {
    let x = cx.tensor(0)?;
    ensure!(x.dtype.is_float(), "C1", "`x` is {}, expected a float", x.dtype);
    if let Some(rank) = x.rank() {
        axis_of(axis, rank)?;
    }
    Ok(vec![x.clone().into()])
}

/// `f` on each line of `x` along `axis`, in place.
pub(super) fn map_lines(x: &Tensor, axis: i64, f: impl Fn(&mut [f64])) -> Result<Tensor, OpError> {
    let axis = axis_of(axis, x.rank())?;
    let (n, inner) = (x.shape()[axis], x.shape()[axis + 1..].iter().product::<usize>());
    let mut v = x.to_f64_vec();
    let mut line = vec![0.0; n];
    for block in v.chunks_mut((n * inner).max(1)) {
        for k in 0..inner {
            line.iter_mut().zip(block[k..].iter().step_by(inner)).for_each(|(l, v)| *l = *v);
            f(&mut line);
            block[k..].iter_mut().step_by(inner).zip(&line).for_each(|(v, l)| *v = *l);
        }
    }
    Ok(Tensor::from_f64(x.dtype(), x.shape(), &v)?)
}

impl Semantics for Softmax {
    const FACTS: Facts<Softmax> = Facts::anchor(Anchor::Float);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        same_along(cx, self.axis)
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.spares([self.axis])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let step = |v: f64| if x.dtype().bits() == 16 { round_to(x.dtype(), v) } else { v };
        let y = map_lines(x, self.axis, |line| {
            let top = line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            line.iter_mut().for_each(|v| *v = step(*v - top));
            let sum: f64 = step(line.iter().map(|v| step(v.exp())).sum());
            line.iter_mut().for_each(|v| *v = if self.log { *v - step(sum.ln()) } else { step(v.exp()) / sum });
        })?;
        Ok(vec![y.into()])
    }
}

op! {
    /// 1 at the first maximum along `axis`, 0 elsewhere.
    ///
    /// - (C1) `x` is a float.
    "nn.hardmax" = Hardmax(x) {
        /// The axis; negative from the end.
        axis: i64 = -1,
    }
}

impl Semantics for Hardmax {
    const FACTS: Facts<Hardmax> = Facts::host("there is no kernel that finds places of extremes");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        same_along(cx, self.axis)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        axis_of(self.axis, x.rank())?;
        match eval_new(self, args, &[(x.dtype(), x.shape())])? {
            Some(results) => Ok(results),
            None => bad_dtype("nn.hardmax", x.dtype()),
        }
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let x = operands.tensor(0)?;
        let axis = axis_of(self.axis, x.rank())?;
        let (n, inner) = (x.shape()[axis], x.shape()[axis + 1..].iter().product::<usize>());
        by_native!(x.dtype(), T => {
            let (x, y) = (x.as_slice::<T>()?, results[0].as_mut_slice::<T>()?);
            y.fill(T::of_int(0));
            let size = (n * inner).max(1);
            for (x, y) in x.chunks_exact(size).zip(y.chunks_exact_mut(size)) {
                for k in 0..inner {
                    let lane = x[k..].iter().step_by(inner).enumerate();
                    let top = lane.reduce(|best, next| if next.1 > best.1 { next } else { best });
                    top.into_iter().for_each(|(i, _)| y[i * inner + k] = T::of_int(1));
                }
            }
            Ok(true)
        }, else Ok(false))
    }
}
