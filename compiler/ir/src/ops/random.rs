//! `random`: ops that draw numbers.
//!
//! What they give is a function of the run's seed, of the op's `key` and `seed`, of how often the op has drawn in the
//! run, and of an element's place ([`Draws`], [`Philox`]); passes neither fold nor merge them.

use optc_tensor::{DType, Draws, Philox, Tensor, TensorMut};

use crate::ops::bad_dtype;
use crate::ops::eval::eval_new;
use crate::ops::native::{NativeElement, by_native};
use crate::ops::tensor::{dims_of, shape_arg};
use crate::{Args, Dim, Facts, InferCx, OpError, Operands, Real, Semantics, TensorType, Type, Val, ensure, op};

const ON_HOST: &str = "random numbers are drawn there";

op! {
    /// A tensor of shape `shape` whose elements are uniform between `low` and `high`.
    ///
    /// - (C1) `dtype` is a float.
    "random.uniform" = RandomUniform(shape) {
        /// The result's dtype.
        dtype: DType = DType::F32,
        /// What tells the op from others that draw.
        key: i64 = 0,
        /// The model's seed for the op.
        seed: Real = Real(0.0),
        /// The lowest value.
        low: Real = Real(0.0),
        /// What all values are below, but for rounding.
        high: Real = Real(1.0),
    }
}

op! {
    /// A tensor of shape `shape` whose elements are normal.
    ///
    /// - (C1) `dtype` is a float.
    "random.normal" = RandomNormal(shape) {
        /// The result's dtype.
        dtype: DType = DType::F32,
        /// What tells the op from others that draw.
        key: i64 = 0,
        /// The model's seed for the op.
        seed: Real = Real(0.0),
        /// The mean.
        mean: Real = Real(0.0),
        /// The standard deviation.
        scale: Real = Real(1.0),
    }
}

op! {
    /// For each row of `x`, which holds logarithms of weights, `count` of its places, each drawn with a probability
    /// that is proportional to its weight. In a row whose weights have no finite sum that is positive it is the last.
    ///
    /// - (C1) `x` is a matrix of floats with at least one column, and `count` is not negative.
    /// - (C2) `dtype` is `i32` or `i64`.
    "random.multinomial" = Multinomial(x) {
        /// The result's dtype.
        dtype: DType = DType::I32,
        /// What tells the op from others that draw.
        key: i64 = 0,
        /// The model's seed for the op.
        seed: Real = Real(0.0),
        /// How many places are drawn for each row.
        count: i64 = 1,
    }
}

/// The numbers for the next evaluation of an op.
fn drawn(key: i64, seed: Real) -> Philox {
    Draws::next(key as u64 ^ u64::from(seed.0.to_bits()).rotate_left(32))
}

fn float(name: &'static str, dtype: DType) -> Result<(), OpError> {
    ensure!(dtype.is_float(), "C1", "`{name}` has dtype {dtype}, expected a float");
    Ok(())
}

/// Fills memory with numbers that come in pairs.
#[inline]
fn fill<T: NativeElement>(y: &mut [T], pair: impl Fn(u64) -> [f64; 2]) {
    for (at, y) in y.chunks_mut(2).enumerate() {
        y.iter_mut().zip(pair(at as u64)).for_each(|(y, v)| *y = T::of_float(v));
    }
}

macro_rules! draws_tensor {
    ($Op:ident, $name:literal, $pair:expr) => {
        impl Semantics for $Op {
            const FACTS: Facts<$Op> = Facts::host(ON_HOST).random();
            const EXTENTS: Option<usize> = Some(0);

            fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
                float($name, self.dtype)?;
                Ok(vec![TensorType::of(self.dtype, dims_of(cx, 0)?).into()])
            }

            fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
                float($name, self.dtype)?;
                let shape = shape_arg(args.tensor(0)?)?;
                let results = eval_new(self, args, &[(self.dtype, &shape)])?;
                results.map_or_else(|| bad_dtype($name, self.dtype), Ok)
            }

            fn eval_into(&self, _: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
                let (numbers, pair) = (drawn(self.key, self.seed), $pair);
                by_native!(self.dtype, T => {
                    fill(results[0].as_mut_slice::<T>()?, |at| pair(self, &numbers, at));
                    Ok(true)
                }, else Ok(false))
            }
        }
    };
}

draws_tensor!(RandomUniform, "random.uniform", |op: &RandomUniform, numbers: &Philox, at: u64| {
    let (low, high) = (f64::from(op.low.0), f64::from(op.high.0));
    numbers.uniform(at).map(|v| low + (high - low) * v)
});
draws_tensor!(RandomNormal, "random.normal", |op: &RandomNormal, numbers: &Philox, at: u64| {
    let (mean, scale) = (f64::from(op.mean.0), f64::from(op.scale.0));
    numbers.normal(at).map(|v| mean + scale * v)
});

