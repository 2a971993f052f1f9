//! `nn`: convolution, pooling, normalisation, softmax, recurrent layers, attention and resampling.

mod conv;
mod conv_transpose;
mod deform_conv;
mod gemm;
mod gru;
mod local_norm;
mod loss;
mod lstm;
mod norm;
mod pool;
mod recurrent;
mod rnn;
mod roi;
mod softmax;
mod unpool;
mod window;

pub use conv::*;
pub use conv_transpose::*;
pub use deform_conv::*;
pub use gemm::*;
pub use gru::*;
pub use local_norm::*;
pub use loss::*;
pub use lstm::*;
pub use norm::*;
pub use pool::*;
pub(crate) use recurrent::Layer;
pub use rnn::*;
pub use roi::*;
pub use softmax::*;
pub use unpool::*;
