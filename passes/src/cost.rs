//! What passes ask of a cost model. The compiler hands one in that is fitted to the machine; without one, [`Reference`]
//! decides, the same everywhere.

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
    /// Images, rows and columns of the result, if it is that of a 3x3 convolution without groups, strides and dilations: there are
    /// faster forms for it.
    pub three_by_three: Option<[usize; 3]>,
    /// What is multiplied.
    pub numbers: Numbers,
}

/// What a product multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

/// A model of no machine in particular: a sparse multiply-add costs half as much again as a dense one, in
/// blocks of one row three times as much; bfloat16 takes half the time.
#[derive(Clone, Copy, Debug)]
pub struct Reference;

impl CostModel for Reference {
    fn dense(&self, p: &Product) -> f64 {
        share(p.numbers) * (p.m * p.k * p.n) as f64
    }

    fn sparse(&self, p: &Product, (rows, cols): (usize, usize), blocks: usize) -> f64 {
        if p.numbers == Numbers::Floats && cols > 1 {
            return f64::INFINITY;
        }
        let each = if rows == 1 { 3.0 } else { 1.5 * rows as f64 };
        // Several columns at once take less than one after the other.
        let columns = if cols == 1 { 1.0 } else { 0.7 * cols as f64 };
        (each * columns * blocks as f64 + (p.m.div_ceil(rows)) as f64) * p.n as f64 + self.copy(p.staged_bytes as u64)
    }

    fn depthwise(&self, results: usize, taps: usize, numbers: Numbers) -> f64 {
        share(numbers) * (results * taps) as f64
    }

    fn copy(&self, bytes: u64) -> f64 {
        bytes as f64
    }
}

/// The time of a dense product in the model of no machine, by that of as many multiply-adds.
fn share(numbers: Numbers) -> f64 {
    if numbers == Numbers::Halves { 0.5 } else { 1.0 }
}
