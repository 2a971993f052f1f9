//! Normalisations with scale and bias.

use optc_tensor::{Tensor, broadcast_shapes, element_count};

use crate::ops::axis_of;
use crate::ops::math::broadcast_indices;
use crate::{Anchor, Args, Dim, Facts, InferCx, ItemCx, OpError, Real, Semantics, Type, Val, ensure, op};

op! {
    /// Batch normalisation with given statistics: `scale · (x − mean) / √(var + epsilon) + bias` per channel (axis 1).
    ///
    /// - (C1) The four vectors have one element a channel.
    /// - (C2) All operands are floats.
    "nn.batch_norm" = BatchNorm(x, scale, bias, mean, var) {
        /// Added to the variance.
        epsilon: Real = Real(1e-5),
    }
}

/// The type of `x`; all of the operands must be floats.
fn same_float(cx: &InferCx) -> Result<Vec<Type>, OpError> {
    let x = cx.tensor(0)?;
    for slot in (0..cx.types.len()).filter(|&slot| cx.has(slot)) {
        let dtype = cx.tensor(slot)?.dtype;
        ensure!(dtype.is_float(), "C2", "operand {slot} is {dtype}, expected a float");
    }
    Ok(vec![x.clone().into()])
}

impl Semantics for BatchNorm {
    const FACTS: Facts<BatchNorm> = Facts::anchor(Anchor::Float).following();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let channels = cx.tensor(0)?.shape.as_ref().and_then(|s| s.get(1).map_or(Some(1), Dim::known));
        for slot in 1..5 {
            let vector = cx.tensor(slot)?;
            let length = vector.static_shape().and_then(|s| element_count(&s));
            let fits = length.zip(channels).is_none_or(|(n, channels)| n == channels);
            ensure!(fits, "C1", "operand {slot} is {vector}, expected one element a channel of {}", cx.tensor(0)?);
        }
        same_float(cx)
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let channels = x.shape().get(1).copied().unwrap_or(1);
        let v = (1..5).map(|s| args.tensor(s).map(Tensor::to_f64_vec)).collect::<Result<Vec<_>, _>>()?;
        ensure!(v.iter().all(|v| v.len() == channels), "C1", "statistics do not fit {channels} channels");
        let inner = x.shape().iter().skip(2).product::<usize>().max(1);
        let y: Vec<f64> = (x.to_f64_vec().into_iter().enumerate())
            .map(|(i, value)| {
                let c = i / inner % channels;
                v[0][c] * (value - v[2][c]) / (v[3][c] + self.epsilon.0 as f64).sqrt() + v[1][c]
            })
            .collect();
        Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &y)?.into()])
    }
}

op! {
    /// Layer normalisation over the axes from `axis` on: zero mean and unit variance, then times `scale` and plus
    /// `bias`, which broadcast to `x`.
    ///
    /// - (C1) `scale` and `bias` broadcast to `x`.
    /// - (C2) All operands are floats.
    "nn.layer_norm" = LayerNorm(x, scale, bias: optional) {
        /// The first normalised axis; negative from the end.
        axis: i64 = -1,
        /// Added to the variance.
        epsilon: Real = Real(1e-5),
    }
}

op! {
    /// Normalisation by the root mean square over the axes from `axis` on (Zhang and Sennrich 2019): `x / √(mean x² +
    /// epsilon)`, then times `scale`.
    ///
    /// - (C1) `scale` broadcasts to `x`.
    /// - (C2) All operands are floats.
    "nn.rms_norm" = RmsNorm(x, scale) {
        /// The first normalised axis; negative from the end.
        axis: i64 = -1,
        /// Added to the mean square.
        epsilon: Real = Real(1e-5),
    }
}

op! {
    /// Group normalisation (Wu and He 2018) of `x: [N, C, D…]`: for each of `groups` groups of channels zero mean and
    /// unit variance, then `scale` and `bias` per channel. With one group a channel it is instance normalisation.
    ///
    /// - (C1) `scale` and `bias` have one element a channel.
    /// - (C2) All operands are floats, `x` of rank 2 or more.
    /// - (C3) `groups` divides the channels, or is 0 for one group a channel.
    "nn.group_norm" = GroupNorm(x, scale, bias) {
        /// Added to the variance.
        epsilon: Real = Real(1e-5),
        /// The groups.
        groups: i64 = 0,
    }
}

