//! What this machine is: the features of its CPU, its caches, its name. Everything that asks the host is here.

use std::path::Path;
use std::sync::LazyLock;

use optc_types::{Feature, Features};

/// What this machine's CPU has, of what kernels can use under the calling convention of the system.
pub fn features() -> Features {
    static FEATURES: LazyLock<Features> = LazyLock::new(detected);
    *FEATURES
}

/// Bytes of the caches of levels 1 (of data) to 3 that a core has or shares, as the operating system reports them. The
/// C library adds those of level 3 of all dies up on some machines (384 MiB where a core has 32): the kernel's list,
/// which names each cache, is asked too, and the smaller size is taken.
pub fn cache_sizes() -> [Option<usize>; 3] {
    let of_library =
        [libc::_SC_LEVEL1_DCACHE_SIZE, libc::_SC_LEVEL2_CACHE_SIZE, libc::_SC_LEVEL3_CACHE_SIZE].map(cache_size);
    let listed = listed_caches(Path::new("/sys/devices/system/cpu/cpu0/cache"));
    std::array::from_fn(|level| of_library[level].into_iter().chain(listed[level]).min())
}

/// The caches of levels 1 to 3 that Linux lists in a folder, those of instructions left out.
fn listed_caches(folder: &Path) -> [Option<usize>; 3] {
    let mut sizes = [None; 3];
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).ok();
        let (Some(level), Some(kind), Some(size)) = (read("level"), read("type"), read("size")) else { continue };
        let level = level.trim().parse().ok().and_then(|level: usize| level.checked_sub(1));
        let place = level.and_then(|level| sizes.get_mut(level));
        if let (Some(place), false) = (place, kind.trim() == "Instruction") {
            *place = bytes_of(size.trim());
        }
    }
    sizes
}

/// A size such as `32768K` or `1M`; none where it is empty or not a size.
fn bytes_of(size: &str) -> Option<usize> {
    let (number, unit) = match size.strip_suffix('K') {
        Some(number) => (number, 10),
        None => size.strip_suffix('M').map_or((size, 0), |number| (number, 20)),
    };
    number.parse().ok().and_then(|n: usize| n.checked_mul(1 << unit)).filter(|&n| n > 0)
}

#[cfg(all(target_arch = "x86_64", unix))]
fn detected() -> Features {
    macro_rules! found {
        ($($name:tt => $feature:ident),* $(,)?) => {
            [$(std::arch::is_x86_feature_detected!($name).then_some(Feature::$feature)),*]
        };
    }
    // What stands for AVX2 is that and F16C.
    let halves = std::arch::is_x86_feature_detected!("f16c");
    let found = found! {
        "sse4.1" => Sse41, "avx2" => Avx2, "fma" => Fma, "avx512f" => Avx512F, "avx512bw" => Avx512Bw,
        "avx512dq" => Avx512Dq, "avx512vl" => Avx512Vl, "avxvnni" => AvxVnni, "avx512vnni" => Avx512Vnni,
        "avx512bf16" => Avx512Bf16,
    };
    let known = found.into_iter().flatten().filter(|&feature| halves || feature != Feature::Avx2);
    Features::of(&known.chain(matrices()).collect::<Vec<_>>())
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

/// Nothing is known of other machines.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_read_from_a_list_of_them() {
        let folder = std::env::temp_dir().join(format!("optc-caches-{}", std::process::id()));
        let caches = [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "1M"), ("3", "Unified", "x")];
        for (i, (level, kind, size)) in caches.into_iter().enumerate() {
            let index = folder.join(format!("index{i}"));
            std::fs::create_dir_all(&index).expect("a folder");
            for (file, text) in [("level", level), ("type", kind), ("size", size)] {
                std::fs::write(index.join(file), format!("{text}\n")).expect("a file");
            }
        }
        let found = listed_caches(&folder);
        std::fs::remove_dir_all(&folder).expect("the folder is there");
        assert_eq!(found, [Some(48 << 10), Some(1 << 20), None]);
        assert_eq!(listed_caches(&folder), [None; 3], "where there is no list");
        assert!(cache_sizes().into_iter().flatten().all(|bytes| bytes > 1024), "{:?}", cache_sizes());
    }
}
