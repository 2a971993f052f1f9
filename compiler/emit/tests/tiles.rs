//! Every tile instruction through the emitters of all targets that this machine has, against the interpreter; text
//! round trips; accuracy of the functions.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_kernel::nest::{Access, Kernel, call};
use optc_kernel::tile::{
    Binary, Cmp, Count, Mat, MemType, Ptr, Reg, Shift, Tile, TileBuilder, TileProduct, Unary, parse_tile,
};
use optc_tensor::f16;
use optc_testing::{all_isas, bytes_of, floats_of, random_floats, run_here};

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
    run_here(&kernel, &mut found).unwrap();
    assert_eq!(expected[1], found[1], "{kernel}");
    found.pop().unwrap()
}

/// The vectors of all targets.
fn widths() -> Vec<usize> {
    let mut all: Vec<_> = all_isas().into_iter().map(|isa| isa.lanes()).collect();
    all.dedup();
    all
}

fn map(src: &[f32], f: impl Fn(&mut TileBuilder, Reg) -> Reg) -> Vec<f32> {
    widths().into_iter().map(|lanes| map_at(lanes, src, &f)).last().unwrap()
}

fn map_at(lanes: usize, src: &[f32], f: impl Fn(&mut TileBuilder, Reg) -> Reg) -> Vec<f32> {
    let mut padded = src.to_vec();
    padded.resize(src.len().next_multiple_of(lanes), 1.0);
    let mut b = TileBuilder::new("map", lanes);
    let (s, d) = (b.ptr(), b.ptr());
    let step = 4 * lanes as i64;
    b.for_each(Count::Static((padded.len() / lanes) as u32), &[(s, step), (d, step)], &[], |b, p, _| {
        let x = b.load(MemType::F32, p[0], 0);
        let y = f(b, x);
        let y = if b.elem(y) == optc_kernel::tile::Elem::I32 { b.unary(Unary::AsFloat, y) } else { y };
        b.store(MemType::F32, p[1], 0, y);
        vec![]
    });
    let mut found = floats_of(&both(b.finish(), &bytes_of(&padded), padded.len() * 4));
    found.truncate(src.len());
    found
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
        let lanes: Vec<u8> = (0..b.lanes()).map(|l| (l * 7 + 3) as u8 % (2 * b.lanes() as u8)).collect();
        b.permute(z, y, &lanes)
    });
}

#[test]
fn permutations_match_the_interpreter() {
    for lanes in widths() {
        let all = 2 * lanes as u8;
        let within = |of: [u8; 4]| -> Vec<u8> {
            let lane = |i: usize| (i / 4 * 4) as u8 + of[i % 4] % 4 + of[i % 4] / 4 * lanes as u8;
            (0..lanes).map(lane).collect()
        };
        let mut list: Vec<Vec<u8>> = vec![
            within([0, 4, 1, 5]),
            within([2, 6, 3, 7]),
            within([4, 0, 5, 1]),
            within([0, 1, 4, 5]),
            within([6, 7, 2, 3]),
            within([3, 2, 1, 0]),
            within([0, 5, 2, 7]),
            (0..all / 2).collect(),
            (all / 2..all).collect(),
            vec![0; lanes],
            vec![lanes as u8 - 1; lanes],
            (0..lanes).map(|i| ((i / 2 * 2 + 2) % lanes + i % 2) as u8).collect(),
            (0..lanes).map(|i| ((i + lanes / 2) % (2 * lanes)) as u8).collect(),
            (0..lanes).map(|i| (if i < lanes / 2 { i } else { i + lanes / 2 }) as u8).collect(),
        ];
        let mut state = 12345u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8 % all
        };
        list.extend((0..40).map(|_| (0..lanes).map(|_| random()).collect()));
        for pick in list {
            map_at(lanes, &random_floats(64, 5), |b, x| {
                let y = b.unary(Unary::Neg, x);
                b.permute(x, y, &pick)
            });
        }
    }
}

