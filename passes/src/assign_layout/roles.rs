//! What each op wants of its operands' and results' layouts.

use optc_ir::{Encoding, Graph, NodeId, Op, Value};

use crate::machine::{Change, Form, Machine};
use crate::matching::{dims, rank, result, tensor_type};
use crate::weighted::Weighted;

/// The layout that an op wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Plain.
    Plain,
    /// Channels last.
    Last,
    /// Either.
    Either,
    /// Either; plain costs the bytes of the result, since the op then moves them.
    PlainCosts,
}

/// How an op takes part in the choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LayoutRole {
    /// Layouts of its own. Only the operands in the first `reads` slots have a say.
    Fixed { operands: Wish, results: Wish, reads: usize },
    /// Operands and results have one layout, whichever.
    Follows,
    /// The first operand and the results have one layout; what the op costs in each, in bytes that are converted
    /// meanwhile.
    Both { plain: u64, last: u64 },
}

impl LayoutRole {
    /// Whether the layout of operand `slot` matters.
    pub fn reads(&self, slot: usize) -> bool {
        match self {
            LayoutRole::Fixed { reads, .. } => slot < *reads,
            LayoutRole::Follows => true,
            LayoutRole::Both { .. } => slot == 0,
        }
    }
}

/// The role of a node.
pub(super) fn role(g: &Graph, id: NodeId, machine: &dyn Machine) -> LayoutRole {
    let node = g.node(id);
    let plain = LayoutRole::Fixed { operands: Wish::Plain, results: Wish::Plain, reads: usize::MAX };
    match &node.op {
        // Weights and bias are packed at compile time or read as they are.
        Op::Conv(_) | Op::QuantConv(_) if has_planes(g, id) => sparse(g, id, machine).unwrap_or_else(|| {
            // Depthwise kernels come for both layouts, about equally fast.
            let dense = LayoutRole::Fixed { operands: Wish::Last, results: Wish::Last, reads: 1 };
            if has_both(g, id, machine) { LayoutRole::Both { plain: 0, last: 0 } } else { dense }
        }),
        Op::Pool(_) if has_planes(g, id) => LayoutRole::Fixed { operands: Wish::Last, results: Wish::Last, reads: 1 },
        Op::Transpose(t) if t.perm == to_channels_first(t.perm.len()) => {
            LayoutRole::Fixed { operands: Wish::Plain, results: Wish::PlainCosts, reads: 1 }
        }
        Op::Transpose(t) if t.perm == to_channels_last(t.perm.len()) => {
            LayoutRole::Fixed { operands: Wish::PlainCosts, results: Wish::Plain, reads: 1 }
        }
        Op::QuantSum(r) if !r.keep_dims => LayoutRole::Fixed { operands: Wish::Either, results: Wish::Plain, reads: 1 },
        Op::Reduce(r) if !r.keep_dims => LayoutRole::Fixed { operands: Wish::Either, results: Wish::Plain, reads: 1 },
        op if follows(op) && agrees(g, id) => LayoutRole::Follows,
        _ => plain,
    }
}

/// A layer of either kind of number.
fn layer(g: &Graph, id: NodeId) -> Option<Weighted> {
    Weighted::of(g, id).or_else(|| Weighted::of_integers(g, id))
}

/// The role of a convolution whose weights are encoded as blocks of one column: sparse where it is plain, dense where
/// channels are last. Blocks of four columns are read with the channels last.
fn sparse(g: &Graph, id: NodeId, machine: &dyn Machine) -> Option<LayoutRole> {
    let layer = layer(g, id)?;
    let Encoding::Bcsr { rows, cols: 1 } = tensor_type(g, layer.weights)?.encoding else { return None };
    let (product, block) = (layer.product(g, 1)?, (usize::from(rows), 1));
    let bytes = |time: f64| (time / machine.copy(1 << 20) * f64::from(1 << 20)) as u64;
    let form = Form::Sparse { block, blocks: layer.blocks(g, block)? };
    let plain = machine.time(&product, form) / machine.margin(Change::ToSparse);
    Some(LayoutRole::Both { plain: bytes(plain), last: bytes(machine.densest(&product).1) })
}

