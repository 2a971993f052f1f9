//! Ops that pick elements: transpose, slice, gather, pad.

use optc_tensor::{DType, for_each_index, strides_of};

use super::gather_elements;
use crate::ops::axis_of;
use crate::{Args, Dim, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// Permutes the axes of `x`: `y[i] = x[j]` where `j[perm[d]] = i[d]`.
    ///
    /// - (C1) `perm` is a permutation of `0..rank(x)`.
    /// - (C2) `shape(y)[d] = shape(x)[perm[d]]`; the dtype is unchanged.
    "tensor.transpose" = Transpose(x) {
        /// For each axis of the result, the axis of `x`.
        perm: Vec<i64>,
    }
}

impl Transpose {
    fn check(&self, rank: usize) -> Result<(), OpError> {
        let mut seen = self.perm.clone();
        seen.sort_unstable();
        let fits = seen.iter().copied().eq(0..rank as i64);
        ensure!(fits, "C1", "`perm` is {:?}, expected a permutation of 0..{rank}", self.perm);
        Ok(())
    }
}

impl Semantics for Transpose {
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let Some(shape) = &x.shape else { return Ok(vec![x.clone().into()]) };
        self.check(shape.len())?;
        Ok(vec![TensorType::new(x.dtype, self.perm.iter().map(|&d| shape[d as usize].clone()).collect()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        self.check(x.rank())?;
        let shape: Vec<usize> = self.perm.iter().map(|&d| x.shape()[d as usize]).collect();
        let strides = strides_of(x.shape());
        let mut from = Vec::with_capacity(x.len());
        for_each_index(&shape, |i| {
            from.push(Some(i.iter().zip(&self.perm).map(|(i, &d)| i * strides[d as usize]).sum()));
        });
        Ok(vec![gather_elements(x, &shape, from.into_iter())?.into()])
    }
}

op! {
    /// `x[starts:ends:steps]` along `axes`, with NumPy's clamping of bounds.
    ///
    /// - (C1) `starts`, `ends`, `axes` and `steps` have one length; no step is 0.
    "tensor.slice" = Slice(x, starts, ends, axes: optional, steps: optional) {}
}

/// One axis of a slice: first index, step, count.
fn slice_axis(extent: usize, start: i64, end: i64, step: i64) -> Result<(i64, usize), OpError> {
    ensure!(step != 0, "C1", "a step is 0");
    let n = extent as i64;
    let wrap = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
    let (start, end) = match step > 0 {
        true => (wrap(start).clamp(0, n), wrap(end).clamp(0, n)),
        false => (wrap(start).clamp(0, (n - 1).max(0)), wrap(end).clamp(-1, n - 1)),
    };
    let span = if step > 0 { end - start } else { start - end };
    let count = if span <= 0 { 0 } else { (span - 1) / step.saturating_abs() + 1 };
    Ok((start, count as usize))
}

/// The axes, starts, ends and steps of a slice whose operands are known.
fn slice_plan(lists: [Option<Vec<i64>>; 4], rank: usize) -> Result<Vec<(usize, i64, i64, i64)>, OpError> {
    let [starts, ends, axes, steps] = lists;
    let (starts, ends) = (starts.unwrap_or_default(), ends.unwrap_or_default());
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    let n = starts.len();
    ensure!(
        n == ends.len() && n == axes.len() && n == steps.len(),
        "C1",
        "starts, ends, axes and steps differ in length"
    );
    (0..n).map(|i| Ok((axis_of(axes[i], rank)?, starts[i], ends[i], steps[i]))).collect()
}

impl Semantics for Slice {
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let Some(mut shape) = x.shape.clone() else { return Ok(vec![x.clone().into()]) };
        let known = (1..5).all(|s| !cx.has(s) || cx.constant(s).is_some());
        if !known {
            let axes = cx.constant(3).map(|t| t.to_i64_vec());
            for (d, n) in shape.iter_mut().enumerate() {
                let touched =
                    axes.as_ref().is_none_or(|a| a.iter().any(|&a| axis_of(a, x.rank().unwrap_or(0)) == Ok(d)));
                if touched {
                    *n = Dim::Unknown;
                }
            }
            return Ok(vec![TensorType::new(x.dtype, shape).into()]);
        }
        let lists = [1, 2, 3, 4].map(|s| cx.constant(s).map(|t| t.to_i64_vec()));
        for (axis, start, end, step) in slice_plan(lists, shape.len())? {
            shape[axis] = match shape[axis].known() {
                Some(n) => Dim::Known(slice_axis(n, start, end, step)?.1),
                None => Dim::Unknown,
            };
        }
        Ok(vec![TensorType::new(x.dtype, shape).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let lists = [1, 2, 3, 4].map(|s| args.optional(s).map(|t| t.to_i64_vec()));
        let mut axes: Vec<(i64, i64, usize)> = x.shape().iter().map(|&n| (0, 1, n)).collect();
        for (axis, start, end, step) in slice_plan(lists, x.rank())? {
            let (first, count) = slice_axis(x.shape()[axis], start, end, step)?;
            axes[axis] = (first, step, count);
        }
        let shape: Vec<usize> = axes.iter().map(|a| a.2).collect();
        let strides = strides_of(x.shape());
        let mut from = Vec::with_capacity(shape.iter().product());
        for_each_index(&shape, |index| {
            let at = |(d, &i): (usize, &usize)| (axes[d].0 + i as i64 * axes[d].1) as usize * strides[d];
            from.push(Some(index.iter().enumerate().map(at).sum()));
        });
        Ok(vec![gather_elements(x, &shape, from.into_iter())?.into()])
    }
}

op! {
    /// `x` at `indices` along `axis`; the indices' shape takes the axis' place.
    ///
    /// - (C1) Indices lie in `-n..n`, negative ones from the end.
    /// - (C2) Indices are `i32` or `i64`.
    "tensor.gather" = Gather(x, indices) {
        /// The axis; negative from the end.
        axis: i64 = 0,
    }
}

impl Semantics for Gather {
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, indices) = (cx.tensor(0)?, cx.tensor(1)?);
        ensure!(matches!(indices.dtype, DType::I32 | DType::I64), "C2", "indices are {}", indices.dtype);
        let (Some(shape), Some(at)) = (&x.shape, &indices.shape) else {
            return Ok(vec![TensorType::unranked(x.dtype).into()]);
        };
        let axis = axis_of(self.axis, shape.len())?;
        let dims = [&shape[..axis], at, &shape[axis + 1..]].concat();
        Ok(vec![TensorType::new(x.dtype, dims).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, indices) = (args.tensor(0)?, args.tensor(1)?);
        let axis = axis_of(self.axis, x.rank())?;
        let n = x.shape()[axis];
        let picks = indices.to_i64_vec();
        for &i in &picks {
            ensure!(i >= -(n as i64) && i < n as i64, "C1", "index {i} is outside of {}..{n}", -(n as i64));
        }
        let (outer, inner) =
            (x.shape()[..axis].iter().product::<usize>(), x.shape()[axis + 1..].iter().product::<usize>());
        let shape = [&x.shape()[..axis], indices.shape(), &x.shape()[axis + 1..]].concat();
        let row = |i: i64| if i < 0 { (i + n as i64) as usize } else { i as usize };
        let from = (0..outer)
            .flat_map(|o| picks.iter().flat_map(move |&i| (0..inner).map(move |k| Some((o * n + row(i)) * inner + k))));
        Ok(vec![gather_elements(x, &shape, from)?.into()])
    }
}

op! {
    /// `x` with `pads` elements around it: the begins of all axes, then the ends. Negative pads crop.
    ///
    /// - (C1) `pads` has two entries for each axis.
    /// - (C2) `mode` is `zero`, `edge` or `reflect`.
    "tensor.pad" = Pad(x) {
        /// What the new elements are.
        mode: String = "zero".to_owned(),
        /// Begins, then ends.
        pads: Vec<i64>,
    }
}

impl Pad {
    fn extent(&self, rank: usize, d: usize, n: usize) -> Result<usize, OpError> {
        ensure!(self.pads.len() == 2 * rank, "C1", "{} pads for rank {rank}", self.pads.len());
        let sum = (n as i64).saturating_add(self.pads[d]).saturating_add(self.pads[d + rank]);
        ensure!(sum >= 0, "C1", "pads {:?} crop more than there is", self.pads);
        Ok(sum as usize)
    }

    /// The source index of index `i` on an axis of extent `n`; `None` where it is new.
    fn source(&self, i: i64, n: usize) -> Option<usize> {
        let n = n as i64;
        if (0..n).contains(&i) {
            return Some(i as usize);
        }
        match self.mode.as_str() {
            "edge" if n > 0 => Some(i.clamp(0, n - 1) as usize),
            "reflect" if n > 1 => {
                let period = 2 * (n - 1);
                let k = i.rem_euclid(period);
                Some(if k < n { k } else { period - k } as usize)
            }
            _ => None,
        }
    }
}

impl Semantics for Pad {
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        ensure!(matches!(self.mode.as_str(), "zero" | "edge" | "reflect"), "C2", "there is no mode `{}`", self.mode);
        let Some(shape) = &x.shape else { return Ok(vec![x.clone().into()]) };
        let dims = shape.iter().enumerate().map(|(d, n)| match n.known() {
            Some(n) => self.extent(shape.len(), d, n).map(Dim::Known),
            None => Ok(Dim::Unknown),
        });
        Ok(vec![TensorType::new(x.dtype, dims.collect::<Result<_, _>>()?).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let rank = x.rank();
        let shape = (0..rank).map(|d| self.extent(rank, d, x.shape()[d])).collect::<Result<Vec<_>, _>>()?;
        optc_tensor::Tensor::zeros(x.dtype(), &shape)?;
        let strides = strides_of(x.shape());
        let mut from = vec![];
        for_each_index(&shape, |index| {
            let at = |d: usize| self.source(index[d] as i64 - self.pads[d], x.shape()[d]).map(|i| i * strides[d]);
            from.push((0..rank).map(at).try_fold(0, |sum, i| Some(sum + i?)));
        });
        Ok(vec![gather_elements(x, &shape, from.into_iter())?.into()])
    }
}
