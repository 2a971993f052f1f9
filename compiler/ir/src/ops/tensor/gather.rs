//! Ops that pick elements or blocks by index.

use optc_tensor::{DType, Tensor, TensorMut, TensorRef, for_each_index, strides_of};

use super::Canvas;
use super::canvas::copy_runs;
use crate::ops::axis_of;
use crate::ops::eval::eval_new;
use crate::ops::native::by_width;
use crate::{Args, Facts, InferCx, ItemCx, OpError, Operands, Semantics, TensorType, Type, Val, ensure, op};

/// Resolves an index into an axis of extent `n`, negative ones from the end.
///
/// # Errors
/// It lies outside of `-n..n`: what most ops that have indices call their second constraint.
pub(crate) fn index_of(i: i64, n: usize) -> Result<usize, OpError> {
    let extent = n as i64;
    ensure!(i >= -extent && i < extent, "C2", "index {i} is outside of {}..{n}", -extent);
    Ok(if i < 0 { i + extent } else { i } as usize)
}

/// Calls `f` with each index of a list of `i32` or `i64`, in order, until it fails.
///
/// # Errors
/// The list is of another dtype, or `f` fails.
pub(super) fn for_indices(indices: TensorRef, mut f: impl FnMut(i64) -> Result<(), OpError>) -> Result<(), OpError> {
    check_indices(indices.dtype())?;
    match indices.dtype() {
        DType::I64 => indices.as_slice::<i64>()?.iter().try_for_each(|&i| f(i)),
        _ => indices.as_slice::<i32>()?.iter().try_for_each(|&i| f(i.into())),
    }
}

/// Checks that indices are of a dtype that indices may have.
pub(super) fn check_indices(dtype: DType) -> Result<(), OpError> {
    ensure!(matches!(dtype, DType::I32 | DType::I64), "C2", "indices are {dtype}, expected i32 or i64");
    Ok(())
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
    const FACTS: Facts<Gather> = Facts::family().with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, indices) = (cx.tensor(0)?, cx.tensor(1)?);
        check_indices(indices.dtype)?;
        let (Some(shape), Some(at)) = (&x.shape, &indices.shape) else {
            return Ok(vec![TensorType::unranked(x.dtype).into()]);
        };
        let axis = axis_of(self.axis, shape.len())?;
        let dims = [&shape[..axis], at, &shape[axis + 1..]].concat();
        Ok(vec![TensorType::new(x.dtype, dims).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        match cx.is_batched(1) {
            // Rows of a table: the indices' first axis is the result's.
            true => cx.only(&[1]) && cx.rank(0).is_some_and(|rank| axis_of(self.axis, rank) == Ok(0)),
            false => cx.spares([self.axis]),
        }
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, indices) = (args.tensor(0)?, args.tensor(1)?);
        check_indices(indices.dtype())?;
        let axis = axis_of(self.axis, x.rank())?;
        let shape = [&x.shape()[..axis], indices.shape(), &x.shape()[axis + 1..]].concat();
        if let Some(results) = eval_new(self, args, &[(x.dtype(), &shape)])? {
            return Ok(results);
        }
        // Strings, and elements of less than a byte.
        let n = x.shape()[axis];
        let rows = indices.to_i64_vec().into_iter().map(|i| index_of(i, n)).collect::<Result<Vec<_>, _>>();
        let rows = rows.map_err(|e| e.numbered("C1"))?;
        let outer: usize = x.shape()[..axis].iter().product();
        let inner: usize = x.shape()[axis + 1..].iter().product();
        let mut y = Canvas::zeroed(x.dtype(), &shape)?;
        for o in 0..outer {
            rows.iter().for_each(|row| y.push(x, (o * n + row) * inner, inner));
        }
        Ok(vec![y.finish()?.into()])
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (x, indices) = (operands.tensor(0)?, operands.tensor(1)?);
        let axis = axis_of(self.axis, x.rank())?;
        let n = x.shape()[axis];
        let mut rows = Vec::with_capacity(indices.len());
        let listed = for_indices(indices, |i| index_of(i, n).map(|row| rows.push(row)));
        listed.map_err(|e| e.numbered("C1"))?;
        let outer: usize = x.shape()[..axis].iter().product();
        let inner: usize = x.shape()[axis + 1..].iter().product();
        let starts = (0..outer).flat_map(|o| rows.iter().map(move |row| Ok((o * n + row) * inner)));
        copy_runs(x, &mut results[0], starts, inner)
    }
}

