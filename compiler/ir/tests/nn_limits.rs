//! Edge cases of the neural-network ops: empty batches, windows that do not fit, and hostile attributes.

use optc_ir::ops::{nn, quant};
use optc_ir::{Args, Op, OpError, Real, Val};
use optc_tensor::{DType, Tensor};

fn tensor(shape: &[usize], values: &[f32]) -> Option<Val> {
    Some(Tensor::from_slice(shape, values).expect("as many values as elements").into())
}

fn zeros(shape: &[usize]) -> Option<Val> {
    Some(Tensor::zeros(DType::F32, shape).expect("a small shape").into())
}

fn eval(op: impl Into<Op>, values: &[Option<Val>]) -> Result<Vec<Tensor>, OpError> {
    let results = op.into().eval(&Args::plain(values))?;
    Ok(results.into_iter().map(|v| v.as_tensor().expect("these ops give tensors").clone()).collect())
}

fn conv(pads: Vec<i64>, groups: i64) -> nn::Conv {
    nn::Conv { groups, pads, ..nn::Conv::default() }
}

fn pool(kernel: Vec<i64>, pads: Vec<i64>) -> nn::Pool {
    let kind = nn::PoolKind::Mean;
    nn::Pool { ceil_mode: false, count_include_pad: false, dilations: vec![], kernel, kind, pads, strides: vec![1] }
}

#[test]
fn an_empty_batch_gives_an_empty_result() {
    let y = eval(conv(vec![], 1), &[zeros(&[0, 2, 5]), zeros(&[3, 2, 3])]).unwrap();
    assert_eq!(y[0].shape(), [0, 3, 3]);
    let y = eval(pool(vec![2], vec![]), &[zeros(&[0, 2, 5])]).unwrap();
    assert_eq!(y[0].shape(), [0, 2, 4]);
}

#[test]
fn a_window_larger_than_its_operand_is_an_error() {
    assert!(eval(conv(vec![], 1), &[zeros(&[1, 2, 2]), zeros(&[3, 2, 3])]).is_err());
    assert!(eval(pool(vec![9], vec![1, 1]), &[zeros(&[1, 1, 4])]).is_err());
}

#[test]
fn hostile_windows_are_errors() {
    let x = zeros(&[1, 1, 4]);
    for kernel in [vec![0], vec![-1], vec![i64::MAX], vec![1 << 30], vec![]] {
        assert!(eval(pool(kernel, vec![1 << 30, 1 << 30]), std::slice::from_ref(&x)).is_err());
    }
    for pads in [vec![-1, 0], vec![i64::MAX, i64::MAX], vec![1], vec![1 << 30, 1 << 30]] {
        assert!(eval(pool(vec![2], pads), std::slice::from_ref(&x)).is_err());
    }
    for groups in [0, -1, 2, i64::MAX] {
        assert!(eval(conv(vec![], groups), &[x.clone(), zeros(&[3, 1, 2])]).is_err());
    }
}

#[test]
fn transposed_convolution_spreads_with_strides_and_extra_rows() {
    let op =
        nn::ConvTranspose { dilations: vec![], groups: 1, output_padding: vec![1], pads: vec![1, 0], strides: vec![2] };
    let y = eval(op.clone(), &[tensor(&[1, 1, 2], &[1.0, 2.0]), tensor(&[1, 1, 3], &[1.0, 10.0, 100.0])]).unwrap();
    assert_eq!(y[0].to_f64_vec(), [10.0, 102.0, 20.0, 200.0, 0.0]);
    let cut = nn::ConvTranspose { pads: vec![9, 9], ..op };
    assert!(eval(cut, &[zeros(&[1, 1, 2]), zeros(&[1, 1, 3])]).is_err());
}

fn resize(axes: Vec<i64>) -> nn::Resize {
    nn::Resize {
        antialias: false,
        aspect: nn::AspectPolicy::Stretch,
        axes,
        coordinate: nn::CoordinateTransform::HalfPixel,
        cubic_a: Real(-0.75),
        exclude_outside: false,
        extrapolation: Real(0.0),
        mode: nn::Interpolation::Nearest,
        nearest: nn::NearestMode::RoundPreferFloor,
    }
}

#[test]
fn resize_refuses_sizes_that_cannot_be() {
    let x = zeros(&[1, 1, 2, 2]);
    let sizes = |v: &[i64]| Some(Val::from(Tensor::from_slice(&[v.len()], v).unwrap()));
    for bad in [&[1, 1, 1 << 38, 1 << 38][..], &[1, 1, -1, 2], &[1], &[1, 1, i64::MAX, 2]] {
        assert!(eval(resize(vec![]), &[x.clone(), None, sizes(bad)]).is_err());
    }
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e30] {
        let scales = tensor(&[1], &[scale]);
        assert!(eval(resize(vec![3]), &[x.clone(), scales]).is_err());
    }
    assert!(eval(resize(vec![3, -1]), &[x.clone(), None, sizes(&[2, 2])]).is_err());
    let y = eval(resize(vec![-1]), &[zeros(&[0, 2]), None, sizes(&[5])]).unwrap();
    assert_eq!(y[0].shape(), [0, 5]);
    assert!(eval(resize(vec![0]), &[zeros(&[0, 2]), None, sizes(&[5])]).is_err());
}

