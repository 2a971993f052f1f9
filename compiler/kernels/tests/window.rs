//! Depthwise convolutions and pooling through machine code and the interpreter against plain loops.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_kernel::expr::Expr;
use optc_kernel::nest::parse_kernel;
use optc_kernel::target::Isa;
use optc_kernel::tile::MemType;
use optc_kernels::window::{Axis, ImageView, WindowNest, WindowReduce, filters, window};
use optc_testing::{all_isas, bytes_of, floats_of, portable, random_floats, run_here};
use proptest::prelude::*;

/// All indices `[image, plane, row, column, channel]` of the result.
fn indices(w: &WindowNest) -> impl Iterator<Item = [usize; 5]> {
    let [d, h, x] = w.axes.map(|a| a.out);
    let c = w.channels;
    (0..w.batch * d * h * x * c).map(move |i| [i / c / x / h / d, i / c / x / h % d, i / c / x % h, i / c % x, i % c])
}

fn at(view: &ImageView, index: [usize; 5]) -> usize {
    let bytes = view.offset + index.iter().zip(view.strides).map(|(&i, s)| i as i64 * s).sum::<i64>();
    bytes as usize / 4
}

/// What the window gives for one result; `weights` are those of ONNX.
fn one(w: &WindowNest, src: &[f32], weights: &[f32], [n, d, h, x, c]: [usize; 5]) -> f32 {
    let kernel = w.axes.map(|a| a.kernel);
    let (mut sum, mut max, mut seen, mut padded) = (0.0, f32::NEG_INFINITY, 0, 0);
    for tap in 0..kernel.iter().product() {
        let taps = [tap / kernel[2] / kernel[1], tap / kernel[2] % kernel[1], tap % kernel[2]];
        let place: [i64; 3] = std::array::from_fn(|i| {
            let a = w.axes[i];
            ([d, h, x][i] * a.stride + taps[i] * a.dilation) as i64 - a.pads[0] as i64
        });
        padded += (0..3).all(|i| place[i] < (w.axes[i].size + w.axes[i].pads[1]) as i64) as usize;
        if (0..3).all(|i| (0..w.axes[i].size as i64).contains(&place[i])) {
            let v = src[at(&w.src, [n, place[0] as usize, place[1] as usize, place[2] as usize, c])];
            seen += 1;
            max = if v.is_nan() || v > max { v } else { max };
            sum +=
                if w.reduce == WindowReduce::Dot { v * weights[c * kernel.iter().product::<usize>() + tap] } else { v };
        }
    }
    match w.reduce {
        WindowReduce::Dot => sum,
        WindowReduce::Max => max,
        WindowReduce::Mean { count_padding } => sum / if count_padding { padded } else { seen } as f32,
    }
}

fn check(w: &WindowNest, nan: bool) {
    all_isas().into_iter().for_each(|isa| check_on(isa, w, nan));
    if w.dst.bytes < SMALL {
        all_isas().into_iter().for_each(|isa| check_halves(isa, w));
    }
}

/// Results of more bytes are not compared in bfloat16 as well.
const SMALL: usize = 4000;

/// The same places for elements of half the width.
fn halved(v: &ImageView) -> ImageView {
    ImageView { mem: MemType::Bf16, bytes: v.bytes / 2, offset: v.offset / 2, strides: v.strides.map(|s| s / 2) }
}

/// Images and results that are bfloat16 in memory: the result for the same numbers in `f32`, rounded.
fn check_halves(isa: &Isa, w: &WindowNest) {
    let taps: usize = w.axes.iter().map(|a| a.kernel).product();
    let short = |x: &f32| f32::from_bits(x.to_bits() & 0xffff_0000);
    let src: Vec<f32> = random_floats(w.src.bytes / 4, 4).iter().map(short).collect();
    let weights = filters(&random_floats(w.channels * taps, 5), w.channels);
    let operands: Vec<_> = w.operands.iter().map(|o| bytes_of(&random_floats(o.bytes / 4, 6))).collect();
    let run = |w: &WindowNest, src: Vec<u8>| {
        let built = window(w, isa);
        let mut buffers = vec![src];
        buffers.extend((w.reduce == WindowReduce::Dot).then(|| bytes_of(&weights)));
        buffers.extend(built.table.clone());
        buffers.extend(operands.clone());
        buffers.push(vec![0; w.dst.bytes]);
        run_here(&built.kernel, &mut buffers).unwrap();
        buffers.pop().unwrap()
    };
    let halves = |floats: &[f32]| -> Vec<u8> {
        let nearest = |bits: u32| ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16;
        floats.iter().flat_map(|x| nearest(x.to_bits()).to_le_bytes()).collect()
    };
    let want = halves(&floats_of(&run(w, bytes_of(&src))));
    let half = WindowNest { src: halved(&w.src), dst: halved(&w.dst), ..w.clone() };
    assert_eq!(run(&half, halves(&src)), want, "{} {w:?}", isa.name);
}

