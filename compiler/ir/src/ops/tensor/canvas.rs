//! What all data movement is made of: a result that is filled with runs of elements of other tensors, whatever their
//! dtype.

use optc_tensor::{Buffer, DType, Tensor, TensorError, TensorMut, TensorRef};

use crate::OpError;
use crate::ops::native::by_width;
use crate::ops::number::checked_len;

/// A tensor in the making.
pub(crate) struct Canvas {
    dtype: DType,
    shape: Vec<usize>,
    cells: Cells,
    /// Where [`Canvas::push`] continues.
    next: usize,
}

enum Cells {
    Bytes {
        buffer: Buffer,
        width: usize,
    },
    /// Elements of less than a byte, the first in the low bits.
    Bits {
        buffer: Buffer,
        bits: usize,
    },
    Strings(Vec<String>),
}

impl Canvas {
    /// A canvas of zeros (empty strings).
    ///
    /// # Errors
    /// The shape is too large, or there is no memory for it.
    pub fn zeroed(dtype: DType, shape: &[usize]) -> Result<Canvas, TensorError> {
        let n = checked_len(dtype, shape)?;
        let no_memory = TensorError::no_memory(dtype, shape);
        let buffer = || Buffer::zeroed(dtype.bytes_for(n).unwrap_or(0)).map_err(no_memory);
        let cells = match dtype.bits() {
            0 => Cells::Strings(vec![String::new(); n]),
            bits @ 1..8 => Cells::Bits { buffer: buffer()?, bits },
            bits => Cells::Bytes { buffer: buffer()?, width: bits / 8 },
        };
        Ok(Canvas { dtype, shape: shape.to_vec(), cells, next: 0 })
    }

    /// A canvas of `x`'s elements.
    ///
    /// # Errors
    /// `x` is too large.
    pub fn copy_of(x: &Tensor) -> Result<Canvas, TensorError> {
        let mut canvas = Canvas::zeroed(x.dtype(), x.shape())?;
        canvas.put(0, x, 0, x.len());
        Ok(canvas)
    }

    /// A canvas whose elements are all the first of `value`.
    ///
    /// # Errors
    /// The shape is too large.
    pub fn filled(value: &Tensor, shape: &[usize]) -> Result<Canvas, TensorError> {
        let mut canvas = Canvas::zeroed(value.dtype(), shape)?;
        let n = checked_len(value.dtype(), shape)?;
        let zero = value.strings().map_or_else(|_| value.bytes().iter().all(|&b| b == 0), |s| s[0].is_empty());
        if !zero {
            (0..n).for_each(|at| canvas.put(at, value, 0, 1));
        }
        Ok(canvas)
    }

    /// Copies the elements `start..start + n` of `x`, which has the canvas' dtype, to `at..at + n`.
    pub fn put(&mut self, at: usize, x: &Tensor, start: usize, n: usize) {
        match &mut self.cells {
            Cells::Bytes { buffer, width } => {
                let (w, src, dst) = (*width, x.bytes(), buffer.own_mut());
                match (n, w) {
                    // One element is the common case; copies of a constant length are moves.
                    (1, 4) => dst[at * 4..][..4].copy_from_slice(&src[start * 4..][..4]),
                    (1, 8) => dst[at * 8..][..8].copy_from_slice(&src[start * 8..][..8]),
                    (1, 1) => dst[at] = src[start],
                    _ => dst[at * w..(at + n) * w].copy_from_slice(&src[start * w..(start + n) * w]),
                }
            }
            Cells::Bits { buffer, bits } => {
                let (bits, per, src, dst) = (*bits, 8 / *bits, x.bytes(), buffer.own_mut());
                let mask = (1u8 << bits) - 1;
                for k in 0..n {
                    let (from, to) = (start + k, at + k);
                    let value = src[from / per] >> (bits * (from % per)) & mask;
                    let shift = bits * (to % per);
                    dst[to / per] = dst[to / per] & !(mask << shift) | value << shift;
                }
            }
            Cells::Strings(cells) => {
                if let Ok(strings) = x.strings() {
                    cells[at..at + n].clone_from_slice(&strings[start..start + n]);
                }
            }
        }
    }