#[test]
fn regions_with_too_many_points_are_errors() {
    let op = |sampling_ratio: i64, output_width: i64| nn::RoiAlign {
        half_pixel: true,
        mode: nn::RoiAlignMode::Avg,
        output_height: 1,
        output_width,
        sampling_ratio,
        spatial_scale: Real(1.0),
    };
    let batch = |n: i64| Some(Val::from(Tensor::from_slice(&[1], &[n]).unwrap()));
    let run =
        |op: nn::RoiAlign, roi: [f32; 4], n: i64| eval(op, &[zeros(&[1, 1, 4, 4]), tensor(&[1, 4], &roi), batch(n)]);
    assert!(run(op(0, 1), [0.0, 0.0, 1e30, 1e30], 0).is_err());
    assert!(run(op(i64::MAX, 1), [0.0, 0.0, 1.0, 1.0], 0).is_err());
    assert!(run(op(1, 1 << 30), [0.0, 0.0, 1.0, 1.0], 0).is_err());
    assert!(run(op(0, 1), [f32::NAN; 4], 0).is_err());
    assert!(run(op(0, 1), [0.0, 0.0, 1.0, 1.0], 7).is_err());
    assert!(run(op(0, 2), [0.0, 0.0, 1.0, 1.0], 0).is_ok());
}

#[test]
fn a_sequence_of_no_steps_keeps_its_state() {
    let op = nn::Gru {
        activation_alpha: vec![],
        activation_beta: vec![],
        activations: vec![],
        clip: Real(0.0),
        direction: nn::RecurrentDirection::Forward,
        linear_before_reset: false,
    };
    let lengths = |n: i32| Some(Val::from(Tensor::from_slice(&[1], &[n]).unwrap()));
    let operands = |n: i32| {
        [zeros(&[2, 1, 1]), zeros(&[1, 3, 1]), zeros(&[1, 3, 1]), None, lengths(n), tensor(&[1, 1, 1], &[4.0])]
    };
    let y = eval(op.clone(), &operands(0)).unwrap();
    assert_eq!((y[0].to_f64_vec(), y[1].to_f64_vec()), (vec![0.0, 0.0], vec![4.0]));
    // All gates are one half: each step halves the state.
    assert_eq!(eval(op.clone(), &operands(2)).unwrap()[0].to_f64_vec(), [2.0, 1.0]);
    assert!(eval(op.clone(), &operands(3)).is_err());
    assert!(eval(op.clone(), &operands(-1)).is_err());
    let too_few = nn::Gru { activations: vec![nn::RecurrentActivation::Sigmoid], ..op };
    assert!(eval(too_few, &operands(1)).is_err());
}

#[test]
fn attention_of_a_query_that_sees_nothing_is_zero() {
    let op = nn::Attention {
        causal: true,
        formula: false,
        left: -1,
        right: -1,
        scale: Real(0.0),
        scores: nn::AttentionScores::Absent,
        softcap: Real(0.0),
    };
    let (q, k) = (zeros(&[1, 1, 2, 1]), zeros(&[1, 1, 2, 1]));
    let v = tensor(&[1, 1, 2, 1], &[3.0, 5.0]);
    let lengths = Some(Val::from(Tensor::from_slice(&[1], &[1i64]).unwrap()));
    // With one key and two queries the first query stands before all keys.
    let y = eval(op.clone(), &[q.clone(), k.clone(), v.clone(), None, lengths.clone()]).unwrap();
    assert_eq!(y[0].to_f64_vec(), [0.0, 3.0]);
    // The formula has the softmax of nothing, and zero times what is not a number.
    let formula = nn::Attention { formula: true, ..op.clone() };
    let y = eval(formula, &[q.clone(), k.clone(), v.clone(), None, lengths.clone()]).unwrap()[0].to_f64_vec();
    assert!(y[0].is_nan() && y[1] == 3.0, "{y:?}");
    let unseen = tensor(&[1, 1, 2, 1], &[3.0, f32::NAN]);
    let y = eval(op.clone(), &[q.clone(), k.clone(), unseen, None, lengths]).unwrap()[0].to_f64_vec();
    assert!(y[1].is_nan(), "{y:?}");
    let far = Some(Val::from(Tensor::from_slice(&[1], &[i64::MAX]).unwrap()));
    assert!(eval(op, &[q, k, v, None, far]).is_err());
}

#[test]
fn integer_products_take_zero_points_of_rows_and_columns() {
    let bytes = |shape: &[usize], v: &[u8]| Some(Val::from(Tensor::from_slice(shape, v).unwrap()));
    let (a, b) = (bytes(&[2, 2], &[1, 2, 3, 4]), bytes(&[2, 2], &[5, 6, 7, 8]));
    let y = eval(quant::QuantMatMul {}, &[a.clone(), b.clone(), bytes(&[2], &[1, 3]), bytes(&[2], &[5, 6])]).unwrap();
    // [[0, 1], [0, 1]] · [[0, 0], [2, 2]]
    assert_eq!(y[0].to_i64_vec(), [2, 2, 2, 2]);
    assert!(eval(quant::QuantMatMul {}, &[a, b, bytes(&[3], &[1, 2, 3])]).is_err());
}

#[test]
fn equal_extents_are_resampled_where_the_scale_is_not_one() {
    let (coordinate, mode) = (nn::CoordinateTransform::Asymmetric, nn::Interpolation::Linear);
    let op = nn::Resize { coordinate, mode, ..resize(vec![]) };
    let y = eval(op, &[tensor(&[2], &[0.0, 1.0]), tensor(&[1], &[1.25])]).unwrap();
    let y = y[0].to_f64_vec();
    assert!(y.len() == 2 && y[0] == 0.0 && (y[1] - 0.8).abs() < 1e-6, "{y:?}");
}
