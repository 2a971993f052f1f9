//! Any x86-64: vectors of 128 bits.

use super::{Blocks, Figures, Row};

/// See the module.
pub(super) const ROW: Row = Row {
    isa: "portable",
    measured_on: Some("Zen 5"),
    figures: Figures {
        f32: 28_700,
        int8: 49_600,
        bf16: 26_600,
        staged: 45_100,
        rounded: 9_410,
        copied: 40_400,
        filtered: 32_100,
        weights: 36_200,
        sparse: [
            Blocks { int8: false, rows: 4, cols: 1, call: 0, block: 1_160 },
            Blocks { int8: false, rows: 2, cols: 1, call: 0, block: 1_170 },
            Blocks { int8: false, rows: 1, cols: 1, call: 0, block: 2_100 },
            Blocks { int8: true, rows: 4, cols: 1, call: 2_010, block: 1_190 },
            Blocks { int8: true, rows: 2, cols: 1, call: 2_120, block: 1_580 },
            Blocks { int8: true, rows: 1, cols: 1, call: 2_540, block: 2_630 },
            Blocks { int8: true, rows: 4, cols: 4, call: 1_690, block: 2_710 },
            Blocks { int8: true, rows: 2, cols: 4, call: 1_710, block: 2_990 },
            Blocks { int8: true, rows: 1, cols: 4, call: 3_030, block: 4_000 },
        ],
    },
};
