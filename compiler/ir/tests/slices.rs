//! Evaluations on slices against plain loops over single elements: every dtype, extremes, NaN and infinities, dims of 0
//! and 1, and memory that held other bytes before.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_ir::ops::math::*;
use optc_ir::ops::nn::GridSample;
use optc_ir::ops::tensor::*;
use optc_ir::{Args, Decl, Op, OpError, Operands, Val};
use optc_tensor::{DType, Random, Tensor, TensorMut, bf16, f16, for_each_index, strides_of};

/// Dtypes of numbers that fill bytes.
const NUMBERS: [DType; 12] = [
    DType::F32,
    DType::F64,
    DType::F16,
    DType::BF16,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
];

/// The results of an op in new tensors; those in memory that is there must be the same.
fn eval(op: impl Into<Op>, operands: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
    let op = op.into();
    let values: Vec<Option<Val>> = operands.iter().map(|t| Some(Val::Tensor((*t).clone()))).collect();
    let found = op.eval(&Args::plain(&values))?;
    let found: Vec<Tensor> = found.iter().map(|v| v.as_tensor().unwrap().clone()).collect();
    let views: Vec<_> = operands.iter().map(|t| t.view()).collect();
    let mut bytes: Vec<Tensor> = found.iter().map(|t| Tensor::zeros(t.dtype(), t.shape()).unwrap()).collect();
    bytes.iter_mut().for_each(|t| t.bytes_mut().unwrap().fill(0xa5));
    let mut results: Vec<TensorMut> = bytes.iter_mut().map(|t| t.view_mut().unwrap().unwrap()).collect();
    assert!(op.eval_into(&Operands(&views), &mut results)?, "{op:?} does not write into memory that is there");
    assert_eq!(bytes, found, "{op:?}");
    Ok(found)
}

fn one(op: impl Into<Op>, operands: &[&Tensor]) -> Tensor {
    eval(op, operands).unwrap().remove(0)
}

/// The extremes of a dtype, small numbers, and any.
fn numbers(dtype: DType, n: usize, seed: u64) -> Tensor {
    let mut random = Random::new(seed);
    if dtype.is_float() {
        let special = [0.0, -0.0, 1.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30, -7.5];
        let any = (0..n).map(|i| if i < special.len() { special[i] } else { random.below(2001) as f64 / 100.0 - 10.0 });
        return Tensor::from_f64(dtype, &[n], &any.collect::<Vec<_>>()).unwrap();
    }
    let (low, high) = dtype.int_range().unwrap_or((0, 1));
    let special = [low, high, 0, 1, -1, 2, low + 1, high - 1, 7, -7];
    let any = |i: usize, random: &mut Random| match special.get(i) {
        Some(&v) => v as i64,
        None => random.below(1 << 20) as i64 * if random.below(2) == 0 { 1 } else { -4_294_967_311 },
    };
    let values: Vec<i64> = (0..n).map(|i| any(i, &mut random)).collect();
    Tensor::from_i64(dtype, &[n], &values).unwrap()
}

fn shaped(t: &Tensor, shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    let width = t.dtype().bits() / 8;
    let bytes: Vec<u8> = (0..n).flat_map(|i| t.bytes()[i % t.len() * width..][..width].to_vec()).collect();
    Tensor::from_bytes(t.dtype(), shape, &bytes).unwrap()
}

/// An integer element as what it is.
fn int(t: &Tensor, i: usize) -> i128 {
    let v = t.to_i64_vec()[i];
    if t.dtype() == DType::U64 { i128::from(v as u64) } else { i128::from(v) }
}

/// An integer that a dtype has the lower bits of.
fn wrapped(dtype: DType, v: i128) -> i128 {
    let bits = dtype.bits() as u32;
    let low = v & ((1 << bits) - 1);
    if dtype.is_signed() && low >> (bits - 1) != 0 { low - (1 << bits) } else { low }
}

/// Where the element of a tensor of shape `from` lies that broadcasts to an index.
fn broadcast_at(from: &[usize], index: &[usize]) -> usize {
    let lead = index.len() - from.len();
    let strides = strides_of(from);
    (0..from.len()).map(|d| if from[d] == 1 { 0 } else { index[lead + d] * strides[d] }).sum()
}

/// Pairs of shapes whose runs are of every kind, and what they broadcast to.
const PAIRS: [([&[usize]; 2], &[usize]); 8] = [
    ([&[24], &[24]], &[24]),
    ([&[20, 1], &[20]], &[20, 20]),
    ([&[3, 20], &[]], &[3, 20]),
    ([&[1], &[4, 1, 6]], &[4, 1, 6]),
    ([&[2, 3, 4, 5], &[3, 1, 1]], &[2, 3, 4, 5]),
    ([&[2, 1, 12], &[1, 3, 12]], &[2, 3, 12]),
    ([&[0, 3], &[1, 3]], &[0, 3]),
    ([&[], &[]], &[]),
];

/// An op, and what it makes of integers and of floats.
type Arithmetic = (Op, fn(DType, i128, i128) -> i128, fn(f64, f64) -> f64);

/// An op, and whether it holds for floats and for integers.
type Comparison = (Op, fn(f64, f64) -> bool, fn(i128, i128) -> bool);

