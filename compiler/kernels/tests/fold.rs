//! Folding kernels through machine code and the interpreter against plain loops in `f64`: reductions over any dims,
//! softmax and normalisations, along and across, all tails.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_kernel::expr::Expr;
use optc_kernel::nest::parse_kernel;
use optc_kernel::space::ByteView;
use optc_kernel::target::Isa;
use optc_kernel::tile::MemType;
use optc_kernels::fold::{Fold, Folding, Reduction, folding, log_softmax, normalised, root_mean_square, softmax};
use optc_testing::{all_isas, bytes_of, floats_of, portable, random_floats, run_here};
use proptest::prelude::*;

/// Runs a kernel through machine code, and the interpreter if it is small, which must agree.
fn run(p: &Folding, operands: &[Vec<f32>]) -> Vec<f32> {
    let all: Vec<_> = all_isas().into_iter().map(|isa| run_on(isa, p, operands)).collect();
    for pair in all.windows(2) {
        let mut both = pair[0].iter().zip(&pair[1]);
        let near = |x: f32, y: f32| x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= 1e-4 * (1.0 + y.abs());
        assert!(both.all(|(&x, &y)| near(x, y)), "targets disagree");
    }
    all.into_iter().next().unwrap()
}

fn run_on(isa: &Isa, p: &Folding, operands: &[Vec<f32>]) -> Vec<f32> {
    let kernel = folding(p, isa).unwrap();
    let mut buffers: Vec<_> = operands.iter().map(|x| bytes_of(x)).collect();
    buffers.push(vec![0xee; p.result.bytes]);
    let mut interpreted = buffers.clone();
    run_here(&kernel, &mut buffers).unwrap();
    if buffers.iter().all(|b| b.len() < 8_000) {
        kernel.interpret(&mut interpreted).unwrap();
        assert!(interpreted == buffers, "{kernel}");
    }
    floats_of(&buffers.pop().unwrap())
}

/// The elements of each group: where they are in the operand, and where in a dense result.
fn groups(shape: &[usize], reduced: &[bool], view: &ByteView) -> Vec<Vec<(usize, usize)>> {
    let mut all = vec![(0i64, 0usize, 0usize)];
    for d in 0..shape.len() {
        all = all
            .into_iter()
            .flat_map(|(from, to, group)| {
                let group = move |i| if reduced[d] { group } else { group * shape[d] + i };
                (0..shape[d]).map(move |i| (from + i as i64 * view.strides[d], to * shape[d] + i, group(i)))
            })
            .collect();
    }
    let count = all.iter().map(|a| a.2 + 1).max().unwrap_or(0);
    let mut groups = vec![Vec::new(); count];
    all.into_iter().for_each(|(from, to, group)| groups[group].push((from as usize / 4, to)));
    groups
}

fn problem(shape: &[usize], reduced: &[bool], x: &ByteView, (folds, store): (Vec<Fold>, Expr), every: bool) -> Folding {
    let written: Vec<_> = (0..shape.len()).map(|d| if every || !reduced[d] { shape[d] } else { 1 }).collect();
    let result = ByteView::dense(MemType::F32, &written);
    let (shape, reduced) = (shape.to_vec(), reduced.to_vec());
    Folding { shape, reduced, operands: vec![x.clone()], folds, result, every, store }
}

fn close(found: f32, want: f64, what: &dyn std::fmt::Debug) {
    let close = (f64::from(found) - want).abs() <= 1e-5 * (1.0 + want.abs());
    assert!(close || (found.is_nan() && want.is_nan()), "{what:?}: {found}, expected {want}");
}

type Reference = (Reduction, fn(&[f64]) -> f64);

