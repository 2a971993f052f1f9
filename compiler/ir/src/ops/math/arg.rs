//! Places of extremes: the largest or smallest element along an axis, and the `k` first of them. NaN is the largest.

use std::cmp::Reverse;

use optc_tensor::{DType, Tensor, TensorMut};

use crate::ops::axis_of;
use crate::ops::eval::{eval_new, room};
use crate::ops::message::shown;
use crate::ops::native::{NativeElement, by_native, order_keys};
use crate::ops::tensor::Canvas;
use crate::{
    Args, Dim, Facts, InferCx, ItemCx, OpError, Operands, Semantics, TensorType, Type, Val, ensure, op, text_enum,
};

text_enum! {
    /// Which of the elements along an axis is sought.
    pub enum Extreme {
        /// The largest one.
        Max = "max",
        /// The smallest one.
        Min = "min",
    }
}

op! {
    /// The index of the largest or smallest element along `axis`; of equal ones the first or the last.
    ///
    /// - (C1) `kind` is `max` or `min`.
    /// - (C2) The axis is not empty, unless the result is.
    "math.arg_reduce" = ArgReduce(x) {
        /// The axis; negative from the end.
        axis: i64 = 0,
        /// Whether the reduced extent stays as 1.
        keep_dims: bool = true,
        /// Which extreme.
        kind: Extreme,
        /// Whether the last of equal elements counts.
        last: bool = false,
    }
}

/// The lengths before, at and after an axis.
fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

impl ArgReduce {
    fn shape<T>(&self, mut shape: Vec<T>, axis: usize, one: T) -> Vec<T> {
        shape.remove(axis);
        if self.keep_dims {
            shape.insert(axis, one);
        }
        shape
    }
}

impl Semantics for ArgReduce {
    const FACTS: Facts<ArgReduce> = Facts::family();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let Some(dims) = &x.shape else { return Ok(vec![TensorType::unranked(DType::I64).into()]) };
        let axis = axis_of(self.axis, dims.len())?;
        Ok(vec![TensorType::new(DType::I64, self.shape(dims.clone(), axis, Dim::Known(1))).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.spares([self.axis])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let axis = axis_of(self.axis, x.rank())?;
        let (outer, n, inner) = around(x.shape(), axis);
        ensure!(n > 0 || outer * inner == 0, "C2", "there is no extreme of nothing");
        let shape = self.shape(x.shape().to_vec(), axis, 1);
        if let Some(results) = eval_new(self, args, &[(DType::I64, &shape)])? {
            return Ok(results);
        }
        // Strings, `bool`, and elements of less than a byte.
        let mut keys = order_keys(x);
        match self.kind {
            Extreme::Max => {}
            Extreme::Min => keys.iter_mut().for_each(|k| *k = !*k),
        }
        let mut found = Vec::with_capacity(outer * inner);
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let key = |k: usize| keys[(o * n + k) * inner + i];
            let better = |best: usize, k: usize| key(k) > key(best) || (self.last && key(k) == key(best));
            found.push((1..n).fold(0, |best, k| if better(best, k) { k } else { best }) as i64);
        }
        Ok(vec![Tensor::from_slice(&shape, &found)?.into()])
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let x = operands.tensor(0)?;
        let axis = axis_of(self.axis, x.rank())?;
        let (outer, n, inner) = around(x.shape(), axis);
        ensure!(n > 0 || outer * inner == 0, "C2", "there is no extreme of nothing");
        let found = results[0].as_mut_slice::<i64>()?;
        by_native!(x.dtype(), T => {
            let x = x.as_slice::<T>()?;
            match self.kind {
                Extreme::Max => extremes(x, found, [n, inner], |v, best| v.above(best) || self.last && !best.above(v)),
                // NaN is the largest.
                Extreme::Min => extremes(x, found, [n, inner], |v, best| best.above(v) || self.last && !v.above(best)),
            }
            Ok(true)
        }, else Ok(false))
    }
}