op! {
    /// For each element of `indices`, the element of `x` at the same place but for `axis`, where the index says it.
    ///
    /// - (C1) The ranks are equal and not 0; but for `axis`, no extent of `indices` is larger than that of `x`.
    /// - (C2) Indices are `i32` or `i64` and lie in `-n..n`.
    "tensor.gather_elements" = GatherElements(x, indices) {
        /// The axis; negative from the end.
        axis: i64 = 0,
    }
}

/// Calls `f` with the positions in a tensor of shape `shape` that the elements of `indices` name: those of a row of
/// `indices` at a time, in row-major order.
///
/// # Errors
/// The indices do not fit.
pub(super) fn for_element_positions(
    shape: &[usize],
    indices: TensorRef,
    axis: usize,
    mut f: impl FnMut(&[usize]),
) -> Result<(), OpError> {
    let at = indices.shape();
    let fits = at.len() == shape.len() && (0..at.len()).all(|d| d == axis || at[d] <= shape[d]);
    ensure!(fits, "C1", "indices of shape {at:?} do not fit {shape:?}");
    check_indices(indices.dtype())?;
    match indices.dtype() {
        DType::I64 => element_rows(shape, (indices.as_slice::<i64>()?, at), axis, &mut f),
        _ => element_rows(shape, (indices.as_slice::<i32>()?, at), axis, &mut f),
    }
}

/// The rows of [`for_element_positions`]: along the last dim the place is a regular one, but for the axis.
fn element_rows<I: Copy + Into<i64>>(
    shape: &[usize],
    (indices, at): (&[I], &[usize]),
    axis: usize,
    f: &mut impl FnMut(&[usize]),
) -> Result<(), OpError> {
    let (n, strides) = (shape[axis] as i64, strides_of(shape));
    let Some((&columns, outer)) = at.split_last().filter(|_| !at.contains(&0)) else { return Ok(()) };
    let (step, stride) = (usize::from(axis + 1 != shape.len()), strides[axis]);
    let mut rows = indices.chunks_exact(columns);
    let (mut positions, mut wrong) = (vec![0; columns], None);
    for_each_index(outer, |index| {
        let row = rows.next().unwrap_or_default();
        let outside = |&&i: &&I| !(-n..n).contains(&i.into());
        wrong = wrong.or_else(|| row.iter().find(outside).copied());
        if wrong.is_some() {
            return;
        }
        let moves = index.iter().zip(&strides).enumerate().filter(|(d, _)| *d != axis);
        let base: usize = moves.map(|(_, (i, stride))| i * stride).sum();
        for (k, (position, &i)) in positions.iter_mut().zip(row).enumerate() {
            let i: i64 = i.into();
            *position = base + k * step + (if i < 0 { i + n } else { i }) as usize * stride;
        }
        f(&positions);
    });
    wrong.map_or(Ok(()), |i| index_of(i.into(), shape[axis]).map(|_| ()))
}

