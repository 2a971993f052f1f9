//! Elementwise kernels through machine code and the interpreter against plain loops: all tails, broadcasts, layouts.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_kernel::expr::Expr;
use optc_kernel::nest::{Kernel, parse_kernel};
use optc_kernel::space::ByteView;
use optc_kernel::tile::{Binary, Cmp, MemType};
use optc_kernels::elementwise::{Elementwise, elementwise, in_place};
use optc_testing::{all_isas, bytes_of, floats_of, portable, random_floats, run_here};
use proptest::prelude::*;

const FILL: u8 = 0xee;

/// Runs a kernel through machine code, and the interpreter if it is small, which must agree; returns the results.
fn run(kernel: &Kernel, operands: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut buffers = operands.to_vec();
    buffers.extend(kernel.bufs[operands.len()..].iter().map(|b| vec![FILL; b.bytes]));
    let mut interpreted = buffers.clone();
    run_here(kernel, &mut buffers).unwrap();
    if kernel.bufs.iter().all(|b| b.bytes < 20_000) {
        kernel.interpret(&mut interpreted).unwrap();
        assert_eq!(interpreted, buffers, "{kernel}");
    }
    buffers.split_off(operands.len())
}

/// [`run`] on every target of this machine; all must agree.
fn run_everywhere(p: &Elementwise, operands: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let all: Vec<_> = all_isas().into_iter().map(|isa| run(&elementwise(p, isa), operands)).collect();
    all.windows(2).for_each(|pair| assert_eq!(pair[0], pair[1], "targets disagree"));
    all.into_iter().next().unwrap()
}

/// Where the elements of a view are, in the order of the shape.
fn places(shape: &[usize], view: &ByteView) -> Vec<usize> {
    let mut at = vec![view.offset];
    for (&n, &stride) in shape.iter().zip(&view.strides) {
        at = at.into_iter().flat_map(|base| (0..n as i64).map(move |i| base + i * stride)).collect();
    }
    at.into_iter().map(|at| at as usize).collect()
}

fn float_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Runs one result of floats against `f`.
fn check(shape: &[usize], operands: Vec<ByteView>, result: ByteView, expr: Expr, f: impl Fn(&[f32]) -> f32) {
    let data: Vec<_> = (0..).zip(&operands).map(|(i, v)| bytes_of(&random_floats(v.bytes / 4, i + 1))).collect();
    let mut want = vec![FILL; result.bytes];
    let from: Vec<_> = operands.iter().map(|v| places(shape, v)).collect();
    for (k, at) in places(shape, &result).into_iter().enumerate() {
        let values: Vec<_> = data.iter().zip(&from).map(|(bytes, at)| float_at(bytes, at[k])).collect();
        want[at..at + 4].copy_from_slice(&f(&values).to_le_bytes());
    }
    let found = run_everywhere(&Elementwise { shape: shape.to_vec(), operands, results: vec![(result, expr)] }, &data);
    for (i, (f, w)) in floats_of(&found[0]).into_iter().zip(floats_of(&want)).enumerate() {
        let close = f.to_bits() == w.to_bits() || (f - w).abs() <= 1e-5 * (1.0 + w.abs());
        assert!(close, "{shape:?}: element {i} is {f}, expected {w}");
    }
}

fn sum(n: usize) -> Expr {
    (1..n).fold(Expr::Operand(0), |sum, i| sum.plus(Expr::Operand(i).times(Expr::Const(i as f32))))
}

fn sum_of(values: &[f32]) -> f32 {
    values.iter().enumerate().map(|(i, v)| if i == 0 { *v } else { v * i as f32 }).sum()
}

