//! AVX2 with FMA.

use super::{Figures, ProfileRow, SparseFigures};

/// See the module.
pub(super) const ROW: ProfileRow = ProfileRow {
    isa: "avx2",
    measured_on: Some("Zen 5"),
    figures: Figures {
        f32: 68_000,
        int8: 117_000,
        bf16: 61_100,
        staged: 55_500,
        rounded: 24_400,
        copied: 48_400,
        filtered: 58_400,
        weights: 37_000,
        sparse: [
            SparseFigures { int8: false, rows: 4, cols: 1, call: 0, block: 1_100 },
            SparseFigures { int8: false, rows: 2, cols: 1, call: 1_180, block: 1_060 },
            SparseFigures { int8: false, rows: 1, cols: 1, call: 463, block: 1_500 },
            SparseFigures { int8: true, rows: 4, cols: 1, call: 2_010, block: 810 },
            SparseFigures { int8: true, rows: 2, cols: 1, call: 1_520, block: 1_030 },
            SparseFigures { int8: true, rows: 1, cols: 1, call: 2_390, block: 1_560 },
            SparseFigures { int8: true, rows: 4, cols: 4, call: 1_910, block: 2_360 },
            SparseFigures { int8: true, rows: 2, cols: 4, call: 2_070, block: 2_850 },
            SparseFigures { int8: true, rows: 1, cols: 4, call: 807, block: 5_520 },
        ],
    },
};
