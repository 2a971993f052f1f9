//! Steps that check integers before kernels address by them.

use std::ops::RangeInclusive;

use optc_tensor::DType;
use optc_types::OpError;

use crate::RunError;
use crate::plan::PlainTensor;

/// Checks that indices, which lie at an address, are in `-extent..extent`.
pub(super) fn check_indices(at: *const u8, indices: &PlainTensor, extent: usize, loc: &str) -> Result<(), RunError> {
    let n = extent as i64;
    let Some(index) = outside(at, indices, -n..=n - 1) else { return Ok(()) };
    let reason = format!("index {index} is outside of {}..{n}", -n);
    Err(refused("tensor.gather", "C1", reason, loc))
}

/// Checks that lengths of sequences of `op`, which lie at an address, are in `0..=most`.
pub(super) fn check_lengths(
    at: *const u8,
    lengths: &PlainTensor,
    most: usize,
    op: &str,
    loc: &str,
) -> Result<(), RunError> {
    let Some(length) = outside(at, lengths, 0..=most as i64) else { return Ok(()) };
    Err(refused(op, "C2", format!("found {length}, expected 0 to {most}"), loc))
}

/// The first of some `i32` or `i64` that does not lie in a range.
fn outside(from: *const u8, checked: &PlainTensor, range: RangeInclusive<i64>) -> Option<i64> {
    let wide = checked.dtype == DType::I64;
    let value = |i: usize| {
        // SAFETY: the buffer holds a tensor of this dtype and shape (checked when the plan was made), for each item, so
        // element `i` can be read.
        unsafe {
            match wide {
                true => from.cast::<i64>().add(i).read_unaligned(),
                false => from.cast::<i32>().add(i).read_unaligned().into(),
            }
        }
    };
    (0..checked.shape.iter().product::<usize>()).map(value).find(|value| !range.contains(value))
}

/// The error of an op whose operand breaks a constraint.
fn refused(op: &str, constraint: &'static str, reason: String, loc: &str) -> RunError {
    let error = Box::new(OpError::Constraint { constraint, reason });
    RunError::Op { op: op.to_owned(), loc: loc.to_owned(), error }
}
