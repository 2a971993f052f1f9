//! Convolution over any number of spatial axes.

use optc_tensor::{DType, Tensor, for_each_index, strides_of};

use super::window::Window;
use crate::{Args, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// Cross-correlation of `x: [N, C, D…]` with `w: [M, C/groups, K…]`, plus `bias: [M]`; result `[N, M, E…]`.
    ///
    /// - (C1) `x` and `w` have one rank of 3 or more.
    /// - (C2) `C = groups · w[1]`, and `groups` divides `M`.
    /// - (C3) The window fits the padded extents.
    /// - (C4) `x`, `w` and `bias` have one float dtype; `bias` has `M` elements.
    "nn.conv" = Conv(x, w, bias: optional) {
        /// Steps of the window's elements, one an axis; empty for 1.
        dilations: Vec<i64> = vec![],
        /// Groups of channels that are convolved apart.
        groups: i64 = 1,
        /// Zeros around `x`: begins, then ends; empty for none.
        pads: Vec<i64> = vec![],
        /// Steps of the window, one an axis; empty for 1.
        strides: Vec<i64> = vec![],
    }
}

impl Conv {
    fn window<'a>(&'a self, kernel: &'a [usize]) -> Window<'a> {
        Window { kernel, strides: &self.strides, dilations: &self.dilations, pads: &self.pads, ceil: false }
    }
}

impl Semantics for Conv {
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, w) = (cx.tensor(0)?, cx.tensor(1)?);
        ensure!(x.dtype == w.dtype && x.dtype.is_float(), "C4", "`x` is {}, `w` is {}", x.dtype, w.dtype);
        let (Some(xs), Some(ws)) = (&x.shape, &w.shape) else { return Ok(vec![TensorType::unranked(x.dtype).into()]) };
        ensure!(xs.len() >= 3 && xs.len() == ws.len(), "C1", "`x` is {x}, `w` is {w}");
        ensure!(self.groups >= 1, "C2", "groups is {}", self.groups);
        if let (Some(c), Some(cg), Some(m)) = (xs[1].known(), ws[1].known(), ws[0].known()) {
            let groups = self.groups as usize;
            ensure!(
                cg.checked_mul(groups) == Some(c),
                "C2",
                "`x` has {c} channels, `w` {cg} in each of {groups} groups"
            );
            ensure!(m.is_multiple_of(groups), "C2", "{groups} groups do not divide {m} channels");
        }
        let mut shape = vec![xs[0].clone(), ws[0].clone()];
        let kernel: Option<Vec<usize>> = ws[2..].iter().map(|d| d.known()).collect();
        match kernel {
            Some(kernel) => {
                let window = self.window(&kernel);
                window.check()?;
                shape.extend(window.dims(&xs[2..])?);
            }
            None => shape.extend(xs[2..].iter().map(|_| crate::Dim::Unknown)),
        }
        Ok(vec![TensorType::new(x.dtype, shape).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, w) = (args.tensor(0)?, args.tensor(1)?);
        let types: Vec<Option<Type>> = args.values.iter().map(|v| v.as_ref().map(Val::ty)).collect();
        let types: Vec<Option<&Type>> = types.iter().map(Option::as_ref).collect();
        let result = self.infer(&InferCx { types: &types, consts: &[], regions: &[] })?;
        let shape = result[0].as_tensor().and_then(TensorType::static_shape).unwrap_or_default();
        let bias = match args.optional(2) {
            Some(b) => b.to_f64_vec(),
            None => vec![0.0; shape[1]],
        };
        ensure!(bias.len() == shape[1], "C4", "`bias` has {} elements, expected {}", bias.len(), shape[1]);
        let y = convolve(self, x, w, &bias, &shape);
        Ok(vec![Tensor::from_f64(x.dtype(), &shape, &y)?.into()])
    }
}

fn convolve(conv: &Conv, x: &Tensor, w: &Tensor, bias: &[f64], shape: &[usize]) -> Vec<f64> {
    debug_assert_ne!(x.dtype(), DType::Str);
    let kernel = &w.shape()[2..];
    let window = conv.window(kernel);
    let (xs, ws) = (strides_of(x.shape()), strides_of(w.shape()));
    let (xv, wv) = (x.to_f64_vec(), w.to_f64_vec());
    let (per_group, out_group) = (w.shape()[1], shape[1] / conv.groups as usize);
    let spatial: usize = shape[2..].iter().product();
    let mut y: Vec<f64> = Vec::with_capacity(shape.iter().product());
    let taps = taps(&window, &x.shape()[2..], &shape[2..], &xs[2..]);
    let area: usize = kernel.iter().product();
    for n in 0..shape[0] {
        for m in 0..shape[1] {
            let first = m / out_group * per_group;
            for p in 0..spatial {
                let mut sum = bias[m];
                for c in 0..per_group {
                    let base = n * xs[0] + (first + c) * xs[1];
                    let weights = &wv[m * ws[0] + c * ws[1]..][..area];
                    for (at, w) in taps[p * area..(p + 1) * area].iter().zip(weights) {
                        sum += at.map_or(0.0, |at| xv[base + at] * w);
                    }
                }
                y.push(sum);
            }
        }
    }
    y
}

/// For each result position and window position, the operand's offset within a channel; `None` in the padding.
pub(crate) fn taps(window: &Window, from: &[usize], to: &[usize], strides: &[usize]) -> Vec<Option<usize>> {
    let mut taps = vec![];
    for_each_index(to, |i| {
        for_each_index(window.kernel, |k| {
            let at = |d: usize| window.source(d, i[d], k[d], from[d]).map(|s| s * strides[d]);
            taps.push((0..to.len()).map(at).try_fold(0, |sum, s| Some(sum + s?)));
        });
    });
    taps
}
