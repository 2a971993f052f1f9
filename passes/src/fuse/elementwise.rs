//! Which ops an expression in a kernel can compute, and which ops such an expression can follow.

use optc_ir::{Anchor, FusionRole, Graph, NodeId, Op, Value};
use optc_tensor::DType;

use crate::matching::{dtype, result};

/// The role of a node whose dtypes fit it.
pub(crate) fn role_of(g: &Graph, id: NodeId) -> Option<FusionRole> {
    let node = g.node(id);
    let role = node.op.facts().fusion?;
    if quantized(g, id) {
        return Some(FusionRole::Quantized);
    }
    let operand = |v: &Value| dtype(g, *v);
    let floats = |values: &[Option<Value>]| values.iter().flatten().all(|v| operand(v) == Some(DType::F32));
    let fits = match role {
        FusionRole::Quantized => false,
        FusionRole::Float | FusionRole::Compare => floats(&node.operands),
        FusionRole::Select => floats(&node.operands[1..]),
        FusionRole::Convert => {
            let from = operand(node.operands.first()?.as_ref()?)?;
            if from == DType::F32 && matches!(dtype(g, result(id)), Some(DType::BF16 | DType::F16)) {
                return Some(role);
            }
            matches!(from, DType::I64 | DType::I32 | DType::U8 | DType::Bool | DType::BF16 | DType::F16)
        }
    };
    let gives = if role == FusionRole::Compare { DType::Bool } else { DType::F32 };
    (fits && dtype(g, result(id)) == Some(gives)).then_some(role)
}

/// Whether kernels compute an op of integers: a change between reals and integers of 8 or 16 bits with one scale (any
/// that broadcasts, from sums), an addition to a sum, an extremum of bytes.
fn quantized(g: &Graph, id: NodeId) -> bool {
    let node = g.node(id);
    let operand = |slot: usize| g.operand(id, slot).and_then(|v| dtype(g, v));
    let byte = |d: Option<DType>| matches!(d, Some(DType::U8 | DType::I8));
    let narrow = |d: Option<DType>| byte(d) || matches!(d, Some(DType::U16 | DType::I16));
    let one = |slot: usize| g.operand(id, slot).is_none_or(|v| g.constant(v).is_some_and(|t| t.len() == 1));
    let gives = dtype(g, result(id));
    match &node.op {
        Op::Quantize(op) => {
            op.block == 0
                && matches!(op.precision, DType::F32 | DType::F16 | DType::BF16)
                && operand(0) == Some(DType::F32)
                && operand(1) == Some(DType::F32)
                && narrow(gives)
                && one(1)
                && one(2)
        }
        Op::Dequantize(op) => op.block == 0 && narrow(operand(0)) && gives == Some(DType::F32) && one(1) && one(2),
        Op::FakeQuant(op) => op.low.len() <= 1,
        Op::Requantize(_) => byte(gives) && one(2),
        Op::Add(_) => operand(0) == Some(DType::I32) && gives == Some(DType::I32),
        Op::Min(_) | Op::Max(_) => byte(gives) && node.operands.len() == 2,
        Op::Cast(_) => operand(0) == Some(DType::I32) && gives == Some(DType::F32),
        _ => false,
    }
}

/// Whether a kernel computes the op and can apply an expression to each element of its result.
pub(crate) fn is_anchor(g: &Graph, id: NodeId) -> bool {
    let node = g.node(id);
    let Some(anchor) = node.op.facts().anchor else { return false };
    if anchor == Anchor::Integers {
        return true;
    }
    // The first factor of a product that rounds may be rounded already.
    let rounded = anchor == Anchor::Product;
    let fits =
        |(slot, d): (usize, Option<DType>)| d == Some(DType::F32) || rounded && slot == 0 && d == Some(DType::BF16);
    let operands = node.operands.iter().enumerate().filter_map(|(slot, v)| Some((slot, dtype(g, (*v)?))));
    operands.into_iter().all(fits) && node.results.len() == 1 && dtype(g, result(id)) == Some(DType::F32)
}
