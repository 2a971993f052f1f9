//! The single ops that a random graph is made of.

use optc_ir::ops::math::*;
use optc_ir::ops::nn::*;
use optc_ir::ops::tensor::*;
use optc_ir::{Op, Real, Value};
use optc_tensor::DType;

use super::{GraphBuilder, compound};

type Piece = fn(&mut GraphBuilder) -> Option<Value>;

/// The pieces; what stands twice comes twice as often.
static PIECES: &[Piece] = &[
    unary,
    unary,
    unary,
    binary,
    binary,
    binary,
    with_constant,
    with_constant,
    with_constant,
    choose,
    clip,
    conv,
    conv,
    conv,
    pool,
    batch_norm,
    matmul,
    matmul,
    product_of_values,
    gemm,
    softmax,
    layer_norm,
    reduce,
    reduce,
    reshape,
    flatten,
    squeeze_or_unsqueeze,
    transpose,
    transpose,
    concat,
    slice,
    split,
    pad,
    expand,
    compound::silu,
    compound::gelu,
    compound::layer_norm,
    compound::rms_norm,
    compound::softmax,
    compound::hard_swish,
    compound::attention,
    compound::neutral,
    compound::moves,
];

/// Adds one piece.
pub(super) fn add(b: &mut GraphBuilder) -> Option<Value> {
    b.random.pick(PIECES)(b)
}

fn unary(b: &mut GraphBuilder) -> Option<Value> {
    let ops: [Op; 14] = [
        Relu {}.into(),
        Sigmoid {}.into(),
        Tanh {}.into(),
        Abs {}.into(),
        Neg {}.into(),
        Erf {}.into(),
        Atan {}.into(),
        Asinh {}.into(),
        HardSwish {}.into(),
        Softsign {}.into(),
        Softplus {}.into(),
        LeakyRelu { alpha: Real(0.125) }.into(),
        Elu { alpha: Real(1.0) }.into(),
        HardSigmoid { alpha: Real(0.25), beta: Real(0.5) }.into(),
    ];
    let at = b.random.below(ops.len());
    let x = b.any();
    b.step(ops[at].clone(), &[x])
}

/// Sums, differences, maxima: of values of one shape, or with one that is broadcast.
fn binary(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    let fits = |b: &GraphBuilder, y: Value| {
        let (x, y) = (b.shape(x), b.shape(y));
        optc_tensor::broadcast_shapes(&x, &y).is_some_and(|s| s == x || s == y)
    };
    let y = (0..6).find_map(|_| Some(b.any()).filter(|&y| fits(b, y)))?;
    let ops: [Op; 4] = [Add {}.into(), Sub {}.into(), Min {}.into(), Max {}.into()];
    let at = b.random.below(ops.len());
    b.step(ops[at].clone(), &[x, y])
}

/// Arithmetic with a scalar, one element a channel, or a full constant.
fn with_constant(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    let shape = b.shape(x);
    let to: Vec<usize> = match b.random.below(4) {
        0 => vec![],
        1 if shape.len() > 2 => [vec![shape[1]], vec![1; shape.len() - 2]].concat(),
        2 => shape.last().map(|&n| vec![n]).unwrap_or_default(),
        _ => shape.clone(),
    };
    let c = b.weights(&to, 0.25, 1.5)?;
    let ops: [Op; 6] = [Add {}.into(), Sub {}.into(), Mul {}.into(), Mul {}.into(), Div {}.into(), Max {}.into()];
    let at = b.random.below(ops.len());
    let turned = b.random.once_in(4) && at != 4;
    b.step(ops[at].clone(), &if turned { [c, x] } else { [x, c] })
}

/// `where(x < c, x, y)`.
fn choose(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    let c = b.scalar(0.25)?;
    let mask = b.op(Less {}, &[x, c])?;
    let other = b.op(Neg {}, &[x])?;
    b.step(Where {}, &[mask, x, other])
}

fn clip(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    let (low, high) = (b.scalar(-0.5)?, b.scalar(0.75)?);
    b.step(Clip {}, &[x, low, high])
}

fn conv(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.of_rank(&[4, 4, 3])?;
    let shape = b.shape(x);
    let (channels, axes) = (shape[1], shape.len() - 2);
    let groups = b.random.pick(&[1, 1, channels]);
    let out = if groups == 1 { b.random.pick(&[1, 3, 4, 8]) } else { channels };
    let kernel = b.random.pick(&[1, 2, 3]);
    let weights = b.weights(&[&[out, channels / groups][..], &vec![kernel; axes]].concat(), -0.5, 0.5)?;
    let op = Conv {
        dilations: vec![],
        groups: groups as i64,
        pads: (0..2 * axes).map(|_| b.random.below(kernel) as i64).collect(),
        strides: vec![b.random.pick(&[1, 1, 2]); axes],
        ..Conv::default()
    };
    if b.random.once_in(2) {
        let bias = b.weights(&[out], -1.0, 1.0)?;
        return b.step(op, &[x, weights, bias]);
    }
    b.step(op, &[x, weights])
}

fn pool(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.of_rank(&[4])?;
    let kernel = b.random.pick(&[2, 3]);
    let op = Pool {
        ceil_mode: false,
        count_include_pad: b.random.once_in(2),
        dilations: vec![],
        kernel: vec![kernel; 2],
        kind: b.random.pick(&[PoolKind::Max, PoolKind::Mean]),
        pads: vec![b.random.pick(&[0, 1]); 4],
        strides: vec![b.random.pick(&[1, 2]); 2],
    };
    b.step(op, &[x])
}

