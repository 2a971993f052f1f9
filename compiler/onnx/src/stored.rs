//! Values stored as protobuf files beside a model: the `test_data_set_N/input_0.pb` files of ONNX test cases.
//!
//! A file does not say what message it holds; the model's declared type does.

use std::path::Path;

use bytes::Bytes;
use optc_tensor::{FileAccess, FileBytes, Tensor};
use prost::Message;

use crate::external::ExternalFiles;
use crate::proto::{OptionalProto, SequenceProto, TensorProto, TypeProto, optional_proto, sequence_proto, type_proto};
use crate::tensor::{StoredTensorError, read_sparse, read_tensor};
use crate::{Diagnostic, proto};

/// The deepest nesting of sequences and optionals that is read.
const MAX_DEPTH: usize = 16;

/// Which message a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredKind {
    /// A `TensorProto`.
    Tensor,
    /// A `SequenceProto`.
    Sequence,
    /// An `OptionalProto`.
    Optional,
}

impl StoredKind {
    /// The message that holds values of a declared type; `None` for types that optc lacks.
    pub fn of_type(ty: &TypeProto) -> Option<StoredKind> {
        match ty.value.as_ref()? {
            type_proto::Value::TensorType(_) => Some(StoredKind::Tensor),
            type_proto::Value::SequenceType(_) => Some(StoredKind::Sequence),
            type_proto::Value::OptionalType(_) => Some(StoredKind::Optional),
            _ => None,
        }
    }
}

/// A value read from a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// A tensor.
    Tensor(Tensor),
    /// A sequence of values.
    Sequence(Vec<Stored>),
    /// A value or nothing.
    Optional(Option<Box<Stored>>),
}

/// Reads the value of the given kind from the file at `path`, with the name that is stored with it.
///
/// # Errors
/// The file cannot be read, or does not hold such a value.
pub fn read_value_pb(path: &Path, kind: StoredKind) -> Result<(String, Stored), Diagnostic> {
    let bytes = FileBytes::open(path, FileAccess::Copy).map_err(|e| Diagnostic::io("read", path, &e))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parse_value_pb(Bytes::from_owner(bytes), kind).map_err(|d| d.in_model(name))
}

/// Reads the value of the given kind from memory, with the name that is stored with it.
///
/// # Errors
/// The bytes do not hold such a value.
pub fn parse_value_pb(bytes: Bytes, kind: StoredKind) -> Result<(String, Stored), Diagnostic> {
    let corrupt = |e: prost::DecodeError| Diagnostic::new("read", format!("not a stored value: {e}"));
    let (name, value) = match kind {
        StoredKind::Tensor => {
            let p = TensorProto::decode(bytes).map_err(corrupt)?;
            (p.name().to_owned(), tensor(&p).map(Stored::Tensor))
        }
        StoredKind::Sequence => {
            let p = SequenceProto::decode(bytes).map_err(corrupt)?;
            (p.name().to_owned(), sequence(&p, 0))
        }
        StoredKind::Optional => {
            let p = OptionalProto::decode(bytes).map_err(corrupt)?;
            (p.name().to_owned(), optional(&p, 0))
        }
    };
    let value = value.map_err(|e| match e.is_unsupported() {
        true => Diagnostic::unsupported("read", e.to_string()),
        false => Diagnostic::new("read", e.to_string()),
    })?;
    Ok((name, value))
}

fn tensor(p: &TensorProto) -> Result<Tensor, StoredTensorError> {
    read_tensor(p, &ExternalFiles::none())
}

fn sparse(p: &proto::SparseTensorProto) -> Result<Tensor, StoredTensorError> {
    read_sparse(p, &ExternalFiles::none())
}

fn sequence(p: &SequenceProto, depth: usize) -> Result<Stored, StoredTensorError> {
    use sequence_proto::DataType as Kind;
    if depth > MAX_DEPTH {
        return Err(StoredTensorError::Unsupported("deeply nested sequence"));
    }
    let values: Result<Vec<_>, _> = match Kind::try_from(p.elem_type()) {
        Ok(Kind::Undefined | Kind::Tensor) => p.tensor_values.iter().map(|t| tensor(t).map(Stored::Tensor)).collect(),
        Ok(Kind::SparseTensor) => p.sparse_tensor_values.iter().map(|t| sparse(t).map(Stored::Tensor)).collect(),
        Ok(Kind::Sequence) => p.sequence_values.iter().map(|s| sequence(s, depth + 1)).collect(),
        Ok(Kind::Optional) => p.optional_values.iter().map(|o| optional(o, depth + 1)).collect(),
        Ok(Kind::Map) => Err(StoredTensorError::Unsupported("map")),
        Err(_) => Err(StoredTensorError::UnknownCode(p.elem_type())),
    };
    values.map(Stored::Sequence)
}

fn optional(p: &OptionalProto, depth: usize) -> Result<Stored, StoredTensorError> {
    use optional_proto::DataType as Kind;
    if depth > MAX_DEPTH {
        return Err(StoredTensorError::Unsupported("deeply nested optional"));
    }
    let value = match Kind::try_from(p.elem_type()) {
        Ok(Kind::Undefined) => None,
        Ok(Kind::Tensor) => p.tensor_value.as_ref().map(|t| tensor(t).map(Stored::Tensor)).transpose()?,
        Ok(Kind::SparseTensor) => p.sparse_tensor_value.as_ref().map(|t| sparse(t).map(Stored::Tensor)).transpose()?,
        Ok(Kind::Sequence) => p.sequence_value.as_ref().map(|s| sequence(s, depth + 1)).transpose()?,
        Ok(Kind::Optional) => p.optional_value.as_ref().map(|o| optional(o, depth + 1)).transpose()?,
        Ok(Kind::Map) => return Err(StoredTensorError::Unsupported("map")),
        Err(_) => return Err(StoredTensorError::UnknownCode(p.elem_type())),
    };
    Ok(Stored::Optional(value.map(Box::new)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write_tensor;

    #[test]
    fn tensors_sequences_and_optionals_are_read() {
        let t = Tensor::from_slice(&[2], &[1f32, 2.0]).unwrap();
        let p = write_tensor("t", &t);
        let read = |bytes: Vec<u8>, kind| parse_value_pb(bytes.into(), kind).unwrap();
        assert_eq!(read(p.encode_to_vec(), StoredKind::Tensor), ("t".to_owned(), Stored::Tensor(t.clone())));
        let s = SequenceProto { elem_type: Some(1), tensor_values: vec![p.clone()], ..SequenceProto::default() };
        assert_eq!(read(s.encode_to_vec(), StoredKind::Sequence).1, Stored::Sequence(vec![Stored::Tensor(t.clone())]));
        let o = OptionalProto { elem_type: Some(1), tensor_value: Some(p), ..OptionalProto::default() };
        let some = Stored::Optional(Some(Box::new(Stored::Tensor(t))));
        assert_eq!(read(o.encode_to_vec(), StoredKind::Optional).1, some);
        assert_eq!(read(vec![], StoredKind::Optional).1, Stored::Optional(None));
    }

    #[test]
    fn corrupt_files_are_errors() {
        let p = write_tensor("t", &Tensor::from_slice(&[2], &[1f32, 2.0]).unwrap()).encode_to_vec();
        for n in 0..p.len() {
            assert!(parse_value_pb(Bytes::copy_from_slice(&p[..n]), StoredKind::Tensor).is_err(), "{n}");
        }
    }
}
