//! What passes know of a product when they ask whether another form of it is faster.

use optc_ir::{Graph, NodeId, Op};

use crate::machine::{Form, Machine, Nanos, Numbers, Product};
use crate::product::product;
use crate::weighted::{Weighted, blocks};

/// A product: a convolution, or matrices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What it multiplies, in `f32`.
    pub product: Product,
    /// Its weights in blocks, if they have zeros that a sparse kernel may leave out.
    pub blocks: Option<NonzeroBlocks>,
}

/// Weights in blocks that are not all zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonzeroBlocks {
    /// Blocks of 4, 2 and 1 output channels by one column.
    pub counts: [(usize, usize); 3],
    /// Activations that a sparse kernel copies before.
    pub staged: usize,
    /// Whether it transposes them.
    pub transposed: bool,
}

impl NonzeroBlocks {
    /// Bytes that are copied before, of some kind of number.
    fn staged_bytes(&self, numbers: Numbers) -> usize {
        self.staged * if self.transposed { numbers.transposed_bytes() } else { numbers.bytes() }
    }
}

impl Layer {
    /// The product of floats that a node computes, where its shapes are known.
    pub fn of(g: &Graph, node: NodeId) -> Option<Layer> {
        let floats = matches!(g.node(node).op, Op::Conv(_) | Op::MatMul(_) | Op::Gemm(_));
        let product = product(g, node).filter(|_| floats)?;
        Some(Layer { product, blocks: sparse_blocks(g, node) })
    }

    /// The time of its fastest form when it multiplies other numbers.
    pub fn time(&self, machine: &dyn Machine, numbers: Numbers) -> Nanos {
        let dense = machine.densest(&Product { numbers, ..self.product }).1;
        let Some(blocks) = &self.blocks else { return dense };
        let product = Product { staged_bytes: blocks.staged_bytes(numbers), numbers, ..self.product };
        let form = |&(rows, blocks): &(usize, usize)| Form::Sparse { block: (rows, 1), blocks };
        blocks.counts.iter().map(|count| machine.time(&product, form(count))).fold(dense, Nanos::min)
    }
}

/// Weights with fewer zeros than this are not looked at.
const SOME_ZEROS: f64 = 0.05;

/// The blocks of a layer whose weights are known, even if they are quantized.
fn sparse_blocks(g: &Graph, node: NodeId) -> Option<NonzeroBlocks> {
    let layer = Weighted::of(g, node).or_else(|| Weighted::of_dequantized(g, node)).filter(|l| l.groups == 1)?;
    if (layer.zeros(g) as f64) < SOME_ZEROS * (layer.rows * layer.cols) as f64 {
        return None;
    }
    let matrix = layer.matrix(g);
    let product = layer.product(g, 1)?;
    let counts = [4, 2, 1].map(|rows| (rows, blocks(&matrix, layer.cols, rows)));
    let transposed = !matches!(g.node(node).op, Op::Conv(_));
    let each = NonzeroBlocks { counts, staged: 1, transposed };
    Some(NonzeroBlocks { staged: product.staged_bytes / each.staged_bytes(product.numbers), ..each })
}
