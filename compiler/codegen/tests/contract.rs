//! Contractions through machine code and the interpreter against plain loops, on all tails.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_codegen::contract::{
    Built, Contract, Conv, Operand, PackB, Schedule, contract, conv, pack_b, pack_b_kernel, packed_len,
};
use optc_codegen::expr::Expr;
use optc_codegen::nest::parse_kernel;
use optc_codegen::target::{Isa, Machine};
use optc_codegen::testing::{bytes_of, floats_of, random_floats, run_jit};
use proptest::prelude::*;

/// Runs a contraction; returns C.
fn run(built: &Built, a: &[f32], b: &[f32], operands: &[Vec<f32>], interpret: bool) -> Vec<f32> {
    let mut buffers = vec![bytes_of(a), bytes_of(b)];
    buffers.extend(built.table.clone());
    buffers.extend(operands.iter().map(|o| bytes_of(o)));
    buffers.push(vec![0xee; built.kernel.bufs.last().unwrap().bytes]);
    if interpret {
        built.kernel.interpret(&mut buffers).unwrap();
    } else {
        run_jit(&built.kernel, &mut buffers).unwrap();
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
    let isa = Isa::host();
    let mut c = Contract::matmul(batch, m, n, k);
    let schedule = Schedule::choose(&c, isa, &Machine::default());
    let nr = schedule.nr;
    c.b_batch_stride = 4 * packed_len(1, k, n, nr) as i64;
    c.operands = vec![
        Operand::per_column(n),
        Operand { bytes: 4 * batch * m * n, batch_stride: c.c_batch_stride, row_stride: 4 * n as i64, col_stride: 4 },
        Operand { bytes: 4 * m, batch_stride: 0, row_stride: 4, col_stride: 0 },
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
    let packed: Vec<f32> = b.chunks(k * n).flat_map(|b| pack_b(b, &p, nr)).collect();
    let pack = pack_b_kernel(batch, b.len(), k * n, &p, nr, isa.lanes());
    let mut buffers = vec![bytes_of(&b), vec![0; 4 * packed.len()]];
    run_jit(&pack, &mut buffers).unwrap();
    assert_eq!(floats_of(&buffers[1]), packed);
    let built = contract(&c, isa, schedule);
    let what = format!("{batch} x {m}x{n}x{k}");
    close(&run(&built, &a, &packed, &operands, false), &want, &what);
    if m * n * k < 3000 {
        close(&run(&built, &a, &packed, &operands, true), &want, &what);
    }
}

#[test]
fn every_tail_of_a_product() {
    let isa = Isa::host();
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

fn convolve(c: &Conv) {
    let isa = Isa::host();
    let nr = isa.contract_f32.1 * isa.lanes();
    let problem = conv(c, nr);
    let (c_in, c_out) = (c.groups * c.channels, c.groups * c.filters);
    let [kh, kw] = c.kernel;
    let x = random_floats(c.batch * c.size[0] * c.size[1] * c_in, 1);
    let w = random_floats(c_out * c.channels * kh * kw, 2);
    let last = c.to_channels_last(&w);
    let packed: Vec<f32> = (0..c.groups).flat_map(|g| pack_b(&last[c.group_weights(g)..], &c.pack(), nr)).collect();
    let mut want = Vec::new();
    for i in 0..c.batch * c.out[0] * c.out[1] * c_out {
        let (o, ox, oy, n) =
            (i % c_out, i / c_out % c.out[1], i / c_out / c.out[1] % c.out[0], i / c_out / c.out[1] / c.out[0]);
        let mut sum = 0.0;
        for t in 0..kh * kw * c.channels {
            let (ch, dx, dy) = (t % c.channels, t / c.channels % kw, t / c.channels / kw);
            let y = (oy * c.strides[0] + dy * c.dilations[0]).wrapping_sub(c.pads[0]);
            let xx = (ox * c.strides[1] + dx * c.dilations[1]).wrapping_sub(c.pads[1]);
            if y < c.size[0] && xx < c.size[1] {
                let pixel = (n * c.size[0] + y) * c.size[1] + xx;
                sum +=
                    x[pixel * c_in + o / c.filters * c.channels + ch] * w[((o * c.channels + ch) * kh + dy) * kw + dx];
            }
        }
        want.push(sum);
    }
    let schedule = Schedule::choose(&problem, isa, &Machine::default());
    let built = contract(&problem, isa, schedule);
    close(&run(&built, &x, &packed, &[], false), &want, &format!("{c:?}"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn convolutions(
        (batch, groups, channels, filters) in (1usize..3, 1usize..3, 1usize..6, 1usize..11),
        (kernel, strides, dilations, pads) in (
            prop::array::uniform2(1usize..4),
            prop::array::uniform2(1usize..3),
            prop::array::uniform2(1usize..3),
            prop::array::uniform2(0usize..3),
        ),
        extra in prop::array::uniform2(0usize..5),
    ) {
        let reach: [usize; 2] = std::array::from_fn(|d| (kernel[d] - 1) * dilations[d] + 1);
        let size: [usize; 2] = std::array::from_fn(|d| reach[d] + extra[d]);
        let out = std::array::from_fn(|d| (size[d] + 2 * pads[d] - reach[d]) / strides[d] + 1);
        convolve(&Conv { batch, size, channels, filters, groups, kernel, strides, dilations, pads, out });
    }
}

#[test]
fn text_of_a_product() {
    let mut c = Contract::matmul(1, 5, 6, 2);
    c.operands = vec![Operand::per_column(6)];
    c.epilogue = Expr::Operand(0).plus(Expr::Operand(1)).relu();
    let built = contract(&c, Isa::host(), Schedule { mr: 2, nr: 4, mc: 4, panels: 2 });
    insta::assert_snapshot!(built.kernel);
    let text = built.kernel.to_string();
    assert_eq!(parse_kernel(&text).as_ref(), Ok(&built.kernel));
    for end in 0..text.len() {
        assert!(parse_kernel(&text[..end]).as_ref() != Ok(&built.kernel) || text[end..].trim().is_empty());
    }
}
