//! What a product costs in `f32` and in 8-bit integers: an estimate that choices and reports share.
//!
//! Each row of the target table has three [rates](Rates): multiply-adds of an `f32` and of an integer product that stay
//! in the caches, and elements whose staging for the integer product they take. A product takes its multiply-adds,
//! columns rounded up to whole panels, over the rate of its form; integers take the staging of their activations on
//! top. Depthwise convolutions use the same instructions in both forms and load a quarter of the bytes in integers,
//! which counts as a tenth of their time.
//!
//! The rates are data: measured once (`optc_hwbench::rates`) and written down, never measured while a model is
//! compiled. Two processes that compile a model for one row make the same choices, however busy the machine is.

use optc_kernel::target::Isa;
use optc_types::Product;
use serde::{Deserialize, Serialize};

use super::Costs;

/// Integers are taken where they need less than this share of the time in `f32`: estimates are not better than that.
const MARGIN: f64 = 0.95;

/// Estimated seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// In `f32`.
    pub f32: f64,
    /// In 8-bit integers.
    pub int8: f64,
}

impl Times {
    /// Whether integers are faster by more than estimates are wrong.
    pub fn int8_pays(&self) -> bool {
        self.int8 < MARGIN * self.f32
    }
}

/// What one core does in a microsecond. Whole numbers, so that profiles compare and are written alike everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Multiply-adds of `f32`.
    pub f32: u32,
    /// Multiply-adds of 8-bit integers.
    pub int8: u32,
    /// Elements that are staged.
    pub staged: u32,
}

/// The rates of each row, and the core that they were measured on: medians of nine runs of `optc hwbench
/// --write-profile` on an idle machine, which lay within 1 % of each other but for `staged` of the portable row (10 %).
/// Rows without a core are estimates, scaled from others.
pub const RATES: &[(&str, Option<&str>, Rates)] = &[
    // Matrices multiply bytes at four times the rate of vectors (of hand-written prototypes).
    ("amx", None, Rates { f32: 58_900, int8: 936_000, staged: 39_000 }),
    ("avx512-bf16", Some("Zen 4"), Rates { f32: 58_900, int8: 234_200, staged: 39_000 }),
    ("avx512-vnni", Some("Zen 4"), Rates { f32: 58_900, int8: 234_200, staged: 39_000 }),
    ("avx512", Some("Zen 4"), Rates { f32: 58_900, int8: 90_200, staged: 15_100 }),
    // Vectors half as long as those of `avx512-vnni`, on units that are half as wide as they could be there.
    ("avx2-vnni", None, Rates { f32: 58_500, int8: 117_100, staged: 39_900 }),
    ("avx2", Some("Zen 4"), Rates { f32: 58_500, int8: 86_200, staged: 39_900 }),
    // A quarter of what `portable` does at four times the clock and width of units that small cores have.
    ("aarch64-neon", None, Rates { f32: 13_000, int8: 20_000, staged: 15_000 }),
    ("wasm32-simd128", None, Rates { f32: 13_000, int8: 13_000, staged: 15_000 }),
    ("portable", Some("Zen 4"), Rates { f32: 26_600, int8: 40_100, staged: 34_600 }),
];

impl Rates {
    /// The rates of an instruction set; estimates of no row in particular where the table has none.
    pub fn of(isa: &Isa) -> Rates {
        let known = RATES.iter().find(|(name, ..)| *name == isa.name).map(|(.., rates)| *rates);
        known.unwrap_or(Rates { f32: 10_000, int8: 20_000, staged: 4_000 })
    }

    /// The core that the rates of an instruction set were measured on; none where they are estimates.
    pub fn measured_on(isa: &Isa) -> Option<&'static str> {
        RATES.iter().find(|(name, ..)| *name == isa.name).and_then(|(_, core, _)| *core)
    }

    /// Whether all are rates: times are divided by them.
    pub fn are_positive(&self) -> bool {
        [self.f32, self.int8, self.staged].iter().all(|&rate| rate > 0)
    }

    /// The times of a product.
    pub fn times(&self, p: &Product, isa: &Isa) -> Times {
        let [f32, int8, staged] = [self.f32, self.int8, self.staged].map(|rate| f64::from(rate) * 1e6);
        let macs = (p.batch * p.rows * p.depth) as f64;
        let padded = |vectors: usize| p.cols.next_multiple_of(vectors * isa.lanes()) as f64;
        if p.depthwise {
            // An FMA for each tap, as well as they are fed.
            let time = macs * p.cols as f64 / (f32 / 2.0);
            return Times { f32: time, int8: 0.9 * time };
        }
        let direct = macs * padded(isa.contract_f32.1) / f32;
        let share = p.three_by_three.map_or(1.0, |pixels| Costs::of(isa).filtered_share(pixels, p.depth / 9, p.cols));
        let staging = p.inputs as f64 / staged;
        Times { f32: share * direct, int8: macs * padded(isa.contract_i8.1) / int8 + staging }
    }
}

#[cfg(test)]
mod tests {
    use optc_kernel::target::ISAS;
    use optc_types::Numbers;

    use super::*;

    #[test]
    fn every_row_has_rates_and_times_grow_with_the_work() {
        assert!(RATES.iter().all(|(name, ..)| Isa::by_name(name).is_some()), "rates of a row that there is not");
        for isa in ISAS {
            let rates = Rates::of(isa);
            assert!(rates.are_positive(), "{}", isa.name);
            let small = Product::new(49, 64, 64, Numbers::Floats);
            let (a, b) = (rates.times(&small, isa), rates.times(&Product { cols: 640, ..small }, isa));
            assert!(a.f32 < b.f32 && a.int8 < b.int8, "{}", isa.name);
        }
    }

    #[test]
    fn one_column_is_not_worth_staging() {
        let rates = Rates { f32: 10_000, int8: 20_000, staged: 100 };
        let column = Product::new(1000, 64, 1, Numbers::Floats);
        assert!(ISAS.iter().all(|isa| !rates.times(&column, isa).int8_pays()));
    }

    #[test]
    fn what_is_nearly_as_fast_does_not_pay() {
        assert!(Times { f32: 1.0, int8: 0.9 }.int8_pays());
        assert!(!Times { f32: 1.0, int8: 0.97 }.int8_pays());
    }
}
