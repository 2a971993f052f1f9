//! Between reals and quantized integers.

use optc_tensor::{DType, Rounding, Tensor, broadcast_shapes};

use super::expression;
use crate::ops::axis_of;
use crate::ops::eval::result_shapes;
use crate::ops::math::{broadcast_indices, overflow};
use crate::ops::message::type_of;
use crate::ops::number::round_to;
use crate::{Args, Facts, FusionRole, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// `clamp(round(x / scale) + zero_point)`: rounded to nearest, ties to even, and clamped to the range of `to`. The
    /// quotient is rounded to `precision` first. NaN becomes the least value of `to`.
    ///
    /// To a small float it is `x / scale + zero_point`, converted as `math.narrow` does.
    ///
    /// - (C1) `x` is a float or `i32`, `scale` a float, `to` an integer dtype or a small float with a sign, and
    ///   `precision` a float dtype.
    /// - (C2) `scale` and `zero_point` have one element; or one for each index of `axis`; or, with `block`, the shape
    ///   of `x` but for `axis`, where each stands for `block` indices.
    /// - (C3) `zero_point` has the shape of `scale` and the dtype `to`.
    "quant.quantize" = Quantize(x, scale, zero_point: optional) {
        /// The axis along which scales differ; negative from the end.
        axis: i64 = 1,
        /// Indices that share a scale; 0 where there are no blocks.
        block: i64 = 0,
        /// The dtype in which the quotient is rounded.
        precision: DType = DType::F32,
        /// Whether what is too large for a small float becomes its largest value.
        saturate: bool = true,
        /// The result's dtype.
        to: DType,
    }
}

op! {
    /// `(x − zero_point) · scale`. In `f32` the difference is rounded before it is multiplied, else the product is
    /// rounded once.
    ///
    /// - (C1) `x` is an integer or a small float with a sign, `scale` and `to` are floats.
    /// - (C2) `scale` and `zero_point` as for `quant.quantize`.
    /// - (C3) `zero_point` has the shape of `scale` and the dtype of `x`.
    "quant.dequantize" = Dequantize(x, scale, zero_point: optional) {
        /// The axis along which scales differ; negative from the end.
        axis: i64 = 1,
        /// Indices that share a scale; 0 where there are no blocks.
        block: i64 = 0,
        /// The result's dtype.
        to: DType = DType::F32,
    }
}

op! {
    /// Quantizes `x` to `u8` with the scale and zero point that its range, stretched to contain zero, asks for; results
    /// `y`, `scale`, `zero_point`. The scale of zeros is 1. All steps are in `f32`.
    ///
    /// - (C1) `x` is `f32`.
    "quant.dynamic_quantize" = DynamicQuantize(x) {}
}

op! {
    /// `clamp(round(f32(x) · scale) + zero_point)`: one `f32` product, rounded to nearest, ties to even, and clamped to
    /// the range of the zero point's dtype, which is the result's.
    ///
    /// - (C1) `x` is `i32`, `scale` is `f32`, `zero_point` is an integer.
    /// - (C2) `scale` and `zero_point` broadcast to `x`.
    "quant.requantize" = Requantize(x, scale, zero_point) {}
}

/// How scales are shared among elements.
enum Sharing {
    One,
    /// `inner` elements for each index of an axis of extent `n`.
    Axis {
        inner: usize,
        n: usize,
    },
    /// As `Axis`, but one scale for each `block` indices, `count` of them.
    Block {
        inner: usize,
        n: usize,
        block: usize,
        count: usize,
    },
}

impl Sharing {
    /// How scales of shape `scale` are shared by elements of shape `x`.
    fn of(x: &[usize], scale: &[usize], axis: i64, block: i64) -> Result<Sharing, OpError> {
        if block == 0 && scale.iter().product::<usize>() == 1 && scale.len() <= 1 {
            return Ok(Sharing::One);
        }
        let axis = axis_of(axis, x.len())?;
        let (n, inner) = (x[axis], x[axis + 1..].iter().product());
        if block == 0 {
            ensure!(scale == [n], "C2", "`scale` has shape {scale:?}, expected [{n}]");
            return Ok(Sharing::Axis { inner, n });
        }
        ensure!(block > 0, "C2", "`block` is {block}");
        let (block, count) = (block as usize, n.div_ceil(block as usize));
        let mut expected = x.to_vec();
        expected[axis] = count;
        ensure!(scale == expected, "C2", "`scale` has shape {scale:?}, expected {expected:?}");
        Ok(Sharing::Block { inner, n, block, count })
    }

