//! The target that this machine is.

use optc_runtime::host;

use optc_kernel::target::{Arch, Caches, Isa, System, Target};

pub use optc_runtime::host::cpu_name;

/// This machine: its best instruction set, and its caches.
pub fn target() -> Target {
    let (arch, features) = (arch(), host::features());
    Target { arch, system: system(), isa: Isa::best(arch, features), features, caches: caches() }
}

/// The architecture that this process runs on.
fn arch() -> Arch {
    if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 }
}

/// The system that it runs under; all but macOS call functions as Linux does.
fn system() -> System {
    if cfg!(target_os = "macos") { System::MacOs } else { System::Linux }
}

/// The best row that this machine runs.
pub fn isa() -> &'static Isa {
    target().isa
}

/// Whether this machine runs a row.
pub fn has(isa: &Isa) -> bool {
    isa.runs_on(arch(), host::features())
}

/// Whether this machine runs code for a target.
pub fn runs(target: &Target) -> bool {
    (target.arch, target.system) == (arch(), system()) && host::features().contains(target.features)
}

/// The caches of this machine, defaults where the system does not say.
pub fn caches() -> Caches {
    let ([l1, l2, l3], default) = (host::cache_sizes(), Caches::default());
    Caches { l1: l1.unwrap_or(default.l1), l2: l2.unwrap_or(default.l2), l3: l3.unwrap_or(default.l3) }
}
