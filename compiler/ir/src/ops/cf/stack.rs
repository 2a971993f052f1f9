//! Cutting a tensor into elements along an axis, and stacking elements up.

use optc_tensor::{DType, Tensor, for_each_index, strides_of};

use crate::ops::tensor::gather_elements;
use crate::{Dim, OpError, TensorType, Type, Val, ensure};

/// The results of a loop that are stacked up: one list of elements each.
pub(super) struct Stacks(Vec<Vec<Tensor>>);

impl Stacks {
    /// `n` empty stacks.
    pub(super) fn new(n: usize) -> Stacks {
        Stacks(vec![vec![]; n])
    }

    /// Puts one element on each stack.
    pub(super) fn push(&mut self, values: Vec<Val>) -> Result<(), OpError> {
        for (stack, value) in self.0.iter_mut().zip(values) {
            let Val::Tensor(t) = value else {
                return Err(OpError::Constraint { constraint: "C4", reason: "only tensors can be stacked".to_owned() });
            };
            if let Some(first) = stack.first() {
                let same = first.dtype() == t.dtype() && first.shape() == t.shape();
                ensure!(same, "C4", "trips give {:?} and {:?}, which do not stack", first.shape(), t.shape());
            }
            stack.push(t);
        }
        Ok(())
    }

    /// The stacked tensors, the trips of stack `i` along `axis(i)`. Where there was no trip, `types` says what would
    /// have been stacked; unknown extents are then 0.
    pub(super) fn finish(
        self,
        types: &[Type],
        axis: impl Fn(usize, usize) -> Result<(usize, bool), OpError>,
    ) -> Result<Vec<Val>, OpError> {
        let finish = |(i, mut items): (usize, Vec<Tensor>)| {
            let Some(first) = items.first() else { return Ok(empty(types.get(i))?.into()) };
            let (axis, reversed) = axis(i, first.rank() + 1)?;
            if reversed {
                items.reverse();
            }
            Ok(stack(&items, axis)?.into())
        };
        self.0.into_iter().enumerate().map(finish).collect()
    }
}

/// A tensor of the declared type with an extent of 0.
fn empty(ty: Option<&Type>) -> Result<Tensor, OpError> {
    let unknown = || OpError::Constraint { constraint: "C4", reason: "there was no trip to stack".to_owned() };
    let ty = ty.and_then(Type::as_tensor).ok_or_else(unknown)?;
    let mut shape: Vec<usize> =
        ty.shape.as_ref().map_or(vec![0], |s| s.iter().map(|d| d.known().unwrap_or(0)).collect());
    if !shape.contains(&0) {
        shape[0] = 0;
    }
    Ok(Tensor::zeros(ty.dtype, &shape)?)
}

/// Equal tensors stacked along a new axis.
pub(crate) fn stack(items: &[Tensor], axis: usize) -> Result<Tensor, OpError> {
    let Some(first) = items.first() else { return Err(OpError::Operand { slot: 0 }) };
    let mut shape = vec![items.len()];
    shape.extend_from_slice(first.shape());
    let rows = if first.dtype() == DType::Str {
        let strings = items.iter().map(|t| t.strings()).collect::<Result<Vec<_>, _>>()?;
        Tensor::from_strings(&shape, strings.concat())?
    } else if first.dtype().bits() < 8 {
        let all: Vec<i64> = items.iter().flat_map(Tensor::to_i64_vec).collect();
        Tensor::from_i64(first.dtype(), &shape, &all)?
    } else {
        let bytes: Vec<&[u8]> = items.iter().map(Tensor::bytes).collect();
        Tensor::from_bytes(first.dtype(), &shape, &bytes.concat())?
    };
    if axis == 0 {
        return Ok(rows);
    }
    let mut strides = strides_of(&shape);
    let (trips, stride) = (shape.remove(0), strides.remove(0));
    shape.insert(axis, trips);
    strides.insert(axis, stride);
    permuted(&rows, &shape, &strides, 0)
}

/// The elements at `start + Σ index · stride` of `x`.
fn permuted(x: &Tensor, shape: &[usize], strides: &[usize], start: usize) -> Result<Tensor, OpError> {
    let mut from = Vec::with_capacity(optc_tensor::element_count(shape).unwrap_or(0).min(x.len()));
    for_each_index(shape, |i| from.push(Some(start + i.iter().zip(strides).map(|(i, s)| i * s).sum::<usize>())));
    Ok(gather_elements(x, shape, from.into_iter())?)
}

/// The element `at` of `x` along `axis`: a tensor without that axis.
pub(super) fn element(x: &Tensor, axis: usize, at: usize) -> Result<Tensor, OpError> {
    let (mut shape, mut strides) = (x.shape().to_vec(), strides_of(x.shape()));
    shape.remove(axis);
    let start = at * strides.remove(axis);
    permuted(x, &shape, &strides, start)
}

/// The type of `trips` tensors of type `item` stacked along an axis that is found by the result's rank.
pub(super) fn stacked_type(
    item: &Type,
    trips: Dim,
    axis: impl Fn(usize) -> Result<usize, OpError>,
) -> Result<Type, OpError> {
    let not_tensor = || OpError::Constraint { constraint: "C4", reason: format!("{item} cannot be stacked") };
    let item = item.as_tensor().ok_or_else(not_tensor)?;
    let Some(mut shape) = item.shape.clone() else { return Ok(TensorType::unranked(item.dtype).into()) };
    shape.insert(axis(shape.len() + 1)?, trips);
    Ok(TensorType::new(item.dtype, shape).into())
}
