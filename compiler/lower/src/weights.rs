//! Operands of products before they are packed.

use optc_kernels::contract::PackB;
use optc_tensor::{DType, Tensor};

use super::scaled::ScaledRight;
use super::{Epilogue, TensorView};

/// `dst = epilogue(a · b)` over the last two dims, batches broadcast.
pub(super) struct MatrixProduct<'a> {
    pub a: TensorView,
    pub b: Right,
    pub dst: TensorView,
    pub epilogue: Epilogue,
    /// What the operands are rounded to.
    pub precision: DType,
    pub loc: &'a [String],
}

/// The right operand of a product, `[batches…, k, n]`.
pub(super) enum Right {
    /// Known at compile time: `k` and `n` with their strides, one after the other in `batches`.
    Constant { tensor: Tensor, batches: usize, pack: PackB },
    /// Known at compile time, stored as integers, one matrix for all batches.
    Scaled(ScaledRight),
    /// Computed.
    View(TensorView),
}

impl Right {
    /// Its `k` and `n`.
    pub fn extents(&self) -> (usize, usize) {
        match self {
            Right::Constant { pack, .. } => (pack.k, pack.n),
            Right::Scaled(scaled) => (scaled.k, scaled.n),
            Right::View(view) => (view.shape[view.shape.len() - 2], view.shape[view.shape.len() - 1]),
        }
    }

    /// Whether each batch has one of its own.
    pub fn is_own(&self) -> bool {
        match self {
            Right::Constant { batches, .. } => *batches != 1,
            Right::Scaled(_) => false,
            Right::View(view) => view.shape[..view.shape.len() - 2].iter().product::<usize>() != 1,
        }
    }
}

/// The weights of a convolution as ONNX has them.
pub(super) enum DenseFilters<'a> {
    Constant(Tensor),
    Part(FiltersPart<'a>),
    Computed(TensorView),
}

/// Weights that are some of a constant's elements.
pub(super) struct FiltersPart<'a> {
    /// The constant.
    pub of: &'a Tensor,
    /// Which elements, in words that say it all.
    pub which: String,
    /// Gives them.
    pub take: &'a dyn Fn() -> Vec<f32>,
}
