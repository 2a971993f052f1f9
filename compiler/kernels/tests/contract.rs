//! Contractions through machine code and the interpreter against plain loops, on all tails.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_kernel::expr::Expr;
use optc_kernel::nest::parse_kernel;
use optc_kernel::target::{Caches, Isa};
use optc_kernel::tile::MemType;
use optc_kernels::contract::{
    BuiltContract, Contract, ContractError, ContractSchedule, ConvNest, Operand, PackB, contract, conv, pack_b,
    pack_b_kernel, packed_len,
};
use optc_kernels::window::{Axis, ImageView};
use optc_testing::{all_isas, bytes_of, floats_of, portable, random_floats, run_here};
use proptest::prelude::*;

/// Runs a contraction; returns C.
fn run(built: &BuiltContract, a: &[f32], b: &[f32], operands: &[Vec<f32>], interpret: bool) -> Vec<f32> {
    let mut buffers = vec![bytes_of(a), bytes_of(b)];
    buffers.extend(built.table.clone());
    buffers.extend(operands.iter().map(|o| bytes_of(o)));
    buffers.push(vec![0xee; built.kernel.bufs.last().unwrap().bytes]);
    if interpret {
        built.kernel.interpret(&mut buffers).unwrap();
    } else {
        run_here(&built.kernel, &mut buffers).unwrap();
    }
    floats_of(&buffers.pop().unwrap())
}

fn close(found: &[f32], want: &[f32], what: &str) {
    assert_eq!(found.len(), want.len());
    for (i, (f, w)) in found.iter().zip(want).enumerate() {
        assert!((f - w).abs() <= 1e-4 * (1.0 + w.abs()), "{what}: element {i} is {f}, expected {w}");
    }
}

fn matmul(batch: usize, m: usize, n: usize, k: usize, transposed: bool) {
    all_isas().into_iter().for_each(|isa| matmul_on(isa, batch, m, n, k, transposed));
}

fn matmul_on(isa: &Isa, batch: usize, m: usize, n: usize, k: usize, transposed: bool) {
    let mut c = Contract::matmul(batch, m, n, k);
    let schedule = ContractSchedule::choose(&c, isa, &Caches::default());
    let nr = schedule.nr;
    c.own_b = true;
    c.operands = vec![
        Operand::per_column(n),
        Operand {
            mem: MemType::F32,
            bytes: 4 * batch * m * n,
            offset: 0,
            batch_stride: c.c_batch_stride,
            row_stride: 4 * n as i64,
            col_stride: 4,
        },
        Operand { mem: MemType::F32, bytes: 4 * m, offset: 0, batch_stride: 0, row_stride: 4, col_stride: 0 },
    ];
    let of = Expr::Operand;
    c.epilogue = of(0).plus(of(1)).plus(of(2)).times(of(3)).relu();
    let (a, b) = (random_floats(batch * m * k, 1), random_floats(batch * k * n, 2));
    let operands = vec![random_floats(n, 3), random_floats(batch * m * n, 4), random_floats(m, 5)];
    let (k_stride, n_stride) = if transposed { (1, k) } else { (n, 1) };
    let mut want = vec![0.0; batch * m * n];
    for (i, w) in want.iter_mut().enumerate() {
        let (g, row, col) = (i / (m * n), i / n % m, i % n);
        let sum: f32 = (0..k).map(|p| a[(g * m + row) * k + p] * b[g * k * n + p * k_stride + col * n_stride]).sum();
        *w = ((sum + operands[0][col] + operands[1][i]) * operands[2][row]).max(0.0);
    }
    let p = PackB { taps: 1, k, n, tap_stride: 0, k_stride, n_stride };
    let len = packed_len(1, k, n, isa.lanes());
    let mut packed = vec![0.0; batch * len];
    b.chunks(k * n).zip(packed.chunks_mut(len)).for_each(|(b, packed)| pack_b(b, &p, isa.lanes(), 1, packed));
    let pack = pack_b_kernel(batch, b.len(), k * n, &p, nr, isa.lanes());
    let mut buffers = vec![bytes_of(&b), vec![0; 4 * packed.len()]];
    run_here(&pack, &mut buffers).unwrap();
    assert_eq!(floats_of(&buffers[1]), packed);
    let built = contract(&c, isa, schedule).unwrap();
    let what = format!("{batch} x {m}x{n}x{k}");
    close(&run(&built, &a, &packed, &operands, false), &want, &what);
    if m * n * k < 3000 {
        close(&run(&built, &a, &packed, &operands, true), &want, &what);
    }
}

