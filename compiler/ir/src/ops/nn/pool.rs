//! Pooling over any number of spatial axes.

use optc_tensor::{DType, Tensor, for_each_index, strides_of};

use super::window::{WindowAxes, WindowRun};
use crate::ops::eval::result_shapes;
use crate::{Anchor, Args, Facts, InferCx, ItemCx, OpError, Semantics, TensorType, Type, Val, ensure, op, text_enum};

text_enum! {
    /// What a pooling makes of the elements under its window.
    pub enum PoolKind {
        /// The largest one.
        Max = "max",
        /// Their mean.
        Mean = "mean",
    }
}

op! {
    /// The maximum or the mean of `x: [N, C, D…]` under a sliding window.
    ///
    /// - (C1) `kind` is `max` or `mean`.
    /// - (C2) The rank is two more than the kernel's.
    /// - (C3) The window fits the padded extents.
    /// - (C4) The dtype is a float, or for `max` an 8-bit integer.
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
        kind: PoolKind,
        /// Padding: begins, then ends; empty for none.
        pads: Vec<i64> = vec![],
        /// Steps of the window; empty for 1.
        strides: Vec<i64> = vec![],
    }
}

op! {
    /// The maximum of `x: [N, C, D…]` under a sliding window, and the flat index in `x` where it lies (the first one,
    /// where several are equal).
    ///
    /// - (C2) The rank is two more than the kernel's.
    /// - (C3) The window fits the padded extents.
    /// - (C4) The dtype is a float or an 8-bit integer.
    "nn.max_pool_indices" = MaxPoolIndices(x) {
        /// Whether a last, partial window counts.
        ceil_mode: bool = false,
        /// Whether the index within a channel counts the first spatial axis fastest.
        column_major: bool = false,
        /// Steps of the window's elements; empty for 1.
        dilations: Vec<i64> = vec![],
        /// The window's extents.
        kernel: Vec<i64>,
        /// Padding: begins, then ends; empty for none.
        pads: Vec<i64> = vec![],
        /// Steps of the window; empty for 1.
        strides: Vec<i64> = vec![],
    }
}

op! {
    /// The norm `(Σ |x|ᵖ)^(1/p)` of `x: [N, C, D…]` under a sliding window.
    ///
    /// - (C1) `p` is positive.
    /// - (C2) The rank is two more than the kernel's.
    /// - (C3) The window fits the padded extents.
    /// - (C4) The dtype is a float.
    "nn.lp_pool" = LpPool(x) {
        /// Whether a last, partial window counts.
        ceil_mode: bool = false,
        /// Steps of the window's elements; empty for 1.
        dilations: Vec<i64> = vec![],
        /// The window's extents.
        kernel: Vec<i64>,
        /// The power.
        p: i64 = 2,
        /// Padding: begins, then ends; empty for none.
        pads: Vec<i64> = vec![],
        /// Steps of the window; empty for 1.
        strides: Vec<i64> = vec![],
    }
}

/// The extents of a kernel attribute.
pub(super) fn kernel_of(kernel: &[i64]) -> Result<Vec<usize>, OpError> {
    ensure!(kernel.iter().all(|k| (1..1 << 31).contains(k)), "C3", "kernel {kernel:?} is empty or too large");
    Ok(kernel.iter().map(|&k| k as usize).collect())
}

/// The pooled type of `x`.
fn pooled(x: &TensorType, window: &WindowAxes) -> Result<TensorType, OpError> {
    window.check().map_err(|e| e.numbered("C3"))?;
    let Some(shape) = &x.shape else { return Ok(x.clone()) };
    ensure!(shape.len() == window.kernel.len() + 2, "C2", "`x` is {x}, the kernel {:?}", window.kernel);
    let spatial = window.dims(&shape[2..]).map_err(|e| e.numbered("C3"))?;
    let dims = [&shape[..2], &spatial].concat();
    Ok(TensorType::new(x.dtype, dims))
}

/// Calls `f` for every channel plane and every run of each window element: the plane's number, its elements, the run.
fn scan(x: &Tensor, window: &WindowAxes, to: &[usize], mut f: impl FnMut(usize, &[f64], &WindowRun)) {
    let from = &x.shape()[2..];
    let values = x.to_f64_vec();
    for_each_index(window.kernel, |tap| {
        let runs = window.runs(tap, from, &to[2..]);
        for (plane, values) in values.chunks(from.iter().product::<usize>().max(1)).enumerate() {
            runs.iter().for_each(|run| f(plane, values, run));
        }
    });
}

/// The reduction of `x` under the window: `f` takes an element into its result, which begins as `start`.
fn fold(x: &Tensor, window: &WindowAxes, to: &[usize], start: f64, f: impl Fn(&mut f64, f64)) -> Vec<f64> {
    let mut y = vec![start; to.iter().product()];
    let plane: usize = to[2..].iter().product();
    scan(x, window, to, |p, values, run| {
        run.gather(&mut y[p * plane..], values, &f);
    });
    y
}

/// What a maximum of nothing is: the smallest value of the dtype.
fn lowest(dtype: DType) -> f64 {
    dtype.int_range().map_or(f64::NEG_INFINITY, |(low, _)| low as f64)
}

impl Pool {
    fn window<'a>(&'a self, kernel: &'a [usize]) -> WindowAxes<'a> {
        WindowAxes {
            kernel,
            strides: &self.strides,
            dilations: &self.dilations,
            pads: &self.pads,
            ceil: self.ceil_mode,
        }
    }

