//! `math`: elementwise arithmetic with broadcasting, matrix products and reductions.

mod binary;
mod cast;
mod matmul;
mod reduce;
mod unary;

pub use binary::*;
pub(crate) use binary::{broadcast_indices, broadcast_types};
pub use cast::*;
pub(crate) use matmul::product;
pub use matmul::*;
pub use reduce::*;
pub use unary::*;
