//! How long products take on a target, estimated: what decides between forms of a layer before a kernel is built.
//!
//! Each row of the target table has [`Figures`] of one core, a file a row: medians of what `optc hwbench
//! --write-profile` measured where the hardware was available, estimates elsewhere. A [`Profile`] makes times from
//! them. Figures are data, never measured while a model is compiled: two processes that compile a model for one row
//! make the same choices, however busy the machine is. Only ratios of times decide anything, so that clock rates do not
//! matter.

mod aarch64_neon;
mod amx;
mod avx2;
mod avx2_vnni;
mod avx512;
mod avx512_bf16;
mod avx512_vnni;
mod figures;
mod portable;
mod times;
mod wasm32_simd128;

pub use figures::{Figures, SPARSE, SparseFigures};
use optc_kernel::target::Isa;
pub use times::Profile;

/// The figures of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileRow {
    /// The row of the target table.
    pub isa: &'static str,
    /// The core that they were measured on; none where they are estimates.
    pub measured_on: Option<&'static str>,
    /// The figures.
    pub figures: Figures,
}

/// The rows that there are figures of.
pub const ROWS: [ProfileRow; 9] = [
    amx::ROW,
    avx512_bf16::ROW,
    avx512_vnni::ROW,
    avx512::ROW,
    avx2_vnni::ROW,
    avx2::ROW,
    aarch64_neon::ROW,
    wasm32_simd128::ROW,
    portable::ROW,
];

/// The figures that optc comes with for an instruction set. A row without a file of its own has, as estimates, those of
/// the widest row whose vectors are no wider.
pub fn of(isa: &Isa) -> ProfileRow {
    let known = ROWS.iter().find(|row| row.isa == isa.name).copied();
    known.unwrap_or_else(|| {
        let lanes = |row: &ProfileRow| Isa::by_name(row.isa).map_or(0, Isa::lanes);
        let near = ROWS.into_iter().filter(|row| lanes(row) <= isa.lanes()).max_by_key(lanes);
        ProfileRow { isa: isa.name, measured_on: None, ..near.unwrap_or(portable::ROW) }
    })
}
