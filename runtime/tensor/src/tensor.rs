//! The tensor: dtype, shape and row-major elements.

use std::sync::Arc;

use half::{bf16, f16};

use crate::borrowed::holds;
use crate::memory::{Claim, Memory, OutOfMemory};
use crate::{Buffer, DType, Element, Overflow, Rounding, TensorMut, TensorRef};

/// Why a tensor could not be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The shape's element count, or its size in bytes, overflows.
    #[error("shape {0:?} is too large")]
    TooLarge(Vec<usize>),
    /// There is no memory for it.
    #[error("a tensor {dtype} of shape {shape:?}: {error}")]
    Memory {
        /// The dtype asked for.
        dtype: DType,
        /// The shape asked for.
        shape: Vec<usize>,
        /// What was asked for, and what there is.
        error: OutOfMemory,
    },
    /// There is no memory for something that is not a tensor.
    #[error(transparent)]
    Work(#[from] OutOfMemory),
    /// The data does not have the size that dtype and shape ask for.
    #[error("{dtype} tensor of shape {shape:?} takes {expected} bytes, found {found}")]
    Size {
        /// The dtype asked for.
        dtype: DType,
        /// The shape asked for.
        shape: Vec<usize>,
        /// Bytes that they take.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// The elements are of another dtype.
    #[error("expected {expected} elements, found {found}")]
    DType {
        /// The dtype asked for.
        expected: DType,
        /// The tensor's dtype.
        found: DType,
    },
}

impl TensorError {
    /// Makes the error of a tensor for which there is no memory, to be handed to `map_err`.
    pub fn no_memory(dtype: DType, shape: &[usize]) -> impl Fn(OutOfMemory) -> TensorError + Copy {
        move |error| TensorError::Memory { dtype, shape: shape.to_vec(), error }
    }
}

/// A dense tensor with a concrete shape, elements in row-major order. Clones share the elements.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Data,
}

#[derive(Clone)]
enum Data {
    Bytes(Arc<Buffer>),
    Strings(Arc<Strings>),
}

/// Strings and the memory that they take.
#[derive(Clone)]
struct Strings {
    values: Vec<String>,
    _claim: Claim,
}

impl Strings {
    fn new(values: Vec<String>) -> Result<Strings, OutOfMemory> {
        let text: usize = values.iter().map(String::capacity).sum();
        let claim = Memory::current().claim(text + values.capacity() * size_of::<String>())?;
        Ok(Strings { values, _claim: claim })
    }
}

/// The number of elements of `shape`, `None` when it overflows `isize`.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= isize::MAX as usize)
}

/// Row-major strides of `shape` in elements.
pub fn strides_of(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for d in (1..shape.len()).rev() {
        strides[d - 1] = strides[d].saturating_mul(shape[d]);
    }
    strides
}

/// The shape that `a` and `b` broadcast to by the multidirectional (NumPy) rule, `None` when they do not.
pub fn broadcast_shapes(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], d: usize| if d + s.len() < rank { 1 } else { s[d + s.len() - rank] };
    (0..rank)
        .map(|d| match (at(a, d), at(b, d)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// Calls `f` with every index of `shape` in row-major order; once with `[]` for a scalar.
pub fn for_each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        f(&index);
        let Some(d) = (0..shape.len()).rev().find(|&d| index[d] + 1 < shape[d]) else { return };
        index[d] += 1;
        index[d + 1..].fill(0);
    }
}

/// An aligned copy; the memory of mapped bytes is given back, so that they are not held twice.
fn moved(buffer: &Buffer) -> Result<Buffer, OutOfMemory> {
    let copy = buffer.copied()?;
    crate::evict(buffer.as_slice());
    Ok(copy)
}

