//! Targets and machines: what differs between instruction sets is a row of [`ISAS`], never a branch in a builder.

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
    /// Whether this machine can run it.
    pub detect: fn() -> bool,
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

    /// The best row that this machine can run.
    pub fn host() -> &'static Isa {
        ISAS.iter().find(|isa| (isa.detect)()).unwrap_or(&ISAS[ISAS.len() - 1])
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
        detect: has_amx,
    },
    Isa {
        name: "avx512-bf16",
        vector_bits: 512,
        vector_regs: 32,
        level: Level::Bf16,
        emitter: Emitter::X86,
        contract_f32: (9, 3),
        contract_i8: (9, 3),
        detect: has_avx512_bf16,
    },
    Isa {
        name: "avx512-vnni",
        vector_bits: 512,
        vector_regs: 32,
        level: Level::Vnni,
        emitter: Emitter::X86,
        contract_f32: (9, 3),
        contract_i8: (9, 3),
        detect: has_avx512_vnni,
    },
    Isa {
        name: "avx512",
        vector_bits: 512,
        vector_regs: 32,
        level: Level::Plain,
        emitter: Emitter::X86,
        contract_f32: (9, 3),
        contract_i8: (8, 3),
        detect: has_avx512,
    },
    Isa {
        name: "avx2-vnni",
        vector_bits: 256,
        vector_regs: 16,
        level: Level::Vnni,
        emitter: Emitter::X86,
        contract_f32: (6, 2),
        contract_i8: (6, 2),
        detect: has_avx_vnni,
    },
    Isa {
        name: "avx2",
        vector_bits: 256,
        vector_regs: 16,
        level: Level::Plain,
        emitter: Emitter::X86,
        contract_f32: (6, 2),
        contract_i8: (6, 2),
        detect: has_avx2,
    },
    Isa {
        name: "portable",
        vector_bits: 128,
        vector_regs: 16,
        level: Level::Plain,
        emitter: Emitter::Clif,
        contract_f32: (4, 2),
        contract_i8: (4, 2),
        detect: || true,
    },
];

/// AVX2 with FMA, under the calling convention that the emitter has.
#[cfg(all(target_arch = "x86_64", unix))]
fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

/// AVX-512 as the first servers had it: F, BW, DQ and VL.
#[cfg(all(target_arch = "x86_64", unix))]
fn has_avx512() -> bool {
    has_avx2()
        && std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
}

/// AVX2 with the sums of products of bytes in their VEX form.
#[cfg(all(target_arch = "x86_64", unix))]
fn has_avx_vnni() -> bool {
    has_avx2() && std::arch::is_x86_feature_detected!("avxvnni")
}

/// AVX-512 with the sums of products of bytes.
#[cfg(all(target_arch = "x86_64", unix))]
fn has_avx512_vnni() -> bool {
    has_avx512() && std::arch::is_x86_feature_detected!("avx512vnni")
}

/// AVX-512 with the sums of products of bytes and of bfloat16.
#[cfg(all(target_arch = "x86_64", unix))]
fn has_avx512_bf16() -> bool {
    has_avx512_vnni() && std::arch::is_x86_feature_detected!("avx512bf16")
}

/// AVX-512 with all of the above, and matrices that the system lets this process use: it has to ask once.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn has_amx() -> bool {
    use std::arch::x86_64::{__cpuid_count, __get_cpuid_max};
    use std::sync::LazyLock;
    /// In register `edx` of leaf 7: products of bfloat16, the matrices, products of bytes.
    const FEATURES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    /// `ARCH_REQ_XCOMP_PERM`, and the state of the matrices.
    const REQUEST: (libc::c_long, libc::c_long) = (0x1023, 18);
    static ALLOWED: LazyLock<bool> = LazyLock::new(|| {
        let has = __get_cpuid_max(0).0 >= 7 && __cpuid_count(7, 0).edx & FEATURES == FEATURES;
        // SAFETY: the call takes two integers, and touches no memory of ours; it fails where the system does not know it.
        has && has_avx512_bf16() && unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST.0, REQUEST.1) } == 0
    });
    *ALLOWED
}

/// Only Linux is asked for the matrices.
#[cfg(all(target_arch = "x86_64", unix, not(target_os = "linux")))]
fn has_amx() -> bool {
    false
}

/// Other machines have none of the rows of x86.
#[cfg(not(all(target_arch = "x86_64", unix)))]
mod other {
    pub(super) fn has_avx2() -> bool {
        false
    }
    pub(super) use has_avx2 as has_avx_vnni;
    pub(super) use has_avx2 as has_avx512;
    pub(super) use has_avx2 as has_avx512_vnni;
    pub(super) use has_avx2 as has_avx512_bf16;
    pub(super) use has_avx2 as has_amx;
}
#[cfg(not(all(target_arch = "x86_64", unix)))]
use other::*;

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
        Caches { l1: 32 << 10, l2: 512 << 10, l3: 8 << 20 }
    }
}

impl Caches {
    /// The caches of this machine as the operating system reports them, defaults where it does not.
    pub fn host() -> Caches {
        let default = Caches::default();
        Caches {
            l1: cache_size(libc::_SC_LEVEL1_DCACHE_SIZE).unwrap_or(default.l1),
            l2: cache_size(libc::_SC_LEVEL2_CACHE_SIZE).unwrap_or(default.l2),
            l3: cache_size(libc::_SC_LEVEL3_CACHE_SIZE).unwrap_or(default.l3),
        }
    }
}

/// What the CPU calls itself; the architecture's name where it does not say.
pub fn cpu_name() -> String {
    let name = brand();
    let words: Vec<&str> = name.split([' ', '\0']).filter(|w| !w.is_empty()).collect();
    if words.is_empty() { std::env::consts::ARCH.to_owned() } else { words.join(" ") }
}

/// The 48 bytes of the brand string in CPUID.
#[cfg(target_arch = "x86_64")]
fn brand() -> String {
    use std::arch::x86_64::{__cpuid, __get_cpuid_max};
    const LEAVES: std::ops::RangeInclusive<u32> = 0x8000_0002..=0x8000_0004;
    if __get_cpuid_max(0x8000_0000).0 < *LEAVES.end() {
        return String::new();
    }
    let registers = LEAVES.map(__cpuid).flat_map(|r| [r.eax, r.ebx, r.ecx, r.edx]);
    String::from_utf8_lossy(&registers.flat_map(u32::to_le_bytes).collect::<Vec<_>>()).into_owned()
}

/// The part number that the system shows.
#[cfg(not(target_arch = "x86_64"))]
fn brand() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.split_once(':').map(|(_, v)| v.trim()));
    let known = ["CPU implementer", "CPU part"].into_iter().filter_map(field);
    known.collect::<Vec<_>>().join(" ")
}

fn cache_size(name: libc::c_int) -> Option<usize> {
    // SAFETY: `sysconf` takes any integer and touches no memory of ours.
    let size = unsafe { libc::sysconf(name) };
    usize::try_from(size).ok().filter(|&size| size > 0)
}
