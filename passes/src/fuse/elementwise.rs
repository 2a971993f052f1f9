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
    /// An integer, a mask or a bfloat16 becomes `f32`.
    Convert,
    /// `f32` becomes bfloat16.
    Round,
    /// Between reals and 8-bit integers, or on the integers themselves.
    Quantized,
}

/// The part that an op can take; `None` for ops that are not elementwise or have no kernel as such. Lowering follows
/// this list. Every op is named, so that a new one is decided here. (A flat match.)
pub(crate) fn class(op: &Op) -> Option<Class> {
    match op {
        Op::Abs(_)
        | Op::Neg(_)
        | Op::Exp(_)
        | Op::Log(_)
        | Op::Sqrt(_)
        | Op::Reciprocal(_)
        | Op::Erf(_)
        | Op::Tanh(_)
        | Op::Tan(_)
        | Op::Sigmoid(_)
        | Op::Relu(_)
        | Op::Floor(_)
        | Op::Ceil(_)
        | Op::Round(_)
        | Op::Sin(_)
        | Op::Cos(_)
        | Op::Softplus(_)
        | Op::Softsign(_)
        | Op::HardSwish(_)
        | Op::Mish(_)
        | Op::Swish(_)
        | Op::LeakyRelu(_)
        | Op::ThresholdedRelu(_)
        | Op::Elu(_)
        | Op::Celu(_)
        | Op::Selu(_)
        | Op::HardSigmoid(_)
        | Op::Gelu(_)
        | Op::PRelu(_)
        | Op::Sign(_)
        | Op::Clip(_)
        | Op::Add(_)
        | Op::Sub(_)
        | Op::Mul(_)
        | Op::Div(_)
        | Op::Min(_)
        | Op::Max(_) => Some(Class::Float),
        Op::Equal(_) | Op::Less(_) | Op::Greater(_) | Op::LessEqual(_) | Op::GreaterEqual(_) => Some(Class::Compare),
        Op::Where(_) => Some(Class::Select),
        Op::Cast(_) => Some(Class::Convert),
        Op::Quantize(_) | Op::Dequantize(_) | Op::Requantize(_) | Op::FakeQuant(_) => Some(Class::Quantized),
        // Elementwise as well, but of other dtypes, with a kernel for some operands only, or with none.
        Op::Pow(_)
        | Op::Mod(_)
        | Op::And(_)
        | Op::Or(_)
        | Op::Xor(_)
        | Op::Not(_)
        | Op::IsNan(_)
        | Op::IsInf(_)
        | Op::BitAnd(_)
        | Op::BitOr(_)
        | Op::BitXor(_)
        | Op::BitNot(_)
        | Op::ShiftLeft(_)
        | Op::ShiftRight(_)
        | Op::BitCast(_)
        | Op::Asin(_)
        | Op::Acos(_)
        | Op::Atan(_)
        | Op::Sinh(_)
        | Op::Cosh(_)
        | Op::Asinh(_)
        | Op::Acosh(_)
        | Op::Atanh(_)
        | Op::Shrink(_) => None,
        Op::Param(_)
        | Op::Constant(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Concat(_)
        | Op::Slice(_)
        | Op::Split(_)
        | Op::Gather(_)
        | Op::ShapeOf(_)
        | Op::Expand(_)
        | Op::Squeeze(_)
        | Op::Unsqueeze(_)
        | Op::Flatten(_)
        | Op::Fill(_)
        | Op::Pad(_)
        | Op::GatherElements(_)
        | Op::GatherNd(_)
        | Op::ScatterElements(_)
        | Op::ScatterNd(_)
        | Op::UpdateCache(_)
        | Op::Range(_)
        | Op::Eye(_)
        | Op::Triangle(_)
        | Op::OneHot(_)
        | Op::NonZero(_)
        | Op::Compress(_)
        | Op::Unique(_)
        | Op::Tile(_)
        | Op::ReverseSequence(_)
        | Op::CenterCropPad(_)
        | Op::Col2Im(_)
        | Op::MatMul(_)
        | Op::Reduce(_)
        | Op::ArgReduce(_)
        | Op::TopK(_)
        | Op::Cumulate(_)
        | Op::Einsum(_)
        | Op::Det(_)
        | Op::Dft(_)
        | Op::Stft(_)
        | Op::Window(_)
        | Op::MelWeights(_)
        | Op::Conv(_)
        | Op::Pool(_)
        | Op::Gemm(_)
        | Op::BatchNorm(_)
        | Op::LayerNorm(_)
        | Op::Softmax(_)
        | Op::Lstm(_)
        | Op::If(_)
        | Op::Loop(_)
        | Op::Scan(_)
        | Op::SeqConstruct(_)
        | Op::SeqEmpty(_)
        | Op::SeqInsert(_)
        | Op::SeqErase(_)
        | Op::SeqAt(_)
        | Op::SeqLength(_)
        | Op::SeqSplit(_)
        | Op::SeqConcat(_)
        | Op::OptSome(_)
        | Op::OptNone(_)
        | Op::OptHas(_)
        | Op::OptGet(_)
        | Op::StrConcat(_)
        | Op::StrSplit(_)
        | Op::StrMatch(_)
        | Op::StrNormalize(_)
        | Op::Lookup(_)
        | Op::ConvTranspose(_)
        | Op::DeformConv(_)
        | Op::MaxPoolIndices(_)
        | Op::LpPool(_)
        | Op::MaxUnpool(_)
        | Op::RoiAlign(_)
        | Op::MaxRoiPool(_)
        | Op::RmsNorm(_)
        | Op::GroupNorm(_)
        | Op::Lrn(_)
        | Op::LpNorm(_)
        | Op::Hardmax(_)
        | Op::NllLoss(_)
        | Op::Rnn(_)
        | Op::Gru(_)
        | Op::Attention(_)
        | Op::LinearAttention(_)
        | Op::RotaryEmbedding(_)
        | Op::Resize(_)
        | Op::GridSample(_)
        | Op::AffineGrid(_)
        | Op::NonMaxSuppression(_)
        | Op::DynamicQuantize(_)
        | Op::QuantMatMul(_)
        | Op::QuantSum(_)
        | Op::QuantConv(_)
        | Op::DynamicLstm(_)
        | Op::Fused(_)
        | Op::ConvertLayout(_) => None,
    }
}

/// The class of a node whose dtypes fit it.
pub(crate) fn class_of(g: &Graph, id: NodeId) -> Option<Class> {
    let node = g.node(id);
    let class = class(&node.op)?;
    if quantized(g, id) {
        return Some(Class::Quantized);
    }
    let operand = |v: &Value| dtype(g, *v);
    let floats = |values: &[Option<Value>]| values.iter().flatten().all(|v| operand(v) == Some(DType::F32));
    let fits = match class {
        Class::Quantized => false,
        Class::Float | Class::Compare => floats(&node.operands),
        Class::Select => floats(&node.operands[1..]),
        Class::Convert => {
            let from = operand(node.operands.first()?.as_ref()?)?;
            if from == DType::F32 && dtype(g, result(id)) == Some(DType::BF16) {
                return Some(Class::Round);
            }
            matches!(from, DType::I64 | DType::I32 | DType::U8 | DType::Bool | DType::BF16)
        }
        Class::Round => false,
    };
    let gives = if class == Class::Compare { DType::Bool } else { DType::F32 };
    (fits && dtype(g, result(id)) == Some(gives)).then_some(class)
}

/// Whether kernels compute an op of integers: a change between reals and 8-bit integers with one scale (any that
/// broadcasts, from sums), an addition to a sum, an extremum of bytes.
fn quantized(g: &Graph, id: NodeId) -> bool {
    let node = g.node(id);
    let operand = |slot: usize| g.operand(id, slot).and_then(|v| dtype(g, v));
    let byte = |d: Option<DType>| matches!(d, Some(DType::U8 | DType::I8));
    let one = |slot: usize| g.operand(id, slot).is_none_or(|v| g.constant(v).is_some_and(|t| t.len() == 1));
    let gives = dtype(g, result(id));
    match &node.op {
        Op::Quantize(op) => {
            op.block == 0
                && op.precision == DType::F32
                && operand(0) == Some(DType::F32)
                && byte(gives)
                && one(1)
                && one(2)
        }
        Op::Dequantize(op) => op.block == 0 && byte(operand(0)) && gives == Some(DType::F32) && one(1) && one(2),
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
    if matches!(node.op, Op::QuantConv(_) | Op::QuantMatMul(_) | Op::QuantSum(_)) {
        return true;
    }
    let op = matches!(
        &node.op,
        Op::Conv(_)
            | Op::Pool(_)
            | Op::MatMul(_)
            | Op::Gemm(_)
            | Op::Reduce(_)
            | Op::Softmax(_)
            | Op::LpNorm(_)
            | Op::LayerNorm(_)
            | Op::RmsNorm(_)
            | Op::GroupNorm(_)
            | Op::BatchNorm(_)
    );
    // The first factor of a product that rounds may be rounded already.
    let rounded = matches!(&node.op, Op::Conv(_) | Op::MatMul(_) | Op::Gemm(_));
    let fits =
        |(slot, d): (usize, Option<DType>)| d == Some(DType::F32) || rounded && slot == 0 && d == Some(DType::BF16);
    let operands = node.operands.iter().enumerate().filter_map(|(slot, v)| Some((slot, dtype(g, (*v)?))));
    op && operands.into_iter().all(fits) && node.results.len() == 1 && dtype(g, result(id)) == Some(DType::F32)
}
