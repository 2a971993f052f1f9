//! What a machine can do: the peaks of its arithmetic and memory, and the speeds of kernels that profiles are made of.

pub mod figures;
pub mod gemm_peak;
pub mod peak;
mod timed;
