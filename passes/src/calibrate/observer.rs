//! Extremes and histogram of a stream of values, in memory that does not grow with it.

/// How a range follows from what was observed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// The extremes.
    MinMax,
    /// The range that holds this percentage of the values, half of the rest on each side.
    Percentile(f64),
}

/// Bins of one sign and one exponent: by the upper bits of the mantissa.
const BINS: usize = 128;
/// Rows of bins of one sign: one for each exponent.
const ROWS: usize = 256;

/// What is kept of a stream of finite values. Bins are as wide as values are large, within 1/128: what the largest
/// value is says nothing of how finely the others are told apart. Rows are made for the exponents that occur.
#[derive(Debug, Clone, PartialEq)]
pub struct Observer {
    low: f32,
    high: f32,
    count: u64,
    /// First those of positive values, then those of negative ones, by their magnitudes.
    rows: Vec<Option<Box<[u64; BINS]>>>,
}

/// Values between two bounds, the outer of which is not among them, and how many there were.
struct Bin {
    from: f32,
    to: f32,
    count: u64,
}

impl Default for Observer {
    fn default() -> Self {
        Observer { low: f32::INFINITY, high: f32::NEG_INFINITY, count: 0, rows: vec![None; 2 * ROWS] }
    }
}

impl Observer {
    /// Takes note of finite values.
    pub fn observe(&mut self, values: &[f32]) {
        let (low, high) = values.iter().fold((self.low, self.high), |(l, h), &v| (l.min(v), h.max(v)));
        (self.low, self.high) = (low, high);
        self.count += values.len() as u64;
        for &v in values {
            let bits = v.to_bits() as usize;
            let row = self.rows[bits >> 23].get_or_insert_with(|| Box::new([0; BINS]));
            row[(bits >> 16) % BINS] += 1;
        }
    }

    /// The bins with values in them, from the least values to the largest.
    fn bins(&self) -> Vec<Bin> {
        let of = |row: usize| self.rows[row].iter().flat_map(|bins| bins.iter().copied().enumerate());
        let bin = |row: usize, i: usize, count: u64| {
            let bound = |i: usize| f32::from_bits(((row << 7 | i) as u32) << 16);
            // After the last bin of a row comes the first of the next one.
            let (near, far) = (bound(i), f32::from_bits(bound(i).to_bits() + (1 << 16)));
            if row < ROWS { Bin { from: near, to: far, count } } else { Bin { from: far, to: near, count } }
        };
        let all = |row: usize| of(row).filter(|(_, n)| *n > 0).map(move |(i, n)| bin(row, i, n)).collect::<Vec<_>>();
        let negative = (ROWS..2 * ROWS).rev().flat_map(|row| all(row).into_iter().rev());
        negative.chain((0..ROWS).flat_map(all)).collect()
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The ratio, in decibels, of the values' power to that of the error that quantization to `steps` steps between
    /// `low` and `high` makes: of values within, the twelfth of a squared step; of those outside, their distance. By
    /// the histogram.
    pub fn sqnr(&self, [low, high]: [f32; 2], steps: f64) -> f64 {
        let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
        let within = ((high - low) / steps).powi(2) / 12.0;
        let (mut signal, mut noise) = (0.0, 0.0);
        for bin in self.bins() {
            let (v, n) = (f64::midpoint(bin.from.into(), bin.to.clamp(self.low, self.high).into()), bin.count as f64);
            signal += n * v * v;
            noise += n * (within + (v - v.clamp(low, high)).powi(2));
        }
        10.0 * (signal / noise).log10()
    }

    /// The range by a method; `None` where there was no value.
    pub fn range(&self, method: Method) -> Option<[f32; 2]> {
        if self.count == 0 {
            return None;
        }
        let Method::Percentile(percent) = method else { return Some([self.low, self.high]) };
        let outside = ((100.0 - percent) / 200.0 * self.count as f64) as u64;
        let bins = self.bins();
        let low = nth(bins.iter(), outside).map_or(self.low, |bin| bin.from.max(self.low));
        let high = nth(bins.iter().rev(), outside).map_or(self.high, |bin| bin.to.min(self.high));
        Some([low, high.max(low)])
    }
}

/// The bin that a value is in, by its number.
fn nth<'a>(mut bins: impl Iterator<Item = &'a Bin>, number: u64) -> Option<&'a Bin> {
    let mut seen = 0;
    bins.find(|bin| {
        seen += bin.count;
        seen > number
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observer(parts: &[&[f32]]) -> Observer {
        let mut o = Observer::default();
        parts.iter().for_each(|part| o.observe(part));
        o
    }

    #[test]
    fn extremes_do_not_depend_on_the_parts() {
        let whole = observer(&[&[1.0, -3.0, 0.5, 700.0]]);
        let parts = observer(&[&[1.0], &[-3.0], &[], &[0.5, 700.0]]);
        assert_eq!(whole.range(Method::MinMax), Some([-3.0, 700.0]));
        assert_eq!(parts.range(Method::MinMax), whole.range(Method::MinMax));
        assert_eq!(parts.count(), 4);
        assert_eq!(parts.bins().iter().map(|bin| bin.count).sum::<u64>(), 4);
    }

    #[test]
    fn percentiles_leave_outliers_out() {
        let values: Vec<f32> = (0..10_000).map(|i| i as f32 / 10_000.0).collect();
        let o = observer(&[&values, &[1000.0]]);
        let [low, high] = o.range(Method::Percentile(99.9)).unwrap();
        assert!(low.abs() < 1e-2 && (0.99..=1.0).contains(&high), "{low} {high}");
        assert_eq!(o.range(Method::Percentile(100.0)), Some([0.0, 1000.0]));
    }

    /// One value in a million that is far from all others does not make their bins coarser.
    #[test]
    fn one_far_outlier_changes_nothing_for_the_others() {
        let values: Vec<f32> = (0..10_000).map(|i| (i as f32 - 4_000.0) / 10_000.0).collect();
        let (with, without) = (observer(&[&values, &[1e30]]), observer(&[&values]));
        for percent in [99.0, 99.9, 99.98] {
            let [a, b] = [&with, &without].map(|o| o.range(Method::Percentile(percent)).unwrap());
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 0.01 * b.abs()), "{percent}: {a:?} {b:?}");
        }
        let bins = without.bins();
        assert!(bins.windows(2).all(|pair| pair[0].from < pair[0].to && pair[0].to <= pair[1].from));
        assert!((with.sqnr([-0.4, 0.6], 255.0) - without.sqnr([-0.4, 0.6], 255.0)).abs() > 1.0, "it counts as noise");
    }

    #[test]
    fn nothing_and_zeros_have_their_ranges() {
        assert_eq!(observer(&[]).range(Method::MinMax), None);
        for method in [Method::MinMax, Method::Percentile(99.0)] {
            assert_eq!(observer(&[&[0.0, 0.0]]).range(method), Some([0.0, 0.0]));
            assert_eq!(observer(&[&[0.0], &[5.0; 100]]).range(method).unwrap()[1], 5.0);
        }
        let [low, high] = observer(&[&[f32::MAX, f32::MIN]]).range(Method::Percentile(99.0)).unwrap();
        assert_eq!([low, high], [f32::MIN, f32::MAX]);
    }
}