#[test]
fn partial_and_converted_memory_matches_the_interpreter() {
    let src: Vec<u8> = (0..512).map(|i| (i * 37) as u8).collect();
    for (lanes, mem) in widths()
        .into_iter()
        .flat_map(|l| [MemType::F32, MemType::I32, MemType::I64, MemType::U8, MemType::I8].map(|m| (l, m)))
    {
        for (n, stride) in (1..=lanes).flat_map(|n| [(n, 24), (n, 8), (n, 9)]) {
            let mut b = TileBuilder::new("mem", lanes);
            let (s, d) = (b.ptr(), b.ptr());
            let x = b.load_n(mem, s, 512 - n as i64 * mem.bytes(), n);
            let y = b.load_strided(mem, s, 512 - mem.bytes() - stride * (n as i64 - 1), n, stride);
            let z = b.broadcast(mem, s, 8);
            b.store_n(mem, d, 0, n, x);
            b.store(MemType::of(mem.elem()), d, 64, y);
            b.store_strided(mem, d, 128, n, stride, z);
            b.store_n(mem, d, 1024 - n as i64 * mem.bytes(), n, y);
            both(b.finish(), &src, 1024);
        }
    }
}

#[test]
fn nested_loops_and_loaded_pointers_match_the_interpreter() {
    for lanes in widths() {
        let mut b = TileBuilder::new("nested", lanes);
        let (s, d) = (b.ptr(), b.ptr());
        let zero = b.f32(0.0);
        let sum = b.for_each(Count::Static(3), &[(s, 4)], &[zero], |b, p, acc| {
            let row: Ptr = b.load_ptr(p[0], 0, s, d);
            b.for_each(Count::Static(2), &[(row, 16)], acc, |b, q, acc| {
                let x = b.load(MemType::F32, q[0], 0);
                vec![b.add(acc[0], x)]
            })
        });
        b.store(MemType::F32, d, 0, sum[0]);
        let mut src: Vec<u8> = [32i32, -1, 64, 0].iter().flat_map(|o| o.to_le_bytes()).collect();
        src.extend(bytes_of(&random_floats(60, 1)));
        both(b.finish(), &src, 128);
    }
}

/// A random program: values of both kinds, loops that carry some of them, more of them alive than there are registers.
struct Program {
    state: u64,
    floats: Vec<Reg>,
    ints: Vec<Reg>,
    ptrs: Vec<Ptr>,
    dst: Ptr,
    stored: i64,
}

impl Program {
    fn below(&mut self, n: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 33) as usize % n
    }

    fn float(&mut self) -> Reg {
        let i = self.below(self.floats.len());
        self.floats[i]
    }

    fn int(&mut self) -> Reg {
        let i = self.below(self.ints.len());
        self.ints[i]
    }

    /// One of the first pointers.
    fn ptr(&mut self, first: usize) -> Ptr {
        let i = self.below(self.ptrs.len().min(first));
        self.ptrs[i]
    }

    /// Within bounds, so that there is no NaN whose sign could differ.
    fn bounded(&mut self, b: &mut TileBuilder, x: Reg) {
        let (low, high) = (b.f32(-900.0), b.f32(900.0));
        let x = b.max(x, low);
        let x = b.min(x, high);
        self.floats.push(x);
    }

    fn step(&mut self, b: &mut TileBuilder) {
        let (x, y, z) = (self.float(), self.float(), self.float());
        let (i, j) = (self.int(), self.int());
        let lanes = b.lanes();
        match self.below(13) {
            0 | 1 => {
                let sum = b.fma(x, y, z);
                self.bounded(b, sum);
            }
            2 => {
                let op = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Min, Binary::Max][self.below(5)];
                let value = b.binary(op, x, y);
                self.bounded(b, value);
            }
            3 => {
                let op = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Xor, Binary::Min, Binary::Max][self.below(6)];
                let value = b.binary(op, i, j);
                self.ints.push(value);
            }
            4 => {
                let value = b.unary([Unary::Neg, Unary::Abs, Unary::Nearest, Unary::Floor][self.below(4)], x);
                self.floats.push(value);
            }
            5 => {
                let value = b.unary(Unary::ToInt, x);
                self.ints.push(value);
            }
            6 => {
                let op = [Cmp::Eq, Cmp::Lt, Cmp::Ge, Cmp::Ne][self.below(4)];
                let mask = if self.below(2) == 0 { b.cmp(op, x, y) } else { b.cmp(op, i, j) };
                let value = b.select(mask, y, z);
                self.floats.push(value);
                self.ints.push(mask);
            }
            7 => {
                let pick: Vec<u8> = (0..lanes).map(|_| self.below(2 * lanes) as u8).collect();
                let value = b.permute(x, y, &pick);
                self.floats.push(value);
            }
            8 => {
                let value = b.reduce([Binary::Max, Binary::Min][self.below(2)], x);
                self.floats.push(value);
            }
            9 | 10 => {
                let ptr = self.ptr(usize::MAX);
                let (n, at) = (1 + self.below(lanes), 4 * self.below(8) as i64);
                let value = match self.below(4) {
                    0 => b.load_n(MemType::F32, ptr, at, n),
                    1 => b.broadcast(MemType::F32, ptr, at),
                    _ => b.load(MemType::F32, ptr, at),
                };
                self.floats.push(value);
            }
            11 => {
                let constant = self.below(50) as f32;
                let value = b.f32(constant);
                self.floats.push(value);
            }
            _ => self.store(b, x),
        }
    }

    fn store(&mut self, b: &mut TileBuilder, x: Reg) {
        if self.stored < 60 {
            b.store(MemType::F32, self.dst, 64 * self.stored, x);
            self.stored += 1;
        }
    }

    fn turns(&mut self, b: &mut TileBuilder, depth: usize) {
        let carried: Vec<_> = (0..self.below(8)).map(|_| self.float()).collect();
        let ptr = self.ptr(2);
        let advance = vec![(ptr, 4 * self.below(9) as i64); self.below(3)];
        let known = (self.floats.clone(), self.ints.clone(), self.ptrs.clone());
        let count = Count::Static(self.below(4) as u32);
        let after = b.for_each(count, &advance, &carried, |b, ptrs, acc| {
            self.floats.extend(acc);
            self.ptrs.extend(ptrs);
            let steps = self.below(30);
            (0..steps).for_each(|_| self.step(b));
            if depth < 2 && self.below(2) == 0 {
                self.turns(b, depth + 1);
            }
            (0..acc.len()).map(|_| self.float()).collect()
        });
        (self.floats, self.ints, self.ptrs) = known;
        self.floats.extend(after);
    }
}