#[test]
fn every_tail_in_a_row_and_in_rows() {
    for n in [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33] {
        let dense = |shape: &[usize]| ByteView::dense(MemType::F32, shape);
        check(&[n], vec![dense(&[n]); 2], dense(&[n]), sum(2), sum_of);
        let row = ByteView { strides: vec![0, 4], ..dense(&[1, n]) };
        let column = ByteView { strides: vec![4, 0], ..dense(&[3]) };
        let scalar = ByteView { strides: vec![0, 0], ..dense(&[]) };
        let spread = ByteView { strides: vec![n as i64 * 8, 8], ..dense(&[3, 2 * n]) };
        check(&[3, n], vec![dense(&[3, n]), row, column, scalar, spread], dense(&[3, n]), sum(5), sum_of);
        for m in [1, 2, 3, 4, 5, 8, 17] {
            let transposed = dense(&[n, m]).permuted(&[1, 0]);
            check(&[m, n], vec![transposed.clone(), dense(&[m, n])], dense(&[m, n]), sum(2), sum_of);
            check(&[2, m, n], vec![dense(&[n, m, 2]).permuted(&[2, 1, 0])], dense(&[2, m, n]), sum(1), sum_of);
            check(&[m, n], vec![dense(&[m, n])], transposed, sum(1), sum_of);
        }
    }
}

#[test]
fn scalars_and_empty_tensors() {
    let dense = |shape: &[usize]| ByteView::dense(MemType::F32, shape);
    check(&[], vec![dense(&[]), dense(&[])], dense(&[]), sum(2), sum_of);
    check(&[1, 1], vec![dense(&[1, 1])], dense(&[1, 1]), sum(1), sum_of);
    check(&[3, 0], vec![dense(&[3, 0])], dense(&[3, 0]), sum(1), sum_of);
    let p = Elementwise { shape: vec![0], operands: vec![], results: vec![(dense(&[0]), Expr::Const(1.0))] };
    all_isas().into_iter().for_each(|isa| assert_eq!(elementwise(&p, isa).tasks, 0));
}

#[test]
fn large_tensors_are_cut_into_tasks() {
    let dense = |shape: &[usize]| ByteView::dense(MemType::F32, shape);
    check(&[100_003], vec![dense(&[100_003])], dense(&[100_003]), sum(1), sum_of);
    check(&[3, 50_001], vec![ByteView { strides: vec![4, 0], ..dense(&[3]) }], dense(&[3, 50_001]), sum(1), sum_of);
    check(&[5000, 49], vec![ByteView { strides: vec![4, 0], ..dense(&[5000]) }], dense(&[5000, 49]), sum(1), sum_of);
    check(&[301, 403], vec![dense(&[403, 301]).permuted(&[1, 0])], dense(&[301, 403]), sum(1), sum_of);
    let nhwc = dense(&[2, 70, 130, 3]).permuted(&[0, 3, 1, 2]);
    check(&[2, 3, 70, 130], vec![nhwc.clone()], dense(&[2, 3, 70, 130]), sum(1), sum_of);
    check(&[2, 3, 70, 130], vec![dense(&[2, 3, 70, 130])], nhwc, sum(1), sum_of);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn layouts(
        shape in prop::collection::vec(1usize..7, 1..5),
        perms in prop::collection::vec(any::<u64>(), 1..4),
        broadcast in any::<u16>(),
        slack in 0usize..3,
    ) {
        let rank = shape.len();
        let view = |seed: u64, broadcast: u16| {
            let mut perm: Vec<usize> = (0..rank).collect();
            (1..rank).for_each(|d| perm.swap(d, (seed >> (8 * d)) as usize % (d + 1)));
            let mut outer: Vec<usize> = perm.iter().map(|&d| shape[d]).collect();
            outer[rank - 1] += slack;
            let mut back = vec![0; rank];
            perm.iter().enumerate().for_each(|(at, &d)| back[d] = at);
            let mut view = ByteView::dense(MemType::F32, &outer).permuted(&back);
            (0..rank).filter(|d| broadcast >> d & 1 == 1).for_each(|d| view.strides[d] = 0);
            view
        };
        let operands: Vec<_> = perms.iter().enumerate().map(|(i, &seed)| view(seed, broadcast >> (4 * i))).collect();
        let n = operands.len();
        check(&shape, operands, view(perms[0] >> 32, 0), sum(n), sum_of);
    }
}

