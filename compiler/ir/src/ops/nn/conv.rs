//! Convolution over any number of spatial axes.

use std::ops::{AddAssign, Mul};

use optc_tensor::{DType, Tensor, for_each_index};

use super::window::WindowAxes;
use crate::ops::eval::result_shapes;
use crate::ops::math::{agree, factors, fits};
use crate::{Anchor, Args, Dim, Facts, InferCx, ItemCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// Cross-correlation of `x: [N, C, D…]` with `w: [M, C/groups, K…]`, plus `bias: [M]`; result `[N, M, E…]`.
    ///
    /// - (C1) `x` and `w` have one rank of 3 or more.
    /// - (C2) `C = groups · w[1]`, and `groups` divides `M`.
    /// - (C3) The window fits the padded extents.
    /// - (C4) `x`, `w` and `bias` have one float dtype; `bias` has `M` elements.
    /// - (C5) A `precision` of bf16 is for operands of `f32`; `x` may be rounded already, a tensor of bf16.
    "nn.conv" = Conv(x, w, bias: optional) {
        /// Steps of the window's elements, one an axis; empty for 1.
        dilations: Vec<i64> = vec![],
        /// Groups of channels that are convolved apart.
        groups: i64 = 1,
        /// Zeros around `x`: begins, then ends; empty for none.
        pads: Vec<i64> = vec![],
        /// What `f32` factors are rounded to before they are multiplied: `bf16`, or as they are.
        precision: DType = DType::F32,
        /// Steps of the window, one an axis; empty for 1.
        strides: Vec<i64> = vec![],
    }
}

impl Default for Conv {
    fn default() -> Conv {
        let (dilations, pads, strides) = (vec![], vec![], vec![]);
        Conv { dilations, groups: 1, pads, precision: DType::F32, strides }
    }
}

impl Conv {
    /// The window over weights of extents `kernel`.
    pub(crate) fn window<'a>(&'a self, kernel: &'a [usize]) -> WindowAxes<'a> {
        WindowAxes { kernel, strides: &self.strides, dilations: &self.dilations, pads: &self.pads, ceil: false }
    }

    /// The dims of the result: what floats and quantized integers have in common.
    pub(crate) fn dims(&self, x: &TensorType, w: &TensorType) -> Result<Option<Vec<Dim>>, OpError> {
        let (Some(xs), Some(ws)) = (&x.shape, &w.shape) else { return Ok(None) };
        ensure!(xs.len() >= 3 && xs.len() == ws.len(), "C1", "`x` is {x}, `w` is {w}");
        check_groups(self.groups, xs[1].known(), ws[1].known(), ws[0].known())?;
        let mut shape = vec![xs[0].clone(), ws[0].clone()];
        let kernel: Option<Vec<usize>> = ws[2..].iter().map(|d| d.known()).collect();
        match kernel {
            Some(kernel) => {
                let window = self.window(&kernel);
                let spatial = window.check().and_then(|()| window.dims(&xs[2..]));
                shape.extend(spatial.map_err(|e| e.numbered("C3"))?);
            }
            None => shape.extend(xs[2..].iter().map(|_| Dim::Unknown)),
        }
        Ok(Some(shape))
    }

    /// The convolution of `x` with `w`, row-major, of shape `to`; `start` has its size and is added.
    pub(crate) fn correlate<T>(&self, x: (&[T], &[usize]), w: (&[T], &[usize]), to: &[usize], start: Vec<T>) -> Vec<T>
    where
        T: Copy + Mul<Output = T> + AddAssign,
    {
        let ((x, from), (w, ws)) = (x, w);
        let window = self.window(&ws[2..]);
        let (per_group, out_group) = (ws[1], to[1] / self.groups as usize);
        let area: usize = ws[2..].iter().product();
        let (plane, result): (usize, usize) = (from[2..].iter().product(), to[2..].iter().product());
        let (mut y, mut t) = (start, 0);
        for_each_index(&ws[2..], |tap| {
            let runs = window.runs(tap, &from[2..], &to[2..]);
            for (at, y) in y.chunks_mut(result.max(1)).enumerate() {
                let (n, m) = (at / to[1], at % to[1]);
                for c in 0..per_group {
                    let x = &x[(n * from[1] + m / out_group * per_group + c) * plane..][..plane];
                    let weight = w[(m * per_group + c) * area + t];
                    runs.iter().for_each(|run| run.gather(y, x, |y, x| *y += weight * x));
                }
            }
            t += 1;
        });
        y
    }
}

