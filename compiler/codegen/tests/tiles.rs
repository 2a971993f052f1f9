//! Every tile instruction through the emitter, against the interpreter; text round trips; accuracy of the functions.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_codegen::nest::{Access, Kernel, call};
use optc_codegen::testing::{bytes_of, floats_of, random_floats, run_jit};
use optc_codegen::tile::{Binary, Cmp, Count, Mem, Ptr, Reg, Shift, Tile, TileBuilder, Unary, parse_tile};

/// Runs a tile of (src, dst) through both, expects equal bytes, returns dst.
fn both(tile: Tile, src: &[u8], dst_bytes: usize) -> Vec<u8> {
    assert_eq!(parse_tile(&tile.to_string()).as_ref(), Ok(&tile));
    let mut kernel = Kernel::new("test", 1);
    let s = kernel.buf("src", src.len(), Access::Read);
    let d = kernel.buf("dst", dst_bytes, Access::ReadWrite);
    let t = kernel.tile(tile);
    kernel.body = vec![call(t, [s.at(0), d.at(0)])];
    let mut expected = vec![src.to_vec(), vec![7; dst_bytes]];
    let mut found = expected.clone();
    kernel.interpret(&mut expected).unwrap();
    run_jit(&kernel, &mut found).unwrap();
    assert_eq!(expected[1], found[1], "{kernel}");
    found.pop().unwrap()
}

fn map(src: &[f32], f: impl Fn(&mut TileBuilder, Reg) -> Reg) -> Vec<f32> {
    let mut b = TileBuilder::new("map", 4);
    let (s, d) = (b.ptr(), b.ptr());
    b.for_each(Count::Static(src.len() as u32 / 4), &[(s, 16), (d, 16)], &[], |b, p, _| {
        let x = b.load(Mem::F32, p[0], 0);
        let y = f(b, x);
        let y = if b.elem(y) == optc_codegen::tile::Elem::I32 { b.unary(Unary::AsFloat, y) } else { y };
        b.store(Mem::F32, p[1], 0, y);
        vec![]
    });
    floats_of(&both(b.finish(), &bytes_of(src), src.len() * 4))
}

fn numbers() -> Vec<f32> {
    let mut all = vec![0.0, -0.0, 1.0, -1.5, 2.5, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e9, -3e9, 1e-40, 0.5];
    all.extend(random_floats(500, 3).iter().map(|x| x * 50.0));
    all
}

#[test]
fn lane_operations_match_the_interpreter() {
    let src = numbers();
    use Unary::{Abs, Ceil, Floor, Nearest, Neg, Not, Sqrt, ToFloat, ToInt, Trunc};
    for op in [Neg, Abs, Floor, Ceil, Trunc, Nearest, ToInt] {
        map(&src, |b, x| b.unary(op, x));
    }
    map(&src, |b, x| {
        let x = b.unary(Abs, x);
        b.unary(Sqrt, x)
    });
    for op in [Neg, Abs, Not, ToFloat] {
        map(&src, |b, x| {
            let x = b.unary(Unary::AsInt, x);
            b.unary(op, x)
        });
    }
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max] {
        map(&src[12..], |b, x| {
            let y = b.f32(1.25);
            b.binary(op, x, y)
        });
    }
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Min, Binary::Max, Binary::And, Binary::Or, Binary::Xor] {
        map(&src, |b, x| {
            let (x, y) = (b.unary(Unary::AsInt, x), b.i32(-77_777));
            b.binary(op, x, y)
        });
    }
    for op in [Shift::Left, Shift::Logical, Shift::Arithmetic] {
        map(&src, |b, x| {
            let x = b.unary(Unary::AsInt, x);
            b.shift(op, x, 5)
        });
    }
    for op in [Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge] {
        map(&src, |b, x| {
            let y = b.f32(1.0);
            let mask = b.cmp(op, x, y);
            b.select(mask, y, x)
        });
    }
    for op in [Binary::Add, Binary::Mul, Binary::Min, Binary::Max] {
        map(&src[12..], |b, x| b.reduce(op, x));
    }
    map(&src, |b, x| {
        let y = b.f32(9.0);
        let z = b.fma(x, x, y);
        b.permute(z, y, &[7, 0, 2, 1])
    });
}

#[test]
fn partial_and_converted_memory_matches_the_interpreter() {
    let src: Vec<u8> = (0..128).map(|i| (i * 37) as u8).collect();
    for mem in [Mem::F32, Mem::I32, Mem::I64, Mem::U8, Mem::I8] {
        for n in 1..=4 {
            let mut b = TileBuilder::new("mem", 4);
            let (s, d) = (b.ptr(), b.ptr());
            let x = b.load_n(mem, s, 0, n);
            let y = b.load_strided(mem, s, 8, n, 24);
            let z = b.broadcast(mem, s, 8);
            b.store_n(mem, d, 0, n, x);
            b.store(Mem::of(mem.elem()), d, 32, y);
            b.store_strided(mem, d, 64, n, 16, z);
            b.store_n(mem, d, 128, n, y);
            both(b.finish(), &src, 160);
        }
    }
}

