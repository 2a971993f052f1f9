//! The mappings: one function for each ONNX op, found by domain and name.
//!
//! To add an op: write `fn name(cx: &mut NodeCx) -> Mapped` in the file of its group: take every attribute with a typed
//! getter of `cx.attrs` (what nobody takes is refused), take inputs with `cx.input(i)` or `cx.optional(i)`, look at
//! `cx.opset` where versions differ, add IR ops with `cx.emit(op, &operands)`, and return the results in the order of
//! the ONNX outputs. Then add its row to the group's `TABLE`. Nothing else knows the list of ops.

mod attention;
mod conv;
mod linear;
mod loss;
mod math;
mod ml;
mod nn;
mod norm;
mod pool;
mod quant;
mod recurrent;
mod resize;
mod seq;
mod softmax;
mod tensor;
mod text;
mod training;
mod window;

use optc_ir::Value;

use crate::import::{MapError, NodeCx};

/// What a mapping returns: the node's results in order.
pub type Mapped = Result<Vec<Value>, MapError>;
/// A mapping of one ONNX op.
pub type Mapping = fn(&mut NodeCx) -> Mapped;
/// Rows of domain, op and mapping.
pub(crate) type Table = &'static [(&'static str, &'static str, Mapping)];

const TABLES: &[Table] = &[
    attention::TABLE,
    conv::TABLE,
    linear::TABLE,
    loss::TABLE,
    math::TABLE,
    ml::TABLE,
    nn::TABLE,
    norm::TABLE,
    pool::TABLE,
    quant::TABLE,
    recurrent::TABLE,
    seq::TABLE,
    resize::TABLE,
    softmax::TABLE,
    tensor::TABLE,
    text::TABLE,
    training::TABLE,
];

/// The mapping of an op, if it has one.
pub fn find(domain: &str, op: &str) -> Option<Mapping> {
    TABLES.iter().copied().flatten().find(|(d, o, _)| *d == domain && *o == op).map(|&(_, _, mapping)| mapping)
}

/// The rank of a tensor value, which must be known.
fn rank_of(cx: &NodeCx, x: Value) -> Result<usize, MapError> {
    let rank = cx.ty(x).as_tensor().and_then(|t| t.rank());
    rank.ok_or_else(|| MapError::Unsupported("the operand's rank is not known".to_owned()))
}
