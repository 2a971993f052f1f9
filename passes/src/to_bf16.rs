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
//! With `layers=noted` only those of models in bfloat16 are, which `widen` has noted; where they are not faster, the
//! note is taken back.
//!
//! Runs after `assign-layout`, which says how weights lie, and before `fuse`, which makes roundings parts of kernels
//! ([`pipeline`]). Declines convolutions of three axes, sparse weights, and computed ones.

mod stores;

use optc_ir::{Encoding, Graph, NodeId, Op};
use optc_tensor::DType;

use crate::machine::{Change, Machine, Numbers, Product};
use crate::matching::{dtype, tensor_type};
use crate::rewrite::for_each_region;
use crate::weighted::Weighted;
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError, Registry};

/// See the module.
pub struct ToBf16 {
    layers: Layers,
}

/// Which products may be rounded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layers {
    Faster,
    All,
    Noted,
}

impl Pass for ToBf16 {
    const NAME: &'static str = "to-bf16";
    const SUMMARY: &'static str = "compute products with constant weights in bfloat16 where that is faster: \
        `{layers=faster|all|noted}`; before `fuse`";
    const NUMERICS: Numerics = Numerics::Changes;

    fn from_options(options: &mut PassArguments) -> Result<ToBf16, OptionError> {
        let layers = match options.take("layers", "faster".to_owned())?.as_str() {
            "faster" => Layers::Faster,
            "all" => Layers::All,
            "noted" => Layers::Noted,
            other => {
                let reason = format!("`{other}` is not `faster`, `all` or `noted`");
                return Err(OptionError { key: "layers".to_owned(), reason });
            }
        };
        Ok(ToBf16 { layers })
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        for id in graph.topological_order().unwrap_or_default() {
            let noted = rounds(graph, id);
            if graph.operand(id, 0).and_then(|x| dtype(graph, x)) != Some(DType::F32) {
                continue;
            }
            set_precision(graph, id, DType::F32);
            if (noted || self.layers != Layers::Noted)
                && can_round(graph, id)
                && (self.layers == Layers::All || pays(graph, id, cx.machine()))
                && cx.permit("product")
            {
                set_precision(graph, id, DType::BF16);
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
    let mut passes: Vec<&str> = parsed.passes().filter(|pass| !pass.starts_with(ToBf16::NAME)).collect();
    let at = passes.iter().rposition(|&pass| pass == "fuse").unwrap_or(passes.len());
    passes.insert(at, ToBf16::NAME);
    Ok(passes.join(","))
}

/// Whether a product may round its operands: it is one of dense constant weights.
fn can_round(g: &Graph, id: NodeId) -> bool {
    let weights = |slot: usize| g.operand(id, slot).and_then(|w| Some((g.constant(w)?, tensor_type(g, w)?)));
    let Some((weights, ty)) = weights(1) else { return false };
    let float = g.operand(id, 0).and_then(|x| dtype(g, x)) == Some(DType::F32) && weights.dtype() == DType::F32;
    let rank = weights.rank();
    let known = match &g.node(id).op {
        Op::Conv(_) => rank <= 4,
        Op::Gemm(_) => true,
        Op::MatMul(_) => rank <= 2,
        _ => false,
    };
    known && float && ty.encoding == Encoding::Plain
}

/// Says to what a product rounds its operands.
fn set_precision(g: &mut Graph, id: NodeId, precision: DType) {
    match &mut g.node_mut(id).op {
        Op::Conv(op) => op.precision = precision,
        Op::Gemm(op) => op.precision = precision,
        Op::MatMul(op) => op.precision = precision,
        _ => {}
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
