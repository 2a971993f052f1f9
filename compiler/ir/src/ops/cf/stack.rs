//! Cutting a tensor into elements along an axis, and stacking elements up.

use optc_tensor::{Tensor, strides_of};

use crate::ops::tensor::{Canvas, copy_view};
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
    let mut shape = first.shape().to_vec();
    let run: usize = shape[axis..].iter().product();
    shape.insert(axis, items.len());
    let mut y = Canvas::zeroed(first.dtype(), &shape)?;
    for outer in 0..shape[..axis].iter().product() {
        items.iter().for_each(|item| y.push(item, outer * run, run));
    }
    Ok(y.finish()?)
}

/// The element `at` of `x` along `axis`: a tensor without that axis.
pub(super) fn element(x: &Tensor, axis: usize, at: usize) -> Result<Tensor, OpError> {
    let mut shape = x.shape().to_vec();
    let mut strides: Vec<isize> = strides_of(x.shape()).iter().map(|&s| s as isize).collect();
    shape.remove(axis);
    let start = at * strides.remove(axis) as usize;
    copy_view(x, start, &shape, &strides)
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
