//! AVX2 with products of bytes.

use super::{Figures, ProfileRow, SparseFigures};

/// See the module.
pub(super) const ROW: ProfileRow = ProfileRow {
    isa: "avx2-vnni",
    measured_on: Some("Zen 5"),
    figures: Figures {
        f32: 67_800,
        int8: 270_000,
        bf16: 60_800,
        staged: 135_000,
        rounded: 24_600,
        copied: 48_100,
        filtered: 58_400,
        weights: 36_400,
        sparse: [
            SparseFigures { int8: false, rows: 4, cols: 1, call: 7, block: 1_110 },
            SparseFigures { int8: false, rows: 2, cols: 1, call: 1_290, block: 1_080 },
            SparseFigures { int8: false, rows: 1, cols: 1, call: 407, block: 1_510 },
            SparseFigures { int8: true, rows: 4, cols: 1, call: 2_000, block: 812 },
            SparseFigures { int8: true, rows: 2, cols: 1, call: 1_510, block: 1_030 },
            SparseFigures { int8: true, rows: 1, cols: 1, call: 2_420, block: 1_570 },
            SparseFigures { int8: true, rows: 4, cols: 4, call: 1_860, block: 2_380 },
            SparseFigures { int8: true, rows: 2, cols: 4, call: 2_020, block: 2_860 },
            SparseFigures { int8: true, rows: 1, cols: 4, call: 987, block: 5_560 },
        ],
    },
};
