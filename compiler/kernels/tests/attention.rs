//! The attention kernel against its definition, with blocks of queries and without.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_kernel::expr::Expr;
use optc_kernel::target::{Caches, Isa};
use optc_kernel::tile::MemType;
use optc_kernels::attention::{AttentionNest, HeadMatrices, attention};
use optc_kernels::contract::{Operand, PackB, pack_b, packed_len};
use optc_testing::{all_isas, bytes_of, floats_of, random_floats, run_here};
use proptest::prelude::*;

/// A matrix for each head, one after the other.
fn dense(heads: usize, rows: usize, columns: usize) -> HeadMatrices {
    let row = 4 * columns as i64;
    HeadMatrices { bytes: 4 * heads * rows * columns, head_stride: rows as i64 * row, row_stride: row }
}

/// `[heads, rows, k]` times `[heads, k, n]`, the latter with these strides, packed.
fn packed(values: &[f32], heads: usize, p: &PackB, lanes: usize) -> Vec<f32> {
    let len = packed_len(1, p.k, p.n, lanes);
    let mut all = vec![0.0; heads * len];
    for (head, packed) in all.chunks_exact_mut(len).enumerate() {
        pack_b(&values[head * p.k * p.n..], p, lanes, 1, packed);
    }
    all
}

fn check(isa: &Isa, [heads, queries, keys, size, width]: [usize; 5], l2: usize, formula: bool) {
    let lanes = isa.lanes();
    let of_keys = PackB { taps: 1, k: size, n: keys, tap_stride: 0, k_stride: 1, n_stride: size };
    let of_values = PackB { taps: 1, k: keys, n: width, tap_stride: 0, k_stride: width, n_stride: 1 };
    let scale = 1.0 / (size as f32).sqrt();
    let problem = AttentionNest {
        heads,
        queries,
        keys,
        size,
        width,
        q: dense(heads, queries, size),
        packed_strides: [&of_keys, &of_values].map(|p| 4 * packed_len(1, p.k, p.n, lanes) as i64),
        // A mask that all heads share.
        operands: vec![Operand {
            mem: MemType::F32,
            bytes: 4 * queries * keys,
            offset: 0,
            batch_stride: 0,
            row_stride: 4 * keys as i64,
            col_stride: 4,
        }],
        score: Expr::Operand(0).times(Expr::Const(scale)).plus(Expr::Operand(1)),
        formula,
        dst: dense(heads, queries, width),
    };
    let [q, k, v] = [queries * size, keys * size, keys * width].map(|n| random_floats(heads * n, n as u64));
    // Some keys are hidden, from the first query all of them.
    let mask: Vec<f32> = (0..queries * keys)
        .map(|i| if i < keys || i % 7 == 3 { f32::NEG_INFINITY } else { 0.1 * (i % 5) as f32 })
        .collect();
    let kernel = attention(&problem, isa, &Caches { l2, ..Caches::default() }).unwrap();
    kernel.verify().unwrap();
    let inputs = [&q, &packed(&k, heads, &of_keys, lanes), &packed(&v, heads, &of_values, lanes), &mask];
    let mut buffers: Vec<_> = inputs.iter().map(|v| bytes_of(v)).collect();
    buffers.push(vec![0xee; problem.dst.bytes]);
    run_here(&kernel, &mut buffers).unwrap();
    let found = floats_of(&buffers[4]);
    for (i, &found) in found.iter().enumerate() {
        let (head, query, column) = (i / (queries * width), i / width % queries, i % width);
        let score = |key: usize| {
            let dot = |e: usize| f64::from(q[(head * queries + query) * size + e] * k[(head * keys + key) * size + e]);
            f64::from(scale) * (0..size).map(dot).sum::<f64>() + f64::from(mask[query * keys + key])
        };
        let weights: Vec<f64> = (0..keys).map(|key| score(key).exp()).collect();
        let mixed: f64 = (0..keys).map(|key| weights[key] * f64::from(v[(head * keys + key) * width + column])).sum();
        let sum: f64 = weights.iter().sum();
        let want = if sum == 0.0 && !formula { 0.0 } else { mixed / sum };
        let same = found.is_nan() == want.is_nan() && (want.is_nan() || (f64::from(found) - want).abs() < 1e-5);
        assert!(same, "{} {problem:?}: {i} is {found}, expected {want}", isa.name);
    }
}

#[test]
fn blocks_of_queries_follow_the_cache() {
    let isa = optc_emit::host::isa();
    check(isa, [2, 33, 40, 16, 24], 16 << 10, false);
    check(isa, [3, 1, 77, 64, 64], 1 << 20, false);
    check(isa, [1, 128, 128, 32, 32], 512 << 10, true);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_extents(
        heads in 1usize..4,
        queries in 1usize..40,
        keys in 1usize..50,
        size in 1usize..20,
        width in 1usize..40,
        small in any::<bool>(),
        formula in any::<bool>(),
    ) {
        for isa in all_isas() {
            check(isa, [heads, queries, keys, size, width], if small { 2 << 10 } else { 1 << 20 }, formula);
        }
    }
}
