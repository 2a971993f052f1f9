//! What became of each node: the contents of `optc explain`.

use optc_types::{Product, Reason, Type};

/// What became of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It only names bytes that are there already.
    View,
    /// It runs in these kernels.
    Kernel {
        /// Their names, in order.
        names: Vec<String>,
    },
    /// It is evaluated on the host.
    Host {
        /// Why no kernel takes it.
        reason: Reason,
    },
}

/// Dense or sparse, and the times that decided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The share of the weights that is zero.
    pub zeros: f64,
    /// Rows and columns of the blocks in which it is fastest.
    pub block: (usize, usize),
    /// Whether the sparse form was taken.
    pub sparse: bool,
    /// Nanoseconds of the dense form, estimated.
    pub dense_ns: f64,
    /// Nanoseconds of the sparse form, estimated; with the conversions around it that form may still lose.
    pub sparse_ns: f64,
}

/// Shares and times are never NaN.
impl Eq for Choice {}

/// A 3x3 convolution that is filtered (Winograd) instead of summed directly, and the times that decided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Filtered {
    /// Rows and columns of a tile of the result.
    pub outputs: usize,
    /// A bound of the error, relative to the largest result.
    pub error: f64,
    /// Nanoseconds of the direct sum, estimated.
    pub direct_ns: f64,
    /// Nanoseconds of the filtered form, estimated.
    pub filtered_ns: f64,
}

/// Bounds and times are never NaN.
impl Eq for Filtered {}

/// What became of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// The op, or for a fused one those in its region.
    pub ops: Vec<String>,
    /// The ONNX nodes.
    pub loc: Vec<String>,
    /// The types of its results.
    pub results: Vec<Type>,
    /// What became of it.
    pub decision: Decision,
    /// Dense or sparse, for weights with zeros.
    pub choice: Option<Choice>,
    /// How it is filtered, where it is a 3x3 convolution that is.
    pub filtered: Option<Filtered>,
    /// What the node multiplies, if it is a product.
    pub product: Option<Product>,
    /// Why a depthwise convolution is not one kernel with the product before it.
    pub apart: Option<String>,
    /// Why the fused region that it was in is not one kernel: the region's ops went their own ways.
    pub split: Option<String>,
}
