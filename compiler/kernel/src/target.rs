//! Targets: what differs between instruction sets is a row of [`ISAS`], never a branch in a builder. Nothing here asks
//! the machine that it runs on.

use std::fmt;

use optc_types::{Feature, Features};

/// Which emitter turns a tile into machine code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emitter {
    /// Cranelift, 128-bit vectors.
    Clif,
    /// Our own for x86: vectors of 256 or 512 bits.
    X86,
}

/// A CPU architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
    /// WebAssembly with addresses of 32 bits: programs can be made for it, code cannot yet.
    Wasm32,
}

impl Arch {
    /// All of them.
    pub const ALL: [Arch; 3] = [Arch::X86_64, Arch::Aarch64, Arch::Wasm32];

    /// Its name in triples.
    pub fn word(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
            Arch::Wasm32 => "wasm32",
        }
    }

    /// What code for it takes for granted.
    pub fn base(self) -> Features {
        Features::of(match self {
            Arch::X86_64 => &[Feature::Sse41],
            Arch::Aarch64 => &[Feature::Neon],
            Arch::Wasm32 => &[Feature::Simd128],
        })
    }

    /// The row that each CPU of it runs.
    pub fn least(self) -> &'static Isa {
        let least = ISAS.iter().find(|isa| isa.arch == Some(self) && self.base().contains(isa.needs));
        least.unwrap_or(&ISAS[ISAS.len() - 1])
    }
}

/// The system that code is called under: it decides how arguments are passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum System {
    /// Linux.
    Linux,
    /// macOS.
    MacOs,
    /// None: WebAssembly.
    Unknown,
}

impl System {
    /// All of them.
    pub const ALL: [System; 3] = [System::Linux, System::MacOs, System::Unknown];

    /// Its name in triples.
    pub fn word(self) -> &'static str {
        match self {
            System::Linux => "linux",
            System::MacOs => "macos",
            System::Unknown => "unknown",
        }
    }
}

/// One instruction set level: a row of the target table.
#[derive(Debug)]
pub struct Isa {
    /// The name that `--isa` takes.
    pub name: &'static str,
    /// The architecture that it is of; none where any will do.
    pub arch: Option<Arch>,
    /// Width of a vector register.
    pub vector_bits: usize,
    /// How many vector registers there are.
    pub vector_regs: usize,
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

    /// Whether tiles of `lanes` lanes that use `features` are its own, or of rows that it includes.
    pub fn runs(&self, lanes: usize, features: Features) -> bool {
        self.lanes() == lanes && self.needs.contains(features)
    }

    /// Whether CPUs of an architecture with these features run it.
    pub fn runs_on(&self, arch: Arch, features: Features) -> bool {
        self.arch.is_none_or(|own| own == arch) && features.contains(self.needs)
    }

    /// Its place in the table: of two rows the one that comes first is better.
    pub fn rank(&self) -> usize {
        ISAS.iter().position(|isa| isa == self).unwrap_or(ISAS.len())
    }

    /// The row called `name`.
    pub fn by_name(name: &str) -> Option<&'static Isa> {
        ISAS.iter().find(|isa| isa.name == name)
    }

    /// The best row that a CPU of an architecture with these features runs.
    pub fn best(arch: Arch, features: Features) -> &'static Isa {
        ISAS.iter().find(|isa| isa.runs_on(arch, features)).unwrap_or(&ISAS[ISAS.len() - 1])
    }
}