#[test]
fn nested_loops_and_loaded_pointers_match_the_interpreter() {
    let mut b = TileBuilder::new("nested", 4);
    let (s, d) = (b.ptr(), b.ptr());
    let zero = b.f32(0.0);
    let sum = b.for_each(Count::Static(3), &[(s, 4)], &[zero], |b, p, acc| {
        let row: Ptr = b.load_ptr(p[0], 0, s, d);
        b.for_each(Count::Static(2), &[(row, 16)], acc, |b, q, acc| {
            let x = b.load(Mem::F32, q[0], 0);
            vec![b.add(acc[0], x)]
        })
    });
    b.store(Mem::F32, d, 0, sum[0]);
    let mut src: Vec<u8> = [32i32, -1, 64, 0].iter().flat_map(|o| o.to_le_bytes()).collect();
    src.extend(bytes_of(&random_floats(60, 1)));
    both(b.finish(), &src, 32);
}

/// The error function from its Maclaurin series near zero, else from the continued fraction of its complement.
fn erf(x: f64) -> f64 {
    if x > 2.5 {
        let fraction = (1..=60).rev().fold(0.0, |f, k| f64::from(k) / 2.0 / (x + f));
        return 1.0 - (-x * x).exp() / (std::f64::consts::PI.sqrt() * (x + fraction));
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..80 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

#[test]
fn functions_are_accurate() {
    let src: Vec<f32> = (0..20_000).map(|i| (i as f32 - 10_000.0) / 100.0).collect();
    let worst = |found: &[f32], exact: fn(f64) -> f64, ulp: bool| {
        let errors = src.iter().zip(found).map(|(&x, &y)| {
            let want = exact(f64::from(x));
            if want == f64::from(y) || want.abs() < 1.7e-38 || want > 3.4e38 {
                return 0.0;
            }
            (f64::from(y) - want).abs() / if ulp { want.abs() * 2f64.powi(-24) } else { 1.0 }
        });
        errors.fold(0.0, f64::max)
    };
    let exp = worst(&map(&src, TileBuilder::exp), f64::exp, true);
    assert!(exp < 4.0, "exp {exp}");
    let tanh = worst(&map(&src, TileBuilder::tanh), f64::tanh, true);
    assert!(tanh < 10.0, "tanh {tanh}");
    let sigmoid = worst(&map(&src, TileBuilder::sigmoid), |x| 1.0 / (1.0 + (-x).exp()), true);
    assert!(sigmoid < 8.0, "sigmoid {sigmoid}");
    let exp_m1 = worst(&map(&src, TileBuilder::exp_m1), f64::exp_m1, true);
    assert!(exp_m1 < 8.0, "exp_m1 {exp_m1}");
    let sin = worst(&map(&src, TileBuilder::sin), f64::sin, true);
    let cos = worst(&map(&src, TileBuilder::cos), f64::cos, true);
    assert!(sin < 4.0 && cos < 4.0, "sin {sin} cos {cos}");
    let bits = |from: f32, to: f32, n: u32| -> Vec<f32> {
        let step = (to.to_bits() - from.to_bits()) / n;
        (0..n).map(|i| f32::from_bits(from.to_bits() + i * step)).collect()
    };
    let ulps = |src: &[f32], found: &[f32], exact: fn(f64) -> f64| {
        let ulp = |want: f64| f64::from((want as f32).abs()).max(1e-38) * 2f64.powi(-24);
        let errors =
            src.iter().zip(found).map(|(&x, &y)| (f64::from(y) - exact(x.into())).abs() / ulp(exact(x.into())));
        errors.fold(0.0, f64::max)
    };
    let positive = bits(1e-44, f32::MAX, 20_000);
    let log = ulps(&positive, &map(&positive, TileBuilder::log), f64::ln);
    assert!(log < 4.0, "log {log}");
    let unit = bits(1e-30, 1.0, 10_000);
    let erf = ulps(&bits(1e-30, 4.0, 10_000), &map(&bits(1e-30, 4.0, 10_000), TileBuilder::erf), erf);
    assert!(erf < 10.0, "erf {erf}");
    let log_1p = ulps(&unit, &map(&unit, TileBuilder::log_1p), f64::ln_1p);
    assert!(log_1p < 4.0, "log_1p {log_1p}");
    let wide = bits(1.0, 2e6, 20_000);
    let sin = ulps(&wide, &map(&wide, TileBuilder::sin), f64::sin);
    let cos = ulps(&wide, &map(&wide, TileBuilder::cos), f64::cos);
    assert!(sin < 4.0 && cos < 4.0, "sin {sin} cos {cos}");
    let special = map(&[f32::NAN, -1.0, 0.0, f32::INFINITY], TileBuilder::log);
    assert!(
        special[0].is_nan() && special[1].is_nan() && special[2] == f32::NEG_INFINITY && special[3] == f32::INFINITY
    );
    let special = map(&[f32::NAN, f32::NEG_INFINITY, -0.0, f32::INFINITY], TileBuilder::exp_m1);
    assert!(special[0].is_nan() && special[1] == -1.0 && special[2] == 0.0 && special[3] == f32::INFINITY);
    for f in [TileBuilder::tanh, TileBuilder::erf] {
        let special = map(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0], f);
        assert!(special[0].is_nan() && special[1] == 1.0 && special[2] == -1.0 && special[3].to_bits() == 1 << 31);
    }
    let special = map(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 89.0], TileBuilder::exp);
    assert!(special[0].is_nan() && special[1] == f32::INFINITY && special[2] == 0.0 && special[3] == f32::INFINITY);
}
