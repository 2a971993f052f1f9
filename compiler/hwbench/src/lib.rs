//! What a machine can do: the peaks of its arithmetic and memory, and the speeds of kernels that profiles are made of.
//!
//! In: this machine. Out: numbers, for `optc hwbench` and for the files of figures in `optc-kernels`. Nothing that
//! compiles a model calls this: choices go by figures that were measured before.
//!
//! It must not know graphs. Start in `figures.rs`, which measures what a profile holds, then `peak.rs`. The examples of
//! this crate time single kernels, for whoever works on one.

pub mod figures;
pub mod gemm_peak;
pub mod peak;
mod timed;