    /// The scale of element `i`.
    fn index(&self, i: usize) -> usize {
        match *self {
            Sharing::One => 0,
            Sharing::Axis { inner, n } => i / inner % n,
            Sharing::Block { inner, n, block, count } => {
                (i / inner / n * count + i / inner % n / block) * inner + i % inner
            }
        }
    }
}

/// Whether scales and zero points of these shapes belong together; one of each has any shape.
fn alike(zero: &[usize], scale: &[usize]) -> bool {
    zero == scale || [zero, scale].iter().all(|shape| shape.iter().product::<usize>() == 1)
}

/// Checks that the zero point, where there is one, has the scale's shape and this dtype.
fn check_zero_point(cx: &InferCx, dtype: DType) -> Result<(), OpError> {
    if !cx.has(2) {
        return Ok(());
    }
    let (scale, zero) = (cx.tensor(1)?, cx.tensor(2)?);
    let shapes = zero.static_shape().zip(scale.static_shape());
    let fits = zero.dtype == dtype && shapes.is_none_or(|(zero, scale)| alike(&zero, &scale));
    ensure!(fits, "C3", "`zero_point` is {zero}, expected {dtype} in the shape of `scale`, {scale}");
    Ok(())
}

/// The zero point, which must match the scale.
fn zero_point<'a>(zero: Option<&'a Tensor>, scale: &Tensor, dtype: DType) -> Result<Option<&'a Tensor>, OpError> {
    let Some(zero) = zero else { return Ok(None) };
    let fits = zero.dtype() == dtype && alike(zero.shape(), scale.shape());
    ensure!(fits, "C3", "`zero_point` is {}, `scale` {}", type_of(zero), type_of(scale));
    Ok(Some(zero))
}

/// Whether reals are quantized to a dtype.
fn is_quantized(dtype: DType) -> bool {
    dtype.is_int() || (dtype.is_small_float() && dtype.is_signed())
}

/// The bounds of an integer dtype.
fn bounds(dtype: DType) -> Result<(f64, f64), OpError> {
    let range = dtype.int_range().ok_or(OpError::DType { op: "quant.quantize", dtype })?;
    Ok((range.0 as f64, range.1 as f64))
}

/// `round(v) + zero`, clamped.
fn saturate(v: f64, zero: i64, (low, high): (f64, f64)) -> i64 {
    // `max` takes the bound where the value is NaN.
    (v.round_ties_even() + zero as f64).max(low).min(high) as i64
}

impl Quantize {
    /// To small floats.
    fn eval_small(&self, x: &Tensor, scales: &[f64], zero: Option<&Tensor>, by: &Sharing) -> Result<Vec<Val>, OpError> {
        let zeros = zero.map_or_else(|| vec![0.0; scales.len()], Tensor::to_f64_vec);
        let value = |(i, v): (usize, f64)| {
            let s = by.index(i);
            round_to(self.precision, v / scales[s]) + zeros[s]
        };
        let y: Vec<f64> = x.to_f64_vec().into_iter().enumerate().map(value).collect();
        let overflow = overflow(self.saturate);
        Ok(vec![Tensor::from_f64_with(self.to, x.shape(), &y, overflow, Rounding::Nearest)?.into()])
    }
}

