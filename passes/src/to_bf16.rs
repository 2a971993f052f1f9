//! `to-bf16`: compute products with constant weights in bfloat16, where that is faster, and store what they read as
//! bfloat16.
//!
//! ```optc
//! given %x: tensor<2x2xf32>
//! %0 = tensor.const {value = dense<[1.0, 0.5, 2.0, -1.0]> : tensor<2x2xf32>} : tensor<2x2xf32>
//! %1 = math.matmul %x, %0 : tensor<2x2xf32>
//! %2 = math.relu %1 : tensor<2x2xf32>
//! %3 = math.matmul %2, %0 : tensor<2x2xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<2x2xf32>
//! %0 = tensor.const {value = dense<[1.0, 0.5, 2.0, -1.0]> : tensor<2x2xf32>} : tensor<2x2xf32>
//! %1 = math.cast %x {to = bf16} : tensor<2x2xbf16>
//! %2 = math.matmul %1, %0 {precision = bf16} : tensor<2x2xf32>
//! %3 = math.relu %2 : tensor<2x2xf32>
//! %4 = math.cast %3 {to = bf16} : tensor<2x2xbf16>
//! %5 = math.matmul %4, %0 {precision = bf16} : tensor<2x2xf32>
//! ```
//!
//! Why: weights and activations take half the memory and its bandwidth, and CPUs with instructions for bfloat16 do more
//! products at once. Both factors are rounded to the nearest bfloat16, ties to even; sums and all else stay `f32`. A
//! value that products read is rounded where it is computed instead of each time it is read, which gives the same
//! numbers (see [`stores`]).
//!
//! A product is rounded where the machine says that this is faster by its margin, all that can be with `layers=all`.
//! Runs after `assign-layout`, which says how weights lie, and before `fuse`, which makes roundings parts of kernels
//! ([`pipeline`]). Declines convolutions of three axes, sparse weights, and computed ones.

mod stores;

use optc_ir::ops::math::MatMul;
use optc_ir::ops::nn::{Conv, Gemm};
use optc_ir::{Encoding, Graph, NodeId, Op};
use optc_tensor::DType;

use crate::machine::{Change, Machine, Numbers, Product};
use crate::matching::{dtype, tensor_type};
use crate::rewrite::for_each_region;
use crate::weighted::Weighted;
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError, Registry};

/// See the module.
pub struct ToBf16 {
    all: bool,
}

impl Pass for ToBf16 {
    const NAME: &'static str = "to-bf16";
    const SUMMARY: &'static str = "compute products with constant weights in bfloat16 where that is faster: \
        `{layers=faster|all}`; before `fuse`";
    const NUMERICS: Numerics = Numerics::Changes;

    fn from_options(options: &mut PassArguments) -> Result<ToBf16, OptionError> {
        let all = match options.take("layers", "faster".to_owned())?.as_str() {
            "faster" => false,
            "all" => true,
            other => {
                let reason = format!("`{other}` is not `faster` or `all`");
                return Err(OptionError { key: "layers".to_owned(), reason });
            }
        };
        Ok(ToBf16 { all })
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        for id in graph.topological_order().unwrap_or_default() {
            if let Some(op) = rounding(graph, id)
                && (self.all || pays(graph, id, cx.machine()))
                && cx.permit("product")
            {
                graph.node_mut(id).op = op;
            }
        }
        stores::insert(graph, cx);
        for_each_region(graph, &mut |region| self.run(region, cx))
    }
}

/// A pipeline with this pass where it belongs: before the last `fuse`, or after all if there is none.
///
/// # Errors
/// The text is not a pipeline.
pub fn pipeline(registry: &Registry, text: &str) -> Result<String, PassError> {
    let parsed = registry.parse(text)?;
    let mut passes: Vec<&str> = parsed.passes().collect();
    let at = passes.iter().rposition(|&pass| pass == "fuse").unwrap_or(passes.len());
    passes.insert(at, ToBf16::NAME);
    Ok(passes.join(","))
}

/// A product that rounds its operands, where it is one of dense constant weights.
fn rounding(g: &Graph, id: NodeId) -> Option<Op> {
    let (x, w) = (g.operand(id, 0)?, g.operand(id, 1)?);
    let (weights, ty) = (g.constant(w)?, tensor_type(g, w)?);
    let float = dtype(g, x)? == DType::F32 && weights.dtype() == DType::F32;
    if !float || ty.encoding != Encoding::Plain {
        return None;
    }
    let rank = weights.rank();
    match &g.node(id).op {
        Op::Conv(op) if op.precision == DType::F32 && rank <= 4 => {
            Some(Op::from(Conv { precision: DType::BF16, ..op.clone() }))
        }
        Op::Gemm(op) if op.precision == DType::F32 => Some(Op::from(Gemm { precision: DType::BF16, ..op.clone() })),
        Op::MatMul(op) if op.precision == DType::F32 && rank <= 2 => Some(Op::from(MatMul { precision: DType::BF16 })),
        _ => None,
    }
}

/// Whether a product is estimated to be faster in bfloat16. Open shapes have no estimate.
fn pays(g: &Graph, id: NodeId, machine: &dyn Machine) -> bool {
    let Some(product) = Weighted::of(g, id).and_then(|layer| layer.product(g, 1)) else { return false };
    let time = |numbers| machine.densest(&Product { numbers, ..product }).1;
    machine.pays(Change::ToHalves, time(Numbers::Floats), time(Numbers::Halves))
}

/// Whether a node is a product that rounds its factors.
fn rounds(g: &Graph, id: NodeId) -> bool {
    match &g.node(id).op {
        Op::Conv(op) => op.precision == DType::BF16,
        Op::Gemm(op) => op.precision == DType::BF16,
        Op::MatMul(op) => op.precision == DType::BF16,
        _ => false,
    }
}
