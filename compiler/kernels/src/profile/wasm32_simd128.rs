//! WebAssembly with vectors of 128 bits: as `aarch64_neon`, without instructions for pairs of bytes.

use super::{Blocks, Figures, Row};

/// See the module.
pub(super) const ROW: Row = Row {
    isa: "wasm32-simd128",
    measured_on: None,
    figures: Figures {
        f32: 13_000,
        int8: 13_000,
        bf16: 12_000,
        staged: 15_000,
        rounded: 4_260,
        copied: 18_300,
        filtered: 14_500,
        weights: 16_400,
        sparse: [
            Blocks { int8: false, rows: 4, cols: 1, call: 0, block: 2_570 },
            Blocks { int8: false, rows: 2, cols: 1, call: 0, block: 2_580 },
            Blocks { int8: false, rows: 1, cols: 1, call: 0, block: 4_650 },
            Blocks { int8: true, rows: 4, cols: 1, call: 4_440, block: 2_630 },
            Blocks { int8: true, rows: 2, cols: 1, call: 4_680, block: 3_500 },
            Blocks { int8: true, rows: 1, cols: 1, call: 5_610, block: 5_820 },
            Blocks { int8: true, rows: 4, cols: 4, call: 3_740, block: 5_990 },
            Blocks { int8: true, rows: 2, cols: 4, call: 3_780, block: 6_610 },
            Blocks { int8: true, rows: 1, cols: 4, call: 6_690, block: 8_850 },
        ],
    },
};
