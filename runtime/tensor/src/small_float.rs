//! Floats of a byte or less: what their codes mean, and the code that is nearest to a real number.
//!
//! They are for storage: ops move them, and convert them from and to the floats that are computed with. Conversion is
//! exact and rounds once, from `f64`, in which all of their values and all ties between two of them lie. The tables for
//! values out of range are those of ONNX's `Cast`.

use crate::DType;

/// What becomes of values that a dtype has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Overflow {
    /// The largest value of the sign; for `f8E8M0FNU`, which has no zero, also the smallest one.
    Saturates,
    /// Infinity where the dtype has it, else NaN where the dtype has that.
    Escapes,
}

/// To which of two neighbours values between them go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rounding {
    /// The nearest; of two that are equally near the even one, and for `f8E8M0FNU` the larger one.
    Nearest,
    /// The one that is farther from zero.
    Up,
    /// The one that is nearer to zero.
    Down,
}

/// Which codes are not numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Specials {
    /// The largest exponent is infinity and NaN, as in IEEE 754.
    Ieee,
    /// The largest code of either sign is NaN.
    LargestIsNan,
    /// The code that would be negative zero is NaN.
    NegativeZeroIsNan,
    /// Every code is a number.
    Absent,
}

/// Sign, exponent and mantissa, from the highest bit to the lowest; subnormal where the exponent is zero.
struct Format {
    mantissa_bits: u32,
    exponent_bits: u32,
    bias: i32,
    specials: Specials,
}

impl Format {
    fn of(dtype: DType) -> Option<Format> {
        let (exponent_bits, mantissa_bits, bias, specials) = match dtype {
            DType::F8E4M3FN => (4, 3, 7, Specials::LargestIsNan),
            DType::F8E4M3FNUZ => (4, 3, 8, Specials::NegativeZeroIsNan),
            DType::F8E5M2 => (5, 2, 15, Specials::Ieee),
            DType::F8E5M2FNUZ => (5, 2, 16, Specials::NegativeZeroIsNan),
            DType::F4E2M1FN => (2, 1, 1, Specials::Absent),
            _ => return None,
        };
        Some(Format { mantissa_bits, exponent_bits, bias, specials })
    }

    fn sign(&self) -> u8 {
        1 << (self.exponent_bits + self.mantissa_bits)
    }

    /// The code of the largest number.
    fn largest(&self) -> u8 {
        let magnitudes = self.sign() - 1;
        match self.specials {
            Specials::Ieee => magnitudes - (1 << self.mantissa_bits),
            Specials::LargestIsNan => magnitudes - 1,
            Specials::NegativeZeroIsNan | Specials::Absent => magnitudes,
        }
    }

    /// NaN with the sign of `sign`, if there is one.
    fn nan(&self, sign: u8) -> Option<u8> {
        match self.specials {
            // The quiet one: the highest bit of the mantissa is set.
            Specials::Ieee => Some(sign | (self.largest() + 1) | 1 << (self.mantissa_bits - 1)),
            Specials::LargestIsNan => Some(sign | (self.sign() - 1)),
            Specials::NegativeZeroIsNan => Some(self.sign()),
            Specials::Absent => None,
        }
    }

    fn value(&self, code: u8) -> f64 {
        let (magnitude, negative) = (code & (self.sign() - 1), code & self.sign() != 0);
        let value = if self.specials == Specials::NegativeZeroIsNan && code == self.sign() {
            f64::NAN
        } else if magnitude > self.largest() {
            let infinite = self.specials == Specials::Ieee && magnitude == self.largest() + 1;
            if infinite { f64::INFINITY } else { f64::NAN }
        } else {
            let (exponent, mantissa) = (magnitude >> self.mantissa_bits, magnitude & ((1 << self.mantissa_bits) - 1));
            let hidden = if exponent == 0 { 0 } else { 1 << self.mantissa_bits };
            f64::from(hidden + mantissa) * self.step(i32::from(exponent.max(1)))
        };
        if negative { -value } else { value }
    }

    /// The distance of the values with this biased exponent.
    fn step(&self, exponent: i32) -> f64 {
        power_of_two(exponent - self.bias - self.mantissa_bits as i32)
    }

    fn code(&self, v: f64, overflow: Overflow) -> u8 {
        let sign = if v.is_sign_negative() { self.sign() } else { 0 };
        let out_of_range = match (overflow, self.specials) {
            (Overflow::Saturates, _) | (_, Specials::Absent) => sign | self.largest(),
            (Overflow::Escapes, Specials::Ieee) => sign | (self.largest() + 1),
            (Overflow::Escapes, _) => self.nan(sign).unwrap_or(sign | self.largest()),
        };
        if v.is_nan() {
            // Where there is none, ONNX's tests have the zero of the other sign, as `ml_dtypes` does.
            return self.nan(sign).unwrap_or(sign ^ self.sign());
        }
        // The biased exponent; values below the smallest normal one have its step.
        let exponent = (exponent_of(v) + self.bias).max(1);
        if exponent >= 1 << self.exponent_bits {
            return out_of_range;
        }
        // A power of two divides without rounding, and a carry of the mantissa goes to the exponent.
        let steps = (v.abs() / self.step(exponent)).round_ties_even() as u32;
        let code = ((exponent as u32 - 1) << self.mantissa_bits) + steps;
        match code {
            0 if self.specials == Specials::NegativeZeroIsNan => 0,
            code if code > u32::from(self.largest()) => out_of_range,
            code => sign | code as u8,
        }
    }
}

/// `2^exponent`, which is a normal `f64`.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// The exponent of a number: `2^e ≤ |v| < 2^(e + 1)`; below all others for subnormal ones and zero, above all others
/// for infinity.
fn exponent_of(v: f64) -> i32 {
    (v.to_bits() >> 52 & 0x7ff) as i32 - 1023
}

/// The bias of `f8E8M0FNU`, whose code is an exponent.
const E8M0_BIAS: i32 = 127;
const E8M0_NAN: u8 = 255;

/// The power of two that stands for `v`, whose sign is lost.
fn exponent_code(v: f64, overflow: Overflow, rounding: Rounding) -> u8 {
    if v.is_nan() {
        return E8M0_NAN;
    }
    let (lower, mantissa) = (exponent_of(v) + E8M0_BIAS, v.to_bits() & ((1 << 52) - 1));
    let up = match rounding {
        Rounding::Nearest => mantissa >= 1 << 51,
        Rounding::Up => mantissa != 0,
        Rounding::Down => false,
    };
    match lower + i32::from(up) {
        code @ 0..=254 => code as u8,
        _ if overflow == Overflow::Escapes => E8M0_NAN,
        code if code < 0 => 0,
        _ => E8M0_NAN - 1,
    }
}

impl DType {
    /// The code of a small float that stands for `v`: in the low bits. Only `f8E8M0FNU` asks how to round, all others
    /// are rounded to nearest, ties to even. 0 for dtypes that are not small floats.
    pub fn small_float_code(self, v: f64, overflow: Overflow, rounding: Rounding) -> u8 {
        match Format::of(self) {
            Some(format) => format.code(v, overflow),
            None if self == DType::F8E8M0FNU => exponent_code(v, overflow, rounding),
            None => 0,
        }
    }

    /// What a code of a small float means; NaN for dtypes that are not small floats.
    pub fn small_float_value(self, code: u8) -> f64 {
        match Format::of(self) {
            Some(format) => format.value(code),
            None if self == DType::F8E8M0FNU && code != E8M0_NAN => power_of_two(i32::from(code) - E8M0_BIAS),
            None => f64::NAN,
        }
    }
}

#[cfg(test)]
mod tests;
