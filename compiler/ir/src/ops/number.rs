//! Numbers as `eval` computes with them: one generic function serves all numeric dtypes.

use optc_tensor::{DType, Element, Memory, Tensor, TensorError, bf16, element_count, f16};

/// The number of elements of `shape`.
///
/// # Errors
/// A tensor of this dtype and shape is too large to be made, or there is no memory for it.
pub(crate) fn checked_len(dtype: DType, shape: &[usize]) -> Result<usize, TensorError> {
    let n = countable(dtype, shape)?;
    // Strings take their headers at least.
    let bytes =
        if dtype == DType::Str { n.saturating_mul(size_of::<String>()) } else { dtype.bytes_for(n).unwrap_or(n) };
    let no_memory = TensorError::no_memory(dtype, shape);
    Memory::current().claim(bytes.max(n)).map_err(no_memory)?;
    Ok(n)
}

/// The number of elements of `shape`, whether there is memory for them or not.
///
/// # Errors
/// No address space could hold a tensor of this dtype and shape.
pub(crate) fn countable(dtype: DType, shape: &[usize]) -> Result<usize, TensorError> {
    let fits = |n: &usize| dtype.bytes_for(*n).is_some_and(|b| b.max(*n) <= isize::MAX as usize / 2);
    element_count(shape).filter(fits).ok_or_else(|| TensorError::TooLarge(shape.to_vec()))
}

/// `f64` for float dtypes, `u64` for `u64`, `i64` for the other integers (and `bool` as 0 and 1). Integers wrap.
pub(crate) trait Number: Copy + PartialOrd {
    const ZERO: Self;
    const ONE: Self;
    /// Below all others.
    const LOWEST: Self;
    /// Above all others.
    const HIGHEST: Self;
    /// This integer, where it is one that the type holds.
    fn from_i128(v: i128) -> Option<Self>;
    /// All elements of a tensor.
    fn all(t: &Tensor) -> Vec<Self>;
    /// A tensor of these elements, rounded or wrapped to `dtype`.
    fn tensor(dtype: DType, shape: &[usize], values: &[Self]) -> Result<Tensor, TensorError>;
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    fn absolute(self) -> Self;
    fn is_nan(self) -> bool;

    /// The smaller one; NaN where either is.
    #[inline]
    fn least(self, other: Self) -> Self {
        if self.is_nan() || self < other { self } else { other }
    }

    /// The larger one; NaN where either is.
    #[inline]
    fn greatest(self, other: Self) -> Self {
        if self.is_nan() || self > other { self } else { other }
    }
}

impl Number for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    const LOWEST: f64 = f64::NEG_INFINITY;
    const HIGHEST: f64 = f64::INFINITY;
    #[inline]
    fn from_i128(v: i128) -> Option<f64> {
        Some(v as f64)
    }
    fn all(t: &Tensor) -> Vec<f64> {
        t.to_f64_vec()
    }
    fn tensor(dtype: DType, shape: &[usize], values: &[f64]) -> Result<Tensor, TensorError> {
        Tensor::from_f64(dtype, shape, values)
    }
    #[inline]
    fn plus(self, other: f64) -> f64 {
        self + other
    }
    #[inline]
    fn times(self, other: f64) -> f64 {
        self * other
    }
    #[inline]
    fn absolute(self) -> f64 {
        self.abs()
    }
    #[inline]
    fn is_nan(self) -> bool {
        f64::is_nan(self)
    }
}

impl Number for i64 {
    const ZERO: i64 = 0;
    const ONE: i64 = 1;
    const LOWEST: i64 = i64::MIN;
    const HIGHEST: i64 = i64::MAX;
    #[inline]
    fn from_i128(v: i128) -> Option<i64> {
        v.try_into().ok()
    }
    fn all(t: &Tensor) -> Vec<i64> {
        t.to_i64_vec()
    }
    fn tensor(dtype: DType, shape: &[usize], values: &[i64]) -> Result<Tensor, TensorError> {
        Tensor::from_i64(dtype, shape, values)
    }
    #[inline]
    fn plus(self, other: i64) -> i64 {
        self.wrapping_add(other)
    }
    #[inline]
    fn times(self, other: i64) -> i64 {
        self.wrapping_mul(other)
    }
    #[inline]
    fn absolute(self) -> i64 {
        self.wrapping_abs()
    }
    #[inline]
    fn is_nan(self) -> bool {
        false
    }
}

impl Number for u64 {
    const ZERO: u64 = 0;
    const ONE: u64 = 1;
    const LOWEST: u64 = 0;
    const HIGHEST: u64 = u64::MAX;
    #[inline]
    fn from_i128(v: i128) -> Option<u64> {
        v.try_into().ok()
    }
    fn all(t: &Tensor) -> Vec<u64> {
        t.to_i64_vec().into_iter().map(|v| v as u64).collect()
    }
    fn tensor(dtype: DType, shape: &[usize], values: &[u64]) -> Result<Tensor, TensorError> {
        Tensor::from_i64(dtype, shape, &values.iter().map(|&v| v as i64).collect::<Vec<_>>())
    }
    #[inline]
    fn plus(self, other: u64) -> u64 {
        self.wrapping_add(other)
    }
    #[inline]
    fn times(self, other: u64) -> u64 {
        self.wrapping_mul(other)
    }
    #[inline]
    fn absolute(self) -> u64 {
        self
    }
    #[inline]
    fn is_nan(self) -> bool {
        false
    }
}

/// `v` rounded to a float dtype; as it is for other dtypes.
pub(crate) fn round_to(dtype: DType, v: f64) -> f64 {
    match dtype {
        DType::F32 => f64::from(v as f32),
        DType::F16 => <f16 as Element>::from_f64(v).to_f64(),
        DType::BF16 => <bf16 as Element>::from_f64(v).to_f64(),
        _ => v,
    }
}

/// Calls `f::<N>(args)` with the [`Number`] of a dtype; an error for `str`, which has none, and for small floats, which
/// are not computed with.
macro_rules! by_number {
    ($name:expr, $dtype:expr, $f:ident($($arg:expr),* $(,)?)) => {
        match $dtype {
            optc_tensor::DType::Str => $crate::ops::bad_dtype($name, optc_tensor::DType::Str),
            optc_tensor::DType::U64 => $f::<u64>($($arg),*),
            d if d.is_float() => $f::<f64>($($arg),*),
            d if d.is_small_float() => $crate::ops::bad_dtype($name, d),
            _ => $f::<i64>($($arg),*),
        }
    };
}
pub(crate) use by_number;
