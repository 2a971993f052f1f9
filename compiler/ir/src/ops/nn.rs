//! `nn`: convolution, pooling, normalisation, softmax and recurrent layers.

mod conv;
mod gemm;
mod lstm;
mod norm;
mod pool;
mod window;

pub use conv::*;
pub use gemm::*;
pub use lstm::*;
pub use norm::*;
pub use pool::*;
