//! Every code, every `f16`, and the neighbours of every boundary, against the list of values that the OCP and ONNX
//! documents give.

use half::f16;

use super::*;

const ALL: [DType; 6] =
    [DType::F8E4M3FN, DType::F8E4M3FNUZ, DType::F8E5M2, DType::F8E5M2FNUZ, DType::F8E8M0FNU, DType::F4E2M1FN];

fn codes(dtype: DType) -> impl Iterator<Item = u8> {
    (0..1u32 << dtype.bits()).map(|code| code as u8)
}

/// The numbers of a dtype in rising order, with their codes; of the zeros the positive one.
fn numbers(dtype: DType) -> Vec<(f64, u8)> {
    let mut numbers: Vec<(f64, u8)> = codes(dtype).map(|code| (dtype.small_float_value(code), code)).collect();
    numbers.retain(|(v, _)| v.is_finite() && (*v != 0.0 || v.is_sign_positive()));
    numbers.sort_by(|a, b| a.0.total_cmp(&b.0));
    numbers
}

fn to_code(dtype: DType, v: f64) -> u8 {
    dtype.small_float_code(v, Overflow::Saturates, Rounding::Nearest)
}

/// The nearest number by search: of two the one with the even code, or for powers of two the larger one.
fn searched(dtype: DType, numbers: &[(f64, u8)], v: f64) -> f64 {
    let v = if dtype == DType::F8E8M0FNU { v.abs() } else { v };
    let at = numbers.partition_point(|(number, _)| *number <= v);
    let (Some(low), Some(high)) = (at.checked_sub(1).map(|at| numbers[at]), numbers.get(at)) else {
        return numbers[at.min(numbers.len() - 1)].0;
    };
    let (below, above) = (v - low.0, high.0 - v);
    let takes_low = below < above || (below == above && low.1 % 2 == 0 && dtype != DType::F8E8M0FNU);
    if takes_low { low.0 } else { high.0 }
}

#[test]
fn the_named_codes_mean_what_the_documents_say() {
    let table = [
        (DType::F8E4M3FN, 0x7e, 448.0),
        (DType::F8E4M3FN, 0x08, 2f64.powi(-6)),
        (DType::F8E4M3FN, 0x01, 2f64.powi(-9)),
        (DType::F8E4M3FNUZ, 0x7f, 240.0),
        (DType::F8E4M3FNUZ, 0x08, 2f64.powi(-7)),
        (DType::F8E4M3FNUZ, 0x01, 2f64.powi(-10)),
        (DType::F8E5M2, 0x7b, 57344.0),
        (DType::F8E5M2, 0x7c, f64::INFINITY),
        (DType::F8E5M2, 0xfc, f64::NEG_INFINITY),
        (DType::F8E5M2, 0x01, 2f64.powi(-16)),
        (DType::F8E5M2FNUZ, 0x7f, 57344.0),
        (DType::F8E5M2FNUZ, 0x01, 2f64.powi(-17)),
        (DType::F8E8M0FNU, 0, 2f64.powi(-127)),
        (DType::F8E8M0FNU, 127, 1.0),
        (DType::F8E8M0FNU, 254, 2f64.powi(127)),
    ];
    for (dtype, code, value) in table {
        assert_eq!(dtype.small_float_value(code), value, "{dtype} {code:#x}");
    }
    let nibbles = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    for (code, value) in (0u8..).zip(nibbles) {
        assert_eq!(DType::F4E2M1FN.small_float_value(code), value);
        assert_eq!(DType::F4E2M1FN.small_float_value(code | 8), -value);
    }
    let nans = |dtype| codes(dtype).filter(|&code| dtype.small_float_value(code).is_nan()).collect::<Vec<_>>();
    assert_eq!(nans(DType::F8E4M3FN), [0x7f, 0xff]);
    assert_eq!(nans(DType::F8E5M2), [0x7d, 0x7e, 0x7f, 0xfd, 0xfe, 0xff]);
    assert_eq!(nans(DType::F8E4M3FNUZ), [0x80]);
    assert_eq!(nans(DType::F8E5M2FNUZ), [0x80]);
    assert_eq!(nans(DType::F8E8M0FNU), [0xff]);
    assert_eq!(nans(DType::F4E2M1FN), []);
}

#[test]
fn binary16_agrees_with_its_upper_half() {
    for code in 0..=255u8 {
        let (half, value) = (f16::from_bits(u16::from(code) << 8).to_f64(), DType::F8E5M2.small_float_value(code));
        assert!(half == value || half.is_nan() && value.is_nan(), "{code:#x}");
    }
}

#[test]
fn every_code_converts_to_its_value_and_back() {
    for dtype in ALL {
        for code in codes(dtype) {
            let value = dtype.small_float_value(code);
            if value.is_finite() {
                assert_eq!(to_code(dtype, value), code, "{dtype} {code:#x}");
            }
            let escaped = dtype.small_float_value(dtype.small_float_code(value, Overflow::Escapes, Rounding::Nearest));
            assert!(escaped == value || escaped.is_nan() && value.is_nan(), "{dtype} {code:#x}");
        }
    }
}

#[test]
fn every_f16_goes_to_the_nearest_number() {
    for dtype in ALL {
        let numbers = numbers(dtype);
        for bits in 0..=u16::MAX {
            let v = f16::from_bits(bits).to_f64();
            if v.is_nan() {
                continue;
            }
            let found = dtype.small_float_value(to_code(dtype, v));
            assert_eq!(found, searched(dtype, &numbers, v), "{dtype} {v}");
        }
    }
}