impl Semantics for GatherElements {
    const FACTS: Facts<GatherElements> = Facts::host("there is no kernel that gathers single elements").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, indices) = (cx.tensor(0)?, cx.tensor(1)?);
        check_indices(indices.dtype)?;
        if let Some(rank) = x.rank() {
            axis_of(self.axis, rank)?;
            ensure!(indices.rank().is_none_or(|r| r == rank), "C1", "`x` is {x}, `indices` are {indices}");
        }
        Ok(vec![TensorType::of(x.dtype, indices.shape.clone()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, indices) = (args.tensor(0)?, args.tensor(1)?);
        let axis = axis_of(self.axis, x.rank())?;
        if let Some(results) = eval_new(self, args, &[(x.dtype(), indices.shape())])? {
            return Ok(results);
        }
        // Strings, and elements of less than a byte.
        let mut y = Canvas::zeroed(x.dtype(), indices.shape())?;
        for_element_positions(x.shape(), borrowed(indices)?, axis, |row| row.iter().for_each(|&at| y.push(x, at, 1)))?;
        Ok(vec![y.finish()?.into()])
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (x, indices) = (operands.tensor(0)?, operands.tensor(1)?);
        let axis = axis_of(self.axis, x.rank())?;
        by_width!(x.dtype(), T => {
            let (from, to, mut done) = (x.as_bits::<T>()?, results[0].as_mut_bits::<T>()?, 0);
            for_element_positions(x.shape(), indices, axis, |row| {
                to[done..].iter_mut().zip(row).for_each(|(to, &at)| *to = from[at]);
                done += row.len();
            })?;
            Ok(true)
        }, else Ok(false))
    }
}

op! {
    /// The last dim of `indices` holds places in the dims of `x` after the `batch_dims` that both share; the result
    /// has a block of the dims that are left for each.
    ///
    /// - (C1) The shared dims are equal, and places have at least one index and no more than `x` has dims.
    /// - (C2) Indices are `i32` or `i64` and lie in `-n..n`.
    "tensor.gather_nd" = GatherNd(x, indices) {
        /// How many leading dims are shared.
        batch_dims: i64 = 0,
    }
}

/// Indices as a list that can be borrowed.
///
/// # Errors
/// They are strings.
pub(super) fn borrowed(indices: &Tensor) -> Result<TensorRef<'_>, OpError> {
    check_indices(indices.dtype())?;
    indices.view().ok_or(OpError::Operand { slot: 1 })
}

/// Where blocks lie: the first element of each, and the number of elements of one.
pub(super) struct GatherBlocks {
    pub starts: Vec<usize>,
    pub len: usize,
}

/// The blocks of a tensor of shape `shape` that `indices` name.
pub(super) fn blocks(shape: &[usize], indices: TensorRef, batch: usize) -> Result<GatherBlocks, OpError> {
    let at = indices.shape();
    let depth = *at.last().unwrap_or(&0);
    let fits = batch < at.len().max(1) && depth >= 1 && batch.checked_add(depth).is_some_and(|d| d <= shape.len());
    ensure!(fits && at[..batch] == shape[..batch], "C1", "indices of shape {at:?} do not fit {shape:?}");
    check_indices(indices.dtype())?;
    let strides = strides_of(shape);
    let len = shape[batch + depth..].iter().product();
    let batches: usize = shape[..batch].iter().product();
    let rows = indices.to_i64_vec();
    let per_batch = (rows.len() / depth).checked_div(batches).unwrap_or(0);
    let inner: usize = shape[batch..].iter().product();
    let start = |(r, row): (usize, &[i64])| {
        let base = r / per_batch.max(1) * inner;
        row.iter()
            .enumerate()
            .try_fold(base, |sum, (d, &i)| Ok(sum + index_of(i, shape[batch + d])? * strides[batch + d]))
    };
    let starts = rows.chunks_exact(depth).enumerate().map(start).collect::<Result<_, OpError>>()?;
    Ok(GatherBlocks { starts, len })
}

