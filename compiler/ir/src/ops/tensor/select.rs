//! Ops that pick elements in a regular order: transpose and slice.

use optc_tensor::{TensorMut, strides_of};

use super::canvas::copy_view_into;
use super::copy_view;
use crate::ops::axis_of;
use crate::{Args, Dim, Facts, InferCx, ItemCx, OpError, Operands, Semantics, TensorType, Type, Val, ensure, op};

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
    const FACTS: Facts<Transpose> = Facts::family().with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let Some(shape) = &x.shape else { return Ok(vec![x.clone().into()]) };
        self.check(shape.len())?;
        Ok(vec![TensorType::new(x.dtype, self.perm.iter().map(|&d| shape[d as usize].clone()).collect()).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0]) && self.perm.first() == Some(&0)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        self.check(x.rank())?;
        let shape: Vec<usize> = self.perm.iter().map(|&d| x.shape()[d as usize]).collect();
        let of = strides_of(x.shape());
        let strides: Vec<isize> = self.perm.iter().map(|&d| of[d as usize] as isize).collect();
        Ok(vec![copy_view(x, 0, &shape, &strides)?.into()])
    }
}

op! {
    /// `x[starts:ends:steps]` along `axes`, with NumPy's clamping of bounds.
    ///
    /// - (C1) `starts`, `ends`, `axes` and `steps` have one length; no step is 0.
    /// - (C2) `axes` do not repeat.
    "tensor.slice" = Slice(x, starts, ends, axes: optional, steps: optional) {}
}

/// One axis of a slice: first index, step, count.
fn slice_axis(extent: usize, start: i64, end: i64, step: i64) -> Result<(i64, usize), OpError> {
    ensure!(step != 0, "C1", "a step is 0");
    let n = extent as i64;
    if n == 0 {
        return Ok((0, 0));
    }
    let wrap = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
    let (start, end) = match step > 0 {
        true => (wrap(start).clamp(0, n), wrap(end).clamp(0, n)),
        false => (wrap(start).clamp(0, n - 1), wrap(end).clamp(-1, n - 1)),
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
    let plan: Result<Vec<_>, OpError> =
        (0..n).map(|i| Ok((axis_of(axes[i], rank)?, starts[i], ends[i], steps[i]))).collect();
    let plan = plan?;
    let twice = (0..n).any(|i| plan[..i].iter().any(|p| p.0 == plan[i].0));
    ensure!(!twice, "C2", "axes {axes:?} repeat");
    Ok(plan)
}

impl Semantics for Slice {
    const FACTS: Facts<Slice> = Facts::family().following().with_strings();
    const ONLY_MOVES: bool = true;

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

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.spares_in(3)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let lists = [1, 2, 3, 4].map(|s| args.optional(s).map(|t| t.to_i64_vec()));
        let view = slice_view(x.shape(), lists)?;
        Ok(vec![copy_view(x, view.offset, &view.shape, &view.strides)?.into()])
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let x = operands.tensor(0)?;
        let lists = [1, 2, 3, 4].map(|s| operands.optional(s).map(|t| t.to_i64_vec()));
        let view = slice_view(x.shape(), lists)?;
        copy_view_into(x, &mut results[0], view.offset, &view.shape, &view.strides)
    }
}

/// Which elements of a tensor a slice has.
struct SliceView {
    /// The first one.
    offset: usize,
    /// The extents.
    shape: Vec<usize>,
    /// Elements from one index of each dim to the next.
    strides: Vec<isize>,
}

/// The elements of a tensor of shape `x` that a slice with these operands has.
fn slice_view(x: &[usize], lists: [Option<Vec<i64>>; 4]) -> Result<SliceView, OpError> {
    let strides = strides_of(x).iter().map(|&s| s as isize).collect();
    let mut view = SliceView { offset: 0, shape: x.to_vec(), strides };
    for (axis, start, end, step) in slice_plan(lists, x.len())? {
        let (first, count) = slice_axis(x[axis], start, end, step)?;
        view.offset += first as usize * view.strides[axis] as usize;
        view.shape[axis] = count;
        // A step is taken only where there are two elements, and then it lies within the extent.
        view.strides[axis] = if count > 1 { view.strides[axis] * step as isize } else { 0 };
    }
    Ok(view)
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_tensor::{DType, Tensor};

    fn ints(values: &[i64]) -> Tensor {
        Tensor::from_slice(&[values.len()], values).unwrap()
    }

    fn slice(x: Tensor, start: i64, end: i64, step: i64) -> Result<Vec<i64>, OpError> {
        let values: Vec<Option<Val>> =
            [x, ints(&[start]), ints(&[end]), ints(&[0]), ints(&[step])].map(|t| Some(t.into())).to_vec();
        Ok(crate::Op::from(Slice {}).eval(&Args::plain(&values))?[0].as_tensor().unwrap().to_i64_vec())
    }

    #[test]
    fn bounds_clamp_as_in_numpy() {
        let x = || ints(&[0, 1, 2, 3]);
        assert_eq!(slice(x(), -100, 100, 1).unwrap(), [0, 1, 2, 3]);
        assert_eq!(slice(x(), 100, i64::MIN, -1).unwrap(), [3, 2, 1, 0]);
        assert_eq!(slice(x(), 3, 1, 1).unwrap(), []);
        assert_eq!(slice(x(), 1, 4, i64::MAX).unwrap(), [1]);
        assert_eq!(slice(x(), 3, i64::MIN, i64::MIN).unwrap(), [3]);
        assert_eq!(slice(x(), i64::MIN, i64::MAX, 3).unwrap(), [0, 3]);
        assert_eq!(slice(ints(&[]), 5, i64::MIN, -1).unwrap(), []);
        assert!(slice(x(), 0, 1, 0).is_err());
    }

    #[test]
    fn empty_and_scalar_tensors_transpose() {
        let transpose = |shape: &[usize], perm: &[i64]| {
            let x = Tensor::zeros(DType::F32, shape).unwrap();
            crate::Op::from(Transpose { perm: perm.to_vec() }).eval(&Args::plain(&[Some(x.into())]))
        };
        assert_eq!(transpose(&[2, 0], &[1, 0]).unwrap()[0].as_tensor().unwrap().shape(), [0, 2]);
        assert!(transpose(&[], &[]).is_ok());
        assert!(transpose(&[2, 3], &[0, 0]).is_err() && transpose(&[2], &[-1]).is_err());
    }
}
