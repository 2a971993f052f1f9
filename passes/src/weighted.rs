//! Layers: ops that multiply activations by constant weights, with the weights as a matrix of a row for each output channel.

use optc_ir::{Graph, NodeId, Op, Value};
use optc_tensor::{DType, Tensor};

use crate::cost::Product;
use crate::layer::three_by_three;
use crate::matching::{result, shape};

/// A convolution, `nn.gemm` or `math.matmul` whose second operand is a constant of `f32`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Weighted {
    /// The op.
    pub node: NodeId,
    /// Its weights.
    pub weights: Value,
    /// Output channels.
    pub rows: usize,
    /// Weights of an output channel: input channels of its group times taps.
    pub cols: usize,
    /// Whether the weights are stored with the output channels last.
    pub transposed: bool,
    /// Groups of a convolution.
    pub groups: usize,
}

impl Weighted {
    /// The layer that a node is.
    pub fn of(g: &Graph, node: NodeId) -> Option<Weighted> {
        let weights = g.operand(node, 1)?;
        let t = g.constant(weights).filter(|t| t.dtype() == DType::F32 && !t.is_empty())?;
        let (transposed, groups) = match &g.node(node).op {
            Op::Conv(conv) => (false, usize::try_from(conv.groups).ok()?),
            Op::Gemm(gemm) if !gemm.trans_a => (!gemm.trans_b, 1),
            Op::MatMul(_) if t.rank() == 2 => (true, 1),
            _ => return None,
        };
        let rows = *t.shape().get(if transposed { 1 } else { 0 })?;
        let cols = t.len() / rows;
        Some(Weighted { node, weights, rows, cols, transposed, groups })
    }

    /// The weights as a row-major matrix.
    pub fn matrix(&self, g: &Graph) -> Vec<f32> {
        let values = g.constant(self.weights).and_then(|t| t.as_slice::<f32>().ok()).unwrap_or(&[]);
        let (rows, cols) = (self.rows, self.cols);
        match self.transposed {
            false => values.to_vec(),
            true => (0..values.len()).map(|i| values[i % cols * rows + i / cols]).collect(),
        }
    }

    /// A row-major matrix as a tensor of the weights' shape.
    pub fn tensor(&self, g: &Graph, matrix: &[f32]) -> Option<Tensor> {
        let (rows, cols) = (self.rows, self.cols);
        let shape = g.constant(self.weights)?.shape().to_vec();
        match self.transposed {
            false => Tensor::from_slice(&shape, matrix).ok(),
            true => {
                let stored: Vec<f32> = (0..matrix.len()).map(|i| matrix[i % rows * cols + i / rows]).collect();
                Tensor::from_slice(&shape, &stored).ok()
            }
        }
    }

    /// What costs see of it; `None` where shapes are open.
    pub fn product(&self, g: &Graph) -> Option<Product> {
        let out = shape(g, result(self.node))?;
        let n = out.iter().product::<usize>() / self.rows;
        let staged_bytes = match &g.node(self.node).op {
            Op::Conv(conv) => {
                let window = &g.constant(self.weights)?.shape()[2..];
                let all = |v: &[i64], x: i64| v.iter().all(|&v| v == x);
                let direct = window.iter().all(|&k| k == 1) && all(&conv.strides, 1) && all(&conv.pads, 0);
                // With a stride along the rows each row of the window has a copy of its own.
                let rows = conv.strides.len() > 1 && conv.strides[0] != 1;
                let copies = window.last().copied()? * if rows { window[0] } else { 1 };
                let taps: usize = window.iter().product();
                if direct { 0 } else { 4 * n * (self.cols / taps) * copies }
            }
            // The activations are transposed.
            _ => 4 * n * self.cols * usize::from(n > 1),
        };
        let three_by_three = three_by_three(g, self.node);
        Some(Product { m: self.rows, k: self.cols, n, staged_bytes, three_by_three })
    }
}

/// The blocks of `block` rows by one column of a row-major matrix that are not all zero.
pub(crate) fn blocks(matrix: &[f32], cols: usize, block: usize) -> usize {
    let strips = matrix.chunks(block * cols.max(1));
    strips.map(|strip| (0..cols).filter(|&c| strip[c..].iter().step_by(cols).any(|&v| v != 0.0)).count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_in_strips_of_rows() {
        let m = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, f32::NAN];
        assert_eq!((blocks(&m, 2, 1), blocks(&m, 2, 2), blocks(&m, 2, 4)), (3, 3, 3));
        assert_eq!(blocks(&[0.0; 6], 3, 4), 0);
    }
}
