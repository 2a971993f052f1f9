//! What rules ask of quantizations.

use optc_ir::ops::quant::{Dequantize, Quantize};
use optc_ir::{Graph, NodeId, Value};
use optc_tensor::{DType, Tensor};

use crate::matching::{dtype, positive_axes, producer, rank};

/// A scale and a zero point for a whole tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Whole {
    pub scale: f32,
    pub zero: i64,
    pub dtype: DType,
}

impl Whole {
    /// The integer that a real becomes.
    pub fn quantized(&self, v: f32) -> i64 {
        let (low, high) = self.bounds();
        ((v / self.scale).round_ties_even() as f64 + self.zero as f64).max(low as f64).min(high as f64) as i64
    }

    /// The real that an integer stands for.
    pub fn real(&self, v: i64) -> f32 {
        (v - self.zero) as f32 * self.scale
    }

    /// The range of the integers.
    pub fn bounds(&self) -> (i64, i64) {
        if self.dtype == DType::I8 { (-128, 127) } else { (0, 255) }
    }

    pub fn scale(&self) -> Tensor {
        Tensor::scalar(self.scale)
    }

    /// An integer of the dtype.
    pub fn integer(&self, v: i64) -> Option<Tensor> {
        Tensor::from_i64(self.dtype, &[], &[v]).ok()
    }

    /// The zero point as an operand: none where it is 0.
    pub fn zero(&self) -> Option<Tensor> {
        self.integer(self.zero)
    }
}

/// Reals that are stored as integers: `(integers − zeros) · scales`, one for all or one for each index of the axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct QuantizedReals {
    pub integers: Value,
    pub scales: Vec<f32>,
    pub zeros: Vec<i64>,
    pub dtype: DType,
    pub axis: Option<usize>,
}

impl QuantizedReals {
    /// The one scale and zero point.
    pub fn whole(&self) -> Option<Whole> {
        match (&self.scales[..], &self.zeros[..]) {
            (&[scale], &[zero]) => Some(Whole { scale, zero, dtype: self.dtype }),
            _ => None,
        }
    }
}

fn byte(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8)
}

/// Scales and zero points that are constant and usable: positive, and equally many.
fn parameters(g: &Graph, node: NodeId) -> Option<(Vec<f32>, Vec<i64>)> {
    let scale = g.constant(g.operand(node, 1)?)?;
    let scales: Vec<f32> = scale.as_slice::<f32>().ok()?.to_vec();
    let zeros = match g.operand(node, 2) {
        Some(zero) => g.constant(zero)?.to_i64_vec(),
        None => vec![0; scales.len()],
    };
    let usable = scales.iter().all(|s| s.is_finite() && *s > 0.0) && scales.len() == zeros.len();
    usable.then_some((scales, zeros))
}

/// A value that is dequantized 8-bit integers (or `i32` ones, for biases).
pub(super) fn stored(g: &Graph, v: Value) -> Option<QuantizedReals> {
    let (node, op) = producer::<Dequantize>(g, v)?;
    let integers = g.operand(node, 0)?;
    let dtype = dtype(g, integers)?;
    if op.block != 0 || op.to != DType::F32 || !(byte(dtype) || dtype == DType::I32) {
        return None;
    }
    let (scales, zeros) = parameters(g, node)?;
    let axis = match scales.len() {
        1 => None,
        _ => Some(*positive_axes(&[op.axis], rank(g, v)?)?.first()?),
    };
    Some(QuantizedReals { integers, scales, zeros, dtype, axis })
}

/// A value that is dequantized 8-bit integers with one scale.
pub(super) fn stored_whole(g: &Graph, v: Value) -> Option<(Value, Whole)> {
    let stored = stored(g, v)?;
    let whole = stored.whole().filter(|w| byte(w.dtype))?;
    Some((stored.integers, whole))
}

/// What a quantization with one scale to 8 bits does.
pub(super) fn quantizes(g: &Graph, node: NodeId) -> Option<Whole> {
    let op = g.op::<Quantize>(node)?;
    let plain = op.block == 0 && op.precision == DType::F32 && byte(op.to);
    let real = dtype(g, g.operand(node, 0)?)? == DType::F32;
    let (scales, zeros) = parameters(g, node)?;
    match (&scales[..], &zeros[..]) {
        (&[scale], &[zero]) if plain && real => Some(Whole { scale, zero, dtype: op.to }),
        _ => None,
    }
}