fn batch_norm(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.of_rank(&[4, 2])?;
    let n = b.shape(x)[1];
    let (scale, bias, mean) = (b.weights(&[n], 0.5, 1.5)?, b.weights(&[n], -1.0, 1.0)?, b.weights(&[n], -1.0, 1.0)?);
    let var = b.weights(&[n], 0.5, 2.0)?;
    b.step(BatchNorm { epsilon: Real(1e-5) }, &[x, scale, bias, mean, var])
}

fn matmul(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.of_rank(&[2, 3])?;
    let k = *b.shape(x).last()?;
    let n = b.random.pick(&[1, 4, 7]);
    let w = b.weights(&[k, n], -0.5, 0.5)?;
    b.step(MatMul::default(), &[x, w])
}

/// `x · xᵀ`.
fn product_of_values(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.of_rank(&[2, 3])?;
    let x = b.op(Tanh {}, &[x])?;
    let rank = b.shape(x).len() as i64;
    let perm = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
    let t = b.op(Transpose { perm }, &[x])?;
    b.step(MatMul::default(), &[x, t])
}

fn gemm(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.of_rank(&[2])?;
    let (k, n) = (b.shape(x)[1], b.random.pick(&[2, 5]));
    let trans_b = b.random.once_in(2);
    let w = b.weights(&if trans_b { [n, k] } else { [k, n] }, -0.5, 0.5)?;
    let c = b.weights(&[n], -1.0, 1.0)?;
    b.step(Gemm { alpha: Real(0.5), beta: Real(2.0), precision: DType::F32, trans_a: false, trans_b }, &[x, w, c])
}

fn softmax(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    let axis = b.random.below(b.shape(x).len().max(1)) as i64;
    b.step(Softmax { axis, log: false }, &[x])
}

fn layer_norm(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.of_rank(&[3])?;
    let n = *b.shape(x).last()?;
    let (scale, bias) = (b.weights(&[n], 0.5, 1.5)?, b.weights(&[n], -1.0, 1.0)?);
    b.step(LayerNorm { axis: -1, epsilon: Real(1e-3) }, &[x, scale, bias])
}

fn reduce(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    let rank = b.shape(x).len();
    let axes = if rank == 4 && b.random.once_in(2) { vec![2, 3] } else { vec![b.random.below(rank.max(1)) as i64] };
    let kind = b.random.pick(&[ReduceKind::Mean, ReduceKind::Max, ReduceKind::Min, ReduceKind::Sum]);
    let keep_dims = b.random.once_in(2);
    b.step(Reduce { all_if_empty: false, kind, axes, keep_dims }, &[x])
}

fn reshape(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    let mut target: Vec<i64> = b.shape(x).iter().map(|&n| n as i64).collect();
    match b.random.below(3) {
        0 if target.len() > 1 => {
            let last = target.pop()?;
            *target.last_mut()? *= last;
        }
        1 => target = vec![-1],
        _ => target.insert(0, 1),
    }
    let target = b.ints(&target)?;
    b.step(Reshape { allow_zero: false }, &[x, target])
}

fn flatten(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    b.step(Flatten { axis: 1 }, &[x])
}

fn squeeze_or_unsqueeze(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    if b.random.once_in(2) {
        return b.step(Squeeze {}, &[x]);
    }
    let axes = b.ints(&[1])?;
    b.step(Unsqueeze {}, &[x, axes])
}

fn transpose(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    let mut perm: Vec<i64> = (0..b.shape(x).len() as i64).collect();
    for i in (1..perm.len()).rev() {
        perm.swap(i, b.random.below(i + 1));
    }
    if perm.len() == 4 && b.random.once_in(2) {
        perm = b.random.pick(&[[0, 2, 3, 1], [0, 3, 1, 2]]).to_vec();
    }
    b.step(Transpose { perm }, &[x])
}

fn concat(b: &mut GraphBuilder) -> Option<Value> {
    let (x, y) = (b.any(), b.any());
    let (s, rank) = (b.shape(x), b.shape(x).len());
    let axis = b.random.below(rank.max(1));
    let fits = b.shape(y).len() == rank && (0..rank).all(|d| d == axis || b.shape(y)[d] == s[d]);
    b.step(Concat { axis: axis as i64 }, &[x, if fits { y } else { x }])
}

fn slice(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    let axis = b.random.below(b.shape(x).len().max(1));
    let n = *b.shape(x).get(axis)? as i64;
    let start = b.random.below(n as usize) as i64;
    let (start, end, step) =
        if b.random.once_in(4) { (n - 1, -n - 1, -1) } else { (start, i64::MAX, b.random.pick(&[1, 2])) };
    let lists = [b.ints(&[start])?, b.ints(&[end])?, b.ints(&[axis as i64])?, b.ints(&[step])?];
    b.step(Slice {}, &[x, lists[0], lists[1], lists[2], lists[3]])
}

fn split(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    let axis = b.random.below(b.shape(x).len().max(1));
    let n = *b.shape(x).get(axis)? as i64;
    let sizes = if n > 1 { vec![1, n - 1] } else { vec![n] };
    b.step(Split { axis: axis as i64, parts: 0, sizes }, &[x])
}

fn pad(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.of_rank(&[4])?;
    let by = b.random.pick(&[0, 1]);
    pad_by(b, x, &[0, 0, 1, by, 0, 0, by, 0])
}

/// Zeros around `x`.
fn pad_by(b: &mut GraphBuilder, x: Value, pads: &[i64]) -> Option<Value> {
    b.step(Pad { mode: PadMode::Constant, pads: pads.to_vec() }, &[x])
}

fn expand(b: &mut GraphBuilder) -> Option<Value> {
    let x = b.any();
    let rank = b.shape(x).len();
    let mut target = vec![1i64; rank + usize::from(rank < 4)];
    target[0] = 2;
    let target = b.ints(&target)?;
    b.step(Expand {}, &[x, target])
}
