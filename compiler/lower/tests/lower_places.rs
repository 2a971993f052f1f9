//! Ops that move elements by a rule known at compile time, and transposed convolutions, lowered and run as compiled
//! plans, against the interpreter.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

mod lowered;

use lowered::{TestOperand, check, constant, input, random};
use optc_ir::TextEnum;
use optc_ir::ops::math::Extreme::{Max, Min};
use optc_ir::ops::{math, nn, tensor};
use optc_tensor::{DType, Tensor};
use optc_testing::isas;

fn ints(shape: &[usize], values: &[i64]) -> TestOperand {
    TestOperand::Constant(Tensor::from_slice(shape, values).unwrap())
}

#[test]
fn padding_continues_in_every_mode() {
    for &mode in tensor::PadMode::ALL {
        let attribute = tensor::Pad { mode, pads: vec![0, 1, 2, 3, 0, 2, 1, 2] };
        check(attribute, &[input(&[2, 3, 4, 5])], false);
        let operand = tensor::Pad { mode, pads: vec![] };
        let by = ints(&[4], &[2, 0, 1, 3]);
        check(operand, &[input(&[2, 3, 4, 5]), TestOperand::Absent, by, ints(&[2], &[-1, 1])], false);
    }
}

#[test]
fn elements_are_repeated_and_resampled() {
    check(tensor::Tile {}, &[input(&[2, 3, 5]), ints(&[3], &[2, 1, 3])], false);
    let resize = |nearest, coordinate| nn::Resize { nearest, coordinate, ..nearest_resize() };
    for (sizes, coordinate) in [
        ([1, 3, 8, 10], nn::CoordinateTransform::Asymmetric),
        ([1, 3, 8, 10], nn::CoordinateTransform::HalfPixel),
        ([1, 3, 6, 3], nn::CoordinateTransform::AlignCorners),
    ] {
        for nearest in [nn::NearestMode::Floor, nn::NearestMode::RoundPreferCeil] {
            for nhwc in [false, true] {
                let args = [input(&[1, 3, 4, 5]), TestOperand::Absent, ints(&[4], &sizes)];
                check(resize(nearest, coordinate), &args, nhwc);
            }
        }
    }
}

fn nearest_resize() -> nn::Resize {
    nn::Resize {
        antialias: false,
        aspect: nn::AspectPolicy::Stretch,
        axes: vec![],
        coordinate: nn::CoordinateTransform::HalfPixel,
        cubic_a: optc_ir::Real(-0.75),
        exclude_outside: false,
        extrapolation: optc_ir::Real(0.0),
        mode: nn::Interpolation::Nearest,
        nearest: nn::NearestMode::Floor,
    }
}

#[test]
fn constant_indices_pick_and_place() {
    for (axis, shape, indices) in [(1, vec![4], vec![2, 2, 0, -1]), (-1, vec![2, 3], vec![4, 1, 3, 3, 0, -2])] {
        check(tensor::Gather { axis }, &[input(&[2, 3, 5]), ints(&shape, &indices)], false);
    }
    let scatter = || tensor::ScatterNd { reduction: tensor::ScatterReduction::None };
    check(scatter(), &[input(&[4, 3, 2]), ints(&[2, 1], &[3, -3]), input(&[2, 3, 2])], false);
    let places = ints(&[2, 2, 2], &[0, 1, 0, 2, 2, 1, 2, 2]);
    check(scatter(), &[input(&[4, 3, 2]), places, input(&[2, 2, 2])], false);
}

