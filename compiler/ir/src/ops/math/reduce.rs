//! Reductions over axes.

use optc_tensor::{DType, Tensor, TensorMut};

use super::broadcast::{Runs, for_each_broadcast};
use crate::ops::axis_of;
use crate::ops::eval::{eval_new, room};
use crate::ops::native::{NativeElement, by_native};
use crate::ops::number::{Number, by_number, checked_len};
use crate::{
    Anchor, Args, Dim, Facts, InferCx, ItemCx, OpError, Operands, Semantics, TensorType, Type, Val, ensure, op,
    text_enum,
};

text_enum! {
    /// What a reduction makes of the elements.
    pub enum ReduceKind {
        /// Their sum.
        Sum = "sum",
        /// Their arithmetic mean.
        Mean = "mean",
        /// The largest one.
        Max = "max",
        /// The smallest one.
        Min = "min",
        /// Their product.
        Prod = "prod",
        /// The sum of their squares.
        SumSquare = "sum_square",
        /// The sum of their absolute values.
        L1 = "l1",
        /// The root of the sum of their squares.
        L2 = "l2",
        /// The logarithm of their sum.
        LogSum = "log_sum",
        /// The logarithm of the sum of their exponentials.
        LogSumExp = "log_sum_exp",
    }
}

op! {
    /// Reduces `x` over the axes in the attribute, where an empty list means all axes, or over those in the operand
    /// `by`, where it means none unless `all_if_empty`.
    ///
    /// - (C1) `kind` is one of `sum`, `mean`, `max`, `min`, `prod`, `sum_square`, `l1`, `l2`, `log_sum`, `log_sum_exp`.
    /// - (C2) The axes lie within the rank.
    /// - (C3) A reduced extent stays as 1 with `keep_dims`, else it goes.
    /// - (C4) The attribute is empty where the operand is there.
    ///
    /// Integers are summed, multiplied and compared exactly (and wrap); what is not an integer is truncated. Over no
    /// elements, the sum is 0, the product 1, the maximum the lowest value of the dtype and the mean NaN (0 for
    /// integers).
    "math.reduce" = Reduce(x, by: optional) {
        /// Whether an empty operand `by` means all axes.
        all_if_empty: bool = false,
        /// What is computed.
        kind: ReduceKind,
        /// The axes, negative ones from the end.
        axes: Vec<i64> = vec![],
        /// Whether reduced extents stay.
        keep_dims: bool = true,
    }
}

impl Reduce {
    /// For each axis, whether it is reduced.
    fn reduced(&self, by: Option<&Tensor>, rank: usize) -> Result<Vec<bool>, OpError> {
        ensure!(by.is_none() || self.axes.is_empty(), "C4", "axes are given twice");
        let axes = by.map_or_else(|| self.axes.clone(), |t| t.to_i64_vec());
        let mut reduced = vec![(by.is_none() || self.all_if_empty) && axes.is_empty(); rank];
        for a in axes {
            reduced[axis_of(a, rank).map_err(|e| e.numbered("C2"))?] = true;
        }
        Ok(reduced)
    }

    fn keep<T: Clone>(&self, shape: &[T], reduced: &[bool], one: T) -> Vec<T> {
        let dims = shape
            .iter()
            .zip(reduced)
            .map(|(n, &r)| if r { self.keep_dims.then(|| one.clone()) } else { Some(n.clone()) });
        dims.flatten().collect()
    }

    /// The result's dims when the operand `by` is not known.
    fn unknown(&self, cx: &InferCx, rank: usize) -> Result<Option<Vec<Dim>>, OpError> {
        let count = cx.tensor(1)?.static_shape().map(|s| s.iter().product::<usize>());
        let count = count.filter(|&n| n > 0 || !self.all_if_empty);
        Ok(match (self.keep_dims, count) {
            (true, _) => Some(vec![Dim::Unknown; rank]),
            (false, Some(count @ 0..=1)) => Some(vec![Dim::Unknown; rank.saturating_sub(count)]),
            // An axis may be named twice.
            (false, _) => None,
        })
    }
}

