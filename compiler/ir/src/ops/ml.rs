//! `ml`: what the standard's domain for classical machine learning has beyond tensor arithmetic.

mod couple;
mod distance;
mod flat;
mod forest;
mod lookup;
mod trees;

pub use couple::*;
pub use distance::*;
pub use forest::{Forest, Row, RowKind};
pub use lookup::*;
pub use trees::*;
