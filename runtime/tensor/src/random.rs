//! Random numbers that a seed determines, on every machine: made-up inputs are to be the same wherever they are made.

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator whose numbers `seed` determines.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of `items`, of which there is at least one.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// Uniform in `low..high`.
    pub fn real(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normal with mean 0 and variance 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        // Never 0, whose logarithm is infinite.
        let mut uniform = || ((self.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()
    }
}

/// A counter-based generator, Philox 4x32-10 (Salmon, Moraes, Dror and Shaw 2011): its numbers are a function of a key
/// and of where they are in the sequence, so that each can be computed by itself.
#[derive(Clone, Copy, Debug)]
pub struct Philox {
    key: [u32; 2],
    /// The upper half of the counter.
    stream: u64,
}

impl Philox {
    /// The sequence number `stream` of those that `key` determines.
    pub fn new(key: u64, stream: u64) -> Philox {
        Philox { key: [key as u32, (key >> 32) as u32], stream }
    }

    /// Block `at` of the sequence: 128 bits.
    pub fn block(&self, at: u64) -> [u32; 4] {
        const ROUNDS: usize = 10;
        let wide = |a: u32, b: u32| u64::from(a) * u64::from(b);
        let mut x = [at as u32, (at >> 32) as u32, self.stream as u32, (self.stream >> 32) as u32];
        let mut key = self.key;
        for _ in 0..ROUNDS {
            let (left, right) = (wide(0xd251_1f53, x[0]), wide(0xcd9e_8d57, x[2]));
            x = [(right >> 32) as u32 ^ x[1] ^ key[0], right as u32, (left >> 32) as u32 ^ x[3] ^ key[1], left as u32];
            key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
        }
        x
    }

    /// Numbers `2 * at` and `2 * at + 1` of the sequence, uniform in `0..1`: multiples of 2⁻⁵³.
    pub fn uniform(&self, at: u64) -> [f64; 2] {
        self.pair(at).map(|bits| (bits >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// Numbers `2 * at` and `2 * at + 1` of the sequence, normal with mean 0 and variance 1 (Box and Muller 1958).
    pub fn normal(&self, at: u64) -> [f64; 2] {
        // The first is never 0, whose logarithm is infinite.
        let [radius, angle] = self.pair(at).map(|bits| ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64);
        let radius = (-2.0 * radius.ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * angle).sin_cos();
        [radius * cos, radius * sin]
    }

    fn pair(&self, at: u64) -> [u64; 2] {
        let [a, b, c, d] = self.block(at).map(u64::from);
        [a | b << 32, c | d << 32]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_paper_and_in_their_ranges() {
        let mut random = Random::new(1_234_567);
        // The first numbers of the reference implementation (Vigna) for this seed.
        assert_eq!([random.bits(), random.bits()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        let normals: Vec<f64> = (0..10_000).map(|_| random.normal()).collect();
        let mean = normals.iter().sum::<f64>() / 1e4;
        let variance = normals.iter().map(|v| v * v).sum::<f64>() / 1e4;
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        assert!((0..1000).all(|_| random.below(7) < 7 && (-2.0..3.0).contains(&random.real(-2.0, 3.0))));
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn blocks_are_those_of_the_reference_implementation() {
        // Random123's known answers.
        let zero = Philox::new(0, 0).block(0);
        assert_eq!(zero, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = Philox::new(u64::MAX, u64::MAX).block(u64::MAX);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn a_sequence_is_uniform_or_normal_and_differs_from_others() {
        let moments = |numbers: &[f64]| {
            let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
            (mean, numbers.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / numbers.len() as f64)
        };
        let philox = Philox::new(7, 3);
        let uniform: Vec<f64> = (0..20_000).flat_map(|at| philox.uniform(at)).collect();
        let normal: Vec<f64> = (0..20_000).flat_map(|at| philox.normal(at)).collect();
        assert!(uniform.iter().all(|v| (0.0..1.0).contains(v)));
        let ((mean, variance), of_normal) = (moments(&uniform), moments(&normal));
        assert!((mean - 0.5).abs() < 0.01 && (variance - 1.0 / 12.0).abs() < 0.002, "{mean} {variance}");
        assert!(of_normal.0.abs() < 0.02 && (of_normal.1 - 1.0).abs() < 0.03, "{of_normal:?}");
        assert_ne!(philox.block(0), Philox::new(7, 4).block(0));
        assert_ne!(philox.block(0), Philox::new(8, 3).block(0));
    }
}