fn check_on(isa: &Isa, w: &WindowNest, nan: bool) {
    let taps: usize = w.axes.iter().map(|a| a.kernel).product();
    let mut src = random_floats(w.src.bytes / 4, 1);
    if nan {
        let n = src.len();
        src[n / 3] = f32::NAN;
        src[n / 2] = f32::INFINITY;
    }
    let weights = random_floats(w.channels * taps, 2);
    let operands: Vec<_> = w.operands.iter().map(|o| random_floats(o.bytes / 4, 3)).collect();
    let built = window(w, isa);
    let mut buffers = vec![bytes_of(&src)];
    if w.reduce == WindowReduce::Dot {
        buffers.push(bytes_of(&filters(&weights, w.channels)));
    }
    buffers.extend(built.table.clone());
    buffers.extend(operands.iter().map(|o| bytes_of(o)));
    buffers.push(vec![0xee; w.dst.bytes]);
    let mut again = buffers.clone();
    run_here(&built.kernel, &mut buffers).unwrap();
    built.kernel.interpret(&mut again).unwrap();
    let (found, interpreted) = (floats_of(buffers.last().unwrap()), floats_of(again.last().unwrap()));
    for index in indices(w) {
        let mut want = one(w, &src, &weights, index);
        if w.operands.len() == 2 {
            want = (want + operands[0][at(&w.operands[0], index)]) * operands[1][at(&w.operands[1], index)];
        }
        for found in [found[at(&w.dst, index)], interpreted[at(&w.dst, index)]] {
            let same =
                found == want || found.is_nan() && want.is_nan() || (found - want).abs() <= 1e-5 * (1.0 + want.abs());
            assert!(same, "{index:?} is {found}, expected {want} of {w:?}");
        }
    }
}

fn reduces() -> impl Strategy<Value = WindowReduce> {
    prop::sample::select(vec![
        WindowReduce::Dot,
        WindowReduce::Max,
        WindowReduce::Mean { count_padding: true },
        WindowReduce::Mean { count_padding: false },
    ])
}