    /// How many elements each window position of one plane averages.
    fn counts(&self, window: &WindowAxes, from: &[usize], to: &[usize]) -> Vec<usize> {
        let mut counts = vec![];
        for_each_index(to, |i| {
            let axis = |d: usize| {
                let (stride, dilation, begin, end) = window.axis(d);
                // Elements below a bound in padded coordinates.
                let below = |bound: usize| bound.saturating_sub(i[d] * stride).div_ceil(dilation).min(window.kernel[d]);
                match self.count_include_pad {
                    true => below(from[d] + begin + end),
                    false => below(from[d] + begin) - below(begin),
                }
            };
            counts.push((0..to.len()).map(axis).product());
        });
        counts
    }
}

impl Semantics for Pool {
    const FACTS: Facts<Pool> = Facts::anchor(Anchor::Float);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let kernel = kernel_of(&self.kernel)?;
        let fits = x.dtype.is_float() || (self.kind == PoolKind::Max && matches!(x.dtype, DType::I8 | DType::U8));
        ensure!(fits, "C4", "`x` is {}, expected a float", x.dtype);
        Ok(vec![pooled(x, &self.window(&kernel))?.into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let shape = &result_shapes(self, args)?[0];
        let kernel = kernel_of(&self.kernel)?;
        let window = self.window(&kernel);
        let y = match self.kind {
            PoolKind::Max => fold(x, &window, shape, lowest(x.dtype()), |y, v| {
                if v.is_nan() || v > *y {
                    *y = v
                }
            }),
            PoolKind::Mean => {
                let counts = self.counts(&window, &x.shape()[2..], &shape[2..]);
                let sums = fold(x, &window, shape, 0.0, |y, v| *y += v);
                sums.iter().zip(counts.iter().cycle()).map(|(sum, &n)| sum / n as f64).collect()
            }
        };
        Ok(vec![Tensor::from_f64(x.dtype(), shape, &y)?.into()])
    }
}

impl MaxPoolIndices {
    fn window<'a>(&'a self, kernel: &'a [usize]) -> WindowAxes<'a> {
        WindowAxes {
            kernel,
            strides: &self.strides,
            dilations: &self.dilations,
            pads: &self.pads,
            ceil: self.ceil_mode,
        }
    }

    /// A channel's row-major offset in the order that is asked for.
    fn order(&self, offset: usize, shape: &[usize]) -> usize {
        if !self.column_major {
            return offset;
        }
        let strides = strides_of(shape);
        (0..shape.len()).rev().fold(0, |at, d| at * shape[d] + offset / strides[d] % shape[d])
    }
}

impl Semantics for MaxPoolIndices {
    const FACTS: Facts<MaxPoolIndices> = Facts::host("there is no kernel that finds places of extremes");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let kernel = kernel_of(&self.kernel)?;
        let fits = x.dtype.is_float() || matches!(x.dtype, DType::I8 | DType::U8);
        ensure!(fits, "C4", "`x` is {}, expected a float", x.dtype);
        let y = pooled(x, &self.window(&kernel))?;
        Ok(vec![y.clone().into(), TensorType::of(DType::I64, y.shape).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let shape = &result_shapes(self, args)?[0];
        let kernel = kernel_of(&self.kernel)?;
        let n = shape.iter().product();
        let plane: usize = shape[2..].iter().product();
        let mut best: Vec<(f64, Option<usize>)> = vec![(lowest(x.dtype()), None); n];
        scan(x, &self.window(&kernel), shape, |p, values, run| {
            for (k, best) in best[p * plane + run.to..][..run.len].iter_mut().enumerate() {
                let at = run.from + k * run.stride;
                let v = values[at];
                if best.1.is_none() || v > best.0 || (v.is_nan() && !best.0.is_nan()) {
                    *best = (v, Some(at));
                }
            }
        });
        let spatial = &x.shape()[2..];
        let size: usize = spatial.iter().product();
        let index = |(i, best): (usize, &(f64, Option<usize>))| match best.1 {
            Some(at) => (i / plane * size + self.order(at, spatial)) as i64,
            None => -1,
        };
        let indices: Vec<i64> = best.iter().enumerate().map(index).collect();
        let y: Vec<f64> = best.iter().map(|b| b.0).collect();
        Ok(vec![Tensor::from_f64(x.dtype(), shape, &y)?.into(), Tensor::from_slice(shape, &indices)?.into()])
    }
}

impl LpPool {
    fn window<'a>(&'a self, kernel: &'a [usize]) -> WindowAxes<'a> {
        WindowAxes {
            kernel,
            strides: &self.strides,
            dilations: &self.dilations,
            pads: &self.pads,
            ceil: self.ceil_mode,
        }
    }
}

impl Semantics for LpPool {
    const FACTS: Facts<LpPool> = Facts::host("there is no kernel for it");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let kernel = kernel_of(&self.kernel)?;
        ensure!(self.p > 0, "C1", "`p` is {}", self.p);
        ensure!(x.dtype.is_float(), "C4", "`x` is {}, expected a float", x.dtype);
        Ok(vec![pooled(x, &self.window(&kernel))?.into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let shape = &result_shapes(self, args)?[0];
        let kernel = kernel_of(&self.kernel)?;
        let p = self.p as f64;
        let sums = fold(x, &self.window(&kernel), shape, 0.0, |y, v| *y += v.abs().powf(p));
        let y: Vec<f64> = sums.into_iter().map(|s| s.powf(1.0 / p)).collect();
        Ok(vec![Tensor::from_f64(x.dtype(), shape, &y)?.into()])
    }
}
