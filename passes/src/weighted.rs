//! Layers: ops that multiply activations by constant weights, with the weights as a matrix of a row for each output
//! channel.

use optc_ir::ops::nn::Conv;
use optc_ir::ops::quant::{Dequantize, QuantConv};
use optc_ir::{Graph, NodeId, Op, Value};
use optc_tensor::{ConstantFacts, DType, Tensor, count};

use crate::machine::{Numbers, Product};
use crate::matching::producer;
use crate::product::product;

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
        g.constant(weights).filter(|t| t.dtype() == DType::F32)?;
        Weighted::with_weights(g, node, weights)
    }

    /// The layer of integers that a node is: a quantized product whose weights and their zero points are constant.
    pub fn of_integers(g: &Graph, node: NodeId) -> Option<Weighted> {
        if !matches!(g.node(node).op, Op::QuantConv(_) | Op::QuantMatMul(_)) {
            return None;
        }
        if let Some(zero) = g.operand(node, 3) {
            g.constant(zero)?;
        }
        Weighted::with_weights(g, node, g.operand(node, 1)?)
    }

    /// The layer that a node is whose weights are dequantized, without zero points.
    pub fn of_dequantized(g: &Graph, node: NodeId) -> Option<Weighted> {
        let (dequantize, _) = producer::<Dequantize>(g, g.operand(node, 1)?)?;
        if let Some(zero) = g.operand(dequantize, 2) {
            g.constant(zero).filter(|t| t.to_i64_vec().iter().all(|&z| z == 0))?;
        }
        Weighted::with_weights(g, node, g.operand(dequantize, 0)?)
    }

    /// The layer with these constant weights.
    fn with_weights(g: &Graph, node: NodeId, weights: Value) -> Option<Weighted> {
        let known = |dtype: DType| matches!(dtype, DType::F32 | DType::I8 | DType::U8);
        let t = g.constant(weights).filter(|t| known(t.dtype()) && !t.is_empty())?;
        let (transposed, groups) = match &g.node(node).op {
            Op::Conv(conv) => (false, usize::try_from(conv.groups).ok()?),
            Op::QuantConv(conv) => (false, usize::try_from(conv.groups).ok()?),
            Op::Gemm(gemm) if !gemm.trans_a => (!gemm.trans_b, 1),
            Op::MatMul(_) | Op::QuantMatMul(_) if t.rank() == 2 => (true, 1),
            _ => return None,
        };
        let rows = *t.shape().get(if transposed { 1 } else { 0 })?;
        Some(Weighted { node, weights, rows, cols: t.len() / rows, transposed, groups })
    }

    /// The weights as a row-major matrix; integers without their zero points.
    pub fn matrix(&self, g: &Graph) -> Vec<f32> {
        let (rows, cols) = (self.rows, self.cols);
        let Some(t) = g.constant(self.weights) else { return Vec::new() };
        let values = match t.as_slice::<f32>() {
            Ok(floats) => floats.to_vec(),
            Err(_) => t.to_f64_vec().into_iter().map(|v| v as f32).collect(),
        };
        let mut matrix = match self.transposed {
            false => values,
            true => (0..rows).flat_map(|row| values.iter().skip(row).step_by(rows).copied()).collect(),
        };
        if let (Numbers::Bytes, Some(zero)) = (self.numbers(g), g.operand(self.node, 3).and_then(|z| g.constant(z))) {
            let zeros = zero.to_f64_vec();
            let zero = |row: usize| zeros.get(if zeros.len() == 1 { 0 } else { row }).copied().unwrap_or(0.0) as f32;
            matrix.iter_mut().enumerate().for_each(|(i, v)| *v -= zero(i / cols));
        }
        matrix
    }

    /// How many weights are zero, of integers without their zero points. They are read where they lie.
    pub fn zeros(&self, g: &Graph) -> usize {
        let Some(t) = g.constant(self.weights) else { return 0 };
        let zeros = self.zero_points(g).map_or_else(|| vec![0], Tensor::to_i64_vec);
        match t.dtype() {
            DType::F32 => t.as_slice().map_or(0, |floats: &[f32]| count(floats, &0.0)),
            DType::I8 => t.as_slice().map_or(0, |w: &[i8]| self.count(w, &zeros)),
            DType::U8 => t.as_slice().map_or(0, |w: &[u8]| self.count(w, &zeros)),
            _ => self.matrix(g).iter().filter(|&&w| w == 0.0).count(),
        }
    }

    /// [`Weighted::zeros`], counted once for the same weights.
    pub fn known_zeros(&self, g: &Graph, facts: &ConstantFacts) -> usize {
        let of: Vec<&Tensor> = g.constant(self.weights).into_iter().chain(self.zero_points(g)).collect();
        let what = if self.transposed { "zeros by column" } else { "zeros by row" };
        facts.number(&of, what, || self.zeros(g) as f64) as usize
    }

    /// The zero points of integers, if there are such.
    fn zero_points<'a>(&self, g: &'a Graph) -> Option<&'a Tensor> {
        let zero = g.operand(self.node, 3).filter(|_| self.numbers(g) == Numbers::Bytes)?;
        g.constant(zero)
    }

    /// How many integers are their zero point, of which there is one or one for each row.
    fn count<T: Copy + PartialEq + TryFrom<i64>>(&self, weights: &[T], zeros: &[i64]) -> usize {
        let zeros: Vec<Option<T>> = zeros.iter().map(|&zero| T::try_from(zero).ok()).collect();
        match (&zeros[..], self.transposed) {
            ([zero], _) => zero.map_or(0, |zero| count(weights, &zero)),
            (_, false) => {
                let rows = weights.chunks(self.cols.max(1)).zip(&zeros);
                rows.map(|(row, zero)| zero.map_or(0, |zero| count(row, &zero))).sum()
            }
            (_, true) => {
                let of = |row: &[T]| row.iter().zip(&zeros).filter(|(w, zero)| Some(**w) == **zero).count();
                weights.chunks(self.rows.max(1)).map(of).sum()
            }
        }
    }

    /// What is multiplied.
    pub fn numbers(&self, g: &Graph) -> Numbers {
        let floats = g.constant(self.weights).is_none_or(|t| t.dtype() == DType::F32);
        if floats { Numbers::Floats } else { Numbers::Bytes }
    }

    /// The blocks of this many rows and columns that are not all zero. Those of four columns have four channels under
    /// one tap; `None` where the channels are not a multiple of that.
    pub fn blocks(&self, g: &Graph, (rows, cols): (usize, usize)) -> Option<usize> {
        let matrix = self.matrix(g);
        if cols == 1 {
            return Some(blocks(&matrix, self.cols, rows));
        }
        let taps = self.taps(g)?;
        let channels = self.cols / taps;
        let quads = channels / cols;
        let at = |row: usize, quad: usize, tap: usize, c: usize| {
            matrix.get((row * channels + quad * cols + c) * taps + tap).is_some_and(|&v| v != 0.0)
        };
        let holds = |first: usize, quad: usize, tap: usize| {
            (first..self.rows.min(first + rows)).any(|row| (0..cols).any(|c| at(row, quad, tap, c)))
        };
        let strips = (0..self.rows).step_by(rows);
        let of = |first: usize| (0..quads * taps).filter(|i| holds(first, i / taps, i % taps)).count();
        channels.is_multiple_of(cols).then(|| strips.map(of).sum())
    }

    /// Elements of the window.
    fn taps(&self, g: &Graph) -> Option<usize> {
        let matrices = matches!(g.node(self.node).op, Op::Gemm(_) | Op::MatMul(_) | Op::QuantMatMul(_));
        Some(if matrices { 1 } else { g.constant(self.weights)?.shape().get(2..)?.iter().product() })
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

    /// What costs see of it in blocks of `width` columns; `None` where shapes are open.
    pub fn product(&self, g: &Graph, width: usize) -> Option<Product> {
        let product = product(g, self.node)?;
        let (n, numbers) = (product.rows, self.numbers(g));
        let (each, copies) = match &g.node(self.node).op {
            Op::Conv(Conv { strides, pads, .. }) | Op::QuantConv(QuantConv { strides, pads, .. }) => {
                let window = &g.constant(self.weights)?.shape()[2..];
                let all = |v: &[i64], x: i64| v.iter().all(|&v| v == x);
                let direct = width == 1 && window.iter().all(|&k| k == 1) && all(strides, 1) && all(pads, 0);
                // With a stride along the rows each row of the window has a copy of its own.
                let rows = strides.len() > 1 && strides[0] != 1;
                let copies = if direct { 0 } else { window.last().copied()? * if rows { window[0] } else { 1 } };
                (numbers.bytes(), copies)
            }
            // The activations are transposed.
            _ => (numbers.transposed_bytes(), usize::from(n > 1)),
        };
        let staged_bytes = each * n * (self.cols / self.taps(g)?) * copies;
        // Groups that are not depthwise count as one product.
        let (batch, cols) = if product.depthwise { (product.batch, product.cols) } else { (1, self.rows) };
        Some(Product { batch, cols, numbers, staged_bytes, ..product })
    }
}

