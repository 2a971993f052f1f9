//! What this machine is: the features of its CPU, its caches, its name. All that asks the host stands here.

use std::sync::LazyLock;

use optc_types::{Feature, Features};

/// What this machine's CPU has, of what kernels can use under the calling convention of the system.
pub fn features() -> Features {
    static FEATURES: LazyLock<Features> = LazyLock::new(detected);
    *FEATURES
}

/// Bytes of the caches of levels 1 (of data) to 3, as the operating system reports them for one core.
pub fn cache_sizes() -> [Option<usize>; 3] {
    [libc::_SC_LEVEL1_DCACHE_SIZE, libc::_SC_LEVEL2_CACHE_SIZE, libc::_SC_LEVEL3_CACHE_SIZE].map(cache_size)
}

#[cfg(all(target_arch = "x86_64", unix))]
fn detected() -> Features {
    macro_rules! found {
        ($($name:tt => $feature:ident),* $(,)?) => {
            [$(std::arch::is_x86_feature_detected!($name).then_some(Feature::$feature)),*]
        };
    }
    let found = found! {
        "sse4.1" => Sse41, "avx2" => Avx2, "fma" => Fma, "avx512f" => Avx512F, "avx512bw" => Avx512Bw, "avx512dq" => Avx512Dq,
        "avx512vl" => Avx512Vl, "avxvnni" => AvxVnni, "avx512vnni" => Avx512Vnni, "avx512bf16" => Avx512Bf16,
    };
    Features::of(&found.into_iter().flatten().chain(matrices()).collect::<Vec<_>>())
}

#[cfg(all(target_arch = "aarch64", unix))]
fn detected() -> Features {
    let has = [
        (std::arch::is_aarch64_feature_detected!("neon"), Feature::Neon),
        (std::arch::is_aarch64_feature_detected!("dotprod"), Feature::DotProd),
        (std::arch::is_aarch64_feature_detected!("i8mm"), Feature::I8mm),
    ];
    Features::of(&has.into_iter().filter(|(has, _)| *has).map(|(_, feature)| feature).collect::<Vec<_>>())
}

/// Of other machines nothing is known.
#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), unix)))]
fn detected() -> Features {
    Features::of(&[])
}

/// The matrices (AMX), where the system lets this process use them: it has to ask once.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn matrices() -> Vec<Feature> {
    use std::arch::x86_64::{__cpuid_count, __get_cpuid_max};
    /// The bits of register `edx` of leaf 7.
    const BITS: [(u32, Feature); 3] = [(22, Feature::AmxBf16), (24, Feature::AmxTile), (25, Feature::AmxInt8)];
    /// `ARCH_REQ_XCOMP_PERM`, and the state of the matrices.
    const REQUEST: (libc::c_long, libc::c_long) = (0x1023, 18);
    let known = if __get_cpuid_max(0).0 >= 7 { __cpuid_count(7, 0).edx } else { 0 };
    let has: Vec<Feature> = BITS.iter().filter(|(bit, _)| known >> bit & 1 == 1).map(|&(_, feature)| feature).collect();
    // SAFETY: the call takes two integers, and touches no memory of ours; it fails where the system does not know it.
    let allowed =
        has.contains(&Feature::AmxTile) && unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST.0, REQUEST.1) } == 0;
    if allowed { has } else { vec![] }
}

/// Only Linux is asked for the matrices.
#[cfg(all(target_arch = "x86_64", unix, not(target_os = "linux")))]
fn matrices() -> Vec<Feature> {
    vec![]
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
