//! Sparse weights times dense activations: `C[m, n] = epilogue(sum over blocks of W[m, k] * X[k, n])`, after "Fast
//! Sparse ConvNets" (Elsen, Dukhan, Gale and Simonyan 2020).
//!
//! W is [`Bcsr`] with blocks of `r` rows by one column, or four in the form [`SparseForm::Quads`]. X has its `n` pixels
//! side by side, the pixels of column `k` at a byte offset that stands in the stream of blocks: channels of an image,
//! or of one whose taps were laid out (`stage`).
//!
//! ```text
//! task = (image, block of pixel tiles, block of rows)
//! for tile of pixels { for row of blocks {
//!     for block: load pixels, broadcast r weights, r x pixels FMAs; epilogue; store } }
//! ```
//!
//! The sums of r rows by a few vectors of pixels stay in registers; the stream is read in its order, once for each tile
//! of pixels, while the pixels of the tile stay in L1.

mod bcsr;
mod conv;
mod form;
mod nest;
mod tile;
mod weights;

pub use bcsr::{Bcsr, count_blocks, quads_of_taps};
pub use conv::{SparseConv, Staged};
pub use form::SparseForm;
pub use nest::{SpmmError, spmm, vectors_of};
use optc_kernel::expr::Expr;
use optc_kernel::tile::MemType;
pub use weights::{Extents, Weights};

pub use crate::contract::Operand;

/// The longest block: rows whose weights a tile broadcasts for one column.
pub const BLOCKS: [usize; 3] = [4, 2, 1];

/// A stack of matrices in memory; all numbers are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixPlace {
    /// The length of the buffer.
    pub bytes: usize,
    /// Where the first matrix begins.
    pub offset: i64,
    /// From one to the next.
    pub batch_stride: i64,
}

/// A product of sparse weights and dense activations.
#[derive(Clone, Debug, PartialEq)]
pub struct Spmm {
    /// Matrices of activations, each multiplied by the same weights.
    pub batch: usize,
    /// Pixels: columns of the activations and of the result.
    pub n: usize,
    /// The activations; the pixels of a row are consecutive.
    pub x: MatrixPlace,
    /// What is multiplied, and how.
    pub form: SparseForm,
    /// Where each column of blocks has its pixels in its matrix.
    pub x_rows: Vec<i64>,
    /// The result.
    pub c: MatrixPlace,
    /// What an element of the result is.
    pub c_mem: MemType,
    /// From one row of the result to the next.
    pub c_row_stride: i64,
    /// From one column of the result to the next; the fast one is that of an element.
    pub c_col_stride: i64,
    /// Operands of the epilogue: rows are those of the weights, columns are pixels.
    pub operands: Vec<Operand>,
    /// What is stored: operand 0 is the sum, operand `i + 1` is `operands[i]`.
    pub epilogue: Expr,
}

impl Spmm {
    /// The product of `m` by `k` weights and `batch` dense row-major matrices of `k` by `n`, without an epilogue.
    pub fn product(batch: usize, m: usize, n: usize, k: usize) -> Spmm {
        let place =
            |rows: usize| MatrixPlace { bytes: 4 * batch * rows * n, offset: 0, batch_stride: 4 * (rows * n) as i64 };
        Spmm {
            batch,
            n,
            x: place(k),
            form: SparseForm::Float,
            x_rows: (0..k).map(|k| 4 * (k * n) as i64).collect(),
            c: place(m),
            c_mem: MemType::F32,
            c_row_stride: 4 * n as i64,
            c_col_stride: 4,
            operands: Vec::new(),
            epilogue: Expr::Operand(0),
        }
    }

    /// What its kernels are called, without the blocks.
    fn name(&self) -> &'static str {
        if self.form == SparseForm::Float { "spmm_f32" } else { "spmm_i8" }
    }
}
