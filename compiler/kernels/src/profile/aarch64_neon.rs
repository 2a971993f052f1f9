//! NEON, as `portable` at half the speed: small cores have units of half the clock and width.

use super::{Figures, ProfileRow, SparseFigures};

/// See the module.
pub(super) const ROW: ProfileRow = ProfileRow {
    isa: "aarch64-neon",
    measured_on: None,
    figures: Figures {
        f32: 13_000,
        int8: 20_000,
        bf16: 12_000,
        staged: 15_000,
        rounded: 4_260,
        copied: 18_300,
        filtered: 14_500,
        weights: 16_400,
        sparse: [
            SparseFigures { int8: false, rows: 4, cols: 1, call: 0, block: 2_570 },
            SparseFigures { int8: false, rows: 2, cols: 1, call: 0, block: 2_580 },
            SparseFigures { int8: false, rows: 1, cols: 1, call: 0, block: 4_650 },
            SparseFigures { int8: true, rows: 4, cols: 1, call: 4_440, block: 2_630 },
            SparseFigures { int8: true, rows: 2, cols: 1, call: 4_680, block: 3_500 },
            SparseFigures { int8: true, rows: 1, cols: 1, call: 5_610, block: 5_820 },
            SparseFigures { int8: true, rows: 4, cols: 4, call: 3_740, block: 5_990 },
            SparseFigures { int8: true, rows: 2, cols: 4, call: 3_780, block: 6_610 },
            SparseFigures { int8: true, rows: 1, cols: 4, call: 6_690, block: 8_850 },
        ],
    },
};