impl Semantics for Reduce {
    const FACTS: Facts<Reduce> = Facts::anchor(Anchor::Float).following();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        if x.dtype.is_small_float() {
            return crate::ops::bad_dtype("math.reduce", x.dtype);
        }
        let Some(shape) = &x.shape else { return Ok(vec![TensorType::unranked(x.dtype).into()]) };
        if cx.has(1) && cx.constant(1).is_none() {
            return Ok(vec![TensorType::of(x.dtype, self.unknown(cx, shape.len())?).into()]);
        }
        let reduced = self.reduced(cx.constant(1), shape.len())?;
        Ok(vec![TensorType::new(x.dtype, self.keep(shape, &reduced, Dim::Known(1))).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        let by = if cx.infer.has(1) { cx.constant(1) } else { None };
        let known = !cx.infer.has(1) || by.is_some();
        let reduced = cx.rank(0).map(|rank| self.reduced(by, rank));
        cx.only(&[0]) && known && reduced.is_some_and(|of| of.is_ok_and(|of| of.first() == Some(&false)))
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let reduced = self.reduced(args.optional(1), x.rank())?;
        let kept: Vec<usize> = x.shape().iter().zip(&reduced).map(|(&n, &r)| if r { 1 } else { n }).collect();
        checked_len(x.dtype(), &kept)?;
        if let Some(results) = eval_new(self, args, &[(x.dtype(), &self.keep(x.shape(), &reduced, 1))])? {
            return Ok(results);
        }
        let y = by_number!("math.reduce", x.dtype(), reduced_to(self.kind, x, &kept))?;
        Ok(vec![y.reshaped(&self.keep(x.shape(), &reduced, 1))?.into()])
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let x = operands.tensor(0)?;
        let by = operands.optional(1).map(|t| t.to_tensor()).transpose()?;
        let reduced = self.reduced(by.as_ref(), x.rank())?;
        let kept: Vec<usize> = x.shape().iter().zip(&reduced).map(|(&n, &r)| if r { 1 } else { n }).collect();
        by_native!(x.dtype(), T => {
            let _room = room(kept.iter().product::<usize>() * size_of::<u64>())?;
            let folded = Folding::new(x.as_slice::<T>()?, x.shape(), &kept);
            reduced_into(self.kind, &folded, results[0].as_mut_slice::<T>()?)
        }, else Ok(false))
    }
}

/// Elements that are folded into those of a tensor that broadcasts to their shape.
struct Folding<'a, T> {
    x: &'a [T],
    runs: Runs<1>,
    /// The elements of the result.
    kept: usize,
}

impl<'a, T: NativeElement> Folding<'a, T> {
    fn new(x: &'a [T], shape: &[usize], kept: &[usize]) -> Folding<'a, T> {
        Folding { x, runs: Runs::new([kept], shape), kept: kept.iter().product() }
    }

    fn fold<A: Copy>(&self, first: A, f: impl Fn(A, T) -> A) -> Vec<A> {
        let (mut folded, n) = (vec![first; self.kept], self.runs.len);
        self.runs.for_each(|from, [at]| {
            let run = &self.x[from..][..n];
            match self.runs.steps {
                [0] => folded[at] = run.iter().fold(folded[at], |a, &v| f(a, v)),
                _ => folded[at..][..n].iter_mut().zip(run).for_each(|(a, &v)| *a = f(*a, v)),
            }
        });
        folded
    }
}

/// Sums that are made side by side along a run, so that none waits for the one before.
const LANES: usize = 8;

impl<T: NativeElement> Folding<'_, T> {
    /// The sums of `f` of the elements; along a run in lanes.
    fn sums<N: Number>(&self, f: impl Fn(T) -> N) -> Vec<N> {
        let (mut sums, n) = (vec![N::ZERO; self.kept], self.runs.len);
        self.runs.for_each(|from, [at]| {
            let run = &self.x[from..][..n];
            if self.runs.steps == [1] {
                sums[at..][..n].iter_mut().zip(run).for_each(|(sum, &v)| *sum = sum.plus(f(v)));
                return;
            }
            let mut lanes = [N::ZERO; LANES];
            let (blocks, rest) = run.as_chunks::<LANES>();
            blocks.iter().for_each(|block| (0..LANES).for_each(|i| lanes[i] = lanes[i].plus(f(block[i]))));
            let all = lanes.into_iter().chain(rest.iter().map(|&v| f(v)));
            sums[at] = all.fold(sums[at], N::plus);
        });
        sums
    }
}