#[test]
fn integers_and_bools() {
    let n = 37;
    let dense = |mem| ByteView::dense(mem, &[n]);
    let of = Expr::Operand;
    let greater = of(0).cmp(Cmp::Gt, Expr::Const(0.0));
    let p = Elementwise {
        shape: vec![n],
        operands: vec![
            dense(MemType::F32),
            dense(MemType::I32),
            dense(MemType::U8),
            dense(MemType::I8),
            dense(MemType::I64),
        ],
        results: vec![
            (dense(MemType::U8), greater.clone().bit()),
            (dense(MemType::I32), of(1).times(Expr::Int(3)).minus(of(3))),
            (dense(MemType::F32), of(2).mask().select(of(4).to_float(), of(0))),
            (dense(MemType::I64), greater.binary(Binary::And, of(1))),
            (dense(MemType::I8), of(0).times(Expr::Const(100.0)).to_int()),
        ],
    };
    let x = random_floats(n, 5);
    let ints: Vec<i32> = (0..n as i32).map(|i| i * 77_777 - 900_000).collect();
    let bools: Vec<u8> = (0..n).map(|i| (i % 3 == 0) as u8).collect();
    let small: Vec<u8> = (0..n).map(|i| (i * 7) as u8).collect();
    let large: Vec<u8> = (0..n as i64).flat_map(|i| (i * 1000 - 9000).to_le_bytes()).collect();
    let int_bytes = ints.iter().flat_map(|i| i.to_le_bytes()).collect();
    let found = run_everywhere(&p, &[bytes_of(&x), int_bytes, bools.clone(), small.clone(), large]);
    for i in 0..n {
        assert_eq!(found[0][i], (x[i] > 0.0) as u8);
        assert_eq!(found[1][4 * i..4 * i + 4], (ints[i] * 3 - small[i] as i8 as i32).to_le_bytes());
        let chosen = if bools[i] != 0 { i as f32 * 1000.0 - 9000.0 } else { x[i] };
        assert_eq!(float_at(&found[2], 4 * i), chosen);
        let kept = if x[i] > 0.0 { ints[i] as i64 } else { 0 };
        assert_eq!(found[3][8 * i..8 * i + 8], kept.to_le_bytes());
        assert_eq!(found[4][i], (x[i] * 100.0) as i32 as u8);
    }
}

