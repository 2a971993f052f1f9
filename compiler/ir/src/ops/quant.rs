//! `quant`: integers that stand for reals, `real = (integer − zero point) · scale`, and the products of such integers.

mod dynamic_lstm;
mod expression;
mod fake;
mod product;
mod quantize;
mod sum;

pub use dynamic_lstm::*;
pub use expression::quantized;
pub use fake::*;
pub use product::*;
pub use quantize::*;
pub use sum::*;
