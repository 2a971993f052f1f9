//! Ops that write elements or blocks by index into a copy of a tensor.

use optc_tensor::{Tensor, TensorMut, TensorRef, strides_of};

use super::Canvas;
use super::gather::{blocks, borrowed, check_indices, for_element_positions};
use crate::ops::axis_of;
use crate::ops::eval::eval_new;
use crate::ops::message::type_of;
use crate::ops::native::{NativeElement, by_native, by_width};
use crate::ops::number::{Number, by_number};
use crate::{Args, Facts, InferCx, OpError, Operands, Semantics, Type, Val, ensure, op, text_enum};

text_enum! {
    /// What becomes of the old element where a scatter puts a new one.
    pub enum ScatterReduction {
        /// The new one takes its place.
        None = "none",
        /// Their sum.
        Add = "add",
        /// Their product.
        Mul = "mul",
        /// The greater one.
        Max = "max",
        /// The lesser one.
        Min = "min",
    }
}

/// Checks the dtypes, for which the same holds in all scatters.
fn infer(cx: &InferCx) -> Result<Vec<Type>, OpError> {
    let (x, indices, updates) = (cx.tensor(0)?, cx.tensor(1)?, cx.tensor(2)?);
    check_indices(indices.dtype)?;
    ensure!(x.dtype == updates.dtype, "C3", "`x` is {}, `updates` are {}", x.dtype, updates.dtype);
    Ok(vec![x.clone().into()])
}

/// A copy of `x` with the blocks of `updates`, one after the other, put at `starts`: for strings and elements of less
/// than a byte, which are not reduced.
fn write(x: &Tensor, updates: &Tensor, starts: &[usize], len: usize) -> Result<Vec<Val>, OpError> {
    let mut y = Canvas::copy_of(x)?;
    starts.iter().enumerate().for_each(|(i, &start)| y.put(start, updates, i * len, len));
    Ok(vec![y.finish()?.into()])
}

/// The same with reductions, for numbers of any width.
fn accumulate<N: Number>(
    x: &Tensor,
    updates: &Tensor,
    starts: &[usize],
    len: usize,
    reduction: ScatterReduction,
) -> Result<Vec<Val>, OpError> {
    let f = reduction.function::<N>();
    let (mut y, updates) = (N::all(x), N::all(updates));
    for (i, &start) in starts.iter().enumerate() {
        for k in 0..len {
            y[start + k] = f(y[start + k], updates[i * len + k]);
        }
    }
    Ok(vec![N::tensor(x.dtype(), x.shape(), &y)?.into()])
}

impl ScatterReduction {
    /// What becomes of an old element and a new one.
    fn function<N: Number>(self) -> fn(N, N) -> N {
        match self {
            ScatterReduction::None => |_, new| new,
            ScatterReduction::Add => N::plus,
            ScatterReduction::Mul => N::times,
            ScatterReduction::Max => N::greatest,
            ScatterReduction::Min => N::least,
        }
    }
}

/// The result of a scatter `op` for its operands, whose dtypes are checked; `blocks` gives where its blocks begin and
/// how long they are.
fn reduced_or_put(
    op: &impl Semantics,
    args: &Args,
    reduction: ScatterReduction,
    blocks: impl FnOnce() -> Result<(Vec<usize>, usize), OpError>,
) -> Result<Vec<Val>, OpError> {
    let (x, updates) = (args.tensor(0)?, args.tensor(2)?);
    ensure!(x.dtype() == updates.dtype(), "C3", "`x` is {}, `updates` are {}", x.dtype(), updates.dtype());
    if let Some(results) = eval_new(op, args, &[(x.dtype(), x.shape())])? {
        return Ok(results);
    }
    let (starts, len) = blocks()?;
    if reduction == ScatterReduction::None {
        return write(x, updates, &starts, len);
    }
    by_number!("tensor.scatter", x.dtype(), accumulate(x, updates, &starts, len, reduction))
}

/// Calls `scatter` on the elements of `x` and `updates` that fill bytes, with what becomes of an old element and a new
/// one: elements of any dtype are put, numbers are reduced; each result is rounded. Whether the dtype is one of these.
fn scattered(
    [x, updates]: [TensorRef; 2],
    y: &mut TensorMut,
    reduction: ScatterReduction,
    mut starts: impl FnMut(&mut dyn FnMut(&[usize])) -> Result<(), OpError>,
    len: usize,
) -> Result<bool, OpError> {
    if reduction == ScatterReduction::None {
        return by_width!(x.dtype(), T => {
            let (from, to) = (updates.as_bits::<T>()?, y.as_mut_bits::<T>()?);
            to.copy_from_slice(x.as_bits::<T>()?);
            let mut next = 0;
            starts(&mut |row| {
                if len == 1 {
                    row.iter().zip(&from[next..]).for_each(|(&at, &new)| to[at] = new);
                    next += row.len();
                    return;
                }
                for &at in row {
                    to[at..][..len].copy_from_slice(&from[next..][..len]);
                    next += len;
                }
            })?;
            Ok(true)
        }, else Ok(false));
    }
    by_native!(x.dtype(), T => {
        let (from, to) = (updates.as_slice::<T>()?, y.as_mut_slice::<T>()?);
        let f = reduction.function::<<T as NativeElement>::Wide>();
        to.copy_from_slice(x.as_slice::<T>()?);
        let mut next = 0;
        starts(&mut |row| {
            for &at in row {
                let pairs = to[at..][..len].iter_mut().zip(&from[next..][..len]);
                pairs.for_each(|(to, new)| *to = T::narrow(f(to.widen(), new.widen())));
                next += len;
            }
        })?;
        Ok(true)
    }, else Ok(false))
}

