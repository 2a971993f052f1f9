//! Transposed convolution over any number of spatial axes.

use optc_tensor::{Tensor, for_each_index};

use super::conv::{bias_planes, check_bias, check_groups};
use super::window::WindowAxes;
use crate::ops::eval::result_shapes;
use crate::{Args, Dim, Facts, InferCx, ItemCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// The gradient of a convolution with respect to its operand, as a layer: each element of `x: [N, C, D…]` adds the
    /// window `w: [C, M/groups, K…]` times its value to the result `[N, M, E…]`, which starts as `bias: [M]`. An extent
    /// is `stride · (D − 1) + output_padding + dilation · (K − 1) + 1 − pads`.
    ///
    /// - (C1) `x` and `w` have one rank of 3 or more.
    /// - (C2) `C = w[0]` is a multiple of `groups`.
    /// - (C3) No extent of the result is negative.
    /// - (C4) `x`, `w` and `bias` have one float dtype; `bias` has `M` elements.
    "nn.conv_transpose" = ConvTranspose(x, w, bias: optional) {
        /// Steps of the window's elements, one an axis; empty for 1.
        dilations: Vec<i64> = vec![],
        /// Groups of channels that are convolved apart.
        groups: i64 = 1,
        /// Rows added at the end of each axis of the result; empty for none.
        output_padding: Vec<i64> = vec![],
        /// Rows cut off the result: begins, then ends; empty for none.
        pads: Vec<i64> = vec![],
        /// Steps of the window in the result, one an axis; empty for 1.
        strides: Vec<i64> = vec![],
    }
}

impl ConvTranspose {
    fn window<'a>(&'a self, kernel: &'a [usize]) -> WindowAxes<'a> {
        WindowAxes { kernel, strides: &self.strides, dilations: &self.dilations, pads: &self.pads, ceil: false }
    }

    fn extent(&self, window: &WindowAxes, d: usize, n: usize) -> Result<usize, OpError> {
        let (stride, _, begin, end) = window.axis(d);
        let extra = self.output_padding.get(d).map_or(0, |&p| p as usize);
        let reach = (n.max(1) - 1).saturating_mul(stride).saturating_add(window.span(d)).saturating_add(extra);
        ensure!(reach >= begin + end, "C3", "pads {:?} cut more than the result has", self.pads);
        Ok(if n == 0 { 0 } else { reach - begin - end })
    }
}

impl Semantics for ConvTranspose {
    const FACTS: Facts<ConvTranspose> = Facts::family();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, w) = (cx.tensor(0)?, cx.tensor(1)?);
        ensure!(x.dtype == w.dtype && x.dtype.is_float(), "C4", "`x` is {}, `w` is {}", x.dtype, w.dtype);
        let (Some(xs), Some(ws)) = (&x.shape, &w.shape) else { return Ok(vec![TensorType::unranked(x.dtype).into()]) };
        ensure!(xs.len() >= 3 && xs.len() == ws.len(), "C1", "`x` is {x}, `w` is {w}");
        if let (Some(c), Some(rows)) = (xs[1].known(), ws[0].known()) {
            ensure!(c == rows, "C2", "`x` has {c} channels, `w` {rows}");
        }
        check_groups(self.groups, None, None, xs[1].known().or(ws[0].known()))?;
        let extra = &self.output_padding;
        let fits = (extra.is_empty() || extra.len() == xs.len() - 2) && extra.iter().all(|p| (0..1 << 31).contains(p));
        ensure!(fits, "C3", "output padding {extra:?} does not fit {x}");
        let channels = ws[1].known().and_then(|m| m.checked_mul(self.groups as usize)).map_or(Dim::Unknown, Dim::Known);
        check_bias(cx, 2, x.dtype, channels.known())?;
        let mut shape = vec![xs[0].clone(), channels];
        let kernel: Option<Vec<usize>> = ws[2..].iter().map(|d| d.known()).collect();
        let window = kernel.as_ref().map(|k| self.window(k));
        if let Some(window) = &window {
            window.check()?;
        }
        for (d, n) in xs[2..].iter().enumerate() {
            shape.push(match (&window, n.known()) {
                (Some(window), Some(n)) => Dim::Known(self.extent(window, d, n)?),
                _ => Dim::Unknown,
            });
        }
        Ok(vec![TensorType::new(x.dtype, shape).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, w) = (args.tensor(0)?, args.tensor(1)?);
        let shape = &result_shapes(self, args)?[0];
        let mut y = bias_planes(args.optional(2).map(Tensor::to_f64_vec), 0.0, shape)?;
        self.scatter(x, w, shape, &mut y);
        Ok(vec![Tensor::from_f64(x.dtype(), shape, &y)?.into()])
    }
}

impl ConvTranspose {
    /// Adds to `y`, of shape `to`, what the elements of `x` spread.
    fn scatter(&self, x: &Tensor, w: &Tensor, to: &[usize], y: &mut [f64]) {
        let (from, kernel) = (x.shape(), &w.shape()[2..]);
        let window = self.window(kernel);
        let (xv, wv) = (x.to_f64_vec(), w.to_f64_vec());
        let (in_group, out_group) = (from[1] / self.groups as usize, w.shape()[1]);
        let area: usize = kernel.iter().product();
        let (plane, result): (usize, usize) = (from[2..].iter().product(), to[2..].iter().product());
        let mut t = 0;
        for_each_index(kernel, |tap| {
            // A result position is where a convolution back to `x` would look.
            let runs = window.runs(tap, &to[2..], &from[2..]);
            for (at, y) in y.chunks_mut(result.max(1)).enumerate() {
                let (n, m) = (at / to[1], at % to[1]);
                for c in m / out_group * in_group..(m / out_group + 1) * in_group {
                    let x = &xv[(n * from[1] + c) * plane..][..plane];
                    let weight = wv[(c * out_group + m % out_group) * area + t];
                    runs.iter().for_each(|run| run.scatter(y, x, |y, x| *y += weight * x));
                }
            }
            t += 1;
        });
    }
}
