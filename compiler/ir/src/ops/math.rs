//! `math`: elementwise arithmetic with broadcasting, matrix products and reductions.

mod activation;
mod binary;
mod bits;
mod broadcast;
mod cast;
mod choose;
mod matmul;
mod reduce;
mod unary;

pub use activation::*;
pub use binary::*;
pub use bits::*;
pub(crate) use broadcast::{broadcast_indices, broadcast_strides, broadcast_types};
pub use cast::*;
pub use choose::*;
pub(crate) use matmul::product;
pub use matmul::*;
pub use reduce::*;
pub use unary::*;
