//! Each IR op as ONNX nodes: one for most; what has no spelling of its own is written as several.

use optc_ir::ops::math::{self, CumulateKind, Extreme, ReduceKind, WindowFunction};
use optc_ir::ops::nn::Interpolation;
use optc_ir::ops::{ml, seq, tensor, text};
use optc_ir::{Op, Real, TextEnum};
use optc_tensor::{DType, Tensor};

use super::blocks::{is_formula, is_wide};
use super::nn::{RecurrentNode, nll_loss, pool, roi_align};
use super::quant::{dequantize, narrow};
use super::random::multinomial;
use super::spelling::{OnnxSpelling, spell, spelled};
use super::{Exporter, Site};
use crate::Diagnostic;
use crate::ops::{onnx_case, onnx_ngram_mode};

pub(super) fn unsupported(reason: impl Into<String>) -> Diagnostic {
    Diagnostic::unsupported("export", reason)
}

impl Exporter {
    /// Writes one op.
    pub(super) fn node(&mut self, op: &Op, site: &Site) -> Result<(), Diagnostic> {
        let spelling = match op {
            // The walk's own.
            Op::Param(_) | Op::Constant(_) | Op::Fused(_) | Op::Deferred(_) | Op::ConvertLayout(_) => return Ok(()),
            Op::If(_) => return self.branch(site),
            Op::Loop(op) => return self.repeat(op, site),
            Op::Scan(op) => return self.scan(op, site),

            Op::Reshape(op) => spelled!("Reshape").flag("allowzero", op.allow_zero && self.has_zeros(site, 1)),
            Op::Transpose(op) => spelled!("Transpose").ints("perm", &op.perm),
            Op::Concat(op) => spelled!("Concat").int("axis", op.axis),
            Op::Slice(_) => return self.slice(site),
            Op::Split(op) => return self.split(op, site),
            Op::Gather(op) => spelled!("Gather").int_or("axis", op.axis, 0).since(since_negative(site, 1)),
            Op::ShapeOf(op) => spelled!("Shape").int_or("start", op.start, 0).int_or("end", op.end, i64::MAX),
            Op::Expand(_) => spelled!("Expand"),
            Op::Squeeze(_) => return self.with_axes(spelled!("Squeeze"), site, site.rank(0)),
            Op::Unsqueeze(_) => {
                let rank = site.rank(0).and_then(|rank| Some(rank + site.constant(1)?.len()));
                return self.with_axes(spelled!("Unsqueeze"), site, rank);
            }
            Op::Flatten(op) => spelled!("Flatten").int("axis", op.axis),
            Op::Fill(op) => return self.fill(op, site),
            Op::Pad(op) => return self.pad(op, site),
            Op::GatherElements(op) => spelled!("GatherElements").int_or("axis", op.axis, 0),
            Op::GatherNd(op) => spelled!("GatherND").int_or("batch_dims", op.batch_dims, 0),
            Op::ScatterElements(op) => self.scatter_elements(op).int_or("axis", op.axis, 0),
            Op::ScatterNd(op) => {
                spelled!("ScatterND").string("reduction", op.reduction.as_str()).since(since_reduction(op.reduction))
            }
            Op::UpdateCache(op) => spelled!("TensorScatter")
                .since(24)
                .int("axis", op.axis)
                .string("mode", if op.circular { "circular" } else { "linear" }),
            Op::Range(_) => spelled!("Range"),
            Op::Eye(op) => spelled!("EyeLike").dtype("dtype", op.dtype).int_or("k", op.k, 0),
            Op::Triangle(op) => spelled!("Trilu").int("upper", i64::from(op.upper)),
            Op::OneHot(op) => spelled!("OneHot").int("axis", op.axis),
            Op::NonZero(_) => spelled!("NonZero"),
            Op::Compress(op) => spelled!("Compress").int("axis", op.axis),
            Op::Unique(op) => spelled!("Unique").int("axis", op.axis).int("sorted", i64::from(op.sorted)),
            Op::Tile(_) => spelled!("Tile"),
            Op::ReverseSequence(op) => {
                spelled!("ReverseSequence").int("batch_axis", op.batch_axis).int("time_axis", op.time_axis)
            }
            Op::CenterCropPad(op) => spelled!("CenterCropPad").ints("axes", &op.axes),
            Op::Col2Im(op) => spelled!("Col2Im")
                .ints_or("dilations", &op.dilations, 1)
                .ints_or("pads", &op.pads, 0)
                .ints_or("strides", &op.strides, 1),

            Op::Abs(_) => spelled!("Abs"),
            Op::Neg(_) => spelled!("Neg"),
            Op::Exp(_) => spelled!("Exp"),
            Op::Log(_) => spelled!("Log"),
            Op::Sqrt(_) => spelled!("Sqrt"),
            Op::Reciprocal(_) => spelled!("Reciprocal"),
            Op::Erf(_) => spelled!("Erf"),
            Op::Tanh(_) => spelled!("Tanh"),
            Op::Sigmoid(_) => spelled!("Sigmoid"),
            Op::Relu(_) => spelled!("Relu"),
            Op::Floor(_) => spelled!("Floor"),
            Op::Ceil(_) => spelled!("Ceil"),
            Op::Round(_) => spelled!("Round"),
            Op::Sign(_) => spelled!("Sign"),
            Op::Sin(_) => spelled!("Sin"),
            Op::Cos(_) => spelled!("Cos"),
            Op::Softplus(_) => spelled!("Softplus"),
            Op::Softsign(_) => spelled!("Softsign"),
            Op::HardSwish(_) if self.target < 14 => return self.hard_swish(site),
            Op::HardSwish(_) => spelled!("HardSwish"),
            Op::Mish(_) if self.target < 18 => return self.mish(site),
            Op::Mish(_) => spelled!("Mish"),
            Op::LeakyRelu(op) => spelled!("LeakyRelu").float("alpha", op.alpha),
            Op::Elu(op) => spelled!("Elu").float("alpha", op.alpha),
            Op::HardSigmoid(op) => spelled!("HardSigmoid").float("alpha", op.alpha).float("beta", op.beta),
            Op::Tan(_) => spelled!("Tan"),
            Op::Asin(_) => spelled!("Asin"),
            Op::Acos(_) => spelled!("Acos"),
            Op::Atan(_) => spelled!("Atan"),
            Op::Sinh(_) => spelled!("Sinh"),
            Op::Cosh(_) => spelled!("Cosh"),
            Op::Asinh(_) => spelled!("Asinh"),
            Op::Acosh(_) => spelled!("Acosh"),
            Op::Atanh(_) => spelled!("Atanh"),
            Op::IsNan(_) => spelled!("IsNaN"),
            Op::IsInf(op) => spelled!("IsInf").int_or("detect_negative", i64::from(op.negative), 1).int_or(
                "detect_positive",
                i64::from(op.positive),
                1,
            ),
            Op::Swish(op) if self.target < 24 => return self.swish(op, site),
            Op::Swish(op) => spelled!("Swish").since(24).float("alpha", op.alpha),
            Op::ThresholdedRelu(op) => spelled!("ThresholdedRelu").float("alpha", op.alpha),
            Op::Celu(op) => spelled!("Celu").float("alpha", op.alpha),
            Op::Selu(op) => spelled!("Selu").float("alpha", op.alpha).float("gamma", op.gamma),
            Op::Gelu(op) if self.target < 20 => return self.gelu(op, site),
            Op::Gelu(op) => spelled!("Gelu").string("approximate", if op.approximate { "tanh" } else { "none" }),
            Op::Shrink(op) => spelled!("Shrink").float("bias", op.bias).float("lambd", op.lambda),
            Op::PRelu(_) => spelled!("PRelu"),
            Op::Mod(op) => spelled!("Mod").flag("fmod", op.truncate),
            Op::BitAnd(_) => spelled!("BitwiseAnd"),
            Op::BitOr(_) => spelled!("BitwiseOr"),
            Op::BitXor(_) => spelled!("BitwiseXor"),
            Op::BitNot(_) => spelled!("BitwiseNot"),
            Op::ShiftLeft(_) => spelled!("BitShift").string("direction", "LEFT"),
            Op::ShiftRight(_) => spelled!("BitShift").string("direction", "RIGHT"),
            Op::BitCast(op) => spelled!("BitCast").since(26).dtype("to", op.to),
            Op::Not(_) => spelled!("Not"),

            Op::Add(_) => spelled!("Add"),
            Op::Sub(_) => spelled!("Sub"),
            Op::Mul(_) => spelled!("Mul"),
            Op::Div(_) => spelled!("Div"),
            Op::Pow(_) => spelled!("Pow"),
            Op::Min(_) => spelled!("Min"),
            Op::Max(_) => spelled!("Max"),
            Op::And(_) => spelled!("And"),
            Op::Or(_) => spelled!("Or"),
            Op::Xor(_) => spelled!("Xor"),
            Op::Equal(_) => spelled!("Equal"),
            Op::Less(_) => spelled!("Less"),
            Op::Greater(_) => spelled!("Greater"),
            Op::LessEqual(_) => spelled!("LessOrEqual"),
            Op::GreaterEqual(_) => spelled!("GreaterOrEqual"),
            Op::Where(_) => spelled!("Where"),
            Op::Clip(_) => return self.clip(site),
            Op::Cast(op) => spelled!("Cast").dtype("to", op.to),
            Op::Narrow(op) => narrow(op),
            Op::MatMul(_) => spelled!("MatMul"),
            Op::Reduce(op) => return self.reduce(op, site),
            Op::ArgReduce(op) => spell(match op.kind {
                Extreme::Max => "ArgMax",
                Extreme::Min => "ArgMin",
            })
            .int("axis", op.axis)
            .int("keepdims", i64::from(op.keep_dims))
            .flag("select_last_index", op.last),
            Op::TopK(op) => return self.top_k(op, site),
            Op::Cumulate(op) => match op.kind {
                CumulateKind::Sum => spelled!("CumSum"),
                CumulateKind::Prod => spelled!("CumProd").since(26),
            }
            .flag("exclusive", op.exclusive)
            .flag("reverse", op.reverse),
            Op::Einsum(op) => spelled!("Einsum").string("equation", &op.equation),
            Op::Det(_) => spelled!("Det"),
            Op::Dft(op) => return self.fourier(op, site),
            Op::Stft(op) => spelled!("STFT").int("onesided", i64::from(op.onesided)),
            Op::Window(op) => spell(match op.kind {
                WindowFunction::Hann => "HannWindow",
                WindowFunction::Hamming => "HammingWindow",
                WindowFunction::Blackman => "BlackmanWindow",
            })
            .dtype("output_datatype", op.dtype)
            .int("periodic", i64::from(op.periodic)),
            Op::MelWeights(op) => spelled!("MelWeightMatrix").dtype("output_datatype", op.dtype),

            Op::Conv(op) => spelled!("Conv")
                .ints_or("dilations", &op.dilations, 1)
                .int_or("group", op.groups, 1)
                .ints_or("pads", &op.pads, 0)
                .ints_or("strides", &op.strides, 1),
            Op::ConvTranspose(op) => spelled!("ConvTranspose")
                .ints_or("dilations", &op.dilations, 1)
                .int_or("group", op.groups, 1)
                .ints_or("output_padding", &op.output_padding, 0)
                .ints_or("pads", &op.pads, 0)
                .ints_or("strides", &op.strides, 1),
            Op::DeformConv(op) => spelled!("DeformConv")
                .ints_or("dilations", &op.dilations, 1)
                .int_or("group", op.groups, 1)
                .int_or("offset_group", op.offset_groups, 1)
                .ints_or("pads", &op.pads, 0)
                .ints_or("strides", &op.strides, 1),
            Op::Pool(op) => pool(op),
            Op::MaxPoolIndices(op) => spelled!("MaxPool")
                .since(8)
                .flag("ceil_mode", op.ceil_mode)
                .flag("storage_order", op.column_major)
                .ints_or("dilations", &op.dilations, 1)
                .ints("kernel_shape", &op.kernel)
                .ints_or("pads", &op.pads, 0)
                .ints_or("strides", &op.strides, 1),
            Op::LpPool(op) => spelled!("LpPool")
                .flag("ceil_mode", op.ceil_mode)
                .ints_or("dilations", &op.dilations, 1)
                .ints("kernel_shape", &op.kernel)
                .int("p", op.p)
                .ints_or("pads", &op.pads, 0)
                .ints_or("strides", &op.strides, 1),
            Op::MaxUnpool(op) => spelled!("MaxUnpool")
                .ints("kernel_shape", &op.kernel)
                .ints_or("pads", &op.pads, 0)
                .ints_or("strides", &op.strides, 1),
            Op::RoiAlign(op) => roi_align(op, self.target),
            Op::MaxRoiPool(op) => {
                spelled!("MaxRoiPool").ints("pooled_shape", &op.pooled_shape).float("spatial_scale", op.spatial_scale)
            }
            Op::Gemm(op) => return self.gemm(op, site),
            Op::BatchNorm(op) => spelled!("BatchNormalization").float("epsilon", op.epsilon),
            Op::LayerNorm(op) if self.target < 17 && is_wide(site) => return self.layer_norm(op, site),
            Op::LayerNorm(op) => spelled!("LayerNormalization").int("axis", op.axis).float("epsilon", op.epsilon),
            Op::RmsNorm(op) if self.target < 23 && is_wide(site) => return self.rms_norm(op, site),
            Op::RmsNorm(op) => spelled!("RMSNormalization").since(23).int("axis", op.axis).float("epsilon", op.epsilon),
            Op::GroupNorm(op) if op.groups == 0 => spelled!("InstanceNormalization").float("epsilon", op.epsilon),
            Op::GroupNorm(op) if self.target < 21 && is_wide(site) => return self.group_norm(op, site),
            Op::GroupNorm(op) => {
                spelled!("GroupNormalization").since(21).int("num_groups", op.groups).float("epsilon", op.epsilon)
            }
            Op::Lrn(op) => spelled!("LRN")
                .float("alpha", op.alpha)
                .float("beta", op.beta)
                .float("bias", op.bias)
                .int("size", op.size),
            Op::LpNorm(op) => spelled!("LpNormalization").int("axis", op.axis).int("p", op.p),
            Op::Softmax(op) => return self.along(spell(if op.log { "LogSoftmax" } else { "Softmax" }), op.axis, site),
            Op::Hardmax(op) => return self.along(spelled!("Hardmax"), op.axis, site),
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

            Op::Attention(op) if self.target < 23 && is_formula(op, site) => return self.attention_formula(op, site),
            Op::Attention(op) => return self.attention(op, site),
            Op::LinearAttention(op) => spelled!("LinearAttention")
                .since(27)
                .int("kv_num_heads", op.kv_heads)
                .int("q_num_heads", op.q_heads)
                .string("update_rule", op.rule.as_str())
                .float("scale", op.scale),
            Op::RotaryEmbedding(op) => spelled!("RotaryEmbedding")
                .since(23)
                .int_or("rotary_embedding_dim", op.dims, 0)
                .flag("interleaved", op.interleaved),
            Op::Resize(op) => return self.resize(op, site),
            Op::GridSample(op) => spelled!("GridSample")
                .flag("align_corners", op.align_corners)
                .string("mode", grid_mode(op.mode, self.target))
                .string("padding_mode", op.padding.as_str()),
            Op::AffineGrid(op) => spelled!("AffineGrid").flag("align_corners", op.align_corners),
            Op::NonMaxSuppression(op) => spelled!("NonMaxSuppression").flag("center_point_box", op.centred),

            Op::Quantize(op) => return self.quantize(op, site),
            Op::Dequantize(op) => dequantize(op, site),
            Op::DynamicQuantize(_) => spelled!("DynamicQuantizeLinear"),
            Op::Requantize(_) => return self.requantize(site),
            Op::QuantMatMul(_) => spelled!("MatMulInteger"),
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

            Op::SeqConstruct(_) => spelled!("SequenceConstruct"),
            Op::SeqEmpty(op) => seq_empty(op)?,
            Op::SeqInsert(_) => spelled!("SequenceInsert"),
            Op::SeqErase(_) => spelled!("SequenceErase"),
            Op::SeqAt(_) => spelled!("SequenceAt"),
            Op::SeqLength(_) => spelled!("SequenceLength"),
            Op::SeqSplit(op) => {
                spelled!("SplitToSequence").int("axis", op.axis).int_or("keepdims", i64::from(op.keep_dims), 1)
            }
            Op::SeqConcat(op) => spelled!("ConcatFromSequence").int("axis", op.axis).flag("new_axis", op.new_axis),
            Op::OptSome(_) => spelled!("Optional"),
            Op::OptNone(op) => spelled!("Optional").ty("type", &op.of),
            Op::OptHas(_) => spelled!("OptionalHasElement").since(if site.tensor(0).is_some() { 18 } else { 15 }),
            Op::OptGet(_) => spelled!("OptionalGetElement").since(if site.tensor(0).is_some() { 18 } else { 15 }),
            Op::StrConcat(_) => spelled!("StringConcat"),
            Op::StrSplit(op) => split_string(op),
            Op::StrMatch(op) => spelled!("RegexFullMatch").string("pattern", &op.pattern),
            Op::StrNormalize(op) => spelled!("StringNormalizer")
                .string("case_change_action", onnx_case(op.case))
                .flag("is_case_sensitive", op.case_sensitive)
                .strings("stopwords", &op.stopwords),
            Op::Ngrams(op) => ngrams(op),
            Op::Lookup(op) => lookup(op)?,
            Op::RandomUniform(_) | Op::RandomNormal(_) => return self.drawn(op, site),
            Op::Multinomial(op) => multinomial(op),
            Op::CustomCall(op) => return self.custom(op, site),
            Op::TreeEnsemble(op) => return self.tree_ensemble(op, site),
            Op::SquaredDistance(_) => spelled!("CDist").of("com.microsoft", 1).string("metric", "sqeuclidean"),
            Op::Couple(op) => return self.couple(op, site),
        };
        let spelling = spelling.axes_from_the_front(self.target, site.rank(0));
        self.write(spelling, site.operands.clone(), site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// Was called `Scatter` before operator set 11.
    fn scatter_elements(&self, op: &tensor::ScatterElements) -> OnnxSpelling {
        if self.target < 11 && op.reduction == tensor::ScatterReduction::None {
            return spell("Scatter");
        }
        spelled!("ScatterElements").string("reduction", op.reduction.as_str()).since(since_reduction(op.reduction))
    }

    fn fill(&mut self, op: &tensor::Fill, site: &Site) -> Result<(), Diagnostic> {
        let value = op.value.0.reshaped(&[1]).map_err(|e| Diagnostic::new("export", e.to_string()))?;
        let spelling = spelled!("ConstantOfShape").tensor("value", &value);
        self.write(spelling, site.operands.clone(), site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// The axes may be an operand; without them all are reduced.
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
        let spelling = spell(name).int_or("keepdims", i64::from(op.keep_dims), 1);
        if site.operand(1).is_empty() {
            let x = site.operand(0);
            return self.reduction(spelling, x, &op.axes, site.rank(0), site.results.clone(), &site.node.loc);
        }
        let spelling = spelling.flag("noop_with_empty_axes", !op.all_if_empty);
        self.write(spelling, vec![site.operand(0), site.operand(1)], site.results.clone(), &site.node.loc);
        Ok(())
    }
}

/// The operator set from which on indices may count from the end, where those of operand `slot` do.
fn since_negative(site: &Site, slot: usize) -> i64 {
    if site.ints(slot).is_some_and(|indices| indices.iter().any(|&i| i < 0)) { 11 } else { 1 }
}

/// The operator set that brought a reduction of elements that are scattered.
fn since_reduction(reduction: tensor::ScatterReduction) -> i64 {
    match reduction.as_str() {
        "none" => 1,
        "add" | "mul" => 16,
        _ => 18,
    }
}

/// The interpolations of points of a grid were named after two axes before operator set 20.
fn grid_mode(mode: Interpolation, opset: i64) -> &'static str {
    match mode {
        Interpolation::Linear if opset < 20 => "bilinear",
        Interpolation::Cubic if opset < 20 => "bicubic",
        mode => mode.as_str(),
    }
}

fn seq_empty(op: &seq::SeqEmpty) -> Result<OnnxSpelling, Diagnostic> {
    let of =
        op.of.as_tensor().ok_or_else(|| unsupported(format!("an empty sequence of {} cannot be written", op.of)))?;
    Ok(spelled!("SequenceEmpty").dtype("dtype", of.dtype))
}

fn split_string(op: &text::StrSplit) -> OnnxSpelling {
    let mut spelling = spelled!("StringSplit");
    if !op.delimiter.is_empty() {
        spelling = spelling.string("delimiter", &op.delimiter);
    }
    if op.max_split >= 0 {
        spelling = spelling.int("maxsplit", op.max_split);
    }
    spelling
}

/// Pools are lists of integers or of strings.
fn ngrams(op: &text::Ngrams) -> OnnxSpelling {
    let spelling = spelled!("TfIdfVectorizer")
        .string("mode", onnx_ngram_mode(op.mode))
        .int("min_gram_length", op.min_length)
        .int("max_gram_length", op.max_length)
        .int("max_skip_count", op.max_skip)
        .ints("ngram_counts", &op.starts)
        .ints("ngram_indexes", &op.columns);
    let spelling = if op.weights.is_empty() { spelling } else { spelling.floats("weights", &op.weights) };
    match op.pool.0.strings() {
        Ok(words) => spelling.strings("pool_strings", words),
        Err(_) => spelling.ints("pool_int64s", &op.pool.0.to_i64_vec()),
    }
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
    let spelling = spelled!("LabelEncoder").of("ai.onnx.ml", 4);
    let spelling = list(spelling, ["keys_strings", "keys_int64s", "keys_floats", "keys_tensor"], keys)?;
    let spelling = list(spelling, ["values_strings", "values_int64s", "values_floats", "values_tensor"], values)?;
    Ok(match default.dtype() {
        DType::Str => spelling.string("default_string", default.strings().map_err(bad)?.first().map_or("", |s| s)),
        DType::I64 => spelling.int("default_int64", default.to_i64_vec().first().copied().unwrap_or(-1)),
        DType::F32 => spelling.float("default_float", floats(default).first().copied().unwrap_or(Real(0.0))),
        _ => spelling.tensor("default_tensor", &default.reshaped(&[1]).map_err(bad)?),
    })
}
