//! Products: what convolutions and matrices multiply. Passes, lowering, costs and reports speak of these.

/// A product of activations and weights: what a convolution is, or a product of matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Independent products: groups, batches of matrices, or the channels that are each convolved on their own.
    pub batch: usize,
    /// Rows of the activations: pixels of all images.
    pub rows: usize,
    /// Results of a row: channels of the result.
    pub cols: usize,
    /// Summed elements: channels of the operand times taps.
    pub depth: usize,
    /// Elements of the activations.
    pub inputs: usize,
    /// Bytes that a sparse kernel must copy before, to lay taps out.
    pub staged_bytes: usize,
    /// Whether each channel is convolved on its own.
    pub depthwise: bool,
    /// Images, rows and columns of the result, if it is that of a 3x3 convolution without groups, strides and
    /// dilations: there are faster forms for it.
    pub three_by_three: Option<[usize; 3]>,
    /// What is multiplied.
    pub numbers: Numbers,
}

impl Product {
    /// One product of `rows` rows of activations, nothing of it staged.
    pub fn new(rows: usize, depth: usize, cols: usize, numbers: Numbers) -> Product {
        let inputs = rows.saturating_mul(depth);
        Product {
            batch: 1,
            rows,
            cols,
            depth,
            inputs,
            staged_bytes: 0,
            depthwise: false,
            three_by_three: None,
            numbers,
        }
    }
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

    /// Bytes that could be copied while one number is moved by a transposition. Bytes are widened and narrowed on their
    /// way through the registers: 4096 x 512 of them take 0.6 ms (Zen 5), 16 times a copy; half of that where rows are
    /// not a power of two apart.
    pub fn transposed_bytes(self) -> usize {
        match self {
            Numbers::Floats | Numbers::Halves => self.bytes(),
            Numbers::Bytes => 8,
        }
    }
}