impl Tensor {
    /// A tensor of zero bytes (empty strings for `str`).
    ///
    /// # Errors
    /// The shape is too large.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Result<Tensor, TensorError> {
        let too_large = || TensorError::TooLarge(shape.to_vec());
        let n = element_count(shape).ok_or_else(too_large)?;
        let bytes = dtype.bytes_for(n).filter(|&b| b <= isize::MAX as usize).ok_or_else(too_large)?;
        let no_memory = TensorError::no_memory(dtype, shape);
        let data = if dtype == DType::Str {
            // Claimed before the list is made, and again by the list.
            let _claim = Memory::current().claim(n.saturating_mul(size_of::<String>())).map_err(no_memory)?;
            Data::Strings(Arc::new(Strings::new(vec![String::new(); n]).map_err(no_memory)?))
        } else {
            Data::Bytes(Arc::new(Buffer::zeroed(bytes).map_err(no_memory)?))
        };
        Ok(Tensor { dtype, shape: shape.to_vec(), data })
    }

    /// A tensor over `buffer`, which holds its elements in little-endian row-major order.
    ///
    /// # Errors
    /// The buffer's size is not what `dtype` and `shape` take, or `dtype` is `str`.
    pub fn from_buffer(dtype: DType, shape: &[usize], buffer: Buffer) -> Result<Tensor, TensorError> {
        let too_large = || TensorError::TooLarge(shape.to_vec());
        let expected = element_count(shape).and_then(|n| dtype.bytes_for(n)).ok_or_else(too_large)?;
        let found = buffer.as_slice().len();
        if found != expected || dtype == DType::Str {
            return Err(TensorError::Size { dtype, shape: shape.to_vec(), expected, found });
        }
        let width = dtype.bits().div_ceil(8).max(1);
        let aligned = (buffer.as_slice().as_ptr() as usize).is_multiple_of(width);
        let no_memory = TensorError::no_memory(dtype, shape);
        let buffer = if aligned { buffer } else { moved(&buffer).map_err(no_memory)? };
        Ok(Tensor { dtype, shape: shape.to_vec(), data: Data::Bytes(Arc::new(buffer)) })
    }

    /// A tensor with a copy of `bytes`. See [`Tensor::from_buffer`].
    ///
    /// # Errors
    /// As [`Tensor::from_buffer`].
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Tensor, TensorError> {
        let no_memory = TensorError::no_memory(dtype, shape);
        Tensor::from_buffer(dtype, shape, Buffer::from_slice(bytes).map_err(no_memory)?)
    }

    /// A tensor of `values` in row-major order.
    ///
    /// # Errors
    /// `values` does not have as many elements as `shape`.
    pub fn from_slice<T: Element>(shape: &[usize], values: &[T]) -> Result<Tensor, TensorError> {
        Tensor::from_bytes(T::DTYPE, shape, bytemuck::cast_slice(values))
    }

    /// A boolean tensor.
    ///
    /// # Errors
    /// `values` does not have as many elements as `shape`.
    pub fn from_bools(shape: &[usize], values: &[bool]) -> Result<Tensor, TensorError> {
        let bytes: Vec<u8> = values.iter().map(|&b| b as u8).collect();
        Tensor::from_bytes(DType::Bool, shape, &bytes)
    }

    /// A tensor of strings.
    ///
    /// # Errors
    /// `values` does not have as many elements as `shape`.
    pub fn from_strings(shape: &[usize], values: Vec<String>) -> Result<Tensor, TensorError> {
        let expected = element_count(shape).ok_or_else(|| TensorError::TooLarge(shape.to_vec()))?;
        if expected != values.len() {
            let found = values.len();
            return Err(TensorError::Size { dtype: DType::Str, shape: shape.to_vec(), expected, found });
        }
        let no_memory = TensorError::no_memory(DType::Str, shape);
        let strings = Strings::new(values).map_err(no_memory)?;
        Ok(Tensor { dtype: DType::Str, shape: shape.to_vec(), data: Data::Strings(Arc::new(strings)) })
    }

    /// A tensor of any numeric dtype from `f64` values: rounded for floats, truncated and saturated for integers. Small
    /// floats saturate, and `f8E8M0FNU` is rounded up, as ONNX's `Cast` does where nothing else is said.
    ///
    /// # Errors
    /// `values` does not have as many elements as `shape`, or `dtype` is `str`.
    pub fn from_f64(dtype: DType, shape: &[usize], values: &[f64]) -> Result<Tensor, TensorError> {
        encode(dtype, shape, values, |v| v, |v| v as i64, unsigned)
    }

    /// A tensor of small floats from `f64` values.
    ///
    /// # Errors
    /// `values` does not have as many elements as `shape`, or `dtype` is not a small float.
    pub fn from_f64_with(
        dtype: DType,
        shape: &[usize],
        values: &[f64],
        overflow: Overflow,
        rounding: Rounding,
    ) -> Result<Tensor, TensorError> {
        if !dtype.is_small_float() {
            return Err(TensorError::DType { expected: DType::F8E4M3FN, found: dtype });
        }
        let mut tensor = Tensor::zeros(dtype, shape)?;
        if tensor.len() != values.len() {
            let (expected, found) = (tensor.len(), values.len());
            return Err(TensorError::Size { dtype, shape: shape.to_vec(), expected, found });
        }
        let codes = values.iter().map(|&v| dtype.small_float_code(v, overflow, rounding));
        pack(dtype, tensor.bytes_mut()?, codes);
        Ok(tensor)
    }

    /// A tensor of any numeric dtype from `i64` values, wrapped to the dtype's width (`bool`: not zero).
    ///
    /// # Errors
    /// `values` does not have as many elements as `shape`, or `dtype` is `str`.
    pub fn from_i64(dtype: DType, shape: &[usize], values: &[i64]) -> Result<Tensor, TensorError> {
        encode(dtype, shape, values, |v| v as f64, |v| v, |v| v as u64)
    }

    /// A rank-0 tensor.
    pub fn scalar<T: Element>(value: T) -> Tensor {
        Tensor::from_slice(&[], &[value]).expect("one element fits rank 0")
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of dims.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        element_count(&self.shape).expect("checked when the tensor was made")
    }

    /// True when there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements' bytes; empty for strings.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Bytes(buffer) => buffer.as_slice(),
            Data::Strings(_) => &[],
        }
    }

    /// The elements' bytes, writable; copied first where they are shared. Empty for strings.
    ///
    /// # Errors
    /// There is no memory for the copy.
    pub fn bytes_mut(&mut self) -> Result<&mut [u8], TensorError> {
        let Data::Bytes(buffer) = &mut self.data else { return Ok(&mut []) };
        let no_memory = TensorError::no_memory(self.dtype, &self.shape);
        if Arc::get_mut(buffer).is_none() {
            *buffer = Arc::new(buffer.copied().map_err(no_memory)?);
        }
        match Arc::get_mut(buffer) {
            Some(buffer) => buffer.make_mut().map_err(no_memory),
            None => Ok(&mut []),
        }
    }

    /// The buffer with the elements; none of strings.
    pub(crate) fn buffer(&self) -> Option<&Arc<Buffer>> {
        if let Data::Bytes(buffer) = &self.data { Some(buffer) } else { None }
    }

    /// A tensor over a buffer that one of this dtype and shape had.
    pub(crate) fn over(dtype: DType, shape: Vec<usize>, buffer: Arc<Buffer>) -> Tensor {
        Tensor { dtype, shape, data: Data::Bytes(buffer) }
    }

    /// True when no clone shares the elements, so that writing copies nothing.
    pub fn is_unique(&self) -> bool {
        match &self.data {
            Data::Bytes(buffer) => Arc::strong_count(buffer) == 1,
            Data::Strings(strings) => Arc::strong_count(strings) == 1,
        }
    }

    /// The elements as a slice of `T`. `bool` reads as `u8`.
    ///
    /// # Errors
    /// The tensor holds another dtype.
    pub fn as_slice<T: Element>(&self) -> Result<&[T], TensorError> {
        holds::<T>(self.dtype)?;
        Ok(bytemuck::cast_slice(self.bytes()))
    }

    /// The elements as a writable slice of `T`. `bool` reads as `u8`.
    ///
    /// # Errors
    /// The tensor holds another dtype, or there is no memory for a copy.
    pub fn as_mut_slice<T: Element>(&mut self) -> Result<&mut [T], TensorError> {
        holds::<T>(self.dtype)?;
        Ok(bytemuck::cast_slice_mut(self.bytes_mut()?))
    }

    /// The strings of a `str` tensor.
    ///
    /// # Errors
    /// The tensor holds another dtype.
    pub fn strings(&self) -> Result<&[String], TensorError> {
        match &self.data {
            Data::Strings(s) => Ok(&s.values),
            Data::Bytes(_) => Err(TensorError::DType { expected: DType::Str, found: self.dtype }),
        }
    }

    /// All elements as `f64` (empty for strings).
    pub fn to_f64_vec(&self) -> Vec<f64> {
        self.view().map_or_else(Vec::new, |view| view.to_f64_vec())
    }

    /// All elements as `i64` (floats truncated, the upper half of `u64` wrapped; empty for strings).
    pub fn to_i64_vec(&self) -> Vec<i64> {
        self.view().map_or_else(Vec::new, |view| view.to_i64_vec())
    }

    /// The tensor as one that borrows its elements; `None` for strings.
    pub fn view(&self) -> Option<TensorRef<'_>> {
        TensorRef::new(self.dtype, &self.shape, self.bytes())
    }

    /// The tensor as one whose elements are borrowed to be written, copied first where they are shared; `None` for
    /// strings.
    ///
    /// # Errors
    /// There is no memory for the copy.
    pub fn view_mut(&mut self) -> Result<Option<TensorMut<'_>>, TensorError> {
        self.bytes_mut()?;
        let Data::Bytes(buffer) = &mut self.data else { return Ok(None) };
        let bytes = Arc::get_mut(buffer).map_or(&mut [][..], Buffer::own_mut);
        Ok(TensorMut::new(self.dtype, &self.shape, bytes))
    }

    /// The same elements under another shape of the same size.
    ///
    /// # Errors
    /// The element counts differ.
    pub fn reshaped(&self, shape: &[usize]) -> Result<Tensor, TensorError> {
        let expected = element_count(shape).ok_or_else(|| TensorError::TooLarge(shape.to_vec()))?;
        if expected != self.len() {
            let found = self.len();
            return Err(TensorError::Size { dtype: self.dtype, shape: shape.to_vec(), expected, found });
        }
        Ok(Tensor { dtype: self.dtype, shape: shape.to_vec(), data: self.data.clone() })
    }
}

