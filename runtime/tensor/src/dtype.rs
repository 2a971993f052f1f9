//! Element types: names, widths and the Rust types that hold them.

use half::{bf16, f16};

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $bits:literal,)*) => {
        /// The type of one tensor element.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DType { $($(#[$doc])* $variant,)* }

        impl DType {
            /// Every dtype.
            pub const ALL: &'static [DType] = &[$(DType::$variant),*];

            /// The name used in the text form: `f32`, `i64`, `bool`.
            pub fn name(self) -> &'static str { match self { $(DType::$variant => $name),* } }

            /// The width of one element in bits; 0 for strings, which are held apart.
            pub fn bits(self) -> usize { match self { $(DType::$variant => $bits),* } }

            /// The dtype called `name`.
            pub fn parse(name: &str) -> Option<DType> { match name { $($name => Some(DType::$variant),)* _ => None } }
        }
    };
}

dtypes! {
    /// IEEE 754 binary32.
    F32 "f32" 32,
    /// IEEE 754 binary64.
    F64 "f64" 64,
    /// IEEE 754 binary16.
    F16 "f16" 16,
    /// bfloat16: the upper half of binary32.
    BF16 "bf16" 16,
    /// Signed 8-bit integer.
    I8 "i8" 8,
    /// Signed 16-bit integer.
    I16 "i16" 16,
    /// Signed 32-bit integer.
    I32 "i32" 32,
    /// Signed 64-bit integer.
    I64 "i64" 64,
    /// Unsigned 8-bit integer.
    U8 "u8" 8,
    /// Unsigned 16-bit integer.
    U16 "u16" 16,
    /// Unsigned 32-bit integer.
    U32 "u32" 32,
    /// Unsigned 64-bit integer.
    U64 "u64" 64,
    /// Boolean: one byte, 0 or 1.
    Bool "bool" 8,
    /// Signed 4-bit integer, two a byte, low nibble first.
    I4 "i4" 4,
    /// Unsigned 4-bit integer, two a byte, low nibble first.
    U4 "u4" 4,
    /// Signed 2-bit integer, four a byte, lowest bits first.
    I2 "i2" 2,
    /// Unsigned 2-bit integer, four a byte, lowest bits first.
    U2 "u2" 2,
    /// Float of a sign, 4 bits of exponent and 3 of mantissa; NaN, no infinity.
    F8E4M3FN "f8E4M3FN" 8,
    /// As `f8E4M3FN`, with half its values; one NaN in the place of negative zero.
    F8E4M3FNUZ "f8E4M3FNUZ" 8,
    /// Float of a sign, 5 bits of exponent and 2 of mantissa, with NaN and infinities: the upper half of binary16.
    F8E5M2 "f8E5M2" 8,
    /// As `f8E5M2`, with half its values; one NaN in the place of negative zero, no infinity.
    F8E5M2FNUZ "f8E5M2FNUZ" 8,
    /// A power of two: 8 bits of exponent alone, with NaN, and without zero and sign.
    F8E8M0FNU "f8E8M0FNU" 8,
    /// Float of a sign, 2 bits of exponent and 1 of mantissa, two a byte, low nibble first; neither NaN nor infinity.
    F4E2M1FN "f4E2M1FN" 4,
    /// UTF-8 string.
    Str "str" 0,
}

impl DType {
    /// Bytes that `n` elements take, packed where the dtype is narrower than a byte.
    ///
    /// # Errors
    /// `None` when the product overflows.
    pub fn bytes_for(self, n: usize) -> Option<usize> {
        Some(n.checked_mul(self.bits())?.div_ceil(8))
    }

