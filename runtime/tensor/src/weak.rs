//! Tensors by name: which bytes they are, without keeping them.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use crate::{Buffer, DType, Tensor};

/// A tensor that may be gone. Two are equal where they are clones of one tensor: the same bytes in memory as the same
/// dtype and shape. No other tensor ever equals one that is gone.
#[derive(Debug, Clone)]
pub struct WeakTensor {
    dtype: DType,
    shape: Vec<usize>,
    /// Keeps the place of the buffer from being taken by another one, but not its bytes.
    bytes: Weak<Buffer>,
}

impl WeakTensor {
    /// The tensor, if it is still there.
    pub fn upgrade(&self) -> Option<Tensor> {
        Some(Tensor::over(self.dtype, self.shape.clone(), self.bytes.upgrade()?))
    }

    /// Whether it is still there.
    pub fn is_alive(&self) -> bool {
        self.bytes.strong_count() > 0
    }
}

impl Tensor {
    /// The tensor, without keeping its bytes; none of strings. Bytes of which there is one are copied before they are
    /// changed: what is equal has not been written to.
    pub fn downgrade(&self) -> Option<WeakTensor> {
        let bytes = Arc::downgrade(self.buffer()?);
        Some(WeakTensor { dtype: self.dtype(), shape: self.shape().to_vec(), bytes })
    }

    /// Whether both are clones of one tensor, whatever their shapes: the same bytes in memory.
    pub fn shares_bytes(&self, other: &Tensor) -> bool {
        matches!((self.buffer(), other.buffer()), (Some(a), Some(b)) if Arc::ptr_eq(a, b))
    }
}

impl PartialEq for WeakTensor {
    fn eq(&self, other: &WeakTensor) -> bool {
        self.bytes.ptr_eq(&other.bytes) && self.dtype == other.dtype && self.shape == other.shape
    }
}

impl Eq for WeakTensor {}

impl Hash for WeakTensor {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.as_ptr().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_are_clones_that_nobody_wrote_to() {
        let tensor = Tensor::from_slice(&[3], &[1.0f32, 2.0, 3.0]).unwrap();
        let weak = tensor.downgrade().unwrap();
        assert_eq!(weak, tensor.clone().downgrade().unwrap());
        assert_ne!(weak, Tensor::from_slice(&[3], &[1.0f32, 2.0, 3.0]).unwrap().downgrade().unwrap());
        let mut written = tensor;
        written.as_mut_slice::<f32>().unwrap()[0] = 5.0;
        assert_ne!(weak, written.downgrade().unwrap());
        assert!(!weak.is_alive() && weak.upgrade().is_none());
    }

    #[test]
    fn one_that_is_gone_is_no_other() {
        let tensor = |v: u8| Tensor::from_bytes(DType::U8, &[1000], &[v; 1000]).unwrap();
        let gone = tensor(0).downgrade().unwrap();
        // Some of these are where the first one was, unless its place is kept.
        for v in 0..100 {
            assert_ne!(tensor(v).downgrade().unwrap(), gone);
        }
    }

    #[test]
    fn it_comes_back_as_it_was() {
        let tensor = Tensor::from_slice(&[2, 1], &[7i32, 8]).unwrap();
        let back = tensor.downgrade().unwrap().upgrade().unwrap();
        assert_eq!((back.shape(), back.as_slice::<i32>().unwrap()), (&[2, 1][..], &[7, 8][..]));
        assert!(back.shares_bytes(&tensor));
        assert!(Tensor::zeros(DType::Str, &[1]).unwrap().downgrade().is_none());
    }
}
