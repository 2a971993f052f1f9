//! `fold-quant`: compute with integers what stands between quantizations.
//!
//! ```optc
//! given %x: tensor<1x2xu8>
//! %s = tensor.const {value = dense<[0.5]> : tensor<f32>} : tensor<f32>
//! %z = tensor.const {value = dense<[0]> : tensor<u8>} : tensor<u8>
//! %k = tensor.const {value = dense<[4, -3]> : tensor<2x1xi8>} : tensor<2x1xi8>
//! %0 = quant.dequantize %x, %s, %z : tensor<1x2xf32>
//! %1 = quant.dequantize %k, %s : tensor<2x1xf32>
//! %2 = math.matmul %0, %1 : tensor<1x1xf32>
//! %3 = math.relu %2 : tensor<1x1xf32>
//! %4 = quant.quantize %3, %s, %z {to = u8} : tensor<1x1xu8>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<1x2xu8>
//! %k = tensor.const {value = dense<[4, -3]> : tensor<2x1xi8>} : tensor<2x1xi8>
//! %s = tensor.const {value = dense<[0.5]> : tensor<f32>} : tensor<f32>
//! %z = tensor.const {value = dense<[0]> : tensor<u8>} : tensor<u8>
//! %0 = quant.matmul %x, %k, _, _ : tensor<1x1xi32>
//! %4 = quant.requantize %0, %s, %z : tensor<1x1xu8>
//! ```
//!
//! - A calibrated `quant.fake_quant` is split into `quant.quantize` and `quant.dequantize`; a constant is quantized
//!   now.
//! - Products ([`products`]) of dequantized operands become products of the integers, times their scales.
//! - That product of scales and a quantization after it become one `quant.requantize`.
//! - Means ([`means`]) become sums of the integers, those under a window convolutions with ones.
//! - What only moves elements, maxima, `relu` and `clip` go to the integers ([`moves`]); a pair of quantizations that
//!   agree goes away.
//!
//! With `to=pairs` only the first is done: that is the form in which quantized models are exchanged.
//!
//! Why: a quarter of the bytes, and twice the products of an instruction or more. Declines scales and zero points that
//! are not constant; activations with several scales. Whether integers are faster is not asked: that changes results,
//! so it is decided where a graph is quantized. What is left stays as it was written. Biases are rounded to the
//! integers' scale, so results may differ from those of the pairs by a step.

mod matching;
mod means;
mod moves;
mod products;

use optc_ir::Graph;
use optc_ir::ops::quant::FakeQuant;
use optc_ir::{Args, NodeId};
use optc_tensor::Tensor;

use crate::matching::{kept_zeros, pruned};
use crate::rewrite::{Patch, Ref, Rule, for_each_region, rewrite_to_fixpoint};
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// See the module.
pub struct FoldQuant {
    /// Whether products are folded; else fake quantizations are split and that is all.
    products: bool,
}

static RULES: &[Rule] = &[
    ("split-fake-quant", split_fake_quant),
    ("quantize-of-dequantize", moves::quantize_of_dequantize),
    ("move-of-dequantize", moves::move_of_dequantize),
    ("move-to-integers", moves::move_before_quantize),
    ("relu-to-integers", moves::relu_before_quantize),
    ("clip-to-integers", moves::clip_before_quantize),
    ("concat-of-dequantize", moves::concat_of_dequantize),
    ("concat-to-integers", moves::concat_before_quantize),
    ("mean-of-integers", means::mean_of_integers),
    ("pool-of-integers", means::pool_of_integers),
    ("requantize", products::requantize),
];

impl Pass for FoldQuant {
    const NAME: &'static str = "fold-quant";
    const SUMMARY: &'static str = "compute with integers what stands between quantizations, or only split fake ones: \
        `{to=pairs}`";
    const NUMERICS: Numerics = Numerics::Approximates { rtol: 0.02 };

    fn from_options(options: &mut PassArguments) -> Result<FoldQuant, OptionError> {
        match options.take("to", "integers".to_owned())?.as_str() {
            "integers" => Ok(FoldQuant { products: true }),
            "pairs" => Ok(FoldQuant { products: false }),
            other => {
                let reason = format!("`{other}` is not `integers` or `pairs`");
                Err(OptionError { key: "to".to_owned(), reason })
            }
        }
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        if !self.products {
            return rewrite_to_fixpoint(graph, &RULES[..1], cx);
        }
        // Moves bring dequantizations to products; what products leave is requantized by another run of the rules.
        rewrite_to_fixpoint(graph, RULES, cx)?;
        products::fold(graph, cx)?;
        rewrite_to_fixpoint(graph, RULES, cx)
    }
}

/// `fake_quant(x)` → `dequantize(quantize(x))`.
fn split_fake_quant(g: &Graph, node: NodeId) -> Option<Patch> {
    let fake = g.op::<FakeQuant>(node)?;
    let x = g.operand(node, 0)?;
    let (scale, zero) = fake.parameters().ok()?;
    let (quantize, dequantize) = fake.halves();
    let mut patch = Patch::new();
    let constant = g.constant(x).and_then(|t| evaluate(&quantize.clone().into(), &[t, &scale, &zero]));
    // Symmetric constants need no zero points, which would be as many as their channels.
    let none = constant.is_some() && zero.to_i64_vec().iter().all(|&z| z == 0);
    let scale = Some(patch.constant(scale));
    let zero = if none { None } else { Some(patch.constant(zero)) };
    let integers = match constant {
        Some(t) => {
            let kept = kept_zeros(pruned(g, x), &t);
            patch.constant_of(t, kept)
        }
        None => patch.add_optional(quantize, &[Some(Ref::Old(x)), scale, zero]),
    };
    let real = patch.add_optional(dequantize, &[Some(integers), scale, zero]);
    Some(patch.replacing(crate::matching::result(node), real))
}

/// The one result of an op on tensors.
fn evaluate(op: &optc_ir::Op, operands: &[&Tensor]) -> Option<Tensor> {
    let values: Vec<_> = operands.iter().map(|&t| Some(t.clone().into())).collect();
    op.eval(&Args::plain(&values)).ok()?.first()?.as_tensor().cloned()
}

/// Calls `f` on the graph and on each region in it.
fn everywhere(graph: &mut Graph, f: &mut dyn FnMut(&mut Graph) -> Result<(), PassError>) -> Result<(), PassError> {
    f(graph)?;
    for_each_region(graph, &mut |region| everywhere(region, &mut *f))
}