/// Checks that `groups` of `per_group` channels make `channels`, and divide `out` channels.
pub(crate) fn check_groups(
    groups: i64,
    channels: Option<usize>,
    per_group: Option<usize>,
    out: Option<usize>,
) -> Result<(), OpError> {
    ensure!(groups >= 1, "C2", "groups is {groups}");
    let count = groups as usize;
    if let (Some(c), Some(cg)) = (channels, per_group) {
        let fits = cg.checked_mul(count) == Some(c);
        ensure!(fits, "C2", "`x` has {c} channels, `w` {cg} in each of {groups} groups");
    }
    if let Some(m) = out {
        ensure!(m.is_multiple_of(count), "C2", "{groups} groups do not divide {m} channels");
    }
    Ok(())
}

/// Checks that the bias in operand `slot`, where there is one, has a value of `dtype` for each channel.
pub(crate) fn check_bias(cx: &InferCx, slot: usize, dtype: DType, channels: Option<usize>) -> Result<(), OpError> {
    if !cx.has(slot) {
        return Ok(());
    }
    let bias = cx.tensor(slot)?;
    let fits = bias.static_shape().is_none_or(|s| channels.is_none_or(|n| s == [n]));
    let ranked = bias.rank().is_none_or(|rank| rank == 1);
    ensure!(
        bias.dtype == dtype && ranked && fits,
        "C4",
        "`bias` is {bias}, expected {}",
        TensorType::new(dtype, vec![channels.map_or(Dim::Unknown, Dim::Known)])
    );
    Ok(())
}

/// A bias repeated for each position: the start of a convolution's sums.
pub(crate) fn bias_planes<T: Copy>(bias: Option<Vec<T>>, zero: T, shape: &[usize]) -> Result<Vec<T>, OpError> {
    let bias = bias.unwrap_or_else(|| vec![zero; shape[1]]);
    ensure!(bias.len() == shape[1], "C4", "`bias` has {} elements, expected {}", bias.len(), shape[1]);
    let plane: usize = shape[2..].iter().product();
    let planes = (0..shape[0]).flat_map(|_| bias.iter().flat_map(|&b| std::iter::repeat_n(b, plane)));
    Ok(planes.collect())
}

impl Semantics for Conv {
    const FACTS: Facts<Conv> = Facts::anchor(Anchor::Product);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, w) = (cx.tensor(0)?, cx.tensor(1)?);
        let floats = agree(self.precision, x.dtype, w.dtype) && w.dtype.is_float();
        ensure!(floats, "C4", "`x` is {}, `w` is {}", x.dtype, w.dtype);
        ensure!(fits(self.precision, w.dtype), "C5", "`precision` is {}, the operands are {}", self.precision, w.dtype);
        check_bias(cx, 2, w.dtype, w.shape.as_ref().and_then(|s| s.first()?.known()))?;
        Ok(vec![TensorType::of(w.dtype, self.dims(x, w)?).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, w) = (args.tensor(0)?, args.tensor(1)?);
        let shape = &result_shapes(self, args)?[0];
        let start = bias_planes(args.optional(2).map(Tensor::to_f64_vec), 0.0, shape)?;
        let (xv, wv) = (factors(x, self.precision), factors(w, self.precision));
        let y = self.correlate((&xv, x.shape()), (&wv, w.shape()), shape, start);
        Ok(vec![Tensor::from_f64(w.dtype(), shape, &y)?.into()])
    }
}
