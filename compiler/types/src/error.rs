//! What can be wrong with an op or a graph.

use optc_tensor::{DType, OutOfTime, TensorError};

/// Why an op refuses its operands or attributes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// A numbered constraint of the op does not hold.
    #[error("{reason} ({constraint})")]
    Constraint {
        /// The constraint's number in the op's documentation.
        constraint: &'static str,
        /// What was found and what was expected.
        reason: String,
    },
    /// The wrong number of operands.
    #[error("`{op}` takes {expected} operands, found {found}")]
    Arity {
        /// The op's name.
        op: &'static str,
        /// How many it takes.
        expected: String,
        /// How many were given.
        found: usize,
    },
    /// A required operand is absent or not a tensor.
    #[error("operand {slot} is absent or not a tensor")]
    Operand {
        /// The operand's position.
        slot: usize,
    },
    /// A dtype for which the op is not defined here.
    #[error("`{op}` is not defined on {dtype} here")]
    DType {
        /// The op's name.
        op: &'static str,
        /// The dtype that was given.
        dtype: DType,
    },
    /// A region of the op failed.
    #[error("in its region: {0}")]
    Region(Box<GraphError>),
    /// A tensor could not be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The time for it is over.
    #[error(transparent)]
    Time(#[from] OutOfTime),
    /// An attribute is missing, unknown or of another kind.
    #[error("attribute `{name}`: {reason}")]
    Attribute {
        /// The attribute's name.
        name: String,
        /// What was found and what was expected.
        reason: String,
    },
}

impl OpError {
    /// The same error under the number that another op's documentation gives the constraint: for rules that several ops
    /// share, and for ops that are made of others. What is not a constraint stays as it is.
    pub fn numbered(self, constraint: &'static str) -> OpError {
        match self {
            OpError::Constraint { reason, .. } => OpError::Constraint { constraint, reason },
            other => other,
        }
    }
}

/// An [`OpError`] and the place where it arose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{op}` at {loc}: {error}")]
pub struct GraphError {
    /// The op's name.
    pub op: String,
    /// The ONNX nodes that the op came from, or its number in the text form.
    pub loc: String,
    /// What is wrong.
    pub error: OpError,
}
