//! The figures of one instruction set on one core.

use optc_types::Numbers;
use serde::{Deserialize, Serialize};

/// What one core does. Whole numbers, so that profiles compare and are written alike everywhere.
///
/// What a result costs after its sum (scales, activations, stores) is in none of them: it is the same in all forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Multiply-adds of `f32` in a microsecond, in products that stay in the caches.
    pub f32: u32,
    /// The same for 8-bit integers.
    pub int8: u32,
    /// The same for bfloat16.
    pub bf16: u32,
    /// Elements of activations in a microsecond that are staged for a product of integers.
    pub staged: u32,
    /// The same that are rounded for a product of bfloat16.
    pub rounded: u32,
    /// Bytes in a microsecond that are copied into another layout.
    pub copied: u32,
    /// Bytes of values in a microsecond that the transforms of filtered convolutions write and read.
    pub filtered: u32,
    /// Bytes of weights in a microsecond that come from memory, where each is used for few pixels.
    pub weights: u32,
    /// Products with weights in blocks, in the order of [`SPARSE`].
    pub sparse: [SparseFigures; SPARSE.len()],
}

/// A sparse product with blocks of one size: each tile of pixels takes a call for each row of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SparseFigures {
    /// Whether 8-bit integers are multiplied, not `f32`.
    pub int8: bool,
    /// Rows of a block.
    pub rows: u8,
    /// Columns of a block.
    pub cols: u8,
    /// Picoseconds of a call without blocks.
    pub call: u32,
    /// Picoseconds of a block.
    pub block: u32,
}

/// The blocks that there are kernels for: whether of integers, rows and columns.
pub const SPARSE: [(bool, u8, u8); 9] = [
    (false, 4, 1),
    (false, 2, 1),
    (false, 1, 1),
    (true, 4, 1),
    (true, 2, 1),
    (true, 1, 1),
    (true, 4, 4),
    (true, 2, 4),
    (true, 1, 4),
];

impl Figures {
    /// What is wrong with figures from a file: times are divided by them.
    pub fn fault(&self) -> Option<&'static str> {
        let rates = [
            ("f32", self.f32),
            ("int8", self.int8),
            ("bf16", self.bf16),
            ("staged", self.staged),
            ("rounded", self.rounded),
            ("copied", self.copied),
            ("filtered", self.filtered),
            ("weights", self.weights),
        ];
        let zero = rates.iter().find(|(_, rate)| *rate == 0).map(|(name, _)| *name);
        let blocks = self.sparse.iter().map(|b| (b.int8, b.rows, b.cols)).eq(SPARSE);
        zero.or((!blocks).then_some("sparse")).or(self.sparse.iter().any(|b| b.block == 0).then_some("block"))
    }

    /// The figures of blocks of some rows and columns, where there are kernels for them.
    pub(super) fn blocks(&self, numbers: Numbers, (rows, cols): (usize, usize)) -> Option<&SparseFigures> {
        let int8 = match numbers {
            Numbers::Floats => false,
            Numbers::Bytes => true,
            Numbers::Halves => return None,
        };
        self.sparse.iter().find(|b| (b.int8, usize::from(b.rows), usize::from(b.cols)) == (int8, rows, cols))
    }
}
