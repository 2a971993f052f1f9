//! Quantization. Where zero points and scales stand as operands, ONNX has the same; the rest is written as arithmetic.

use optc_ir::TextEnum;
use optc_ir::ops::math::{self, RoundMode};
use optc_ir::ops::quant;
use optc_tensor::{DType, Tensor};

use super::spelling::{OnnxSpelling, spell};
use super::{Exporter, Site};
use crate::Diagnostic;

fn dtype_of(site: &Site, slot: usize) -> Option<DType> {
    site.tensor(slot).map(|t| t.dtype)
}

/// Axis and block of what scales along an axis, which scales are there for since operator set 13.
fn scaled(name: &'static str, axis: i64, block: i64, scale: Option<&optc_ir::TensorType>) -> OnnxSpelling {
    if scale.and_then(optc_ir::TensorType::rank) == Some(0) {
        return spell(name);
    }
    spell(name).since(13).int_or("axis", axis, 1).int_or("block_size", block, 0)
}

/// Rounding has a name since version 24.
pub(super) fn narrow(op: &math::Narrow) -> OnnxSpelling {
    let spelling = spell("Cast").dtype("to", op.to).int_or("saturate", i64::from(op.saturate), 1);
    match op.round_mode {
        RoundMode::Up => spelling.since(19),
        RoundMode::Down | RoundMode::Nearest => spelling.since(24).string("round_mode", op.round_mode.as_str()),
    }
}

pub(super) fn dequantize(op: &quant::Dequantize, site: &Site) -> OnnxSpelling {
    let spelling = scaled("DequantizeLinear", op.axis, op.block, site.tensor(1));
    if dtype_of(site, 1) == Some(op.to) { spelling } else { spelling.since(23).dtype("output_dtype", op.to) }
}

impl Exporter {
    /// The dtype of the result is an attribute since operator set 21, and that of the zero point before.
    pub(super) fn quantize(&mut self, op: &quant::Quantize, site: &Site) -> Result<(), Diagnostic> {
        let mut spelling = scaled("QuantizeLinear", op.axis, op.block, site.tensor(1));
        let mut operands = site.operands.clone();
        if site.operand(2).is_empty() && op.to != DType::U8 {
            let shape = site.tensor(1).and_then(optc_ir::TensorType::static_shape);
            match shape.filter(|_| self.target < 21) {
                Some(shape) => {
                    let zero = Tensor::zeros(op.to, &shape).map_err(|e| Diagnostic::new("export", e.to_string()))?;
                    operands.truncate(2);
                    operands.push(self.literal(&zero));
                }
                None => spelling = spelling.dtype("output_dtype", op.to),
            }
        }
        if !op.saturate {
            spelling = spelling.since(19).int("saturate", 0);
        }
        if dtype_of(site, 1) != Some(op.precision) {
            spelling = spelling.since(23).dtype("precision", op.precision);
        }
        self.write(spelling, operands, site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// `cast(clip(round(cast(x) · scale) + cast(zero_point)))`: exact in `f32` up to where the clip bounds it.
    pub(super) fn requantize(&mut self, site: &Site) -> Result<(), Diagnostic> {
        let to = dtype_of(site, 2).and_then(|dtype| Some((dtype, dtype.int_range()?)));
        let (to, (low, high)) = to.ok_or_else(|| Diagnostic::new("export", "the zero point is not an integer"))?;
        let (low, high) = (self.literal(&Tensor::scalar(low as f32)), self.literal(&Tensor::scalar(high as f32)));
        let float = || spell("Cast").dtype("to", DType::F32);
        let (x, zero) = (site.operand(0), site.operand(2));
        let (x, zero) = (self.step(float(), vec![x], site), self.step(float(), vec![zero], site));
        let scaled = self.step(spell("Mul"), vec![x, site.operand(1)], site);
        let rounded = self.step(spell("Round"), vec![scaled], site);
        let moved = self.step(spell("Add"), vec![rounded, zero], site);
        let clipped = self.step(spell("Clip"), vec![moved, low, high], site);
        self.write(spell("Cast").dtype("to", to), vec![clipped], site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// A pair of `QuantizeLinear` and `DequantizeLinear`.
    pub(super) fn fake_quant(&mut self, op: &quant::FakeQuant, site: &Site) -> Result<(), Diagnostic> {
        if !op.is_calibrated() {
            self.write(spell("Identity"), vec![site.operand(0)], site.results.clone(), &site.node.loc);
            return Ok(());
        }
        let (scale, zero) = op.parameters().map_err(|e| Diagnostic::new("export", e.to_string()))?;
        let ty = optc_ir::TensorType::fixed(DType::F32, scale.shape());
        let (scale, zero) = (self.literal(&scale), self.literal(&zero));
        let spelling = |name| scaled(name, op.axis, 0, Some(&ty));
        let operands = vec![site.operand(0), scale.clone(), zero.clone()];
        let integers = self.step(spelling("QuantizeLinear"), operands, site);
        let operands = vec![integers, scale, zero];
        self.write(spelling("DequantizeLinear"), operands, site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// `reduce_sum(cast(x) − cast(zero))`.
    pub(super) fn quant_sum(&mut self, op: &quant::QuantSum, site: &Site) -> Result<(), Diagnostic> {
        let wide = || spell("Cast").dtype("to", DType::I32);
        let mut sum = self.step(wide(), vec![site.operand(0)], site);
        if !site.operand(1).is_empty() {
            let zero = self.step(wide(), vec![site.operand(1)], site);
            sum = self.step(spell("Sub"), vec![sum, zero], site);
        }
        let spelling = spell("ReduceSum").int_or("keepdims", i64::from(op.keep_dims), 1);
        self.reduction(spelling, sum, &op.axes, site.rank(0), site.results.clone(), &site.node.loc)
    }

    /// The bias is added apart: `ConvInteger` has none.
    pub(super) fn quant_conv(&mut self, op: &quant::QuantConv, site: &Site) -> Result<(), Diagnostic> {
        let spelling = spell("ConvInteger")
            .ints_or("dilations", &op.dilations, 1)
            .int_or("group", op.groups, 1)
            .ints_or("pads", &op.pads, 0)
            .ints_or("strides", &op.strides, 1);
        let operands = (0..4).map(|slot| site.operand(slot)).collect();
        if site.operand(4).is_empty() {
            self.write(spelling, operands, site.results.clone(), &site.node.loc);
            return Ok(());
        }
        let rank = site.tensor(1).and_then(optc_ir::TensorType::rank);
        let rank = rank.ok_or_else(|| Diagnostic::unsupported("export", "the rank of the weights is not known"))?;
        let mut shape = vec![1; rank];
        if let Some(channels) = shape.get_mut(1) {
            *channels = -1;
        }
        let shape = self.ints(&shape)?;
        let sum = self.step(spelling, operands, site);
        let bias = self.step(spell("Reshape"), vec![site.operand(4), shape], site);
        self.write(spell("Add"), vec![sum, bias], site.results.clone(), &site.node.loc);
        Ok(())
    }
}
