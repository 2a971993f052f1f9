//! AVX-512 with products of bytes.

use super::{Figures, ProfileRow, SparseFigures};

/// See the module.
pub(super) const ROW: ProfileRow = ProfileRow {
    isa: "avx512-vnni",
    measured_on: Some("Zen 5"),
    figures: Figures {
        f32: 136_000,
        int8: 534_000,
        bf16: 121_000,
        staged: 89_200,
        rounded: 20_200,
        copied: 46_400,
        filtered: 64_900,
        weights: 37_000,
        sparse: [
            SparseFigures { int8: false, rows: 4, cols: 1, call: 3_640, block: 1_100 },
            SparseFigures { int8: false, rows: 2, cols: 1, call: 2_100, block: 1_250 },
            SparseFigures { int8: false, rows: 1, cols: 1, call: 3_190, block: 1_870 },
            SparseFigures { int8: true, rows: 4, cols: 1, call: 2_730, block: 840 },
            SparseFigures { int8: true, rows: 2, cols: 1, call: 2_650, block: 1_050 },
            SparseFigures { int8: true, rows: 1, cols: 1, call: 1_800, block: 1_600 },
            SparseFigures { int8: true, rows: 4, cols: 4, call: 2_740, block: 2_410 },
            SparseFigures { int8: true, rows: 2, cols: 4, call: 2_750, block: 2_620 },
            SparseFigures { int8: true, rows: 1, cols: 4, call: 2_130, block: 3_270 },
        ],
    },
};