op! {
    /// A copy of `x` with each element of `updates` put at its own place but for `axis`, where the index says it. Of
    /// several updates of one element the last one stays, or all are reduced into it.
    ///
    /// - (C1) `indices` and `updates` have one shape, of `x`'s rank and but for `axis` of no larger extents.
    /// - (C2) Indices are `i32` or `i64` and lie in `-n..n`.
    /// - (C3) `x` and `updates` have one dtype.
    /// - (C4) `reduction` is `none`, `add`, `mul`, `max` or `min`.
    "tensor.scatter_elements" = ScatterElements(x, indices, updates) {
        /// The axis; negative from the end.
        axis: i64 = 0,
        /// What becomes of the old element.
        reduction: ScatterReduction = ScatterReduction::None,
    }
}

impl Semantics for ScatterElements {
    const FACTS: Facts<ScatterElements> = Facts::host("there is no kernel that scatters").with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        infer(cx)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, indices, updates) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
        let axis = axis_of(self.axis, x.rank())?;
        let (a, b) = (indices.shape(), updates.shape());
        ensure!(a == b, "C1", "indices are of shape {a:?}, updates of {b:?}");
        let mut starts = Vec::new();
        reduced_or_put(self, args, self.reduction, || {
            for_element_positions(x.shape(), borrowed(indices)?, axis, |row| starts.extend_from_slice(row))?;
            Ok((starts, 1))
        })
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (x, indices, updates) = (operands.tensor(0)?, operands.tensor(1)?, operands.tensor(2)?);
        if indices.shape() != updates.shape() {
            return Ok(false);
        }
        let axis = axis_of(self.axis, x.rank())?;
        let starts = |f: &mut dyn FnMut(&[usize])| for_element_positions(x.shape(), indices, axis, f);
        scattered([x, updates], &mut results[0], self.reduction, starts, 1)
    }
}

op! {
    /// A copy of `x` with the blocks of `updates` put at the places that the last dim of `indices` holds.
    ///
    /// - (C1) `updates` has the leading dims of `indices`, then the dims of `x` that places leave.
    /// - (C2) Indices are `i64` or `i32` and lie in `-n..n`.
    /// - (C3) `x` and `updates` have one dtype.
    /// - (C4) `reduction` is `none`, `add`, `mul`, `max` or `min`.
    "tensor.scatter_nd" = ScatterNd(x, indices, updates) {
        /// What becomes of the old elements.
        reduction: ScatterReduction = ScatterReduction::None,
    }
}

impl ScatterNd {
    /// Where in `x`, of shape `shape`, each block of the updates begins, in elements.
    ///
    /// # Errors
    /// The indices do not fit the shape.
    pub fn starts(&self, shape: &[usize], indices: &Tensor) -> Result<Vec<usize>, OpError> {
        Ok(blocks(shape, borrowed(indices)?, 0)?.starts)
    }
}

impl Semantics for ScatterNd {
    const FACTS: Facts<ScatterNd> = Facts::family().with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        infer(cx)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, indices, updates) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
        let found = blocks(x.shape(), borrowed(indices)?, 0)?;
        let (depth, lead) = indices.shape().split_last().unwrap_or((&0, &[]));
        let expected = [lead, &x.shape()[*depth..]].concat();
        ensure!(updates.shape() == expected, "C1", "updates are of shape {:?}, expected {expected:?}", updates.shape());
        reduced_or_put(self, args, self.reduction, || Ok((found.starts, found.len)))
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (x, indices, updates) = (operands.tensor(0)?, operands.tensor(1)?, operands.tensor(2)?);
        let found = blocks(x.shape(), indices, 0)?;
        let (depth, lead) = indices.shape().split_last().unwrap_or((&0, &[]));
        if updates.shape() != [lead, &x.shape()[*depth..]].concat() {
            return Ok(false);
        }
        let starts = |f: &mut dyn FnMut(&[usize])| {
            f(&found.starts);
            Ok(())
        };
        scattered([x, updates], &mut results[0], self.reduction, starts, found.len)
    }
}

op! {
    /// A copy of the cache `x` (batch first) with the rows of `updates` written along `axis` from row `starts[batch]`
    /// on, or from row 0; a circular cache wraps around.
    ///
    /// - (C1) `x` and `updates` have one rank, one dtype, and but for `axis`, which is not the batch, the same extents.
    /// - (C2) Each batch has a start, and all rows lie within the cache, unless it is circular.
    "tensor.update_cache" = UpdateCache(x, updates, starts: optional) {
        /// The axis of the rows; negative from the end.
        axis: i64 = -2,
        /// Whether row `n` of `n` is row 0.
        circular: bool = false,
    }
}

