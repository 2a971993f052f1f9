//! Kernels and the machine code for them: nest and tile IR, targets, schedules and the emitters.

pub mod emit;
pub mod nest;
pub mod target;
pub mod testing;
pub mod tile;
