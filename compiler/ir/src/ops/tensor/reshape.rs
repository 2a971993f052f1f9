//! Ops that change a shape and leave the elements in their order.

use optc_tensor::{Tensor, element_count};

use super::constant::{dims_of, shape_arg, shape_type};
use super::copy_view;
use crate::ops::axis_of;
use crate::ops::math::{broadcast_strides, broadcast_types};
use crate::ops::number::checked_len;
use crate::{Args, Dim, Facts, InferCx, ItemCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// The elements of `x` under the shape that `shape` names: `-1` is what is left over (at most one), `0` copies
    /// `x`'s extent at that place unless `allow_zero`.
    ///
    /// - (C1) The element counts are equal.
    "tensor.reshape" = Reshape(x, shape) {
        /// Whether `0` means an extent of zero.
        allow_zero: bool = false,
    }
}

impl Reshape {
    /// The target extents for an operand of `dims`; `None` where an extent cannot be known.
    fn resolve(&self, dims: Option<&[Dim]>, target: &[i64]) -> Result<Vec<Dim>, OpError> {
        ensure!(target.iter().filter(|&&d| d == -1).count() <= 1, "C1", "the shape {target:?} has more than one -1");
        ensure!(target.iter().all(|&d| d >= -1), "C1", "the shape {target:?} has a negative extent");
        let copied = |d: usize| dims.and_then(|s| s.get(d)).cloned();
        let mut out: Vec<Dim> = Vec::with_capacity(target.len());
        for (d, &n) in target.iter().enumerate() {
            out.push(match n {
                -1 => Dim::Unknown,
                0 if !self.allow_zero => {
                    ensure!(dims.is_none_or(|s| d < s.len()), "C1", "0 at {d} has no extent to copy");
                    copied(d).unwrap_or(Dim::Unknown)
                }
                n => Dim::Known(n as usize),
            });
        }
        let count = |s: &[Dim]| s.iter().try_fold(1usize, |n, d| n.checked_mul(d.known()?));
        let Some(total) = dims.and_then(count) else { return Ok(out) };
        if let Some(at) = target.iter().position(|&d| d == -1) {
            let rest: Vec<Dim> = out.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, d)| d.clone()).collect();
            let Some(rest) = count(&rest) else { return Ok(out) };
            ensure!(rest > 0 && total.is_multiple_of(rest), "C1", "{total} elements do not fit the shape {target:?}");
            out[at] = Dim::Known(total / rest);
        }
        ensure!(count(&out).is_none_or(|n| n == total), "C1", "{total} elements do not fit the shape {target:?}");
        Ok(out)
    }
}

impl Semantics for Reshape {
    const FACTS: Facts<Reshape> = Facts::view().with_strings();
    const EXTENTS: Option<usize> = Some(1);
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        shape_type(cx, 1)?;
        let shape = match cx.constant(1) {
            Some(t) => Some(self.resolve(x.shape.as_deref(), &t.to_i64_vec())?),
            None => dims_of(cx, 1)?,
        };
        let result = TensorType::of(x.dtype, shape);
        if let (Some(from), Some(to)) = (x.static_shape(), result.static_shape()) {
            let fits = element_count(&from) == element_count(&to);
            ensure!(fits, "C1", "{} does not have as many elements as {}", x, result);
        }
        Ok(vec![result.into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0])
    }

    /// Whether the elements fit a computed shape shows the shape itself.
    fn settled(&self, cx: &InferCx) -> bool {
        cx.constant(1).is_some()
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let dims: Vec<Dim> = x.shape().iter().map(|&n| Dim::Known(n)).collect();
        let shape = self.resolve(Some(&dims), &args.tensor(1)?.to_i64_vec())?;
        let shape: Option<Vec<usize>> = shape.iter().map(Dim::known).collect();
        ensure!(shape.is_some(), "C1", "the shape cannot be resolved");
        Ok(vec![x.reshaped(&shape.unwrap_or_default())?.into()])
    }
}

fn reshaped(x: &Tensor, shape: &[usize]) -> Result<Vec<Val>, OpError> {
    Ok(vec![x.reshaped(shape)?.into()])
}

op! {
    /// The two-dimensional form of `x`: dims before `axis` times dims from it on.
    "tensor.flatten" = Flatten(x) {
        /// The first dim of the second extent; `-rank..=rank`.
        axis: i64 = 1,
    }
}

impl Flatten {
    fn split(&self, rank: usize) -> Result<usize, OpError> {
        if self.axis == rank as i64 { Ok(rank) } else { axis_of(self.axis, rank) }
    }
}

