//! Which ops an expression in a kernel can compute, and which ops such an expression can follow.

use optc_ir::{Graph, NodeId, Op, Value};
use optc_tensor::DType;

use crate::matching::{dtype, result};

/// How an op takes part in an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// `f32` operands, `f32` result.
    Float,
    /// `f32` operands, a mask that only ops in the expression read.
    Compare,
    /// A mask from the expression, `f32` operands and result.
    Select,
    /// An integer or a mask becomes `f32`.
    Convert,
}

/// The part that an op can take; `None` for ops that are not elementwise or have no kernel as such. Lowering follows this list.
fn class(op: &Op) -> Option<Class> {
    match op {
        Op::Abs(_)
        | Op::Neg(_)
        | Op::Exp(_)
        | Op::Log(_)
        | Op::Sqrt(_)
        | Op::Reciprocal(_)
        | Op::Erf(_)
        | Op::Tanh(_) => Some(Class::Float),
        Op::Sigmoid(_) | Op::Relu(_) | Op::Floor(_) | Op::Ceil(_) | Op::Round(_) | Op::Sin(_) | Op::Cos(_) => {
            Some(Class::Float)
        }
        Op::Softplus(_) | Op::Softsign(_) | Op::HardSwish(_) | Op::Mish(_) | Op::LeakyRelu(_) | Op::Elu(_) => {
            Some(Class::Float)
        }
        Op::HardSigmoid(_) | Op::Sign(_) | Op::Clip(_) => Some(Class::Float),
        Op::Add(_) | Op::Sub(_) | Op::Mul(_) | Op::Div(_) | Op::Min(_) | Op::Max(_) => Some(Class::Float),
        Op::Equal(_) | Op::Less(_) | Op::Greater(_) | Op::LessEqual(_) | Op::GreaterEqual(_) => Some(Class::Compare),
        Op::Where(_) => Some(Class::Select),
        Op::Cast(_) => Some(Class::Convert),
        _ => None,
    }
}

/// Whether the op computes each element of its result from one element of each operand.
pub(crate) fn is_elementwise(op: &Op) -> bool {
    class(op).is_some()
}

/// The class of a node whose dtypes fit it.
pub(crate) fn class_of(g: &Graph, id: NodeId) -> Option<Class> {
    let node = g.node(id);
    let class = class(&node.op)?;
    let operand = |v: &Value| dtype(g, *v);
    let floats = |values: &[Option<Value>]| values.iter().flatten().all(|v| operand(v) == Some(DType::F32));
    let fits = match class {
        Class::Float | Class::Compare => floats(&node.operands),
        Class::Select => floats(&node.operands[1..]),
        Class::Convert => {
            let from = operand(node.operands.first()?.as_ref()?)?;
            matches!(from, DType::I64 | DType::I32 | DType::U8 | DType::Bool)
        }
    };
    let gives = if class == Class::Compare { DType::Bool } else { DType::F32 };
    (fits && dtype(g, result(id)) == Some(gives)).then_some(class)
}

/// Whether a kernel computes the op and can apply an expression to each element of its result.
pub(crate) fn is_anchor(g: &Graph, id: NodeId) -> bool {
    let node = g.node(id);
    let op = matches!(
        &node.op,
        Op::Conv(_) | Op::Pool(_) | Op::MatMul(_) | Op::Gemm(_) | Op::Reduce(_) | Op::Softmax(_) | Op::LayerNorm(_)
    );
    let floats = node.operands.iter().flatten().all(|v| dtype(g, *v) == Some(DType::F32));
    op && floats && node.results.len() == 1 && dtype(g, result(id)) == Some(DType::F32)
}