/// Truncates; negative values wrap, as they do for the narrower unsigned dtypes.
fn unsigned(v: f64) -> u64 {
    if v < 0.0 { v as i64 as u64 } else { v as u64 }
}

/// Stores the low bits of `codes` in bytes that are zero, as many as an element of `dtype` has.
fn pack(dtype: DType, bytes: &mut [u8], codes: impl Iterator<Item = u8>) {
    let (bits, mask) = (dtype.bits(), u8::MAX >> (8 - dtype.bits()));
    codes.enumerate().for_each(|(at, code)| bytes[at * bits / 8] |= (code & mask) << (at * bits % 8));
}

/// The codes of elements that take a byte or less, in the low bits.
fn codes<'a>(t: &TensorRef<'a>) -> impl Iterator<Item = u8> + use<'a> {
    let (bytes, bits, mask) = (t.bytes(), t.dtype().bits(), u8::MAX >> (8 - t.dtype().bits()));
    (0..t.len()).map(move |at| (bytes[at * bits / 8] >> (at * bits % 8)) & mask)
}

fn encode<V: Copy>(
    dtype: DType,
    shape: &[usize],
    values: &[V],
    to_f: impl Fn(V) -> f64,
    to_i: impl Fn(V) -> i64,
    to_u: impl Fn(V) -> u64,
) -> Result<Tensor, TensorError> {
    fn fill<T: Element>(t: &mut Tensor, it: impl Iterator<Item = T>) -> Result<(), TensorError> {
        t.as_mut_slice()?.iter_mut().zip(it).for_each(|(to, v)| *to = v);
        Ok(())
    }
    let expected = element_count(shape).ok_or_else(|| TensorError::TooLarge(shape.to_vec()))?;
    if expected != values.len() || dtype == DType::Str {
        let bytes = |n: usize| dtype.bytes_for(n).unwrap_or(usize::MAX);
        let (expected, found) = (bytes(expected), bytes(values.len()));
        return Err(TensorError::Size { dtype, shape: shape.to_vec(), expected, found });
    }
    let mut tensor = Tensor::zeros(dtype, shape)?;
    let t = &mut tensor;
    let f = values.iter().map(|&v| to_f(v));
    let i = values.iter().map(|&v| to_i(v));
    match dtype {
        DType::F32 => fill(t, f.map(|v| v as f32)),
        DType::F64 => fill(t, f),
        DType::F16 => fill(t, f.map(<f16 as Element>::from_f64)),
        DType::BF16 => fill(t, f.map(<bf16 as Element>::from_f64)),
        DType::I8 => fill(t, i.map(|v| v as i8)),
        DType::I16 => fill(t, i.map(|v| v as i16)),
        DType::I32 => fill(t, i.map(|v| v as i32)),
        DType::I64 => fill(t, i),
        DType::U8 => fill(t, i.map(|v| v as u8)),
        DType::U16 => fill(t, i.map(|v| v as u16)),
        DType::U32 => fill(t, i.map(|v| v as u32)),
        DType::U64 => fill(t, values.iter().map(|&v| to_u(v))),
        DType::Bool => fill(t, f.map(|v| (v != 0.0) as u8)),
        DType::I4 | DType::U4 | DType::I2 | DType::U2 => {
            pack(dtype, t.bytes_mut()?, i.map(|v| v as u8));
            Ok(())
        }
        DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F8E8M0FNU
        | DType::F4E2M1FN => {
            pack(dtype, t.bytes_mut()?, f.map(|v| dtype.small_float_code(v, Overflow::Saturates, Rounding::Up)));
            Ok(())
        }
        DType::Str => Ok(()),
    }?;
    Ok(tensor)
}

