//! Products, attention and convolutions with computed weights, lowered and run as compiled plans, against the
//! interpreter.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

mod lowered;

use lowered::{TestOperand, check, constant, input, random};
use optc_ir::Real;
use optc_ir::ops::{math, nn, quant};
use optc_tensor::{DType, Tensor};

fn attention() -> nn::Attention {
    let scores = nn::AttentionScores::Absent;
    nn::Attention { causal: false, formula: false, left: -1, right: -1, scale: Real(0.0), scores, softcap: Real(0.0) }
}

/// `q`, `k` and `v` of this many heads, sharing `shared`.
fn heads(heads: usize, shared: usize, queries: usize, keys: usize) -> Vec<TestOperand> {
    let arg = |h: usize, s: usize, width: usize, seed| TestOperand::Input(random(&[2, h, s, width], seed));
    vec![arg(heads, queries, 8, 1), arg(shared, keys, 8, 2), arg(shared, keys, 6, 3)]
}

#[test]
fn attention_of_any_heads_and_masks() {
    for (count, shared, queries, keys) in [(3, 3, 5, 7), (4, 2, 1, 9), (6, 1, 4, 4), (1, 1, 17, 33)] {
        let plain = || heads(count, shared, queries, keys);
        check(attention(), &plain(), false);
        check(nn::Attention { softcap: Real(0.5), scale: Real(2.0), ..attention() }, &plain(), false);
        check(nn::Attention { causal: true, ..attention() }, &plain(), false);
        check(
            nn::Attention { left: 1, right: 2, ..attention() },
            &[plain(), vec![TestOperand::Absent]].concat(),
            false,
        );
        for shape in [vec![queries, keys], vec![2, 1, 1, keys], vec![count, queries, keys], vec![1, 1]] {
            let float = [plain(), vec![TestOperand::Input(random(&shape, 4))]].concat();
            check(nn::Attention { causal: true, ..attention() }, &float, false);
            let seen: Vec<bool> = random(&shape, 5).to_f64_vec().iter().map(|x| *x > 0.0).collect();
            let bools = [plain(), vec![TestOperand::Input(Tensor::from_bools(&shape, &seen).unwrap())]].concat();
            check(attention(), &bools, false);
        }
    }
}

#[test]
fn products_with_vectors() {
    for (a, b) in [(vec![5], vec![5]), (vec![2, 3, 5], vec![5]), (vec![5], vec![5, 4]), (vec![5], vec![3, 5, 4])] {
        check(math::MatMul::default(), &[input(&a), TestOperand::Input(random(&b, 2))], false);
        check(math::MatMul::default(), &[input(&a), constant(&b, 2)], false);
    }
}

#[test]
fn convolutions_with_computed_weights() {
    let conv = |strides: &[i64], pads: &[i64], dilations: &[i64], groups| nn::Conv {
        strides: strides.to_vec(),
        pads: pads.to_vec(),
        dilations: dilations.to_vec(),
        groups,
        ..nn::Conv::default()
    };
    let weights = |shape: &[usize]| TestOperand::Input(random(shape, 2));
    for nhwc in [false, true] {
        let args = [input(&[2, 3, 9, 8]), weights(&[5, 3, 3, 2]), TestOperand::Input(random(&[5], 3))];
        check(conv(&[2, 1], &[1, 0, 1, 2], &[1, 2], 1), &args, nhwc);
        check(conv(&[], &[], &[], 2), &[input(&[1, 6, 5, 5]), weights(&[4, 3, 3, 3])], nhwc);
        check(conv(&[], &[1, 1, 1, 1], &[], 6), &[input(&[1, 6, 5, 5]), weights(&[6, 1, 3, 3])], nhwc);
        check(conv(&[], &[], &[], 1), &[input(&[1, 40, 4, 4]), weights(&[3, 40, 1, 1])], nhwc);
    }
    check(conv(&[2], &[2, 2], &[], 1), &[input(&[1, 20, 9]), weights(&[7, 20, 4])], false);
}

#[test]
fn products_in_bfloat16() {
    let conv = |strides: &[i64], pads: &[i64], groups| nn::Conv {
        strides: strides.to_vec(),
        pads: pads.to_vec(),
        groups,
        precision: DType::BF16,
        ..nn::Conv::default()
    };
    for nhwc in [false, true] {
        let args = [input(&[2, 3, 9, 8]), constant(&[5, 3, 3, 2], 2), constant(&[5], 3)];
        check(conv(&[2, 1], &[1, 0, 1, 2], 1), &args, nhwc);
        check(conv(&[], &[], 2), &[input(&[1, 6, 5, 5]), constant(&[4, 3, 3, 3], 2)], nhwc);
        check(conv(&[2, 2], &[], 1), &[input(&[1, 40, 5, 4]), constant(&[3, 40, 1, 1], 2)], nhwc);
    }
    check(conv(&[2], &[2, 2], 1), &[input(&[1, 20, 9]), constant(&[7, 20, 4], 2)], false);
    let matmul = math::MatMul { precision: DType::BF16 };
    for (a, b) in [(vec![2, 3, 5], vec![5, 40]), (vec![5], vec![5, 4]), (vec![7, 65], vec![65])] {
        check(matmul.clone(), &[input(&a), constant(&b, 2)], false);
    }
    for (trans_a, trans_b, a, b) in [(false, true, [3, 70], [9, 70]), (true, false, [70, 3], [70, 9])] {
        let gemm = nn::Gemm { alpha: Real(0.5), beta: Real(2.0), precision: DType::BF16, trans_a, trans_b };
        check(gemm, &[input(&a), constant(&b, 2), constant(&[9], 3)], false);
    }
}

/// The last window of an axis is a window of padding: nothing is read for it, though the axis is one that steps over
/// pixels.
#[test]
fn narrow_convolutions_with_a_last_window_in_the_padding() {
    let bytes = |dtype: DType, shape: &[usize], seed: i64| {
        let n = shape.iter().product::<usize>() as i64;
        let low = if dtype == DType::I8 { -128 } else { 0 };
        let values: Vec<i64> = (0..n).map(|i| (i * 37 + seed) % 256 + low).collect();
        Tensor::from_i64(dtype, shape, &values).unwrap()
    };
    for (size, stride, pads, channels) in [
        ([8, 8], [2, 2], [0, 0, 1, 1], 64),
        ([5, 8], [3, 2], [0, 0, 4, 0], 5),
        ([8, 5], [1, 2], [0, 0, 0, 4], 4),
        ([1, 1], [2, 3], [0, 0, 2, 3], 3),
        ([7, 4], [2, 2], [0, 1, 4, 2], 17),
    ] {
        let (pads, strides) = (pads.to_vec(), stride.to_vec());
        let (x, w) = ([2, channels, size[0], size[1]], [9, channels, 1, 1]);
        for nhwc in [false, true] {
            let conv = nn::Conv { pads: pads.clone(), strides: strides.clone(), ..nn::Conv::default() };
            for precision in [DType::F32, DType::BF16] {
                check(nn::Conv { precision, ..conv.clone() }, &[input(&x), constant(&w, 2), constant(&[9], 3)], nhwc);
            }
            for dtype in [DType::U8, DType::I8] {
                let conv =
                    quant::QuantConv { dilations: vec![], groups: 1, pads: pads.clone(), strides: strides.clone() };
                let zero = TestOperand::Constant(bytes(dtype, &[], 77));
                let (x, w) = (TestOperand::Input(bytes(dtype, &x, 1)), TestOperand::Constant(bytes(DType::I8, &w, 2)));
                check(conv, &[x, w, zero], nhwc);
            }
        }
    }
}