fn random_program(seed: u64, lanes: usize) -> Tile {
    let mut b = TileBuilder::new("random", lanes);
    let (src, dst) = (b.ptr(), b.ptr());
    let first: Vec<_> = (0..6).map(|i| b.load(MemType::F32, src, 4 * i)).collect();
    let int = b.i32(77);
    let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut p = Program { state, floats: first, ints: vec![int], ptrs: vec![src], dst, stored: 0 };
    for _ in 0..4 {
        let steps = p.below(25);
        (0..steps).for_each(|_| p.step(&mut b));
        p.turns(&mut b, 0);
    }
    for x in p.floats.clone() {
        p.store(&mut b, x);
    }
    b.finish()
}

#[test]
fn random_programs_match_the_interpreter() {
    for lanes in widths() {
        for seed in 0..100 {
            both(random_program(seed, lanes), &bytes_of(&random_floats(200, seed)), 64 * 64);
        }
    }
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

/// Most of the digits of a large argument are whole turns.
#[test]
fn sines_of_large_numbers_are_right() {
    let (from, to) = (2_097_152f32.to_bits(), f32::MAX.to_bits());
    let bits = (0..20_000).map(|i| from + i * ((to - from) / 20_000));
    let src: Vec<f32> =
        bits.flat_map(|b| [f32::from_bits(b), -f32::from_bits(b)]).chain([2_097_152.2, 1.7e9]).collect();
    for (found, exact) in [
        (map(&src, TileBuilder::sin), f64::sin as fn(f64) -> f64),
        (map(&src, TileBuilder::cos), f64::cos as fn(f64) -> f64),
    ] {
        for (&x, &y) in src.iter().zip(&found) {
            let want = exact(f64::from(x));
            assert!((f64::from(y) - want).abs() <= 1e-6, "{x}: {y}, expected {want}");
        }
    }
    let infinite = map(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN], TileBuilder::sin);
    assert!(infinite.iter().all(|y| y.is_nan()), "{infinite:?}");
}

/// Random bytes.
fn bytes(n: usize, seed: u64) -> Vec<u8> {
    random_floats(n, seed).iter().map(|x| (x * 3e4) as i32 as u8).collect()
}