impl Semantics for Quantize {
    const FACTS: Facts<Quantize> = Facts::expression(Some(FusionRole::Quantized), expression::quantize);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, scale) = (cx.tensor(0)?, cx.tensor(1)?);
        let floats = (x.dtype.is_float() || x.dtype == DType::I32) && scale.dtype.is_float();
        ensure!(floats && self.precision.is_float(), "C1", "`x` is {x}, `scale` is {scale}, in {}", self.precision);
        ensure!(is_quantized(self.to), "C1", "`to` is {}", self.to);
        check_zero_point(cx, self.to)?;
        if let (Some(x), Some(scale)) = (x.static_shape(), scale.static_shape()) {
            Sharing::of(&x, &scale, self.axis, self.block)?;
        }
        Ok(vec![TensorType::of(self.to, x.shape.clone()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, scale) = (args.tensor(0)?, args.tensor(1)?);
        result_shapes(self, args)?;
        let sharing = Sharing::of(x.shape(), scale.shape(), self.axis, self.block)?;
        let zero_point = zero_point(args.optional(2), scale, self.to)?;
        if self.to.is_small_float() {
            return self.eval_small(x, &scale.to_f64_vec(), zero_point, &sharing);
        }
        let zeros = zero_point.map_or_else(|| vec![0; scale.len()], Tensor::to_i64_vec);
        let (scales, bounds) = (scale.to_f64_vec(), bounds(self.to)?);
        let value = |(i, v): (usize, f64)| {
            let s = sharing.index(i);
            saturate(round_to(self.precision, v / scales[s]), zeros[s], bounds)
        };
        let y: Vec<i64> = x.to_f64_vec().into_iter().enumerate().map(value).collect();
        Ok(vec![Tensor::from_i64(self.to, x.shape(), &y)?.into()])
    }
}

impl Semantics for Dequantize {
    const FACTS: Facts<Dequantize> = Facts::expression(Some(FusionRole::Quantized), expression::dequantize);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, scale) = (cx.tensor(0)?, cx.tensor(1)?);
        ensure!(is_quantized(x.dtype) && scale.dtype.is_float(), "C1", "`x` is {x}, `scale` is {scale}");
        ensure!(self.to.is_float(), "C1", "`to` is {}", self.to);
        check_zero_point(cx, x.dtype)?;
        if let (Some(x), Some(scale)) = (x.static_shape(), scale.static_shape()) {
            Sharing::of(&x, &scale, self.axis, self.block)?;
        }
        Ok(vec![TensorType::of(self.to, x.shape.clone()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, scale) = (args.tensor(0)?, args.tensor(1)?);
        result_shapes(self, args)?;
        let sharing = Sharing::of(x.shape(), scale.shape(), self.axis, self.block)?;
        let zero = zero_point(args.optional(2), scale, x.dtype())?;
        let scales = scale.to_f64_vec();
        let single = self.to == DType::F32;
        let y: Vec<f64> = if x.dtype().is_small_float() {
            let zeros = zero.map_or_else(|| vec![0.0; scale.len()], Tensor::to_f64_vec);
            let value = |(i, v): (usize, f64)| {
                let s = sharing.index(i);
                let difference = v - zeros[s];
                (if single { f64::from(difference as f32) } else { difference }) * scales[s]
            };
            x.to_f64_vec().into_iter().enumerate().map(value).collect()
        } else {
            let zeros = zero.map_or_else(|| vec![0; scale.len()], Tensor::to_i64_vec);
            let value = |(i, v): (usize, i64)| {
                let s = sharing.index(i);
                let difference = v.wrapping_sub(zeros[s]);
                (if single { difference as f32 as f64 } else { difference as f64 }) * scales[s]
            };
            x.to_i64_vec().into_iter().enumerate().map(value).collect()
        };
        Ok(vec![Tensor::from_f64(self.to, x.shape(), &y)?.into()])
    }
}

/// The scale and zero point that the range of `x` asks for in `u8`.
pub(crate) fn range_of(x: &[f32]) -> (f32, u8) {
    let low = x.iter().copied().fold(0f32, f32::min);
    let high = x.iter().copied().fold(0f32, f32::max);
    let scale = if high > low { (high - low) / 255.0 } else { 1.0 };
    (scale, (-low / scale).clamp(0.0, 255.0).round_ties_even() as u8)
}

/// `x` in `u8` with this scale and zero point.
pub(crate) fn quantize_u8(x: &[f32], scale: f32, zero: u8) -> Vec<u8> {
    let value = |v: &f32| ((v / scale).round_ties_even() + zero as f32).clamp(0.0, 255.0) as u8;
    x.iter().map(value).collect()
}