/// The error function from its series, good to 1e-7 below 4.3.
fn erf(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..60 {
        term *= -x * x / n as f64;
        sum += term / (2 * n + 1) as f64;
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

/// A name, the expression and what it should be.
type Case = (&'static str, Expr, fn(f64) -> f64);

#[test]
fn activations_agree_with_their_formulas() {
    let x = || Expr::Operand(0);
    let cases: Vec<Case> = vec![
        ("abs", x().abs(), f64::abs),
        ("negated", x().negated(), |x| -x),
        ("sqrt", x().abs().sqrt(), |x| x.abs().sqrt()),
        ("reciprocal", x().reciprocal(), |x| 1.0 / x),
        ("floor", x().floor(), f64::floor),
        ("ceil", x().ceil(), f64::ceil),
        ("round", x().round(), f64::round_ties_even),
        ("log", x().abs().log(), |x| x.abs().ln()),
        ("sign", x().sign(), |x| if x == 0.0 { x } else { x.signum() }),
        ("relu", x().relu(), |x| x.max(0.0)),
        ("clip", x().clip(-0.5, 2.0), |x| x.clamp(-0.5, 2.0)),
        ("leaky_relu", x().leaky_relu(0.1), |x| if x < 0.0 { f64::from(0.1f32) * x } else { x }),
        ("elu", x().elu(0.5), |x| if x < 0.0 { 0.5 * x.exp_m1() } else { x }),
        ("selu", x().selu(1.5, 2.0), |x| 2.0 * if x < 0.0 { 1.5 * x.exp_m1() } else { x }),
        ("celu", x().celu(2.0), |x| if x < 0.0 { 2.0 * (x / 2.0).exp_m1() } else { x }),
        ("silu", x().silu(), |x| x / (1.0 + (-x).exp())),
        ("hard_sigmoid", x().hard_sigmoid(0.25, 0.5), |x| (0.25 * x + 0.5).clamp(0.0, 1.0)),
        ("hard_swish", x().hard_swish(), |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        ("gelu", x().gelu(), |x| if x.abs() > 6.0 { x.max(0.0) } else { 0.5 * x * (1.0 + erf(x / 2f64.sqrt())) }),
        ("gelu_tanh", x().gelu_tanh(), |x| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
        }),
        ("softplus", x().softplus(), |x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
        ("softsign", x().softsign(), |x| x / (1.0 + x.abs())),
        ("mish", x().mish(), |x| x * (x.max(0.0) + (-x.abs()).exp().ln_1p()).tanh()),
        ("square", x().power(2.0).unwrap(), |x| x * x),
        ("cube", x().power(3.0).unwrap(), |x| x * x * x),
        ("root", x().abs().power(0.5).unwrap(), |x| x.abs().sqrt()),
        ("inverse root", x().abs().power(-0.5).unwrap(), |x| 1.0 / x.abs().sqrt()),
    ];
    let mut values: Vec<f32> = random_floats(2000, 8).iter().map(|x| x * 12.0).collect();
    values.extend([0.0, 1.0, -1.0, 30.0, -30.0, 2.5, -0.5, 100.0, 1e-6, -1e-6, 87.0, -87.0]);
    let n = values.len();
    for (name, expr, f) in cases {
        let view = ByteView::dense(MemType::F32, &[n]);
        let p = Elementwise { shape: vec![n], operands: vec![view.clone()], results: vec![(view, expr)] };
        let found = run_everywhere(&p, &[bytes_of(&values)]);
        for (&x, y) in values.iter().zip(floats_of(&found[0])) {
            let want = f(x.into());
            let close = (f64::from(y) - want).abs() <= 1e-6 * want.abs() + 2e-6 || f64::from(y) == want;
            assert!(close, "{name}({x}) is {y}, expected {want}");
        }
    }
}

#[test]
fn extrema_keep_nan() {
    let view = ByteView::dense(MemType::F32, &[4]);
    let (a, b) = ([f32::NAN, 1.0, 2.0, -0.0], [1.0, f32::NAN, 3.0, 0.5]);
    let results = vec![
        (view.clone(), Expr::Operand(0).minimum(Expr::Operand(1))),
        (view.clone(), Expr::Operand(0).maximum(Expr::Operand(1))),
        (view.clone(), Expr::Operand(0).clip(0.0, 1.0)),
        (view.clone(), Expr::Operand(1).relu()),
    ];
    let p = Elementwise { shape: vec![4], operands: vec![view.clone(), view], results };
    let found = run_everywhere(&p, &[bytes_of(&a), bytes_of(&b)]);
    let found: Vec<_> = found.iter().map(|bytes| floats_of(bytes)).collect();
    assert!(found[0][0].is_nan() && found[0][1].is_nan() && found[0][2] == 2.0 && found[0][3] == 0.0);
    assert!(found[1][0].is_nan() && found[1][1].is_nan() && found[1][2] == 3.0 && found[1][3] == 0.5);
    assert!(found[2][0].is_nan() && found[2][2] == 1.0 && found[3][1].is_nan());
}

#[test]
fn a_chain_of_shared_values_stays_small() {
    let deep = (0..40).fold(Expr::Operand(0), |x, _| x.clone().plus(x).times(Expr::Const(0.5)));
    assert_eq!(deep.cost(), 80);
    let view = ByteView::dense(MemType::F32, &[8]);
    let p = Elementwise { shape: vec![8], operands: vec![view.clone()], results: vec![(view, deep)] };
    assert!(in_place(&p, 0));
    let x = random_floats(8, 2);
    assert_eq!(floats_of(&run_everywhere(&p, &[bytes_of(&x)])[0]), x);
}

#[test]
fn text_of_a_broadcast_sum() {
    let dense = |shape: &[usize]| ByteView::dense(MemType::F32, shape);
    let column = ByteView { strides: vec![4, 0], ..dense(&[3]) };
    let results = vec![(dense(&[3, 21]), Expr::Operand(0).plus(Expr::Operand(1)).relu())];
    let p = Elementwise { shape: vec![3, 21], operands: vec![dense(&[3, 21]), column], results };
    let kernel = elementwise(&p, portable());
    insta::assert_snapshot!(kernel);
    assert_eq!(parse_kernel(&kernel.to_string()).as_ref(), Ok(&kernel));
}
