//! WebAssembly with vectors of 128 bits: as NEON, without instructions for pairs of bytes.

use super::{Figures, ProfileRow, aarch64_neon};

/// See the module.
pub(super) const ROW: ProfileRow = ProfileRow {
    isa: "wasm32-simd128",
    measured_on: None,
    figures: Figures { int8: 13_000, ..aarch64_neon::ROW.figures },
};