/// What integers and floats become, by plain arithmetic.
fn arithmetic() -> Vec<Arithmetic> {
    let floored = |a: f64, b: f64| {
        let r = a % b;
        if r == 0.0 { 0f64.copysign(b) } else { r + if (r < 0.0) != (b < 0.0) { b } else { 0.0 } }
    };
    vec![
        (Add {}.into(), |_, a, b| a + b, |a, b| a + b),
        (Sub {}.into(), |_, a, b| a - b, |a, b| a - b),
        (Mul {}.into(), |_, a, b| a.wrapping_mul(b), |a, b| a * b),
        (Div {}.into(), |_, a, b| if b == 0 { 0 } else { a / b }, |a, b| a / b),
        (Mod { truncate: true }.into(), |_, a, b| if b == 0 { 0 } else { a % b }, |a, b| a % b),
        (Mod { truncate: false }.into(), |_, a, b| if b == 0 { 0 } else { (a % b + b) % b }, floored),
        (Min {}.into(), |_, a, b| a.min(b), |a, b| if a.is_nan() || a < b { a } else { b }),
        (Max {}.into(), |_, a, b| a.max(b), |a, b| if a.is_nan() || a > b { a } else { b }),
    ]
}

#[test]
fn arithmetic_is_that_of_single_elements() {
    for (op, on_ints, on_floats) in arithmetic() {
        for (dtype, ([p, q], shape)) in NUMBERS.into_iter().flat_map(|d| PAIRS.map(|pair| (d, pair))) {
            let (a, b) = (shaped(&numbers(dtype, 24, 1), p), shaped(&numbers(dtype, 20, 2), q));
            let found = one(op.clone(), &[&a, &b]);
            assert_eq!(found.shape(), shape);
            let mut next = 0;
            for_each_index(shape, |index| {
                let (i, j) = (broadcast_at(p, index), broadcast_at(q, index));
                if dtype.is_float() {
                    let want = on_floats(a.to_f64_vec()[i], b.to_f64_vec()[j]);
                    let want = Tensor::from_f64(dtype, &[1], &[want]).unwrap().to_f64_vec()[0];
                    let same = |v: f64| v.to_bits() == want.to_bits() || (v.is_nan() && want.is_nan());
                    assert!(same(found.to_f64_vec()[next]), "{op:?} on {dtype}: {found:?}, expected {want}");
                } else {
                    let want = wrapped(dtype, on_ints(dtype, int(&a, i), int(&b, j)));
                    assert_eq!(int(&found, next), want, "{op:?} of {} and {} on {dtype}", int(&a, i), int(&b, j));
                }
                next += 1;
            });
        }
    }
}

#[test]
fn bits_and_powers_are_those_of_single_elements() {
    let power = |dtype: DType, a: i128, b: i128| match b {
        0.. => (0..b.min(300)).fold(1i128, |p, _| wrapped(dtype, p.wrapping_mul(a))),
        _ => [0, 1, if b % 2 == 0 { 1 } else { -1 }][(a == 1) as usize + 2 * (a == -1) as usize],
    };
    let shift = |dtype: DType, a: i128, b: i128, left: bool| {
        let inside = (0..64).contains(&b);
        match (left, inside) {
            (true, true) => a << b,
            (true, false) => 0,
            (false, true) => a >> b,
            (false, false) => {
                if dtype.is_signed() && a < 0 {
                    -1
                } else {
                    0
                }
            }
        }
    };
    for dtype in NUMBERS.into_iter().filter(|d| d.is_int()) {
        let a = numbers(dtype, 30, 3).reshaped(&[30, 1]).unwrap();
        let b = Tensor::from_i64(dtype, &[8], &[0, 1, 2, 5, 7, 31, 63, -1]).unwrap();
        let check = |op: Op, f: &dyn Fn(i128, i128) -> i128| {
            let found = one(op.clone(), &[&a, &b]);
            for (k, (i, j)) in (0..30).flat_map(|i| (0..8).map(move |j| (i, j))).enumerate() {
                let (x, y) = (int(&a, i), int(&b, j));
                if matches!(op, Op::Pow(_)) && y > 300 {
                    continue;
                }
                assert_eq!(int(&found, k), wrapped(dtype, f(x, y)), "{op:?} of {x} and {y} on {dtype}");
            }
        };
        check(BitAnd {}.into(), &|a, b| a & b);
        check(BitOr {}.into(), &|a, b| a | b);
        check(BitXor {}.into(), &|a, b| a ^ b);
        check(ShiftLeft {}.into(), &|a, b| shift(dtype, a, b, true));
        check(ShiftRight {}.into(), &|a, b| shift(dtype, a, b, false));
        check(Pow {}.into(), &|a, b| power(dtype, a, b));
        let inverted = one(BitNot {}, &[&a]);
        assert!((0..30).all(|i| int(&inverted, i) == wrapped(dtype, !int(&a, i))));
    }
}

