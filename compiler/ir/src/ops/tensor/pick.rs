//! Ops whose result's extent depends on the elements: non-zero places, compression by a mask, unique slices.

use std::collections::BTreeMap;

use optc_tensor::{DType, Tensor, for_each_index};

use super::Canvas;
use super::canvas::copy_runs;
use crate::ops::axis_of;
use crate::ops::message::type_of;
use crate::ops::native::{NativeElement, by_native, order_keys};
use crate::ops::number::checked_len;
use crate::{Args, Dim, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// The places of the elements that are not zero, in row-major order: a column of indices each. A scalar counts as a
    /// vector.
    ///
    /// - (C1) `x` holds numbers or booleans.
    "tensor.non_zero" = NonZero(x) {}
}

impl Semantics for NonZero {
    const FACTS: Facts<NonZero> = Facts::host("how much it finds depends on data").with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        ensure!(x.dtype != DType::Str, "C1", "`x` holds strings");
        let rows = x.rank().map_or(Dim::Unknown, |r| Dim::Known(r.max(1)));
        Ok(vec![TensorType::new(DType::I64, vec![rows, Dim::Unknown]).into()])
    }

    /// The elements widened, and their indices in lists that are put together.
    fn working_bytes(&self, operands: usize, results: usize) -> usize {
        operands.saturating_mul(8 * 8).saturating_add(results.saturating_mul(8))
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        ensure!(x.dtype() != DType::Str, "C1", "`x` holds strings");
        let shape = if x.rank() == 0 { &[1][..] } else { x.shape() };
        let view = x.view().ok_or(OpError::Operand { slot: 0 })?;
        let found = match x.dtype() {
            DType::Bool => places(view.as_slice::<u8>()?, shape),
            dtype if dtype.is_small_float() => places(&x.to_f64_vec(), shape),
            dtype => by_native!(dtype, T => places(view.as_slice::<T>()?, shape), else places(&x.to_i64_vec(), shape)),
        };
        Ok(vec![found?.into()])
    }
}

/// The places of elements that are not zero in a tensor of this shape.
fn places<T: NativeElement>(x: &[T], shape: &[usize]) -> Result<Tensor, OpError> {
    let is = |v: &&T| v.to_f64() != 0.0;
    let found = x.iter().filter(is).count();
    let mut places = Tensor::zeros(DType::I64, &[shape.len(), found])?;
    let (Some((&columns, outer)), false) = (shape.split_last(), found == 0) else { return Ok(places) };
    let mut axes: Vec<&mut [i64]> = places.as_mut_slice::<i64>()?.chunks_exact_mut(found).collect();
    let (mut rows, mut next) = (x.chunks_exact(columns), 0);
    for_each_index(outer, |index| {
        let first = next;
        if let Some(last) = axes.last_mut() {
            for (i, _) in rows.next().unwrap_or_default().iter().enumerate().filter(|(_, v)| is(v)) {
                last[next] = i as i64;
                next += 1;
            }
        }
        axes.iter_mut().zip(index).for_each(|(axis, &i)| axis[first..next].fill(i as i64));
    });
    Ok(places)
}

op! {
    /// The slices of `x` along `axis` for which `keep` holds; a short `keep` keeps nothing after its end.
    ///
    /// - (C1) `keep` is a boolean vector that is not longer than the axis.
    "tensor.compress" = Compress(x, keep) {
        /// The axis; negative from the end.
        axis: i64 = 0,
    }
}

impl Semantics for Compress {
    const FACTS: Facts<Compress> = Facts::host("how much it finds depends on data").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, keep) = (cx.tensor(0)?, cx.tensor(1)?);
        ensure!(keep.dtype == DType::Bool && keep.rank().is_none_or(|r| r == 1), "C1", "`keep` is {keep}");
        let Some(mut dims) = x.shape.clone() else { return Ok(vec![x.clone().into()]) };
        let axis = axis_of(self.axis, dims.len())?;
        dims[axis] = cx.constant(1).map_or(Dim::Unknown, |t| Dim::Known(t.bytes().iter().filter(|&&b| b != 0).count()));
        Ok(vec![TensorType::new(x.dtype, dims).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, keep) = (args.tensor(0)?, args.tensor(1)?);
        let axis = axis_of(self.axis, x.rank())?;
        let n = x.shape()[axis];
        let fits = keep.dtype() == DType::Bool && keep.rank() == 1 && keep.len() <= n;
        ensure!(fits, "C1", "`keep` is {} for an extent of {n}", type_of(keep));
        let kept: Vec<usize> = (0..keep.len()).filter(|&i| keep.bytes()[i] != 0).collect();
        Ok(vec![slices(x, axis, &kept)?.into()])
    }
}

/// The slices at `picks` of `x` along `axis`.
fn slices(x: &Tensor, axis: usize, picks: &[usize]) -> Result<Tensor, OpError> {
    let mut shape = x.shape().to_vec();
    let n = std::mem::replace(&mut shape[axis], picks.len());
    let run: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    checked_len(x.dtype(), &shape)?;
    if let (Some(from), true) = (x.view(), x.dtype().bits() >= 8) {
        let mut y = Tensor::zeros(x.dtype(), &shape)?;
        if let Some(mut to) = y.view_mut()? {
            let starts = (0..outer).flat_map(|outer| picks.iter().map(move |pick| Ok((outer * n + pick) * run)));
            copy_runs(from, &mut to, starts, run)?;
        }
        return Ok(y);
    }
    // Strings, and elements of less than a byte.
    let mut y = Canvas::zeroed(x.dtype(), &shape)?;
    for outer in 0..outer {
        picks.iter().for_each(|pick| y.push(x, (outer * n + pick) * run, run));
    }
    Ok(y.finish()?)
}