#[test]
fn every_tail_of_a_product() {
    let isa = optc_emit::host::isa();
    let (mr, nr) = (isa.contract_f32.0, isa.contract_f32.1 * isa.lanes());
    for m in [1, 2, mr - 1, mr, mr + 1, 9 * mr + 2] {
        for n in [1, isa.lanes(), nr - 1, nr, nr + 1, 3 * nr + 5] {
            for k in [1, 3, 4, 5, 17] {
                matmul(1, m, n, k, false);
            }
        }
    }
    matmul(3, 7, 13, 9, true);
    matmul(2, 200, 33, 300, false);
}

/// A batch is rows, and its answers must not depend on its size: each sum is one chain over k, on any row of the table.
#[test]
fn a_row_has_the_same_bits_however_many_there_are() {
    let (n, k) = (75, 37);
    let (a, b) = (random_floats(40 * k, 1), random_floats(k * n, 2));
    let p = PackB { taps: 1, k, n, tap_stride: 0, k_stride: n, n_stride: 1 };
    for isa in all_isas() {
        let product = |m: usize, schedule: ContractSchedule| {
            let c = Contract::matmul(1, m, n, k);
            let mut packed = vec![0.0; packed_len(1, k, n, isa.lanes())];
            pack_b(&b, &p, isa.lanes(), 1, &mut packed);
            run(&contract(&c, isa, schedule).unwrap(), &a[..m * k], &packed, &[], false)
        };
        let of = |m: usize| ContractSchedule::options(&Contract::matmul(1, m, n, k), isa, &Caches::default());
        let all: Vec<u32> = product(40, of(40)[0]).into_iter().map(f32::to_bits).collect();
        for m in [1, 2, 3, 7, 10, 19, 40] {
            for schedule in of(m) {
                let found: Vec<u32> = product(m, schedule).into_iter().map(f32::to_bits).collect();
                assert_eq!(found, all[..m * n], "{}: {m} rows, {schedule}", isa.name);
            }
        }
    }
}

/// A softmax of large equal numbers is uniform only if they are equal bit for bit.
#[test]
fn equal_columns_have_equal_sums_wherever_they_are() {
    for isa in all_isas() {
        let (nr, k) = (isa.contract_f32.1 * isa.lanes(), 37);
        let (m, n) = (isa.contract_f32.0 + 1, nr + nr / 2);
        let c = Contract::matmul(1, m, n, k);
        let schedule = ContractSchedule::choose(&c, isa, &Caches::default());
        let column = random_floats(k, 1);
        let b: Vec<f32> = (0..k * n).map(|i| column[i / n]).collect();
        let mut packed = vec![0.0; packed_len(1, k, n, isa.lanes())];
        let p = PackB { taps: 1, k, n, tap_stride: 0, k_stride: n, n_stride: 1 };
        pack_b(&b, &p, isa.lanes(), 1, &mut packed);
        let built = contract(&c, isa, schedule).unwrap();
        let found = run(&built, &random_floats(m * k, 2), &packed, &[], false);
        assert!(found.chunks(n).all(|row| row.iter().all(|v| v == &row[0])), "{}", isa.name);
    }
}

/// All indices `[image, plane, row, column, channel]` of the result.
fn indices(c: &ConvNest) -> Vec<[usize; 5]> {
    let [d, h, w] = c.axes.map(|a| a.out);
    let n = c.groups * c.filters;
    let all = 0..c.batch * d * h * w * n;
    all.map(|i| [i / n / w / h / d, i / n / w / h % d, i / n / w % h, i / n % w, i % n]).collect()
}