#[test]
fn comparisons_and_choices_are_those_of_single_elements() {
    let tests: [Comparison; 5] = [
        (Equal {}.into(), |a, b| a == b, |a, b| a == b),
        (Less {}.into(), |a, b| a < b, |a, b| a < b),
        (Greater {}.into(), |a, b| a > b, |a, b| a > b),
        (LessEqual {}.into(), |a, b| a <= b, |a, b| a <= b),
        (GreaterEqual {}.into(), |a, b| a >= b, |a, b| a >= b),
    ];
    for (dtype, ([p, q], shape)) in NUMBERS.into_iter().flat_map(|d| PAIRS.map(|pair| (d, pair))) {
        let (a, b) = (shaped(&numbers(dtype, 24, 5), p), shaped(&numbers(dtype, 20, 6), q));
        let (mut pairs, mut conds) = (vec![], vec![]);
        for_each_index(shape, |index| pairs.push((broadcast_at(p, index), broadcast_at(q, index))));
        for (op, float, whole) in &tests {
            let found = one(op.clone(), &[&a, &b]);
            let want = |&(i, j): &(usize, usize)| match dtype.is_float() {
                true => float(a.to_f64_vec()[i], b.to_f64_vec()[j]),
                false => whole(int(&a, i), int(&b, j)),
            };
            assert_eq!(found, Tensor::from_bools(shape, &pairs.iter().map(want).collect::<Vec<_>>()).unwrap());
            conds.push(found);
        }
        // Conditions of the result's shape, of a row, and of one element.
        let bools: Vec<bool> = (0..shape.last().copied().unwrap_or(1)).map(|i| i % 3 != 1).collect();
        conds.push(Tensor::from_bools(&[bools.len()][..shape.len().min(1)], &bools).unwrap());
        conds.push(Tensor::from_bools(&[], &[false]).unwrap());
        conds.push(Tensor::from_bools(&[], &[true]).unwrap());
        for cond in &conds {
            let (found, width, mut k) = (one(Where {}, &[cond, &a, &b]), dtype.bits() / 8, 0);
            for_each_index(shape, |index| {
                let (i, j) = pairs[k];
                let (from, at) = if cond.bytes()[broadcast_at(cond.shape(), index)] != 0 { (&a, i) } else { (&b, j) };
                assert_eq!(found.bytes()[k * width..][..width], from.bytes()[at * width..][..width]);
                k += 1;
            });
        }
    }
    let (a, b) =
        (Tensor::from_bools(&[2, 1], &[true, false]).unwrap(), Tensor::from_bools(&[2], &[true, false]).unwrap());
    assert_eq!(one(And {}, &[&a, &b]).bytes(), [1, 0, 0, 0]);
    assert_eq!(one(Or {}, &[&a, &b]).bytes(), [1, 1, 1, 0]);
    assert_eq!(one(Xor {}, &[&a, &b]).bytes(), [0, 1, 1, 0]);
    assert_eq!(one(Equal {}, &[&a, &b]).bytes(), [1, 0, 0, 1]);
}

#[test]
fn conversions_are_those_of_single_elements() {
    let all: Vec<DType> = NUMBERS.into_iter().chain([DType::Bool]).collect();
    for (from, to) in all.iter().flat_map(|&from| all.iter().map(move |&to| (from, to))) {
        let x = numbers(from, 24, 7);
        let found = one(Cast { to }, &[&x]);
        for i in 0..24 {
            let want = match (from, to) {
                _ if from == to => Tensor::from_bytes(from, &[1], &x.bytes()[i * from.bits() / 8..][..from.bits() / 8]),
                _ if from.is_float() => Tensor::from_f64(to, &[1], &[x.to_f64_vec()[i]]),
                (DType::U64, _) if to.is_float() => Tensor::from_f64(to, &[1], &[int(&x, i) as f64]),
                _ => Tensor::from_i64(to, &[1], &[int(&x, i) as i64]),
            };
            let width = to.bits() / 8;
            assert_eq!(
                found.bytes()[i * width..][..width],
                *want.unwrap().bytes(),
                "{from} to {to}: {:?}",
                x.to_f64_vec()[i]
            );
        }
    }
}

#[test]
fn functions_of_integers_and_bounds() {
    for dtype in NUMBERS {
        let x = numbers(dtype, 30, 8);
        let (low, high) = (Tensor::from_i64(dtype, &[], &[1]).unwrap(), Tensor::from_i64(dtype, &[], &[9]).unwrap());
        let clipped = one(Clip {}, &[&x, &low, &high]);
        for (v, c) in x.to_f64_vec().into_iter().zip(clipped.to_f64_vec()) {
            assert!(if v.is_nan() { c.is_nan() } else { c == v.clamp(1.0, 9.0) }, "{dtype}: {v} became {c}");
        }
        if dtype.is_int() {
            let all = |op: Op, f: &dyn Fn(i128) -> i128| {
                let y = one(op.clone(), &[&x]);
                (0..30).for_each(|i| assert_eq!(int(&y, i), wrapped(dtype, f(int(&x, i))), "{op:?} on {dtype}"));
            };
            all(Abs {}.into(), &|v| v.abs());
            all(Neg {}.into(), &|v| -v);
            all(Relu {}.into(), &|v| v.max(0));
            all(Sign {}.into(), &|v| v.signum());
        }
    }
}

/// The index of an element, and the tensor without the axes that are reduced.
fn kept_at(shape: &[usize], axes: &[usize], index: &[usize]) -> usize {
    let kept: Vec<usize> = (0..shape.len()).filter(|d| !axes.contains(d)).collect();
    let strides = strides_of(&kept.iter().map(|&d| shape[d]).collect::<Vec<_>>());
    kept.iter().zip(strides).map(|(&d, s)| index[d] * s).sum()
}

