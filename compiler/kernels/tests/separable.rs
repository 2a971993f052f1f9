//! Pointwise and depthwise convolutions in one kernel against the two kernels that do the same, over numbers whose sums
//! are exact: equal bit for bit.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_kernel::expr::Expr;
use optc_kernel::target::{Caches, Isa};
use optc_kernel::tile::Binary;
use optc_kernels::contract::{ContractSchedule, ConvNest, contract, conv};
use optc_kernels::separable::{Separable, SeparableSchedule, filters, separable};
use optc_kernels::window::{self, Axis, ImageView, WindowNest, WindowReduce, window};
use optc_testing::{all_isas, bytes_of, isas, random_floats, run_here};
use proptest::prelude::*;

/// The sum, operand 1 added, between 0 and 6.
fn clipped() -> Expr {
    Expr::Operand(0).plus(Expr::Operand(1)).binary(Binary::Max, Expr::Const(0.0)).binary(Binary::Min, Expr::Const(6.0))
}

/// The images, their channels, panels of channels between the convolutions, and bytes that the result has between its
/// pixels.
#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: usize,
    inputs: usize,
    panels: usize,
    gap: usize,
}

fn problem(isa: &Isa, s: Shape, [high, wide]: [Axis; 2]) -> Separable {
    let nr = isa.contract_f32.1 * isa.lanes();
    let n = s.panels * nr;
    let point = |axis: Axis| Axis { size: axis.size, out: axis.size, ..Axis::NONE };
    let mut dense = ConvNest::channels_last(s.batch, s.inputs, n, 1, [Axis::NONE, point(high), point(wide)]);
    // One operand of the first epilogue has a value for each element, that of the second one for each channel.
    dense.operands = vec![dense.dst];
    dense.epilogue = clipped();
    let mut window = WindowNest::channels_last(s.batch, n, [Axis::NONE, high, wide], WindowReduce::Dot);
    window.operands = vec![ImageView::per_channel(n)];
    window.epilogue = clipped();
    let pixel = (4 * n + s.gap) as i64;
    let strides = [(high.out * wide.out) as i64 * pixel, 0, wide.out as i64 * pixel, pixel, 4];
    let pixels = s.batch * high.out * wide.out;
    window.dst = ImageView { strides, bytes: pixels * pixel as usize, ..window.dst };
    Separable { dense: conv(&dense), window, tile: (isa.contract_f32.0, nr) }
}

fn check(isa: &Isa, shape: Shape, axes: [Axis; 2], cut: Option<SeparableSchedule>) {
    let s = problem(isa, shape, axes);
    assert_eq!(s.declines(), None);
    let cut = cut.unwrap_or_else(|| s.cut(&Caches::default()));
    let (c, w) = (&s.dense, &s.window);
    let floats =
        |n: usize, seed: u64| random_floats(n, seed).iter().map(|x| (8.0 * x).round() / 8.0).collect::<Vec<_>>();
    let (a, b) = (floats(c.a_bytes / 4, 1), floats(c.k * c.n, 2));
    let (added, bias) = (floats(c.m * c.n, 3), floats(c.n, 4));
    let taps = axes[0].kernel * axes[1].kernel;
    let weights = floats(taps * c.n, 5);
    let schedule = ContractSchedule { mr: s.tile.0, nr: s.tile.1, mc: 4 * s.tile.0, panels: 1 };
    let first = contract(c, isa, schedule).unwrap().kernel;
    let mut buffers = [&a, &b, &added].map(|v| bytes_of(v)).to_vec();
    buffers.push(vec![0xee; c.c_bytes]);
    run_here(&first, &mut buffers).unwrap();
    let second = window(w, isa).kernel;
    let mut buffers = vec![buffers.swap_remove(3), bytes_of(&window::filters(&weights, c.n)), bytes_of(&bias)];
    buffers.push(vec![0xee; w.dst.bytes]);
    run_here(&second, &mut buffers).unwrap();
    let want = buffers.swap_remove(3);
    let kernel = separable(&s, isa, cut).unwrap();
    kernel.verify().unwrap();
    let of_group = cut.panels * c.n / shape.panels;
    let mut buffers = [&a, &b, &added].map(|v| bytes_of(v)).to_vec();
    buffers.extend([bytes_of(&filters(&weights, c.n, of_group)), bytes_of(&bias), vec![0xee; w.dst.bytes]]);
    // The interpreter knows the bounds of the scratch as well.
    let inside = kernel.interpret(&mut buffers.clone());
    inside.unwrap_or_else(|e| panic!("{}: {shape:?}, {axes:?}, {cut:?}: {e}", isa.name));
    run_here(&kernel, &mut buffers).unwrap();
    assert!(buffers[5] == want, "{}: {shape:?}, {axes:?}, {cut:?} differ", isa.name);
}

