//! Elements as evaluations on slices compute with them: one generic function is compiled for each dtype that fills
//! bytes, so that nothing is asked for each element.

use optc_tensor::{Element, Tensor, TensorRef, bf16, f16};

use super::number::Number;

/// An element of whole bytes, and the [`Number`] that it is computed as.
pub(crate) trait NativeElement: Element {
    /// `f64` for floats, `u64` for `u64`, `i64` for the other integers.
    type Wide: Number;
    /// Below all others.
    const FIRST: Self;
    /// Above all others.
    const LAST: Self;
    /// The number that it is.
    fn widen(self) -> Self::Wide;
    /// The number rounded or wrapped to the dtype.
    fn narrow(v: Self::Wide) -> Self;
    /// Truncated and wrapped for integers, as [`Tensor::from_f64`](optc_tensor::Tensor::from_f64) does.
    fn of_float(v: f64) -> Self;
    /// Wrapped for integers, by `f64` for floats, as [`Tensor::from_i64`](optc_tensor::Tensor::from_i64) does.
    fn of_int(v: i64) -> Self;
    /// Whether it is NaN.
    #[inline]
    fn not_a_number(self) -> bool {
        self.partial_cmp(&self).is_none()
    }
    /// Whether it is greater than another one; NaN is greater than numbers.
    #[inline]
    fn above(self, other: Self) -> bool {
        self > other || (self.not_a_number() && !other.not_a_number())
    }
    /// Whether it is less than another one, or NaN where that is a number.
    #[inline]
    fn below(self, other: Self) -> bool {
        self < other || (self.not_a_number() && !other.not_a_number())
    }
    /// A key whose order as an integer is that of the elements: NaN is the largest, both zeros are one.
    fn order_key(self) -> u64;
    /// The element that has a key.
    fn of_order_key(key: u64) -> Self;
}

const SIGN: u64 = 1 << 63;

macro_rules! native_int {
    ($($T:ty => $Wide:ty),*) => {$(
        impl NativeElement for $T {
            type Wide = $Wide;
            const FIRST: $T = <$T>::MIN;
            const LAST: $T = <$T>::MAX;
            #[inline]
            fn widen(self) -> $Wide { self as $Wide }
            #[inline]
            fn narrow(v: $Wide) -> $T { v as $T }
            #[inline]
            fn of_float(v: f64) -> $T { v as i64 as $T }
            #[inline]
            fn of_int(v: i64) -> $T { v as $T }
            #[inline]
            fn order_key(self) -> u64 { self as i64 as u64 ^ SIGN }
            #[inline]
            fn of_order_key(key: u64) -> $T { (key ^ SIGN) as i64 as $T }
        }
    )*};
}
native_int!(i8 => i64, i16 => i64, i32 => i64, i64 => i64, u8 => i64, u16 => i64, u32 => i64);

impl NativeElement for u64 {
    type Wide = u64;
    const FIRST: u64 = u64::MIN;
    const LAST: u64 = u64::MAX;
    #[inline]
    fn widen(self) -> u64 {
        self
    }
    #[inline]
    fn narrow(v: u64) -> u64 {
        v
    }
    #[inline]
    fn of_float(v: f64) -> u64 {
        if v < 0.0 { v as i64 as u64 } else { v as u64 }
    }
    #[inline]
    fn of_int(v: i64) -> u64 {
        v as u64
    }
    #[inline]
    fn order_key(self) -> u64 {
        self
    }
    #[inline]
    fn of_order_key(key: u64) -> u64 {
        key
    }
}

