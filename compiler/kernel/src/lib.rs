//! The level between graphs and machine code, as data: targets, programs, and their kernels as nests of loops around
//! tiles. All of it prints, parses, verifies and is interpreted; nothing here runs machine code or asks the machine.
//!
//! - [`program`]: steps over buffers, what `optc-lower` gives and `optc-emit` takes.
//! - [`nest`]: one kernel: loops and index arithmetic.
//! - [`tile`]: the vector programs that nests call.
//! - [`expr`]: expressions on elements, compiled to tiles.
//! - [`target`]: the table of instruction sets.
//!
//! A program is also proven to stay within its buffers here. This crate must not know graphs, the host or Cranelift.
//! Start in `program/mod.rs`, then `nest/mod.rs`, which shows how to write a kernel.
#![forbid(unsafe_code)]

mod bounds;
pub mod expr;
pub mod nest;
pub mod program;
pub mod space;
pub mod target;
pub mod tile;
pub use bounds::BoundsError;
