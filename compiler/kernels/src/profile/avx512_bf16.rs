//! AVX-512 with products of bytes and of bfloat16.

use super::{Blocks, Figures, Row};

/// See the module.
pub(super) const ROW: Row = Row {
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
            Blocks { int8: false, rows: 4, cols: 1, call: 3_670, block: 1_090 },
            Blocks { int8: false, rows: 2, cols: 1, call: 2_060, block: 1_260 },
            Blocks { int8: false, rows: 1, cols: 1, call: 2_460, block: 1_920 },
            Blocks { int8: true, rows: 4, cols: 1, call: 2_670, block: 839 },
            Blocks { int8: true, rows: 2, cols: 1, call: 2_580, block: 1_040 },
            Blocks { int8: true, rows: 1, cols: 1, call: 1_900, block: 1_600 },
            Blocks { int8: true, rows: 4, cols: 4, call: 2_760, block: 2_390 },
            Blocks { int8: true, rows: 2, cols: 4, call: 2_790, block: 2_620 },
            Blocks { int8: true, rows: 1, cols: 4, call: 2_270, block: 3_270 },
        ],
    },
};
