//! Integer products through machine code and the interpreter against plain loops, bit for bit.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_kernel::expr::Expr;
use optc_kernel::nest::{Kernel, parse_kernel};
use optc_kernel::target::{Caches, Isa};
use optc_kernel::tile::MemType;
use optc_kernels::int8::{Int8Form, Int8Schedule, NarrowProduct, Pack, pack, pack_pairs_kernel, product};
use optc_kernels::window::{Axis, ImageView};
use optc_testing::{all_isas, random_floats, run_here};
use proptest::prelude::*;

fn bytes(n: usize, seed: u64) -> Vec<u8> {
    random_floats(n, seed).iter().map(|x| (x * 3e4) as i32 as u8).collect()
}

fn value(mem: MemType, byte: u8) -> i32 {
    if mem == MemType::I8 { i32::from(byte as i8) } else { i32::from(byte) }
}

/// Runs a kernel both ways; returns the last buffer.
fn run(kernel: &Kernel, buffers: Vec<Vec<u8>>, interpret: bool) -> Vec<u8> {
    assert_eq!(parse_kernel(&kernel.to_string()).as_ref(), Ok(kernel));
    let mut compiled = buffers.clone();
    run_here(kernel, &mut compiled).unwrap();
    if interpret {
        let mut interpreted = buffers;
        kernel.interpret(&mut interpreted).unwrap();
        assert_eq!(interpreted, compiled);
    }
    compiled.pop().unwrap()
}

/// Channels last, `mem` elements.
fn view(mem: MemType, images: usize, rows: usize, columns: usize, channels: usize) -> ImageView {
    let c = mem.bytes();
    let pixel = c * channels as i64;
    let row = pixel * columns as i64;
    let strides = [row * rows as i64, row * rows as i64, row, pixel, c];
    ImageView { mem, bytes: (images * rows) * row as usize, offset: 0, strides }
}

fn axis(size: usize, kernel: usize, stride: usize, dilation: usize, pads: [usize; 2]) -> Axis {
    let reach = (kernel - 1) * dilation + 1;
    let size = size.max(reach);
    Axis { size, out: (size + pads[0] + pads[1] - reach) / stride + 1, kernel, stride, dilation, pads }
}

/// A product, its sums with a bias, checked.
fn check(images: usize, groups: usize, channels: usize, filters: usize, axes: [Axis; 2], mem: MemType, zero: i32) {
    for isa in all_isas() {
        check_on(isa, images, groups, channels, filters, axes, mem, zero);
    }
}

#[expect(clippy::too_many_arguments, reason = "the numbers of a problem")]
fn check_on(
    isa: &Isa,
    images: usize,
    groups: usize,
    channels: usize,
    filters: usize,
    axes: [Axis; 2],
    mem: MemType,
    zero: i32,
) {
    let [h, w] = axes;
    let all = groups * filters;
    let bias = ImageView { mem: MemType::I32, bytes: 4 * all, offset: 0, strides: [0, 0, 0, 0, 4] };
    let problem = NarrowProduct {
        images,
        groups,
        channels,
        filters,
        axes,
        src: view(mem, images, h.size, w.size, groups * channels),
        src_zero: zero,
        dst: view(MemType::I32, images, h.out, w.out, all),
        operands: vec![bias],
        epilogue: Expr::Operand(0).plus(Expr::Operand(1)),
        own_weights: false,
        // Every other zero point: the form for few pixels, which expands on rows without an instruction for it.
        form: if zero % 2 == 0 { Int8Form::Fours } else { Int8Form::choose(isa, 32, true) },
    };
    let (x, weights) = (bytes(problem.src.bytes, 1), bytes(all * channels * h.kernel * w.kernel, 2));
    let weight = |f: usize, c: usize, y: usize, x: usize| {
        i32::from(weights[((f * channels + c) * h.kernel + y) * w.kernel + x] as i8)
    };
    let at = |n: usize, y: usize, x: usize, c: usize| ((n * h.size + y) * w.size + x) * groups * channels + c;
    let mut want = vec![];
    for i in 0..images * h.out * w.out * all {
        let (n, oy, ox, f) = (i / all / w.out / h.out, i / all / w.out % h.out, i / all % w.out, i % all);
        let mut sum = f as i32 * 1000 - 7;
        for t in 0..h.kernel * w.kernel {
            let y = (oy * h.stride + t / w.kernel * h.dilation).wrapping_sub(h.pads[0]);
            let col = (ox * w.stride + t % w.kernel * w.dilation).wrapping_sub(w.pads[0]);
            if y < h.size && col < w.size {
                for c in 0..channels {
                    let from = at(n, y, col, f / filters * channels + c);
                    sum += (value(mem, x[from]) - zero) * weight(f, c, t / w.kernel, t % w.kernel);
                }
            }
        }
        want.extend(sum.to_le_bytes());
    }
    let schedule = Int8Schedule::choose(&problem, isa, &Caches::default());
    let packing = problem.pack();
    let packed: Vec<u8> = (0..groups)
        .flat_map(|g| {
            pack(&packing, schedule.nr, |row, tap, k, n| {
                weight(g * filters + n, k % channels, row, tap + k / channels) as i16
            })
        })
        .collect();
    let biases = (0..all as i32).flat_map(|f| (f * 1000 - 7).to_le_bytes()).collect();
    let problem = problem.merged();
    let schedule = Int8Schedule { nr: schedule.nr, ..Int8Schedule::choose(&problem, isa, &Caches::default()) };
    let kernel = product(&problem, isa, schedule);
    let dst = vec![0xee; problem.dst.bytes];
    assert_eq!(run(&kernel, vec![x, packed, biases, dst], want.len() < 20_000), want, "{problem:?}");
}

