//! How long kernels take, estimated: what decides between forms of a layer before one is built.
//!
//! The figures of a row are fitted to measurements on a Zen 3 core (`spmm_bench`, one thread); dense figures of wider
//! vectors scale with what they can do in a cycle. Only ratios of estimates decide anything, so that clock rates do not matter.

pub mod int8;
pub mod winograd;

use optc_kernel::target::Isa;
use optc_types::{CostModel, Numbers, Product};

use crate::spmm::Form;

/// Figures in nanoseconds for one instruction set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Multiply-adds of a dense contraction in a nanosecond, of floats and of bytes.
    dense_rate: [f64; 2],
    /// The same of bfloat16, elements that are rounded in a nanosecond, and the time of depthwise convolutions by that of `f32`.
    halves: [f64; 3],
    /// Nanoseconds for a result of a dense contraction of bytes beside its multiply-adds: that of staging and requantization.
    result_bytes: f64,
    /// Bytes of weights that a nanosecond brings from memory, where each is used for few pixels.
    weight_rate: f64,
    /// Bytes of a value that a nanosecond copies into another layout.
    copy_rate: f64,
    /// Pixels of a vector.
    lanes: usize,
}

/// Rows and columns of a block, vectors of pixels of a tile, and the time of a call and of a block.
type Sparse = ((usize, usize), usize, f64, f64);

/// Sparse kernels of floats, of 128-bit vectors and of wider ones.
const FLOATS: [&[Sparse]; 2] = [
    &[((4, 1), 2, 9.0, 1.85), ((2, 1), 4, 10.0, 1.75), ((1, 1), 8, 12.0, 3.3)],
    &[((4, 1), 2, 14.0, 1.9), ((2, 1), 4, 10.0, 2.35), ((1, 1), 8, 11.0, 3.3)],
];

/// The same of bytes.
const BYTES: [&[Sparse]; 2] = [
    &[
        ((4, 1), 2, 19.0, 1.9),
        ((2, 1), 4, 21.0, 2.45),
        ((1, 1), 8, 19.0, 4.35),
        ((4, 4), 2, 20.0, 4.0),
        ((2, 4), 4, 24.0, 4.8),
        ((1, 4), 8, 24.0, 6.7),
    ],
    &[
        ((4, 1), 2, 14.5, 1.35),
        ((2, 1), 4, 14.0, 1.5),
        ((1, 1), 8, 14.5, 2.4),
        ((4, 4), 2, 20.0, 3.75),
        ((2, 4), 4, 30.0, 3.75),
        ((1, 4), 8, 36.0, 4.5),
    ],
];

impl Costs {
    /// The figures for an instruction set.
    pub fn of(isa: &Isa) -> Costs {
        let lanes = isa.lanes();
        // A vector twice as wide does twice the work in the same time, in all forms.
        // Of hand-written prototypes: four times the rate of vectors in matrix registers.
        let bytes = match isa.needs {
            has if has.has_matrices() => 8.0 * 36.0,
            has if has.sums_bytes() => 2.0 * 36.0,
            _ => 36.0,
        };
        let dense_rate = [21.5, bytes].map(|rate| rate * lanes as f64 / 4.0);
        // Where no instruction multiplies pairs, weights are widened and multiplied as `f32`: at the same rate, but for what is left
        // over where rows of pixels are no multiple of a tile (ResNet-50, AVX2: 0.97 of the rate). An instruction for pairs starts once a
        // cycle at least, where FMAs start twice at most; in matrix registers, hand-written prototypes were 9.8 times as fast as with FMAs.
        let (pairs, depthwise) = match isa.needs {
            has if has.has_matrices() => (9.8, 0.8),
            has if has.sums_halves() => (1.25, 0.8),
            _ => (0.97, 1.2),
        };
        let halves = [pairs * dense_rate[0], 1.3 * lanes as f64, depthwise];
        let result_bytes = if lanes > 4 { 0.18 * 8.0 / lanes as f64 } else { 0.56 };
        Costs { dense_rate, halves, result_bytes, weight_rate: 13.0, copy_rate: 8.0, lanes }
    }

    /// A dense product of bfloat16: pixels are rounded once, weights are half as long.
    fn rounded(&self, p: &Product) -> f64 {
        let [rate, rounding, _] = self.halves;
        let macs = p.cols as f64 * p.depth as f64 * p.rows as f64;
        let taps = if p.three_by_three.is_some() { 9 } else { 1 };
        let work = macs / rate + (p.depth / taps * p.rows) as f64 / rounding;
        work.max(2.0 * p.cols as f64 * p.depth as f64 / self.weight_rate)
    }

    /// A dense product of `m` rows of `k` weights by `n` pixels.
    fn direct(&self, m: usize, k: usize, n: usize) -> f64 {
        let macs = m as f64 * k as f64 * n as f64;
        (macs / self.dense_rate[0]).max(4.0 * m as f64 * k as f64 / self.weight_rate)
    }
}

