//! What the tests that span crates share: test data, runners, comparisons, literals and random graphs.
//!
//! The tests themselves are in `tests/tests`; each says what it guards.
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
