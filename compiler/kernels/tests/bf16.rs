//! Products of what is rounded to bfloat16, through machine code and the interpreter against plain loops.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_kernel::expr::Expr;
use optc_kernel::nest::parse_kernel;
use optc_kernel::target::{Caches, Isa};
use optc_kernel::tile::MemType;
use optc_kernels::int8::{Int8Form, Int8Schedule, NarrowProduct, pack, product};
use optc_kernels::window::{Axis, ImageView};
use optc_testing::{all_isas, bytes_of, floats_of, random_floats, run_here};
use proptest::prelude::*;

/// The nearest bfloat16, ties to even.
fn rounded(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

fn view(mem: MemType, images: usize, rows: usize, columns: usize, channels: usize) -> ImageView {
    let pixel = mem.bytes() * channels as i64;
    let row = pixel * columns as i64;
    let strides = [row * rows as i64, row * rows as i64, row, pixel, mem.bytes()];
    ImageView { mem, bytes: (images * rows) * row as usize, offset: 0, strides }
}

/// Numbers as they are in memory, rounded where that is bfloat16.
fn stored(mem: MemType, values: &[f32]) -> Vec<u8> {
    match mem {
        MemType::Bf16 => values.iter().flat_map(|&x| ((rounded(x).to_bits() >> 16) as u16).to_le_bytes()).collect(),
        _ => bytes_of(values),
    }
}

fn axis(size: usize, kernel: usize, stride: usize, dilation: usize, pads: [usize; 2]) -> Axis {
    let reach = (kernel - 1) * dilation + 1;
    let size = size.max(reach);
    Axis { size, out: (size + pads[0] + pads[1] - reach) / stride + 1, kernel, stride, dilation, pads }
}

/// A product with a bias in both forms, which must agree bit for bit, and all be near what loops in `f64` give.
fn check(images: usize, groups: usize, channels: usize, filters: usize, axes: [Axis; 2]) {
    for isa in all_isas() {
        let best = Int8Form::bf16(isa, 32, 32, false);
        if best.is_blocked() {
            run(isa, best, images, groups, 32 * channels.div_ceil(8), filters, axes);
        }
        let found: Vec<_> = [Int8Form::Halves, Int8Form::Widened]
            .map(|form| run(isa, form, images, groups, channels, filters, axes))
            .into_iter()
            .collect();
        assert_eq!(bytes_of(&found[0]), bytes_of(&found[1]), "{} {axes:?}", isa.name);
    }
}

/// The result for `f32`; for bfloat16 in memory it is the same, rounded where it is stored so.
fn run(
    isa: &Isa,
    form: Int8Form,
    images: usize,
    groups: usize,
    channels: usize,
    filters: usize,
    axes: [Axis; 2],
) -> Vec<f32> {
    let shape = [images, groups, channels, filters];
    let found = run_in(MemType::F32, isa, form, shape, axes);
    let halves = run_in(MemType::Bf16, isa, form, shape, axes);
    assert_eq!(halves, stored(MemType::Bf16, &floats_of(&found)), "{} {form:?} {shape:?} {axes:?}", isa.name);
    check_sums(&floats_of(&found), isa, form, shape, axes);
    floats_of(&found)
}

/// The bytes of the result where images and results are numbers of one kind.
fn run_in(
    mem: MemType,
    isa: &Isa,
    form: Int8Form,
    [images, groups, channels, filters]: [usize; 4],
    axes: [Axis; 2],
) -> Vec<u8> {
    let [h, w] = axes;
    let all = groups * filters;
    let bias = ImageView { mem: MemType::F32, bytes: 4 * all, offset: 0, strides: [0, 0, 0, 0, 4] };
    let problem = NarrowProduct {
        images,
        groups,
        channels,
        filters,
        axes,
        src: view(mem, images, h.size, w.size, groups * channels),
        src_zero: 0,
        dst: view(mem, images, h.out, w.out, all),
        operands: vec![bias],
        epilogue: Expr::Operand(0).plus(Expr::Operand(1)),
        own_weights: false,
        form,
    };
    let [x, weights, biases] = data([images, groups, channels, filters], axes);
    let weight = |f: usize, c: usize, y: usize, x: usize| weights[((f * channels + c) * h.kernel + y) * w.kernel + x];
    let schedule = Int8Schedule::choose(&problem, isa, &Caches::default());
    let packed: Vec<u8> = (0..groups)
        .flat_map(|g| {
            pack(&problem.pack(), schedule.nr, |row, tap, k, n| {
                (weight(g * filters + n, k % channels, row, tap + k / channels).to_bits() >> 16) as i16
            })
        })
        .collect();
    let problem = problem.merged();
    let schedule = Int8Schedule { nr: schedule.nr, ..Int8Schedule::choose(&problem, isa, &Caches::default()) };
    let kernel = product(&problem, isa, schedule);
    assert_eq!(parse_kernel(&kernel.to_string()).as_ref(), Ok(&kernel));
    let mut buffers = vec![stored(mem, &x), packed, bytes_of(&biases), vec![0xee; problem.dst.bytes]];
    let mut interpreted = buffers.clone();
    run_here(&kernel, &mut buffers).unwrap();
    if problem.dst.bytes < 20_000 {
        kernel.interpret(&mut interpreted).unwrap();
        assert_eq!(interpreted, buffers);
    }
    buffers.swap_remove(3)
}

/// The images, the rounded weights, the biases.
fn data([images, groups, channels, filters]: [usize; 4], [h, w]: [Axis; 2]) -> [Vec<f32>; 3] {
    let all = groups * filters;
    let x = random_floats(images * h.size * w.size * groups * channels, 1);
    let weights = random_floats(all * channels * h.kernel * w.kernel, 2).into_iter().map(rounded).collect();
    [x, weights, random_floats(all, 3)]
}

/// Compares a result with loops in `f64`.
fn check_sums(found: &[f32], isa: &Isa, form: Int8Form, shape: [usize; 4], axes: [Axis; 2]) {
    let ([_, groups, channels, filters], [h, w]) = (shape, axes);
    let all = groups * filters;
    let [x, weights, biases] = data(shape, axes);
    let weight = |f: usize, c: usize, y: usize, x: usize| weights[((f * channels + c) * h.kernel + y) * w.kernel + x];
    let at = |n: usize, y: usize, x: usize, c: usize| ((n * h.size + y) * w.size + x) * groups * channels + c;
    for (i, &found) in found.iter().enumerate() {
        let (n, oy, ox, f) = (i / all / w.out / h.out, i / all / w.out % h.out, i / all % w.out, i % all);
        let (mut sum, mut scale) = (f64::from(biases[f]), 1.0);
        for t in 0..h.kernel * w.kernel {
            let y = (oy * h.stride + t / w.kernel * h.dilation).wrapping_sub(h.pads[0]);
            let col = (ox * w.stride + t % w.kernel * w.dilation).wrapping_sub(w.pads[0]);
            if y < h.size && col < w.size {
                for c in 0..channels {
                    let from = at(n, y, col, f / filters * channels + c);
                    let term = f64::from(rounded(x[from])) * f64::from(weight(f, c, t / w.kernel, t % w.kernel));
                    sum += term;
                    scale += term.abs();
                }
            }
        }
        assert!((f64::from(found) - sum).abs() <= 1e-6 * scale, "{} {form:?} {axes:?} at {i}: {found} {sum}", isa.name);
    }
}

#[test]
fn every_tail_of_a_product() {
    for isa in all_isas() {
        let (mr, nr) = (isa.contract_f32.0, isa.contract_f32.1 * isa.lanes());
        for m in [1, mr - 1, mr, 2 * mr + 1] {
            for n in [1, nr - 1, nr, nr + 1] {
                for k in [1, 2, 7, 8, 33] {
                    for form in [Int8Form::Halves, Int8Form::Widened] {
                        run(isa, form, 1, 1, k, n, [Axis::NONE, axis(m, 1, 1, 1, [0, 0])]);
                    }
                    // Matrices read from where they are end with whole ones, with a part of one, and with none but a
                    // part.
                    let best = Int8Form::bf16(isa, 32, 32, false);
                    if best.is_blocked() {
                        run(isa, best, 1, 1, 32 * k.div_ceil(8), n, [Axis::NONE, axis(4 * m - 3, 1, 1, 1, [0, 0])]);
                        // Fewer channels than those of a row of matrices are staged between zeros.
                        if m > 1 && m < mr {
                            run(isa, best, 1, 1, k, n, [Axis::NONE, axis(m, 1, 1, 1, [0, 0])]);
                        }
                    }
                }
            }
        }
    }
    check(2, 1, 130, 33, [axis(7, 1, 1, 1, [0, 0]), axis(9, 1, 1, 1, [0, 0])]);
    for isa in all_isas() {
        let best = Int8Form::bf16(isa, 32, 24, true);
        run(isa, best, 2, 1, 24, 33, [axis(5, 1, 1, 1, [0, 0]), axis(7, 1, 1, 1, [0, 0])]);
        run(isa, best, 1, 2, 17, 5, [axis(5, 3, 2, 1, [1, 1]), axis(9, 1, 2, 1, [1, 0])]);
    }
    check(1, 1, 35, 20, [axis(9, 3, 1, 1, [1, 1]), axis(11, 3, 1, 1, [1, 1])]);
}

#[test]
fn what_is_not_a_number_stays_where_it_is() {
    for isa in all_isas() {
        for form in [Int8Form::Halves, Int8Form::Widened] {
            // Three elements a row: the last pair of a row ends in the next one, which is not a number.
            let problem = NarrowProduct::points(2, 1, 3, form);
            let schedule = Int8Schedule::choose(&problem, isa, &Caches::default());
            let kernel = product(&problem, isa, schedule);
            let packed = pack(&problem.pack(), schedule.nr, |_, _, _, _| 0x3f80);
            let nan = f32::NAN;
            let mut buffers = vec![bytes_of(&[1.0, 2.0, 3.0, nan, nan, nan]), packed, vec![0; 8]];
            run_here(&kernel, &mut buffers).unwrap();
            let found = floats_of(&buffers[2]);
            assert!(found[0] == 6.0 && found[1].is_nan(), "{} {form:?}: {found:?}", isa.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn convolutions(
        (images, groups, channels, filters) in (1usize..3, 1usize..4, 1usize..10, 1usize..14),
        (high, wide) in (1usize..8, 1usize..10),
        kernel in (1usize..4, 1usize..4),
        stride in (1usize..3, 1usize..3),
        dilation in (1usize..3, 1usize..3),
        pads in (0usize..2, 0usize..3),
    ) {
        let axes = [
            axis(high, kernel.0, stride.0, dilation.0, [pads.0, pads.1.min(1)]),
            axis(wide, kernel.1, stride.1, dilation.1, [pads.1, pads.0]),
        ];
        check(images, groups, channels, filters, axes);
    }
}
