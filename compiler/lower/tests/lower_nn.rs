//! Layers of networks, lowered and run as compiled plans, against the interpreter.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

mod lowered;

use lowered::{TestOperand, check, constant, input, random};
use optc_ir::TextEnum;
use optc_ir::ops::nn::{self, PoolKind, RecurrentActivation, RecurrentDirection};

fn conv(strides: &[i64], pads: &[i64], dilations: &[i64], groups: i64) -> nn::Conv {
    nn::Conv {
        strides: strides.to_vec(),
        pads: pads.to_vec(),
        dilations: dilations.to_vec(),
        groups,
        ..nn::Conv::default()
    }
}

#[test]
fn convolutions() {
    for nhwc in [false, true] {
        let dense = conv(&[2, 1], &[1, 0, 1, 2], &[1, 2], 1);
        check(dense, &[input(&[2, 3, 9, 8]), constant(&[5, 3, 3, 2], 2), constant(&[5], 3)], nhwc);
        check(conv(&[], &[], &[], 1), &[input(&[1, 20, 4, 5]), constant(&[9, 20, 1, 1], 2), TestOperand::Absent], nhwc);
        check(conv(&[], &[1, 1, 1, 1], &[], 3), &[input(&[1, 6, 5, 5]), constant(&[9, 2, 3, 3], 2)], nhwc);
        let depthwise = conv(&[2, 2], &[1, 1, 1, 1], &[], 11);
        check(depthwise, &[input(&[2, 11, 9, 10]), constant(&[11, 1, 3, 3], 2), constant(&[11], 3)], nhwc);
        check(conv(&[], &[], &[], 4), &[input(&[1, 4, 5, 5]), constant(&[8, 1, 3, 3], 2)], nhwc);
        check(conv(&[], &[2, 2], &[], 1), &[input(&[2, 3, 40]), constant(&[4, 3, 5], 2)], nhwc);
        let volume = conv(&[1, 2, 1], &[1; 6], &[], 1);
        check(volume, &[input(&[1, 2, 4, 5, 6]), constant(&[3, 2, 3, 3, 3], 2)], nhwc);
    }
}

/// Few channels, whose rows are copied between their padding, several of them for a task: where pixels of the result
/// are not evenly apart across its rows (every other one of a transposed convolution, one of a column), each row is a
/// task's.
#[test]
fn rows_of_few_channels_that_are_not_evenly_apart() {
    let transposed = nn::ConvTranspose {
        dilations: vec![2, 1],
        groups: 1,
        output_padding: vec![],
        pads: vec![0, 2, 0, 0],
        strides: vec![1, 2],
    };
    check(transposed, &[input(&[2, 13, 9, 9]), constant(&[13, 5, 5, 3], 2), constant(&[5], 3)], true);
    check(conv(&[1, 2], &[0, 1, 2, 1], &[], 1), &[input(&[1, 13, 17, 1]), constant(&[25, 13, 3, 3], 2)], true);
}

/// Four channels of bytes are as far apart as reals are, but are not reals.
#[test]
fn depthwise_convolutions_of_four_channels_of_bytes() {
    let bytes = |shape: &[usize], seed: i64| {
        let n = shape.iter().product::<usize>() as i64;
        let values: Vec<i64> = (0..n).map(|i| (i * 37 + seed) % 251 - 125).collect();
        optc_tensor::Tensor::from_i64(optc_tensor::DType::I8, shape, &values).unwrap()
    };
    let op =
        optc_ir::ops::quant::QuantConv { dilations: vec![], groups: 4, pads: vec![1, 1, 1, 1], strides: vec![2, 1] };
    check(op, &[TestOperand::Input(bytes(&[1, 4, 11, 13], 1)), TestOperand::Constant(bytes(&[4, 1, 3, 3], 2))], true);
}