const REDUCTIONS: [Reference; 10] = [
    (Reduction::Sum, |v| v.iter().sum()),
    (Reduction::Mean, |v| v.iter().sum::<f64>() / v.len() as f64),
    (Reduction::Max, |v| v.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
    (Reduction::Min, |v| v.iter().copied().fold(f64::INFINITY, f64::min)),
    (Reduction::Product, |v| v.iter().product()),
    (Reduction::SumSquare, |v| v.iter().map(|x| x * x).sum()),
    (Reduction::L1, |v| v.iter().map(|x| x.abs()).sum()),
    (Reduction::L2, |v| v.iter().map(|x| x * x).sum::<f64>().sqrt()),
    (Reduction::LogSum, |v| v.iter().sum::<f64>().ln()),
    (Reduction::LogSumExp, |v| v.iter().map(|x| x.exp()).sum::<f64>().ln()),
];

fn reductions(shape: &[usize], reduced: &[bool], x: &ByteView, which: &[Reference]) {
    // Positive for the logarithm of the sum.
    let data: Vec<f32> = random_floats(x.bytes / 4, 3).iter().map(|x| x + 1.01).collect();
    for (reduction, f) in which {
        let groups = groups(shape, reduced, x);
        let n = groups.first().map_or(0, Vec::len);
        let found = run(&problem(shape, reduced, x, reduction.folds(n, 1), false), std::slice::from_ref(&data));
        assert_eq!(found.len(), groups.len());
        for (found, group) in found.into_iter().zip(&groups) {
            let values: Vec<f64> = group.iter().map(|&(at, _)| data[at].into()).collect();
            close(found, f(&values), &(reduction, shape, reduced));
        }
    }
}

#[test]
fn reductions_on_every_tail() {
    for n in [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33] {
        let dense = |shape: &[usize]| ByteView::dense(MemType::F32, shape);
        reductions(&[n], &[true], &dense(&[n]), &REDUCTIONS);
        reductions(&[3, n], &[false, true], &dense(&[3, n]), &REDUCTIONS);
        reductions(&[3, n], &[true, false], &dense(&[3, n]), &REDUCTIONS);
        reductions(&[2, n, 3], &[true, false, true], &dense(&[2, n, 3]), &REDUCTIONS[..3]);
        reductions(&[2, 5, n], &[false, true, false], &dense(&[2, 5, n]), &REDUCTIONS[..3]);
    }
}

#[test]
fn large_and_empty_reductions() {
    let dense = |shape: &[usize]| ByteView::dense(MemType::F32, shape);
    let few = &REDUCTIONS[..3];
    reductions(&[100, 1000], &[false, true], &dense(&[100, 1000]), few);
    reductions(&[1000, 100], &[true, false], &dense(&[1000, 100]), few);
    reductions(&[8, 49, 150], &[false, true, false], &dense(&[8, 49, 150]), few);
    reductions(&[3, 4], &[false, false], &dense(&[3, 4]), few);
    reductions(&[], &[], &dense(&[]), few);
    reductions(&[2, 3, 2, 3, 2, 3], &[true, false, true, false, true, false], &dense(&[2, 3, 2, 3, 2, 3]), few);
    let p = problem(&[3, 0], &[false, true], &dense(&[3, 0]), Reduction::Sum.folds(0, 1), false);
    assert_eq!(run(&p, &[vec![]]), [0.0; 3]);
    let p = problem(&[0, 3], &[false, true], &dense(&[0, 3]), Reduction::Sum.folds(3, 1), false);
    assert!(run(&p, &[vec![]]).is_empty());
}

#[test]
fn extrema_give_nan_if_there_is_one() {
    for at in [0, 3, 4, 17, 20] {
        let mut x = random_floats(21, 1);
        x[at] = f32::NAN;
        for reduction in [Reduction::Max, Reduction::Min] {
            let view = ByteView::dense(MemType::F32, &[21]);
            assert!(run(&problem(&[21], &[true], &view, reduction.folds(21, 1), false), &[x.clone()])[0].is_nan());
            let found = run(
                &problem(&[21, 1], &[true, false], &view_of(&[21, 1]), reduction.folds(21, 1), false),
                &[x.clone()],
            );
            assert!(found[0].is_nan());
        }
    }
}

fn view_of(shape: &[usize]) -> ByteView {
    ByteView::dense(MemType::F32, shape)
}

type Lines = fn(&[f64]) -> Vec<f64>;

fn lines(shape: &[usize], reduced: &[bool], x: &ByteView) {
    let data: Vec<f32> = random_floats(x.bytes / 4, 7).iter().map(|x| 10.0 * x + 3.0).collect();
    let groups = groups(shape, reduced, x);
    let n = groups.first().map_or(1, Vec::len);
    let soft: Lines = |v| {
        let top = v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = v.iter().map(|x| (x - top).exp()).sum();
        v.iter().map(|x| (x - top).exp() / sum).collect()
    };
    let log_soft: Lines = |v| {
        let top = v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = v.iter().map(|x| (x - top).exp()).sum();
        v.iter().map(|x| x - top - sum.ln()).collect()
    };
    let normal: Lines = |v| {
        let n = v.len() as f64;
        let mean = v.iter().sum::<f64>() / n;
        let var = v.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        v.iter().map(|x| (x - mean) / (var + 1e-3f32 as f64).sqrt()).collect()
    };
    let rms: Lines = |v| {
        let square = v.iter().map(|x| x * x).sum::<f64>() / v.len() as f64;
        v.iter().map(|x| x / (square + 1e-3f32 as f64).sqrt()).collect()
    };
    let cases = [
        (softmax(1), soft),
        (log_softmax(1), log_soft),
        (normalised(n, 1e-3, 1), normal),
        (root_mean_square(n, 1e-3, 1), rms),
    ];
    for (i, (folds, f)) in cases.into_iter().enumerate() {
        let found = run(&problem(shape, reduced, x, folds, true), std::slice::from_ref(&data));
        for group in &groups {
            let values: Vec<f64> = group.iter().map(|&(at, _)| data[at].into()).collect();
            for (&(_, to), want) in group.iter().zip(f(&values)) {
                close(found[to], want, &(i, shape, reduced, to));
            }
        }
    }
}

#[test]
fn lines_on_every_tail() {
    for n in [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 100] {
        let dense = |shape: &[usize]| ByteView::dense(MemType::F32, shape);
        lines(&[3, n], &[false, true], &dense(&[3, n]));
        lines(&[5, n], &[true, false], &dense(&[5, n]));
        lines(&[2, 3, n], &[false, true, false], &dense(&[2, 3, n]));
        lines(&[2, n, 3], &[false, true, true], &dense(&[2, n, 3]));
        lines(&[n, 4], &[false, true], &dense(&[4, n]).permuted(&[1, 0]));
    }
    lines(&[200, 384], &[false, true], &ByteView::dense(MemType::F32, &[200, 384]));
}

#[test]
fn scale_and_bias_and_an_epilogue() {
    let (rows, n) = (5, 19);
    let (x, scale, other) = (random_floats(rows * n, 1), random_floats(n, 2), random_floats(rows * n, 3));
    let dense = ByteView::dense(MemType::F32, &[rows, n]);
    let (folds, store) = normalised(n, 1e-5, 3);
    let p = Folding {
        shape: vec![rows, n],
        reduced: vec![false, true],
        operands: vec![
            dense.clone(),
            ByteView { strides: vec![0, 4], ..ByteView::dense(MemType::F32, &[n]) },
            dense.clone(),
        ],
        folds,
        result: dense,
        every: true,
        store: store.times(Expr::Operand(1)).plus(Expr::Operand(2)).relu(),
    };
    let found = run(&p, &[x.clone(), scale.clone(), other.clone()]);
    for (r, row) in x.chunks(n).enumerate() {
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
        let var = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n as f64;
        for (c, &x) in row.iter().enumerate() {
            let y = (f64::from(x) - mean) / (var + f64::from(1e-5f32)).sqrt();
            let want = (y * f64::from(scale[c]) + f64::from(other[r * n + c])).max(0.0);
            close(found[r * n + c], want, &(r, c));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn layouts(
        shape in prop::collection::vec(1usize..7, 1..4), seed in any::<u64>(), which in any::<u8>(), slack in 0usize..3,
    ) {
        let rank = shape.len();
        let mut perm: Vec<usize> = (0..rank).collect();
        (1..rank).for_each(|d| perm.swap(d, (seed >> (8 * d)) as usize % (d + 1)));
        let mut outer: Vec<usize> = perm.iter().map(|&d| shape[d]).collect();
        outer[rank - 1] += slack;
        let mut back = vec![0; rank];
        perm.iter().enumerate().for_each(|(at, &d)| back[d] = at);
        let x = ByteView::dense(MemType::F32, &outer).permuted(&back);
        let reduced: Vec<bool> = (0..rank).map(|d| which >> d & 1 == 1).collect();
        reductions(&shape, &reduced, &x, &REDUCTIONS[..3]);
        lines(&shape, &reduced, &x);
    }
}

#[test]
fn text_of_a_softmax() {
    let x = ByteView::dense(MemType::F32, &[3, 6]);
    let kernel = folding(&problem(&[3, 6], &[false, true], &x, log_softmax(1), true), portable()).unwrap();
    insta::assert_snapshot!(kernel);
    assert_eq!(parse_kernel(&kernel.to_string()).as_ref(), Ok(&kernel));
}
