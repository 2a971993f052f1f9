//! Element types by number.

use driver::DType;

/// The type of one element of a tensor.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptcDtype {
    /// Not a tensor: a sequence or an optional, which this interface does not carry.
    None = 0,
    /// IEEE 754 binary32: `float`.
    F32 = 1,
    /// IEEE 754 binary64: `double`.
    F64 = 2,
    /// IEEE 754 binary16.
    F16 = 3,
    /// The upper half of binary32.
    Bf16 = 4,
    /// `int8_t`.
    I8 = 5,
    /// `int16_t`.
    I16 = 6,
    /// `int32_t`.
    I32 = 7,
    /// `int64_t`.
    I64 = 8,
    /// `uint8_t`.
    U8 = 9,
    /// `uint16_t`.
    U16 = 10,
    /// `uint32_t`.
    U32 = 11,
    /// `uint64_t`.
    U64 = 12,
    /// One byte, 0 or 1.
    Bool = 13,
    /// Signed 4-bit integers, two a byte, low half first.
    I4 = 14,
    /// Unsigned 4-bit integers, two a byte, low half first.
    U4 = 15,
    /// Strings, which this interface does not carry.
    Str = 16,
    /// Signed 2-bit integers, four a byte, lowest bits first.
    I2 = 17,
    /// Unsigned 2-bit integers, four a byte, lowest bits first.
    U2 = 18,
    /// Floats of 4 bits of exponent and 3 of mantissa, one a byte.
    F8e4m3fn = 19,
    /// As `F8E4M3FN`, with one NaN in the place of negative zero.
    F8e4m3fnuz = 20,
    /// Floats of 5 bits of exponent and 2 of mantissa, one a byte.
    F8e5m2 = 21,
    /// As `F8E5M2`, with one NaN in the place of negative zero, and no infinity.
    F8e5m2fnuz = 22,
    /// Powers of two, one a byte.
    F8e8m0fnu = 23,
    /// Floats of 2 bits of exponent and 1 of mantissa, two a byte, low half first.
    F4e2m1fn = 24,
}

impl From<DType> for OptcDtype {
    fn from(dtype: DType) -> OptcDtype {
        match dtype {
            DType::F32 => OptcDtype::F32,
            DType::F64 => OptcDtype::F64,
            DType::F16 => OptcDtype::F16,
            DType::BF16 => OptcDtype::Bf16,
            DType::I8 => OptcDtype::I8,
            DType::I16 => OptcDtype::I16,
            DType::I32 => OptcDtype::I32,
            DType::I64 => OptcDtype::I64,
            DType::U8 => OptcDtype::U8,
            DType::U16 => OptcDtype::U16,
            DType::U32 => OptcDtype::U32,
            DType::U64 => OptcDtype::U64,
            DType::Bool => OptcDtype::Bool,
            DType::I4 => OptcDtype::I4,
            DType::U4 => OptcDtype::U4,
            DType::Str => OptcDtype::Str,
            DType::I2 => OptcDtype::I2,
            DType::U2 => OptcDtype::U2,
            DType::F8E4M3FN => OptcDtype::F8e4m3fn,
            DType::F8E4M3FNUZ => OptcDtype::F8e4m3fnuz,
            DType::F8E5M2 => OptcDtype::F8e5m2,
            DType::F8E5M2FNUZ => OptcDtype::F8e5m2fnuz,
            DType::F8E8M0FNU => OptcDtype::F8e8m0fnu,
            DType::F4E2M1FN => OptcDtype::F4e2m1fn,
        }
    }
}

/// The dtype of a number that the host gave; `None` for a number that is not one.
pub(crate) fn dtype_of(number: u32) -> Option<DType> {
    DType::ALL.iter().copied().find(|&dtype| OptcDtype::from(dtype) as u32 == number)
}
