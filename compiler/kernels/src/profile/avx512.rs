//! AVX-512 as the first servers had it.

use super::{Figures, ProfileRow, SparseFigures};

/// See the module.
pub(super) const ROW: ProfileRow = ProfileRow {
    isa: "avx512",
    measured_on: Some("Zen 5"),
    figures: Figures {
        f32: 136_000,
        int8: 226_000,
        bf16: 121_000,
        staged: 37_300,
        rounded: 20_200,
        copied: 46_500,
        filtered: 65_100,
        weights: 36_400,
        sparse: [
            SparseFigures { int8: false, rows: 4, cols: 1, call: 3_930, block: 1_110 },
            SparseFigures { int8: false, rows: 2, cols: 1, call: 1_960, block: 1_260 },
            SparseFigures { int8: false, rows: 1, cols: 1, call: 2_930, block: 1_880 },
            SparseFigures { int8: true, rows: 4, cols: 1, call: 2_600, block: 850 },
            SparseFigures { int8: true, rows: 2, cols: 1, call: 2_570, block: 1_060 },
            SparseFigures { int8: true, rows: 1, cols: 1, call: 2_010, block: 1_610 },
            SparseFigures { int8: true, rows: 4, cols: 4, call: 2_890, block: 2_390 },
            SparseFigures { int8: true, rows: 2, cols: 4, call: 2_710, block: 2_640 },
            SparseFigures { int8: true, rows: 1, cols: 4, call: 2_180, block: 3_280 },
        ],
    },
};
