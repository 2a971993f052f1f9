//! `ml`: what the standard's domain for classical machine learning has beyond tensor arithmetic.

mod couple;
mod distance;
mod flat;
mod forest;
mod lookup;
mod row;
mod trees;

pub use couple::*;
pub use distance::*;
pub use flat::Aggregate;
pub use forest::Forest;
pub use lookup::*;
pub use row::{Row, RowKind};
pub use trees::*;
