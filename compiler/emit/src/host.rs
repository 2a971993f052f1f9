//! The target that this machine is.

use optc_runtime::host;

use optc_kernel::target::{Caches, Isa, Target};

pub use optc_runtime::host::cpu_name;

/// This machine: its best instruction set, and its caches.
pub fn target() -> Target {
    Target { isa: isa(), caches: caches() }
}

/// The best row that this machine runs.
pub fn isa() -> &'static Isa {
    Isa::best(host::features())
}

/// Whether this machine runs a row.
pub fn has(isa: &Isa) -> bool {
    host::features().contains(isa.needs)
}

/// The caches of this machine, defaults where the system does not say.
pub fn caches() -> Caches {
    let ([l1, l2, l3], default) = (host::cache_sizes(), Caches::default());
    Caches { l1: l1.unwrap_or(default.l1), l2: l2.unwrap_or(default.l2), l3: l3.unwrap_or(default.l3) }
}
