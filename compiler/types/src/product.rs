//! Products: what convolutions and matrices multiply, and what a machine says of their times.
//!
//! Passes choose between forms of a layer before kernels exist, lowering chooses between kernels, reports show both:
//! all speak of these products.

use std::fmt::Debug;

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
    /// Images, rows and columns of the result, if it is that of a 3x3 convolution without groups, strides and
    /// dilations: there are faster forms for it.
    pub three_by_three: Option<[usize; 3]>,
    /// What is multiplied.
    pub numbers: Numbers,
}

/// What a product multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Numbers {
    /// `f32`.
    Floats,
    /// 8-bit integers.
    Bytes,
    /// Bfloat16, rounded from `f32`, with `f32` sums.
    Halves,
}

impl Numbers {
    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Numbers::Floats => 4,
            Numbers::Halves => 2,
            Numbers::Bytes => 1,
        }
    }
}

/// The extents of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Independent products: groups, or batches of matrices.
    pub batch: usize,
    /// Rows of each.
    pub m: usize,
    /// Results of a row.
    pub n: usize,
    /// Summed elements.
    pub k: usize,
    /// Elements of the first operand.
    pub inputs: usize,
    /// Whether each channel is convolved by itself.
    pub depthwise: bool,
    /// Images, rows and columns of the result, if it is that of a 3x3 convolution without groups, strides and
    /// dilations: there are faster forms for it.
    pub three_by_three: Option<[usize; 3]>,
}

/// Times of kernels in nanoseconds, as estimates.
pub trait CostModel: Debug + Send + Sync {
    /// A dense product.
    fn dense(&self, p: &Product) -> f64;
    /// A product whose weights are `blocks` blocks of so many rows and columns; infinite where there is no kernel.
    fn sparse(&self, p: &Product, block: (usize, usize), blocks: usize) -> f64;
    /// A convolution of each channel by itself: so many results, of so many taps each.
    fn depthwise(&self, results: usize, taps: usize, numbers: Numbers) -> f64;
    /// A copy of so many bytes into another layout.
    fn copy(&self, bytes: u64) -> f64;
    /// The most taps for which there is a kernel of depthwise convolutions with pixels side by side, beside that with
    /// the channels last.
    fn most_plane_taps(&self) -> usize;
}