#[test]
fn packed_bfloat16_matches_the_interpreter() {
    let special =
        [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-40, -1e-40, -0.0, f32::MIN_POSITIVE];
    // Halfway between neighbours, above even and odd ones, and one unit away from that.
    let ties = [0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x3f81_7fff, 0x7f7f_8000, 0x807f_ffff].map(f32::from_bits);
    for isa in all_isas().into_iter().filter(|isa| isa.needs.sums_halves()) {
        let step = 4 * isa.lanes() as i64;
        let mut b = TileBuilder::with_isa("pack_bf16", isa);
        let (s, d) = (b.ptr(), b.ptr());
        b.for_each(Count::Static(4), &[(s, 2 * step), (d, 2 * step)], &[], |b, p, _| {
            let [x, y] = [0, step].map(|at| b.load(MemType::F32, p[0], at));
            let (packed, again) = (b.pack_bf16(x, y), b.pack_bf16(y, y));
            b.store(MemType::I32, p[1], 0, packed);
            b.store(MemType::I32, p[1], step, again);
            vec![]
        });
        let values = special.iter().chain(&ties).copied().chain(random_floats(2 * 4 * isa.lanes(), 3));
        let src: Vec<u8> = values.take(2 * 4 * isa.lanes()).flat_map(f32::to_le_bytes).collect();
        both(b.finish(), &src, src.len());
    }
}

#[test]
fn dot_products_match_the_interpreter() {
    for isa in all_isas() {
        let (step, src) = (4 * isa.lanes() as i64, bytes(2560, 5));
        let halves: Vec<u8> = random_floats(640, 8).iter().map(|x| x + 2.0).flat_map(f32::to_le_bytes).collect();
        let mut b = TileBuilder::with_isa("dot_bf16", isa);
        let (s, d) = (b.ptr(), b.ptr());
        b.for_each(Count::Static(6), &[(s, 3 * step), (d, 3 * step)], &[], |b, p, _| {
            let [x, y] = [0, step].map(|at| b.load(MemType::I32, p[0], at));
            let z = b.load(MemType::F32, p[0], 2 * step);
            let once = b.dot_bf16(x, y, z);
            let twice = b.dot_bf16(x, x, once);
            let rounded = b.round_bf16(twice);
            b.store(MemType::F32, p[1], 0, once);
            b.store(MemType::F32, p[1], step, twice);
            b.store(MemType::I32, p[1], 2 * step, rounded);
            vec![]
        });
        both(b.finish(), &halves, 3 * 6 * 4 * isa.lanes());
        for op in [TileBuilder::dot2, TileBuilder::dot4] {
            let mut b = TileBuilder::with_isa("dot", isa);
            let (s, d) = (b.ptr(), b.ptr());
            b.for_each(Count::Static(6), &[(s, 3 * step), (d, 3 * step)], &[], |b, p, _| {
                let [x, y, z] = [0, step, 2 * step].map(|at| b.load(MemType::I32, p[0], at));
                let once = op(b, x, y, z);
                // The sum stays in use, and is a factor as well.
                let twice = op(b, once, x, once);
                let again = op(b, y, y, once);
                for (i, value) in [once, twice, again].into_iter().enumerate() {
                    b.store(MemType::I32, p[1], step * i as i64, value);
                }
                vec![]
            });
            both(b.finish(), &src, 3 * 6 * 4 * isa.lanes());
        }
    }
}

#[test]
fn matrices_match_the_interpreter() {
    for isa in all_isas().into_iter().filter(|isa| isa.needs.has_matrices()) {
        let mut src = bytes(16 * 64 + 16 * 80, 5);
        // Small whole numbers, so that no order of the sums is rounded.
        let whole = (0..2048).flat_map(|i| (((((i * 7 % 13) as f32 - 6.0).to_bits()) >> 16) as u16).to_le_bytes());
        src.extend(whole);
        let mut b = TileBuilder::with_isa("matrices", isa);
        let (s, d) = (b.ptr(), b.ptr());
        b.mat_configure();
        let [x, y, sum, other] = [0, 3, 5, 7].map(Mat);
        b.mat_zero(sum);
        b.mat_zero(other);
        b.mat_load(x, s, 0, 64);
        b.mat_load(y, s, 16 * 64, 80);
        b.mat_dot(sum, TileProduct::Bytes, x, y);
        b.mat_dot(sum, TileProduct::Bytes, x, y);
        b.for_each(Count::Static(2), &[(s, 1024)], &[], |b, p, _| {
            b.mat_load(x, p[0], 16 * 144, 64);
            b.mat_load(y, p[0], 16 * 144 + 1024, 64);
            b.mat_dot(other, TileProduct::Bf16, x, y);
            vec![]
        });
        b.mat_store(d, 0, 64, sum);
        b.mat_store(d, 1024, 72, other);
        b.mat_release();
        both(b.finish(), &src, 1024 + 16 * 72);
    }
}

