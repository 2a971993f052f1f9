//! Each IR op as ONNX nodes: one for most; what has no spelling of its own is written as several.

use optc_ir::ops::math::{self, CumulateKind, Extreme, ReduceKind, WindowFunction};
use optc_ir::ops::{ml, seq, tensor, text};
use optc_ir::{Op, Real, TextEnum};
use optc_tensor::{DType, Tensor};

use super::nn::{RecurrentNode, nll_loss, pool, resize, roi_align};
use super::quant::{dequantize, quantize};
use super::spelling::{OnnxSpelling, spell};
use super::{Exporter, Site};
use crate::Diagnostic;
use crate::ops::onnx_case;

fn unsupported(reason: impl Into<String>) -> Diagnostic {
    Diagnostic::unsupported("export", reason)
}

impl Exporter {
    /// Writes one op.
    pub(super) fn node(&mut self, op: &Op, site: &Site) -> Result<(), Diagnostic> {
        let spelling = match op {
            Op::Param(_) | Op::Constant(_) | Op::Fused(_) | Op::ConvertLayout(_) => return Ok(()), // the walk's own
            Op::If(_) => return self.branch(site),
            Op::Loop(op) => return self.repeat(op, site),
            Op::Scan(op) => return self.scan(op, site),

            Op::Reshape(op) => spell("Reshape").flag("allowzero", op.allow_zero),
            Op::Transpose(op) => spell("Transpose").ints("perm", &op.perm),
            Op::Concat(op) => spell("Concat").int("axis", op.axis),
            Op::Slice(_) => spell("Slice"),
            Op::Split(op) => return self.split(op, site),
            Op::Gather(op) => spell("Gather").int_or("axis", op.axis, 0),
            Op::ShapeOf(op) => spell("Shape").int_or("start", op.start, 0).int_or("end", op.end, i64::MAX),
            Op::Expand(_) => spell("Expand"),
            Op::Squeeze(_) => spell("Squeeze"),
            Op::Unsqueeze(_) => spell("Unsqueeze"),
            Op::Flatten(op) => spell("Flatten").int("axis", op.axis),
            Op::Fill(op) => return self.fill(op, site),
            Op::Pad(op) => return self.pad(op, site),
            Op::GatherElements(op) => spell("GatherElements").int_or("axis", op.axis, 0),
            Op::GatherNd(op) => spell("GatherND").int_or("batch_dims", op.batch_dims, 0),
            Op::ScatterElements(op) => {
                spell("ScatterElements").int_or("axis", op.axis, 0).string("reduction", op.reduction.as_str())
            }
            Op::ScatterNd(op) => spell("ScatterND").string("reduction", op.reduction.as_str()),
            Op::UpdateCache(op) => spell("TensorScatter")
                .since(24)
                .int("axis", op.axis)
                .string("mode", if op.circular { "circular" } else { "linear" }),
            Op::Range(_) => spell("Range"),
            Op::Eye(op) => spell("EyeLike").dtype("dtype", op.dtype).int_or("k", op.k, 0),
            Op::Triangle(op) => spell("Trilu").int("upper", i64::from(op.upper)),
            Op::OneHot(op) => spell("OneHot").int("axis", op.axis),
            Op::NonZero(_) => spell("NonZero"),
            Op::Compress(op) => spell("Compress").int("axis", op.axis),
            Op::Unique(op) => spell("Unique").int("axis", op.axis).int("sorted", i64::from(op.sorted)),
            Op::Tile(_) => spell("Tile"),
            Op::ReverseSequence(op) => {
                spell("ReverseSequence").int("batch_axis", op.batch_axis).int("time_axis", op.time_axis)
            }
            Op::CenterCropPad(op) => spell("CenterCropPad").ints("axes", &op.axes),
            Op::Col2Im(op) => {
                spell("Col2Im").ints("dilations", &op.dilations).ints("pads", &op.pads).ints("strides", &op.strides)
            }

            Op::Abs(_) => spell("Abs"),
            Op::Neg(_) => spell("Neg"),
            Op::Exp(_) => spell("Exp"),
            Op::Log(_) => spell("Log"),
            Op::Sqrt(_) => spell("Sqrt"),
            Op::Reciprocal(_) => spell("Reciprocal"),
            Op::Erf(_) => spell("Erf"),
            Op::Tanh(_) => spell("Tanh"),
            Op::Sigmoid(_) => spell("Sigmoid"),
            Op::Relu(_) => spell("Relu"),
            Op::Floor(_) => spell("Floor"),
            Op::Ceil(_) => spell("Ceil"),
            Op::Round(_) => spell("Round"),
            Op::Sign(_) => spell("Sign"),
            Op::Sin(_) => spell("Sin"),
            Op::Cos(_) => spell("Cos"),
            Op::Softplus(_) => spell("Softplus"),
            Op::Softsign(_) => spell("Softsign"),
            Op::HardSwish(_) => spell("HardSwish"),
            Op::Mish(_) => spell("Mish"),
            Op::LeakyRelu(op) => spell("LeakyRelu").float("alpha", op.alpha),
            Op::Elu(op) => spell("Elu").float("alpha", op.alpha),
            Op::HardSigmoid(op) => spell("HardSigmoid").float("alpha", op.alpha).float("beta", op.beta),
            Op::Tan(_) => spell("Tan"),
            Op::Asin(_) => spell("Asin"),
            Op::Acos(_) => spell("Acos"),
            Op::Atan(_) => spell("Atan"),
            Op::Sinh(_) => spell("Sinh"),
            Op::Cosh(_) => spell("Cosh"),
            Op::Asinh(_) => spell("Asinh"),
            Op::Acosh(_) => spell("Acosh"),
            Op::Atanh(_) => spell("Atanh"),
            Op::IsNan(_) => spell("IsNaN"),
            Op::IsInf(op) => spell("IsInf").int_or("detect_negative", i64::from(op.negative), 1).int_or(
                "detect_positive",
                i64::from(op.positive),
                1,
            ),
            Op::Swish(op) => spell("Swish").since(24).float("alpha", op.alpha),
            Op::ThresholdedRelu(op) => spell("ThresholdedRelu").float("alpha", op.alpha),
            Op::Celu(op) => spell("Celu").float("alpha", op.alpha),
            Op::Selu(op) => spell("Selu").float("alpha", op.alpha).float("gamma", op.gamma),
            Op::Gelu(op) => spell("Gelu").string("approximate", if op.approximate { "tanh" } else { "none" }),
            Op::Shrink(op) => spell("Shrink").float("bias", op.bias).float("lambd", op.lambda),
            Op::PRelu(_) => spell("PRelu"),
            Op::Mod(op) => spell("Mod").flag("fmod", op.truncate),
            Op::BitAnd(_) => spell("BitwiseAnd"),
            Op::BitOr(_) => spell("BitwiseOr"),
            Op::BitXor(_) => spell("BitwiseXor"),
            Op::BitNot(_) => spell("BitwiseNot"),
            Op::ShiftLeft(_) => spell("BitShift").string("direction", "LEFT"),
            Op::ShiftRight(_) => spell("BitShift").string("direction", "RIGHT"),
            Op::BitCast(op) => spell("BitCast").since(26).dtype("to", op.to),
            Op::Not(_) => spell("Not"),

            Op::Add(_) => spell("Add"),
            Op::Sub(_) => spell("Sub"),
            Op::Mul(_) => spell("Mul"),
            Op::Div(_) => spell("Div"),
            Op::Pow(_) => spell("Pow"),
            Op::Min(_) => spell("Min"),
            Op::Max(_) => spell("Max"),
            Op::And(_) => spell("And"),
            Op::Or(_) => spell("Or"),
            Op::Xor(_) => spell("Xor"),
            Op::Equal(_) => spell("Equal"),
            Op::Less(_) => spell("Less"),
            Op::Greater(_) => spell("Greater"),
            Op::LessEqual(_) => spell("LessOrEqual"),
            Op::GreaterEqual(_) => spell("GreaterOrEqual"),
            Op::Where(_) => spell("Where"),
            Op::Clip(_) => spell("Clip"),
            Op::Cast(op) => spell("Cast").dtype("to", op.to),
            Op::MatMul(_) => spell("MatMul"),
            Op::Reduce(op) => return self.reduce(op, site),
            Op::ArgReduce(op) => spell(match op.kind {
                Extreme::Max => "ArgMax",
                Extreme::Min => "ArgMin",
            })
            .int("axis", op.axis)
            .int("keepdims", i64::from(op.keep_dims))
            .flag("select_last_index", op.last),
            Op::TopK(op) => spell("TopK").int("axis", op.axis).int("largest", i64::from(op.largest)),
            Op::Cumulate(op) => match op.kind {
                CumulateKind::Sum => spell("CumSum"),
                CumulateKind::Prod => spell("CumProd").since(26),
            }
            .flag("exclusive", op.exclusive)
            .flag("reverse", op.reverse),
            Op::Einsum(op) => spell("Einsum").string("equation", &op.equation),
            Op::Det(_) => spell("Det"),
            Op::Dft(op) => spell("DFT").flag("inverse", op.inverse).flag("onesided", op.onesided),
            Op::Stft(op) => spell("STFT").int("onesided", i64::from(op.onesided)),
            Op::Window(op) => spell(match op.kind {
                WindowFunction::Hann => "HannWindow",
                WindowFunction::Hamming => "HammingWindow",
                WindowFunction::Blackman => "BlackmanWindow",
            })
            .dtype("output_datatype", op.dtype)
            .int("periodic", i64::from(op.periodic)),
            Op::MelWeights(op) => spell("MelWeightMatrix").dtype("output_datatype", op.dtype),

            Op::Conv(op) => spell("Conv")
                .ints("dilations", &op.dilations)
                .int_or("group", op.groups, 1)
                .ints("pads", &op.pads)
                .ints("strides", &op.strides),
            Op::ConvTranspose(op) => spell("ConvTranspose")
                .ints("dilations", &op.dilations)
                .int_or("group", op.groups, 1)
                .ints("output_padding", &op.output_padding)
                .ints("pads", &op.pads)
                .ints("strides", &op.strides),
            Op::DeformConv(op) => spell("DeformConv")
                .ints("dilations", &op.dilations)
                .int_or("group", op.groups, 1)
                .int_or("offset_group", op.offset_groups, 1)
                .ints("pads", &op.pads)
                .ints("strides", &op.strides),
            Op::Pool(op) => pool(op),
            Op::MaxPoolIndices(op) => spell("MaxPool")
                .flag("ceil_mode", op.ceil_mode)
                .flag("storage_order", op.column_major)
                .ints("dilations", &op.dilations)
                .ints("kernel_shape", &op.kernel)
                .ints("pads", &op.pads)
                .ints("strides", &op.strides),
            Op::LpPool(op) => spell("LpPool")
                .flag("ceil_mode", op.ceil_mode)
                .ints("dilations", &op.dilations)
                .ints("kernel_shape", &op.kernel)
                .int("p", op.p)
                .ints("pads", &op.pads)
                .ints("strides", &op.strides),
            Op::MaxUnpool(op) => {
                spell("MaxUnpool").ints("kernel_shape", &op.kernel).ints("pads", &op.pads).ints("strides", &op.strides)
            }
            Op::RoiAlign(op) => roi_align(op),
            Op::MaxRoiPool(op) => {
                spell("MaxRoiPool").ints("pooled_shape", &op.pooled_shape).float("spatial_scale", op.spatial_scale)
            }
            Op::Gemm(op) => spell("Gemm")
                .float("alpha", op.alpha)
                .float("beta", op.beta)
                .flag("transA", op.trans_a)
                .flag("transB", op.trans_b),
            Op::BatchNorm(op) => spell("BatchNormalization").float("epsilon", op.epsilon),
            Op::LayerNorm(op) => spell("LayerNormalization").int("axis", op.axis).float("epsilon", op.epsilon),
            Op::RmsNorm(op) => spell("RMSNormalization").since(23).int("axis", op.axis).float("epsilon", op.epsilon),
            Op::GroupNorm(op) if op.groups == 0 => spell("InstanceNormalization").float("epsilon", op.epsilon),
            Op::GroupNorm(op) => spell("GroupNormalization").int("num_groups", op.groups).float("epsilon", op.epsilon),
            Op::Lrn(op) => {
                spell("LRN").float("alpha", op.alpha).float("beta", op.beta).float("bias", op.bias).int("size", op.size)
            }
            Op::LpNorm(op) => spell("LpNormalization").int("axis", op.axis).int("p", op.p),
            Op::Softmax(op) => spell(if op.log { "LogSoftmax" } else { "Softmax" }).int("axis", op.axis),
            Op::Hardmax(op) => spell("Hardmax").int("axis", op.axis),
            Op::NllLoss(op) => nll_loss(op)?,
            Op::Rnn(op) => RecurrentNode {
                activations: &op.activations,
                alpha: &op.activation_alpha,
                beta: &op.activation_beta,
                clip: op.clip,
                direction: op.direction,
            }
            .spell("RNN", site),
            Op::Gru(op) => RecurrentNode {
                activations: &op.activations,
                alpha: &op.activation_alpha,
                beta: &op.activation_beta,
                clip: op.clip,
                direction: op.direction,
            }
            .spell("GRU", site)
            .flag("linear_before_reset", op.linear_before_reset),
            Op::Lstm(op) => RecurrentNode {
                activations: &op.activations,
                alpha: &op.activation_alpha,
                beta: &op.activation_beta,
                clip: op.clip,
                direction: op.direction,
            }
            .spell("LSTM", site)
            .flag("input_forget", op.input_forget),

            Op::Attention(op) => return self.attention(op, site),
            Op::LinearAttention(op) => spell("LinearAttention")
                .since(27)
                .int("kv_num_heads", op.kv_heads)
                .int("q_num_heads", op.q_heads)
                .string("update_rule", op.rule.as_str())
                .float("scale", op.scale),
            Op::RotaryEmbedding(op) => spell("RotaryEmbedding")
                .since(23)
                .int_or("rotary_embedding_dim", op.dims, 0)
                .flag("interleaved", op.interleaved),
            Op::Resize(op) => {
                let order = [0, 3, 1, 2].map(|slot| site.operand(slot));
                self.write(resize(op)?, order.to_vec(), site.results.clone(), &site.node.loc);
                return Ok(());
            }
            Op::GridSample(op) => spell("GridSample")
                .flag("align_corners", op.align_corners)
                .string("mode", op.mode.as_str())
                .string("padding_mode", op.padding.as_str()),
            Op::AffineGrid(op) => spell("AffineGrid").flag("align_corners", op.align_corners),
            Op::NonMaxSuppression(op) => spell("NonMaxSuppression").flag("center_point_box", op.centred),

            Op::Quantize(op) => quantize(op, site),
            Op::Dequantize(op) => dequantize(op, site),
            Op::DynamicQuantize(_) => spell("DynamicQuantizeLinear"),
            Op::Requantize(_) => return self.requantize(site),
            Op::QuantMatMul(_) => spell("MatMulInteger"),
            Op::FakeQuant(op) => return self.fake_quant(op, site),
            Op::QuantSum(op) => return self.quant_sum(op, site),
            Op::QuantConv(op) => return self.quant_conv(op, site),
            Op::DynamicLstm(op) => RecurrentNode {
                activations: &op.activations,
                alpha: &op.activation_alpha,
                beta: &op.activation_beta,
                clip: op.clip,
                direction: op.direction,
            }
            .spell("DynamicQuantizeLSTM", site)
            .flag("input_forget", op.input_forget)
            .of("com.microsoft", 1),

            Op::SeqConstruct(_) => spell("SequenceConstruct"),
            Op::SeqEmpty(op) => seq_empty(op)?,
            Op::SeqInsert(_) => spell("SequenceInsert"),
            Op::SeqErase(_) => spell("SequenceErase"),
            Op::SeqAt(_) => spell("SequenceAt"),
            Op::SeqLength(_) => spell("SequenceLength"),
            Op::SeqSplit(op) => {
                spell("SplitToSequence").int("axis", op.axis).int_or("keepdims", i64::from(op.keep_dims), 1)
            }
            Op::SeqConcat(op) => spell("ConcatFromSequence").int("axis", op.axis).flag("new_axis", op.new_axis),
            Op::OptSome(_) => spell("Optional"),
            Op::OptNone(op) => spell("Optional").ty("type", &op.of),
            Op::OptHas(_) => spell("OptionalHasElement"),
            Op::OptGet(_) => spell("OptionalGetElement"),
            Op::StrConcat(_) => spell("StringConcat"),
            Op::StrSplit(op) => split_string(op),
            Op::StrMatch(op) => spell("RegexFullMatch").string("pattern", &op.pattern),
            Op::StrNormalize(op) => spell("StringNormalizer")
                .string("case_change_action", onnx_case(op.case))
                .flag("is_case_sensitive", op.case_sensitive)
                .strings("stopwords", &op.stopwords),
            Op::Lookup(op) => lookup(op)?,
        };
        self.write(spelling, site.operands.clone(), site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// The sizes are an operand of the ONNX op; without them the parts are equal.
    fn split(&mut self, op: &tensor::Split, site: &Site) -> Result<(), Diagnostic> {
        let mut spelling = spell("Split").int_or("axis", op.axis, 0);
        let mut operands = vec![site.operand(0), site.operand(1)];
        if !op.sizes.is_empty() {
            operands[1] = self.ints(&op.sizes)?;
        } else if operands[1].is_empty() {
            spelling = spelling.int("num_outputs", op.parts);
        }
        self.write(spelling, operands, site.results.clone(), &site.node.loc);
        Ok(())
    }

    fn fill(&mut self, op: &tensor::Fill, site: &Site) -> Result<(), Diagnostic> {
        let value = op.value.0.reshaped(&[1]).map_err(|e| Diagnostic::new("export", e.to_string()))?;
        let spelling = spell("ConstantOfShape").tensor("value", &value);
        self.write(spelling, site.operands.clone(), site.results.clone(), &site.node.loc);
        Ok(())
    }

    fn pad(&mut self, op: &tensor::Pad, site: &Site) -> Result<(), Diagnostic> {
        let [x, value, by, axes] = [0, 1, 2, 3].map(|slot| site.operand(slot));
        let pads = if by.is_empty() { self.ints(&op.pads)? } else { by };
        let spelling = spell("Pad").string("mode", op.mode.as_str());
        self.write(spelling, vec![x, pads, value, axes], site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// The axes are an operand of the ONNX op; without them all are reduced.
    fn reduce(&mut self, op: &math::Reduce, site: &Site) -> Result<(), Diagnostic> {
        let name = match op.kind {
            ReduceKind::Sum => "ReduceSum",
            ReduceKind::Mean => "ReduceMean",
            ReduceKind::Max => "ReduceMax",
            ReduceKind::Min => "ReduceMin",
            ReduceKind::Prod => "ReduceProd",
            ReduceKind::SumSquare => "ReduceSumSquare",
            ReduceKind::L1 => "ReduceL1",
            ReduceKind::L2 => "ReduceL2",
            ReduceKind::LogSum => "ReduceLogSum",
            ReduceKind::LogSumExp => "ReduceLogSumExp",
        };
        let mut operands = vec![site.operand(0), site.operand(1)];
        let mut spelling = spell(name).int_or("keepdims", i64::from(op.keep_dims), 1);
        if !operands[1].is_empty() {
            spelling = spelling.flag("noop_with_empty_axes", !op.all_if_empty);
        } else if !op.axes.is_empty() {
            operands[1] = self.ints(&op.axes)?;
        }
        self.write(spelling, operands, site.results.clone(), &site.node.loc);
        Ok(())
    }
}

fn seq_empty(op: &seq::SeqEmpty) -> Result<OnnxSpelling, Diagnostic> {
    let of =
        op.of.as_tensor().ok_or_else(|| unsupported(format!("an empty sequence of {} cannot be written", op.of)))?;
    Ok(spell("SequenceEmpty").dtype("dtype", of.dtype))
}

fn split_string(op: &text::StrSplit) -> OnnxSpelling {
    let mut spelling = spell("StringSplit");
    if !op.delimiter.is_empty() {
        spelling = spelling.string("delimiter", &op.delimiter);
    }
    if op.max_split >= 0 {
        spelling = spelling.int("maxsplit", op.max_split);
    }
    spelling
}

fn lookup(op: &ml::Lookup) -> Result<OnnxSpelling, Diagnostic> {
    let bad = |e: optc_tensor::TensorError| Diagnostic::new("export", e.to_string());
    let floats = |t: &Tensor| t.to_f64_vec().iter().map(|&v| Real(v as f32)).collect::<Vec<_>>();
    let (keys, values, default) = (&op.keys.0, &op.values.0, &op.default.0);
    let list = |spelling: OnnxSpelling, names: [&str; 4], t: &Tensor| {
        Ok(match t.dtype() {
            DType::Str => spelling.strings(names[0], t.strings().map_err(bad)?),
            DType::I64 => spelling.ints(names[1], &t.to_i64_vec()),
            DType::F32 => spelling.floats(names[2], &floats(t)),
            _ => spelling.tensor(names[3], t),
        })
    };
    let spelling = spell("LabelEncoder").of("ai.onnx.ml", 4);
    let spelling = list(spelling, ["keys_strings", "keys_int64s", "keys_floats", "keys_tensor"], keys)?;
    let spelling = list(spelling, ["values_strings", "values_int64s", "values_floats", "values_tensor"], values)?;
    Ok(match default.dtype() {
        DType::Str => spelling.string("default_string", default.strings().map_err(bad)?.first().map_or("", |s| s)),
        DType::I64 => spelling.int("default_int64", default.to_i64_vec().first().copied().unwrap_or(-1)),
        DType::F32 => spelling.float("default_float", floats(default).first().copied().unwrap_or(Real(0.0))),
        _ => spelling.tensor("default_tensor", &default.reshaped(&[1]).map_err(bad)?),
    })
}
