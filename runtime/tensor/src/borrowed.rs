//! Tensors whose elements are borrowed: from a [`Tensor`], or from memory that an engine places itself.

use crate::tensor::decode;
use crate::{DType, Element, Tensor, TensorError, element_count};

/// A dense tensor whose row-major elements are borrowed; strings cannot be.
#[derive(Debug, Clone, Copy)]
pub struct TensorRef<'a> {
    dtype: DType,
    shape: &'a [usize],
    bytes: &'a [u8],
}

/// A dense tensor whose row-major elements are borrowed, to be written.
#[derive(Debug)]
pub struct TensorMut<'a> {
    dtype: DType,
    shape: &'a [usize],
    bytes: &'a mut [u8],
}

/// Whether `bytes` are those of a tensor of this dtype and shape, at an address where its elements can be read.
fn fits(dtype: DType, shape: &[usize], bytes: &[u8]) -> bool {
    let expected = element_count(shape).and_then(|n| dtype.bytes_for(n));
    let width = dtype.bits().div_ceil(8).max(1);
    let aligned = (bytes.as_ptr() as usize).is_multiple_of(width);
    dtype != DType::Str && expected == Some(bytes.len()) && aligned
}

/// Whether slices of `T` may hold elements of `dtype`. `bool` reads as `u8`.
pub(crate) fn holds<T: Element>(dtype: DType) -> Result<(), TensorError> {
    let same = T::DTYPE == dtype || (T::DTYPE == DType::U8 && dtype == DType::Bool);
    if same { Ok(()) } else { Err(TensorError::DType { expected: T::DTYPE, found: dtype }) }
}

/// Whether elements of `dtype` are as wide as `T`.
fn as_wide<T: Element>(dtype: DType) -> Result<(), TensorError> {
    let same = dtype.bits() == 8 * size_of::<T>();
    if same { Ok(()) } else { Err(TensorError::DType { expected: T::DTYPE, found: dtype }) }
}

impl<'a> TensorRef<'a> {
    /// The tensor whose elements are `bytes`; `None` where they are not those of this dtype and shape, or not aligned.
    pub fn new(dtype: DType, shape: &'a [usize], bytes: &'a [u8]) -> Option<TensorRef<'a>> {
        // No byte may lie anywhere, but slices of wider elements ask for a place all the same.
        let bytes = if bytes.is_empty() { bytemuck::cast_slice::<u64, u8>(&[]) } else { bytes };
        fits(dtype, shape, bytes).then_some(TensorRef { dtype, shape, bytes })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extents.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The number of dims.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True when there is no element.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The elements' bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The elements as a slice of `T`. `bool` reads as `u8`.
    ///
    /// # Errors
    /// The tensor holds another dtype.
    pub fn as_slice<T: Element>(&self) -> Result<&'a [T], TensorError> {
        holds::<T>(self.dtype)?;
        Ok(bytemuck::cast_slice(self.bytes))
    }

    /// The elements as a slice of any type that is as wide: for ops that only move them.
    ///
    /// # Errors
    /// The elements are of another width.
    pub fn as_bits<T: Element>(&self) -> Result<&'a [T], TensorError> {
        as_wide::<T>(self.dtype)?;
        Ok(bytemuck::cast_slice(self.bytes))
    }

    /// All elements as `f64`.
    pub fn to_f64_vec(&self) -> Vec<f64> {
        decode(self, |v| v, |v| v as f64, |v| v as f64)
    }

    /// All elements as `i64`: floats truncated, the upper half of `u64` wrapped.
    pub fn to_i64_vec(&self) -> Vec<i64> {
        decode(self, |v| v as i64, |v| v, |v| v as i64)
    }

    /// A copy that borrows nothing.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn to_tensor(&self) -> Result<Tensor, TensorError> {
        Tensor::from_bytes(self.dtype, self.shape, self.bytes)
    }
}

impl<'a> TensorMut<'a> {
    /// The tensor whose elements are `bytes`; `None` where they are not those of this dtype and shape, or not aligned.
    pub fn new(dtype: DType, shape: &'a [usize], bytes: &'a mut [u8]) -> Option<TensorMut<'a>> {
        let bytes = if bytes.is_empty() { bytemuck::cast_slice_mut::<u64, u8>(&mut []) } else { bytes };
        fits(dtype, shape, bytes).then_some(TensorMut { dtype, shape, bytes })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extents.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The elements' bytes, writable.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes
    }

    /// The elements as a writable slice of `T`. `bool` is written as `u8`, 0 or 1.
    ///
    /// # Errors
    /// The tensor holds another dtype.
    pub fn as_mut_slice<T: Element>(&mut self) -> Result<&mut [T], TensorError> {
        holds::<T>(self.dtype)?;
        Ok(bytemuck::cast_slice_mut(self.bytes))
    }

    /// The elements as a writable slice of any type that is as wide: for ops that only move them.
    ///
    /// # Errors
    /// The elements are of another width.
    pub fn as_mut_bits<T: Element>(&mut self) -> Result<&mut [T], TensorError> {
        as_wide::<T>(self.dtype)?;
        Ok(bytemuck::cast_slice_mut(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_do_not_fit_are_refused() {
        let tensor = Tensor::from_slice(&[2, 2], &[1i32, 2, 3, 4]).unwrap();
        let bytes = tensor.bytes();
        assert_eq!(TensorRef::new(DType::I32, &[4], bytes).unwrap().to_i64_vec(), [1, 2, 3, 4]);
        assert!(TensorRef::new(DType::I32, &[3], bytes).is_none(), "another size");
        assert!(TensorRef::new(DType::I32, &[3], &bytes[1..13]).is_none(), "another alignment");
        assert!(TensorRef::new(DType::Str, &[0], &[]).is_none(), "strings");
        assert!(TensorRef::new(DType::I64, &[usize::MAX, 2], bytes).is_none(), "too large a shape");
        let nothing = TensorRef::new(DType::I64, &[3, 0], &bytes[1..1]).unwrap();
        assert!(nothing.as_slice::<i64>().unwrap().is_empty() && nothing.to_f64_vec().is_empty());
        assert!(tensor.view().unwrap().as_slice::<f32>().is_err());
        assert_eq!(tensor.view().unwrap().as_bits::<u32>().unwrap(), [1, 2, 3, 4]);
        assert!(tensor.view().unwrap().as_bits::<u16>().is_err());
    }

    #[test]
    fn what_is_written_is_in_the_tensor() {
        let mut tensor = Tensor::zeros(DType::Bool, &[2]).unwrap();
        let shared = tensor.clone();
        tensor.view_mut().unwrap().unwrap().as_mut_slice::<u8>().unwrap()[1] = 1;
        let mut nothing = TensorMut::new(DType::F64, &[0], &mut []).unwrap();
        assert!(nothing.as_mut_slice::<f64>().unwrap().is_empty());
        assert_eq!((tensor.bytes(), shared.bytes()), (&[0, 1][..], &[0, 0][..]));
        assert_eq!(tensor.view().unwrap().to_tensor().unwrap(), tensor);
        assert!(Tensor::zeros(DType::Str, &[1]).unwrap().view_mut().unwrap().is_none());
    }
}