#[test]
fn floats_are_rounded_to_bfloat16() {
    let cases =
        [(1.0, 1.0), (1.003_906_3, 1.0), (1.011_718_8, 1.015_625), (-3.02, -3.015_625), (3.4e38, f32::INFINITY)];
    let mut src: Vec<f32> = cases.iter().map(|c| c.0).collect();
    src.extend([f32::NAN, f32::from_bits(0x7f80_0001), f32::NEG_INFINITY, -0.0]);
    let found = map(&src, |b, x| {
        let bits = b.round_bf16(x);
        b.unary(Unary::AsFloat, bits)
    });
    for ((x, want), found) in cases.iter().zip(&found) {
        assert_eq!(want, found, "{x}");
    }
    let [nan, signaling, infinite, zero] = found[cases.len()..] else { panic!("one result for each") };
    assert!(nan.is_nan() && signaling.is_nan() && infinite == f32::NEG_INFINITY && zero.to_bits() == 1 << 31);
}

#[test]
fn pairs_are_loaded_and_subtracted() {
    let src = bytes(64, 6);
    let all = widths().into_iter().flat_map(|lanes| (1..=lanes).map(move |n| (lanes, n)));
    for ((lanes, n), mem) in all.flat_map(|of| [(of, MemType::U8Pair), (of, MemType::I8Pair)]) {
        let mut b = TileBuilder::new("pairs", lanes);
        let (s, d) = (b.ptr(), b.ptr());
        let (x, zero) = (b.load_n(mem, s, 3, n), b.i32(0x0007_0007));
        let y = b.binary(Binary::SubPairs, x, zero);
        b.store(MemType::I32, d, 0, y);
        let found = both(b.finish(), &src, 4 * lanes);
        for (i, half) in found.as_chunks::<2>().0[..2 * n].iter().enumerate() {
            let byte = src[3 + i];
            let value = if mem == MemType::U8Pair { i16::from(byte) } else { i16::from(byte as i8) };
            assert_eq!(i16::from_le_bytes(*half), value - 7);
        }
    }
}

#[test]
fn bfloat16_in_memory_matches_the_interpreter() {
    // No numbers that are not normal: some targets store these as zeros.
    let mut src: Vec<f32> = numbers().into_iter().filter(|x| !x.is_subnormal()).collect();
    src.extend([f32::from_bits(0x3f80_8000), f32::from_bits(0x3f81_8000), f32::from_bits(0x7f80_0001), f32::MAX]);
    let halves: Vec<u8> = src.iter().flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect();
    for isa in all_isas() {
        let lanes = isa.lanes();
        for (n, stride) in (1..=lanes).flat_map(|n| [2, 4, 6].map(|stride| (n, stride))) {
            let mut b = TileBuilder::with_isa("halves", isa);
            let (s, d) = (b.ptr(), b.ptr());
            let x = b.load_along(MemType::F32, s, 4 * n as i64, n, 4);
            b.store_strided(MemType::Bf16, d, 2, n, stride, x);
            let tile = b.finish();
            both(tile, &bytes_of(&src), 6 * lanes + 2);
            let mut b = TileBuilder::with_isa("halves", isa);
            let (s, d) = (b.ptr(), b.ptr());
            let (x, y) = (b.load_along(MemType::Bf16, s, 2, n, stride), b.broadcast(MemType::Bf16, s, 4));
            b.store(MemType::F32, d, 0, x);
            b.store(MemType::F32, d, 4 * lanes as i64, y);
            let found = floats_of(&both(b.finish(), &halves, 8 * lanes));
            let want: Vec<u32> = (0..n).map(|i| src[1 + i * stride as usize / 2].to_bits() & 0xffff_0000).collect();
            assert_eq!(found[..n].iter().map(|x| x.to_bits()).collect::<Vec<_>>(), want);
            assert_eq!(found[lanes].to_bits(), src[2].to_bits());
        }
        let mut b = TileBuilder::with_isa("round", isa);
        let (s, d) = (b.ptr(), b.ptr());
        let turns = Count::Static((src.len() / lanes) as u32);
        b.for_each(turns, &[(s, 4 * lanes as i64), (d, 2 * lanes as i64)], &[], |b, p, _| {
            let x = b.load(MemType::F32, p[0], 0);
            b.store(MemType::Bf16, p[1], 0, x);
            vec![]
        });
        both(b.finish(), &bytes_of(&src), 2 * src.len());
    }
}

