//! Quantization that stays real: what training and calibration see of it.

use optc_tensor::{DType, Tensor};

use super::expression;
use super::quantize::{Dequantize, Quantize};
use crate::{Args, Facts, FusionRole, InferCx, OpError, Real, Semantics, Type, Val, ensure, op};

op! {
    /// `x` as it would come back from integers of dtype `to`: quantized and dequantized with the scale and zero point
    /// that the range asks for ([`FakeQuant::parameters`]). Without a range, not being calibrated yet, `x` itself.
    ///
    /// - (C1) `x` is `f32`, `to` is `u8` or `i8`.
    /// - (C2) `low` and `high` are equally many: none, one, or one for each index of `axis`; finite, and `low <= high`.
    ///
    /// Text: `%y = quant.fake_quant %x {high = [6], low = [0], name = "conv1.x", to = u8} : tensor<1x8xf32>`
    "quant.fake_quant" = FakeQuant(x) {
        /// The axis along which ranges differ.
        axis: i64 = 1,
        /// The upper ends of the ranges.
        high: Vec<Real> = vec![],
        /// The lower ends of the ranges.
        low: Vec<Real> = vec![],
        /// What the range is known by.
        name: String = String::new(),
        /// The integers' dtype.
        to: DType = DType::U8,
    }
}

/// The scale and zero point of a range in `u8`, or symmetric in `i8`. The range is stretched to contain zero, which is
/// exact in both; one of nothing but zero gets the scale 1.
pub fn scale_and_zero(low: f32, high: f32, to: DType) -> (f32, i64) {
    let (low, high) = (low.min(0.0), high.max(0.0));
    let scale = if to == DType::I8 { (-low).max(high) / 127.0 } else { high / 255.0 - low / 255.0 };
    // A range of subnormal numbers has no scale that can be divided by.
    if scale < f32::MIN_POSITIVE {
        return (1.0, 0);
    }
    let zero = if to == DType::I8 { 0.0 } else { (-low / scale).round_ties_even().clamp(0.0, 255.0) };
    (scale, zero as i64)
}

impl FakeQuant {
    /// Whether there is a range.
    pub fn is_calibrated(&self) -> bool {
        !self.low.is_empty()
    }

    /// Scales and zero points: one each, or vectors with one for each index of the axis.
    ///
    /// # Errors
    /// There is no range.
    pub fn parameters(&self) -> Result<(Tensor, Tensor), OpError> {
        ensure!(self.is_calibrated(), "C2", "`{}` has no range: it is not calibrated", self.name);
        let ranges = self.low.iter().zip(&self.high);
        let (scales, zeros): (Vec<f32>, Vec<i64>) = ranges.map(|(l, h)| scale_and_zero(l.0, h.0, self.to)).unzip();
        let shape: &[usize] = if scales.len() == 1 { &[] } else { &[scales.len()] };
        Ok((Tensor::from_slice(shape, &scales)?, Tensor::from_i64(self.to, shape, &zeros)?))
    }

    /// The ops that the two halves are.
    pub fn halves(&self) -> (Quantize, Dequantize) {
        let quantize = Quantize { axis: self.axis, block: 0, precision: DType::F32, saturate: true, to: self.to };
        (quantize, Dequantize { axis: self.axis, block: 0, to: DType::F32 })
    }
}

impl Semantics for FakeQuant {
    const FACTS: Facts<FakeQuant> = Facts::expression(Some(FusionRole::Quantized), expression::fake_quant);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        ensure!(
            x.dtype == DType::F32 && matches!(self.to, DType::U8 | DType::I8),
            "C1",
            "`x` is {x}, `to` {}",
            self.to
        );
        let ordered = self.low.iter().zip(&self.high).all(|(l, h)| l.0.is_finite() && h.0.is_finite() && l.0 <= h.0);
        ensure!(self.low.len() == self.high.len() && ordered, "C2", "`low` and `high` are no ranges");
        if let (Some(shape), true) = (x.static_shape(), self.low.len() > 1) {
            let n = shape.get(crate::ops::axis_of(self.axis, shape.len())?).copied().unwrap_or(0);
            ensure!(self.low.len() == n, "C2", "there are {} ranges for {n} indices", self.low.len());
        }
        Ok(vec![x.clone().with_encoding(crate::Encoding::Plain).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        if !self.is_calibrated() {
            return Ok(vec![x.clone().into()]);
        }
        let (scale, zero) = self.parameters()?;
        let (quantize, dequantize) = self.halves();
        let with = |x: Val| [Some(x), Some(scale.clone().into()), Some(zero.clone().into())];
        let integers = quantize.eval(&Args::plain(&with(x.clone().into())))?;
        let integers = integers.into_iter().next().ok_or(OpError::Operand { slot: 0 })?;
        dequantize.eval(&Args::plain(&with(integers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_zero_and_have_scales() {
        assert_eq!(scale_and_zero(0.0, 255.0, DType::U8), (1.0, 0));
        assert_eq!(scale_and_zero(2.0, 255.0, DType::U8), (1.0, 0));
        assert_eq!(scale_and_zero(-1.0, 0.0, DType::U8), (1.0 / 255.0, 255));
        assert_eq!(scale_and_zero(-254.0, 127.0, DType::I8), (2.0, 0));
        assert_eq!(scale_and_zero(0.0, 0.0, DType::U8), (1.0, 0));
        assert_eq!(scale_and_zero(0.0, 1e-44, DType::I8), (1.0, 0));
        assert!(scale_and_zero(f32::MIN, f32::MAX, DType::U8).0.is_finite());
    }

    #[test]
    fn without_a_range_it_is_the_identity() {
        let op = FakeQuant { axis: 1, high: vec![], low: vec![], name: String::new(), to: DType::U8 };
        let x = Tensor::from_slice(&[3], &[0.1f32, -2.0, 7.5]).unwrap();
        let y = |op: &FakeQuant| {
            op.eval(&Args::plain(&[Some(x.clone().into())])).unwrap()[0].as_tensor().unwrap().to_f64_vec()
        };
        assert_eq!(y(&op), x.to_f64_vec());
        let ranged = FakeQuant { low: vec![Real(0.0)], high: vec![Real(255.0)], ..op };
        assert_eq!(y(&ranged), [0.0, 0.0, 8.0]);
    }
}