#[test]
fn every_tail_of_a_product() {
    for isa in all_isas() {
        let (mr, nr) = (isa.contract_i8.0, isa.contract_i8.1 * isa.lanes());
        for m in [1, mr - 1, mr, mr + 1, 9 * mr + 2] {
            for n in [1, isa.lanes(), nr - 1, nr, nr + 1, 3 * nr + 5] {
                for k in [1, 2, 7, 8, 9, 33, 64] {
                    check_on(isa, 1, 1, k, n, [Axis::NONE, axis(m, 1, 1, 1, [0, 0])], MemType::U8, 3);
                }
            }
        }
    }
    check(2, 1, 300, 33, [axis(7, 1, 1, 1, [0, 0]), axis(19, 1, 1, 1, [0, 0])], MemType::I8, -5);
    check(1, 1, 70, 20, [axis(20, 3, 1, 1, [1, 1]), axis(40, 3, 1, 1, [1, 1])], MemType::U8, 128);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn convolutions(
        (images, groups, channels, filters) in (1usize..3, 1usize..4, 1usize..10, 1usize..14),
        (high, wide) in (1usize..9, 1usize..12),
        kernel in (1usize..4, 1usize..4),
        stride in (1usize..3, 1usize..3),
        dilation in (1usize..3, 1usize..3),
        pads in (0usize..2, 0usize..3),
        signed in any::<bool>(),
        zero in -128i32..128,
    ) {
        let axes = [
            axis(high, kernel.0, stride.0, dilation.0, [pads.0, pads.1.min(1)]),
            axis(wide, kernel.1, stride.1, dilation.1, [pads.1, pads.0]),
        ];
        let (mem, zero) = if signed { (MemType::I8, zero) } else { (MemType::U8, zero + 128) };
        check(images, groups, channels, filters, axes, mem, zero);
    }
}

/// Rows and columns of computed weights, and whether they are transposed.
const SHAPES: [(usize, usize, bool); 5] = [(1, 1, false), (7, 9, true), (8, 16, false), (33, 21, true), (5, 8, false)];

#[test]
fn computed_weights_are_packed_as_constant_ones() {
    let all = all_isas();
    let shapes = all.iter().flat_map(|isa| SHAPES.map(|shape| (*isa, shape)));
    for (isa, (k, n, transposed)) in shapes {
        for mem in [MemType::U8, MemType::I8] {
            let nr = isa.contract_i8.1 * isa.lanes();
            let packing = Pack { form: Int8Form::Pairs, rows: 1, taps: 1, k, n, zero: 0 };
            let src = bytes(2 * k * n, 9);
            let (k_stride, n_stride) = if transposed { (1, k) } else { (n, 1) };
            let strides = [k * n, 0, 0, k_stride, n_stride].map(|s| s as i64);
            let of = ImageView { mem, bytes: src.len(), offset: 0, strides };
            let kernel = pack_pairs_kernel(2, &packing, &of, 11, nr, isa.lanes());
            let found = run(&kernel, vec![src.clone(), vec![0; 2 * packing.bytes(nr)]], true);
            let mut want: Vec<u8> = vec![];
            for matrix in src.chunks(k * n) {
                let at = |k: usize, n: usize| (value(mem, matrix[k * k_stride + n * n_stride]) - 11) as i16;
                want.extend(pack(&packing, nr, |_, _, k, n| at(k, n)));
            }
            // Columns after the last one may hold anything.
            let pairs = |bytes: &[u8]| -> Vec<i16> {
                bytes.as_chunks::<2>().0.iter().map(|v| i16::from_le_bytes(*v)).collect()
            };
            let (found, want) = (pairs(&found), pairs(&want));
            let panels = n.div_ceil(nr);
            for (i, (f, w)) in found.iter().zip(&want).enumerate() {
                let panel = i / 2 / nr / k.div_ceil(2) % panels;
                if panel * nr + i / 2 % nr < n {
                    assert_eq!(f, w, "{k}x{n} at {i}");
                }
            }
        }
    }
}