impl Semantics for Flatten {
    const FACTS: Facts<Flatten> = Facts::view().with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let Some(shape) = &x.shape else { return Ok(vec![TensorType::new(x.dtype, vec![Dim::Unknown; 2]).into()]) };
        let at = self.split(shape.len())?;
        let product = |s: &[Dim]| match s {
            [one] => one.clone(),
            s => s.iter().try_fold(1usize, |n, d| n.checked_mul(d.known()?)).map_or(Dim::Unknown, Dim::Known),
        };
        Ok(vec![TensorType::new(x.dtype, vec![product(&shape[..at]), product(&shape[at..])]).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let at = self.split(x.rank())?;
        reshaped(x, &[x.shape()[..at].iter().product(), x.shape()[at..].iter().product()])
    }
}

op! {
    /// `x` without the extents at `axes`, or without every extent of 1.
    ///
    /// - (C1) The extents at `axes` are 1.
    "tensor.squeeze" = Squeeze(x, axes: optional) {}
}

impl Semantics for Squeeze {
    const FACTS: Facts<Squeeze> = Facts::view().with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let Some(shape) = &x.shape else { return Ok(vec![x.clone().into()]) };
        let gone = if cx.has(1) {
            let Some(axes) = cx.constant(1) else { return Ok(vec![TensorType::unranked(x.dtype).into()]) };
            let axes = axes.to_i64_vec().iter().map(|&a| axis_of(a, shape.len())).collect::<Result<Vec<_>, _>>()?;
            for &a in &axes {
                ensure!(shape[a].known().is_none_or(|n| n == 1), "C1", "extent {a} of {x} is not 1");
            }
            axes
        } else if shape.iter().any(|d| d.known().is_none()) {
            return Ok(vec![TensorType::unranked(x.dtype).into()]);
        } else {
            (0..shape.len()).filter(|&d| shape[d] == Dim::Known(1)).collect()
        };
        let kept = shape.iter().enumerate().filter(|(d, _)| !gone.contains(d)).map(|(_, n)| n.clone()).collect();
        Ok(vec![TensorType::new(x.dtype, kept).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let gone = match args.optional(1) {
            Some(t) => t.to_i64_vec().iter().map(|&a| axis_of(a, x.rank())).collect::<Result<Vec<_>, _>>()?,
            None => (0..x.rank()).filter(|&d| x.shape()[d] == 1).collect(),
        };
        ensure!(gone.iter().all(|&d| x.shape()[d] == 1), "C1", "an extent at {gone:?} of {:?} is not 1", x.shape());
        let kept: Vec<usize> = (0..x.rank()).filter(|d| !gone.contains(d)).map(|d| x.shape()[d]).collect();
        reshaped(x, &kept)
    }
}

op! {
    /// `x` with extents of 1 put in, so that they stand at `axes` of the result.
    ///
    /// - (C1) `axes` lie within the result's rank and do not repeat.
    "tensor.unsqueeze" = Unsqueeze(x, axes) {}
}

fn unsqueezed<T: Clone>(shape: &[T], axes: &[i64], one: T) -> Result<Vec<T>, OpError> {
    let rank = shape.len() + axes.len();
    let places = axes.iter().map(|&a| axis_of(a, rank)).collect::<Result<Vec<_>, _>>();
    let mut at = places.map_err(|e| e.numbered("C1"))?;
    at.sort_unstable();
    let n = at.len();
    at.dedup();
    ensure!(at.len() == n, "C1", "axes {axes:?} repeat");
    let mut rest = shape.iter().cloned();
    Ok((0..rank).filter_map(|d| if at.contains(&d) { Some(one.clone()) } else { rest.next() }).collect())
}

impl Semantics for Unsqueeze {
    const FACTS: Facts<Unsqueeze> = Facts::view().with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let (Some(shape), Some(axes)) = (&x.shape, cx.constant(1)) else {
            return Ok(vec![TensorType::unranked(x.dtype).into()]);
        };
        Ok(vec![TensorType::new(x.dtype, unsqueezed(shape, &axes.to_i64_vec(), Dim::Known(1))?).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        reshaped(x, &unsqueezed(x.shape(), &args.tensor(1)?.to_i64_vec(), 1)?)
    }
}

op! {
    /// The extents `start..end` of `x`'s shape as an `i64` vector.
    "tensor.shape" = ShapeOf(x) {
        /// First dim; negative from the end, clamped.
        start: i64 = 0,
        /// Past the last dim; negative from the end, clamped.
        end: i64 = i64::MAX,
    }
}

impl ShapeOf {
    fn range(&self, rank: usize) -> std::ops::Range<usize> {
        let at = |v: i64| if v < 0 { v.saturating_add(rank as i64) } else { v }.clamp(0, rank as i64) as usize;
        at(self.start)..at(self.end).max(at(self.start))
    }
}

impl Semantics for ShapeOf {
    const FACTS: Facts<ShapeOf> = Facts::host("it computes a constant unless shapes depend on data").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let n = cx.tensor(0)?.rank().map_or(Dim::Unknown, |r| Dim::Known(self.range(r).len()));
        Ok(vec![TensorType::new(optc_tensor::DType::I64, vec![n]).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let dims: Vec<i64> = x.shape()[self.range(x.rank())].iter().map(|&n| n as i64).collect();
        Ok(vec![Tensor::from_slice(&[dims.len()], &dims)?.into()])
    }
}

op! {
    /// `x` broadcast together with `shape` (in both directions).
    ///
    /// - (C1) The shapes broadcast.
    "tensor.expand" = Expand(x, shape) {}
}

impl Semantics for Expand {
    const FACTS: Facts<Expand> = Facts::family().with_strings();
    const EXTENTS: Option<usize> = Some(1);
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let target = TensorType::of(x.dtype, dims_of(cx, 1)?);
        Ok(vec![TensorType::of(x.dtype, broadcast_types(x, &target)?).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0]) && cx.is_aligned()
    }

    /// Any known extent is that of the result where the shapes broadcast; whether they do shows the shape itself.
    fn settled(&self, cx: &InferCx) -> bool {
        cx.constant(1).is_some()
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let target = shape_arg(args.tensor(1)?)?;
        let shape = optc_tensor::broadcast_shapes(x.shape(), &target);
        ensure!(shape.is_some(), "C1", "shapes {:?} and {target:?} do not broadcast", x.shape());
        let shape = shape.unwrap_or_default();
        checked_len(x.dtype(), &shape)?;
        let strides: Vec<isize> = broadcast_strides(x.shape(), &shape).iter().map(|&s| s as isize).collect();
        Ok(vec![copy_view(x, 0, &shape, &strides)?.into()])
    }
}