impl CostModel for Costs {
    fn dense(&self, p: &Product) -> f64 {
        if p.numbers == Numbers::Bytes {
            // Packed as 16-bit integers.
            let macs = p.cols as f64 * p.depth as f64 * p.rows as f64;
            let work = macs / self.dense_rate[1] + self.result_bytes * (p.cols * p.rows) as f64;
            return work.max(2.0 * p.cols as f64 * p.depth as f64 / self.weight_rate);
        }
        if p.numbers == Numbers::Halves {
            return self.rounded(p);
        }
        let direct = self.direct(p.cols, p.depth, p.rows);
        let Some(pixels) = p.three_by_three else { return direct };
        self.filtered(pixels, p.depth / 9, p.cols).map_or(direct, |(_, time)| time)
    }

    fn sparse(&self, p: &Product, block: (usize, usize), blocks: usize) -> f64 {
        let table = match p.numbers {
            Numbers::Floats => FLOATS,
            Numbers::Bytes => BYTES,
            Numbers::Halves => return f64::INFINITY,
        };
        let Some(&(_, vectors, call, each)) = table[usize::from(self.lanes > 4)].iter().find(|row| row.0 == block)
        else {
            return f64::INFINITY;
        };
        // The last tile of pixels takes the time of its vectors, a call at least.
        let tiles = p.rows.div_ceil(vectors * self.lanes) as f64;
        let full = p.rows.div_ceil(self.lanes) as f64 / vectors as f64;
        let rows = p.cols.div_ceil(block.0);
        let form = match p.numbers {
            Numbers::Floats | Numbers::Halves => Form::Float,
            Numbers::Bytes => Form::of_bytes(block.1, false),
        };
        let work = tiles * rows as f64 * call + full.max(0.5) * blocks as f64 * each;
        let stream = form.stream_bytes(rows, blocks, block.0) as f64 / self.weight_rate;
        work.max(stream) + self.copy(p.staged_bytes as u64)
    }

    fn depthwise(&self, results: usize, taps: usize, numbers: Numbers) -> f64 {
        let share = match numbers {
            Numbers::Floats => 1.0,
            Numbers::Bytes => 0.9,
            Numbers::Halves => self.halves[2],
        };
        share * (results * taps) as f64 / (self.dense_rate[0] / 2.0)
    }

    fn copy(&self, bytes: u64) -> f64 {
        bytes as f64 / self.copy_rate
    }

    fn most_plane_taps(&self) -> usize {
        crate::window::MOST_PLANE_TAPS
    }
}

#[cfg(test)]
mod tests {
    use optc_kernel::target::ISAS;

    use super::*;

    #[test]
    fn sparse_products_pay_where_zeros_are_many() {
        let costs = Costs::of(Isa::by_name("portable").unwrap());
        let layer = Product::new(196, 512, 512, Numbers::Floats);
        let gain = |block: usize, density: f64| {
            let blocks = (layer.cols / block * layer.depth) as f64 * density;
            costs.dense(&layer) / costs.sparse(&layer, (block, 1), blocks as usize)
        };
        assert!(gain(4, 0.1) > 4.5 && gain(1, 0.1) > 2.5, "{} {}", gain(4, 0.1), gain(1, 0.1));
        assert!(gain(1, 0.5) < 1.0 && gain(1, 1.0) < 0.6);
        assert_eq!(costs.sparse(&layer, (3, 1), 1), f64::INFINITY);
    }

    #[test]
    fn laying_taps_out_counts() {
        let direct = Product::new(3136, 576, 64, Numbers::Floats);
        let staged = Product { staged_bytes: 3 << 20, ..direct };
        for costs in ISAS.iter().map(Costs::of) {
            assert!(costs.sparse(&staged, (4, 1), 1000) > costs.sparse(&direct, (4, 1), 1000));
            assert_eq!(costs.dense(&staged), costs.dense(&direct));
        }
    }

    #[test]
    fn bfloat16_pays_for_few_rows_and_where_there_are_instructions() {
        let layer = |m: usize, k: usize, n: usize, pixels| {
            let f32 = Product { three_by_three: pixels, ..Product::new(n, k, m, Numbers::Floats) };
            [f32, Product { numbers: Numbers::Halves, ..f32 }]
        };
        let pays = |isa: &str, of: [Product; 2]| {
            let costs = Costs::of(Isa::by_name(isa).unwrap());
            costs.dense(&of[1]) < costs.dense(&of[0])
        };
        let (row, block) = (layer(1000, 2048, 1, None), layer(256, 64, 3136, None));
        let filtered = layer(64, 576, 3136, Some([1, 56, 56]));
        assert!(pays("avx2", row) && !pays("avx2", block) && !pays("avx2", filtered));
        assert!([row, block, filtered].into_iter().all(|of| pays("amx", of)));
    }
}
