//! What the tests that span crates share: test data, runners, comparisons, literals and random graphs.
//!
//! The tests themselves are in `tests/tests`; each says what it guards. Tests of one crate are in that crate. This one
//! may know all of them, and none may know it.
//!
//! Start in `tests/tests/filetests.rs`, which says what kinds of filetests there are; `random_graph.rs` and
//! `nest_shapes.rs` draw what is compared with the interpreter.
#![forbid(unsafe_code)]

pub mod compare;
pub mod data;
pub mod kernel_text;
pub mod literal;
pub mod nest_shapes;
pub mod networks;
pub mod node_cases;
pub mod random_graph;
pub mod refused;

/// Why a test does not hold: an error of what is tested, or a sentence.
pub type TestFailure = Box<dyn std::error::Error>;
