//! AVX-512 with products of bytes and of bfloat16.

use super::{Figures, ProfileRow, SparseFigures};

/// See the module.
pub(super) const ROW: ProfileRow = ProfileRow {
    isa: "avx512-bf16",
    measured_on: Some("Zen 5"),
    figures: Figures {
        f32: 136_000,
        int8: 535_000,
        bf16: 239_000,
        staged: 89_000,
        rounded: 39_700,
        copied: 46_400,
        filtered: 65_600,
        weights: 36_000,
        sparse: [
            SparseFigures { int8: false, rows: 4, cols: 1, call: 3_670, block: 1_090 },
            SparseFigures { int8: false, rows: 2, cols: 1, call: 2_060, block: 1_260 },
            SparseFigures { int8: false, rows: 1, cols: 1, call: 2_460, block: 1_920 },
            SparseFigures { int8: true, rows: 4, cols: 1, call: 2_670, block: 839 },
            SparseFigures { int8: true, rows: 2, cols: 1, call: 2_580, block: 1_040 },
            SparseFigures { int8: true, rows: 1, cols: 1, call: 1_900, block: 1_600 },
            SparseFigures { int8: true, rows: 4, cols: 4, call: 2_760, block: 2_390 },
            SparseFigures { int8: true, rows: 2, cols: 4, call: 2_790, block: 2_620 },
            SparseFigures { int8: true, rows: 1, cols: 4, call: 2_270, block: 3_270 },
        ],
    },
};
