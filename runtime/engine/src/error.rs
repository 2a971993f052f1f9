//! Why a run failed.

use optc_tensor::{Bytes, OutOfMemory, OutOfTime, TensorError};
use optc_types::{GraphError, OpError, Type};

/// Why a plan could not be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The wrong number of inputs.
    #[error("the model takes {expected} inputs, found {found}")]
    InputCount {
        /// How many the model has.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// There is no input of this name.
    #[error("the model has no input `{name}`; it has {known}")]
    UnknownInput {
        /// The name that was given.
        name: String,
        /// The names that the model has.
        known: String,
    },
    /// An input was not given.
    #[error("input `{0}` is missing")]
    MissingInput(String),
    /// An input is of another type than the model's.
    #[error("input `{name}` is {found}, expected {expected}")]
    InputType {
        /// The input's name.
        name: String,
        /// The type of the value.
        found: Type,
        /// The type that the model declares.
        expected: Type,
    },
    /// An op refused its operands.
    #[error("`{op}` at {loc}: {error}")]
    Op {
        /// The op's name.
        op: String,
        /// The ONNX nodes that it came from.
        loc: String,
        /// What is wrong.
        error: Box<OpError>,
    },
    /// Memory for the arena, an output or a host step could not be obtained.
    #[error(transparent)]
    Memory(#[from] TensorError),
    /// The intermediate values do not fit into memory.
    #[error("intermediate values, of which {bytes} at `{loc}` are the largest: {error}")]
    Arena {
        /// The ONNX nodes that the largest one came from.
        loc: String,
        /// What the largest one takes.
        bytes: Bytes,
        /// What all take, and what there is.
        error: OutOfMemory,
    },
    /// The time for the run is over.
    #[error(transparent)]
    Time(#[from] OutOfTime),
    /// A plan for these shapes could not be made.
    #[error("{0}")]
    Specialize(String),
}

impl RunError {
    /// The failed run of a region, as the op that has the region tells of it.
    pub fn inside(self) -> OpError {
        match self {
            RunError::Op { op, loc, error } => OpError::Region(Box::new(GraphError { op, loc, error: *error })),
            RunError::Time(e) => e.into(),
            RunError::Memory(e) => e.into(),
            other => OpError::Constraint { constraint: "region", reason: other.to_string() },
        }
    }
}