/// All elements, by the function for the dtype: floats, signed and narrow integers, `u64`.
pub(crate) fn decode<V>(
    t: &TensorRef,
    from_f: impl Fn(f64) -> V,
    from_i: impl Fn(i64) -> V,
    from_u: impl Fn(u64) -> V,
) -> Vec<V> {
    fn floats<T: Element, V>(t: &TensorRef, f: impl Fn(f64) -> V) -> Vec<V> {
        bytemuck::cast_slice::<u8, T>(t.bytes()).iter().map(|v| f(v.to_f64())).collect()
    }
    fn ints<T: Element, V>(t: &TensorRef, f: impl Fn(i64) -> V) -> Vec<V> {
        bytemuck::cast_slice::<u8, T>(t.bytes()).iter().map(|v| f(v.to_i64())).collect()
    }
    match t.dtype() {
        DType::F32 => floats::<f32, V>(t, from_f),
        DType::F64 => floats::<f64, V>(t, from_f),
        DType::F16 => floats::<f16, V>(t, from_f),
        DType::BF16 => floats::<bf16, V>(t, from_f),
        DType::I8 => ints::<i8, V>(t, from_i),
        DType::I16 => ints::<i16, V>(t, from_i),
        DType::I32 => ints::<i32, V>(t, from_i),
        DType::I64 => ints::<i64, V>(t, from_i),
        DType::U8 | DType::Bool => ints::<u8, V>(t, from_i),
        DType::U16 => ints::<u16, V>(t, from_i),
        DType::U32 => ints::<u32, V>(t, from_i),
        DType::U64 => bytemuck::cast_slice::<u8, u64>(t.bytes()).iter().map(|&v| from_u(v)).collect(),
        DType::I4 => codes(t).map(|code| from_i(i64::from((code << 4) as i8 >> 4))).collect(),
        DType::I2 => codes(t).map(|code| from_i(i64::from((code << 6) as i8 >> 6))).collect(),
        DType::U4 | DType::U2 => codes(t).map(|code| from_i(i64::from(code))).collect(),
        dtype @ (DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F8E8M0FNU
        | DType::F4E2M1FN) => codes(t).map(|code| from_f(dtype.small_float_value(code))).collect(),
        DType::Str => Vec::new(),
    }
}