/// Along the middle one of three dims, the place of the element that is better than all before it.
fn extremes<T: NativeElement>(x: &[T], found: &mut [i64], [n, inner]: [usize; 2], better: impl Fn(T, T) -> bool) {
    if inner == 1 {
        for (row, found) in x.chunks_exact(n.max(1)).zip(found) {
            let mut best = (0, row[0]);
            for (k, &v) in row.iter().enumerate().skip(1) {
                if better(v, best.1) {
                    best = (k, v);
                }
            }
            *found = best.0 as i64;
        }
        return;
    }
    for (x, found) in x.chunks_exact((n * inner).max(1)).zip(found.chunks_exact_mut(inner.max(1))) {
        let mut best = x[..inner].to_vec();
        found.fill(0);
        for (k, row) in x.chunks_exact(inner).enumerate().skip(1) {
            for ((best, found), &v) in best.iter_mut().zip(found.iter_mut()).zip(row) {
                let is = better(v, *best);
                *best = if is { v } else { *best };
                *found = if is { k as i64 } else { *found };
            }
        }
    }
}

op! {
    /// The `k` largest or smallest elements along `axis` from the most extreme one on, and their indices; of equal ones
    /// the first come first.
    ///
    /// - (C1) `k` has one element, from 0 to the extent.
    "math.top_k" = TopK(x, k) {
        /// The axis; negative from the end.
        axis: i64 = -1,
        /// Whether the largest are sought.
        largest: bool = true,
    }
}

fn count_of(k: &Tensor) -> Result<usize, OpError> {
    let n = k.to_i64_vec();
    ensure!(n.len() == 1 && n[0] >= 0, "C1", "`k` is {}, expected one number that is not negative", shown(k));
    Ok(n[0] as usize)
}

impl Semantics for TopK {
    const FACTS: Facts<TopK> = Facts::host("there is no kernel that finds places of extremes");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let Some(mut dims) = x.shape.clone() else {
            return Ok(vec![x.clone().into(), TensorType::unranked(DType::I64).into()]);
        };
        let axis = axis_of(self.axis, dims.len())?;
        let k = cx.constant(1).map(count_of).transpose()?;
        if let Some((k, n)) = k.zip(dims[axis].known()) {
            ensure!(k <= n, "C1", "`k` is {k}, but axis {axis} of {x} has {n} elements");
        }
        dims[axis] = k.map_or(Dim::Unknown, Dim::Known);
        Ok(vec![TensorType::new(x.dtype, dims.clone()).into(), TensorType::new(DType::I64, dims).into()])
    }

    /// A key and a place in the order for each element, both of which sorting copies.
    fn working_bytes(&self, operands: usize, results: usize) -> usize {
        operands.saturating_mul(4 * 8).saturating_add(results.saturating_mul(8))
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let axis = axis_of(self.axis, x.rank())?;
        let (outer, n, inner) = around(x.shape(), axis);
        let k = count_of(args.tensor(1)?)?;
        ensure!(k <= n, "C1", "`k` is {k} for an extent of {n}");
        let mut shape = x.shape().to_vec();
        shape[axis] = k;
        if let Some(results) = eval_new(self, args, &[(x.dtype(), &shape), (DType::I64, &shape)])? {
            return Ok(results);
        }
        // Strings, `bool`, and elements of less than a byte.
        let keys = order_keys(x);
        let mut values = Canvas::zeroed(x.dtype(), &shape)?;
        let mut indices = vec![0i64; outer * k * inner];
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let at = |r: usize| (o * n + r) * inner + i;
            let mut order: Vec<usize> = (0..n).collect();
            match self.largest {
                true => order.sort_by_key(|&r| Reverse(keys[at(r)])),
                false => order.sort_by_key(|&r| keys[at(r)]),
            }
            for (rank, &r) in order.iter().take(k).enumerate() {
                let to = (o * k + rank) * inner + i;
                values.put(to, x, at(r), 1);
                indices[to] = r as i64;
            }
        }
        Ok(vec![values.finish()?.into(), Tensor::from_slice(&shape, &indices)?.into()])
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let x = operands.tensor(0)?;
        let axis = axis_of(self.axis, x.rank())?;
        let (outer, n, inner) = around(x.shape(), axis);
        let [values, indices] = results else { return Ok(false) };
        let k = values.shape()[axis];
        ensure!(k <= n, "C1", "`k` is {k} for an extent of {n}");
        if k == 0 {
            return Ok(true);
        }
        let _room = room(n.saturating_mul(size_of::<(u64, usize)>()))?;
        by_native!(x.dtype(), T => {
            let (x, values) = (x.as_slice::<T>()?, values.as_mut_slice::<T>()?);
            let (indices, mut first) = (indices.as_mut_slice::<i64>()?, First::new(k, self.largest));
            for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
                let lane = x[o * n * inner + i..].iter().step_by(inner).take(n);
                for (rank, &(_, r)) in first.of(lane.copied()).iter().enumerate() {
                    let to = (o * k + rank) * inner + i;
                    (values[to], indices[to]) = (x[(o * n + r) * inner + i], r as i64);
                }
            }
            Ok(true)
        }, else Ok(false))
    }
}