macro_rules! native_float {
    ($($T:ty: $low:expr, $high:expr);*) => {$(
        impl NativeElement for $T {
            type Wide = f64;
            const FIRST: $T = $low;
            const LAST: $T = $high;
            #[inline]
            fn widen(self) -> f64 { self.to_f64() }
            #[inline]
            fn narrow(v: f64) -> $T { <$T as Element>::from_f64(v) }
            #[inline]
            fn of_float(v: f64) -> $T { <$T as Element>::from_f64(v) }
            #[inline]
            fn of_int(v: i64) -> $T { <$T as Element>::from_f64(v as f64) }
            #[inline]
            fn order_key(self) -> u64 {
                let v = self.to_f64();
                let bits = if v == 0.0 { 0 } else { v.to_bits() };
                match v.is_nan() {
                    true => u64::MAX,
                    false if bits & SIGN != 0 => !bits,
                    false => bits | SIGN,
                }
            }
            #[inline]
            fn of_order_key(key: u64) -> $T {
                <$T as Element>::from_f64(f64::from_bits(if key & SIGN != 0 { key ^ SIGN } else { !key }))
            }
        }
    )*};
}
native_float!(
    f32: f32::NEG_INFINITY, f32::INFINITY;
    f64: f64::NEG_INFINITY, f64::INFINITY;
    f16: f16::NEG_INFINITY, f16::INFINITY;
    bf16: bf16::NEG_INFINITY, bf16::INFINITY
);

/// Evaluates an expression with `$T` as the [`NativeElement`] of a dtype of numbers that fill bytes, another one for
/// `bool`, strings and narrower integers.
macro_rules! by_native {
    ($dtype:expr, $T:ident => $body:expr, else $other:expr) => {
        $crate::ops::native::by_native!(@arms $dtype, $T, $body, $other,
            F32 f32, F64 f64, F16 optc_tensor::f16, BF16 optc_tensor::bf16, I8 i8, I16 i16, I32 i32, I64 i64,
            U8 u8, U16 u16, U32 u32, U64 u64)
    };
    (@arms $dtype:expr, $T:ident, $body:expr, $other:expr, $($D:ident $E:ty),*) => {
        match $dtype {
            $(optc_tensor::DType::$D => { type $T = $E; $body })*
            optc_tensor::DType::Bool
            | optc_tensor::DType::Str
            | optc_tensor::DType::I4
            | optc_tensor::DType::U4
            | optc_tensor::DType::I2
            | optc_tensor::DType::U2
            | optc_tensor::DType::F8E4M3FN
            | optc_tensor::DType::F8E4M3FNUZ
            | optc_tensor::DType::F8E5M2
            | optc_tensor::DType::F8E5M2FNUZ
            | optc_tensor::DType::F8E8M0FNU
            | optc_tensor::DType::F4E2M1FN => $other,
        }
    };
}
pub(crate) use by_native;

/// Evaluates an expression with `$T` as the unsigned integer that is as wide as a dtype, another one for strings and
/// elements of less than a byte: for ops that only move elements.
macro_rules! by_width {
    ($dtype:expr, $T:ident => $body:expr, else $other:expr) => {
        match $dtype.bits() {
            8 => {
                type $T = u8;
                $body
            }
            16 => {
                type $T = u16;
                $body
            }
            32 => {
                type $T = u32;
                $body
            }
            64 => {
                type $T = u64;
                $body
            }
            _ => $other,
        }
    };
}
pub(crate) use by_width;

/// A key for each element, whose order as an integer is that of the elements: NaN is the largest, both zeros are one.
pub(crate) fn order_keys(x: &Tensor) -> Vec<u64> {
    fn keys<T: NativeElement>(x: TensorRef) -> Vec<u64> {
        x.as_slice::<T>().unwrap_or_default().iter().map(|v| v.order_key()).collect()
    }
    if let Ok(strings) = x.strings() {
        let mut sorted: Vec<&String> = strings.iter().collect();
        sorted.sort_unstable();
        return strings.iter().map(|s| sorted.partition_point(|t| *t < s) as u64).collect();
    }
    let (Some(view), dtype) = (x.view(), x.dtype()) else { return vec![] };
    let narrow = || match dtype.is_small_float() {
        true => view.to_f64_vec().into_iter().map(NativeElement::order_key).collect(),
        false => view.to_i64_vec().into_iter().map(NativeElement::order_key).collect(),
    };
    by_native!(dtype, T => keys::<T>(view), else narrow())
}