/// An axis on which at least one position exists; the last position may reach beyond the padding.
fn axis() -> impl Strategy<Value = Axis> {
    let kernels = prop::sample::select(vec![1usize, 2, 3, 3, 4, 5, 7]);
    (kernels, 1usize..4, 1usize..3, 0usize..5, 0usize..4, 0usize..20, any::<bool>()).prop_map(
        |(kernel, stride, dilation, begin, end, extra, ceil)| {
            let reach = (kernel - 1) * dilation + 1;
            let size = (reach + extra).saturating_sub(begin + end).max(1);
            let room = (size + begin + end).saturating_sub(reach);
            let out = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
            Axis { size, out, kernel, stride, dilation, pads: [begin, end] }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]
    #[test]
    fn windows_over_rows_and_columns(
        reduce in reduces(), batch in 1usize..3, channels in 1usize..10, h in axis(), x in axis(),
        epilogue: bool, nan: bool,
    ) {
        let mut w = WindowNest::channels_last(batch, channels, [Axis::NONE, h, x], reduce);
        if epilogue {
            w.operands = vec![ImageView::per_channel(channels), w.dst];
            w.epilogue = Expr::Operand(0).plus(Expr::Operand(1)).times(Expr::Operand(2));
        }
        check(&w, nan && reduce != WindowReduce::Dot);
    }

    #[test]
    fn windows_over_other_layouts(reduce in reduces(), channels in 1usize..7, axes in prop::array::uniform3(axis())) {
        let small = axes.map(|a| if a.out > 6 { Axis { out: 6, ..a } } else { a });
        let mut w = WindowNest::channels_last(1, channels, small, reduce);
        check(&w, false);
        w.src = ImageView::channels_first(1, small.map(|a| a.size), channels);
        w.dst = ImageView::channels_first(1, small.map(|a| a.out), channels);
        check(&w, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]
    #[test]
    fn depthwise_planes(batch in 1usize..3, channels in 2usize..7, h in axis(), x in axis(), epilogue: bool) {
        let mut w = WindowNest::channels_last(batch, channels, [Axis::NONE, h, x], WindowReduce::Dot);
        w.src = ImageView::channels_first(batch, [1, h.size, x.size], channels);
        w.dst = ImageView::channels_first(batch, [1, h.out, x.out], channels);
        if epilogue {
            w.operands = vec![ImageView::per_channel(channels), w.dst];
            w.epilogue = Expr::Operand(0).plus(Expr::Operand(1)).times(Expr::Operand(2));
        }
        check(&w, false);
    }
}

#[test]
fn planes_of_many_columns() {
    for (size, channels, kernel, stride) in [(70, 3, 3, 1), (70, 5, 3, 2), (41, 2, 5, 1), (64, 33, 3, 2), (7, 64, 3, 1)]
    {
        let mut axis = Axis { stride, ..same(size, kernel) };
        axis.out = (size - 1) / stride + 1;
        let mut w = WindowNest::channels_last(1, channels, [Axis::NONE, axis, axis], WindowReduce::Dot);
        w.src = ImageView::channels_first(1, [1, size, size], channels);
        w.dst = ImageView::channels_first(1, [1, axis.out, axis.out], channels);
        check(&w, false);
    }
}

#[test]
fn text_of_depthwise_planes() {
    let mut w = WindowNest::channels_last(1, 2, [Axis::NONE, same(2, 1), same(5, 3)], WindowReduce::Dot);
    w.src = ImageView::channels_first(1, [1, 2, 5], 2);
    w.dst = ImageView::channels_first(1, [1, 2, 5], 2);
    let built = window(&w, Isa::by_name("portable").unwrap());
    insta::assert_snapshot!(built.kernel);
    assert_eq!(parse_kernel(&built.kernel.to_string()).as_ref(), Ok(&built.kernel));
}

/// An axis whose window moves by one over an image that keeps its extent.
fn same(size: usize, kernel: usize) -> Axis {
    Axis { size, out: size, kernel, stride: 1, dilation: 1, pads: [kernel / 2, (kernel - 1) / 2] }
}

#[test]
fn many_channels_and_columns() {
    for reduce in [WindowReduce::Dot, WindowReduce::Max] {
        for (size, channels, kernel) in [(20, 37, 3), (9, 130, 5), (16, 64, 9), (33, 8, 2)] {
            check(
                &WindowNest::channels_last(2, channels, [Axis::NONE, same(size, kernel), same(size, kernel)], reduce),
                false,
            );
        }
    }
}

#[test]
fn global_windows() {
    let whole = |size| Axis { size, out: 1, kernel: size, stride: 1, dilation: 1, pads: [0, 0] };
    for reduce in [WindowReduce::Max, WindowReduce::Mean { count_padding: false }] {
        for (h, x, channels) in [(7, 7, 70), (40, 50, 9), (1, 300, 4), (70, 3, 3)] {
            let mut w = WindowNest::channels_last(2, channels, [Axis::NONE, whole(h), whole(x)], reduce);
            check(&w, false);
            w.src = ImageView::channels_first(2, [1, h, x], channels);
            check(&w, false);
        }
    }
}

#[test]
fn a_window_that_sees_nothing() {
    let far = Axis { size: 2, out: 7, kernel: 1, stride: 1, dilation: 1, pads: [2, 3] };
    for reduce in [
        WindowReduce::Dot,
        WindowReduce::Max,
        WindowReduce::Mean { count_padding: true },
        WindowReduce::Mean { count_padding: false },
    ] {
        check(&WindowNest::channels_last(1, 5, [Axis::NONE, far, far], reduce), false);
    }
}

#[test]
fn text_of_a_depthwise_convolution() {
    let mut w = WindowNest::channels_last(1, 5, [Axis::NONE, same(3, 1), same(3, 2)], WindowReduce::Dot);
    w.operands = vec![ImageView::per_channel(5)];
    w.epilogue = Expr::Operand(0).plus(Expr::Operand(1)).relu();
    let built = window(&w, portable());
    insta::assert_snapshot!(built.kernel);
    assert_eq!(parse_kernel(&built.kernel.to_string()).as_ref(), Ok(&built.kernel));
}

#[test]
fn text_of_a_mean() {
    let w = WindowNest::channels_last(
        1,
        2,
        [Axis::NONE, same(2, 3), same(1, 1)],
        WindowReduce::Mean { count_padding: false },
    );
    insta::assert_snapshot!(window(&w, portable()).kernel);
}
