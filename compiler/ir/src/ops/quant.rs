//! `quant`: integers that stand for reals, `real = (integer − zero point) · scale`, and the products of such integers.

mod dynamic_lstm;
mod product;
mod quantize;

pub use dynamic_lstm::*;
pub use product::*;
pub use quantize::*;