#[test]
fn reductions_of_integers_are_exact_along_any_axes() {
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[30], &[0]),
        (&[5, 6], &[1]),
        (&[5, 6], &[0]),
        (&[2, 3, 4], &[0, 2]),
        (&[2, 3, 4], &[1]),
        (&[1, 7, 1], &[0, 1]),
        (&[0, 3], &[0]),
        (&[3, 0, 2], &[0]),
    ];
    for (dtype, (shape, axes)) in NUMBERS.into_iter().filter(|d| d.is_int()).flat_map(|d| shapes.map(|s| (d, s))) {
        let x = shaped(&numbers(dtype, 30, 9), shape);
        let kept: usize = (0..shape.len()).filter(|d| !axes.contains(d)).map(|d| shape[d]).product();
        let (low, high) = dtype.int_range().unwrap();
        let check = |kind, first: i128, f: &dyn Fn(i128, i128) -> i128| {
            let op =
                Reduce { all_if_empty: false, kind, axes: axes.iter().map(|&a| a as i64).collect(), keep_dims: false };
            let found = one(op, &[&x]);
            let (mut want, mut k) = (vec![first; kept], 0);
            for_each_index(shape, |index| {
                let at = kept_at(shape, axes, index);
                want[at] = wrapped(dtype, f(want[at], int(&x, k)));
                k += 1;
            });
            (0..kept).for_each(|i| assert_eq!(int(&found, i), want[i], "{kind:?} of {dtype} {shape:?} over {axes:?}"));
        };
        check(ReduceKind::Sum, 0, &|a, v| a + v);
        check(ReduceKind::Prod, 1, &|a, v| a.wrapping_mul(v));
        check(ReduceKind::SumSquare, 0, &|a, v| a + wrapped(dtype, v.wrapping_mul(v)));
        check(ReduceKind::L1, 0, &|a, v| a + v.abs());
        check(ReduceKind::Max, low, &|a, v| a.max(v));
        check(ReduceKind::Min, high, &|a, v| a.min(v));
    }
}

#[test]
fn places_of_extremes_and_running_sums() {
    let shapes: [(&[usize], usize); 6] =
        [(&[30], 0), (&[3, 40], 1), (&[40, 3], 0), (&[2, 10, 3], 1), (&[1, 1], 0), (&[0, 4], 1)];
    for (dtype, (shape, axis)) in NUMBERS.into_iter().flat_map(|d| shapes.map(|s| (d, s))) {
        let x = shaped(&numbers(dtype, 37, 10), shape);
        let (n, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
        let outer: usize = shape[..axis].iter().product();
        let above = |a: usize, b: usize| match dtype.is_float() {
            true => {
                let (a, b) = (x.to_f64_vec()[a], x.to_f64_vec()[b]);
                a > b || (a.is_nan() && !b.is_nan())
            }
            false => int(&x, a) > int(&x, b),
        };
        for largest in [true, false] {
            let better = |a, b| if largest { above(a, b) } else { above(b, a) };
            let kind = if largest { Extreme::Max } else { Extreme::Min };
            let first = one(ArgReduce { axis: axis as i64, keep_dims: true, kind, last: false }, &[&x]);
            let last = one(ArgReduce { axis: axis as i64, keep_dims: true, kind, last: true }, &[&x]);
            let k = n.div_ceil(2);
            let top = eval(TopK { axis: axis as i64, largest }, &[&x, &Tensor::scalar(k as i64)]).unwrap();
            for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
                let at = |r: usize| (o * n + r) * inner + i;
                // A stable sort by a relation that only tells which of two is better.
                let mut order: Vec<usize> = vec![];
                for r in 0..n {
                    let place = order.iter().position(|&s| better(at(r), at(s))).unwrap_or(order.len());
                    order.insert(place, r);
                }
                assert_eq!(first.to_i64_vec()[o * inner + i], order[0] as i64, "{dtype} {shape:?} {kind:?}");
                let equal = order.iter().take_while(|&&r| !better(at(order[0]), at(r))).max().unwrap();
                assert_eq!(last.to_i64_vec()[o * inner + i], *equal as i64, "{dtype} {shape:?} {kind:?} last");
                for (rank, &r) in order[..k].iter().enumerate() {
                    let to = (o * k + rank) * inner + i;
                    assert_eq!(top[1].to_i64_vec()[to], r as i64, "{dtype} {shape:?} {kind:?}");
                    let width = dtype.bits() / 8;
                    assert_eq!(top[0].bytes()[to * width..][..width], x.bytes()[at(r) * width..][..width]);
                }
            }
        }
        if dtype.is_int() {
            sums(&x, axis);
        }
    }
}

