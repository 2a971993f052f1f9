//! Kernels: for each family a builder of nests and tiles, its schedules, and what it costs.
//!
//! In: a problem (extents, strides, what is applied to the results) and a row of the target table. Out: kernels as
//! data, packed weights, and estimated times ([`profile`]). Builders ask the row what it can do, never for its name.
//!
//! Nothing here runs code, and nothing knows graphs, the host or Cranelift. Start in `contract/mod.rs`, the family of
//! dense products; `profile/mod.rs` holds the figures that choices between forms go by.
#![forbid(unsafe_code)]

pub mod attention;
pub mod contract;
pub mod dynamic;
pub mod elementwise;
pub mod fold;
pub mod gather;
pub mod int8;
pub mod movement;
pub mod profile;
pub mod recurrent;
pub mod separable;
pub mod spmm;
pub mod window;
pub mod winograd;
