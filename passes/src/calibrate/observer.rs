//! Extremes and histogram of a stream of values, in memory that does not grow with it.

/// How a range follows from what was observed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// The extremes.
    MinMax,
    /// The range that holds this percentage of the values, half of the rest on each side.
    Percentile(f64),
}

const BINS: usize = 2048;

/// What is kept of a stream of finite values. The histogram's bins go from `-width` to `width`, a power of two that doubles when a
/// value lies outside; pairs of bins are merged then.
#[derive(Debug, Clone, PartialEq)]
pub struct Observer {
    low: f32,
    high: f32,
    count: u64,
    width: f64,
    bins: Vec<u64>,
}

impl Default for Observer {
    fn default() -> Self {
        Observer { low: f32::INFINITY, high: f32::NEG_INFINITY, count: 0, width: 0.0, bins: vec![0; BINS] }
    }
}

impl Observer {
    /// Takes note of finite values.
    pub fn observe(&mut self, values: &[f32]) {
        let (low, high) = values.iter().fold((self.low, self.high), |(l, h), &v| (l.min(v), h.max(v)));
        (self.low, self.high) = (low, high);
        self.count += values.len() as u64;
        self.widen(f64::from(high.abs().max(low.abs())));
        let scale = BINS as f64 / (2.0 * self.width);
        for &v in values {
            let bin = ((f64::from(v) + self.width) * scale) as usize;
            self.bins[bin.min(BINS - 1)] += 1;
        }
    }

    /// Makes room for values up to `largest`.
    fn widen(&mut self, largest: f64) {
        if self.width == 0.0 {
            // Nothing or zeros: any power of two will do.
            self.width =
                if largest > 0.0 && largest.is_finite() { largest.log2().ceil().exp2() } else { 2f64.powi(-126) };
        }
        while largest.is_finite() && self.width < largest {
            let mut merged = vec![0; BINS];
            for (i, n) in self.bins.iter().enumerate() {
                merged[BINS / 4 + i / 2] += n;
            }
            self.bins = merged;
            self.width *= 2.0;
        }
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The ratio, in decibels, of the values' power to that of the error that quantization to `steps` steps between `low` and `high`
    /// makes: of values within, the twelfth of a squared step; of those outside, their distance. By the histogram.
    pub fn sqnr(&self, [low, high]: [f32; 2], steps: f64) -> f64 {
        let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
        let within = ((high - low) / steps).powi(2) / 12.0;
        let bin = 2.0 * self.width / BINS as f64;
        let (mut signal, mut noise) = (0.0, 0.0);
        for (i, &n) in self.bins.iter().enumerate().filter(|(_, n)| **n > 0) {
            let v = (i as f64 + 0.5) * bin - self.width;
            signal += n as f64 * v * v;
            noise += n as f64 * (within + (v - v.clamp(low, high)).powi(2));
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
        let step = 2.0 * self.width / BINS as f64;
        let edge = |mut bins: Box<dyn Iterator<Item = (usize, &u64)> + '_>| {
            let mut seen = 0;
            let found = bins.find(|(_, n)| {
                seen += **n;
                seen > outside
            });
            found.map_or(0, |(i, _)| i)
        };
        let first = edge(Box::new(self.bins.iter().enumerate()));
        let last = edge(Box::new(self.bins.iter().enumerate().rev()));
        let low = ((first as f64 * step - self.width) as f32).max(self.low);
        let high = (((last + 1) as f64 * step - self.width) as f32).min(self.high);
        Some([low, high.max(low)])
    }
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
        assert_eq!(parts.bins.iter().sum::<u64>(), 4);
    }

    #[test]
    fn percentiles_leave_outliers_out() {
        let values: Vec<f32> = (0..10_000).map(|i| i as f32 / 10_000.0).collect();
        let o = observer(&[&values, &[1000.0]]);
        let [low, high] = o.range(Method::Percentile(99.9)).unwrap();
        assert!(low == 0.0 && (0.9..=2.0).contains(&high), "{low} {high}");
        assert_eq!(o.range(Method::Percentile(100.0)), Some([0.0, 1000.0]));
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
