//! The ONNX protobuf messages, as `prost` types.
//!
//! `onnx.rs` is generated and kept in the repository, so that no `protoc` is needed to build. It was made from
//! `onnx-ml.proto` and `onnx-data.proto` of the `onnx` 1.23.2 wheel (IR version 13, Apache-2.0) by
//!
//! ```text
//! let files = protox::compile(["onnx/onnx-ml.proto", "onnx/onnx-data.proto"], [wheel])?;
//! prost_build::Config::new().bytes(["."]).disable_comments(["."]).out_dir(out).compile_fds(files)?;
//! ```
//!
//! with `protox` 0.9 and `prost-build` 0.14. `bytes(["."])` makes every `bytes` field a [`bytes::Bytes`]: decoding a
//! memory-mapped file does not copy tensor data.

#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated code")]
#[rustfmt::skip]
mod onnx;

pub use onnx::*;

/// The newest IR version that the importer reads.
pub const MAX_IR_VERSION: i64 = 14;
