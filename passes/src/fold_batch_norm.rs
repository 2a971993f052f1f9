//! `fold-batch-norm`: put what is done per channel after a linear op into its weights and bias.
//!
//! ```optc
//! given %x: tensor<1x1x2x2xf32>
//! %0 = tensor.const {value = dense<[1.0, 2.0]> : tensor<2x1x1x1xf32>} : tensor<2x1x1x1xf32>
//! %1 = tensor.const {value = dense<[2.0, 4.0]> : tensor<2xf32>} : tensor<2xf32>
//! %2 = tensor.const {value = dense<[0.5, 0.25]> : tensor<2xf32>} : tensor<2xf32>
//! %3 = tensor.const {value = dense<[1.0, 0.0]> : tensor<2xf32>} : tensor<2xf32>
//! %4 = tensor.const {value = dense<[4.0, 16.0]> : tensor<2xf32>} : tensor<2xf32>
//! %5 = nn.conv %x, %0 : tensor<1x2x2x2xf32>
//! %6 = nn.batch_norm %5, %1, %2, %3, %4 {epsilon = 0.0} : tensor<1x2x2x2xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<1x1x2x2xf32>
//! %0 = tensor.const {value = dense<[1.0, 2.0]> : tensor<2x1x1x1xf32>} : tensor<2x1x1x1xf32>
//! %1 = tensor.const {value = dense<[-0.5, 0.25]> : tensor<2xf32>} : tensor<2xf32>
//! %2 = nn.conv %x, %0, %1 : tensor<1x2x2x2xf32>
//! ```
//!
//! Why: the normalisation of a trained model is one factor and one summand per channel, which cost nothing there. A
//! lone batch normalisation becomes a product and a sum, which fuse. Sums and products with constants per channel go
//! the same way.
//!
//! Declines where the linear op's result has another user, where its weights are not a constant or serve another op as
//! well, and where a statistic is not a constant. Reassociates: new weights are computed in `f64` and rounded once.

mod linear;

use optc_ir::ops::math::{Add, Mul};
use optc_ir::ops::nn::BatchNorm;
use optc_ir::{Graph, NodeId, Op, Value};
use optc_tensor::Tensor;

use crate::matching::{dims, dtype, has_one_use, operands2, rank, result};
use crate::rewrite::{Patch, Rule, rewrite_to_fixpoint};
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};
use linear::LinearOp;

/// See the module.
pub struct FoldBatchNorm;

static RULES: &[Rule] = &[
    ("batch-norm-into-linear", batch_norm_into_linear),
    ("batch-norm-to-mul-add", batch_norm_to_mul_add),
    ("scale-into-linear", scale_into_linear),
    ("bias-into-linear", bias_into_linear),
];

impl Pass for FoldBatchNorm {
    const NAME: &'static str = "fold-batch-norm";
    const SUMMARY: &'static str = "put factors and summands per channel into weights and biases";
    const NUMERICS: Numerics = Numerics::Reassociates;

    fn from_options(_: &mut PassArguments) -> Result<FoldBatchNorm, OptionError> {
        Ok(FoldBatchNorm)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        rewrite_to_fixpoint(graph, RULES, cx)
    }
}

/// The factor and the summand per channel of a batch normalisation with constant statistics.
fn affine(g: &Graph, node: NodeId) -> Option<(Vec<f64>, Vec<f64>)> {
    let bn = g.op::<BatchNorm>(node)?;
    let constant = |slot: usize| Some(g.constant(g.operand(node, slot)?)?.to_f64_vec());
    let (scale, bias, mean, var) = (constant(1)?, constant(2)?, constant(3)?, constant(4)?);
    let n = scale.len();
    if [&bias, &mean, &var].iter().any(|v| v.len() != n) {
        return None;
    }
    let factor: Vec<f64> = scale.iter().zip(&var).map(|(s, v)| s / (v + f64::from(bn.epsilon.0)).sqrt()).collect();
    let summand = (0..n).map(|c| bias[c] - mean[c] * factor[c]).collect();
    Some((factor, summand))
}

/// `batch_norm(linear(x))` → `linear′(x)`.
fn batch_norm_into_linear(g: &Graph, node: NodeId) -> Option<Patch> {
    let (factor, summand) = affine(g, node)?;
    let linear = folding_target(g, g.operand(node, 0)?)?;
    if linear.channel_axis != 1 {
        return None;
    }
    linear.scaled_and_shifted(g, node, &factor, &summand)
}

/// `batch_norm(x)` → `x · factor + summand`.
fn batch_norm_to_mul_add(g: &Graph, node: NodeId) -> Option<Patch> {
    let (factor, summand) = affine(g, node)?;
    let x = g.operand(node, 0)?;
    let (rank, dtype) = (rank(g, x)?, dtype(g, x)?);
    let mut shape = vec![factor.len()];
    shape.extend(std::iter::repeat_n(1, rank.checked_sub(2)?));
    let mut patch = Patch::new();
    let factor = patch.constant(Tensor::from_f64(dtype, &shape, &factor).ok()?);
    let summand = patch.constant(Tensor::from_f64(dtype, &shape, &summand).ok()?);
    let product = patch.add(Mul {}, &[x.into(), factor]);
    let sum = patch.add(Add {}, &[product, summand]);
    Some(patch.replacing(result(node), sum))
}

/// `linear(x) · c` → `linear′(x)`.
fn scale_into_linear(g: &Graph, node: NodeId) -> Option<Patch> {
    let Op::Mul(_) = &g.node(node).op else { return None };
    let (y, c) = operands2(g, node)?;
    let linear = folding_target(g, y)?;
    let factor = per_channel(g, c, y, &linear)?;
    let zeros = vec![0.0; factor.len()];
    linear.scaled_and_shifted(g, node, &factor, &zeros)
}

/// `linear(x) + c` → `linear′(x)`.
fn bias_into_linear(g: &Graph, node: NodeId) -> Option<Patch> {
    let Op::Add(_) = &g.node(node).op else { return None };
    let (y, c) = operands2(g, node)?;
    let linear = folding_target(g, y)?;
    let summand = per_channel(g, c, y, &linear)?;
    let ones = vec![1.0; summand.len()];
    linear.scaled_and_shifted(g, node, &ones, &summand)
}

/// The linear op that computes `y`, if nothing else reads it.
fn folding_target(g: &Graph, y: Value) -> Option<LinearOp> {
    if has_one_use(g, y) { LinearOp::of(g, y) } else { None }
}

/// A constant that is broadcast to `y` along all axes but that of the channels, one element a channel.
fn per_channel(g: &Graph, c: Value, y: Value, linear: &LinearOp) -> Option<Vec<f64>> {
    let t = g.constant(c)?;
    let rank = dims(g, y)?.len();
    let lead = rank.checked_sub(t.rank())?;
    let along_channels = |(d, &n): (usize, &usize)| n == 1 || (d + lead == linear.channel_axis && n == linear.channels);
    if !t.shape().iter().enumerate().all(along_channels) {
        return None;
    }
    let v = t.to_f64_vec();
    Some(if v.len() == 1 { vec![v[0]; linear.channels] } else { v })
}
