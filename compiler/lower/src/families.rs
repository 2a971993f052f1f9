//! The kernel families: the one place that knows which op is lowered where, and why an op has no kernel.

use optc_ir::Op;

use super::attention::attention;
use super::conv::conv;
use super::conv_transpose::conv_transpose;
use super::cx::Cx;
use super::dynamic::{dynamic_lstm, dynamic_quantize};
use super::matmul::{gemm, matmul};
use super::pool::pool;
use super::product::{quant_matmul, quant_sum};
use super::quant_conv::quant_conv;
use super::recurrent::{gru, lstm, rnn};
use super::{Declined, Lowered, Site, elementwise, fold, gather, mapped, movement};

/// Lowers an op that is no view of its operand. There is no wildcard: a new op does not compile before it is decided.
pub(super) fn op(cx: &mut Cx, op: &Op, site: &Site) -> Lowered {
    match op {
        Op::MatMul(op) => matmul(cx, op, site),
        Op::Gemm(op) => gemm(cx, op, site),
        Op::Conv(op) => conv(cx, op, site),
        Op::QuantConv(op) => quant_conv(cx, op, site),
        Op::QuantMatMul(op) => quant_matmul(cx, op, site),
        Op::DynamicQuantize(op) => dynamic_quantize(cx, op, site),
        Op::DynamicLstm(op) => dynamic_lstm(cx, op, site),
        Op::QuantSum(op) => quant_sum(cx, op, site),
        Op::ConvTranspose(op) => conv_transpose(cx, op, site),
        Op::Attention(op) => attention(cx, op, site),
        Op::ArgReduce(op) => fold::arg_reduce(cx, op, site),
        Op::Pool(op) => pool(cx, op, site),
        Op::BatchNorm(op) => elementwise::batch_norm(cx, op, site),
        Op::Lstm(op) => lstm(cx, op, site),
        Op::Gru(op) => gru(cx, op, site),
        Op::Rnn(op) => rnn(cx, op, site),
        Op::Reduce(_) | Op::Softmax(_) | Op::LpNorm(_) | Op::LayerNorm(_) | Op::RmsNorm(_) | Op::GroupNorm(_) => {
            fold::op(cx, op, site)
        }
        Op::ConvertLayout(_)
        | Op::Concat(_)
        | Op::Pad(_)
        | Op::Transpose(_)
        | Op::Expand(_)
        | Op::Slice(_)
        | Op::Split(_) => movement::op(cx, op, site),
        Op::Gather(op) => gather::op(cx, op, site),
        Op::Tile(_) | Op::Resize(_) | Op::ScatterNd(_) => mapped::op(cx, op, site),
        Op::Quantize(_)
        | Op::Dequantize(_)
        | Op::Requantize(_)
        | Op::FakeQuant(_)
        | Op::Abs(_)
        | Op::Neg(_)
        | Op::Sign(_)
        | Op::Exp(_)
        | Op::Log(_)
        | Op::Sqrt(_)
        | Op::Reciprocal(_)
        | Op::Erf(_)
        | Op::Floor(_)
        | Op::Ceil(_)
        | Op::Round(_)
        | Op::Sin(_)
        | Op::Cos(_)
        | Op::Tan(_)
        | Op::Asin(_)
        | Op::Acos(_)
        | Op::Atan(_)
        | Op::Sinh(_)
        | Op::Cosh(_)
        | Op::Tanh(_)
        | Op::Asinh(_)
        | Op::Acosh(_)
        | Op::Atanh(_)
        | Op::IsNan(_)
        | Op::IsInf(_)
        | Op::Not(_)
        | Op::Sigmoid(_)
        | Op::Relu(_)
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
        | Op::Shrink(_)
        | Op::PRelu(_)
        | Op::Add(_)
        | Op::Sub(_)
        | Op::Mul(_)
        | Op::Div(_)
        | Op::Mod(_)
        | Op::Pow(_)
        | Op::Min(_)
        | Op::Max(_)
        | Op::And(_)
        | Op::Or(_)
        | Op::Xor(_)
        | Op::Equal(_)
        | Op::Less(_)
        | Op::Greater(_)
        | Op::LessEqual(_)
        | Op::GreaterEqual(_)
        | Op::BitAnd(_)
        | Op::BitOr(_)
        | Op::BitXor(_)
        | Op::BitNot(_)
        | Op::ShiftLeft(_)
        | Op::ShiftRight(_)
        | Op::Where(_)
        | Op::Clip(_)
        | Op::Cast(_) => elementwise::op(cx, op, site),
        Op::Reshape(_) | Op::Squeeze(_) | Op::Unsqueeze(_) | Op::Flatten(_) | Op::BitCast(_) => {
            host("its operand is no view of a buffer")
        }
        Op::If(_) | Op::Loop(_) | Op::Scan(_) => host("control flow: its regions run as plans of their own"),
        Op::SeqConstruct(_)
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
        | Op::OptGet(_) => host("sequences and optionals are values of the host"),
        Op::StrConcat(_) | Op::StrSplit(_) | Op::StrMatch(_) | Op::StrNormalize(_) | Op::Lookup(_) => {
            host("strings are values of the host")
        }
        Op::NonZero(_) | Op::Compress(_) | Op::Unique(_) | Op::NonMaxSuppression(_) => {
            host("how much it finds depends on data")
        }
        Op::Param(_)
        | Op::Constant(_)
        | Op::ShapeOf(_)
        | Op::Fill(_)
        | Op::Range(_)
        | Op::Eye(_)
        | Op::Window(_)
        | Op::MelWeights(_)
        | Op::AffineGrid(_) => host("it computes a constant unless shapes depend on data"),
        Op::Fused(_) => host("a fused region is lowered as a whole"),
        Op::GatherElements(_) | Op::GatherNd(_) => host("there is no kernel that gathers single elements"),
        Op::ScatterElements(_) | Op::UpdateCache(_) | Op::MaxUnpool(_) => host("there is no kernel that scatters"),
        Op::Triangle(_) | Op::OneHot(_) | Op::ReverseSequence(_) | Op::CenterCropPad(_) | Op::Col2Im(_) => {
            host("there is no kernel that moves elements so")
        }
        Op::TopK(_) | Op::Hardmax(_) | Op::MaxPoolIndices(_) => {
            host("there is no kernel that finds places of extremes")
        }
        Op::Cumulate(_)
        | Op::Einsum(_)
        | Op::Det(_)
        | Op::Dft(_)
        | Op::Stft(_)
        | Op::DeformConv(_)
        | Op::LpPool(_)
        | Op::RoiAlign(_)
        | Op::MaxRoiPool(_)
        | Op::Lrn(_)
        | Op::NllLoss(_)
        | Op::LinearAttention(_)
        | Op::RotaryEmbedding(_)
        | Op::GridSample(_) => host("there is no kernel for it"),
    }
}

/// Leaves an op to the host.
fn host(reason: &str) -> Lowered {
    Err(Declined::new(reason))
}
