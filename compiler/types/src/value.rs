//! Run-time values: what the interpreter computes with.

use optc_tensor::Tensor;

use crate::{TensorType, Type};

/// A tensor, a sequence or an optional.
#[derive(Debug, Clone, PartialEq)]
pub enum Val {
    /// A tensor.
    Tensor(Tensor),
    /// A sequence; the type is that of its elements.
    Seq(Type, Vec<Val>),
    /// An optional; the type is that of its content.
    Opt(Type, Option<Box<Val>>),
}

impl Val {
    /// The tensor, where it is one.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        if let Val::Tensor(t) = self { Some(t) } else { None }
    }

    /// The value's type.
    pub fn ty(&self) -> Type {
        match self {
            Val::Tensor(t) => TensorType::fixed(t.dtype(), t.shape()).into(),
            Val::Seq(t, _) => Type::Sequence(Box::new(t.clone())),
            Val::Opt(t, _) => Type::Optional(Box::new(t.clone())),
        }
    }
}

impl From<Tensor> for Val {
    fn from(t: Tensor) -> Val {
        Val::Tensor(t)
    }
}
