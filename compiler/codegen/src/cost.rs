//! How long kernels take, estimated: what decides between forms of a layer before one is built.
//!
//! The figures of a row are fitted to measurements on a Zen 3 core (`spmm_bench`, one thread); dense figures of wider
//! vectors scale with what they can do in a cycle. Only ratios of estimates decide anything, so that clock rates do not matter.

pub mod int8;
pub mod winograd;

use crate::target::Isa;

/// A product of weights and activations: what a convolution without groups, or a product with constant weights, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Rows of the weights: channels of the result.
    pub m: usize,
    /// Columns of the weights: channels of the operand times taps.
    pub k: usize,
    /// Pixels of all images, or rows of a matrix.
    pub n: usize,
    /// Bytes that a sparse kernel must copy before, to lay taps out.
    pub staged_bytes: usize,
    /// Images, rows and columns of the result, if it is that of a 3x3 convolution without groups, strides and dilations: there are
    /// faster forms for it.
    pub three_by_three: Option<[usize; 3]>,
}

/// Figures in nanoseconds for one instruction set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Multiply-adds of a dense contraction in a nanosecond.
    dense_rate: f64,
    /// Bytes of weights that a nanosecond brings from memory, where each is used for few pixels.
    weight_rate: f64,
    /// Bytes of a value that a nanosecond copies into another layout.
    copy_rate: f64,
    /// Pixels of a vector.
    lanes: usize,
}

/// Rows of a block, vectors of pixels of a tile, and the time of a call and of a block.
type Sparse = (usize, usize, f64, f64);

/// Sparse kernels of 128-bit vectors, and of wider ones.
const SPARSE: [[Sparse; 3]; 2] = [
    [(4, 2, 9.0, 1.85), (2, 4, 10.0, 1.75), (1, 8, 12.0, 3.3)],
    [(4, 2, 14.0, 1.9), (2, 4, 10.0, 2.35), (1, 8, 11.0, 3.3)],
];

impl Costs {
    /// The figures for an instruction set.
    pub fn of(isa: &Isa) -> Costs {
        let lanes = isa.lanes();
        // A vector twice as wide does twice the work in the same time, in both forms.
        Costs { dense_rate: 21.5 * lanes as f64 / 4.0, weight_rate: 13.0, copy_rate: 8.0, lanes }
    }

    /// The dense product.
    pub fn dense(&self, p: &Product) -> f64 {
        let direct = self.direct(p.m, p.k, p.n);
        let Some(pixels) = p.three_by_three else { return direct };
        self.filtered(pixels, p.k / 9, p.m).map_or(direct, |(_, time)| time)
    }

    /// A dense product of `m` rows of `k` weights by `n` pixels.
    fn direct(&self, m: usize, k: usize, n: usize) -> f64 {
        let macs = m as f64 * k as f64 * n as f64;
        (macs / self.dense_rate).max(4.0 * m as f64 * k as f64 / self.weight_rate)
    }

    /// The product with weights in `blocks` blocks of `block` rows; infinite for blocks that there is no kernel for.
    pub fn sparse(&self, p: &Product, block: usize, blocks: usize) -> f64 {
        let Some((_, vectors, call, each)) = SPARSE[usize::from(self.lanes > 4)].into_iter().find(|row| row.0 == block)
        else {
            return f64::INFINITY;
        };
        // The last tile of pixels takes the time of its vectors, a call at least.
        let tiles = p.n.div_ceil(vectors * self.lanes) as f64;
        let full = p.n.div_ceil(self.lanes) as f64 / vectors as f64;
        let rows = p.m.div_ceil(block) as f64;
        let work = tiles * rows * call + full.max(0.5) * blocks as f64 * each;
        let stream = (blocks * (4 + 4 * block)) as f64 / self.weight_rate;
        work.max(stream) + self.copy(p.staged_bytes)
    }

    /// A copy of a value of so many bytes into another layout.
    pub fn copy(&self, bytes: usize) -> f64 {
        bytes as f64 / self.copy_rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_products_pay_where_zeros_are_many() {
        let costs = Costs::of(Isa::by_name("portable").unwrap_or_else(|| Isa::host()));
        let layer = Product { m: 512, k: 512, n: 196, staged_bytes: 0, three_by_three: None };
        let gain = |block: usize, density: f64| {
            let blocks = (layer.m / block * layer.k) as f64 * density;
            costs.dense(&layer) / costs.sparse(&layer, block, blocks as usize)
        };
        assert!(gain(4, 0.1) > 4.5 && gain(1, 0.1) > 2.5, "{} {}", gain(4, 0.1), gain(1, 0.1));
        assert!(gain(1, 0.5) < 1.0 && gain(1, 1.0) < 0.6);
        assert_eq!(costs.sparse(&layer, 3, 1), f64::INFINITY);
    }

    #[test]
    fn laying_taps_out_counts() {
        let costs = Costs::of(Isa::host());
        let direct = Product { m: 64, k: 576, n: 3136, staged_bytes: 0, three_by_three: None };
        let staged = Product { staged_bytes: 3 << 20, ..direct };
        assert!(costs.sparse(&staged, 4, 1000) > costs.sparse(&direct, 4, 1000));
        assert_eq!(costs.dense(&staged), costs.dense(&direct));
    }
}
