//! ONNX in and out of the graph IR.
#![forbid(unsafe_code)]

mod diagnostic;
mod external;
pub mod proto;
mod tensor;

pub use diagnostic::{Diagnostic, Kind};
pub use external::{ExternalError, ExternalFiles};
pub use tensor::{TensorError, code_of_dtype, dtype_from_code, read_sparse, read_tensor, write_tensor};
