//! Constant quantized weights, whose zero points are taken off where they are packed.

use optc_ir::Value;
use optc_kernels::int8::Int8Form;
use optc_tensor::{DType, Tensor};
use optc_types::ReasonCode;

use super::Declined;
use super::cx::Cx;

/// Which zero point a weight has, of as many as there are rows or columns; all have the first where there is one.
#[derive(Clone, Copy, Debug)]
pub(super) enum ZeroOf {
    /// That of its column, of so many.
    Column(usize),
    /// That of its filter, of so many weights.
    Filter(usize),
}

/// Constant integers and their zero points.
pub(super) struct QuantizedWeights {
    weights: Tensor,
    zeros: Option<Tensor>,
    /// The zero points' values.
    values: Vec<i64>,
    zero_of: ZeroOf,
    /// What stands in recipes, where they are not without their zero points.
    pub how: &'static str,
}

/// Whether all fit a signed byte, as a fact of constants.
const FIT: &str = "fit a signed byte";

impl QuantizedWeights {
    /// The weights and zero points that these values are.
    ///
    /// # Errors
    /// They are not constant.
    pub fn of(cx: &Cx, w: Value, zero: Option<Value>, zero_of: ZeroOf) -> Result<QuantizedWeights, Declined> {
        let absent = |what| Declined::new(ReasonCode::NotConstant, what);
        let weights = cx.constant(w).cloned().ok_or_else(|| absent("the weights are not constant"))?;
        let constant = |zero| cx.constant(zero).cloned();
        let zeros = match zero {
            None => None,
            Some(zero) => Some(constant(zero).ok_or_else(|| absent("the weights' zero points are not constant"))?),
        };
        let values = zeros.as_ref().map_or_else(|| vec![0], Tensor::to_i64_vec);
        Ok(QuantizedWeights { weights, zeros, values, zero_of, how: "" })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// What they are made from.
    pub fn sources(&self) -> Vec<&Tensor> {
        std::iter::once(&self.weights).chain(&self.zeros).collect()
    }

    /// All without their zero points.
    pub fn values(&self) -> Vec<i16> {
        let (bytes, zero) = (self.weights.bytes(), self.values.first().map_or(0, |&zero| zero as i16));
        match (self.weights.dtype(), self.values.len()) {
            (DType::I8, 0..=1) => bytes.iter().map(|&w| i16::from(w as i8) - zero).collect(),
            (DType::U8, 0..=1) => bytes.iter().map(|&w| i16::from(w) - zero).collect(),
            (DType::I8, _) => self.each(bytes.len(), |i| i16::from(bytes[i] as i8)),
            (DType::U8, _) => self.each(bytes.len(), |i| i16::from(bytes[i])),
            _ => {
                let all = self.weights.to_i64_vec();
                self.each(all.len(), |i| all[i] as i16)
            }
        }
    }

    fn each(&self, len: usize, weight: impl Fn(usize) -> i16) -> Vec<i16> {
        let (of, several) = (|row: usize| self.values.get(row).map_or(0, |&zero| zero as i16), self.values.len() > 1);
        let zero = |i: usize| match self.zero_of {
            _ if !several => of(0),
            ZeroOf::Column(n) => of(i % n.max(1)),
            ZeroOf::Filter(len) => of(i / len.max(1)),
        };
        (0..len).map(|i| weight(i).wrapping_sub(zero(i))).collect()
    }

    /// The share that is zero.
    pub fn share_of_zeros(&self, cx: &Cx) -> f64 {
        cx.facts.number(&self.sources(), "share of zeros", || super::sparse::share_of_zeros(&self.values()))
    }

    /// Whether each is a signed byte.
    pub fn fit_bytes(&self, cx: &Cx) -> bool {
        let known = match self.weights.dtype() {
            DType::I8 => self.values.iter().all(|&zero| zero == 0),
            DType::U8 => self.values.iter().all(|&zero| zero == 128),
            _ => false,
        };
        if known {
            return true;
        }
        let fit = || self.values().iter().all(|&w| i8::try_from(w).is_ok());
        cx.facts.number(&self.sources(), FIT, || f64::from(u8::from(fit()))) > 0.0
    }

    /// Unsigned bytes less 128, which are signed bytes, and what is added for each of `n` columns to be without their
    /// zero points; none where all are signed bytes without these, or they are no unsigned bytes.
    pub fn less_128(&self, cx: &Cx, n: usize) -> Option<(QuantizedWeights, Vec<i32>)> {
        if self.weights.dtype() != DType::U8 || self.fit_bytes(cx) {
            return None;
        }
        let zero = |column: usize| self.values.get(if self.values.len() == 1 { 0 } else { column }).copied();
        let shifts = (0..n).map(|column| Some(128 - i32::try_from(zero(column)?).ok()?)).collect::<Option<_>>()?;
        let weights = self.weights.clone();
        let shifted =
            QuantizedWeights { weights, zeros: None, values: vec![128], zero_of: self.zero_of, how: " less 128" };
        Some((shifted, shifts))
    }

    /// The fastest form of the target for them, and so many pixels side by side.
    pub fn form(&self, cx: &Cx, pixels: usize) -> Int8Form {
        Int8Form::choose(cx.target.isa, pixels, self.fit_bytes(cx))
    }
}