    /// Copies the elements `start..start + n` of `x` after those that were pushed before.
    pub fn push(&mut self, x: &Tensor, start: usize, n: usize) {
        self.put(self.next, x, start, n);
        self.next += n;
    }

    /// The finished tensor.
    ///
    /// # Errors
    /// Never for a canvas that was made: its buffer has the size of its shape.
    pub fn finish(self) -> Result<Tensor, TensorError> {
        match self.cells {
            Cells::Bytes { buffer, .. } | Cells::Bits { buffer, .. } => {
                Tensor::from_buffer(self.dtype, &self.shape, buffer)
            }
            Cells::Strings(strings) => Tensor::from_strings(&self.shape, strings),
        }
    }
}

/// A tensor of `shape` whose element `i` is the element `from(i)` of `x`, or zero for `None`.
///
/// # Errors
/// The shape is too large.
pub(crate) fn gather_elements(
    x: &Tensor,
    shape: &[usize],
    from: impl Iterator<Item = Option<usize>>,
) -> Result<Tensor, TensorError> {
    let n = checked_len(x.dtype(), shape)?;
    let mut canvas = Canvas::zeroed(x.dtype(), shape)?;
    for (at, from) in from.take(n).enumerate() {
        if let Some(from) = from {
            canvas.put(at, x, from, 1);
        }
    }
    canvas.finish()
}

/// The element of `x` that each element of a view of shape `shape` is: the view's element `i` is the element
/// `offset + Σ i[d] · strides[d]` of `x`. Copies the view.
///
/// # Errors
/// The shape is too large.
pub(crate) fn copy_view(x: &Tensor, offset: usize, shape: &[usize], strides: &[isize]) -> Result<Tensor, OpError> {
    checked_len(x.dtype(), shape)?;
    if let (Some(from), true) = (x.view(), x.dtype().bits() >= 8) {
        let mut tensor = Tensor::zeros(x.dtype(), shape)?;
        if let Some(mut to) = tensor.view_mut()? {
            copy_view_into(from, &mut to, offset, shape, strides)?;
        }
        return Ok(tensor);
    }
    // Strings, and elements of less than a byte.
    let mut canvas = Canvas::zeroed(x.dtype(), shape)?;
    if shape.contains(&0) {
        return Ok(canvas.finish()?);
    }
    // The trailing dims that lie in `x` as they do in the result are copied as one run.
    let (mut run, mut outer) = (1usize, shape.len());
    while outer > 0 && (strides[outer - 1] == run as isize || shape[outer - 1] == 1) {
        outer -= 1;
        run *= shape[outer];
    }
    let (inner, step, rest) = match outer {
        0 => (1, 0, 0),
        _ => (shape[outer - 1], strides[outer - 1], outer - 1),
    };
    optc_tensor::for_each_index(&shape[..rest], |index| {
        let moved: isize = index.iter().zip(strides).map(|(&i, &s)| i as isize * s).sum();
        for i in 0..inner {
            canvas.push(x, (offset as isize + moved + i as isize * step) as usize, run);
        }
    });
    Ok(canvas.finish()?)
}

/// Copies runs of `len` elements of `x`, which begin at `starts`, one after the other into `y`; whether the dtype fills
/// bytes.
///
/// # Errors
/// A start is one: those before it were copied.
pub(crate) fn copy_runs(
    x: TensorRef,
    y: &mut TensorMut,
    starts: impl Iterator<Item = Result<usize, OpError>>,
    len: usize,
) -> Result<bool, OpError> {
    by_width!(x.dtype(), T => {
        let (x, y) = (x.as_bits::<T>()?, y.as_mut_bits::<T>()?);
        if len == 1 {
            for (y, start) in y.iter_mut().zip(starts) {
                *y = x[start?];
            }
        } else if len > 0 {
            for (y, start) in y.chunks_exact_mut(len).zip(starts) {
                y.copy_from_slice(&x[start?..][..len]);
            }
        }
        Ok(true)
    }, else Ok(false))
}

