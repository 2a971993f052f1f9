//! Targets: what differs between instruction sets is a row of [`ISAS`], never a branch in a builder. Nothing here asks
//! the machine that it runs on.

use optc_types::{Feature, Features};

/// Which emitter turns a tile into machine code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emitter {
    /// Cranelift, 128-bit vectors.
    Clif,
    /// Our own for x86: vectors of 256 or 512 bits.
    X86,
}

/// What a row has beyond plain vector instructions; each level has those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing.
    #[default]
    Plain,
    /// Sums of four products of bytes in one instruction (`vpdpbusd`).
    Vnni,
    /// Sums of two products of bfloat16 in one instruction (`vdpbf16ps`).
    Bf16,
    /// Products of matrices in registers of their own (AMX), of bytes and of bfloat16.
    Amx,
}

impl Level {
    /// The word for it in the text form of tiles.
    pub fn word(self) -> &'static str {
        match self {
            Level::Plain => "plain",
            Level::Vnni => "vnni",
            Level::Bf16 => "bf16",
            Level::Amx => "amx",
        }
    }

    /// What the word stands for.
    pub fn from_word(word: &str) -> Option<Level> {
        [Level::Plain, Level::Vnni, Level::Bf16, Level::Amx].into_iter().find(|level| level.word() == word)
    }
}

/// One instruction set level: a row of the target table.
#[derive(Debug)]
pub struct Isa {
    /// The name that `--isa` takes.
    pub name: &'static str,
    /// Width of a vector register.
    pub vector_bits: usize,
    /// How many vector registers there are.
    pub vector_regs: usize,
    /// What it has beyond that.
    pub level: Level,
    /// The emitter of its tiles.
    pub emitter: Emitter,
    /// The contraction tile for f32: rows and *vectors* of columns.
    pub contract_f32: (usize, usize),
    /// The contraction tile for 8-bit integers: pixels and *vectors* of results.
    pub contract_i8: (usize, usize),
    /// The caches that a core with it has as a rule: what is compiled for the row alone goes by these.
    pub caches: Caches,
    /// What a CPU must have to run it.
    pub needs: Features,
}

/// Rows are told apart by their names.
impl PartialEq for Isa {
    fn eq(&self, other: &Isa) -> bool {
        self.name == other.name
    }
}

impl Eq for Isa {}

impl Isa {
    /// Lanes of 32 bits in a vector register: the `lanes` of every tile built for this row.
    pub fn lanes(&self) -> usize {
        self.vector_bits / 32
    }

    /// Whether tiles of `lanes` lanes at `level` are its own, or of rows that it includes.
    pub fn runs(&self, lanes: usize, level: Level) -> bool {
        self.lanes() == lanes && self.level >= level
    }

    /// The row called `name`.
    pub fn by_name(name: &str) -> Option<&'static Isa> {
        ISAS.iter().find(|isa| isa.name == name)
    }

    /// The best row that a CPU with these features runs.
    pub fn best(features: Features) -> &'static Isa {
        ISAS.iter().find(|isa| features.contains(isa.needs)).unwrap_or(&ISAS[ISAS.len() - 1])
    }
}

/// The target table, best first.
pub static ISAS: &[Isa] = &[
    Isa {
        name: "amx",
        vector_bits: 512,
        vector_regs: 32,
        level: Level::Amx,
        emitter: Emitter::X86,
        contract_f32: (9, 3),
        contract_i8: (9, 3),
        caches: SERVER,
        needs: AVX512_BF16.and(&[Feature::AmxTile, Feature::AmxInt8, Feature::AmxBf16]),
    },
    Isa {
        name: "avx512-bf16",
        vector_bits: 512,
        vector_regs: 32,
        level: Level::Bf16,
        emitter: Emitter::X86,
        contract_f32: (9, 3),
        contract_i8: (9, 3),
        caches: SERVER,
        needs: AVX512_BF16,
    },
    Isa {
        name: "avx512-vnni",
        vector_bits: 512,
        vector_regs: 32,
        level: Level::Vnni,
        emitter: Emitter::X86,
        contract_f32: (9, 3),
        contract_i8: (9, 3),
        caches: SERVER,
        needs: AVX512_VNNI,
    },
    Isa {
        name: "avx512",
        vector_bits: 512,
        vector_regs: 32,
        level: Level::Plain,
        emitter: Emitter::X86,
        contract_f32: (9, 3),
        contract_i8: (8, 3),
        caches: SERVER,
        needs: AVX512,
    },
    Isa {
        name: "avx2-vnni",
        vector_bits: 256,
        vector_regs: 16,
        level: Level::Vnni,
        emitter: Emitter::X86,
        contract_f32: (6, 2),
        contract_i8: (6, 2),
        caches: DESKTOP,
        needs: AVX2.and(&[Feature::AvxVnni]),
    },
    Isa {
        name: "avx2",
        vector_bits: 256,
        vector_regs: 16,
        level: Level::Plain,
        emitter: Emitter::X86,
        contract_f32: (6, 2),
        contract_i8: (6, 2),
        caches: DESKTOP,
        needs: AVX2,
    },
    Isa {
        name: "portable",
        vector_bits: 128,
        vector_regs: 16,
        level: Level::Plain,
        emitter: Emitter::Clif,
        contract_f32: (4, 2),
        contract_i8: (4, 2),
        caches: DESKTOP,
        needs: Features::of(&[]),
    },
];

/// Zen 2 and 3, and what `Caches::default` says.
const DESKTOP: Caches = Caches { l1: 32 << 10, l2: 512 << 10, l3: 8 << 20 };
/// Zen 4 and later, with AVX-512; cores of servers have no less.
const SERVER: Caches = Caches { l1: 32 << 10, l2: 1 << 20, l3: 16 << 20 };
/// AVX2 with FMA.
const AVX2: Features = Features::of(&[Feature::Avx2, Feature::Fma]);
/// AVX-512 as the first servers had it.
const AVX512: Features = AVX2.and(&[Feature::Avx512F, Feature::Avx512Bw, Feature::Avx512Dq, Feature::Avx512Vl]);
/// With the sums of products of bytes.
const AVX512_VNNI: Features = AVX512.and(&[Feature::Avx512Vnni]);
/// With the sums of products of bytes and of bfloat16.
const AVX512_BF16: Features = AVX512_VNNI.and(&[Feature::Avx512Bf16]);

/// Sizes of the caches that blocking depends on, in bytes for one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    /// Data cache of level 1.
    pub l1: usize,
    /// Cache of level 2.
    pub l2: usize,
    /// Cache of level 3, shared.
    pub l3: usize,
}

impl Default for Caches {
    fn default() -> Self {
        DESKTOP
    }
}

/// What to compile for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The instruction set.
    pub isa: &'static Isa,
    /// The caches.
    pub caches: Caches,
}