impl PartialEq for Tensor {
    /// Equal dtype, shape and bits (NaN equals the same NaN).
    fn eq(&self, other: &Tensor) -> bool {
        let data = || match (&self.data, &other.data) {
            (Data::Strings(a), Data::Strings(b)) => a.values == b.values,
            _ => self.shares_bytes(other) || self.bytes() == other.bytes(),
        };
        self.dtype == other.dtype && self.shape == other.shape && data()
    }
}

/// The bits are compared.
impl Eq for Tensor {}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor<{:?} {}>", self.shape, self.dtype)?;
        match &self.data {
            Data::Strings(s) => write!(f, " {:?}", &s.values[..s.values.len().min(8)]),
            Data::Bytes(_) if self.len() <= 16 => write!(f, " {:?}", self.to_f64_vec()),
            Data::Bytes(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bit_values_pack_two_a_byte() {
        let t = Tensor::from_i64(DType::I4, &[3], &[-8, 7, -1]).unwrap();
        assert_eq!(t.bytes(), &[0x78, 0x0f]);
        assert_eq!(t.to_i64_vec(), [-8, 7, -1]);
    }

    #[test]
    fn two_bit_values_pack_four_a_byte() {
        let t = Tensor::from_i64(DType::I2, &[5], &[-2, 1, -1, 0, 7]).unwrap();
        assert_eq!(t.bytes(), &[0b0011_0110, 0b11]);
        assert_eq!(t.to_i64_vec(), [-2, 1, -1, 0, -1]);
        let t = Tensor::from_f64(DType::U2, &[3], &[3.9, 2.0, 4.0]).unwrap();
        assert_eq!((t.bytes(), t.to_f64_vec()), (&[0b1011][..], vec![3.0, 2.0, 0.0]));
    }

    #[test]
    fn small_floats_pack_by_their_width() {
        let t = Tensor::from_f64(DType::F4E2M1FN, &[3], &[-6.0, 0.5, 100.0]).unwrap();
        assert_eq!((t.bytes(), t.to_f64_vec()), (&[0x1f, 0x07][..], vec![-6.0, 0.5, 6.0]));
        let escaped = Tensor::from_f64_with(DType::F8E5M2, &[2], &[1e9, -1.0], Overflow::Escapes, Rounding::Nearest);
        assert_eq!(escaped.unwrap().to_f64_vec(), [f64::INFINITY, -1.0]);
        assert!(Tensor::from_f64_with(DType::F32, &[1], &[1.0], Overflow::Escapes, Rounding::Nearest).is_err());
        assert!(Tensor::from_f64_with(DType::F8E5M2, &[2], &[1.0], Overflow::Escapes, Rounding::Nearest).is_err());
    }

    #[test]
    fn the_upper_half_of_u64_converts() {
        let t = Tensor::from_f64(DType::U64, &[2], &[1e19, 3.9]).unwrap();
        assert_eq!(t.as_slice::<u64>().unwrap(), [10_000_000_000_000_000_000, 3]);
        assert_eq!(t.to_f64_vec(), [1e19, 3.0]);
    }

    #[test]
    fn huge_shapes_are_refused_before_allocation() {
        assert!(Tensor::zeros(DType::F32, &[usize::MAX, 2]).is_err());
        assert!(Tensor::zeros(DType::F64, &[1 << 40, 1 << 30]).is_err());
        assert_eq!(Tensor::zeros(DType::F32, &[0, usize::MAX]).unwrap().len(), 0);
    }

    #[test]
    fn shapes_broadcast_as_in_numpy() {
        assert_eq!(broadcast_shapes(&[3, 1], &[4]), Some(vec![3, 4]));
        assert_eq!(broadcast_shapes(&[3], &[4]), None);
        assert_eq!(broadcast_shapes(&[0], &[1]), Some(vec![0]));
    }

    #[test]
    fn indices_come_in_row_major_order() {
        let mut seen = Vec::new();
        for_each_index(&[2, 2], |i| seen.push(i.to_vec()));
        assert_eq!(seen, [[0, 0], [0, 1], [1, 0], [1, 1]]);
    }
}
