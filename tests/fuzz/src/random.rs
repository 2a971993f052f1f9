//! Random choices of a mutator.

pub use optc_tensor::Random;

/// One of the items; none of none.
pub fn one<'a, T>(random: &mut Random, items: &'a [T]) -> Option<&'a T> {
    items.get(random.below(items.len()))
}

/// An integer of the kind that breaks arithmetic, or a small one.
pub fn integer(random: &mut Random) -> i64 {
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
    if random.once_in(2) { random.pick(&EDGES) } else { random.below(24) as i64 - 8 }
}