/// Each half, be it a number or not, as floats and a little beside them: what is between two halves, and the middle.
fn near_halves() -> Vec<f32> {
    let wide = (0..=u16::MAX).step_by(97).chain([0x7bff, 0x7c00, 0x7c01, 0x7e00, 0x3ff, 0x400, 1, 0x8001, 0xfbff]);
    let near = wide.map(|half| f16::from_bits(half).to_f32().to_bits());
    let by = [0, 1, -1, 0xfff, 0x1000, 0x1001, 0x1800];
    near.flat_map(|bits| by.map(|by| f32::from_bits(bits.wrapping_add_signed(by)))).chain(numbers()).collect()
}

#[test]
fn halves_in_memory_match_the_interpreter() {
    let src = near_halves();
    let halves: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for isa in all_isas() {
        let lanes = isa.lanes();
        for (from, to, from_bytes, to_bytes, bytes) in
            [(MemType::F32, MemType::F16, 4, 2, &bytes_of(&src)), (MemType::F16, MemType::F32, 2, 4, &halves)]
        {
            let mut b = TileBuilder::with_isa("halves", isa);
            let (s, d) = (b.ptr(), b.ptr());
            let turns = bytes.len() / from_bytes / lanes;
            let advance = [(s, (from_bytes * lanes) as i64), (d, (to_bytes * lanes) as i64)];
            b.for_each(Count::Static(turns as u32), &advance, &[], |b, p, _| {
                let x = b.load(from, p[0], 0);
                b.store(to, p[1], 0, x);
                vec![]
            });
            let found = both(b.finish(), bytes, turns * to_bytes * lanes);
            if to == MemType::F16 {
                for (half, &x) in found.as_chunks::<2>().0.iter().zip(&src) {
                    let (half, want) = (f16::from_le_bytes(*half), f16::from_f32(x));
                    assert!(half.to_bits() == want.to_bits() || half.is_nan() && want.is_nan(), "{x}: {half}");
                }
            }
        }
    }
}

#[test]
fn words_of_any_count_and_stride_match_the_interpreter() {
    let src: Vec<u8> = bytes(512, 7).into_iter().chain([0xff, 0x7f, 0x00, 0x80, 0xff, 0xff, 0x00, 0x7c]).collect();
    for isa in all_isas() {
        let lanes = isa.lanes();
        let shapes = (1..=lanes).flat_map(|n| [2, 4, 6].map(|stride| (n, stride)));
        for ((n, stride), mem) in shapes.flat_map(|of| [MemType::F16, MemType::U16, MemType::I16].map(|mem| (of, mem)))
        {
            let mut b = TileBuilder::with_isa("words", isa);
            let (s, d) = (b.ptr(), b.ptr());
            let (x, y) = (b.load_along(mem, s, 514 - 2 * n as i64, n, 2), b.load_along(mem, s, 2, n, stride));
            let (z, wide) = (b.broadcast(mem, s, 512), MemType::of(mem.elem()));
            for (i, value) in [x, y, z].into_iter().enumerate() {
                b.store(wide, d, (4 * lanes * i) as i64, value);
            }
            b.store_strided(mem, d, (12 * lanes) as i64, n, stride, y);
            let narrowed = b.load_along(wide, s, 4, n, 4);
            b.store_strided(mem, d, (18 * lanes) as i64 + 2, n, stride, narrowed);
            both(b.finish(), &src, 24 * lanes + 2);
        }
    }
}

#[test]
fn any_address_may_be_brought_near() {
    for lanes in widths() {
        let mut b = TileBuilder::new("ahead", lanes);
        let (s, d) = (b.ptr(), b.ptr());
        b.for_each(Count::Static(3), &[(s, 1 << 40), (d, 64)], &[], |b, p, _| {
            b.prefetch(p[0], -8);
            let x = b.f32(2.0);
            // A load is still an operand of the instruction after it.
            let y = b.load(MemType::F32, p[1], 0);
            b.prefetch(p[1], 1 << 34);
            let sum = b.add(x, y);
            b.store(MemType::F32, p[1], 0, sum);
            vec![]
        });
        both(b.finish(), &[0; 64], 3 * 64);
    }
}
