//! The mappings: one function for each ONNX op, found by domain and name.
//!
//! To add an op: write `fn name(cx: &mut NodeCx) -> Mapped` in the file of its group: take every attribute with a typed
//! getter of `cx.attrs` (what nobody takes is refused), take inputs with `cx.input(i)` or `cx.optional(i)`, look at
//! `cx.opset` where versions differ, add IR ops with `cx.emit(op, &operands)`, and return the results in the order of
//! the ONNX outputs. Then add its row to the group's `TABLE`. Nothing else knows the list of ops.

mod activation;
mod arg;
mod attention;
mod binary;
mod bits;
mod cast;
mod choose;
mod constant;
pub(crate) mod contrib;
mod conv;
mod cumulate;
pub(crate) mod custom;
mod einsum;
mod fourier;
mod gather;
mod gemm;
mod generate;
mod linalg;
mod loss;
mod matmul;
mod ml;
mod norm;
mod pad;
mod pick;
mod pool;
mod quant;
mod random;
mod rearrange;
mod recurrent;
mod reduce;
mod resize;
mod scatter;
mod seq;
mod softmax;
mod spectrum;
mod tensor;
mod text;
mod training;
mod unary;
pub(crate) mod waiting;
mod window;

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

pub(crate) use cast::dtype_attribute;
pub(crate) use ml::{ZIP_MAP, onnx_tree_mode, onnx_tree_word};
use optc_ir::{Op, Value, same_name};
pub(crate) use recurrent::onnx_activation;
pub(crate) use text::{onnx_case, onnx_ngram_mode};

use crate::mapping::{MapError, NodeCx};

/// What a mapping returns: the node's results in order.
pub type Mapped = Result<Vec<Value>, MapError>;
/// A mapping of one ONNX op.
pub type Mapping = fn(&mut NodeCx) -> Mapped;
/// Rows of domain, op and mapping.
pub(crate) type Table = &'static [(&'static str, &'static str, Mapping)];

const TABLES: &[Table] = &[
    activation::TABLE,
    arg::TABLE,
    attention::TABLE,
    binary::TABLE,
    bits::TABLE,
    cast::TABLE,
    choose::TABLE,
    constant::TABLE,
    contrib::activation::TABLE,
    contrib::attention::TABLE,
    contrib::basic::TABLE,
    contrib::blocks::TABLE,
    contrib::bnb::TABLE,
    contrib::channels_last::TABLE,
    contrib::experts::TABLE,
    contrib::gated::TABLE,
    contrib::group_query::TABLE,
    contrib::norm::TABLE,
    contrib::product::TABLE,
    contrib::quant::TABLE,
    contrib::rotary::TABLE,
    conv::TABLE,
    cumulate::TABLE,
    einsum::TABLE,
    fourier::TABLE,
    gather::TABLE,
    gemm::TABLE,
    generate::TABLE,
    linalg::TABLE,
    loss::TABLE,
    matmul::TABLE,
    ml::TABLE,
    norm::TABLE,
    pad::TABLE,
    pick::TABLE,
    pool::TABLE,
    quant::TABLE,
    random::TABLE,
    rearrange::TABLE,
    recurrent::TABLE,
    reduce::TABLE,
    resize::TABLE,
    scatter::TABLE,
    seq::TABLE,
    softmax::TABLE,
    spectrum::TABLE,
    tensor::TABLE,
    text::TABLE,
    training::TABLE,
    unary::TABLE,
];

/// The mapping of an op, if it has one.
pub fn find(domain: &str, op: &str) -> Option<Mapping> {
    // A look into all tables one after the other took half of the import of a model of small nodes.
    static FOUND: LazyLock<HashMap<(&str, &str), Mapping>> = LazyLock::new(|| {
        TABLES.iter().copied().flatten().map(|&(domain, op, mapping)| ((domain, op), mapping)).collect()
    });
    FOUND.get(&(domain, op)).copied()
}

/// The names of the standard's ops.
pub(crate) fn standard() -> impl Iterator<Item = &'static str> {
    TABLES.iter().copied().flatten().filter(|(domain, ..)| domain.is_empty()).map(|(_, op, _)| *op)
}

/// Why an op that somebody has is not imported, if it is known to be refused.
pub(crate) fn refusal(domain: &str, op: &str) -> Option<&'static str> {
    let (reason, _) = contrib::refused::REFUSED.iter().find(|(_, ops)| ops.contains(&op))?;
    (domain == contrib::MICROSOFT).then_some(reason)
}

/// The ops of ONNX Runtime's domain `com.microsoft`, by name, with the reason for those that are refused.
pub fn onnxruntime_ops() -> BTreeMap<&'static str, Option<&'static str>> {
    let imported = TABLES.iter().copied().flatten().filter(|(domain, ..)| *domain == contrib::MICROSOFT);
    let refused =
        contrib::refused::REFUSED.iter().flat_map(|&(reason, ops)| ops.iter().map(move |&op| (op, Some(reason))));
    refused.chain(imported.map(|&(_, op, _)| (op, None))).collect()
}

/// Whether an op of this name has a mapping, for the compiler: see `spelled!` of the exporter.
pub(crate) const fn imports(op: &str) -> bool {
    let mut table = 0;
    while table < TABLES.len() {
        let mut row = 0;
        while row < TABLES[table].len() {
            if same_name(TABLES[table][row].1, op) {
                return true;
            }
            row += 1;
        }
        table += 1;
    }
    false
}

/// Ops of the standard whose meaning changed, or the way in which they are written, before operator set 7, with the set
/// since which they are what mappings take them for. All others are the same, or differ in attributes that are refused.
const CHANGED_EARLY: &[(&str, i64)] = &[
    ("BatchNormalization", 7),
    ("Cast", 6),
    ("Concat", 4),
    ("Dropout", 7),
    ("PRelu", 7),
    ("Pad", 2),
    ("Reshape", 5),
    ("Selu", 6),
    ("Split", 2),
    ("Tile", 6),
    ("Upsample", 7),
];

/// The oldest operator set of the standard in which an op is what its mapping takes it for.
pub(crate) fn known_since(op: &str) -> i64 {
    CHANGED_EARLY.iter().find(|(name, _)| *name == op).map_or(1, |&(_, since)| since)
}

/// How many outputs the standard gives an op that a mapping need not give: nothing reads them outside of training.
pub(crate) fn outputs(op: &str) -> usize {
    // Up to opset 13 the running and the saved mean and variance, from 14 on the running ones.
    if op == "BatchNormalization" { 5 } else { 0 }
}

/// The rank of a tensor value, which must be known.
fn rank_of(cx: &NodeCx, x: Value) -> Result<usize, MapError> {
    let rank = cx.ty(x).as_tensor().and_then(|t| t.rank());
    rank.ok_or_else(|| MapError::Open("the operand's rank is not known".to_owned()))
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