fn at(view: &ImageView, index: [usize; 5]) -> usize {
    let bytes = view.offset + index.iter().zip(view.strides).map(|(&i, s)| i as i64 * s).sum::<i64>();
    bytes as usize / 4
}

/// One result; `w` are the weights as ONNX has them.
fn one(c: &ConvNest, x: &[f32], w: &[f32], [n, d, h, col, o]: [usize; 5]) -> f32 {
    let kernel = c.axes.map(|a| a.kernel);
    let area: usize = kernel.iter().product();
    let mut sum = 0.0;
    for t in 0..area * c.channels {
        let (tap, ch) = (t % area, t / area);
        let taps = [tap / kernel[2] / kernel[1], tap / kernel[2] % kernel[1], tap % kernel[2]];
        let place: [usize; 3] = std::array::from_fn(|i| {
            let a = c.axes[i];
            ([d, h, col][i] * a.stride + taps[i] * a.dilation).wrapping_sub(a.pads[0])
        });
        if (0..3).all(|i| place[i] < c.axes[i].size) {
            let from = at(&c.src, [n, place[0], place[1], place[2], o / c.filters * c.channels + ch]);
            sum += x[from] * w[(o * c.channels + ch) * area + tap];
        }
    }
    sum
}

fn convolve(c: &ConvNest, schedule: impl Fn(ContractSchedule) -> ContractSchedule) {
    all_isas().into_iter().for_each(|isa| convolve_on(isa, c, &schedule));
}

fn convolve_on(isa: &Isa, c: &ConvNest, schedule: &impl Fn(ContractSchedule) -> ContractSchedule) {
    let problem = conv(c);
    let schedule = schedule(ContractSchedule::choose(&problem, isa, &Caches::default()));
    let x = random_floats(c.src.bytes / 4, 1);
    let area: usize = c.axes.iter().map(|a| a.kernel).product();
    let w = random_floats(c.groups * c.filters * c.channels * area, 2);
    let mut packed = vec![0.0; c.packed_len(isa.lanes())];
    c.pack_weights(&w, isa.lanes(), 2, &mut packed);
    let operands: Vec<_> = c.operands.iter().map(|o| random_floats(o.bytes / 4, 3)).collect();
    let built = contract(&problem, isa, schedule).unwrap();
    for interpret in [false, true] {
        if interpret && c.src.bytes * area > 10_000 {
            continue;
        }
        let found = run(&built, &x, &packed, &operands, interpret);
        let want = indices(c).into_iter().map(|i| {
            let rest: f32 = c.operands.iter().zip(&operands).map(|(o, values)| values[at(o, i)]).sum();
            one(c, &x, &w, i) + rest
        });
        let found: Vec<f32> = indices(c).into_iter().map(|i| found[at(&c.dst, i)]).collect();
        close(&found, &want.collect::<Vec<_>>(), &format!("{c:?}"));
    }
}

fn axis() -> impl Strategy<Value = Axis> {
    (1usize..4, 1usize..3, 1usize..3, 0usize..4, 0usize..3, 0usize..9).prop_map(
        |(kernel, stride, dilation, begin, end, extra)| {
            let reach = (kernel - 1) * dilation + 1;
            let size = (reach + extra).saturating_sub(begin + end).max(1);
            let out = (size + begin + end).saturating_sub(reach) / stride + 1;
            Axis { size, out, kernel, stride, dilation, pads: [begin, end] }
        },
    )
}

