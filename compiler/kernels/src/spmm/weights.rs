//! Weights of a product, of either kind.

use super::Spmm;
use super::bcsr::Bcsr;

/// Sparse weights.
#[derive(Clone, Debug, PartialEq)]
pub enum Weights {
    /// Floats.
    Floats(Bcsr<f32>),
    /// Integers without their zero points, and that of the activations.
    Integers {
        /// The weights.
        weights: Bcsr<i16>,
        /// What stands for zero in the activations.
        zero: i32,
    },
}

/// The extents of sparse weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub cols: usize,
    /// Rows of a block.
    pub block: usize,
    /// Columns of a block.
    pub width: usize,
    /// How many blocks there are.
    pub blocks: usize,
}

impl Extents {
    /// Rows of blocks.
    pub fn block_rows(&self) -> usize {
        self.rows.div_ceil(self.block)
    }

    /// The share of the elements that is multiplied.
    pub fn density(&self) -> f64 {
        let all = (self.rows * self.cols).max(1) as f64;
        ((self.blocks * self.block * self.width) as f64 / all).min(1.0)
    }
}

impl Weights {
    /// How large they are.
    pub fn extents(&self) -> Extents {
        fn of<T: Copy + Default + PartialEq>(w: &Bcsr<T>) -> Extents {
            Extents { rows: w.rows, cols: w.cols, block: w.block, width: w.width, blocks: w.blocks() }
        }
        match self {
            Weights::Floats(w) => of(w),
            Weights::Integers { weights, .. } => of(weights),
        }
    }

    /// The stream that the kernel of a product walks; `None` where a place does not fit.
    pub(super) fn stream(&self, p: &Spmm) -> Option<Vec<u8>> {
        match self {
            Weights::Floats(w) => w.floats(&p.x_rows),
            Weights::Integers { weights, zero } => weights.integers(p.form, zero + p.form.bias(), &p.x_rows),
        }
    }
}