/// The target table, best first.
pub static ISAS: &[Isa] = &[
    Isa {
        name: "amx",
        arch: Some(Arch::X86_64),
        vector_bits: 512,
        vector_regs: 32,
        emitter: Emitter::X86,
        contract_f32: (9, 3),
        contract_i8: (9, 3),
        caches: SERVER,
        needs: AVX512_BF16.and(&[Feature::AmxTile, Feature::AmxInt8, Feature::AmxBf16]),
    },
    Isa {
        name: "avx512-bf16",
        arch: Some(Arch::X86_64),
        vector_bits: 512,
        vector_regs: 32,
        emitter: Emitter::X86,
        contract_f32: (9, 3),
        contract_i8: (9, 3),
        caches: SERVER,
        needs: AVX512_BF16,
    },
    Isa {
        name: "avx512-vnni",
        arch: Some(Arch::X86_64),
        vector_bits: 512,
        vector_regs: 32,
        emitter: Emitter::X86,
        contract_f32: (9, 3),
        contract_i8: (9, 3),
        caches: SERVER,
        needs: AVX512_VNNI,
    },
    Isa {
        name: "avx512",
        arch: Some(Arch::X86_64),
        vector_bits: 512,
        vector_regs: 32,
        emitter: Emitter::X86,
        contract_f32: (9, 3),
        contract_i8: (8, 3),
        caches: SERVER,
        needs: AVX512,
    },
    Isa {
        name: "avx2-vnni",
        arch: Some(Arch::X86_64),
        vector_bits: 256,
        vector_regs: 16,
        emitter: Emitter::X86,
        contract_f32: (6, 2),
        contract_i8: (6, 2),
        caches: DESKTOP,
        needs: AVX2.and(&[Feature::AvxVnni]),
    },
    Isa {
        name: "avx2",
        arch: Some(Arch::X86_64),
        vector_bits: 256,
        vector_regs: 16,
        emitter: Emitter::X86,
        contract_f32: (6, 2),
        contract_i8: (6, 2),
        caches: DESKTOP,
        needs: AVX2,
    },
    Isa {
        name: "aarch64-neon",
        arch: Some(Arch::Aarch64),
        vector_bits: 128,
        vector_regs: 32,
        emitter: Emitter::Clif,
        contract_f32: (4, 2),
        contract_i8: (4, 2),
        caches: Caches { l1: 64 << 10, l2: 512 << 10, l3: 4 << 20 },
        needs: Features::of(&[Feature::Neon]),
    },
    Isa {
        name: "wasm32-simd128",
        arch: Some(Arch::Wasm32),
        vector_bits: 128,
        vector_regs: 16,
        emitter: Emitter::Clif,
        contract_f32: (4, 2),
        contract_i8: (4, 2),
        caches: DESKTOP,
        needs: Features::of(&[Feature::Simd128]),
    },
    Isa {
        name: "portable",
        arch: None,
        vector_bits: 128,
        vector_regs: 16,
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
    /// The architecture.
    pub arch: Arch,
    /// The system.
    pub system: System,
    /// The instruction set: which kernels are made.
    pub isa: &'static Isa,
    /// What else code may use: at least what the architecture takes for granted and the instruction set needs.
    pub features: Features,
    /// The caches.
    pub caches: Caches,
}

impl Target {
    /// A row on its own: its architecture (x86-64 where it has none), Linux, no features but its own, its caches.
    pub fn of(isa: &'static Isa) -> Target {
        Target::of_triple(isa.arch.unwrap_or(Arch::X86_64), System::Linux, isa)
    }

    /// A row on its own, on an architecture and a system; WebAssembly has no system.
    pub fn of_triple(arch: Arch, system: System, isa: &'static Isa) -> Target {
        let system = if arch == Arch::Wasm32 { System::Unknown } else { system };
        Target { arch, system, isa, features: arch.base().union(isa.needs), caches: isa.caches }
    }

    /// The same with another row, which may need more.
    pub fn with_isa(self, isa: &'static Isa) -> Target {
        match isa.arch {
            Some(other) if other != self.arch => {
                Target { caches: self.caches, ..Target::of_triple(other, self.system, isa) }
            }
            _ => Target { isa, features: self.features.union(isa.needs), ..self },
        }
    }

    /// Architecture and system, as in `x86_64-linux`.
    pub fn triple(&self) -> String {
        format!("{}-{}", self.arch.word(), self.system.word())
    }

    /// The architecture and the system that a triple names.
    pub fn parse_triple(triple: &str) -> Option<(Arch, System)> {
        let (arch, system) = triple.split_once('-')?;
        let arch = Arch::ALL.into_iter().find(|known| known.word() == arch)?;
        let system = System::ALL.into_iter().find(|known| known.word() == system)?;
        ((arch == Arch::Wasm32) == (system == System::Unknown)).then_some((arch, system))
    }
}

/// Row, triple, features beyond those that these two stand for, and caches: `avx2 on x86_64-linux with avxvnni l1 32768
/// l2 524288 l3 8388608`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.isa.name, self.triple())?;
        let more = self.features.without(self.arch.base().union(self.isa.needs));
        if !more.is_empty() {
            write!(f, " with {more}")?;
        }
        write!(f, " l1 {} l2 {} l3 {}", self.caches.l1, self.caches.l2, self.caches.l3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_architecture_has_a_row_that_all_its_cpus_run() {
        let least = Arch::ALL.map(|arch| arch.least().name);
        assert_eq!(least, ["portable", "aarch64-neon", "wasm32-simd128"]);
        for arch in Arch::ALL {
            assert_eq!(Isa::best(arch, arch.base()), arch.least());
        }
    }

    #[test]
    fn triples_are_read_as_they_are_written() {
        for isa in ISAS {
            let target = Target::of(isa);
            assert_eq!(Target::parse_triple(&target.triple()), Some((target.arch, target.system)), "{}", isa.name);
            assert!(target.features.contains(isa.needs) && isa.runs_on(target.arch, target.features));
        }
        assert!(["x86_64", "mips-linux", "x86_64-unknown", "wasm32-linux", ""].map(Target::parse_triple) == [None; 5]);
    }

    #[test]
    fn another_row_keeps_the_machine_but_for_its_architecture() {
        let avx2 = Target::of(Isa::by_name("avx2").unwrap());
        let vnni = avx2.with_isa(Isa::by_name("avx2-vnni").unwrap());
        assert!(vnni.features.sums_bytes() && vnni.caches == avx2.caches);
        let arm = avx2.with_isa(Arch::Aarch64.least());
        assert_eq!((arm.triple().as_str(), arm.features.contains(avx2.features)), ("aarch64-linux", false));
        assert_eq!(arm.with_isa(Arch::Wasm32.least()).triple(), "wasm32-unknown");
    }
}
