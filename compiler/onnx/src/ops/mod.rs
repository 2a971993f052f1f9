//! The mappings: one function for each ONNX op, found by domain and name.
//!
//! To add an op: write `fn name(cx: &mut NodeCx) -> Mapped` in the file of its group: take every attribute with a typed
//! getter of `cx.attrs` (what nobody takes is refused), take inputs with `cx.input(i)` or `cx.optional(i)`, look at
//! `cx.opset` where versions differ, add IR ops with `cx.emit(op, &operands)`, and return the results in the order of
//! the ONNX outputs. Then add its row to the group's `TABLE`. Nothing else knows the list of ops.

mod activation;
mod attention;
mod binary;
mod bits;
mod cast;
mod choose;
mod constant;
mod conv;
mod gemm;
mod loss;
mod matmul;
mod ml;
mod norm;
mod pad;
mod pool;
mod quant;
mod recurrent;
mod reduce;
mod resize;
mod seq;
mod softmax;
mod tensor;
mod text;
mod training;
mod unary;
mod window;

use optc_ir::{Op, Value};

use crate::import::{MapError, NodeCx};

/// What a mapping returns: the node's results in order.
pub type Mapped = Result<Vec<Value>, MapError>;
/// A mapping of one ONNX op.
pub type Mapping = fn(&mut NodeCx) -> Mapped;
/// Rows of domain, op and mapping.
pub(crate) type Table = &'static [(&'static str, &'static str, Mapping)];

const TABLES: &[Table] = &[
    activation::TABLE,
    attention::TABLE,
    binary::TABLE,
    bits::TABLE,
    cast::TABLE,
    choose::TABLE,
    constant::TABLE,
    conv::TABLE,
    gemm::TABLE,
    loss::TABLE,
    matmul::TABLE,
    ml::TABLE,
    norm::TABLE,
    pad::TABLE,
    pool::TABLE,
    quant::TABLE,
    recurrent::TABLE,
    reduce::TABLE,
    resize::TABLE,
    seq::TABLE,
    softmax::TABLE,
    tensor::TABLE,
    text::TABLE,
    training::TABLE,
    unary::TABLE,
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

/// The op on the node's first `arity` inputs, of which a node may not have more.
fn direct(cx: &mut NodeCx, op: impl Into<Op>, arity: usize) -> Mapped {
    if cx.inputs.len() > arity {
        return Err(MapError::Invalid(format!("the node has {} inputs, expected {arity}", cx.inputs.len())));
    }
    let operands = (0..arity).map(|i| cx.input(i)).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![cx.emit1(op, &operands)?])
}

/// A row for an op that maps to one IR op without attributes.
macro_rules! plain {
    ($onnx:literal, $Op:ident, $arity:literal) => {
        ("", $onnx, |cx| crate::ops::direct(cx, optc_ir::ops::math::$Op {}, $arity))
    };
}
use plain;