/// `t` at each element of `shape`, to which it must broadcast; `fill` where it is absent.
fn spread(t: Option<&Tensor>, fill: f64, shape: &[usize]) -> Result<Vec<f64>, OpError> {
    let Some(t) = t else { return Ok(vec![fill; shape.iter().product()]) };
    let fits = broadcast_shapes(t.shape(), shape).is_some_and(|s| s == shape);
    ensure!(fits, "C1", "a vector of shape {:?} does not broadcast to {shape:?}", t.shape());
    let v = t.to_f64_vec();
    Ok(broadcast_indices(t.shape(), shape).into_iter().map(|i| v[i]).collect())
}

/// Makes the rows of `inner` elements zero in mean and one in variance.
fn standardize(v: &mut [f64], inner: usize, epsilon: f64) {
    for row in v.chunks_mut(inner.max(1)) {
        let mean = row.iter().sum::<f64>() / inner as f64;
        let var = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / inner as f64;
        let inv = 1.0 / (var + epsilon).sqrt();
        row.iter_mut().for_each(|v| *v = (*v - mean) * inv);
    }
}

impl Semantics for LayerNorm {
    const FACTS: Facts<LayerNorm> = Facts::anchor(Anchor::Float);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        cx.tensor(0)?.rank().map_or(Ok(0), |rank| axis_of(self.axis, rank))?;
        same_float(cx)
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.spares([self.axis])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let inner: usize = x.shape()[axis_of(self.axis, x.rank())?..].iter().product();
        let scale = spread(Some(args.tensor(1)?), 1.0, x.shape())?;
        let bias = spread(args.optional(2), 0.0, x.shape())?;
        let mut y = x.to_f64_vec();
        standardize(&mut y, inner, self.epsilon.0 as f64);
        y.iter_mut().zip(scale.iter().zip(&bias)).for_each(|(y, (s, b))| *y = *y * s + b);
        Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &y)?.into()])
    }
}

impl Semantics for RmsNorm {
    const FACTS: Facts<RmsNorm> = Facts::anchor(Anchor::Float);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        cx.tensor(0)?.rank().map_or(Ok(0), |rank| axis_of(self.axis, rank))?;
        same_float(cx)
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.spares([self.axis])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let inner: usize = x.shape()[axis_of(self.axis, x.rank())?..].iter().product();
        let scale = spread(Some(args.tensor(1)?), 1.0, x.shape())?;
        let mut y = x.to_f64_vec();
        for row in y.chunks_mut(inner.max(1)) {
            let square = row.iter().map(|v| v * v).sum::<f64>() / inner as f64;
            let inv = 1.0 / (square + self.epsilon.0 as f64).sqrt();
            row.iter_mut().for_each(|v| *v *= inv);
        }
        y.iter_mut().zip(&scale).for_each(|(y, s)| *y *= s);
        Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &y)?.into()])
    }
}

impl GroupNorm {
    fn groups(&self, channels: usize) -> Result<usize, OpError> {
        let groups = if self.groups == 0 { channels as i64 } else { self.groups };
        let fits = groups >= 0 && (channels == 0 || (groups > 0 && channels.is_multiple_of(groups as usize)));
        ensure!(fits, "C3", "{groups} groups do not divide {channels} channels");
        Ok(groups as usize)
    }
}

impl Semantics for GroupNorm {
    const FACTS: Facts<GroupNorm> = Facts::anchor(Anchor::Float);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        if let Some(shape) = &x.shape {
            ensure!(shape.len() >= 2, "C2", "`x` is {x}, expected rank 2 or more");
            if let Some(channels) = shape[1].known() {
                self.groups(channels)?;
                for slot in 1..3 {
                    let vector = cx.tensor(slot)?;
                    let fits = vector.static_shape().is_none_or(|s| s.iter().product::<usize>() == channels);
                    ensure!(
                        fits,
                        "C1",
                        "operand {slot} is {vector}, expected one element for each of {channels} channels"
                    );
                }
            }
        }
        same_float(cx)
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        ensure!(x.rank() >= 2, "C2", "`x` has shape {:?}, expected rank 2 or more", x.shape());
        let channels = x.shape()[1];
        let (scale, bias) = (args.tensor(1)?.to_f64_vec(), args.tensor(2)?.to_f64_vec());
        let fits = scale.len() == channels && bias.len() == channels;
        ensure!(fits, "C1", "`scale` and `bias` have {} and {} elements for {channels}", scale.len(), bias.len());
        let plane: usize = x.shape()[2..].iter().product();
        let inner = channels / self.groups(channels)?.max(1) * plane;
        let mut y = x.to_f64_vec();
        standardize(&mut y, inner, self.epsilon.0 as f64);
        for (i, y) in y.chunks_mut(plane.max(1)).enumerate() {
            y.iter_mut().for_each(|y| *y = *y * scale[i % channels] + bias[i % channels]);
        }
        Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &y)?.into()])
    }
}
