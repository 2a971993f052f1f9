//! What values must be to go into a plan, and how many items of a batch they hold.

use optc_tensor::Tensor;
use optc_types::{TensorType, Val};

use crate::RunError;
use crate::plan::{Flow, PlainTensor, Slot};

/// Whether a tensor has the dtype and shape of a place.
pub(crate) fn fits(t: &Tensor, to: &PlainTensor) -> bool {
    t.dtype() == to.dtype && t.shape() == to.shape
}

/// The type of a place, in words.
pub(crate) fn describe(to: &PlainTensor) -> String {
    TensorType::fixed(to.dtype, &to.shape).to_string()
}

/// The shape of a tensor of so many items.
pub(crate) fn with_items(item: &PlainTensor, items: usize) -> Vec<usize> {
    let mut shape = item.shape.clone();
    if let Some(first) = shape.first_mut() {
        *first = items;
    }
    shape
}

/// Checks the inputs; gives the number of items of the batch, one where there is none.
pub(crate) fn check_inputs(flow: &Flow, inputs: &[Val]) -> Result<usize, RunError> {
    let ports = &flow.inputs;
    if ports.len() != inputs.len() {
        return Err(RunError::InputCount { expected: ports.len(), found: inputs.len() });
    }
    let mut items = None;
    for (port, input) in ports.iter().zip(inputs) {
        let (found, tensor) = (input.ty(), input.as_tensor());
        // A tensor in a buffer must have exactly the bytes that the plan was made for, or so many for each item.
        let same = match &port.slot {
            Slot::Buffer(stored) if flow.is_batched(port) => tensor.is_some_and(|t| {
                let all = *items.get_or_insert(t.shape().first().copied().unwrap_or(0));
                let item = t.shape().first() == Some(&all) && t.shape().get(1..) == stored.shape.get(1..);
                item && t.dtype() == stored.dtype
            }),
            Slot::Buffer(stored) => tensor.is_some_and(|t| fits(t, stored)),
            Slot::Value(_) | Slot::Constant(_) => port.ty.admits(&found),
        };
        if !same {
            return Err(RunError::InputType { name: port.name.clone(), found, expected: port.ty.plain() });
        }
    }
    Ok(items.unwrap_or(1))
}