/// Running sums and products of integers, of every kind.
fn sums(x: &Tensor, axis: usize) {
    let (shape, dtype) = (x.shape(), x.dtype());
    let (n, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    for (exclusive, reverse, kind) in [
        (false, false, CumulateKind::Sum),
        (true, true, CumulateKind::Sum),
        (true, false, CumulateKind::Prod),
        (false, true, CumulateKind::Prod),
    ] {
        let op = Cumulate { exclusive, kind, reverse };
        let found = one(op, &[x, &Tensor::scalar(axis as i64)]);
        for at in 0..x.len() {
            let (k, base) = (at / inner % n, at - at / inner % n * inner);
            let counts =
                |j: usize| if reverse { j > k || (j == k && !exclusive) } else { j < k || (j == k && !exclusive) };
            let parts = (0..n).filter(|&j| counts(j)).map(|j| int(x, base + j * inner));
            let want = match kind {
                CumulateKind::Sum => parts.sum(),
                CumulateKind::Prod => parts.fold(1, |p: i128, v| wrapped(dtype, p.wrapping_mul(v))),
            };
            assert_eq!(int(&found, at), wrapped(dtype, want), "{kind:?} {exclusive} {reverse} of {dtype} {shape:?}");
        }
    }
}

#[test]
fn rows_longer_than_a_block_are_summed_as_well() {
    let x = numbers(DType::F32, 3 * 1500, 11).reshaped(&[3, 1500]).unwrap();
    let found =
        one(Cumulate { exclusive: false, kind: CumulateKind::Sum, reverse: false }, &[&x, &Tensor::scalar(0i64)]);
    let v = x.to_f64_vec();
    for i in 0..1500 {
        let want = (v[i] + v[1500 + i] + v[3000 + i]) as f32;
        let got = found.to_f64_vec()[3000 + i] as f32;
        assert!(got == want || (got.is_nan() && want.is_nan()), "{i}: {got}, expected {want}");
    }
}

/// Tensors whose elements are their own places, of every width.
fn counted(shape: &[usize]) -> Vec<Tensor> {
    let n: i64 = shape.iter().product::<usize>() as i64;
    let values: Vec<i64> = (0..n).collect();
    [DType::U8, DType::F16, DType::F32, DType::I64].map(|d| Tensor::from_i64(d, shape, &values).unwrap()).to_vec()
}

#[test]
fn gathers_and_scatters_find_single_elements() {
    let mut random = Random::new(12);
    let shapes: [(&[usize], &[usize], usize); 6] = [
        (&[6, 5], &[6, 3], 1),
        (&[6, 5], &[3, 5], 0),
        (&[2, 3, 4], &[2, 7, 2], 1),
        (&[9], &[4], 0),
        (&[3, 4], &[0, 4], 0),
        (&[1, 1, 1], &[1, 1, 1], 2),
    ];
    for (shape, at, axis) in shapes {
        let n = shape[axis] as i64;
        let picks: Vec<i64> = (0..at.iter().product()).map(|_| random.below(2 * n as usize) as i64 - n).collect();
        for x in counted(shape) {
            let (mut places, mut k) = (vec![], 0);
            for_each_index(at, |index| {
                let mut index = index.to_vec();
                index[axis] = picks[k].rem_euclid(n) as usize;
                places.push(index.iter().zip(strides_of(shape)).map(|(i, s)| i * s).sum::<usize>());
                k += 1;
            });
            for dtype in [DType::I64, DType::I32] {
                let indices = Tensor::from_i64(dtype, at, &picks).unwrap();
                let found = one(GatherElements { axis: axis as i64 }, &[&x, &indices]);
                assert_eq!(found.to_i64_vec(), places.iter().map(|&p| p as i64).collect::<Vec<_>>());
                scattered(&x, &indices, &places, axis);
            }
            let far = Tensor::from_i64(DType::I64, at, &vec![n; picks.len()]).unwrap();
            assert_eq!(eval(GatherElements { axis: axis as i64 }, &[&x, &far]).is_err(), !picks.is_empty());
        }
    }
}

/// Updates that are put, summed and compared, element by element.
fn scattered(x: &Tensor, indices: &Tensor, places: &[usize], axis: usize) {
    let news: Vec<i64> = (0..places.len() as i64).map(|i| 3 * i % 11).collect();
    let updates = Tensor::from_i64(x.dtype(), indices.shape(), &news).unwrap();
    type Kind = (ScatterReduction, fn(i64, i64) -> i64);
    let kinds: [Kind; 4] = [
        (ScatterReduction::None, |_, new| new),
        (ScatterReduction::Add, |old, new| old + new),
        (ScatterReduction::Max, i64::max),
        (ScatterReduction::Min, i64::min),
    ];
    for (reduction, f) in kinds {
        let mut want = x.to_i64_vec();
        places.iter().zip(&news).for_each(|(&at, &new)| want[at] = f(want[at], new));
        let found = one(ScatterElements { axis: axis as i64, reduction }, &[x, indices, &updates]);
        assert_eq!(found.to_i64_vec(), want, "{reduction:?}");
        // The same by whole indices.
        let strides = strides_of(x.shape());
        let all = places.iter().flat_map(|&p| (0..x.rank()).map(move |d| (p, d)));
        let all: Vec<i64> = all.map(|(p, d)| (p / strides[d] % x.shape()[d]) as i64).collect();
        let nd = Tensor::from_slice(&[places.len(), x.rank()], &all).unwrap();
        let flat = updates.reshaped(&[places.len()]).unwrap();
        assert_eq!(one(ScatterNd { reduction }, &[x, &nd, &flat]).to_i64_vec(), want, "{reduction:?} by whole indices");
        let found = one(GatherNd { batch_dims: 0 }, &[x, &nd]);
        assert_eq!(found.to_i64_vec(), places.iter().map(|&p| p as i64).collect::<Vec<_>>());
    }
}

#[test]
fn blocks_and_batches_are_gathered() {
    for x in counted(&[2, 3, 4]) {
        let indices = Tensor::from_slice(&[2, 2, 1], &[2i64, 0, -1, 1]).unwrap();
        let found = one(GatherNd { batch_dims: 1 }, &[&x, &indices]);
        assert_eq!(found.shape(), [2, 2, 4]);
        let rows = [2, 0, 5, 4].map(|row| row * 4).map(|at| at..at + 4);
        assert_eq!(found.to_i64_vec(), rows.into_iter().flatten().collect::<Vec<i64>>());
        let found = one(Gather { axis: -1 }, &[&x, &Tensor::from_slice(&[2], &[-1i32, 0]).unwrap()]);
        assert_eq!(found.to_i64_vec(), (0..6).flat_map(|row| [4 * row + 3, 4 * row]).collect::<Vec<i64>>());
        let far = Tensor::from_slice(&[1], &[4i64]).unwrap();
        assert!(eval(Gather { axis: -1 }, &[&x, &far]).unwrap_err().to_string().contains("C1"));
    }
}

#[test]
fn slices_go_both_ways_with_any_step() {
    let mut random = Random::new(13);
    let shapes: [&[usize]; 6] = [&[13], &[5, 7], &[4, 1, 6], &[2, 3, 4, 5], &[0, 3], &[1]];
    for (shape, _) in shapes.iter().flat_map(|s| (0..12).map(move |i| (s, i))) {
        let bound = |random: &mut Random| random.below(30) as i64 - 15;
        let (mut starts, mut ends, mut steps) = (vec![], vec![], vec![]);
        for _ in *shape {
            starts.push(bound(&mut random));
            ends.push(bound(&mut random));
            steps.push([1, -1, 2, -2, 3, -5][random.below(6)]);
        }
        // What NumPy takes of each axis: counted up or down from the start, as far as it is clamped.
        let picks: Vec<Vec<usize>> = (0..shape.len())
            .map(|d| {
                let n = shape[d] as i64;
                if n == 0 {
                    return vec![];
                }
                let wrap = |v: i64| if v < 0 { v + n } else { v };
                let (mut at, step) = (wrap(starts[d]), steps[d]);
                let end = if step > 0 { wrap(ends[d]).clamp(0, n) } else { wrap(ends[d]).clamp(-1, n - 1) };
                at = if step > 0 { at.clamp(0, n) } else { at.clamp(0, n - 1) };
                let mut found = vec![];
                while (step > 0 && at < end) || (step < 0 && at > end) {
                    found.push(at as usize);
                    at += step;
                }
                found
            })
            .collect();
        let list = |v: &[i64]| Tensor::from_slice(&[v.len()], v).unwrap();
        let axes: Vec<i64> = (0..shape.len() as i64).collect();
        for x in counted(shape) {
            let found = one(Slice {}, &[&x, &list(&starts), &list(&ends), &list(&axes), &list(&steps)]);
            let extents: Vec<usize> = picks.iter().map(Vec::len).collect();
            assert_eq!(found.shape(), extents);
            let (strides, mut want) = (strides_of(shape), vec![]);
            for_each_index(&extents, |i| {
                want.push((0..i.len()).map(|d| picks[d][i[d]] * strides[d]).sum::<usize>() as i64)
            });
            assert_eq!(found.to_i64_vec(), want, "{shape:?} from {starts:?} to {ends:?} by {steps:?}");
        }
    }
}

#[test]
fn hot_places_triangles_and_reversed_sequences() {
    for (dtype, axis) in
        [DType::F32, DType::U8, DType::I64, DType::F16].into_iter().flat_map(|d| [0i64, 1, -1].map(|a| (d, a)))
    {
        let values = Tensor::from_i64(dtype, &[2], &[3, 5]).unwrap();
        let indices = Tensor::from_slice(&[2, 3], &[0i64, -1, 4, 2, -4, 9]).unwrap();
        let found = one(OneHot { axis }, &[&indices, &Tensor::scalar(4i64), &values]);
        let mut k = 0;
        let place = if axis < 0 { 2 } else { axis as usize };
        for_each_index(found.shape(), |index| {
            let mut of = index.to_vec();
            let depth = of.remove(place) as i64;
            let i = indices.to_i64_vec()[of[0] * 3 + of[1]];
            let hot = if i < 0 { i + 4 } else { i } == depth;
            assert_eq!(found.to_i64_vec()[k], if hot { 5 } else { 3 });
            k += 1;
        });
    }
    for (x, k) in counted(&[2, 3, 4]).into_iter().flat_map(|x| [-9i64, -1, 0, 2, 9].map(|k| (x.clone(), k))) {
        for upper in [true, false] {
            let found = one(Triangle { upper }, &[&x, &Tensor::scalar(k)]).to_i64_vec();
            let stays = |at: i64| (at % 4 - at / 4 % 3 - k) * if upper { 1 } else { -1 } >= 0;
            assert_eq!(found, (0..24).map(|at| if stays(at) { at } else { 0 }).collect::<Vec<_>>());
        }
    }
    for (x, time_axis) in counted(&[3, 4, 2]).into_iter().flat_map(|x| [0i64, 1].map(|t| (x.clone(), t))) {
        let (batches, steps) = if time_axis == 0 { (4, 3) } else { (3, 4) };
        let lengths: Vec<i64> = (0..batches).map(|b| b % (steps + 1)).collect();
        let op = ReverseSequence { batch_axis: 1 - time_axis, time_axis };
        let found = one(op, &[&x, &Tensor::from_slice(&[batches as usize], &lengths).unwrap()]).to_i64_vec();
        for at in 0..24i64 {
            let (i, j) = (at / 8, at / 2 % 4);
            let (b, t) = if time_axis == 0 { (j, i) } else { (i, j) };
            let from = if t < lengths[b as usize] { lengths[b as usize] - 1 - t } else { t };
            let (i, j) = if time_axis == 0 { (from, b) } else { (b, from) };
            assert_eq!(found[at as usize], i * 8 + j * 2 + at % 2);
        }
    }
}

#[test]
fn columns_are_summed_where_their_windows_lie() {
    // Image, block, strides, dilations, pads.
    type Case = (&'static [usize], &'static [usize], [i64; 2], [i64; 2], [i64; 4]);
    let cases: [Case; 6] = [
        (&[5, 6], &[2, 3], [1, 1], [1, 1], [0, 0, 0, 0]),
        (&[5, 6], &[3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
        (&[7, 7], &[3, 2], [2, 3], [1, 2], [1, 0, 0, 2]),
        (&[4, 4], &[2, 2], [2, 2], [2, 2], [2, 2, 2, 2]),
        (&[1, 1], &[1, 1], [1, 1], [1, 1], [0, 0, 0, 0]),
        (&[3, 2], &[2, 5], [1, 4], [1, 1], [0, 6, 0, 6]),
    ];
    for (image, block, strides, dilations, pads) in cases {
        let windows: Vec<i64> = (0..2)
            .map(|d| {
                (image[d] as i64 + pads[d] + pads[d + 2] - (block[d] as i64 - 1) * dilations[d] - 1) / strides[d] + 1
            })
            .collect();
        let (taps, columns) = (block.iter().product::<usize>(), (windows[0] * windows[1]) as usize);
        let list = |v: &[usize]| Tensor::from_slice(&[2], &[v[0] as i64, v[1] as i64]).unwrap();
        for dtype in [DType::F32, DType::I64, DType::U8, DType::F16] {
            let values: Vec<i64> = (0..2 * 2 * taps * columns).map(|i| (i * 7 % 5) as i64).collect();
            let x = Tensor::from_i64(dtype, &[2, 2 * taps, columns], &values).unwrap();
            let op = Col2Im { dilations: dilations.to_vec(), pads: pads.to_vec(), strides: strides.to_vec() };
            let found = one(op, &[&x, &list(image), &list(block)]);
            let mut want = vec![0; 4 * image[0] * image[1]];
            for (k, v) in values.iter().enumerate() {
                let (plane, tap, w) = (k / columns / taps, k / columns % taps, (k % columns) as i64);
                let i = w / windows[1] * strides[0] + (tap / block[1]) as i64 * dilations[0] - pads[0];
                let j = w % windows[1] * strides[1] + (tap % block[1]) as i64 * dilations[1] - pads[1];
                if (0..image[0] as i64).contains(&i) && (0..image[1] as i64).contains(&j) {
                    want[(plane * image[0] + i as usize) * image[1] + j as usize] += v;
                }
            }
            assert_eq!(found.to_i64_vec(), want, "{image:?} of {block:?} by {strides:?}, {dilations:?}, {pads:?}");
        }
    }
}

#[test]
fn samples_of_a_plane_are_weighted_sums() {
    let x: Vec<f64> = (0..2 * 3 * 4 * 5).map(|i| f64::from(i * 13 % 29)).collect();
    let points: Vec<f64> = (0..2 * 3 * 4 * 2).map(|i| f64::from(i * 17 % 41) / 16.0 - 1.25).collect();
    for dtype in [DType::F32, DType::F64] {
        let xt = Tensor::from_f64(dtype, &[2, 3, 4, 5], &x).unwrap();
        let grid = Tensor::from_f64(DType::F32, &[2, 3, 4, 2], &points).unwrap();
        let op = GridSample { align_corners: true, ..GridSample::from_attrs(vec![]).unwrap() };
        let found = one(op, &[&xt, &grid]).to_f64_vec();
        for (at, got) in found.into_iter().enumerate() {
            let (n, c, p) = (at / 36, at / 12 % 3, at % 12);
            let point = |d: usize| points[(n * 12 + p) * 2 + d];
            let (px, py) = ((point(0) + 1.0) / 2.0 * 4.0, (point(1) + 1.0) / 2.0 * 3.0);
            let mut want = 0.0;
            for (i, j) in (0..4).flat_map(|i| (0..5).map(move |j| (i, j))) {
                let weight = (1.0 - (py - f64::from(i)).abs()).max(0.0) * (1.0 - (px - f64::from(j)).abs()).max(0.0);
                want += weight * x[((n * 3 + c) * 4 + i as usize) * 5 + j as usize];
            }
            assert!((got - want).abs() < 1e-5, "element {at} is {got}, expected {want}");
        }
    }
}

#[test]
fn pads_of_every_kind_come_from_their_sources() {
    let cases: [(&[usize], &[i64]); 7] = [
        (&[5], &[2, 3]),
        (&[3, 4], &[1, 2, 0, 3]),
        (&[3, 4], &[-1, 2, 1, -2]),
        (&[2, 3, 4], &[0, 1, -3, 1, 0, -1]),
        (&[1, 1], &[3, 4, 2, 1]),
        (&[4, 6], &[0, -6, 0, 2]),
        (&[2, 2], &[0, 7, 0, 9]),
    ];
    let modes = [PadMode::Constant, PadMode::Edge, PadMode::Reflect, PadMode::Wrap];
    for ((shape, pads), mode) in cases.iter().flat_map(|case| modes.map(|mode| (case, mode))) {
        for x in counted(shape) {
            let value = Tensor::from_i64(x.dtype(), &[], &[99]).unwrap();
            let found = one(Pad { mode, pads: pads.to_vec() }, &[&x, &value]);
            let mut k = 0;
            for_each_index(found.shape(), |index| {
                // The place along each axis, counted from the first element of `x`.
                let source = |d: usize| -> Option<i64> {
                    let (i, n) = (index[d] as i64 - pads[d], shape[d] as i64);
                    match mode {
                        _ if (0..n).contains(&i) => Some(i),
                        PadMode::Constant => None,
                        PadMode::Edge => Some(i.clamp(0, n - 1)),
                        PadMode::Wrap => Some(i.rem_euclid(n)),
                        PadMode::Reflect if n == 1 => Some(0),
                        PadMode::Reflect => Some((n - 1) - ((i.rem_euclid(2 * n - 2)) - (n - 1)).abs()),
                    }
                };
                let strides = strides_of(shape);
                let at = (0..shape.len()).try_fold(0, |sum, d| Some(sum + source(d)? * strides[d] as i64));
                assert_eq!(found.to_i64_vec()[k], at.unwrap_or(99), "{shape:?} by {pads:?}, {mode:?}");
                k += 1;
            });
        }
    }
}

#[test]
fn places_and_slices_that_data_choose() {
    let empty = Tensor::zeros(DType::F32, &[3, 0]).unwrap();
    let run = |op: Op, operands: &[&Tensor]| {
        let values: Vec<Option<Val>> = operands.iter().map(|t| Some(Val::Tensor((*t).clone()))).collect();
        op.eval(&Args::plain(&values)).unwrap()[0].as_tensor().unwrap().clone()
    };
    assert_eq!(run(NonZero {}.into(), &[&empty]).shape(), [2, 0]);
    for dtype in NUMBERS.into_iter().chain([DType::Bool]) {
        for shape in [&[24][..], &[2, 3, 4], &[1, 24, 1], &[]] {
            let x = shaped(&numbers(dtype, 24, 14), shape);
            let (found, mut want) = (run(NonZero {}.into(), &[&x]), vec![]);
            let (values, mut k) = (x.to_f64_vec(), 0);
            for_each_index(if shape.is_empty() { &[1] } else { shape }, |index| {
                want.extend((values[k] != 0.0).then(|| index.to_vec()));
                k += 1;
            });
            let axes = shape.len().max(1);
            assert_eq!(found.shape(), [axes, want.len()]);
            let flat = (0..axes).flat_map(|d| want.iter().map(move |index| index[d] as i64));
            assert_eq!(found.to_i64_vec(), flat.collect::<Vec<_>>(), "{dtype} {shape:?}");
        }
    }
    let keep = Tensor::from_bools(&[3], &[true, false, true]).unwrap();
    for x in counted(&[2, 4, 3]) {
        let found = run(Compress { axis: 1 }.into(), &[&x, &keep]);
        let rows = [0, 2, 4, 6].map(|row| (row * 3..row * 3 + 3).collect::<Vec<i64>>());
        assert_eq!((found.shape(), found.to_i64_vec()), (&[2, 2, 3][..], rows.concat()));
    }
    for dtype in NUMBERS {
        let [a, b, d] = [2, 11, 3].map(|v| Tensor::from_i64(dtype, &[], &[v]).unwrap());
        assert_eq!(run(Range {}.into(), &[&a, &b, &d]).to_i64_vec(), [2, 5, 8]);
        let ones = one(Eye { dtype, k: 1 }, &[&Tensor::zeros(DType::F32, &[2, 3]).unwrap()]);
        assert_eq!(ones.to_i64_vec(), [0, 1, 0, 0, 0, 1]);
    }
}

#[test]
fn halves_keep_their_order() {
    let x = Tensor::from_slice(&[4], &[f16::NEG_INFINITY, f16::NAN, f16::ZERO, f16::ONE]).unwrap();
    let top = eval(TopK { axis: 0, largest: true }, &[&x, &Tensor::scalar(4i64)]).unwrap();
    assert_eq!(top[1].to_i64_vec(), [1, 3, 2, 0]);
    let x = Tensor::from_slice(&[3], &[bf16::ONE, bf16::NAN, bf16::ONE]).unwrap();
    let least = ArgReduce { axis: 0, keep_dims: true, kind: Extreme::Min, last: true };
    assert_eq!(one(least, &[&x]).to_i64_vec(), [2]);
}
