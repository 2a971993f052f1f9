//! ONNX in and out of the graph IR.
#![forbid(unsafe_code)]

mod diagnostic;
pub mod proto;

pub use diagnostic::{Diagnostic, Kind};
