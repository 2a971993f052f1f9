//! Ops that newer operator sets have and older ones can compute from others: written out where the target lacks them,
//! so that one of them, which a pass may have found in the model, does not raise the operator set.

use optc_ir::Dim;
use optc_ir::ops::nn::AttentionScores;
use optc_ir::ops::{math, nn};
use optc_tensor::{DType, Tensor};

use super::spelling::{OnnxSpelling, spell};
use super::{Exporter, Site};
use crate::Diagnostic;

impl Exporter {
    /// A scalar of the dtype of operand 0.
    fn scalar(&mut self, value: f64, site: &Site) -> Result<String, Diagnostic> {
        let dtype = site.tensor(0).map_or(DType::F32, |t| t.dtype);
        let tensor = Tensor::from_f64(dtype, &[], &[value]).map_err(|e| Diagnostic::new("export", e.to_string()))?;
        Ok(self.literal(&tensor))
    }

    fn binary(&mut self, op: &'static str, a: &str, b: &str, site: &Site) -> String {
        self.step(spell(op), vec![a.to_owned(), b.to_owned()], site)
    }

    fn unary(&mut self, op: &'static str, x: &str, site: &Site) -> String {
        self.step(spell(op), vec![x.to_owned()], site)
    }

    fn last(&mut self, op: &'static str, operands: [String; 2], site: &Site) -> Result<(), Diagnostic> {
        self.write(spell(op), operands.to_vec(), site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// `x · hard_sigmoid(x)`.
    pub(super) fn hard_swish(&mut self, site: &Site) -> Result<(), Diagnostic> {
        let spelling = spell("HardSigmoid").float("alpha", optc_ir::Real(1.0 / 6.0)).float("beta", optc_ir::Real(0.5));
        let factor = self.step(spelling, vec![site.operand(0)], site);
        self.last("Mul", [site.operand(0), factor], site)
    }

    /// `x · tanh(softplus(x))`.
    pub(super) fn mish(&mut self, site: &Site) -> Result<(), Diagnostic> {
        let softplus = self.unary("Softplus", &site.operand(0), site);
        let factor = self.unary("Tanh", &softplus, site);
        self.last("Mul", [site.operand(0), factor], site)
    }

    /// `x · sigmoid(alpha · x)`.
    pub(super) fn swish(&mut self, op: &math::Swish, site: &Site) -> Result<(), Diagnostic> {
        let mut scaled = site.operand(0);
        if op.alpha.0 != 1.0 {
            let alpha = self.scalar(op.alpha.0.into(), site)?;
            scaled = self.binary("Mul", &scaled, &alpha, site);
        }
        let factor = self.unary("Sigmoid", &scaled, site);
        self.last("Mul", [site.operand(0), factor], site)
    }

    /// `x · (1 + erf(x / √2)) · ½`, or with `tanh(√(2/π) · (x + 0.044715 · x³))`.
    pub(super) fn gelu(&mut self, op: &math::Gelu, site: &Site) -> Result<(), Diagnostic> {
        let x = site.operand(0);
        let inner = if op.approximate {
            let (three, small) = (self.scalar(3.0, site)?, self.scalar(0.044715, site)?);
            let cube = self.binary("Pow", &x, &three, site);
            let cube = self.binary("Mul", &cube, &small, site);
            let sum = self.binary("Add", &x, &cube, site);
            let factor = self.scalar((2.0 / std::f64::consts::PI).sqrt(), site)?;
            let scaled = self.binary("Mul", &sum, &factor, site);
            self.unary("Tanh", &scaled, site)
        } else {
            let root = self.scalar(std::f64::consts::SQRT_2, site)?;
            let scaled = self.binary("Div", &x, &root, site);
            self.unary("Erf", &scaled, site)
        };
        let (one, half) = (self.scalar(1.0, site)?, self.scalar(0.5, site)?);
        let sum = self.binary("Add", &inner, &one, site);
        let product = self.binary("Mul", &x, &sum, site);
        self.last("Mul", [product, half], site)
    }

    /// The mean over the axes from `axis` on.
    fn mean(&mut self, x: String, axis: i64, site: &Site) -> Result<String, Diagnostic> {
        let rank = site.rank(0);
        let unknown = || Diagnostic::unsupported("export", "the operand's rank is not known");
        let end = if axis < 0 { 0 } else { rank.ok_or_else(unknown)? as i64 };
        let axes: Vec<i64> = (axis..end).collect();
        let name = self.names.numbered(site.results.first().map_or("", String::as_str));
        let loc = std::slice::from_ref(&name);
        self.reduction(spell("ReduceMean"), x, &axes, rank, vec![name.clone()], loc)?;
        Ok(name)
    }

    /// `x / √(mean(x²) + epsilon)`, where `centred` is what is squared.
    fn normalized(&mut self, centred: String, axis: i64, epsilon: f32, site: &Site) -> Result<String, Diagnostic> {
        let square = self.binary("Mul", &centred, &centred, site);
        let variance = self.mean(square, axis, site)?;
        let epsilon = self.scalar(epsilon.into(), site)?;
        let sum = self.binary("Add", &variance, &epsilon, site);
        let deviation = self.unary("Sqrt", &sum, site);
        Ok(self.binary("Div", &centred, &deviation, site))
    }

    /// Mean and variance by sums.
    pub(super) fn layer_norm(&mut self, op: &nn::LayerNorm, site: &Site) -> Result<(), Diagnostic> {
        let mean = self.mean(site.operand(0), op.axis, site)?;
        let centred = self.binary("Sub", &site.operand(0), &mean, site);
        let normalized = self.normalized(centred, op.axis, op.epsilon.0, site)?;
        if site.operand(2).is_empty() {
            return self.last("Mul", [normalized, site.operand(1)], site);
        }
        let scaled = self.binary("Mul", &normalized, &site.operand(1), site);
        self.last("Add", [scaled, site.operand(2)], site)
    }

    /// The mean square by a sum.
    pub(super) fn rms_norm(&mut self, op: &nn::RmsNorm, site: &Site) -> Result<(), Diagnostic> {
        let normalized = self.normalized(site.operand(0), op.axis, op.epsilon.0, site)?;
        self.last("Mul", [normalized, site.operand(1)], site)
    }

    /// The formula, product by product; see [`is_formula`].
    pub(super) fn attention_formula(&mut self, op: &nn::Attention, site: &Site) -> Result<(), Diagnostic> {
        let [q, k, v, mask] = [0, 1, 2, 3].map(|slot| site.operand(slot));
        let width = site.tensor(0).and_then(|t| t.shape.as_ref()?.get(3)?.known());
        let unknown = || Diagnostic::unsupported("export", "the extent of a head is not known");
        let scale = match op.scale.0 {
            0.0 => 1.0 / (width.ok_or_else(unknown)? as f64).sqrt(),
            scale => scale.into(),
        };
        let transposed = self.step(spell("Transpose").ints("perm", &[0, 1, 3, 2]), vec![k], site);
        let scores = self.binary("MatMul", &q, &transposed, site);
        let scale = self.scalar(scale, site)?;
        let mut scores = self.binary("Mul", &scores, &scale, site);
        if site.tensor(3).is_some_and(|t| t.dtype == DType::Bool) {
            let never = self.scalar(f64::NEG_INFINITY, site)?;
            scores = self.step(spell("Where"), vec![mask, scores, never], site);
        } else if !mask.is_empty() {
            scores = self.binary("Add", &scores, &mask, site);
        }
        let weights = self.step(spell("Softmax").int("axis", 3), vec![scores], site);
        self.last("MatMul", [weights, v], site)
    }

    /// The groups as channels that are normalized each, then scale and bias of the channels proper.
    pub(super) fn group_norm(&mut self, op: &nn::GroupNorm, site: &Site) -> Result<(), Diagnostic> {
        let bad = |e: optc_tensor::TensorError| Diagnostic::new("export", e.to_string());
        let unknown = || Diagnostic::unsupported("export", "the operand's rank is not known");
        let (rank, x) = (site.rank(0).ok_or_else(unknown)?, site.operand(0));
        let dtype = site.tensor(0).map_or(DType::F32, |t| t.dtype);
        let groups = usize::try_from(op.groups).unwrap_or(0);
        let fill = |value: f64| Tensor::from_f64(dtype, &[groups], &vec![value; groups]).map_err(bad);
        let (one, zero) = (self.literal(&fill(1.0)?), self.literal(&fill(0.0)?));
        let (grouped, spread) = (self.ints(&[0, op.groups, -1])?, self.ints(&column(rank))?);
        let shape = self.unary("Shape", &x, site);
        let grouped = self.binary("Reshape", &x, &grouped, site);
        let norm: OnnxSpelling = spell("InstanceNormalization").float("epsilon", op.epsilon);
        let normalized = self.step(norm, vec![grouped, one, zero], site);
        let normalized = self.binary("Reshape", &normalized, &shape, site);
        let scale = self.binary("Reshape", &site.operand(1), &spread, site);
        let bias = self.binary("Reshape", &site.operand(2), &spread, site);
        let scaled = self.binary("Mul", &normalized, &scale, site);
        self.last("Add", [scaled, bias], site)
    }
}

/// Whether an attention is `softmax(scale · q·kᵀ + mask) · v` and no more, of heads that are each other's.
pub(super) fn is_formula(op: &nn::Attention, site: &Site) -> bool {
    let mask = site.operand(3);
    let bounded = op.causal || op.left >= 0 || op.right >= 0 || op.softcap.0 != 0.0;
    let more = [4, 5].iter().any(|&slot| !site.operand(slot).is_empty()) || op.scores != AttentionScores::Absent;
    let dim = |slot: usize, axis: usize| {
        let shape = site.tensor(slot)?.shape.as_ref()?;
        shape.get((shape.len() + axis).checked_sub(4)?).filter(|d| **d != Dim::Unknown)
    };
    let same = |a: (usize, usize), b: (usize, usize)| dim(a.0, a.1).is_some() && dim(a.0, a.1) == dim(b.0, b.1);
    let one_dtype = site.tensor(0).map(|t| t.dtype) == site.tensor(2).map(|t| t.dtype);
    let dtype = |slot: usize| site.tensor(slot).map(|t| t.dtype);
    let fits = dtype(3) == Some(DType::Bool) || dtype(3) == dtype(0);
    let masked = mask.is_empty() || op.formula && fits && same((3, 3), (1, 2));
    !bounded && !more && one_dtype && is_wide(site) && same((0, 1), (1, 1)) && masked
}

/// The shape that lays a vector along axis 1 of a tensor of this rank.
fn column(rank: usize) -> Vec<i64> {
    let mut shape = vec![1; rank.saturating_sub(1)];
    if let Some(channels) = shape.first_mut() {
        *channels = -1;
    }
    shape
}

/// Whether sums are as exact as the standard's normalizations have them: it widens shorter floats.
pub(super) fn is_wide(site: &Site) -> bool {
    site.tensor(0).is_some_and(|t| matches!(t.dtype, DType::F32 | DType::F64))
}
