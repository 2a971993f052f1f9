//! The forms of narrow products: what is multiplied, and by which instructions.

use optc_kernel::target::Isa;
use optc_kernel::tile::{MATRIX_ROWS, MemType};

/// How pixels are staged and weights packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int8Form {
    /// Pairs of 16-bit integers without their zero points; any weights.
    Pairs,
    /// Fours of `u8` times `i8`.
    Fours,
    /// Pairs of bfloat16 with `f32` sums; pixels are `f32`, which are rounded.
    Halves,
    /// As `Fours`, in matrix registers: 16 groups of each tap side by side.
    ByteBlocks,
    /// As `Halves`, in matrix registers.
    HalfBlocks,
    /// `f32` that were rounded to bfloat16, times weights that are bfloat16: the same products as those of `Halves`.
    Widened,
}

/// Rows of a matrix register, and groups of 32 bits in a row.
pub(super) const BLOCK: usize = MATRIX_ROWS;

/// Fewer pixels side by side than this leave too much of a matrix register empty.
const FEW_PIXELS: usize = 4;

impl Int8Form {
    /// The fastest form of a target for constant weights that are signed `bytes` without their zero points, or are not,
    /// and so many pixels side by side.
    pub fn choose(isa: &Isa, pixels: usize, bytes: bool) -> Int8Form {
        if !isa.needs.sums_bytes() || !bytes {
            return Int8Form::Pairs;
        }
        if isa.needs.has_matrices() && pixels >= FEW_PIXELS { Int8Form::ByteBlocks } else { Int8Form::Fours }
    }

    /// The form of a target for products of bfloat16 of taps of `k` elements, which are single pixels where the window
    /// is one column wide.
    pub fn bf16(isa: &Isa, pixels: usize, k: usize, single: bool) -> Int8Form {
        // What comes after a tap might not be a number, which no weight of zero takes out; single pixels are staged
        // between zeros.
        let blocked = k.is_multiple_of(2 * BLOCK) || single && k >= BLOCK;
        if !isa.needs.sums_halves() {
            return Int8Form::Widened;
        }
        if isa.needs.has_matrices() && pixels >= FEW_PIXELS && blocked {
            Int8Form::HalfBlocks
        } else {
            Int8Form::Halves
        }
    }

    /// Whether sums are `f32`.
    pub fn is_float(self) -> bool {
        matches!(self, Int8Form::Halves | Int8Form::Widened | Int8Form::HalfBlocks)
    }

    /// Whether sums are in matrix registers.
    pub fn is_blocked(self) -> bool {
        matches!(self, Int8Form::ByteBlocks | Int8Form::HalfBlocks)
    }

    /// What is multiplied, in names of kernels.
    pub(super) fn word(self) -> &'static str {
        if self.is_float() { "bf16" } else { "i8" }
    }

    /// The tile of a target: pixels, and vectors of results.
    pub fn tile(self, isa: &Isa) -> (usize, usize) {
        match self {
            Int8Form::ByteBlocks | Int8Form::HalfBlocks => (2 * BLOCK, 2),
            Int8Form::Halves | Int8Form::Widened => isa.contract_f32,
            Int8Form::Pairs | Int8Form::Fours => isa.contract_i8,
        }
    }

    /// Groups of a tap of `k` elements.
    pub fn groups(self, k: usize) -> usize {
        let groups = k.div_ceil(self.group());
        if self.is_blocked() { groups.next_multiple_of(BLOCK) } else { groups }
    }

    /// Weights that are packed together: as many as 32 bits hold.
    pub fn group(self) -> usize {
        4 / self.packed_bytes()
    }

    /// What stands for zero in staged pixels that are `mem` with the zero point `zero`.
    pub fn staged_zero(self, mem: MemType, zero: i32) -> i32 {
        match (self, mem) {
            (Int8Form::Pairs | Int8Form::Halves | Int8Form::HalfBlocks | Int8Form::Widened, _) => 0,
            (Int8Form::Fours | Int8Form::ByteBlocks, MemType::I8) => zero + 128,
            (Int8Form::Fours | Int8Form::ByteBlocks, _) => zero,
        }
    }

    /// Bytes of a packed weight.
    pub fn packed_bytes(self) -> usize {
        match self {
            Int8Form::Pairs | Int8Form::Halves | Int8Form::HalfBlocks | Int8Form::Widened => 2,
            Int8Form::Fours | Int8Form::ByteBlocks => 1,
        }
    }

    /// Bytes of a staged element.
    pub fn staged_bytes(self) -> usize {
        match self {
            Int8Form::Widened => 4,
            Int8Form::Pairs | Int8Form::Halves | Int8Form::HalfBlocks => 2,
            Int8Form::Fours | Int8Form::ByteBlocks => 1,
        }
    }
}
