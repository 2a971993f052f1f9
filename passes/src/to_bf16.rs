//! `to-bf16`: compute products with constant weights in bfloat16.
//!
//! ```optc
//! given %x: tensor<1x2xf32>
//! %0 = tensor.const {value = dense<[1.0, 0.5, 2.0, -1.0]> : tensor<2x2xf32>} : tensor<2x2xf32>
//! %1 = math.matmul %x, %0 : tensor<1x2xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<1x2xf32>
//! %0 = tensor.const {value = dense<[1.0, 0.5, 2.0, -1.0]> : tensor<2x2xf32>} : tensor<2x2xf32>
//! %1 = math.matmul %x, %0 {precision = bf16} : tensor<1x2xf32>
//! ```
//!
//! Why: weights take half the memory and its bandwidth, and CPUs with instructions for bfloat16 do more products at once. Both
//! factors are rounded to the nearest bfloat16, ties to even; sums and all else stay `f32`.
//!
//! Runs behind every other pass: it looks into fused regions, and at how weights lie. Declines depthwise convolutions, those of
//! three axes, sparse weights, and computed ones.

use optc_ir::{Encoding, Graph, NodeId, Op, Value};
use optc_tensor::DType;

use crate::matching::{dtype, tensor_type};
use crate::rewrite::for_each_region;
use crate::{Numerics, OptionError, Options, Pass, PassCx, PassError};

/// See the module.
pub struct ToBf16;

impl Pass for ToBf16 {
    const NAME: &'static str = "to-bf16";
    const NUMERICS: Numerics = Numerics::Changes;

    fn from_options(_: &mut Options) -> Result<ToBf16, OptionError> {
        Ok(ToBf16)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        for id in graph.topological_order().unwrap_or_default() {
            if !matches!(graph.node(id).op, Op::Fused(_)) {
                if let Some(op) = rounding(graph, id, Some, graph)
                    && cx.permit("product")
                {
                    graph.node_mut(id).op = op;
                }
                continue;
            }
            for (region, inner, op) in fused(graph, id) {
                if cx.permit("fused product") {
                    graph.node_mut(id).regions[region].node_mut(inner).op = op;
                }
            }
        }
        for_each_region(graph, &mut |region| self.run(region, cx))
    }
}

/// The products in the regions of a fused op, with what becomes of them.
fn fused(graph: &Graph, id: NodeId) -> Vec<(usize, NodeId, Op)> {
    let node = graph.node(id);
    let mut found = vec![];
    for (at, region) in node.regions.iter().enumerate() {
        let params: Vec<Value> = region.inputs().collect();
        let outside = |v: Value| node.operands.get(params.iter().position(|&p| p == v)?).copied().flatten();
        let products = region.topological_order().unwrap_or_default().into_iter();
        found.extend(products.filter_map(|inner| Some((at, inner, rounding(region, inner, outside, graph)?))));
    }
    found
}

/// A product that rounds its operands, where it is one of dense constant weights; `constant` finds these in `outer`.
fn rounding(g: &Graph, id: NodeId, constant: impl Fn(Value) -> Option<Value>, outer: &Graph) -> Option<Op> {
    let (x, w) = (g.operand(id, 0)?, constant(g.operand(id, 1)?)?);
    let (weights, ty) = (outer.constant(w)?, tensor_type(outer, w)?);
    let float = dtype(g, x)? == DType::F32 && weights.dtype() == DType::F32;
    if !float || ty.encoding != Encoding::Plain {
        return None;
    }
    let shape = weights.shape();
    match &g.node(id).op {
        Op::Conv(op) if op.precision == DType::F32 => {
            let depthwise = op.groups > 1 && shape.get(1) == Some(&1) && shape[0] as i64 == op.groups;
            (shape.len() <= 4 && !depthwise)
                .then(|| Op::from(optc_ir::ops::nn::Conv { precision: DType::BF16, ..op.clone() }))
        }
        Op::Gemm(op) if op.precision == DType::F32 => {
            Some(Op::from(optc_ir::ops::nn::Gemm { precision: DType::BF16, ..op.clone() }))
        }
        Op::MatMul(op) if op.precision == DType::F32 && shape.len() <= 2 => {
            Some(Op::from(optc_ir::ops::math::MatMul { precision: DType::BF16 }))
        }
        _ => None,
    }
}