#[test]
fn computed_indices_pick() {
    for (axis, shape, indices) in
        [(0, vec![3], vec![3, 0, -4]), (1, vec![2, 2], vec![1, -1, 2, 0]), (-1, vec![], vec![6])]
    {
        let x = || input(&[4, 3, 7]);
        let wide = Tensor::from_slice(&shape, &indices).unwrap();
        let narrow = Tensor::from_i64(DType::I32, &shape, &indices).unwrap();
        for indices in [wide, narrow] {
            check(tensor::Gather { axis }, &[x(), TestOperand::Input(indices.clone())], false);
            check(tensor::Gather { axis }, &[constant(&[4, 3, 7], 2), TestOperand::Input(indices.clone())], false);
            let bytes = Tensor::from_i64(DType::U8, &[4, 3, 7], &(0..84).collect::<Vec<_>>()).unwrap();
            check(tensor::Gather { axis }, &[TestOperand::Input(bytes), TestOperand::Input(indices)], false);
        }
    }
    let rows: Vec<i64> = (0..500).map(|i| i * 7 % 41 - 20).collect();
    let rows = TestOperand::Input(Tensor::from_slice(&[500], &rows).unwrap());
    check(tensor::Gather { axis: 0 }, &[constant(&[40, 30], 2), rows], false);
}

#[test]
fn an_index_out_of_range_is_an_error() {
    for index in [4i64, -5, i64::MAX, i64::MIN] {
        let args = [input(&[4, 3]), TestOperand::Input(Tensor::from_slice(&[2], &[0, index]).unwrap())];
        for isa in isas() {
            let error = lowered::outcome(isa, &tensor::Gather { axis: 0 }.into(), &args, false).unwrap_err();
            assert!(error.to_string().contains(&format!("index {index} is outside of -4..4")), "{error}");
        }
    }
}

#[test]
fn places_of_extremes() {
    let with_nan = |values: &[f32]| TestOperand::Input(Tensor::from_slice(&[1, values.len()], values).unwrap());
    let nan = f32::NAN;
    for (kind, last, keep_dims) in [(Max, false, true), (Max, true, false), (Min, false, false), (Min, true, true)] {
        for axis in [0, 1, -1] {
            let op = math::ArgReduce { axis, keep_dims, kind, last };
            check(op.clone(), &[input(&[3, 9, 13])], false);
            let ties: Vec<f32> = (0..351).map(|i| (i * 7 % 5) as f32).collect();
            check(op, &[TestOperand::Input(Tensor::from_slice(&[3, 9, 13], &ties).unwrap())], false);
        }
        let op = || math::ArgReduce { axis: 1, keep_dims, kind, last };
        for values in [&[1.0, nan, f32::INFINITY, nan, 3.0][..], &[nan, nan, nan], &[f32::INFINITY, nan], &[-0.0, 0.0]]
        {
            check(op(), &[with_nan(values)], false);
        }
    }
}

#[test]
fn transposed_convolutions() {
    let op = |strides: &[i64], pads: &[i64], dilations: &[i64], groups, extra: &[i64]| nn::ConvTranspose {
        strides: strides.to_vec(),
        pads: pads.to_vec(),
        dilations: dilations.to_vec(),
        groups,
        output_padding: extra.to_vec(),
    };
    for nhwc in [false, true] {
        check(
            op(&[2, 3], &[1, 0, 1, 2], &[], 1, &[1, 0]),
            &[input(&[2, 3, 5, 4]), constant(&[3, 4, 3, 4], 2), constant(&[4], 3)],
            nhwc,
        );
        check(op(&[1, 2], &[], &[2, 3], 2, &[]), &[input(&[1, 4, 6, 5]), constant(&[4, 3, 3, 2], 2)], nhwc);
        // Fewer taps than the stride: some elements are the bias alone. Depthwise.
        let bias = TestOperand::Constant(random(&[6], 4));
        check(
            op(&[3, 2], &[1, 0, 0, 0], &[], 6, &[1, 1]),
            &[input(&[2, 6, 4, 5]), constant(&[6, 1, 2, 1], 2), bias],
            nhwc,
        );
    }
    check(op(&[2], &[3, 3], &[], 1, &[]), &[input(&[1, 2, 9]), constant(&[2, 5, 8], 2)], false);
    check(op(&[2, 2, 2], &[], &[], 1, &[]), &[input(&[1, 2, 3, 2, 2]), constant(&[2, 2, 2, 3, 2], 2)], false);
    check(op(&[4, 4], &[0, 5, 0, 0], &[], 1, &[]), &[input(&[1, 2, 2, 3]), constant(&[2, 3, 1, 4], 2)], false);
}