#[test]
fn boundaries_are_met_by_a_hair() {
    for dtype in ALL {
        let numbers = numbers(dtype);
        for pair in numbers.windows(2) {
            let middle = (pair[0].0 + pair[1].0) / 2.0;
            for v in [middle, middle.next_up(), middle.next_down(), pair[0].0.next_up(), pair[1].0.next_down()] {
                let found = dtype.small_float_value(to_code(dtype, v));
                assert_eq!(found, searched(dtype, &numbers, v), "{dtype} {v:e}");
            }
            let middle = middle as f32;
            for v in [middle, middle.next_up(), middle.next_down()] {
                let found = dtype.small_float_value(to_code(dtype, f64::from(v)));
                assert_eq!(found, searched(dtype, &numbers, f64::from(v)), "{dtype} {v:e}");
            }
        }
    }
}

/// The rows of ONNX's tables: what NaN, infinity, and what rounds to more than the largest number become.
#[test]
fn what_does_not_fit_follows_the_tables() {
    let code = |dtype: DType, v, overflow| dtype.small_float_code(v, overflow, Rounding::Nearest);
    let both = |dtype, v| [code(dtype, v, Overflow::Saturates), code(dtype, v, Overflow::Escapes)];
    for (dtype, largest, escaped, nan, negative) in [
        (DType::F8E4M3FN, 0x7e, 0x7f, 0x7f, 0x80),
        (DType::F8E5M2, 0x7b, 0x7c, 0x7e, 0x80),
        (DType::F4E2M1FN, 0x07, 0x07, 0x08, 0x08),
    ] {
        for v in [f64::INFINITY, 1e300, 61440.0] {
            assert_eq!(both(dtype, v), [largest, escaped], "{dtype} {v}");
            assert_eq!(both(dtype, -v), [largest | negative, escaped | negative], "{dtype} -{v}");
        }
        assert_eq!(both(dtype, f64::NAN.copysign(1.0)), [nan; 2], "{dtype}");
        assert_eq!(both(dtype, -0.0), [negative; 2], "{dtype}");
    }
    for dtype in [DType::F8E4M3FNUZ, DType::F8E5M2FNUZ] {
        for v in [f64::INFINITY, 1e300, 61440.0] {
            assert_eq!(both(dtype, v), [0x7f, 0x80], "{dtype} {v}");
            assert_eq!(both(dtype, -v), [0xff, 0x80], "{dtype} -{v}");
        }
        assert_eq!([both(dtype, f64::NAN), both(dtype, -0.0), both(dtype, -1e-30)], [[0x80; 2], [0; 2], [0; 2]]);
    }
    // Less than half a step above the largest number is rounded to it.
    for (dtype, edge, largest) in [(DType::F8E4M3FN, 464.0f64, 0x7e), (DType::F8E5M2, 61440.0, 0x7b)] {
        assert_eq!(code(dtype, edge.next_down(), Overflow::Escapes), largest, "{dtype}");
        assert_ne!(code(dtype, edge.next_up(), Overflow::Escapes), largest, "{dtype}");
    }
}

#[test]
fn powers_of_two_round_as_they_are_told() {
    let code = |v, rounding| DType::F8E8M0FNU.small_float_code(v, Overflow::Saturates, rounding);
    for (v, nearest, up, down) in [
        (1.0, 127, 127, 127),
        (1.5, 128, 128, 127),
        (1.499, 127, 128, 127),
        (1.0f64.next_up(), 127, 128, 127),
        (2.0f64.next_down(), 128, 128, 127),
        (0.0, 0, 0, 0),
        (f64::INFINITY, 254, 254, 254),
        (1e39, 254, 254, 254),
        (2f64.powi(-128) * 1.5, 0, 0, 0),
    ] {
        let found = [Rounding::Nearest, Rounding::Up, Rounding::Down].map(|rounding| code(v, rounding));
        assert_eq!(found, [nearest, up, down], "{v}");
    }
    let escaped = |v, rounding| DType::F8E8M0FNU.small_float_code(v, Overflow::Escapes, rounding);
    assert_eq!([0.0, f64::INFINITY, f64::NAN, 1e39, 1e-39].map(|v| escaped(v, Rounding::Nearest)), [255; 5]);
    assert_eq!(code(f64::NAN, Rounding::Up), 255);
    // What rounds into the range is in it.
    assert_eq!([2f64.powi(-128) * 1.5, 2f64.powi(127)].map(|v| escaped(v, Rounding::Nearest)), [0, 254]);
}

/// FNV-1a of the codes that Python's `ml_dtypes` 0.6.0 gives for all `f16` but NaN, in the order of their bits:
/// `x.astype(np.float32).astype(dtype).view(np.uint8)`.
#[test]
fn codes_are_those_of_ml_dtypes() {
    let table = [
        (DType::F8E4M3FN, 0x427a_aebb_3ee1_dd63),
        (DType::F8E4M3FNUZ, 0x4e68_c3bc_ff07_e86d),
        (DType::F8E5M2, 0x6191_1f52_756e_0a25),
        (DType::F8E5M2FNUZ, 0x9b8f_c14b_6031_566d),
        (DType::F4E2M1FN, 0x1fb1_dba6_6200_138b),
    ];
    for (dtype, expected) in table {
        let halves = (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f64()).filter(|v| !v.is_nan());
        let codes = halves.map(|v| dtype.small_float_code(v, Overflow::Escapes, Rounding::Nearest));
        let step = |hash: u64, code: u8| (hash ^ u64::from(code)).wrapping_mul(0x0100_0000_01b3);
        assert_eq!(codes.fold(0xcbf2_9ce4_8422_2325, step), expected, "{dtype}");
    }
}
