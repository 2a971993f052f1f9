//! Where the elements of a value lie: a buffer with one stride per logical dim.

use optc_ir::{Encoding, TensorType};
use optc_tensor::{DType, strides_of};
use optc_types::steps::BufRef;

/// A tensor in a buffer. Strides are in elements and follow the logical shape, whatever the encoding: a transposed,
/// sliced or broadcast tensor is a view of the same bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorView {
    /// The element with all indices zero.
    pub at: BufRef,
    /// The element type.
    pub dtype: DType,
    /// The extents.
    pub shape: Vec<usize>,
    /// Elements from one index to the next, for each dim.
    pub strides: Vec<i64>,
}

/// Row-major strides of a tensor of this shape in an encoding.
pub fn strides_in(shape: &[usize], encoding: Encoding) -> Vec<i64> {
    let plain = |shape: &[usize]| strides_of(shape).into_iter().map(|s| s as i64).collect::<Vec<_>>();
    match encoding {
        Encoding::Nhwc if shape.len() >= 3 => {
            let mut order = vec![shape[0]];
            order.extend(&shape[2..]);
            order.push(shape[1]);
            let mut strides = plain(&order);
            let channel = strides.pop().unwrap_or(1);
            strides.insert(1, channel);
            strides
        }
        Encoding::Plain | Encoding::Nhwc | Encoding::Nchw4c | Encoding::Bcsr { .. } => plain(shape),
    }
}

impl TensorView {
    /// A dense tensor of a static type; `None` when an extent is unknown or the encoding has no strides.
    pub fn dense(at: BufRef, ty: &TensorType) -> Option<TensorView> {
        let shape = ty.static_shape()?;
        match ty.encoding {
            Encoding::Plain | Encoding::Nhwc => {}
            Encoding::Nchw4c | Encoding::Bcsr { .. } => return None,
        }
        let strides = strides_in(&shape, ty.encoding);
        Some(TensorView { at, dtype: ty.dtype, shape, strides })
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// Bytes of one element; 0 for dtypes that do not fill whole bytes.
    pub fn width(&self) -> usize {
        self.dtype.bits() / 8
    }

    /// Whether the elements lie as a dense tensor of `encoding` does. Strides of dims of extent 1 do not matter.
    pub fn is(&self, encoding: Encoding) -> bool {
        let wanted = strides_in(&self.shape, encoding);
        self.is_empty() || (0..self.shape.len()).all(|d| self.shape[d] == 1 || self.strides[d] == wanted[d])
    }

    /// Bytes from the first element to the end of the last one (strides that are not negative).
    pub fn span_bytes(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        let last: i64 = self.strides.iter().zip(&self.shape).map(|(&s, &n)| s * (n as i64 - 1)).sum();
        (last as usize + 1) * self.width()
    }

    /// The strides in bytes.
    pub fn byte_strides(&self) -> Vec<i64> {
        self.strides.iter().map(|s| s * self.width() as i64).collect()
    }

    /// The view broadcast to `shape` by the multidirectional rule: strides of 0 where an extent is repeated. `None`
    /// when it does not broadcast.
    pub fn broadcast(&self, shape: &[usize]) -> Option<TensorView> {
        let lead = shape.len().checked_sub(self.shape.len())?;
        let mut strides = vec![0; lead];
        for (d, (&n, &stride)) in self.shape.iter().zip(&self.strides).enumerate() {
            match n {
                _ if n == shape[lead + d] => strides.push(stride),
                1 => strides.push(0),
                _ => return None,
            }
        }
        Some(TensorView { shape: shape.to_vec(), strides, ..self.clone() })
    }

    /// The strides of the same elements under another shape; `None` when they would not be regular, or are not as many.
    pub fn reshaped(&self, shape: &[usize]) -> Option<TensorView> {
        if self.is_empty() != shape.contains(&0) {
            return None;
        }
        if self.is_empty() {
            let strides = strides_in(shape, Encoding::Plain);
            return Some(TensorView { shape: shape.to_vec(), strides, ..self.clone() });
        }
        // Runs of old dims that are contiguous with each other; each new dim must divide into one run.
        let mut runs: Vec<(usize, i64)> = Vec::new();
        for (&n, &stride) in self.shape.iter().zip(&self.strides).filter(|(n, _)| **n != 1) {
            match runs.last_mut() {
                Some((len, last)) if *last == stride * n as i64 => (*len, *last) = (*len * n, stride),
                _ => runs.push((n, stride)),
            }
        }
        let (mut strides, mut runs) = (Vec::with_capacity(shape.len()), runs.into_iter());
        let mut left = (1usize, 1i64);
        for &n in shape {
            if n == 1 {
                strides.push(1);
                continue;
            }
            if left.0 == 1 {
                left = runs.next()?;
            }
            if !left.0.is_multiple_of(n) {
                return None;
            }
            left.0 /= n;
            strides.push(left.1 * left.0 as i64);
        }
        (left.0 == 1 && runs.next().is_none()).then(|| TensorView { shape: shape.to_vec(), strides, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(shape: &[usize], strides: &[i64]) -> TensorView {
        let at = BufRef { buf: 0, offset: 0 };
        TensorView { at, dtype: DType::F32, shape: shape.to_vec(), strides: strides.to_vec() }
    }

    #[test]
    fn encodings_have_strides() {
        assert_eq!(strides_in(&[2, 3, 4, 5], Encoding::Plain), [60, 20, 5, 1]);
        assert_eq!(strides_in(&[2, 3, 4, 5], Encoding::Nhwc), [60, 1, 15, 3]);
        assert!(view(&[1, 3, 4, 5], &[7, 1, 15, 3]).is(Encoding::Nhwc));
        assert!(view(&[2, 1, 4, 5], &[20, 1, 5, 1]).is(Encoding::Plain));
    }

    #[test]
    fn views_reshape_where_strides_stay_regular() {
        assert_eq!(view(&[2, 3, 4], &[12, 4, 1]).reshaped(&[6, 4]).unwrap().strides, [4, 1]);
        assert_eq!(view(&[2, 12], &[12, 1]).reshaped(&[2, 3, 1, 4]).unwrap().strides, [12, 4, 1, 1]);
        let transposed = view(&[3, 2], &[1, 3]);
        assert!(transposed.reshaped(&[6]).is_none());
        assert_eq!(transposed.reshaped(&[3, 1, 2]).unwrap().strides, [1, 1, 3]);
        assert!(view(&[2, 3], &[4, 1]).reshaped(&[6]).is_none());
        assert!(view(&[4, 6], &[6, 1]).reshaped(&[6, 4]).is_some());
        assert_eq!(view(&[1, 1], &[1, 1]).reshaped(&[]).unwrap().strides, [0i64; 0]);
        assert!(view(&[0, 3], &[3, 1]).reshaped(&[2, 0]).is_some());
        assert!(view(&[0, 3], &[3, 1]).reshaped(&[]).is_none());
        assert!(view(&[2, 3], &[3, 1]).reshaped(&[0]).is_none());
    }

    #[test]
    fn views_broadcast_with_strides_of_zero() {
        assert_eq!(view(&[3, 1], &[1, 1]).broadcast(&[2, 3, 4]).unwrap().strides, [0, 1, 0]);
        assert!(view(&[3], &[1]).broadcast(&[4]).is_none());
        assert!(view(&[3, 4], &[4, 1]).broadcast(&[4]).is_none());
    }
}
