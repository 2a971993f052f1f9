//! Layers whose attributes need a closer look.

use optc_ir::ops::nn::{self, AttentionScores, PoolKind, RecurrentActivation, RecurrentDirection};
use optc_ir::{Real, TextEnum};

use super::spelling::{OnnxSpelling, spell};
use super::{Exporter, Site};
use crate::Diagnostic;
use crate::ops::onnx_activation;

impl Exporter {
    /// The keys before `offset` are the past ones of the ONNX op, the rest the new ones.
    pub(super) fn attention(&mut self, op: &nn::Attention, site: &Site) -> Result<(), Diagnostic> {
        let mut spelling = spell("Attention").since(if site.operand(4).is_empty() { 23 } else { 24 });
        spelling = spelling.flag("is_causal", op.causal);
        if op.left >= 0 || op.right >= 0 {
            spelling = spelling.since(25).int("left_window_size", op.left).int("right_window_size", op.right);
        }
        if op.scale.0 != 0.0 {
            spelling = spelling.float("scale", op.scale);
        }
        if op.softcap.0 != 0.0 {
            spelling = spelling.float("softcap", op.softcap);
        }
        let mode = match op.scores {
            AttentionScores::Absent | AttentionScores::Raw => 0,
            AttentionScores::Capped => 1,
            AttentionScores::Masked => 2,
            AttentionScores::Probabilities => 3,
        };
        spelling = spelling.int_or("qk_matmul_output_mode", mode, 0);
        let [q, mut k, mut v, mask, lengths, offset] = [0, 1, 2, 3, 4, 5].map(|slot| site.operand(slot));
        let (mut past_k, mut past_v) = (String::new(), String::new());
        if !offset.is_empty() {
            (past_k, k) = self.cut(k, &offset, site)?;
            (past_v, v) = self.cut(v, &offset, site)?;
        }
        let mut results = vec![site.results.first().cloned().unwrap_or_default()];
        if let Some(scores) = site.results.get(1) {
            results.extend([String::new(), String::new(), scores.clone()]);
        }
        self.write(spelling, vec![q, k, v, mask, past_k, past_v, lengths], results, &site.node.loc);
        Ok(())
    }

    /// The parts of `x` before and from index `at` of axis 2 on.
    fn cut(&mut self, x: String, at: &str, site: &Site) -> Result<(String, String), Diagnostic> {
        let (zero, end, axis, one) = (self.ints(&[0])?, self.ints(&[i64::MAX])?, self.ints(&[2])?, self.ints(&[1])?);
        let at = self.step(spell("Reshape"), vec![at.to_owned(), one], site);
        let before = self.step(spell("Slice"), vec![x.clone(), zero, at.clone(), axis.clone()], site);
        let rest = self.step(spell("Slice"), vec![x, at, end, axis], site);
        Ok((before, rest))
    }
}

pub(super) fn pool(op: &nn::Pool) -> OnnxSpelling {
    let spelling = match op.kind {
        PoolKind::Max => spell("MaxPool"),
        PoolKind::Mean => spell("AveragePool").flag("count_include_pad", op.count_include_pad),
    };
    spelling
        .flag("ceil_mode", op.ceil_mode)
        .ints_or("dilations", &op.dilations, 1)
        .ints("kernel_shape", &op.kernel)
        .ints_or("pads", &op.pads, 0)
        .ints_or("strides", &op.strides, 1)
}

/// Before operator set 16 there was no half-pixel shift.
pub(super) fn roi_align(op: &nn::RoiAlign, opset: i64) -> OnnxSpelling {
    let spelling = match (op.half_pixel, opset) {
        (true, _) => spell("RoiAlign").since(16).string("coordinate_transformation_mode", "half_pixel"),
        (false, ..16) => spell("RoiAlign"),
        (false, _) => spell("RoiAlign").string("coordinate_transformation_mode", "output_half_pixel"),
    };
    spelling
        .string("mode", op.mode.as_str())
        .int("output_height", op.output_height)
        .int("output_width", op.output_width)
        .int("sampling_ratio", op.sampling_ratio)
        .float("spatial_scale", op.spatial_scale)
}

pub(super) fn nll_loss(op: &nn::NllLoss) -> Result<OnnxSpelling, Diagnostic> {
    let spelling = spell("NegativeLogLikelihoodLoss").string("reduction", op.reduction.as_str());
    match op.ignore[..] {
        [] => Ok(spelling),
        [one] => Ok(spelling.int("ignore_index", one)),
        _ => Err(Diagnostic::unsupported("export", "more than one ignored target cannot be written")),
    }
}

/// What the recurrent ops have in common.
pub(super) struct RecurrentNode<'a> {
    pub(super) activations: &'a [RecurrentActivation],
    pub(super) alpha: &'a [Real],
    pub(super) beta: &'a [Real],
    pub(super) clip: Real,
    pub(super) direction: RecurrentDirection,
}

impl RecurrentNode<'_> {
    pub(super) fn spell(&self, op: &'static str, site: &Site) -> OnnxSpelling {
        // ONNX Runtime asks for the extent of the state, which the recurrent weights have.
        let hidden = site.tensor(2).and_then(|r| {
            // The rows of a quantized matrix are its inputs, those of others the gates.
            let shape = r.shape.as_ref()?;
            shape.get(if op == "DynamicQuantizeLSTM" { 1 } else { 2 })?.known()
        });
        let names: Vec<String> = self.activations.iter().map(|&a| onnx_activation(a).to_owned()).collect();
        let usual: &[&str] = match op {
            "RNN" => &["Tanh"],
            "GRU" => &["Sigmoid", "Tanh"],
            _ => &["Sigmoid", "Tanh", "Tanh"],
        };
        let mut spelling = spell(op).string("direction", self.direction.as_str());
        if !names.iter().eq(usual.iter().cycle().take(names.len())) {
            spelling = spelling.strings("activations", &names);
        }
        if let Some(hidden) = hidden {
            spelling = spelling.int("hidden_size", hidden as i64);
        }
        if self.clip.0 > 0.0 {
            spelling = spelling.float("clip", self.clip);
        }
        spelling.floats("activation_alpha", self.alpha).floats("activation_beta", self.beta)
    }
}
