//! Kernels: for each family a builder of nests and tiles, its schedules, and what it costs. A builder gives data;
//! nothing here runs code.
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
