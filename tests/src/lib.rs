//! What the tests that span crates share: runners, literals and random graphs.
#![forbid(unsafe_code)]

pub mod literal;
pub mod random_graph;
