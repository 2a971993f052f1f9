//! Pooling over any number of spatial axes.

use optc_tensor::{Tensor, strides_of};

use super::conv::taps;
use super::window::Window;
use crate::{Args, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// The maximum or the mean of `x: [N, C, D…]` under a sliding window.
    ///
    /// - (C1) `kind` is `max` or `mean`.
    /// - (C2) The rank is two more than the kernel's.
    /// - (C3) The window fits the padded extents.
    /// - (C4) The dtype is a float.
    "nn.pool" = Pool(x) {
        /// Whether a last, partial window counts.
        ceil_mode: bool = false,
        /// Whether padding counts in a mean's divisor.
        count_include_pad: bool = false,
        /// Steps of the window's elements; empty for 1.
        dilations: Vec<i64> = vec![],
        /// The window's extents.
        kernel: Vec<i64>,
        /// What is computed.
        kind: String,
        /// Padding: begins, then ends; empty for none.
        pads: Vec<i64> = vec![],
        /// Steps of the window; empty for 1.
        strides: Vec<i64> = vec![],
    }
}

impl Pool {
    fn kernel(&self) -> Result<Vec<usize>, OpError> {
        ensure!(self.kernel.iter().all(|&k| k > 0), "C3", "kernel {:?} is empty", self.kernel);
        ensure!(matches!(self.kind.as_str(), "max" | "mean"), "C1", "there is no pooling `{}`", self.kind);
        Ok(self.kernel.iter().map(|&k| k as usize).collect())
    }

    fn window<'a>(&'a self, kernel: &'a [usize]) -> Window<'a> {
        Window { kernel, strides: &self.strides, dilations: &self.dilations, pads: &self.pads, ceil: self.ceil_mode }
    }

    /// How many window positions lie within the padded operand, for the divisor of a mean that counts padding.
    fn padded_counts(&self, window: &Window, from: &[usize], to: &[usize]) -> Vec<usize> {
        let mut counts = vec![];
        optc_tensor::for_each_index(to, |i| {
            let axis = |d: usize| {
                let (stride, dilation, begin, end) = window.axis(d);
                (0..window.kernel[d]).filter(|k| i[d] * stride + k * dilation < from[d] + begin + end).count()
            };
            counts.push((0..to.len()).map(axis).product());
        });
        counts
    }
}

impl Semantics for Pool {
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let kernel = self.kernel()?;
        ensure!(x.dtype.is_float(), "C4", "`x` is {}, expected a float", x.dtype);
        let Some(shape) = &x.shape else { return Ok(vec![x.clone().into()]) };
        ensure!(shape.len() == kernel.len() + 2, "C2", "`x` is {x}, the kernel {kernel:?}");
        let window = self.window(&kernel);
        window.check()?;
        let dims = [&shape[..2], &window.dims(&shape[2..])?].concat();
        Ok(vec![TensorType::new(x.dtype, dims).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let ty = Type::Tensor(TensorType::fixed(x.dtype(), x.shape()));
        let result = self.infer(&InferCx { types: &[Some(&ty)], consts: &[], regions: &[] })?;
        let shape = result[0].as_tensor().and_then(TensorType::static_shape).unwrap_or_default();
        let kernel = self.kernel()?;
        let window = self.window(&kernel);
        let (from, to) = (&x.shape()[2..], &shape[2..]);
        let strides = strides_of(x.shape());
        let (values, taps) = (x.to_f64_vec(), taps(&window, from, to, &strides[2..]));
        let area: usize = kernel.iter().product();
        let padded = self.padded_counts(&window, from, to);
        let mut y = vec![];
        for plane in 0..shape[0] * shape[1] {
            for (p, window) in taps.chunks(area).enumerate() {
                let base = plane * strides[1];
                let seen = window.iter().flatten().map(|&at| values[base + at]);
                y.push(match self.kind.as_str() {
                    "max" => seen.fold(f64::NEG_INFINITY, |m, v| if v.is_nan() || v > m { v } else { m }),
                    _ => {
                        let count = if self.count_include_pad { padded[p] } else { window.iter().flatten().count() };
                        seen.sum::<f64>() / count as f64
                    }
                });
            }
        }
        Ok(vec![Tensor::from_f64(x.dtype(), &shape, &y)?.into()])
    }
}