op! {
    /// The different slices of `x` along `axis`, sorted or in the order of their first occurrence. The other results
    /// say where each occurs first, which one each slice of `x` is, and how often each occurs. NaN equals NaN and is
    /// the largest.
    "tensor.unique" = Unique(x) {
        /// The axis; negative from the end.
        axis: i64 = 0,
        /// Whether the slices are sorted.
        sorted: bool = true,
    }
}

impl Semantics for Unique {
    const FACTS: Facts<Unique> = Facts::host("how much it finds depends on data").with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let list = |n| Type::from(TensorType::new(DType::I64, vec![n]));
        let Some(mut dims) = x.shape.clone() else {
            return Ok(vec![x.clone().into(), list(Dim::Unknown), list(Dim::Unknown), list(Dim::Unknown)]);
        };
        let axis = axis_of(self.axis, dims.len())?;
        let all = std::mem::replace(&mut dims[axis], Dim::Unknown);
        let y = TensorType::new(x.dtype, dims).into();
        Ok(vec![y, list(Dim::Unknown), list(all), list(Dim::Unknown)])
    }

    /// The keys of all slices, and their order.
    fn working_bytes(&self, operands: usize, results: usize) -> usize {
        operands.saturating_mul(6 * 8).saturating_add(results.saturating_mul(8))
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let axis = axis_of(self.axis, x.rank())?;
        let n = x.shape()[axis];
        let run: usize = x.shape()[axis + 1..].iter().product();
        let keys = order_keys(x);
        let row = |i: usize| -> Vec<u64> {
            let outer = 0..x.shape()[..axis].iter().product();
            outer.flat_map(|o: usize| keys[(o * n + i) * run..][..run].iter().copied()).collect()
        };
        // The slices that are equal, by their keys: lexicographic order is that of the map.
        let mut groups: BTreeMap<Vec<u64>, Vec<usize>> = BTreeMap::new();
        (0..n).for_each(|i| groups.entry(row(i)).or_default().push(i));
        let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
        if !self.sorted {
            groups.sort_by_key(|group| group[0]);
        }
        let firsts: Vec<usize> = groups.iter().map(|group| group[0]).collect();
        let mut inverse = vec![0i64; n];
        for (g, group) in groups.iter().enumerate() {
            group.iter().for_each(|&i| inverse[i] = g as i64);
        }
        let list = |v: Vec<i64>| Tensor::from_slice(&[v.len()], &v).map(Val::from);
        Ok(vec![
            slices(x, axis, &firsts)?.into(),
            list(firsts.iter().map(|&i| i as i64).collect())?,
            list(inverse)?,
            list(groups.iter().map(|group| group.len() as i64).collect())?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(op: impl Into<crate::Op>, operands: Vec<Tensor>) -> Result<Vec<Tensor>, OpError> {
        let values: Vec<Option<Val>> = operands.into_iter().map(|t| Some(t.into())).collect();
        Ok(op.into().eval(&Args::plain(&values))?.iter().map(|v| v.as_tensor().unwrap().clone()).collect())
    }

    #[test]
    fn a_scalar_has_one_place_or_none() {
        let places = |v: f32| eval(NonZero {}, vec![Tensor::scalar(v)]).unwrap()[0].shape().to_vec();
        assert_eq!((places(0.0), places(2.0)), (vec![1, 0], vec![1, 1]));
        let none = Tensor::zeros(DType::F32, &[2, 0]).unwrap();
        assert_eq!(eval(NonZero {}, vec![none]).unwrap()[0].shape(), [2, 0]);
    }

    #[test]
    fn a_mask_may_be_short_but_not_long() {
        let x = || Tensor::from_slice(&[3], &[1i64, 2, 3]).unwrap();
        let keep = |v: &[bool]| Tensor::from_bools(&[v.len()], v).unwrap();
        let run = |k| eval(Compress { axis: -1 }, vec![x(), k]);
        assert_eq!(run(keep(&[false, true])).unwrap()[0].to_i64_vec(), [2]);
        assert_eq!(run(keep(&[])).unwrap()[0].shape(), [0]);
        assert!(run(keep(&[true; 4])).is_err() && run(x()).is_err());
    }

    #[test]
    fn nan_minus_zero_and_strings_are_unique_once() {
        let x = Tensor::from_slice(&[5], &[f32::NAN, 0.0, -0.0, -1.0, f32::NAN]).unwrap();
        let found = eval(Unique { axis: 0, sorted: true }, vec![x]).unwrap();
        assert_eq!(found[1].to_i64_vec(), [3, 1, 0]);
        assert_eq!(found[2].to_i64_vec(), [2, 1, 1, 0, 2]);
        assert_eq!(found[3].to_i64_vec(), [1, 2, 2]);
        let s = Tensor::from_strings(&[3], ["b", "a", "b"].map(String::from).to_vec()).unwrap();
        let found = eval(Unique { axis: 0, sorted: false }, vec![s]).unwrap();
        assert_eq!(found[0].strings().unwrap(), ["b", "a"]);
        let none = Tensor::zeros(DType::F32, &[0]).unwrap();
        assert_eq!(eval(Unique { axis: 0, sorted: true }, vec![none]).unwrap()[0].shape(), [0]);
    }
}
