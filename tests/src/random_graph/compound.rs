//! Groups of ops as exporters write them, so that rules which look for them find some.

use optc_ir::ops::math::*;
use optc_ir::ops::nn::Softmax;
use optc_ir::ops::tensor::*;
use optc_ir::{Op, Value};

use super::GraphBuilder;

/// `x · sigmoid(x)`.
pub(super) fn silu(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    let s = b.op(Sigmoid {}, &[x])?;
    b.step(Mul {}, &[x, s])
}

/// `x · (1 + erf(x / √2)) / 2`, or with the factors in another order.
pub(super) fn gelu(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    let (root, one, half) = (b.scalar(std::f32::consts::SQRT_2)?, b.scalar(1.0)?, b.scalar(0.5)?);
    let scaled = b.op(Div {}, &[x, root])?;
    let erf = b.op(Erf {}, &[scaled])?;
    let sum = b.op(Add {}, &[erf, one])?;
    if b.random.once_in(2) {
        let product = b.op(Mul {}, &[x, sum])?;
        return b.step(Mul {}, &[product, half]);
    }
    let product = b.op(Mul {}, &[x, half])?;
    b.step(Mul {}, &[product, sum])
}

fn mean_of_last(b: &mut GraphBuilder, x: Value) -> Option<Value> {
    b.op(Reduce { all_if_empty: false, kind: ReduceKind::Mean, axes: vec![-1], keep_dims: true }, &[x])
}

/// `(x − mean) / √(mean((x − mean)²) + ε) · scale + bias`.
pub(super) fn layer_norm(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.of_rank(&[2, 3])?;
    let n = *b.shape(x).last()?;
    let mean = mean_of_last(b, x)?;
    let centred = b.op(Sub {}, &[x, mean])?;
    let two = b.scalar(2.0)?;
    let squares = b.op(Pow {}, &[centred, two])?;
    let variance = mean_of_last(b, squares)?;
    let epsilon = b.scalar(1e-3)?;
    let sum = b.op(Add {}, &[variance, epsilon])?;
    let deviation = b.op(Sqrt {}, &[sum])?;
    let normal = b.op(Div {}, &[centred, deviation])?;
    let (scale, bias) = (b.weights(&[n], 0.5, 1.5)?, b.weights(&[n], -1.0, 1.0)?);
    let scaled = b.op(Mul {}, &[normal, scale])?;
    b.step(Add {}, &[scaled, bias])
}

/// `x / √(mean(x²) + ε) · scale`.
pub(super) fn rms_norm(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.of_rank(&[3])?;
    let n = *b.shape(x).last()?;
    let squares = b.op(Mul {}, &[x, x])?;
    let mean = mean_of_last(b, squares)?;
    let epsilon = b.scalar(1e-3)?;
    let sum = b.op(Add {}, &[mean, epsilon])?;
    let root = b.op(Sqrt {}, &[sum])?;
    let inverse = b.op(Reciprocal {}, &[root])?;
    let normal = b.op(Mul {}, &[x, inverse])?;
    let scale = b.weights(&[n], 0.5, 1.5)?;
    b.step(Mul {}, &[normal, scale])
}

/// `exp(x − max) / Σ exp(x − max)`.
pub(super) fn softmax(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.of_rank(&[2, 3])?;
    let over_last = |kind| Reduce { all_if_empty: false, kind, axes: vec![-1], keep_dims: true };
    let top = b.op(over_last(ReduceKind::Max), &[x])?;
    let shifted = b.op(Sub {}, &[x, top])?;
    let e = b.op(Exp {}, &[shifted])?;
    let sum = b.op(over_last(ReduceKind::Sum), &[e])?;
    b.step(Div {}, &[e, sum])
}

/// `x · clip(x + 3, 0, 6) / 6`.
pub(super) fn hard_swish(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    let (three, zero, six) = (b.scalar(3.0)?, b.scalar(0.0)?, b.scalar(6.0)?);
    let sum = b.op(Add {}, &[x, three])?;
    let clipped = b.op(Clip {}, &[sum, zero, six])?;
    let product = b.op(Mul {}, &[x, clipped])?;
    b.step(Div {}, &[product, six])
}

/// `softmax(q · kᵀ · scale) · v` on one value.
pub(super) fn attention(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.of_rank(&[3])?;
    let x = b.op(Tanh {}, &[x])?;
    let scale = b.scalar(0.5)?;
    let keys = b.op(Transpose { perm: vec![0, 2, 1] }, &[x])?;
    let scores = b.op(MatMul::default(), &[x, keys])?;
    let scaled = b.op(Mul {}, &[scores, scale])?;
    let weights = b.op(Softmax { axis: -1, log: false }, &[scaled])?;
    b.step(MatMul::default(), &[weights, x])
}

/// Ops that do nothing.
pub(super) fn neutral(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    let (zero, one) = (b.scalar(0.0)?, b.scalar(1.0)?);
    let x = b.op(Add {}, &[zero, x])?;
    let x = b.op(Mul {}, &[x, one])?;
    let n = b.op(Neg {}, &[x])?;
    b.step(Neg {}, &[n])
}

/// Moves around an elementwise op that undo each other.
pub(super) fn moves(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.of_rank(&[4])?;
    let there = b.op(Transpose { perm: vec![0, 2, 3, 1] }, &[x])?;
    let ops: [Op; 2] = [Relu {}.into(), Tanh {}.into()];
    let at = b.random.below(2);
    let y = b.op(ops[at].clone(), &[there])?;
    b.step(Transpose { perm: vec![0, 3, 1, 2] }, &[y])
}
