//! Functions of one `f32` that expressions are composed of, on every target against `f64`: in units in the last place
//! over the whole range, and what they give for NaN, infinities, zeros and outside of where they are defined.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use std::f32::consts::{FRAC_PI_2, FRAC_PI_4};

use optc_kernel::expr::{Expr, Func};
use optc_kernel::space::ByteView;
use optc_kernel::tile::MemType;
use optc_kernels::elementwise::{Elementwise, elementwise};
use optc_testing::{all_isas, bytes_of, floats_of, run_here};

/// A function, its exact value, and how many units in the last place it may be away from it.
type Row = (&'static str, fn(Expr) -> Expr, fn(f64) -> f64, f64);

const FUNCTIONS: &[Row] = &[
    ("asin", |x| x.func(Func::Asin), f64::asin, 3.0),
    ("acos", |x| x.func(Func::Acos), f64::acos, 2.0),
    ("atan", |x| x.func(Func::Atan), f64::atan, 2.0),
    ("sinh", Expr::sinh, f64::sinh, 6.0),
    ("cosh", Expr::cosh, f64::cosh, 6.0),
    ("asinh", Expr::asinh, asinh, 5.0),
    ("acosh", Expr::acosh, acosh, 5.0),
    ("atanh", Expr::atanh, atanh, 5.0),
];

/// The functions of the standard library lose digits near zero, and near 1.
fn asinh(x: f64) -> f64 {
    let a = x.abs();
    (a + a * a / (1.0 + a.hypot(1.0))).ln_1p().copysign(x)
}

fn acosh(x: f64) -> f64 {
    if x < 1.0 {
        return f64::NAN;
    }
    let above = x - 1.0;
    (above + (above * (x + 1.0)).sqrt()).ln_1p()
}

fn atanh(x: f64) -> f64 {
    ((2.0 * x) / (1.0 - x)).ln_1p() / 2.0
}

/// The function of each value, on every target, which must agree.
fn map(f: fn(Expr) -> Expr, src: &[f32]) -> Vec<f32> {
    let view = || ByteView::dense(MemType::F32, &[src.len()]);
    let p =
        Elementwise { shape: vec![src.len()], operands: vec![view()], results: vec![(view(), f(Expr::Operand(0)))] };
    let run = |isa| {
        let mut buffers = vec![bytes_of(src), vec![0; 4 * src.len()]];
        run_here(&elementwise(&p, isa), &mut buffers).unwrap();
        floats_of(&buffers[1])
    };
    let mut all: Vec<Vec<f32>> = all_isas().into_iter().map(run).collect();
    let bits = |v: &[f32]| v.iter().map(|v| if v.is_nan() { u32::MAX } else { v.to_bits() }).collect::<Vec<_>>();
    all.windows(2).for_each(|pair| assert_eq!(bits(&pair[0]), bits(&pair[1]), "targets disagree"));
    all.swap_remove(0)
}

/// Floats of both signs, evenly by their bits, from the smallest normal one to infinity, and those around 1.
fn floats() -> Vec<f32> {
    let (from, to) = (f32::MIN_POSITIVE.to_bits(), f32::INFINITY.to_bits());
    let spread = (0..60_000u64).map(|i| from + (u64::from(to - from) * i / 60_000) as u32);
    let dense = (0..40_000).map(|i| 0.001f32.to_bits() + i * ((100f32.to_bits() - 0.001f32.to_bits()) / 40_000));
    let near = (0..2_000).map(|i| 1f32.to_bits() - 1_000 + i);
    let positive: Vec<f32> = spread.chain(dense).chain(near).map(f32::from_bits).collect();
    positive.iter().copied().chain(positive.iter().map(|v| -v)).collect()
}

#[test]
fn functions_are_accurate_over_the_whole_range() {
    let src = floats();
    for (name, f, exact, bound) in FUNCTIONS {
        let mut worst = (0.0, 0.0);
        for (x, y) in src.iter().zip(map(*f, &src)) {
            let want = exact(f64::from(*x));
            let rounded = want as f32;
            if want.is_nan() || rounded.is_infinite() {
                let same = if want.is_nan() { y.is_nan() } else { y == rounded || (y.is_infinite() || y > 3.4e38) };
                assert!(same || y.abs() > 3.4e38, "{name}({x:e}) is {y:e}, expected {want:e}");
                continue;
            }
            let unit = f64::from(rounded.abs().max(f32::MIN_POSITIVE)) * 2f64.powi(-24);
            let error = (f64::from(y) - want).abs() / unit;
            worst = if error <= worst.0 { worst } else { (error, f64::from(*x)) };
        }
        // A unit of the reference's size is half of one to one in the last place.
        assert!(worst.0 <= 2.0 * bound, "{name} is {} half units off at {:e}", worst.0, worst.1);
    }
}

/// Sine and cosine of phases of any length: times in seconds, positions of long signals.
#[test]
fn angles_of_any_size_are_reduced() {
    let src: Vec<f32> = floats().into_iter().filter(|v| v.is_finite()).collect();
    for (name, f, exact) in [("sin", Func::Sin, f64::sin as fn(f64) -> f64), ("cos", Func::Cos, f64::cos)] {
        let found = match f {
            Func::Sin => map(|x| x.func(Func::Sin), &src),
            _ => map(|x| x.func(Func::Cos), &src),
        };
        for (x, y) in src.iter().zip(found) {
            let want = exact(f64::from(*x));
            // Two units in the last place of the result below 2^21, and 1e-6 of the largest beyond.
            let allowed = if x.abs() <= 2_097_152.0 { 2.5e-7 * want.abs().max(1e-30) } else { 1e-6 };
            assert!((f64::from(y) - want).abs() <= allowed, "{name}({x:e}) is {y:e}, expected {want:e}");
        }
    }
}

#[test]
fn special_values_are_those_of_the_functions() {
    let (nan, inf, half_pi, eighth) = (f32::NAN, f32::INFINITY, FRAC_PI_2, FRAC_PI_4);
    let src = [nan, inf, -inf, 0.0, -0.0, 1.0, -1.0, 2.0, -2.0];
    let expected: [(&str, [f32; 9]); 8] = [
        ("asin", [nan, nan, nan, 0.0, -0.0, half_pi, -half_pi, nan, nan]),
        ("acos", [nan, nan, nan, half_pi, half_pi, 0.0, std::f32::consts::PI, nan, nan]),
        ("atan", [nan, half_pi, -half_pi, 0.0, -0.0, eighth, -eighth, 1.107_148_8, -1.107_148_8]),
        ("sinh", [nan, inf, -inf, 0.0, -0.0, 1.175_201_2, -1.175_201_2, 3.626_860_4, -3.626_860_4]),
        ("cosh", [nan, inf, inf, 1.0, 1.0, 1.543_080_7, 1.543_080_7, 3.762_195_6, 3.762_195_6]),
        ("asinh", [nan, inf, -inf, 0.0, -0.0, 0.881_373_6, -0.881_373_6, 1.443_635_5, -1.443_635_5]),
        ("acosh", [nan, inf, nan, nan, nan, 0.0, nan, 1.316_958, nan]),
        ("atanh", [nan, nan, nan, 0.0, -0.0, inf, -inf, nan, nan]),
    ];
    for ((name, want), (_, f, ..)) in expected.iter().zip(FUNCTIONS) {
        for ((x, y), want) in src.iter().zip(map(*f, &src)).zip(want) {
            let same = match want {
                w if w.is_nan() => y.is_nan(),
                w if *w == 0.0 || w.is_infinite() => y.to_bits() == w.to_bits(),
                w => (y - w).abs() <= 2e-6 * w.abs(),
            };
            assert!(same, "{name}({x}) is {y}, expected {want}");
        }
    }
}