/// Copies a view of `x`, as [`copy_view`], into `y`, which has as many elements; whether the dtype fills bytes.
///
/// # Errors
/// The dtypes differ in width.
pub(crate) fn copy_view_into(
    x: TensorRef,
    y: &mut TensorMut,
    offset: usize,
    shape: &[usize],
    strides: &[isize],
) -> Result<bool, OpError> {
    let dims = merged(shape, strides);
    by_width!(x.dtype(), T => {
        let (x, y) = (x.as_bits::<T>()?, y.as_mut_bits::<T>()?);
        if !shape.contains(&0) {
            copy_dims(x, y, offset, &dims);
        }
        Ok(true)
    }, else Ok(false))
}

/// Extents and strides of a view, where dims that are gone through as if they were one are one.
fn merged(shape: &[usize], strides: &[isize]) -> Vec<(usize, isize)> {
    let mut dims: Vec<(usize, isize)> = Vec::new();
    for (&n, &stride) in shape.iter().zip(strides).rev().filter(|(n, _)| **n != 1) {
        match dims.last_mut() {
            Some((len, step)) if stride == *step * *len as isize => *len *= n,
            _ => dims.push((n, stride)),
        }
    }
    dims.reverse();
    dims
}

/// The elements of a view, whose first lies at `at` of `x`, in row-major order.
fn copy_dims<T: Copy>(x: &[T], y: &mut [T], at: usize, dims: &[(usize, isize)]) {
    match *dims {
        [] => y[0] = x[at],
        [(n, 1)] => y.copy_from_slice(&x[at..][..n]),
        [(_, 0)] => y.fill(x[at]),
        [(n, -1)] => y.iter_mut().zip(x[at + 1 - n..=at].iter().rev()).for_each(|(y, x)| *y = *x),
        [(_, step)] if step > 0 => y.iter_mut().zip(x[at..].iter().step_by(step as usize)).for_each(|(y, x)| *y = *x),
        [(_, step)] => {
            let from = x[..=at].iter().rev().step_by(step.unsigned_abs());
            y.iter_mut().zip(from).for_each(|(y, x)| *y = *x);
        }
        [(n, step), ref rest @ ..] => {
            let part = y.len() / n;
            for (i, y) in y.chunks_exact_mut(part).enumerate() {
                copy_dims(x, y, (at as isize + i as isize * step) as usize, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bit_elements_and_strings_move_like_all_others() {
        let x = Tensor::from_i64(DType::I4, &[5], &[-8, 7, -1, 0, 3]).unwrap();
        let y = copy_view(&x, 4, &[5], &[-1]).unwrap();
        assert_eq!(y.to_i64_vec(), [3, 0, -1, 7, -8]);
        let s = Tensor::from_strings(&[2], vec!["a".into(), "b".into()]).unwrap();
        let y = copy_view(&s, 0, &[2, 2], &[0, 1]).unwrap();
        assert_eq!(y.strings().unwrap(), ["a", "b", "a", "b"]);
    }

    #[test]
    fn views_of_nothing_and_of_one_element() {
        let x = Tensor::from_slice(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!(copy_view(&x, 0, &[0, 3], &[3, 1]).unwrap().shape(), [0, 3]);
        assert_eq!(copy_view(&x, 5, &[], &[]).unwrap().to_f64_vec(), [6.0]);
        assert_eq!(copy_view(&x, 0, &[3, 2], &[1, 3]).unwrap().to_f64_vec(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn hostile_shapes_are_refused() {
        assert!(Canvas::zeroed(DType::F32, &[1 << 40]).is_err());
        assert!(Canvas::zeroed(DType::Str, &[1 << 40]).is_err());
        assert!(Canvas::zeroed(DType::F32, &[usize::MAX, 2]).is_err());
    }
}
