//! The level between graphs and machine code, as data: targets, programs, and their kernels as nests of loops around
//! tiles. All of it prints, parses, verifies and is interpreted; nothing here runs machine code or asks the machine.
#![forbid(unsafe_code)]

mod bounds;
pub mod expr;
pub mod nest;
pub mod program;
pub mod space;
pub mod target;
pub mod tile;
pub use bounds::BoundsError;
