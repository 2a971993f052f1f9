//! `TypeProto` → [`Type`], and back.

use optc_ir::{Dim, TensorType, Type};

use crate::proto::tensor_shape_proto::dimension::Value as DimValue;
use crate::proto::{TensorShapeProto, TypeProto, tensor_shape_proto, type_proto};
use crate::tensor::{StoredTensorError, code_of_dtype, dtype_from_code};

/// The deepest nesting of sequence and optional types that is read.
const MAX_DEPTH: usize = 16;

/// Reads a declared type. A negative extent, which some exporters write for *any*, and an absent one are unknown.
///
/// # Errors
/// The type is not there, or is one that optc lacks.
pub fn read_type(proto: &TypeProto) -> Result<Type, StoredTensorError> {
    read_at(proto, 0)
}

fn read_at(proto: &TypeProto, depth: usize) -> Result<Type, StoredTensorError> {
    use type_proto::Value;
    let nested = |inner: Option<&TypeProto>| match inner {
        Some(t) if depth < MAX_DEPTH => read_at(t, depth + 1).map(Box::new),
        _ => Err(StoredTensorError::Unsupported("a type without an element type")),
    };
    match &proto.value {
        Some(Value::TensorType(t)) => {
            let dtype = dtype_from_code(t.elem_type())?;
            let shape = t.shape.as_ref().map(|s| s.dim.iter().map(|d| read_dim(d.value.as_ref())).collect());
            Ok(TensorType::of(dtype, shape).into())
        }
        Some(Value::SequenceType(s)) => Ok(Type::Sequence(nested(s.elem_type.as_deref())?)),
        Some(Value::OptionalType(o)) => Ok(Type::Optional(nested(o.elem_type.as_deref())?)),
        Some(Value::MapType(_)) => Err(StoredTensorError::Unsupported("map")),
        Some(Value::SparseTensorType(_)) => Err(StoredTensorError::Unsupported("sparse tensor")),
        Some(Value::OpaqueType(_)) => Err(StoredTensorError::Unsupported("opaque")),
        None => Err(StoredTensorError::Unsupported("undeclared type")),
    }
}

fn read_dim(value: Option<&DimValue>) -> Dim {
    match value {
        Some(DimValue::DimValue(n)) => usize::try_from(*n).map_or(Dim::Unknown, Dim::Known),
        // Exporters write `?` for every open extent; it is not a name that makes them equal.
        Some(DimValue::DimParam(name)) if !name.is_empty() && name != "?" => Dim::Named(name.as_str().into()),
        _ => Dim::Unknown,
    }
}

/// Declares a type.
pub fn write_type(ty: &Type) -> TypeProto {
    use type_proto::{Optional, Sequence, Tensor, Value};
    let value = match ty {
        Type::Tensor(t) => Value::TensorType(Tensor {
            elem_type: Some(code_of_dtype(t.dtype)),
            shape: t.shape.as_ref().map(|dims| TensorShapeProto { dim: dims.iter().map(write_dim).collect() }),
        }),
        Type::Sequence(t) => Value::SequenceType(Box::new(Sequence { elem_type: Some(Box::new(write_type(t))) })),
        Type::Optional(t) => Value::OptionalType(Box::new(Optional { elem_type: Some(Box::new(write_type(t))) })),
    };
    TypeProto { value: Some(value), ..TypeProto::default() }
}

fn write_dim(dim: &Dim) -> tensor_shape_proto::Dimension {
    let value = match dim {
        Dim::Known(n) => Some(DimValue::DimValue(*n as i64)),
        Dim::Named(name) => Some(DimValue::DimParam(name.to_string())),
        Dim::Unknown => None,
    };
    tensor_shape_proto::Dimension { value, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_tensor::DType;

    #[test]
    fn types_round_trip() {
        let tensor: Type =
            TensorType::new(DType::F32, vec![Dim::Named("N".into()), Dim::Known(3), Dim::Unknown]).into();
        let unranked: Type = TensorType::unranked(DType::I64).into();
        for ty in [tensor.clone(), unranked, Type::Sequence(Box::new(Type::Optional(Box::new(tensor))))] {
            assert_eq!(read_type(&write_type(&ty)).unwrap(), ty);
        }
    }

    #[test]
    fn negative_extents_are_unknown() {
        assert_eq!(read_dim(Some(&DimValue::DimValue(-1))), Dim::Unknown);
        assert_eq!(read_dim(Some(&DimValue::DimParam(String::new()))), Dim::Unknown);
        assert_eq!(read_dim(Some(&DimValue::DimParam("?".to_owned()))), Dim::Unknown);
        assert!(read_type(&TypeProto::default()).is_err());
    }
}
