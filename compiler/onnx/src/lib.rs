//! ONNX in and out of the graph IR.
//!
//! [`ModelFile`] is a decoded model with its operator sets, functions and data files; [`Attributes`] reads a node's
//! attributes by type; [`evaluation_order`] and [`Names`] settle names. Tensors and stored values have readers of their
//! own. Input bytes never cause a panic: every error is a [`Diagnostic`] or a typed kind that becomes one.
//!
//! In: files and bytes. Out: a graph, and from a graph a model. This crate must not know passes or kernels: it
//! translates, and leaves what is slow as it is. Start in `import.rs`; `ops/mod.rs` says how to add an op,
//! `export/node.rs` is the way back.
#![forbid(unsafe_code)]

mod attributes;
mod dataset;
mod diagnostic;
mod export;
mod external;
mod import;
mod mapping;
mod model;
mod notes;
pub mod ops;
mod order;
pub mod proto;
mod stored;
mod tensor;
mod types;

pub use attributes::{AttributeError, Attributes, Bindings};
pub use dataset::{DataSet, read_data_set, read_values};
pub use diagnostic::{Diagnostic, DiagnosticKind};
pub use export::{
    ExportOptions, Exported, ExternalData, OpsetRaise, data_file, export_file, export_file_as, export_model,
    export_model_at,
};
pub use external::{ExternalError, ExternalFiles};
pub use import::{import_bytes, import_file, import_file_as, import_model, is_supported, notes};
pub use mapping::{MapError, NodeCx};
pub use model::{MAX_OPSET, ModelFile, Opsets, canonical_domain, label, opsets_of};
pub use ops::onnxruntime_ops;
pub use ops::waiting::register_waiting;
pub use order::{Names, evaluation_order};
pub use stored::{Stored, StoredKind, parse_value_pb, read_value_pb};
pub use tensor::{StoredTensorError, code_of_dtype, dtype_from_code, read_sparse, read_tensor, write_tensor};
pub use types::{read_type, write_type};
