//! Winograd convolutions: the three kernels together against the sum in `f64`, within the stated error.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_kernel::expr::Expr;
use optc_kernel::nest::Kernel;
use optc_kernel::target::{Caches, Isa};
use optc_kernels::contract::{ContractSchedule, ConvNest, contract};
use optc_kernels::window::{Axis, ImageView};
use optc_kernels::winograd::{F2, F4, Winograd, WinogradMatrices};
use optc_testing::{all_isas, bytes_of, floats_of, random_floats, run_here};
use proptest::prelude::*;

/// A convolution with a bias, a residual and a ReLU.
fn problem(batch: usize, channels: usize, filters: usize, [h, w]: [usize; 2], pads: [[usize; 2]; 2]) -> ConvNest {
    let axis = |size: usize, pads: [usize; 2]| Axis {
        size,
        out: size + pads[0] + pads[1] - 2,
        kernel: 3,
        stride: 1,
        dilation: 1,
        pads,
    };
    let axes = [Axis::NONE, axis(h, pads[0]), axis(w, pads[1])];
    let mut c = ConvNest::channels_last(batch, channels, filters, 1, axes);
    let bias = ImageView { bytes: 4 * filters, strides: [0, 0, 0, 0, 4], ..c.dst };
    c.operands = vec![bias, c.dst];
    c.epilogue = Expr::Operand(0).plus(Expr::Operand(1)).plus(Expr::Operand(2)).relu();
    c
}

/// The definition.
fn expected(c: &ConvNest, x: &[f32], w: &[f32], bias: &[f32], residual: &[f32]) -> Vec<f64> {
    let [_, rows, columns] = c.axes;
    let one = |i: usize| {
        let (f, col) = (i % c.filters, i / c.filters % columns.out);
        let (row, image) = (i / c.filters / columns.out % rows.out, i / c.filters / columns.out / rows.out);
        let mut sum = f64::from(bias[f]) + f64::from(residual[i]);
        for t in 0..9 * c.channels {
            let (tap, ch) = (t % 9, t / 9);
            let y = (row + tap / 3).wrapping_sub(rows.pads[0]);
            let x_at = (col + tap % 3).wrapping_sub(columns.pads[0]);
            if y < rows.size && x_at < columns.size {
                let pixel = x[((image * rows.size + y) * columns.size + x_at) * c.channels + ch];
                sum += f64::from(pixel) * f64::from(w[(f * c.channels + ch) * 9 + tap]);
            }
        }
        sum.max(0.0)
    };
    (0..residual.len()).map(one).collect()
}

/// Runs a kernel on buffers and a result of its own; returns the result.
fn result(kernel: &Kernel, mut buffers: Vec<Vec<u8>>, interpret: bool) -> Vec<u8> {
    buffers.push(vec![0xee; kernel.bufs.last().unwrap().bytes]);
    if interpret {
        kernel.interpret(&mut buffers).unwrap();
    } else {
        run_here(kernel, &mut buffers).unwrap();
    }
    buffers.pop().unwrap()
}

fn check(c: &ConvNest, form: &'static WinogradMatrices, isa: &Isa, interpret: bool) {
    let winograd = Winograd::of(c, form).unwrap();
    let product = winograd.product();
    let schedule = ContractSchedule::choose(&product, isa, &Caches::default());
    let [x, w, bias] = [c.src.bytes / 4, 9 * c.channels * c.filters, c.filters].map(|n| random_floats(n, n as u64));
    let residual = random_floats(c.dst.bytes / 4, 5);
    let mut packed = vec![0.0; winograd.packed_len(isa.lanes())];
    winograd.pack_weights(&w, isa.lanes(), 3, &mut packed);
    let input = winograd.input(isa);
    let v = result(&input.kernel, vec![bytes_of(&x), input.table.unwrap()], interpret);
    let product = contract(&product, isa, schedule).unwrap();
    let m = result(&product.kernel, vec![v, bytes_of(&packed)], interpret);
    let output = winograd.output(isa);
    let found = floats_of(&result(&output, vec![m, bytes_of(&bias), bytes_of(&residual)], interpret));
    let want = expected(c, &x, &w, &bias, &residual);
    let largest = want.iter().fold(1.0f64, |a, v| a.max(v.abs()));
    for (i, (&f, w)) in found.iter().zip(&want).enumerate() {
        let error = (f64::from(f) - w).abs() / largest;
        assert!(
            error <= form.error,
            "{} {c:?}: element {i} is {f}, expected {w}, {error:.1e} of the largest",
            isa.name
        );
    }
}

#[test]
fn tiles_fit_and_do_not() {
    for form in [&F2, &F4] {
        for isa in all_isas() {
            check(&problem(1, 16, 24, [8, 8], [[1, 1]; 2]), form, isa, true);
            check(&problem(2, 5, 7, [9, 6], [[1, 0], [0, 2]]), form, isa, true);
            check(&problem(1, 64, 64, [14, 14], [[1, 1]; 2]), form, isa, false);
            check(&problem(1, 3, 1, [3, 3], [[0, 0]; 2]), form, isa, false);
            check(&problem(1, 512, 40, [7, 7], [[1, 1]; 2]), form, isa, false);
        }
    }
}

#[test]
fn other_convolutions_are_refused() {
    let c = problem(1, 4, 4, [8, 8], [[1, 1]; 2]);
    let with = |change: fn(&mut Axis)| {
        let mut c = c.clone();
        change(&mut c.axes[2]);
        Winograd::of(&c, &F2).is_none()
    };
    assert!(with(|a| a.kernel = 5) && with(|a| a.stride = 2) && with(|a| a.dilation = 2) && with(|a| a.out = 0));
    assert!(Winograd::of(&ConvNest { groups: 2, ..c.clone() }, &F2).is_none());
    assert!(Winograd::of(&c, &F2).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_shape(
        batch in 1usize..3,
        channels in 1usize..40,
        filters in 1usize..40,
        size in [3usize..15, 3usize..15],
        pads in [[0usize..3, 0usize..3], [0usize..3, 0usize..3]],
        four in any::<bool>(),
    ) {
        let c = problem(batch, channels, filters, size, pads);
        for isa in all_isas() {
            check(&c, if four { &F4 } else { &F2 }, isa, false);
        }
    }
}
