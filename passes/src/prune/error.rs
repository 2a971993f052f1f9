//! Why a graph is not pruned.

use optc_ir::{GraphError, OpError, Type};
use optc_tensor::TensorError;
use optc_types::quoted;

/// Why a graph was not pruned.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PruneError {
    /// A share is out of range.
    #[error("a sparsity of {0} is out of range: it is 0 or more, and below 1")]
    Sparsity(f64),
    /// A share is given for what is not there.
    #[error("there is no layer of `{name}` to be pruned; the layers are {}", quoted(.known))]
    NoLayer {
        /// What it is given for.
        name: String,
        /// The layers that exist.
        known: Vec<String>,
    },
    /// A weight is not a number.
    #[error("the weights of `{layer}` hold a value that is not finite")]
    NotFinite {
        /// The layer.
        layer: String,
    },
    /// Two layers read the same weights.
    #[error("`{layer}` and `{other}` share their weights: spare one with `--layer NAME=0`, or give each its own")]
    Shared {
        /// A layer that is to be pruned.
        layer: String,
        /// Another one with the same weights.
        other: String,
    },
}

/// Why a graph was not pruned with samples; `E` is the error of what runs it.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError<E: std::error::Error + 'static> {
    /// It cannot be pruned without them either.
    #[error(transparent)]
    Prune(#[from] PruneError),
    /// The samples do not fit the model.
    #[error("calibration: {0}")]
    Samples(#[from] SampleError),
    /// A segment that begins at a layer could not be run, or the layer not be fitted.
    #[error("running `{layer}` on the calibration samples: {error}")]
    Layer {
        /// The ONNX node.
        layer: String,
        /// What went wrong.
        error: Box<LayerError<E>>,
    },
}

/// Samples that do not fit a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// There are none.
    #[error("there are no samples")]
    None,
    /// They have another type than an input.
    #[error("a sample for `{input}` is {found}, expected {expected}")]
    Type {
        /// The input.
        input: String,
        /// Their type.
        found: Type,
        /// The input's.
        expected: Type,
    },
    /// An input is not a tensor.
    #[error("`{input}` is not a tensor")]
    NoTensor {
        /// The input.
        input: String,
    },
    /// A batch has no elements.
    #[error("the samples for `{input}` are empty: {found}")]
    Empty {
        /// The input.
        input: String,
        /// The batch's type.
        found: Type,
    },
    /// A value is not a number.
    #[error("a sample for `{input}` holds a value that is not finite")]
    NotFinite {
        /// The input.
        input: String,
    },
    /// A batch does not have one value for each input.
    #[error("a sample has {found} values, the model {expected} inputs")]
    Count {
        /// Values of the batch.
        found: usize,
        /// Inputs of the model.
        expected: usize,
    },
}

/// Why a layer could not be run on samples, or be fitted to them.
#[derive(Debug, thiserror::Error)]
pub enum LayerError<E: std::error::Error + 'static> {
    /// It does not run.
    #[error(transparent)]
    Evaluate(E),
    /// A product of matrices is refused.
    #[error(transparent)]
    Op(#[from] OpError),
    /// An op of a segment refuses its operands.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Its least-squares problem cannot be written down.
    #[error(transparent)]
    Rows(#[from] RowError),
    /// An operand was not computed.
    #[error("an operand was not computed")]
    NotComputed,
    /// What is multiplied by weights is a constant itself.
    #[error("its operand is a constant")]
    ConstantOperand,
    /// A product of two matrices is not a tensor.
    #[error("a product gave no tensor")]
    NoProduct,
}

/// Why the rows of a least-squares problem cannot be sampled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A tensor is not of floats, or too large.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// An operand does not have the layer's shape.
    #[error("an operand has another shape")]
    Shape,
    /// The weights are not constant.
    #[error("its weights are not constant")]
    Weights,
    /// There are no places in what the layer gave.
    #[error("there is nothing to be sampled")]
    Nothing,
}
