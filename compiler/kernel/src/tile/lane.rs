//! A lane of a register, and what some instructions compute in one.

use super::Elem;

/// The bits of a lane, and what they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct TypedLane {
    pub elem: Elem,
    pub bits: u32,
}

/// What a lane's bits may be written as.
pub(super) trait LaneBits {
    /// The bits.
    fn bits(self) -> u32;
}

impl LaneBits for u32 {
    fn bits(self) -> u32 {
        self
    }
}

impl LaneBits for f32 {
    fn bits(self) -> u32 {
        self.to_bits()
    }
}

/// `z` plus the products of signed halves.
pub(super) fn dot2(x: u32, y: u32, z: u32) -> u32 {
    let product = |shift: u32| i32::from((x >> shift) as i16).wrapping_mul(i32::from((y >> shift) as i16));
    (z as i32).wrapping_add(product(0).wrapping_add(product(16))) as u32
}

/// `z` plus the products of the unsigned bytes of `x` and the signed ones of `y`.
pub(super) fn dot4(x: u32, y: u32, z: u32) -> u32 {
    let product = |byte: usize| i32::from(x.to_le_bytes()[byte]) * i32::from(y.to_le_bytes()[byte] as i8);
    (z as i32).wrapping_add((0..4).map(product).sum()) as u32
}

/// `z` plus the product of the upper bfloat16 halves, then that of the lower ones.
pub(super) fn dot_bf16(x: u32, y: u32, z: f32) -> f32 {
    let (high, low) = (|v: u32| f32::from_bits(v & 0xffff_0000), |v: u32| f32::from_bits(v << 16));
    low(x).mul_add(low(y), high(x).mul_add(high(y), z))
}