impl Semantics for GatherNd {
    const FACTS: Facts<GatherNd> = Facts::host("there is no kernel that gathers single elements").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, indices) = (cx.tensor(0)?, cx.tensor(1)?);
        check_indices(indices.dtype)?;
        let unranked = Ok(vec![TensorType::unranked(x.dtype).into()]);
        let (Some(shape), Some(at)) = (&x.shape, &indices.shape) else { return unranked };
        let Some((depth, lead)) = at.split_last() else {
            return Err(OpError::Constraint { constraint: "C1", reason: "`indices` is a scalar".to_owned() });
        };
        let Some(depth) = depth.known() else { return unranked };
        let behind = usize::try_from(self.batch_dims).ok().and_then(|b| b.checked_add(depth));
        let rest = behind.and_then(|from| shape.get(from..));
        ensure!(rest.is_some() && depth >= 1, "C1", "indices {indices} do not fit {x}");
        Ok(vec![TensorType::new(x.dtype, [lead, rest.unwrap_or_default()].concat()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, indices) = (args.tensor(0)?, args.tensor(1)?);
        let batch = usize::try_from(self.batch_dims).unwrap_or(usize::MAX);
        let found = blocks(x.shape(), borrowed(indices)?, batch)?;
        let lead = &indices.shape()[..indices.rank() - 1];
        let depth = indices.shape()[indices.rank() - 1];
        let shape = [lead, &x.shape()[batch + depth..]].concat();
        if let Some(results) = eval_new(self, args, &[(x.dtype(), &shape)])? {
            return Ok(results);
        }
        // Strings, and elements of less than a byte.
        let mut y = Canvas::zeroed(x.dtype(), &shape)?;
        found.starts.into_iter().for_each(|start| y.push(x, start, found.len));
        Ok(vec![y.finish()?.into()])
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (x, indices) = (operands.tensor(0)?, operands.tensor(1)?);
        let batch = usize::try_from(self.batch_dims).unwrap_or(usize::MAX);
        let found = blocks(x.shape(), indices, batch)?;
        copy_runs(x, &mut results[0], found.starts.into_iter().map(Ok), found.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(shape: &[usize], values: &[i64]) -> Tensor {
        Tensor::from_slice(shape, values).unwrap()
    }

    fn eval(op: impl Into<crate::Op>, x: Tensor, indices: Tensor) -> Result<Tensor, OpError> {
        let found = op.into().eval(&Args::plain(&[Some(x.into()), Some(indices.into())]))?;
        Ok(found[0].as_tensor().unwrap().clone())
    }

    #[test]
    fn indices_out_of_range_are_refused() {
        let gather = |i: i64| eval(Gather { axis: 0 }, ints(&[2], &[7, 8]), ints(&[1], &[i]));
        assert_eq!(gather(-2).unwrap().to_i64_vec(), [7]);
        assert!(gather(2).is_err() && gather(-3).is_err() && gather(i64::MIN).is_err());
        assert!(eval(GatherElements { axis: 0 }, ints(&[2], &[7, 8]), ints(&[1], &[2])).is_err());
        assert!(eval(GatherNd { batch_dims: 0 }, ints(&[2], &[7, 8]), ints(&[1], &[-3])).is_err());
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let x = || ints(&[2, 2], &[1, 2, 3, 4]);
        assert!(eval(GatherElements { axis: 0 }, x(), ints(&[2], &[0, 0])).is_err());
        assert!(eval(GatherElements { axis: 0 }, x(), ints(&[1, 3], &[0, 0, 0])).is_err());
        assert!(eval(GatherNd { batch_dims: 0 }, x(), ints(&[1, 3], &[0, 0, 0])).is_err());
        assert!(eval(GatherNd { batch_dims: -1 }, x(), ints(&[1, 1], &[0])).is_err());
        assert!(eval(GatherNd { batch_dims: 2 }, x(), ints(&[2, 2], &[0, 0, 0, 0])).is_err());
        assert!(eval(GatherNd { batch_dims: 0 }, x(), ints(&[], &[0])).is_err());
        assert!(eval(GatherNd { batch_dims: i64::MAX }, x(), ints(&[1], &[0])).is_err());
    }

    #[test]
    fn batches_are_gathered_each_from_its_own() {
        let x = ints(&[2, 2], &[1, 2, 3, 4]);
        let y = eval(GatherNd { batch_dims: 1 }, x.clone(), ints(&[2, 1], &[1, 0])).unwrap();
        assert_eq!(y.to_i64_vec(), [2, 3]);
        let none = eval(GatherNd { batch_dims: 0 }, x, ints(&[0, 1], &[])).unwrap();
        assert_eq!(none.shape(), [0, 2]);
    }
}