/// Whether a convolution has one constant filter for each channel, and kernels for both layouts.
fn has_both(g: &Graph, id: NodeId, machine: &dyn Machine) -> bool {
    let product = layer(g, id).and_then(|layer| layer.product(g, 1));
    product.is_some_and(|product| product.depthwise && machine.declines(&product, Form::Planes).is_none())
}

/// One or two spatial axes.
fn has_planes(g: &Graph, id: NodeId) -> bool {
    matches!(rank(g, result(id)), Some(3 | 4))
}

/// `[0, r−1, 1, …, r−2]`: a plain operand gives a channels-last result without moving anything.
fn to_channels_first(rank: usize) -> Vec<i64> {
    let r = rank as i64;
    if rank < 3 { vec![] } else { [0, r - 1].into_iter().chain(1..r - 1).collect() }
}

/// `[0, 2, …, r−1, 1]`: the opposite.
fn to_channels_last(rank: usize) -> Vec<i64> {
    let r = rank as i64;
    if rank < 3 { vec![] } else { [0].into_iter().chain(2..r).chain([1]).collect() }
}

/// Ops that work on elements or whole axes wherever these lie. Every op is named, so that a new one is decided here. (A
/// flat match.)
fn follows(op: &Op) -> bool {
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
        | Op::Max(_)
        | Op::Equal(_)
        | Op::Less(_)
        | Op::Greater(_)
        | Op::LessEqual(_)
        | Op::GreaterEqual(_)
        | Op::Where(_)
        | Op::Cast(_)
        | Op::BatchNorm(_)
        | Op::Concat(_)
        | Op::Split(_)
        | Op::Pad(_)
        | Op::Slice(_)
        | Op::Reduce(_) => true,
        Op::Quantize(_) | Op::Dequantize(_) | Op::Requantize(_) | Op::FakeQuant(_) | Op::QuantSum(_) => true,
        // What kernels compute as an expression on elements, where they do so at all.
        Op::Pow(_) | Op::And(_) | Op::Or(_) | Op::Xor(_) | Op::Not(_) | Op::IsNan(_) => true,
        Op::Param(_)
        | Op::Constant(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Gather(_)
        | Op::ShapeOf(_)
        | Op::Expand(_)
        | Op::Squeeze(_)
        | Op::Unsqueeze(_)
        | Op::Flatten(_)
        | Op::Fill(_)
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
        | Op::Asin(_)
        | Op::Acos(_)
        | Op::Atan(_)
        | Op::Sinh(_)
        | Op::Cosh(_)
        | Op::Asinh(_)
        | Op::Acosh(_)
        | Op::Atanh(_)
        | Op::IsInf(_)
        | Op::Shrink(_)
        | Op::Mod(_)
        | Op::BitAnd(_)
        | Op::BitOr(_)
        | Op::BitXor(_)
        | Op::BitNot(_)
        | Op::ShiftLeft(_)
        | Op::ShiftRight(_)
        | Op::BitCast(_)
        | Op::MatMul(_)
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
        | Op::QuantConv(_)
        | Op::DynamicLstm(_)
        | Op::Fused(_)
        | Op::ConvertLayout(_) => false,
    }
}

/// Whether an op that may follow does so here: an operand of the result's rank names the same axes. Operands of lower
/// rank are broadcast, and have no say.
fn agrees(g: &Graph, id: NodeId) -> bool {
    let rank_of = |v: Value| dims(g, v).map(<[_]>::len);
    let Some(rank) = rank_of(result(id)) else { return false };
    let first = g.node(id).operands.iter().flatten().any(|&v| rank_of(v) == Some(rank));
    rank >= 3 && first && g.node(id).operands.iter().flatten().all(|&v| rank_of(v).is_some_and(|r| r <= rank))
}
