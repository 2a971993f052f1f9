//! What a node multiplies, as costs see it.

use optc_ir::ops::nn::Conv;
use optc_ir::ops::quant::QuantConv;
use optc_ir::{Graph, NodeId, Op};

use crate::machine::{Numbers, Product};
use crate::matching::{result, shape, three_by_three};

/// The product of a convolution, or of matrices, as one of `f32` of which nothing is staged; `None` where its shapes
/// are open. Groups of a convolution are a batch.
pub(crate) fn product(g: &Graph, node: NodeId) -> Option<Product> {
    let dims = |slot: usize| shape(g, g.operand(node, slot)?);
    let of = |rows: usize, depth: usize, cols: usize| Product::new(rows, depth, cols, Numbers::Floats);
    match &g.node(node).op {
        Op::Conv(Conv { groups, .. }) | Op::QuantConv(QuantConv { groups, .. }) => {
            let (x, w, y) = (dims(0)?, dims(1)?, shape(g, result(node))?);
            let batch = usize::try_from(*groups).ok()?;
            let rows = y[0] * y[2..].iter().product::<usize>();
            let depthwise = batch > 1 && w[1] == 1 && w[0] == batch;
            let three_by_three = three_by_three(g, node);
            let dense = of(rows, w[1..].iter().product(), w[0] / batch.max(1));
            Some(Product { batch, depthwise, inputs: x.iter().product(), three_by_three, ..dense })
        }
        Op::MatMul(_) | Op::Gemm(_) | Op::QuantMatMul(_) => {
            let (a, b, y) = (dims(0)?, dims(1)?, shape(g, result(node))?);
            let cols = *y.last()?;
            let batch: usize = b[..b.len().saturating_sub(2)].iter().product();
            let depth = b.iter().product::<usize>() / cols.max(1) / batch.max(1);
            let rows = y.iter().product::<usize>() / (cols * batch).max(1);
            Some(Product { batch, inputs: a.iter().product(), ..of(rows, depth, cols) })
        }
        _ => None,
    }
}
