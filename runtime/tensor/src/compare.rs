//! How far a tensor is from a reference: the figures of `optc compare` and of every differential test.

use crate::{DType, Tensor};

/// How far an element may be from its reference: by `atol + rtol · |expected|`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// The part that grows with the reference.
    pub rtol: f64,
    /// The part that does not.
    pub atol: f64,
}

impl Tolerance {
    /// What is asked of elements of a dtype where nothing else is said: for floats what the ONNX standard's own runner
    /// asks, but for `f16`, whose results may come from values that were not rounded in between.
    ///
    /// | dtype | `rtol` | `atol` | |
    /// |---|---|---|---|
    /// | `f64`, `f32` | 1e-3 | 1e-5 | |
    /// | `f16` | 2^-9 | 1e-5 | two units in the last place |
    /// | `bf16` | 2^-6 | 1e-5 | two units in the last place |
    /// | integers, `bool`, strings | 0 | 0 | equal |
    pub fn of(dtype: DType) -> Tolerance {
        match dtype {
            DType::BF16 => Tolerance { rtol: 1.0 / 64.0, atol: 1e-5 },
            DType::F16 => Tolerance { rtol: 1.0 / 512.0, atol: 1e-5 },
            dtype if dtype.is_float() => Tolerance { rtol: 1e-3, atol: 1e-5 },
            _ => Tolerance { rtol: 0.0, atol: 0.0 },
        }
    }
}

/// The distance between two tensors of one dtype and shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Largest absolute difference; NaN where exactly one side is NaN, zero where both are.
    pub max_abs: f64,
    /// Largest excess of `|a − b|` over `atol + rtol · |b|`: not above zero when all elements are within tolerance.
    pub excess: f64,
    /// Root of the mean squared difference.
    pub rmse: f64,
    /// Cosine of the angle between both as vectors; 1 where both are all zeros.
    pub cosine: f64,
    /// Signal to quantization noise in dB, `10 log₁₀(Σ b² / Σ (a − b)²)`; infinite for equal tensors.
    pub sqnr: f64,
    /// Largest distance in units in the last place, for `f32`, `f16` and `bf16`; the distance of the integers
    /// otherwise.
    pub ulp: f64,
    /// Largest minus smallest finite element of the reference; the largest magnitude where all are equal, such as a
    /// single one.
    pub range: f64,
}

impl Difference {
    /// Compares `found` with the reference `expected`; `None` when dtypes or shapes differ. Strings are equal or
    /// infinitely far.
    pub fn between(found: &Tensor, expected: &Tensor, rtol: f64, atol: f64) -> Option<Difference> {
        if found.dtype() != expected.dtype() || found.shape() != expected.shape() {
            return None;
        }
        if found.dtype() == DType::Str {
            return Some(Difference::of_equality(found == expected));
        }
        let (a, b) = (found.to_f64_vec(), expected.to_f64_vec());
        let mut d = Difference::of_equality(true);
        let (mut squares, mut dot, mut aa, mut bb) = (0.0, 0.0, 0.0, 0.0);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut excess = f64::NEG_INFINITY;
        for (&x, &y) in a.iter().zip(&b) {
            let same = x == y || (x.is_nan() && y.is_nan());
            let distance = if same { 0.0 } else { (x - y).abs() };
            if distance.is_nan() || distance > d.max_abs {
                d.max_abs = distance;
            }
            let over = if same { f64::NEG_INFINITY } else { distance - (atol + rtol * y.abs()) };
            excess = if over.is_nan() || (over == f64::INFINITY) { f64::INFINITY } else { excess.max(over) };
            d.ulp = d.ulp.max(if same { 0.0 } else { ulps(found.dtype(), x, y) });
            if x.is_finite() && y.is_finite() {
                squares += distance * distance;
                (dot, aa, bb) = (dot + x * y, aa + x * x, bb + y * y);
                (low, high) = (low.min(y), high.max(y));
            }
        }
        d.excess = excess;
        d.rmse = if a.is_empty() { 0.0 } else { (squares / a.len() as f64).sqrt() };
        d.cosine = if aa == bb && squares == 0.0 { 1.0 } else { dot / (aa.sqrt() * bb.sqrt()).max(f64::MIN_POSITIVE) };
        d.sqnr = if squares == 0.0 { f64::INFINITY } else { 10.0 * (bb / squares).log10() };
        d.range = if high > low {
            high - low
        } else if low.is_finite() {
            low.abs()
        } else {
            0.0
        };
        Some(d)
    }

    fn of_equality(equal: bool) -> Difference {
        let far = if equal { 0.0 } else { f64::INFINITY };
        let cosine = if equal { 1.0 } else { 0.0 };
        let excess = if equal { f64::NEG_INFINITY } else { f64::INFINITY };
        Difference { max_abs: far, excess, rmse: far, cosine, sqnr: f64::INFINITY, ulp: far, range: 0.0 }
    }