/// Finds the first elements of lists in their order.
struct First {
    k: usize,
    largest: bool,
    /// Those that may be among them, by keys in whose order they come.
    found: Vec<(u64, usize)>,
}

impl First {
    fn new(k: usize, largest: bool) -> First {
        First { k, largest, found: vec![] }
    }

    /// The first `k` of a list, which has as many, and at least one: keys and places. Whatever comes after the last one
    /// of those that were found so far is passed by with one comparison.
    fn of<T: NativeElement>(&mut self, list: impl Iterator<Item = T>) -> &[(u64, usize)] {
        // The largest comes first where keys are turned around.
        let (k, turned) = (self.k, if self.largest { u64::MAX } else { 0 });
        let mut bound: Option<T> = None;
        self.found.clear();
        for (r, v) in list.enumerate() {
            // Of equal ones the first come first.
            let behind = bound.is_some_and(|b| !if self.largest { v.above(b) } else { b.above(v) });
            if behind {
                continue;
            }
            self.found.push((v.order_key() ^ turned, r));
            if self.found.len() >= 2 * k + SPARE {
                self.found.select_nth_unstable(k - 1);
                self.found.truncate(k);
                bound = Some(T::of_order_key(self.found[k - 1].0 ^ turned));
            }
        }
        if self.found.len() > k {
            self.found.select_nth_unstable(k - 1);
            self.found.truncate(k);
        }
        self.found.sort_unstable();
        &self.found
    }
}

/// Elements more than twice those that are sought from which on the others are dropped.
const SPARE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(op: impl Into<crate::Op>, operands: Vec<Tensor>) -> Result<Vec<Tensor>, OpError> {
        let values: Vec<Option<Val>> = operands.into_iter().map(|t| Some(t.into())).collect();
        Ok(op.into().eval(&Args::plain(&values))?.iter().map(|v| v.as_tensor().unwrap().clone()).collect())
    }

    #[test]
    fn none_of_an_empty_axis() {
        let op = TopK { axis: 0, largest: true };
        for shape in [[0, 3], [2, 3]] {
            let x = Tensor::zeros(DType::F32, &shape).unwrap();
            let results = eval(op.clone(), vec![x, Tensor::from_slice(&[1], &[0i64]).unwrap()]).unwrap();
            results.iter().for_each(|t| assert_eq!(t.shape(), [0, 3]));
        }
    }

    #[test]
    fn equal_elements_and_nan() {
        let arg = |kind, last, x: &[f32]| {
            let op = ArgReduce { axis: -1, keep_dims: false, kind, last };
            eval(op, vec![Tensor::from_slice(&[x.len()], x).unwrap()]).map(|y| y[0].to_i64_vec()[0])
        };
        assert_eq!(arg(Extreme::Max, false, &[1.0, 2.0, 2.0]), Ok(1));
        assert_eq!(arg(Extreme::Max, true, &[1.0, 2.0, 2.0]), Ok(2));
        assert_eq!(arg(Extreme::Min, true, &[0.0, 2.0, -0.0]), Ok(2));
        assert_eq!(arg(Extreme::Max, false, &[1.0, f32::NAN, f32::INFINITY]), Ok(1));
        assert!(arg(Extreme::Max, false, &[]).is_err());
        let op = ArgReduce { axis: 1, keep_dims: true, kind: Extreme::Max, last: false };
        assert_eq!(eval(op, vec![Tensor::zeros(DType::F32, &[0, 3]).unwrap()]).unwrap()[0].shape(), [0, 1]);
    }

    #[test]
    fn the_first_k_of_u64_and_k_out_of_range() {
        let x = || Tensor::from_slice(&[3], &[1u64, u64::MAX, 2]).unwrap();
        let top = |k: i64, largest| eval(TopK { axis: 0, largest }, vec![x(), Tensor::from_slice(&[1], &[k]).unwrap()]);
        assert_eq!(top(2, true).unwrap()[1].to_i64_vec(), [1, 2]);
        assert_eq!(top(2, false).unwrap()[1].to_i64_vec(), [0, 2]);
        assert_eq!(top(0, true).unwrap()[0].shape(), [0]);
        assert!(top(4, true).is_err() && top(-1, true).is_err() && top(i64::MAX, true).is_err());
    }
}
