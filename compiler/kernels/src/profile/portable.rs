//! Any x86-64: vectors of 128 bits.

use super::{Figures, ProfileRow, SparseFigures};

/// See the module.
pub(super) const ROW: ProfileRow = ProfileRow {
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
            SparseFigures { int8: false, rows: 4, cols: 1, call: 0, block: 1_160 },
            SparseFigures { int8: false, rows: 2, cols: 1, call: 0, block: 1_170 },
            SparseFigures { int8: false, rows: 1, cols: 1, call: 0, block: 2_100 },
            SparseFigures { int8: true, rows: 4, cols: 1, call: 2_010, block: 1_190 },
            SparseFigures { int8: true, rows: 2, cols: 1, call: 2_120, block: 1_580 },
            SparseFigures { int8: true, rows: 1, cols: 1, call: 2_540, block: 2_630 },
            SparseFigures { int8: true, rows: 4, cols: 4, call: 1_690, block: 2_710 },
            SparseFigures { int8: true, rows: 2, cols: 4, call: 1_710, block: 2_990 },
            SparseFigures { int8: true, rows: 1, cols: 4, call: 3_030, block: 4_000 },
        ],
    },
};
