//! What a CPU has beyond the least of its architecture: a set whose members can each be stated on their own.

use std::fmt;

/// One extension of an instruction set, by the name that its maker gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Vectors of 128 bits with rounding and selection (SSE4.1).
    Sse41,
    /// Vectors of 256 bits, of floats and integers, and halves in memory (F16C, which each CPU with AVX2 has).
    Avx2,
    /// Fused multiply-add.
    Fma,
    /// Vectors of 512 bits.
    Avx512F,
    /// Of bytes and words.
    Avx512Bw,
    /// Of 32 and 64 bits, all operations.
    Avx512Dq,
    /// The same for shorter vectors.
    Avx512Vl,
    /// Sums of four products of bytes, in the encoding of AVX2.
    AvxVnni,
    /// Sums of four products of bytes.
    Avx512Vnni,
    /// Sums of two products of bfloat16.
    Avx512Bf16,
    /// Registers for matrices, which the system lets this process use.
    AmxTile,
    /// Products of matrices of bytes.
    AmxInt8,
    /// Products of matrices of bfloat16.
    AmxBf16,
    /// Vectors of 128 bits of 64-bit Arm.
    Neon,
    /// Sums of four products of bytes, both signed or both not, there.
    DotProd,
    /// Sums of products of bytes of either sign, and of matrices of them, there.
    I8mm,
    /// Vectors of 128 bits of WebAssembly.
    Simd128,
}

impl Feature {
    /// All of them.
    pub const ALL: [Feature; 17] = [
        Feature::Sse41,
        Feature::Avx2,
        Feature::Fma,
        Feature::Avx512F,
        Feature::Avx512Bw,
        Feature::Avx512Dq,
        Feature::Avx512Vl,
        Feature::AvxVnni,
        Feature::Avx512Vnni,
        Feature::Avx512Bf16,
        Feature::AmxTile,
        Feature::AmxInt8,
        Feature::AmxBf16,
        Feature::Neon,
        Feature::DotProd,
        Feature::I8mm,
        Feature::Simd128,
    ];

    /// Its name, as Linux and compilers have it.
    pub fn word(self) -> &'static str {
        match self {
            Feature::Sse41 => "sse4.1",
            Feature::Avx2 => "avx2",
            Feature::Fma => "fma",
            Feature::Avx512F => "avx512f",
            Feature::Avx512Bw => "avx512bw",
            Feature::Avx512Dq => "avx512dq",
            Feature::Avx512Vl => "avx512vl",
            Feature::AvxVnni => "avxvnni",
            Feature::Avx512Vnni => "avx512vnni",
            Feature::Avx512Bf16 => "avx512bf16",
            Feature::AmxTile => "amx-tile",
            Feature::AmxInt8 => "amx-int8",
            Feature::AmxBf16 => "amx-bf16",
            Feature::Neon => "neon",
            Feature::DotProd => "dotprod",
            Feature::I8mm => "i8mm",
            Feature::Simd128 => "simd128",
        }
    }

    /// What the word stands for.
    pub fn from_word(word: &str) -> Option<Feature> {
        Feature::ALL.into_iter().find(|feature| feature.word() == word)
    }
}

/// A set of features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features(u32);

impl Features {
    /// The set of these.
    pub const fn of(features: &[Feature]) -> Features {
        let (mut bits, mut i) = (0, 0);
        while i < features.len() {
            bits |= 1 << features[i] as u32;
            i += 1;
        }
        Features(bits)
    }

    /// These and those of another set.
    pub const fn and(self, features: &[Feature]) -> Features {
        Features(self.0 | Features::of(features).0)
    }

    /// The features of both sets together.
    pub const fn union(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }

    /// The features that are in both sets.
    pub const fn intersection(self, other: Features) -> Features {
        Features(self.0 & other.0)
    }

    /// Those of the set that are not in the other.
    pub const fn without(self, other: Features) -> Features {
        Features(self.0 & !other.0)
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether one instruction sums four products of an unsigned and a signed byte (`vpdpbusd`).
    pub fn sums_bytes(self) -> bool {
        !self.intersection(Features::of(&[Feature::AvxVnni, Feature::Avx512Vnni])).is_empty()
    }

    /// Whether one instruction sums two products of bfloat16 (`vdpbf16ps`).
    pub fn sums_halves(self) -> bool {
        self.contains(Features::of(&[Feature::Avx512Bf16]))
    }

    /// Whether there are registers for matrices, of bytes and of bfloat16 (AMX).
    pub fn has_matrices(self) -> bool {
        self.contains(MATRICES)
    }

    /// Those of the set that decide by which instructions a tile is emitted, beyond the width of its vectors.
    pub fn of_tiles(self) -> Features {
        self.intersection(MATRICES.and(&[
            Feature::AvxVnni,
            Feature::Avx512Vnni,
            Feature::Avx512Bf16,
            Feature::DotProd,
            Feature::I8mm,
        ]))
    }

    /// Whether all of `other` are in it.
    pub fn contains(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those in it, in the order of [`Feature::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.into_iter().filter(move |&f| self.contains(Features::of(&[f])))
    }
}

/// Registers for matrices and what multiplies them.
const MATRICES: Features = Features::of(&[Feature::AmxTile, Feature::AmxInt8, Feature::AmxBf16]);

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iter().map(Feature::word).collect::<Vec<_>>().join(" "))
    }
}
