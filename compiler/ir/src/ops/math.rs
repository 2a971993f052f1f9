//! `math`: elementwise arithmetic with broadcasting, matrix products and reductions.

mod activation;
mod arg;
mod binary;
mod bits;
mod broadcast;
mod cast;
mod choose;
mod cumulate;
mod einsum;
mod expression;
mod fourier;
mod linalg;
mod matmul;
mod narrow;
mod pairs;
mod reduce;
mod spectrum;
mod unary;

pub use activation::*;
pub use arg::*;
pub use binary::*;
pub use bits::*;
pub(crate) use broadcast::{broadcast_indices, broadcast_strides, broadcast_types};
pub use cast::*;
pub use choose::*;
pub use cumulate::*;
pub use einsum::*;
pub use fourier::*;
pub use linalg::*;
pub(crate) use matmul::product;
pub use matmul::*;
pub(crate) use narrow::overflow;
pub use narrow::*;
pub use reduce::*;
pub use spectrum::*;
pub use unary::*;
