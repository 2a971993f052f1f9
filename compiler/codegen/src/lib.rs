//! Kernels and the machine code for them: nest and tile IR, targets, schedules and the emitters.

pub mod attention;
pub mod contract;
pub mod cost;
pub mod dynamic;
pub mod elementwise;
pub mod emit;
pub mod expr;
pub mod fold;
pub mod gather;
pub mod gemm_peak;
pub mod int8;
pub mod lower;
pub mod movement;
pub mod nest;
pub mod peak;
pub mod program;
pub mod rates;
pub mod recurrent;
pub mod separable;
pub mod space;
pub mod spmm;
pub mod target;
pub mod testing;
pub mod tile;
mod timed;
pub mod window;
pub mod winograd;
