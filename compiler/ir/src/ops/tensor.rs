//! `tensor`: constants, shapes and data movement.

mod constant;
mod join;
mod reshape;
mod select;

pub use constant::*;
pub use join::*;
pub use reshape::*;
pub use select::*;

use optc_tensor::{Tensor, TensorError, element_count};

/// A tensor of `shape` whose element `i` is the element `from(i)` of `x`.
///
/// # Errors
/// The shape is too large.
pub(crate) fn gather_elements(
    x: &Tensor,
    shape: &[usize],
    from: impl Iterator<Item = Option<usize>>,
) -> Result<Tensor, TensorError> {
    let n = element_count(shape).ok_or_else(|| TensorError::TooLarge(shape.to_vec()))?;
    if let Ok(strings) = x.strings() {
        let picked = from.map(|i| i.map(|i| strings[i].clone()).unwrap_or_default()).collect();
        return Tensor::from_strings(shape, picked);
    }
    let width = x.dtype().bits() / 8;
    if width == 0 {
        let all = x.to_i64_vec();
        let picked: Vec<i64> = from.map(|i| i.map_or(0, |i| all[i])).collect();
        return Tensor::from_i64(x.dtype(), shape, &picked);
    }
    let mut y = Tensor::zeros(x.dtype(), shape)?;
    let (src, dst) = (x.bytes(), y.bytes_mut());
    for (k, i) in from.take(n).enumerate() {
        if let Some(i) = i {
            dst[k * width..(k + 1) * width].copy_from_slice(&src[i * width..(i + 1) * width]);
        }
    }
    Ok(y)
}