    /// True when every element is within the tolerance that the comparison was made with.
    pub fn within_tolerance(&self) -> bool {
        self.excess <= 0.0
    }
}

/// Units in the last place between two values that differ.
fn ulps(dtype: DType, x: f64, y: f64) -> f64 {
    if x.is_nan() || y.is_nan() {
        return f64::INFINITY;
    }
    let ordered = |bits: i64, sign: i64| if bits & sign != 0 { sign - bits } else { bits };
    let far = |a: i64, b: i64| a.abs_diff(b) as f64;
    match dtype {
        DType::F32 => {
            let of = |v: f64| ordered(i64::from((v as f32).to_bits()), 1 << 31);
            far(of(x), of(y))
        }
        DType::F16 => {
            let of = |v: f64| ordered(i64::from(half::f16::from_f64(v).to_bits()), 1 << 15);
            far(of(x), of(y))
        }
        DType::BF16 => {
            let of = |v: f64| ordered(i64::from(half::bf16::from_f64(v).to_bits()), 1 << 15);
            far(of(x), of(y))
        }
        DType::F64 => {
            let of = |v: f64| if v.is_sign_negative() { -(v.abs().to_bits() as i64) } else { v.to_bits() as i64 };
            far(of(x), of(y))
        }
        _ => (x - y).abs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f(values: &[f32]) -> Tensor {
        Tensor::from_slice(&[values.len()], values).unwrap()
    }

    #[test]
    fn equal_tensors_are_at_distance_zero() {
        let t = f(&[1.0, f32::NAN, f32::INFINITY, 0.0]);
        let d = Difference::between(&t, &t, 0.0, 0.0).unwrap();
        assert_eq!((d.max_abs, d.ulp, d.cosine, d.sqnr), (0.0, 0.0, 1.0, f64::INFINITY));
        assert!(d.within_tolerance());
    }

    #[test]
    fn neighbours_are_one_ulp_apart() {
        let d = Difference::between(&f(&[1.0]), &f(&[1.0 + f32::EPSILON]), 0.0, 0.0).unwrap();
        assert_eq!(d.ulp, 1.0);
        assert!(!d.within_tolerance());
        let d = Difference::between(&f(&[0.0]), &f(&[-f32::from_bits(1)]), 0.0, 0.0).unwrap();
        assert_eq!(d.ulp, 1.0);
    }

    #[test]
    fn nan_on_one_side_is_out_of_any_tolerance() {
        for (x, y) in [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::INFINITY, 1.0)] {
            let d = Difference::between(&f(&[x, 0.0]), &f(&[y, 0.0]), 1.0, 1.0).unwrap();
            assert!(!d.within_tolerance(), "{x} {y}: {d:?}");
        }
    }

    #[test]
    fn a_single_element_has_its_magnitude_for_a_range() {
        let range = |values: &[f32]| Difference::between(&f(values), &f(values), 0.0, 0.0).unwrap().range;
        assert_eq!((range(&[-3.0]), range(&[1.0, 3.0]), range(&[]), range(&[f32::NAN])), (3.0, 2.0, 0.0, 0.0));
    }

    #[test]
    fn neighbours_are_within_the_tolerance_of_their_dtype() {
        let pair = |dtype, values: [f64; 2]| values.map(|v| Tensor::from_f64(dtype, &[1], &[v]).unwrap());
        let within = |dtype, values| {
            let ([a, b], Tolerance { rtol, atol }) = (pair(dtype, values), Tolerance::of(dtype));
            Difference::between(&a, &b, rtol, atol).unwrap().within_tolerance()
        };
        let bf16 = [1.0 + 2.0 / 128.0, 1.0]; // two units in the last place
        assert!(within(DType::BF16, bf16) && !within(DType::F32, bf16) && !within(DType::F16, bf16));
        assert!(!within(DType::BF16, [1.0 + 3.0 / 128.0, 1.0]));
        assert!(within(DType::F16, [1.0 + 2.0 / 1024.0, 1.0]) && !within(DType::F16, [1.0 + 3.0 / 1024.0, 1.0]));
        assert!(within(DType::F32, [1000.5, 1000.0]) && !within(DType::I32, [5001.0, 5000.0]));
        assert!(within(DType::U8, [7.0, 7.0]) && !within(DType::U8, [8.0, 7.0]));
    }

    #[test]
    fn tolerance_is_relative_to_the_reference() {
        let d = Difference::between(&f(&[101.0]), &f(&[100.0]), 0.01, 0.001).unwrap();
        assert!(d.within_tolerance());
        let d = Difference::between(&f(&[101.1]), &f(&[100.0]), 0.01, 0.001).unwrap();
        assert!(!d.within_tolerance());
        assert!(Difference::between(&f(&[1.0]), &f(&[1.0, 2.0]), 0.0, 0.0).is_none());
    }
}