/// What a reduction makes of elements that fill bytes: exactly, or in `f64` where the result need not be an integer;
/// whether it does so here.
fn reduced_into<T: NativeElement>(kind: ReduceKind, x: &Folding<T>, y: &mut [T]) -> Result<bool, OpError> {
    let wide = |y: &mut [T], folds: Vec<T::Wide>| y.iter_mut().zip(folds).for_each(|(y, v)| *y = T::narrow(v));
    match kind {
        ReduceKind::Sum => wide(y, x.sums(T::widen)),
        ReduceKind::Prod => wide(y, x.fold(T::Wide::ONE, |a, v| a.times(v.widen()))),
        ReduceKind::SumSquare => wide(y, x.sums(|v| v.widen().times(v.widen()))),
        ReduceKind::L1 => wide(y, x.sums(|v| v.widen().absolute())),
        ReduceKind::Max => y.copy_from_slice(&x.fold(T::FIRST, |a: T, v| if v.above(a) { v } else { a })),
        ReduceKind::Min => y.copy_from_slice(&x.fold(T::LAST, |a: T, v| if v.below(a) { v } else { a })),
        ReduceKind::Mean => {
            let count = x.x.len() as f64 / x.kept as f64;
            let sums = x.sums(T::to_f64);
            y.iter_mut().zip(sums).for_each(|(y, sum)| *y = T::of_float(sum / count));
        }
        ReduceKind::L2 | ReduceKind::LogSum | ReduceKind::LogSumExp => return Ok(false),
    }
    Ok(true)
}

/// Folds the elements of `x` into those of a tensor of shape `kept`, which broadcasts to that of `x`; `f` gets the
/// accumulator, the element and the accumulator's position.
fn fold<N: Number>(x: &Tensor, kept: &[usize], first: N, f: impl Fn(N, N, usize) -> N) -> Vec<N> {
    let mut folded = vec![first; kept.iter().product()];
    let values = N::all(x);
    let mut next = 0;
    for_each_broadcast([kept], x.shape(), |[at]| {
        folded[at] = f(folded[at], values[next], at);
        next += 1;
    });
    folded
}

/// `x` reduced to a tensor of shape `kept`: exactly in `N`, or in `f64` where the result need not be an integer.
fn reduced_to<N: Number>(kind: ReduceKind, x: &Tensor, kept: &[usize]) -> Result<Tensor, OpError> {
    let exact = match kind {
        ReduceKind::Sum => fold(x, kept, N::ZERO, |a, v: N, _| a.plus(v)),
        ReduceKind::Prod => fold(x, kept, N::ONE, |a, v: N, _| a.times(v)),
        ReduceKind::SumSquare => fold(x, kept, N::ZERO, |a, v: N, _| a.plus(v.times(v))),
        ReduceKind::L1 => fold(x, kept, N::ZERO, |a, v: N, _| a.plus(v.absolute())),
        ReduceKind::Max => fold(x, kept, lowest(x), |a, v: N, _| a.greatest(v)),
        ReduceKind::Min => fold(x, kept, highest(x), |a, v: N, _| a.least(v)),
        ReduceKind::Mean => {
            let count = x.len() as f64 / kept.iter().product::<usize>() as f64;
            return rounded(x, kept, sum(x, kept, |v| v), |v| v / count);
        }
        ReduceKind::L2 => return rounded(x, kept, sum(x, kept, |v| v * v), f64::sqrt),
        ReduceKind::LogSum => return rounded(x, kept, sum(x, kept, |v| v), f64::ln),
        ReduceKind::LogSumExp => return rounded(x, kept, log_sum_exp(x, kept), |v| v),
    };
    Ok(N::tensor(x.dtype(), kept, &exact)?)
}

/// Below all values of `x`'s dtype; narrow integers must not wrap.
fn lowest<N: Number>(x: &Tensor) -> N {
    match x.dtype() {
        DType::Bool => N::ZERO,
        dtype => dtype.int_range().and_then(|(low, _)| N::from_i128(low)).unwrap_or(N::LOWEST),
    }
}

/// Above all values of `x`'s dtype.
fn highest<N: Number>(x: &Tensor) -> N {
    match x.dtype() {
        DType::Bool => N::ONE,
        dtype => dtype.int_range().and_then(|(_, high)| N::from_i128(high)).unwrap_or(N::HIGHEST),
    }
}

/// The sums of `f` of the elements.
fn sum(x: &Tensor, kept: &[usize], f: fn(f64) -> f64) -> Vec<f64> {
    fold(x, kept, 0.0, |a, v, _| a + f(v))
}

/// What `finish` makes of folds in `f64`, rounded to the dtype of `x`, which must be a number's.
fn rounded(x: &Tensor, kept: &[usize], folds: Vec<f64>, finish: impl Fn(f64) -> f64) -> Result<Tensor, OpError> {
    if !x.dtype().is_float() && !x.dtype().is_int() {
        return crate::ops::bad_dtype("math.reduce", x.dtype());
    }
    let finished: Vec<f64> = folds.into_iter().map(finish).collect();
    Ok(Tensor::from_f64(x.dtype(), kept, &finished)?)
}

