//! Filters in the form of the products, `U = G filter Gᵀ`, packed for the contraction.

use super::Winograd;
use crate::contract::packed_len;

/// Columns that are transformed together.
const COLUMNS: usize = 4;

/// An element of several filters.
type Wide = [f32; COLUMNS];

impl Winograd<'_> {
    /// Elements of the packed weights.
    pub fn packed_len(&self, lanes: usize) -> usize {
        self.form.products() * packed_len(1, self.conv.channels, self.conv.filters, lanes)
    }

    /// Transforms and packs the filters, `[filters, channels, 3, 3]` as in ONNX, for vectors of `lanes` columns (a
    /// multiple of 4) into `packed`, which holds [`Winograd::packed_len`] zeros, on up to `threads` threads.
    pub fn pack_weights(&self, weights: &[f32], lanes: usize, threads: usize, packed: &mut [f32]) {
        let n = self.form.inputs();
        let mut rows: Vec<_> = packed.chunks_exact_mut((packed.len() / n).max(1)).enumerate().collect();
        let share = n.div_ceil(threads.clamp(1, n));
        std::thread::scope(|scope| {
            let mut shares = rows.chunks_mut(share);
            let own = shares.next();
            for rows in shares {
                scope.spawn(move || rows.iter_mut().for_each(|(i, packed)| self.pack_row(weights, lanes, *i, packed)));
            }
            own.into_iter().flatten().for_each(|(i, packed)| self.pack_row(weights, lanes, *i, packed));
        });
    }

    /// Row `i` of all transformed filters: `n` packed matrices.
    fn pack_row(&self, weights: &[f32], lanes: usize, i: usize, packed: &mut [f32]) {
        let (channels, filters) = (self.conv.channels, self.conv.filters);
        let len = packed_len(1, channels, filters, lanes);
        for first in (0..filters).step_by(COLUMNS) {
            let cols = COLUMNS.min(filters - first);
            let column = first / lanes * (channels * lanes) + first % lanes;
            for channel in 0..channels {
                let mut taps = [[0.0; COLUMNS]; 9];
                for col in 0..cols {
                    let filter = &weights[((first + col) * channels + channel) * 9..][..9];
                    taps.iter_mut().zip(filter).for_each(|(tap, &w)| tap[col] = w);
                }
                let row: [Wide; 3] = combine(&self.form.filter[i], [&taps[0..3], &taps[3..6], &taps[6..9]]);
                for (j, factors) in self.form.filter.iter().enumerate() {
                    let [u] = combine(factors, [&row[0..1], &row[1..2], &row[2..3]]);
                    packed[j * len + column + channel * lanes..][..cols].copy_from_slice(&u[..cols]);
                }
            }
        }
    }
}

/// The sum of three rows of elements, each times its factor. Plain loops: they become vector instructions.
fn combine<const N: usize>(factors: &[f32; 3], rows: [&[Wide]; 3]) -> [Wide; N] {
    let mut sums = [[0.0; COLUMNS]; N];
    for (factor, row) in factors.iter().zip(rows) {
        for (sum, elements) in sums.iter_mut().zip(row) {
            for lane in 0..COLUMNS {
                sum[lane] += factor * elements[lane];
            }
        }
    }
    sums
}
