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

/// 2^112: what the exponents of a half and of an `f32` differ by.
const HALF_SCALE: f32 = f32::from_bits((112 + 127) << 23);

/// The bits of the `f32` that a half is; NaN becomes quiet.
pub(super) fn widen_f16(half: u16) -> u32 {
    let (sign, magnitude) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff));
    let shifted = magnitude << 13;
    sign | match magnitude {
        0x7c01.. => 0x7fc0_0000 | shifted,
        0x7c00 => f32::INFINITY.to_bits(),
        // As bits of an `f32` the half is too small by a constant factor, be it normal or not.
        _ => (f32::from_bits(shifted) * HALF_SCALE).to_bits(),
    }
}

/// The bits of the half that is nearest to an `f32`, ties to even; NaN becomes quiet.
pub(super) fn round_f16(bits: u32) -> u16 {
    let (sign, magnitude) = ((bits >> 16) as u16 & 0x8000, bits & 0x7fff_ffff);
    sign | match magnitude {
        0x7f80_0001.. => 0x7e00 | (magnitude >> 13) as u16 & 0x3ff,
        // Half of the last place is added, less one bit where the last place is even.
        0x3880_0000.. => {
            let rounded = (magnitude + 0xfff + (magnitude >> 13 & 1) - (112 << 23)) >> 13;
            rounded.min(0x7c00) as u16
        }
        // Not normal: 0.5 has the last place of these, 2^-24.
        _ => ((f32::from_bits(magnitude) + 0.5).to_bits() - 0.5f32.to_bits()) as u16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_tensor::f16;

    #[test]
    fn halves_are_those_of_the_tensors() {
        for half in 0..=u16::MAX {
            let wide = f32::from_bits(widen_f16(half));
            let known = f16::from_bits(half).to_f32();
            assert!(wide.to_bits() == known.to_bits() || wide.is_nan() && known.is_nan(), "{half:x}");
            for near in
                [0, 1, -1, 0xfff, 0x1000, 0x1001, -0x1000, -0xfff].map(|by| wide.to_bits().wrapping_add_signed(by))
            {
                let (found, known) = (f16::from_bits(round_f16(near)), f16::from_f32(f32::from_bits(near)));
                assert!(found.to_bits() == known.to_bits() || found.is_nan() && known.is_nan(), "{near:x}");
            }
        }
    }
}