    /// True for `f16`, `bf16`, `f32` and `f64`: the floats that are computed with.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
    }

    /// True for floats of a byte or less, which are stored, moved and converted, but not computed with.
    pub fn is_small_float(self) -> bool {
        matches!(
            self,
            DType::F8E4M3FN
                | DType::F8E4M3FNUZ
                | DType::F8E5M2
                | DType::F8E5M2FNUZ
                | DType::F8E8M0FNU
                | DType::F4E2M1FN
        )
    }

    /// True for floats of any width.
    pub fn is_real(self) -> bool {
        self.is_float() || self.is_small_float()
    }

    /// True for signed and unsigned integers (not for `bool`).
    pub fn is_int(self) -> bool {
        !self.is_real() && !matches!(self, DType::Bool | DType::Str)
    }

    /// True for signed integers and floats.
    pub fn is_signed(self) -> bool {
        match self {
            DType::F8E8M0FNU => false,
            DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::I4 | DType::I2 => true,
            dtype => dtype.is_real(),
        }
    }

    /// True where several elements share a byte.
    pub fn is_packed(self) -> bool {
        (1..8).contains(&self.bits())
    }

    /// The smallest and largest value of an integer dtype.
    pub fn int_range(self) -> Option<(i128, i128)> {
        if !self.is_int() {
            return None;
        }
        let bits = self.bits() as u32;
        Some(if self.is_signed() {
            (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
        } else {
            (0, (1i128 << bits) - 1)
        })
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A Rust type that holds one tensor element.
pub trait Element: bytemuck::Pod + PartialOrd + std::fmt::Debug + Send + Sync {
    /// The dtype that this type holds.
    const DTYPE: DType;
    /// The value nearest to `v`: rounded to nearest for floats, truncated and saturated for integers.
    fn from_f64(v: f64) -> Self;
    /// The value `v`, wrapped to the width of an integer type.
    fn from_i64(v: i64) -> Self;
    /// The value as `f64`.
    fn to_f64(self) -> f64;
    /// The value as `i64`: truncated for floats, wrapped for `u64`.
    fn to_i64(self) -> i64;
}

macro_rules! element {
    ($($T:ty => $D:ident),*) => {$(
        impl Element for $T {
            const DTYPE: DType = DType::$D;
            #[inline]
            fn from_f64(v: f64) -> Self { v as $T }
            #[inline]
            fn from_i64(v: i64) -> Self { v as $T }
            #[inline]
            fn to_f64(self) -> f64 { self as f64 }
            #[inline]
            fn to_i64(self) -> i64 { self as i64 }
        }
    )*};
}
element!(f32 => F32, f64 => F64, i8 => I8, i16 => I16, i32 => I32, i64 => I64);
element!(u8 => U8, u16 => U16, u32 => U32, u64 => U64);

/// `v` as `f32`, towards the neighbour whose last bit is set where it lies between two. What is rounded to nearest from
/// there on, to a dtype narrower by two bits or more, is then rounded once; `half` on its own rounds `f64` twice, or
/// drops bits.
#[inline]
fn round_to_odd(v: f64) -> f32 {
    let near = v as f32;
    let back = f64::from(near);
    if back == v || !near.is_finite() || near.to_bits() & 1 == 1 {
        return near;
    }
    // The neighbour on the other side of `v`: one step away from zero or towards it.
    let away = (back.abs() < v.abs()) || near == 0.0;
    let bits = if away { near.to_bits() + 1 } else { near.to_bits() - 1 };
    f32::from_bits(bits)
}

macro_rules! half_element {
    ($($T:ty => $D:ident),*) => {$(
        impl Element for $T {
            const DTYPE: DType = DType::$D;
            #[inline]
            fn from_f64(v: f64) -> Self { <$T>::from_f32(round_to_odd(v)) }
            #[inline]
            fn from_i64(v: i64) -> Self { Element::from_f64(v as f64) }
            #[inline]
            fn to_f64(self) -> f64 { <$T>::to_f64(self) }
            #[inline]
            fn to_i64(self) -> i64 { <$T>::to_f64(self) as i64 }
        }
    )*};
}
half_element!(f16 => F16, bf16 => BF16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bit_floats_are_rounded_once() {
        let tie = 1.0 + 2f64.powi(-11);
        // A tie goes to the even one, and a little more than a tie goes up, however little it is.
        for (v, bits) in [(tie, 0x3c00u16), (tie + 2f64.powi(-40), 0x3c01), (tie - 2f64.powi(-40), 0x3c00)] {
            assert_eq!(<f16 as Element>::from_f64(v).to_bits(), bits, "{v}");
            assert_eq!(<f16 as Element>::from_f64(-v).to_bits(), bits | 0x8000, "{v}");
        }
        let tie = 1.0 + 2f64.powi(-8);
        assert_eq!(<bf16 as Element>::from_f64(tie + 2f64.powi(-40)).to_bits(), 0x3f81);
        assert_eq!(<bf16 as Element>::from_f64(tie).to_bits(), 0x3f80);
        assert_eq!(<f16 as Element>::from_f64(1e300).to_bits(), 0x7c00);
        assert_eq!(<f16 as Element>::from_f64(1e-300).to_bits(), 0);
        assert_eq!(<f16 as Element>::from_f64(2f64.powi(-25) * (1.0 + 1e-12)).to_bits(), 1);
        assert!(<f16 as Element>::from_f64(f64::NAN).is_nan());
    }
}
