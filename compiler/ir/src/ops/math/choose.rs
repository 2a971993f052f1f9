//! Elementwise choice: `where` and `clip`.

use optc_tensor::{DType, Tensor, TensorMut};

use super::broadcast::{Runs, broadcast_types, common_shape, for_each_broadcast};
use super::expression;
use crate::ops::eval::eval_new;
use crate::ops::native::{NativeElement, by_native, by_width};
use crate::ops::number::{Number, by_number};
use crate::ops::tensor::Canvas;
use crate::{Args, Facts, FusionRole, InferCx, OpError, Operands, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// `a` where `cond` holds, else `b`.
    ///
    /// - (C1) The three shapes broadcast.
    /// - (C2) `a` and `b` have one dtype.
    /// - (C3) `cond` is boolean.
    "math.where" = Where(cond, a, b) {}
}

impl Semantics for Where {
    const FACTS: Facts<Where> =
        Facts::expression(Some(FusionRole::Select), |_, s| expression::choice(s)).with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (cond, a, b) = (cx.tensor(0)?, cx.tensor(1)?, cx.tensor(2)?);
        ensure!(a.dtype == b.dtype, "C2", "operands are {} and {}, expected one dtype", a.dtype, b.dtype);
        ensure!(cond.dtype == DType::Bool, "C3", "`cond` is {}, expected bool", cond.dtype);
        let shape = broadcast_types(a, b)?;
        let ab = TensorType::of(a.dtype, shape);
        let shape = broadcast_types(cond, &ab)?;
        Ok(vec![TensorType::of(a.dtype, shape).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (cond, a, b) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
        ensure!(a.dtype() == b.dtype(), "C2", "operands are {} and {}, expected one dtype", a.dtype(), b.dtype());
        ensure!(cond.dtype() == DType::Bool, "C3", "`cond` is {}, expected bool", cond.dtype());
        let shape = common_shape(&[cond, a, b])?;
        if let Some(results) = eval_new(self, args, &[(a.dtype(), &shape)])? {
            return Ok(results);
        }
        let mut y = Canvas::zeroed(a.dtype(), &shape)?;
        let holds = cond.bytes();
        for_each_broadcast([cond.shape(), a.shape(), b.shape()], &shape, |[c, i, j]| {
            let (from, start) = if holds[c] != 0 { (a, i) } else { (b, j) };
            y.push(from, start, 1);
        });
        Ok(vec![y.finish()?.into()])
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (cond, a, b) = (operands.tensor(0)?, operands.tensor(1)?, operands.tensor(2)?);
        let y = &mut results[0];
        let runs = Runs::new([cond.shape(), a.shape(), b.shape()], y.shape());
        by_width!(a.dtype(), T => {
            chosen(&runs, cond.bytes(), [a.as_bits::<T>()?, b.as_bits::<T>()?], y.as_mut_bits::<T>()?);
            Ok(true)
        }, else Ok(false))
    }
}

/// The elements of the first list where the condition holds, else those of the second.
fn chosen<T: Copy>(runs: &Runs<3>, cond: &[u8], [a, b]: [&[T]; 2], y: &mut [T]) {
    let n = runs.len;
    runs.for_each(|to, [c, i, j]| {
        let y = &mut y[to..][..n];
        let pick = |c: u8, a: T, b: T| if c != 0 { a } else { b };
        match runs.steps {
            [0, ..] => match (cond[c] != 0, runs.steps) {
                (true, [_, 0, _]) => y.fill(a[i]),
                (true, _) => y.copy_from_slice(&a[i..][..n]),
                (false, [.., 0]) => y.fill(b[j]),
                (false, _) => y.copy_from_slice(&b[j..][..n]),
            },
            [_, 0, 0] => y.iter_mut().zip(&cond[c..][..n]).for_each(|(y, &c)| *y = pick(c, a[i], b[j])),
            [_, 0, _] => {
                let with = cond[c..][..n].iter().zip(&b[j..][..n]);
                y.iter_mut().zip(with).for_each(|(y, (&c, &b))| *y = pick(c, a[i], b));
            }
            [_, _, 0] => {
                let with = cond[c..][..n].iter().zip(&a[i..][..n]);
                y.iter_mut().zip(with).for_each(|(y, (&c, &a))| *y = pick(c, a, b[j]));
            }
            _ => {
                let with = cond[c..][..n].iter().zip(a[i..][..n].iter().zip(&b[j..][..n]));
                y.iter_mut().zip(with).for_each(|(y, (&c, (&a, &b)))| *y = pick(c, a, b));
            }
        }
    });
}

op! {
    /// `min(max(x, low), high)`; an absent bound does not bound. NaN stays NaN.
    ///
    /// - (C1) The bounds are scalars of `x`'s dtype.
    "math.clip" = Clip(x, low: optional, high: optional) {}
}

fn clip<N: Number>(x: &Tensor, low: Option<&Tensor>, high: Option<&Tensor>) -> Result<Vec<Val>, OpError> {
    let bound = |t: Option<&Tensor>| t.and_then(|t| N::all(t).first().copied());
    let (low, high) = (bound(low).unwrap_or(N::LOWEST), bound(high).unwrap_or(N::HIGHEST));
    let clipped: Vec<N> = N::all(x).into_iter().map(|v| v.greatest(low).least(high)).collect();
    Ok(vec![N::tensor(x.dtype(), x.shape(), &clipped)?.into()])
}

impl Semantics for Clip {
    const FACTS: Facts<Clip> = Facts::expression(Some(FusionRole::Float), |_, s| expression::clip(s));

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        if x.dtype.is_small_float() {
            return crate::ops::bad_dtype("math.clip", x.dtype);
        }
        for slot in (1..3).filter(|&s| cx.has(s)) {
            let bound = cx.tensor(slot)?;
            ensure!(bound.dtype == x.dtype, "C1", "the bound is {}, expected {}", bound.dtype, x.dtype);
            let one = bound.static_shape().is_none_or(|s| optc_tensor::element_count(&s) == Some(1));
            ensure!(one, "C1", "the bound is {bound}, expected one element");
        }
        Ok(vec![x.clone().into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        for bound in [args.optional(1), args.optional(2)].into_iter().flatten() {
            let fits = bound.len() == 1 && bound.dtype() == x.dtype();
            ensure!(
                fits,
                "C1",
                "the bound is {} of {} elements, expected one {}",
                bound.dtype(),
                bound.len(),
                x.dtype()
            );
        }
        if let Some(results) = eval_new(self, args, &[(x.dtype(), x.shape())])? {
            return Ok(results);
        }
        by_number!("math.clip", x.dtype(), clip(x, args.optional(1), args.optional(2)))
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let x = operands.tensor(0)?;
        by_native!(x.dtype(), T => {
            let bound = |slot: usize, or: T| match operands.optional(slot) {
                Some(bound) => Ok::<T, OpError>(bound.as_slice::<T>()?.first().copied().unwrap_or(or)),
                None => Ok(or),
            };
            let (low, high) = (bound(1, T::FIRST)?.widen(), bound(2, T::LAST)?.widen());
            let to = results[0].as_mut_slice::<T>()?.iter_mut().zip(x.as_slice::<T>()?);
            to.for_each(|(y, x)| *y = T::narrow(x.widen().greatest(low).least(high)));
            Ok(true)
        }, else Ok(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(op: impl Into<crate::Op>, values: &[Option<Val>]) -> Tensor {
        op.into().eval(&Args::plain(values)).unwrap()[0].as_tensor().unwrap().clone()
    }

    #[test]
    fn the_upper_bound_wins_and_nan_passes() {
        let x = Tensor::from_slice(&[4], &[-5f32, 0.0, 5.0, f32::NAN]).unwrap();
        let y = eval(Clip {}, &[Some(x.into()), Some(Tensor::scalar(2f32).into()), Some(Tensor::scalar(1f32).into())]);
        assert_eq!(y.to_f64_vec()[..3], [1.0; 3]);
        assert!(y.to_f64_vec()[3].is_nan());
        let x = Tensor::from_slice(&[1], &[u64::MAX]).unwrap();
        let y = eval(Clip {}, &[Some(x.into()), None, Some(Tensor::scalar(u64::MAX - 1).into())]);
        assert_eq!(y.as_slice::<u64>().unwrap(), [u64::MAX - 1]);
    }

    #[test]
    fn where_picks_strings_and_broadcasts_the_condition() {
        let cond = Tensor::from_bools(&[2, 1], &[true, false]).unwrap();
        let s = |v: &str| Some(Val::Tensor(Tensor::from_strings(&[1], vec![v.to_owned()]).unwrap()));
        let y = eval(Where {}, &[Some(cond.into()), s("a"), s("b")]);
        assert_eq!((y.shape(), y.strings().unwrap()), (&[2, 1][..], &["a".to_owned(), "b".to_owned()][..]));
    }
}
