//! Words that crates share which do not know each other: a leaf.

mod product;

pub use product::{CostModel, Extents, Numbers, Product};
