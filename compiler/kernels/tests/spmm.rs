//! Sparse products through machine code and the interpreter against plain loops.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_kernel::expr::Expr;
use optc_kernel::nest::parse_kernel;
use optc_kernel::target::{ISAS, Isa};
use optc_kernel::tile::MemType;
use optc_kernels::spmm::{Bcsr, MatrixPlace, Operand, SparseForm, Spmm, Weights, spmm};
use optc_testing::{bytes_of, floats_of, random_floats, run_jit};
use proptest::prelude::*;

/// A matrix in which about `zeros` of a hundred blocks are zero.
fn sparse(rows: usize, cols: usize, block: usize, zeros: u64, seed: u64) -> Vec<f32> {
    let values = random_floats(rows * cols, seed);
    let kept = random_floats(rows.div_ceil(block) * cols, seed + 1);
    let keep = |i: usize| (kept[i / cols / block * cols + i % cols] + 1.0) * 50.0 >= zeros as f32;
    values.iter().enumerate().map(|(i, &v)| if keep(i) { v } else { 0.0 }).collect()
}

fn check(p: &Spmm, weights: &[f32], rows: usize, block: usize) {
    let k = p.x_rows.len();
    let packed = Weights::Floats(Bcsr::of(weights, rows, k, block));
    let x = random_floats(p.x.bytes / 4, 5);
    let operands: Vec<_> = p.operands.iter().map(|o| random_floats(o.bytes / 4, 6)).collect();
    let built = spmm(p, &packed, optc_emit::host::isa()).unwrap();
    let mut buffers = vec![built.stream.clone(), bytes_of(&x)];
    buffers.extend(operands.iter().map(|o| bytes_of(o)));
    buffers.push(vec![0xee; p.c.bytes]);
    let mut again = buffers.clone();
    run_jit(&built.kernel, &mut buffers).unwrap();
    built.kernel.interpret(&mut again).unwrap();
    let (found, interpreted) = (floats_of(buffers.last().unwrap()), floats_of(again.last().unwrap()));
    for at in 0..p.batch * rows * p.n {
        let (image, m, n) = (at / p.n / rows, at / p.n % rows, at % p.n);
        let pixel = |c: usize| x[(image as i64 * p.x.batch_stride + p.x_rows[c]) as usize / 4 + n];
        let mut want: f32 = (0..k).map(|c| weights[m * k + c] * pixel(c)).sum();
        for (o, values) in p.operands.iter().zip(&operands) {
            let at = image as i64 * o.batch_stride + m as i64 * o.row_stride + n as i64 * o.col_stride;
            want += values[at as usize / 4];
        }
        let at = image as i64 * p.c.batch_stride + m as i64 * p.c_row_stride + n as i64 * p.c_col_stride;
        for found in [found[at as usize / 4], interpreted[at as usize / 4]] {
            assert!((found - want).abs() <= 1e-4 * (1.0 + want.abs()), "{image} {m} {n}: {found}, expected {want}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]
    #[test]
    fn products(
        batch in 1usize..3, rows in 1usize..23, n in 1usize..45, k in 1usize..40, zeros in 0u64..101,
        block in prop::sample::select(vec![1usize, 2, 4]), epilogue: bool, transposed: bool, seed in 0u64..1000,
    ) {
        let mut p = Spmm::product(batch, rows, n, k);
        if transposed {
            (p.c_row_stride, p.c_col_stride) = (4, 4 * rows as i64);
        }
        if epilogue {
            let bias = Operand {
                mem: MemType::F32,
                bytes: 4 * rows,
                offset: 0,
                batch_stride: 0,
                row_stride: 4,
                col_stride: 0,
            };
            let residual = Operand {
                mem: MemType::F32,
                bytes: p.c.bytes,
                offset: 0,
                batch_stride: p.c.batch_stride,
                row_stride: p.c_row_stride,
                col_stride: p.c_col_stride,
            };
            p.operands = vec![bias, residual];
            p.epilogue = Expr::Operand(0).plus(Expr::Operand(1)).plus(Expr::Operand(2));
        }
        check(&p, &sparse(rows, k, block, zeros, seed), rows, block);
    }
}

#[test]
fn many_tasks() {
    for (rows, n, k) in [(200, 1, 64), (40, 400, 32), (64, 49, 300)] {
        for block in [1, 2, 4] {
            check(&Spmm::product(1, rows, n, k), &sparse(rows, k, block, 90, 3), rows, block);
        }
    }
}

#[test]
fn text_of_a_sparse_product() {
    let mut p = Spmm::product(1, 3, 5, 3);
    p.epilogue = Expr::Operand(0).relu();
    let built =
        spmm(&p, &Weights::Floats(Bcsr::of(&sparse(3, 3, 2, 50, 1), 3, 3, 2)), Isa::by_name("portable").unwrap())
            .unwrap();
    insta::assert_snapshot!(built.kernel);
    assert_eq!(parse_kernel(&built.kernel.to_string()).as_ref(), Ok(&built.kernel));
}

/// A product of bytes: rows, pixels and columns, the zero point, and whether pixels are signed.
#[derive(Clone, Copy, Debug)]
struct Bytes {
    rows: usize,
    n: usize,
    k: usize,
    zero: i32,
    signed: bool,
}

/// Blocks of integers through machine code of every instruction set and the interpreter: equal to plain loops. Weights
/// take all of 9 bits, as those with zero points do.
fn check_bytes(of: Bytes, (block, width): (usize, usize), zeros: u64, seed: u64) {
    let Bytes { rows, n, k, zero, signed } = of;
    let floats = sparse(rows, k, block, zeros, seed);
    let weights: Vec<i16> = floats.iter().map(|v| (v * 255.0) as i16).collect();
    let pixels: Vec<u8> = random_floats(k * n, seed + 2).iter().map(|v| (v * 1e4) as i32 as u8).collect();
    let value = |b: u8| if signed { i32::from(b as i8) } else { i32::from(b) };
    // Columns lie in planes; quads have the four channels of a pixel in a word.
    let place = |c: usize, i: usize| if width == 1 { c * n + i } else { (c / 4 * n + i) * 4 + c % 4 };
    let mut x = vec![0x5a; k.next_multiple_of(width) * n];
    (0..k * n).for_each(|i| x[place(i / n, i % n)] = pixels[i]);
    let form = SparseForm::of_bytes(width, signed);
    let stride = (n * width) as i64;
    let p = Spmm {
        x: MatrixPlace { bytes: x.len(), offset: 0, batch_stride: 0 },
        form,
        x_rows: (0..k.div_ceil(width) as i64).map(|c| c * stride).collect(),
        c_mem: MemType::I32,
        ..Spmm::product(1, rows, n, k)
    };
    // The same sums modulo 256, the rows of a pixel side by side.
    let transposed = Spmm {
        c: MatrixPlace { bytes: rows * n, offset: 0, batch_stride: 0 },
        c_mem: MemType::U8,
        c_row_stride: 1,
        c_col_stride: rows as i64,
        ..p.clone()
    };
    let packed = Weights::Integers { weights: Bcsr::with_blocks(&weights, (rows, k), (block, width)), zero };
    let want = |at: usize| -> i32 {
        (0..k).map(|c| i32::from(weights[at / n * k + c]) * (value(pixels[c * n + at % n]) - zero)).sum()
    };
    for isa in ISAS.iter().filter(|isa| optc_emit::host::has(isa)) {
        let built = spmm(&p, &packed, isa).unwrap();
        let mut buffers = vec![built.stream.clone(), x.clone(), vec![0xee; p.c.bytes]];
        let mut again = buffers.clone();
        run_jit(&built.kernel, &mut buffers).unwrap();
        built.kernel.interpret(&mut again).unwrap();
        for (found, how) in [(&buffers[2], "compiled"), (&again[2], "interpreted")] {
            for (at, bytes) in found.chunks(4).enumerate() {
                let found = i32::from_le_bytes(bytes.try_into().unwrap());
                assert_eq!(found, want(at), "{how} {}: element {at} of {of:?} in {block}x{width}", isa.name);
            }
        }
        let mut buffers = vec![built.stream.clone(), x.clone(), vec![0xee; rows * n]];
        run_jit(&spmm(&transposed, &packed, isa).unwrap().kernel, &mut buffers).unwrap();
        for (at, &found) in buffers[2].iter().enumerate() {
            let index = at % rows * n + at / rows;
            assert_eq!(found, want(index) as u8, "{}: byte {at} of {of:?} in {block}x{width}", isa.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]
    #[test]
    fn products_of_bytes(
        rows in 1usize..23, n in 1usize..45, k in 1usize..40, zeros in 0u64..101, zero in -128i32..256, signed: bool,
        block in prop::sample::select(vec![1usize, 2, 4]), width in prop::sample::select(vec![1usize, 4]),
        seed in 0u64..1000,
    ) {
        check_bytes(Bytes { rows, n, k, zero, signed }, (block, width), zeros, seed);
    }
}