/// Adds a bias and a residual.
fn with_operands(mut c: ConvNest) -> ConvNest {
    c.operands = vec![ImageView::per_channel(c.groups * c.filters), c.dst];
    c.epilogue = Expr::Operand(0).plus(Expr::Operand(1)).plus(Expr::Operand(2));
    c
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]
    #[test]
    fn convolutions_over_rows_and_columns(
        (batch, groups, channels, filters) in (1usize..3, 1usize..3, 1usize..6, 1usize..11),
        (h, w) in (axis(), axis()), mc in 1usize..30,
    ) {
        let c = with_operands(ConvNest::channels_last(batch, channels, filters, groups, [Axis::NONE, h, w]));
        convolve(&c, |s| s);
        // Blocks of any size, aligned or not, share pieces of the table.
        convolve(&c, |s| ContractSchedule { mc: mc.next_multiple_of(s.mr), ..s });
    }

    #[test]
    fn convolutions_over_three_axes(axes in prop::array::uniform3(axis()), channels in 1usize..4) {
        convolve(&ConvNest::channels_last(2, channels, 3, 1, axes), |s| s);
    }
}

/// An axis whose window moves by `stride` over padding on both sides.
fn padded(size: usize, kernel: usize, stride: usize) -> Axis {
    let pad = kernel / 2;
    Axis { size, out: (size + 2 * pad - kernel) / stride + 1, kernel, stride, dilation: 1, pads: [pad; 2] }
}

#[test]
fn convolutions_of_long_rows_and_many_pixels() {
    let line = ConvNest::channels_last(1, 2, 3, 1, [Axis::NONE, Axis::NONE, padded(9000, 5, 1)]);
    convolve(&with_operands(line), |s| s);
    let wide = ConvNest::channels_last(2, 17, 9, 1, [Axis::NONE, padded(50, 3, 1), padded(60, 3, 2)]);
    convolve(&with_operands(wide), |s| s);
    let first = ConvNest::channels_last(1, 3, 8, 1, [Axis::NONE, padded(64, 7, 2), padded(61, 7, 2)]);
    convolve(&with_operands(first), |s| s);
}

#[test]
fn results_may_be_strided_and_begin_anywhere() {
    let mut c = with_operands(ConvNest::channels_last(2, 3, 5, 1, [Axis::NONE, padded(6, 3, 1), padded(7, 3, 1)]));
    // Every second row and column of an image twice as large, inside a buffer that begins earlier.
    let all = ImageView::channels_last(2, [1, 12, 14], 5);
    let [n, d, h, w, ch] = all.strides;
    c.dst =
        ImageView { mem: MemType::F32, bytes: all.bytes + 64, offset: 64 + h + w, strides: [n, d, 2 * h, 2 * w, ch] };
    c.dst.bytes = all.bytes + 64;
    c.operands[1] = c.dst;
    convolve(&c, |s| s);
}

#[test]
fn tables_of_large_images_are_small() {
    let large = ConvNest::channels_last(4, 32, 8, 1, [Axis::NONE, padded(2000, 3, 1), padded(1000, 3, 1)]);
    let isa = optc_emit::host::isa();
    let problem = conv(&large);
    let built = contract(&problem, isa, ContractSchedule::choose(&problem, isa, &Caches::default())).unwrap();
    let bytes = built.table.unwrap().len();
    assert!(bytes < 1 << 21, "{bytes}");
    let mut far = large.clone();
    far.src.strides[2] = 1 << 33;
    let problem = conv(&far);
    let schedule = ContractSchedule::choose(&problem, isa, &Caches::default());
    assert!(matches!(contract(&problem, isa, schedule), Err(ContractError::Reach(_))));
}

#[test]
fn text_of_a_product() {
    let mut c = Contract::matmul(1, 5, 6, 2);
    c.operands = vec![Operand::per_column(6)];
    c.epilogue = Expr::Operand(0).plus(Expr::Operand(1)).relu();
    let built = contract(&c, portable(), ContractSchedule { mr: 2, nr: 4, mc: 4, panels: 2 }).unwrap();
    insta::assert_snapshot!(built.kernel);
    let text = built.kernel.to_string();
    assert_eq!(parse_kernel(&text).as_ref(), Ok(&built.kernel));
    for end in 0..text.len() {
        assert!(parse_kernel(&text[..end]).as_ref() != Ok(&built.kernel) || text[end..].trim().is_empty());
    }
}