fn pool(kind: PoolKind, kernel: &[i64], strides: &[i64], pads: &[i64], ceil_mode: bool) -> nn::Pool {
    nn::Pool {
        ceil_mode,
        count_include_pad: ceil_mode,
        dilations: vec![],
        kernel: kernel.to_vec(),
        kind,
        pads: pads.to_vec(),
        strides: strides.to_vec(),
    }
}

#[test]
fn pooling() {
    for (nhwc, kind) in [(false, PoolKind::Max), (true, PoolKind::Max), (false, PoolKind::Mean), (true, PoolKind::Mean)]
    {
        check(pool(kind, &[3, 2], &[2, 2], &[1, 0, 1, 1], false), &[input(&[2, 5, 9, 8])], nhwc);
        check(pool(kind, &[3, 3], &[2, 2], &[0, 0, 1, 1], true), &[input(&[1, 9, 8, 10])], nhwc);
        check(pool(kind, &[6, 7], &[], &[], false), &[input(&[2, 40, 6, 7])], nhwc);
        check(pool(kind, &[3], &[2], &[1, 1], false), &[input(&[1, 6, 11])], nhwc);
        check(pool(kind, &[2, 3, 2], &[2, 1, 1], &[], true), &[input(&[1, 2, 5, 5, 5])], nhwc);
    }
}

/// Operands `x, w, r, bias, lengths, h0` of a layer, some of the optional ones absent.
fn layer(steps: usize, batch: usize, hidden: usize, gates: usize, directions: usize, all: bool) -> Vec<TestOperand> {
    let (i, h, d) = (5, hidden, directions);
    let optional = |arg: TestOperand| if all { arg } else { TestOperand::Absent };
    vec![
        input(&[steps, batch, i]),
        constant(&[d, gates * h, i], 2),
        constant(&[d, gates * h, h], 3),
        optional(constant(&[d, 2 * gates * h], 4)),
        TestOperand::Absent,
        optional(TestOperand::Input(random(&[d, batch, h], 5))),
    ]
}

#[test]
fn recurrent_layers() {
    use RecurrentActivation::{
        Affine, Elu, HardSigmoid, LeakyRelu, Relu, ScaledTanh, Sigmoid, Softplus, Softsign, Tanh, ThresholdedRelu,
    };
    for &direction in RecurrentDirection::ALL {
        let d = direction.reversed().len();
        for (batch, hidden, all) in [(1, 4, true), (2, 7, false), (5, 9, true), (19, 16, true), (3, 1, true)] {
            let steps = if batch == 2 { 1 } else { 4 };
            let lstm = nn::Lstm {
                activation_alpha: vec![],
                activation_beta: vec![],
                activations: vec![],
                clip: optc_ir::Real(if batch == 3 { 0.5 } else { 0.0 }),
                direction,
                input_forget: batch == 5,
            };
            let mut args = layer(steps, batch, hidden, 4, d, all);
            if all {
                args.push(TestOperand::Input(random(&[d, batch, hidden], 6)));
                args.push(constant(&[d, 3 * hidden], 7));
            }
            check(lstm, &args, false);
            for linear_before_reset in [false, true] {
                let gru = nn::Gru {
                    activation_alpha: vec![],
                    activation_beta: vec![],
                    activations: [HardSigmoid, Softsign, Sigmoid, Tanh][..2 * d].to_vec(),
                    clip: optc_ir::Real(0.0),
                    direction,
                    linear_before_reset,
                };
                check(gru, &layer(steps, batch, hidden, 3, d, all), false);
            }
            for activation in [Tanh, Relu, Affine, LeakyRelu, ThresholdedRelu, ScaledTanh, Elu, Softplus] {
                let rnn = nn::Rnn {
                    activation_alpha: vec![optc_ir::Real(0.3); d],
                    activation_beta: vec![optc_ir::Real(0.7); d],
                    activations: vec![activation; d],
                    clip: optc_ir::Real(0.0),
                    direction,
                };
                check(rnn, &layer(steps, batch, hidden, 1, d, all), false);
            }
        }
    }
}