impl Semantics for DynamicQuantize {
    const FACTS: Facts<DynamicQuantize> = Facts::family();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        ensure!(x.dtype == DType::F32, "C1", "`x` is {}, expected f32", x.dtype);
        let scalar = |dtype| Type::Tensor(TensorType::fixed(dtype, &[]));
        Ok(vec![TensorType::of(DType::U8, x.shape.clone()).into(), scalar(DType::F32), scalar(DType::U8)])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let values = x.as_slice::<f32>()?;
        let (scale, zero) = range_of(values);
        let y = Tensor::from_slice(x.shape(), &quantize_u8(values, scale, zero))?;
        Ok(vec![y.into(), Tensor::scalar(scale).into(), Tensor::scalar(zero).into()])
    }
}

impl Semantics for Requantize {
    const FACTS: Facts<Requantize> = Facts::expression(Some(FusionRole::Quantized), expression::requantize);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, scale, zero) = (cx.tensor(0)?, cx.tensor(1)?, cx.tensor(2)?);
        let fits = x.dtype == DType::I32 && scale.dtype == DType::F32 && zero.dtype.is_int();
        ensure!(fits, "C1", "`x` is {x}, `scale` is {scale}, `zero_point` is {zero}");
        Ok(vec![TensorType::of(zero.dtype, x.shape.clone()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, scale, zero) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
        for t in [scale, zero] {
            let fits = broadcast_shapes(t.shape(), x.shape()).is_some_and(|s| s == x.shape());
            ensure!(fits, "C2", "{:?} does not broadcast to {:?}", t.shape(), x.shape());
        }
        let (scales, zeros, bounds) = (scale.as_slice::<f32>()?, zero.to_i64_vec(), bounds(zero.dtype())?);
        let places =
            broadcast_indices(scale.shape(), x.shape()).into_iter().zip(broadcast_indices(zero.shape(), x.shape()));
        let value = |(&v, (s, z)): (&i32, (usize, usize))| saturate((v as f32 * scales[s]) as f64, zeros[z], bounds);
        let y: Vec<i64> = x.as_slice::<i32>()?.iter().zip(places).map(value).collect();
        Ok(vec![Tensor::from_i64(zero.dtype(), x.shape(), &y)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(to: DType, x: &[f32], scale: f32, zero: i64) -> Vec<i64> {
        let op = Quantize { axis: 1, block: 0, precision: DType::F32, saturate: true, to };
        let zero = Tensor::from_i64(to, &[], &[zero]).unwrap();
        let x = Tensor::from_slice(&[x.len()], x).unwrap();
        let values = [Some(x.into()), Some(Tensor::scalar(scale).into()), Some(zero.into())];
        op.eval(&Args::plain(&values)).unwrap()[0].as_tensor().unwrap().to_i64_vec()
    }

    #[test]
    fn quantizing_rounds_ties_to_even_and_saturates() {
        assert_eq!(quantized(DType::I8, &[0.5, 1.5, -2.5, 1e9, -1e9], 1.0, 0), [0, 2, -2, 127, -128]);
        assert_eq!(quantized(DType::U4, &[-1.0, 3.0, 40.0], 2.0, 1), [1, 3, 15]);
        assert_eq!(quantized(DType::I8, &[f32::INFINITY, f32::NEG_INFINITY], 1.0, 3), [127, -128]);
    }

    #[test]
    fn blocks_share_scales() {
        let op = Dequantize { axis: 0, block: 2, to: DType::F32 };
        let x = Tensor::from_slice(&[3, 2], &[1i8, 2, 3, 4, 5, 6]).unwrap();
        let scale = Tensor::from_slice(&[2, 2], &[1f32, 10.0, 100.0, 1000.0]).unwrap();
        let y = op.eval(&Args::plain(&[Some(x.clone().into()), Some(scale.into())])).unwrap();
        assert_eq!(y[0].as_tensor().unwrap().to_f64_vec(), [1.0, 20.0, 3.0, 40.0, 500.0, 6000.0]);
        let scale = Tensor::from_slice(&[3, 2], &[1f32; 6]).unwrap();
        assert!(op.eval(&Args::plain(&[Some(x.into()), Some(scale.into())])).is_err());
    }

    #[test]
    fn the_range_of_zeros_has_scale_one() {
        assert_eq!(range_of(&[0.0, 0.0]), (1.0, 0));
        assert_eq!(range_of(&[]), (1.0, 0));
        assert_eq!(range_of(&[-1.0, 0.0]), (1.0 / 255.0, 255));
    }
}