/// The largest exponent is taken out of the sum, so that none overflows.
fn log_sum_exp(x: &Tensor, kept: &[usize]) -> Vec<f64> {
    let top = fold(x, kept, f64::NEG_INFINITY, |a, v: f64, _| a.greatest(v));
    let base = |at: usize| if top[at].is_infinite() { 0.0 } else { top[at] };
    let sums = fold(x, kept, 0.0, |a, v: f64, at| a + (v - base(at)).exp());
    sums.iter().enumerate().map(|(at, s)| s.ln() + base(at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reduce(kind: ReduceKind, axes: &[i64], x: Tensor, by: Option<&[i64]>) -> Result<Tensor, OpError> {
        let op = Reduce { all_if_empty: false, kind, axes: axes.to_vec(), keep_dims: false };
        let by = by.map(|v| Val::Tensor(Tensor::from_slice(&[v.len()], v).unwrap()));
        Ok(crate::Op::from(op).eval(&Args::plain(&[Some(x.into()), by]))?[0].as_tensor().unwrap().clone())
    }

    #[test]
    fn integers_are_exact() {
        let x = Tensor::from_slice(&[2], &[i64::MAX - 1, 1]).unwrap();
        assert_eq!(reduce(ReduceKind::Sum, &[], x.clone(), None).unwrap().to_i64_vec(), [i64::MAX]);
        assert_eq!(reduce(ReduceKind::Max, &[], x, None).unwrap().to_i64_vec(), [i64::MAX - 1]);
        let x = Tensor::from_slice(&[2], &[u64::MAX, 1]).unwrap();
        assert_eq!(reduce(ReduceKind::Max, &[], x, None).unwrap().as_slice::<u64>().unwrap(), [u64::MAX]);
        let x = Tensor::from_slice(&[2], &[1i32, 2]).unwrap();
        assert_eq!(reduce(ReduceKind::Mean, &[], x, None).unwrap().to_i64_vec(), [1]);
    }

    #[test]
    fn nothing_reduces_to_the_neutral_element() {
        let x = || Tensor::zeros(DType::F32, &[2, 0]).unwrap();
        assert_eq!(reduce(ReduceKind::Max, &[1], x(), None).unwrap().to_f64_vec(), [f64::NEG_INFINITY; 2]);
        assert_eq!(reduce(ReduceKind::Prod, &[-1], x(), None).unwrap().to_f64_vec(), [1.0, 1.0]);
        assert!(reduce(ReduceKind::Mean, &[1], x(), None).unwrap().to_f64_vec()[0].is_nan());
        assert_eq!(reduce(ReduceKind::Sum, &[0], x(), None).unwrap().shape(), [0]);
        let x = Tensor::zeros(DType::I8, &[0]).unwrap();
        assert_eq!(reduce(ReduceKind::Max, &[], x.clone(), None).unwrap().to_i64_vec(), [-128]);
        assert_eq!(reduce(ReduceKind::Min, &[], x.clone(), None).unwrap().to_i64_vec(), [127]);
        assert_eq!(reduce(ReduceKind::Mean, &[], x, None).unwrap().to_i64_vec(), [0]);
    }

    #[test]
    fn an_empty_operand_reduces_nothing_an_empty_attribute_all() {
        let x = || Tensor::from_slice(&[2], &[-3f32, 4.0]).unwrap();
        assert_eq!(reduce(ReduceKind::L2, &[], x(), None).unwrap().to_f64_vec(), [5.0]);
        assert_eq!(reduce(ReduceKind::L2, &[], x(), Some(&[])).unwrap().to_f64_vec(), [3.0, 4.0]);
        let op = Reduce { all_if_empty: true, kind: ReduceKind::L2, axes: vec![], keep_dims: false };
        let nothing = Tensor::from_slice::<i64>(&[0], &[]).unwrap();
        let found = crate::Op::from(op).eval(&Args::plain(&[Some(x().into()), Some(nothing.into())])).unwrap();
        assert_eq!(found[0].as_tensor().unwrap().to_f64_vec(), [5.0]);
        assert!(reduce(ReduceKind::L2, &[0], x(), Some(&[0])).is_err());
        assert!(reduce(ReduceKind::L2, &[1], x(), None).is_err());
        assert!(reduce(ReduceKind::L2, &[], x(), Some(&[-2])).is_err());
    }

    #[test]
    fn log_sum_exp_does_not_overflow() {
        let y =
            reduce(ReduceKind::LogSumExp, &[], Tensor::from_slice(&[2], &[1000f32, 1000.0]).unwrap(), None).unwrap();
        assert!((y.to_f64_vec()[0] - 1000.693).abs() < 1e-3);
        let y =
            reduce(ReduceKind::LogSumExp, &[], Tensor::from_slice(&[1], &[f32::NEG_INFINITY]).unwrap(), None).unwrap();
        assert_eq!(y.to_f64_vec(), [f64::NEG_INFINITY]);
    }
}
