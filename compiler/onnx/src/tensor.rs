//! `TensorProto` → [`Tensor`]: every storage form that the format knows, with sizes checked before memory is taken.
//!
//! Elements may lie in `raw_data` (little-endian), in the typed fields, or in an external file. 16-bit floats and
//! narrow integers share `int32_data`, and floats of a byte their codes in it; elements of 4 and 2 bits come two and
//! four a byte, lowest bits first, in either form.

use std::sync::Arc;

use bytes::Bytes;
use optc_tensor::{Buffer, DType, Tensor, element_count};

use crate::external::ExternalFiles;
use crate::proto::tensor_proto::{DataLocation, DataType};
use crate::proto::{SparseTensorProto, TensorProto};

/// Why a stored tensor could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoredTensorError {
    /// The dtype exists in ONNX, but not in optc.
    #[error("dtype `{0}` is not supported")]
    Unsupported(&'static str),
    /// The dtype code is not in the format.
    #[error("dtype code {0} is unknown")]
    UnknownCode(i32),
    /// A dim is negative.
    #[error("dim {0} is negative")]
    NegativeDim(i64),
    /// Dtype, shape and data do not fit together.
    #[error(transparent)]
    Shape(#[from] optc_tensor::TensorError),
    /// The typed data fields have the wrong number of entries.
    #[error("expected {expected} elements in `{field}`, found {found}")]
    Count {
        /// The field of the message.
        field: &'static str,
        /// Entries that the shape asks for.
        expected: usize,
        /// Entries that are there.
        found: usize,
    },
    /// A string is not UTF-8.
    #[error("a string element is not UTF-8")]
    NotUtf8,
    /// The tensor is one segment of several.
    #[error("segmented tensors are not supported")]
    Segmented,
    /// A sparse tensor's index lies outside of its shape.
    #[error("sparse index {0} is out of range")]
    SparseIndex(i64),
    /// A sparse tensor's parts do not fit together.
    #[error("sparse tensor: {0}")]
    Sparse(&'static str),
    /// The external data cannot be used.
    #[error("external data: {0}")]
    External(String),
}

impl StoredTensorError {
    /// True when the model is fine but uses something that optc lacks.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, StoredTensorError::Unsupported(_) | StoredTensorError::Segmented)
    }
}

/// The dtype with ONNX's numeric `code`.
///
/// # Errors
/// The code is unknown, or names a dtype that optc lacks.
pub fn dtype_from_code(code: i32) -> Result<DType, StoredTensorError> {
    let known = DataType::try_from(code).map_err(|_| StoredTensorError::UnknownCode(code))?;
    DTYPES.iter().find(|(k, _)| *k == known).map(|&(_, d)| d).ok_or(match known {
        DataType::Undefined => StoredTensorError::UnknownCode(code),
        other => StoredTensorError::Unsupported(other.as_str_name()),
    })
}

/// ONNX's numeric code of `dtype`.
pub fn code_of_dtype(dtype: DType) -> i32 {
    DTYPES.iter().find(|(_, d)| *d == dtype).map_or(0, |&(k, _)| k as i32)
}

const DTYPES: &[(DataType, DType)] = &[
    (DataType::Float, DType::F32),
    (DataType::Double, DType::F64),
    (DataType::Float16, DType::F16),
    (DataType::Bfloat16, DType::BF16),
    (DataType::Int8, DType::I8),
    (DataType::Int16, DType::I16),
    (DataType::Int32, DType::I32),
    (DataType::Int64, DType::I64),
    (DataType::Uint8, DType::U8),
    (DataType::Uint16, DType::U16),
    (DataType::Uint32, DType::U32),
    (DataType::Uint64, DType::U64),
    (DataType::Bool, DType::Bool),
    (DataType::Int4, DType::I4),
    (DataType::Uint4, DType::U4),
    (DataType::Int2, DType::I2),
    (DataType::Uint2, DType::U2),
    (DataType::Float8e4m3fn, DType::F8E4M3FN),
    (DataType::Float8e4m3fnuz, DType::F8E4M3FNUZ),
    (DataType::Float8e5m2, DType::F8E5M2),
    (DataType::Float8e5m2fnuz, DType::F8E5M2FNUZ),
    (DataType::Float8e8m0, DType::F8E8M0FNU),
    (DataType::Float4e2m1, DType::F4E2M1FN),
    (DataType::String, DType::Str),
];

/// Reads a tensor; `files` resolves external data.
///
/// # Errors
/// The dtype is not supported, or shape, dtype and data do not fit together.
pub fn read_tensor(proto: &TensorProto, files: &ExternalFiles) -> Result<Tensor, StoredTensorError> {
    if proto.segment.is_some() {
        return Err(StoredTensorError::Segmented);
    }
    let dtype = dtype_from_code(proto.data_type.unwrap_or(0))?;
    let shape = read_dims(&proto.dims)?;
    let too_large = || optc_tensor::TensorError::TooLarge(shape.clone());
    let count = element_count(&shape).ok_or_else(too_large)?;
    let size = dtype.bytes_for(count).ok_or_else(too_large)?;
    if dtype == DType::Str {
        return read_strings(proto, &shape);
    }
    let bytes = if proto.data_location == Some(DataLocation::External as i32) {
        files.read(&proto.external_data, size).map_err(|e| StoredTensorError::External(e.to_string()))?
    } else if let Some(raw) = &proto.raw_data {
        raw.clone()
    } else {
        Bytes::from(typed_bytes(proto, dtype, count)?)
    };
    let length = bytes.len();
    let buffer = Buffer::shared(Arc::new(bytes), 0, length).expect("the whole of an owner lies inside of it");
    let mut tensor = Tensor::from_buffer(dtype, &shape, buffer)?;
    if dtype == DType::Bool && tensor.bytes().iter().any(|&b| b > 1) {
        tensor.bytes_mut()?.iter_mut().for_each(|b| *b = (*b != 0) as u8);
    }
    Ok(tensor)
}

/// Reads a sparse initializer as a dense tensor.
///
/// # Errors
/// As [`read_tensor`]; also an index out of range, or no memory for the dense form.
pub fn read_sparse(proto: &SparseTensorProto, files: &ExternalFiles) -> Result<Tensor, StoredTensorError> {
    let values = read_tensor(proto.values.as_ref().ok_or(StoredTensorError::Sparse("`values` is missing"))?, files)?;
    let indices = read_tensor(proto.indices.as_ref().ok_or(StoredTensorError::Sparse("`indices` is missing"))?, files)?;
    let shape = read_dims(&proto.dims)?;
    let rank = shape.len();
    if values.rank() != 1 || values.dtype().bits() < 8 || indices.dtype() != DType::I64 {
        return Err(StoredTensorError::Sparse("`values` must be a vector of whole bytes and `indices` i64"));
    }
    let linear = indices.shape() == [values.len()];
    if !linear && indices.shape() != [values.len(), rank] {
        return Err(StoredTensorError::Sparse(
            "`indices` must have one entry, or one row of `rank` entries, for each value",
        ));
    }
    let mut dense = Tensor::zeros(values.dtype(), &shape)?;
    let count = dense.len();
    let width = values.dtype().bits() / 8;
    let rows = indices.to_i64_vec();
    for (n, value) in values.bytes().chunks_exact(width).enumerate() {
        let at = if linear { in_range(rows[n], count)? } else { row_offset(&rows[n * rank..][..rank], &shape)? };
        dense.bytes_mut()?[at * width..][..width].copy_from_slice(value);
    }
    Ok(dense)
}

fn in_range(index: i64, extent: usize) -> Result<usize, StoredTensorError> {
    usize::try_from(index).ok().filter(|&i| i < extent).ok_or(StoredTensorError::SparseIndex(index))
}

fn row_offset(row: &[i64], shape: &[usize]) -> Result<usize, StoredTensorError> {
    row.iter().zip(shape).try_fold(0, |at, (&i, &d)| Ok(at * d + in_range(i, d)?))
}

pub(crate) fn read_dims(dims: &[i64]) -> Result<Vec<usize>, StoredTensorError> {
    dims.iter().map(|&d| usize::try_from(d).map_err(|_| StoredTensorError::NegativeDim(d))).collect()
}

fn read_strings(proto: &TensorProto, shape: &[usize]) -> Result<Tensor, StoredTensorError> {
    let strings =
        proto.string_data.iter().map(|s| String::from_utf8(s.to_vec()).map_err(|_| StoredTensorError::NotUtf8));
    Ok(Tensor::from_strings(shape, strings.collect::<Result<_, _>>()?)?)
}

/// The elements of a typed field, packed as in `raw_data`.
fn typed_bytes(proto: &TensorProto, dtype: DType, count: usize) -> Result<Vec<u8>, StoredTensorError> {
    let check = |field, expected, found| match expected == found {
        true => Ok(()),
        false => Err(StoredTensorError::Count { field, expected, found }),
    };
    match dtype {
        DType::F32 => {
            check("float_data", count, proto.float_data.len())?;
            Ok(proto.float_data.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        DType::F64 => {
            check("double_data", count, proto.double_data.len())?;
            Ok(proto.double_data.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        DType::I64 => {
            check("int64_data", count, proto.int64_data.len())?;
            Ok(proto.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        DType::U64 | DType::U32 => {
            check("uint64_data", count, proto.uint64_data.len())?;
            let width = dtype.bits() / 8;
            Ok(proto.uint64_data.iter().flat_map(|v| v.to_le_bytes().into_iter().take(width)).collect())
        }
        DType::I4 | DType::U4 | DType::F4E2M1FN | DType::I2 | DType::U2 => {
            check("int32_data", count.div_ceil(8 / dtype.bits()), proto.int32_data.len())?;
            Ok(proto.int32_data.iter().map(|v| v.to_le_bytes()[0]).collect())
        }
        DType::I32
        | DType::I16
        | DType::I8
        | DType::U16
        | DType::U8
        | DType::Bool
        | DType::F16
        | DType::BF16
        | DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F8E8M0FNU => {
            check("int32_data", count, proto.int32_data.len())?;
            let width = dtype.bits() / 8;
            Ok(proto.int32_data.iter().flat_map(|v| v.to_le_bytes().into_iter().take(width)).collect())
        }
        DType::Str => Ok(Vec::new()),
    }
}

/// Stores a tensor in `raw_data` (strings in `string_data`).
pub fn write_tensor(name: &str, tensor: &Tensor) -> TensorProto {
    let strings = tensor.strings().unwrap_or_default();
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(code_of_dtype(tensor.dtype())),
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        raw_data: (tensor.dtype() != DType::Str).then(|| raw(tensor)),
        string_data: strings.iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect(),
        ..TensorProto::default()
    }
}

/// The bytes of a tensor. Those of a large one are not copied: a clone of it shares them.
fn raw(tensor: &Tensor) -> Bytes {
    struct Held(Tensor);
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            self.0.bytes()
        }
    }
    match tensor.bytes().len() {
        ..4096 => Bytes::copy_from_slice(tensor.bytes()),
        _ => Bytes::from_owner(Held(tensor.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(p: &TensorProto) -> Result<Tensor, StoredTensorError> {
        read_tensor(p, &ExternalFiles::none())
    }

    fn proto(code: DataType, dims: &[i64]) -> TensorProto {
        TensorProto { data_type: Some(code as i32), dims: dims.to_vec(), ..TensorProto::default() }
    }

    #[test]
    fn every_dtype_round_trips_through_raw_data() {
        for &(_, dtype) in DTYPES {
            let t = if dtype == DType::Str {
                Tensor::from_strings(&[2], vec!["a".to_owned(), "é".to_owned()]).unwrap()
            } else {
                Tensor::from_i64(dtype, &[3], &[1, 0, 1]).unwrap()
            };
            assert_eq!(read(&write_tensor("t", &t)).unwrap(), t, "{dtype}");
        }
    }

    #[test]
    fn narrow_types_come_in_int32_data() {
        let half = TensorProto { int32_data: vec![0x3c00, 0xc000], ..proto(DataType::Float16, &[2]) };
        assert_eq!(read(&half).unwrap().to_f64_vec(), [1.0, -2.0]);
        let nibbles = TensorProto { int32_data: vec![0x78, 0x0f], ..proto(DataType::Int4, &[3]) };
        assert_eq!(read(&nibbles).unwrap().to_i64_vec(), [-8, 7, -1]);
        let quarters = TensorProto { int32_data: vec![0b0011_0110, 0b11], ..proto(DataType::Int2, &[5]) };
        assert_eq!(read(&quarters).unwrap().to_i64_vec(), [-2, 1, -1, 0, -1]);
        let codes = TensorProto { int32_data: vec![0x7e, 0x80], ..proto(DataType::Float8e4m3fn, &[2]) };
        assert_eq!(read(&codes).unwrap().bytes(), [0x7e, 0x80]);
        let nibbles = TensorProto { int32_data: vec![0x1f, 0x07], ..proto(DataType::Float4e2m1, &[3]) };
        assert_eq!(read(&nibbles).unwrap().to_f64_vec(), [-6.0, 0.5, 6.0]);
        let words = TensorProto { uint64_data: vec![7], ..proto(DataType::Uint32, &[]) };
        assert_eq!(read(&words).unwrap().to_i64_vec(), [7]);
    }

    #[test]
    fn sizes_are_checked_before_memory_is_taken() {
        let huge = proto(DataType::Float, &[1 << 40, 1 << 40]);
        assert!(matches!(read(&huge), Err(StoredTensorError::Shape(_))));
        let empty = proto(DataType::Float, &[1 << 40]);
        assert!(matches!(read(&empty), Err(StoredTensorError::Count { .. })));
        let short = TensorProto { raw_data: Some(Bytes::from_static(&[0; 7])), ..proto(DataType::Float, &[2]) };
        assert!(matches!(read(&short), Err(StoredTensorError::Shape(_))));
        assert_eq!(read(&proto(DataType::Float, &[-1])), Err(StoredTensorError::NegativeDim(-1)));
    }

    #[test]
    fn missing_dtypes_are_named() {
        assert_eq!(read(&proto(DataType::Complex64, &[])), Err(StoredTensorError::Unsupported("COMPLEX64")));
        assert_eq!(dtype_from_code(99), Err(StoredTensorError::UnknownCode(99)));
        assert_eq!(dtype_from_code(0), Err(StoredTensorError::UnknownCode(0)));
    }

    #[test]
    fn sparse_tensors_become_dense() {
        let values = write_tensor("v", &Tensor::from_slice(&[2], &[5f32, 6.0]).unwrap());
        let linear = write_tensor("i", &Tensor::from_slice(&[2], &[1i64, 3]).unwrap());
        let mut s = SparseTensorProto { values: Some(values), indices: Some(linear), dims: vec![2, 2] };
        let none = ExternalFiles::none();
        assert_eq!(read_sparse(&s, &none).unwrap().to_f64_vec(), [0.0, 5.0, 0.0, 6.0]);
        s.indices = Some(write_tensor("i", &Tensor::from_slice(&[2, 2], &[0i64, 1, 1, 1]).unwrap()));
        assert_eq!(read_sparse(&s, &none).unwrap().to_f64_vec(), [0.0, 5.0, 0.0, 6.0]);
        s.indices = Some(write_tensor("i", &Tensor::from_slice(&[2], &[1i64, 4]).unwrap()));
        assert_eq!(read_sparse(&s, &none), Err(StoredTensorError::SparseIndex(4)));
        s.dims = vec![1 << 20, 1 << 20];
        assert!(read_sparse(&s, &none).is_err());
    }
}