impl Semantics for Multinomial {
    const FACTS: Facts<Multinomial> = Facts::host(ON_HOST).random();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let fits = x.dtype.is_float() && x.rank().is_none_or(|r| r == 2);
        ensure!(fits && self.count >= 0, "C1", "`x` is {x} and `count` {}, expected a matrix of floats", self.count);
        ensure!(matches!(self.dtype, DType::I32 | DType::I64), "C2", "`dtype` is {}, expected i32 or i64", self.dtype);
        let rows = x.shape.as_ref().map_or(Dim::Unknown, |shape| shape[0].clone());
        Ok(vec![TensorType::new(self.dtype, vec![rows, Dim::Known(self.count as usize)]).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let (&[rows, columns], true) = (x.shape(), x.dtype().is_float()) else {
            return bad_dtype("random.multinomial", x.dtype());
        };
        ensure!(columns > 0 && self.count >= 0, "C1", "`x` has shape {:?}, expected columns", x.shape());
        let (numbers, count, all) = (drawn(self.key, self.seed), self.count as usize, x.to_f64_vec());
        let mut places = vec![0; rows.saturating_mul(count)];
        for (row, places) in places.chunks_mut(count.max(1)).enumerate() {
            let up_to = cumulated(&all[row * columns..][..columns]);
            for (i, place) in places.iter_mut().enumerate() {
                let [u, _] = numbers.uniform((row * count + i) as u64);
                let sum = up_to[columns - 1];
                // Nothing is less than NaN.
                let place_of = if sum > 0.0 { up_to.partition_point(|&w| w <= u * sum) } else { columns };
                *place = place_of.min(columns - 1) as i64;
            }
        }
        Ok(vec![Tensor::from_i64(self.dtype, &[rows, count], &places)?.into()])
    }
}

/// The sums of weights up to each place, of logarithms of weights: relative to the greatest, so that none overflows.
fn cumulated(logarithms: &[f64]) -> Vec<f64> {
    let greatest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    let add = |v: &f64| {
        sum += (v - greatest).exp();
        sum
    };
    logarithms.iter().map(add).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Op;

    fn eval(op: impl Into<Op>, operand: Tensor) -> Vec<f64> {
        let results = op.into().eval(&Args::plain(&[Some(operand.into())])).unwrap();
        results[0].as_tensor().unwrap().to_f64_vec()
    }

    fn uniform(key: i64) -> RandomUniform {
        RandomUniform { dtype: DType::F32, key, seed: Real(0.0), low: Real(-2.0), high: Real(3.0) }
    }

    #[test]
    fn a_run_draws_what_its_seed_says() {
        let shape = || Tensor::from_slice(&[2], &[3i64, 5]).unwrap();
        let run = |seed: u64| {
            let _run = Draws::enter(seed);
            [eval(uniform(1), shape()), eval(uniform(1), shape()), eval(uniform(2), shape())]
        };
        let [first, again, other] = run(0);
        assert!(first.iter().all(|v| (-2.0..=3.0).contains(v)) && first.len() == 15);
        assert!(first != again && first != other && again != other, "each evaluation and each key draws others");
        assert_eq!(run(0), [first.clone(), again, other]);
        assert_ne!(run(9)[0], first);
        let reseeded = RandomUniform { seed: Real(1.0), ..uniform(1) };
        assert_ne!(eval(reseeded, shape()), first);
    }

    #[test]
    fn every_float_has_the_same_numbers_but_for_rounding() {
        let shape = || Tensor::from_slice(&[1], &[1001i64]).unwrap();
        let normal = |dtype| RandomNormal { dtype, key: 3, seed: Real(0.0), mean: Real(1.0), scale: Real(2.0) };
        let exact = eval(normal(DType::F64), shape());
        let mean = exact.iter().sum::<f64>() / 1001.0;
        let variance = exact.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 1001.0;
        assert!((mean - 1.0).abs() < 0.2 && (variance - 4.0).abs() < 0.5, "{mean} {variance}");
        for (dtype, epsilon) in [(DType::F32, 1e-6), (DType::F16, 1e-3), (DType::BF16, 1e-2)] {
            let near = eval(normal(dtype), shape()).iter().zip(&exact).all(|(a, b)| (a - b).abs() <= epsilon * b.abs());
            assert!(near, "{dtype}");
        }
    }

    #[test]
    fn places_are_drawn_by_their_weights() {
        let op = Multinomial { dtype: DType::I64, key: 0, seed: Real(0.0), count: 4000 };
        let weights = [1e300f64, 3e300, 4e300, 0.0].map(f64::ln);
        let drawn = eval(op.clone(), Tensor::from_slice(&[1, 4], &weights).unwrap());
        let share = |place: f64| drawn.iter().filter(|&&v| v == place).count() as f64 / 4000.0;
        let shares = [share(0.0), share(1.0), share(2.0), share(3.0)];
        let expected = [0.125, 0.375, 0.5, 0.0];
        assert!(shares.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.03), "{shares:?}");
        let nothing = Tensor::from_slice(&[1, 2], &[f64::NEG_INFINITY; 2]).unwrap();
        assert!(eval(op, nothing).iter().all(|&v| v == 1.0));
    }

    #[test]
    fn constraints_are_checked() {
        let refused = |op: Op, operand: Tensor| op.eval(&Args::plain(&[Some(operand.into())])).is_err();
        let shape = || Tensor::from_slice(&[1], &[3i64]).unwrap();
        assert!(refused(RandomUniform { dtype: DType::I32, ..uniform(0) }.into(), shape()));
        assert!(refused(uniform(0).into(), Tensor::from_slice(&[1], &[-1i64]).unwrap()));
        let op = Multinomial { dtype: DType::I32, key: 0, seed: Real(0.0), count: 1 };
        assert!(refused(op.clone().into(), shape()));
        assert!(refused(op.into(), Tensor::zeros(DType::F32, &[2, 0]).unwrap()));
    }
}