fn axis(size: usize, kernel: usize, stride: usize, dilation: usize, pads: [usize; 2]) -> Option<Axis> {
    let reach = (kernel - 1) * dilation + 1;
    let out = (size + pads[0] + pads[1]).checked_sub(reach)? / stride + 1;
    (pads[0] < reach && pads[1] < reach).then_some(Axis { size, out, kernel, stride, dilation, pads })
}

#[test]
fn the_chosen_cut_gives_what_both_kernels_give() {
    let shape = Shape { batch: 1, inputs: 5, panels: 2, gap: 0 };
    for isa in all_isas() {
        for (size, kernel, stride) in [(14, 3, 1), (15, 3, 2), (7, 5, 1), (9, 5, 2)] {
            let same = axis(size, kernel, stride, 1, [kernel / 2; 2]).unwrap();
            check(isa, shape, [same, same], None);
        }
    }
}

/// A block of a band in the middle has no padding, and more rows than those that begin with the picture.
#[test]
fn bands_begin_anywhere() {
    let shape = Shape { batch: 1, inputs: 4, panels: 4, gap: 8 };
    let (high, wide) = (axis(7, 4, 1, 1, [2, 2]).unwrap(), axis(9, 2, 1, 1, [1, 0]).unwrap());
    for isa in all_isas() {
        check(
            isa,
            shape,
            [high, wide],
            Some(SeparableSchedule { panels: 2, bands: 3, rows: 4, mc: 2 * isa.contract_f32.0 }),
        );
    }
}

#[test]
fn what_does_not_suit_is_declined() {
    let isa = optc_emit::host::isa();
    let same = axis(8, 3, 1, 1, [1, 1]).unwrap();
    let good = problem(isa, Shape { batch: 1, inputs: 4, panels: 1, gap: 0 }, [same, same]);
    let declines = |change: fn(&mut Separable)| {
        let mut s = good.clone();
        change(&mut s);
        s.declines()
    };
    assert_eq!(declines(|_| {}), None);
    assert_eq!(declines(|s| s.dense.taps = 2), Some("the first convolution is not pointwise"));
    assert_eq!(declines(|s| s.dense.m -= 1), Some("the pictures between them are not the same"));
    let in_padding = Axis { size: 1, out: 5, kernel: 3, stride: 1, dilation: 1, pads: [3, 3] };
    let s = problem(isa, Shape { batch: 1, inputs: 4, panels: 1, gap: 0 }, [in_padding, same]);
    assert!(s.declines().is_some());
    let part = ConvNest::channels_last(1, 4, 9, 1, [Axis::NONE, Axis::NONE, Axis::NONE]);
    let point = [Axis { size: 1, out: 1, kernel: 1, stride: 1, dilation: 1, pads: [0, 0] }; 2];
    let window = WindowNest::channels_last(1, 9, [Axis::NONE, point[0], point[1]], WindowReduce::Dot);
    let s = Separable { dense: conv(&part), window, tile: (6, 16) };
    assert_eq!(s.declines(), Some("its channels are not whole panels"));
}

#[test]
fn a_long_source_behind_l2_is_not_read_for_every_group() {
    let isa = Isa::by_name("avx2").unwrap();
    let caches = Caches { l2: 512 << 10, ..Caches::default() };
    let pays = |inputs: usize, size: usize, panels: usize, stride: usize| {
        let high = axis(size, 3, stride, 1, [1, 1]).unwrap();
        let s = problem(isa, Shape { batch: 1, inputs, panels, gap: 0 }, [high, high]);
        s.pays(s.cut(&caches), &caches)
    };
    assert!(pays(16, 112, 6, 2) && pays(64, 56, 8, 1) && pays(512, 14, 32, 1));
    assert!(!pays(128, 56, 8, 2));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]
    #[test]
    fn any_cut_gives_what_both_kernels_give(
        (batch, inputs, groups, gap) in (1usize..3, 1usize..9, 1usize..3, 0usize..3),
        sizes in [1usize..20, 1usize..20],
        kernels in [1usize..6, 1usize..6],
        (stride, dilation) in (1usize..4, 1usize..3),
        pads in [[0usize..3, 0usize..3], [0usize..3, 0usize..3]],
        (panels, bands, rows, mc) in (1usize..3, 1usize..4, 1usize..6, 1usize..4),
        which in 0usize..8,
    ) {
        let isas = isas();
        let isa = isas[which % isas.len()];
        let all = [0, 1].map(|d| axis(sizes[d], kernels[d], stride, dilation, pads[d]));
        if let [Some(high), Some(wide)] = all
            && (0..high.out).all(|i| (0..high.kernel).any(|t| {
                let at = i * high.stride + t * high.dilation;
                (high.pads[0]..high.pads[0] + high.size).contains(&at)
            }))
        {
            let shape = Shape { batch, inputs, panels: panels * groups, gap: 4 * gap };
            let cut = SeparableSchedule { panels, bands: bands.min(high.out), rows, mc: mc * isa.contract_f32.0 };
            check(isa, shape, [high, wide], Some(cut));
        }
    }
}
