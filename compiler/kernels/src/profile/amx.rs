//! Intel's matrix registers. Matrices multiply bytes at four times the rate of vectors, and bfloat16 at 9.8 times that
//! of FMAs (of hand-written prototypes); all else is as without them.

use super::{Figures, ProfileRow, avx512_bf16};

/// See the module.
pub(super) const ROW: ProfileRow = ProfileRow {
    isa: "amx",
    measured_on: None,
    figures: Figures { int8: 2_140_000, bf16: 1_330_000, ..avx512_bf16::ROW.figures },
};