impl Semantics for UpdateCache {
    const FACTS: Facts<UpdateCache> = Facts::host("there is no kernel that scatters").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, updates) = (cx.tensor(0)?, cx.tensor(1)?);
        ensure!(x.dtype == updates.dtype, "C1", "`x` is {x}, `updates` are {updates}");
        Ok(vec![x.clone().into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, updates) = (args.tensor(0)?, args.tensor(1)?);
        let axis = axis_of(self.axis, x.rank())?;
        let (to, from) = (x.shape(), updates.shape());
        let fits = axis > 0 && to.len() == from.len() && (0..to.len()).all(|d| d == axis || to[d] == from[d]);
        let (found, whole) = (type_of(updates), type_of(x));
        ensure!(fits && x.dtype() == updates.dtype(), "C1", "{found} does not fit {whole} along axis {axis}");
        let starts = args.optional(2).map_or_else(|| vec![0; to[0]], |t| t.to_i64_vec());
        ensure!(starts.len() == to[0], "C2", "there are {} starts for {} batches", starts.len(), to[0]);
        let (n, rows) = (to[axis] as i64, from[axis] as i64);
        let inside = |&s: &i64| s >= 0 && (self.circular || s <= n - rows);
        ensure!(starts.iter().all(inside) && (n > 0 || rows == 0), "C2", "starts {starts:?} lie outside of the cache");
        let (stride, row) = (strides_of(to)[0], strides_of(to)[axis]);
        let outer: usize = to[1..axis].iter().product();
        let (mut y, mut next) = (Canvas::copy_of(x)?, 0);
        for (b, start) in starts.into_iter().enumerate() {
            for o in 0..outer {
                let base = b * stride + o * to[axis] * row;
                for r in 0..rows {
                    let at = (i128::from(start) + i128::from(r)) % i128::from(n);
                    y.put(base + at as usize * row, updates, next, row);
                    next += row;
                }
            }
        }
        Ok(vec![y.finish()?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(shape: &[usize], values: &[i64]) -> Tensor {
        Tensor::from_slice(shape, values).unwrap()
    }

    fn eval(op: impl Into<crate::Op>, operands: Vec<Tensor>) -> Result<Vec<i64>, OpError> {
        let values: Vec<Option<Val>> = operands.into_iter().map(|t| Some(t.into())).collect();
        Ok(op.into().eval(&Args::plain(&values))?[0].as_tensor().unwrap().to_i64_vec())
    }

    #[test]
    fn repeated_places_are_reduced_in_turn() {
        let run = |reduction| {
            let operands = vec![ints(&[2], &[3, 4]), ints(&[3], &[0, -2, 0]), ints(&[3], &[2, 5, 1])];
            eval(ScatterElements { axis: 0, reduction }, operands)
        };
        assert_eq!(run(ScatterReduction::None).unwrap(), [1, 4]);
        assert_eq!(run(ScatterReduction::Add).unwrap(), [11, 4]);
        assert_eq!(run(ScatterReduction::Mul).unwrap(), [30, 4]);
        assert_eq!(run(ScatterReduction::Max).unwrap(), [5, 4]);
        assert_eq!(run(ScatterReduction::Min).unwrap(), [1, 4]);
    }

    #[test]
    fn blocks_that_do_not_fit_are_refused() {
        let op = || ScatterNd { reduction: ScatterReduction::None };
        let x = || ints(&[2, 2], &[1, 2, 3, 4]);
        assert_eq!(eval(op(), vec![x(), ints(&[1, 1], &[1]), ints(&[1, 2], &[8, 9])]).unwrap(), [1, 2, 8, 9]);
        assert!(eval(op(), vec![x(), ints(&[1, 1], &[2]), ints(&[1, 2], &[8, 9])]).is_err());
        assert!(eval(op(), vec![x(), ints(&[1, 1], &[1]), ints(&[2], &[8, 9])]).is_err());
        assert!(eval(op(), vec![x(), ints(&[1, 3], &[0, 0, 0]), ints(&[1], &[8])]).is_err());
        assert!(eval(op(), vec![x(), ints(&[], &[0]), ints(&[], &[8])]).is_err());
    }

    #[test]
    fn a_cache_wraps_only_where_it_is_circular() {
        let op = |circular| UpdateCache { axis: 1, circular };
        let run = |circular, start: i64| {
            eval(op(circular), vec![ints(&[1, 3], &[1, 2, 3]), ints(&[1, 2], &[8, 9]), ints(&[1], &[start])])
        };
        assert_eq!(run(false, 1).unwrap(), [1, 8, 9]);
        assert_eq!(run(true, 2).unwrap(), [9, 2, 8]);
        assert_eq!(run(true, i64::MAX).unwrap().len(), 3);
        assert!(run(false, 2).is_err() && run(true, -1).is_err() && run(false, i64::MIN).is_err());
    }
}