/// The blocks of `block` rows by one column of a row-major matrix that are not all zero.
pub(crate) fn blocks(matrix: &[f32], cols: usize, block: usize) -> usize {
    // Columns of a strip that hold something: found row by row, which compilers make vectors of.
    let mut held = vec![0u8; cols];
    let mut in_strip = |strip: &[f32]| {
        held.fill(0);
        for row in strip.chunks(cols.max(1)) {
            held.iter_mut().zip(row).for_each(|(held, v)| *held |= u8::from(*v != 0.0));
        }
        count(&held, &1)
    };
    matrix.chunks(block * cols.max(1)).map(&mut in_strip).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_counted_where_weights_lie() {
        let layer = |transposed| Weighted {
            node: Default::default(),
            weights: optc_ir::Value { node: Default::default(), result: 0 },
            rows: 2,
            cols: 3,
            transposed,
            groups: 1,
        };
        // Rows [1, 2, 1] and [2, 2, 1], and columns in turn of the same; the last zero point is no byte.
        let (rows, columns) = ([1u8, 2, 1, 2, 2, 1], [1u8, 2, 2, 2, 1, 1]);
        for (zeros, found) in [(vec![1], 3), (vec![1, 2], 4), (vec![2, 1], 2), (vec![1, 300], 2)] {
            assert_eq!(layer(false).count(&rows, &zeros), found, "{zeros:?}");
            assert_eq!(layer(true).count(&columns, &zeros), found, "{zeros:?}");
        }
    }

    #[test]
    fn blocks_are_counted_in_strips_of_rows() {
        let m = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, f32::NAN];
        assert_eq!((blocks(&m, 2, 1), blocks(&m, 2, 2), blocks(&m, 2, 4)), (3, 3, 3));
        assert_eq!(blocks(&[0.0; 6], 3, 4), 0);
    }
}
