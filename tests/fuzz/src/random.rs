//! Random numbers that depend on the seed alone.

/// xorshift64*.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// An integer of the kind that breaks arithmetic, or a small one.
    pub fn integer(&mut self) -> i64 {
        const EDGES: [i64; 14] = [
            0,
            1,
            -1,
            2,
            127,
            255,
            65535,
            i32::MAX as i64,
            i32::MIN as i64,
            u32::MAX as i64,
            1 << 40,
            i64::MAX,
            i64::MIN,
            i64::MAX / 8,
        ];
        if self.one_in(2) { EDGES[self.below(EDGES.len())] } else { self.below(24) as i64 - 8 }
    }
}
