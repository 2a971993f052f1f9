//! Resampling to other extents, axis by axis.

use optc_tensor::{DType, Tensor, TensorMut};

use super::grid::{Interpolation, cubic_weights};
use super::resampling::Resampling;
use crate::ops::axis_of;
use crate::ops::eval::{bounded, eval_new, result_shapes, room};
use crate::ops::native::{NativeElement, by_native};
use crate::ops::tensor::gather_elements;
use crate::{
    Args, Dim, Facts, InferCx, ItemCx, OpError, Operands, Real, Semantics, TensorType, Type, Val, ensure, op, text_enum,
};

text_enum! {
    /// Where an element of a resampled axis stands in the axis that it is made from.
    pub enum CoordinateTransform {
        /// Where its centre is, as far along as in the result.
        HalfPixel = "half_pixel",
        /// As `half_pixel`, but where an extent was cut to an integer, the centres of both axes are at one place.
        HalfPixelSymmetric = "half_pixel_symmetric",
        /// As `half_pixel`, but an axis of one element takes the first one.
        PytorchHalfPixel = "pytorch_half_pixel",
        /// The first elements of both axes are at one place, and the last ones.
        AlignCorners = "align_corners",
        /// At its index, divided by the scale.
        Asymmetric = "asymmetric",
        /// The first and the last element are at the ends of a region.
        TfCropAndResize = "tf_crop_and_resize",
        /// Half an element further than with `half_pixel`.
        TfHalfPixelForNn = "tf_half_pixel_for_nn",
    }
}

text_enum! {
    /// Which element is the nearest to a coordinate.
    pub enum NearestMode {
        /// The nearest one; the lower one of two that are equally near.
        RoundPreferFloor = "round_prefer_floor",
        /// The nearest one; the higher one of two that are equally near.
        RoundPreferCeil = "round_prefer_ceil",
        /// The one below.
        Floor = "floor",
        /// The one above.
        Ceil = "ceil",
        /// The one below; where the extent becomes smaller, the one above.
        Simple = "simple",
    }
}

text_enum! {
    /// How the sizes that are asked for keep the ratio of extents.
    pub enum AspectPolicy {
        /// They do not: they are what the result has.
        Stretch = "stretch",
        /// All axes have the smallest of the factors.
        NotLarger = "not_larger",
        /// All axes have the largest of the factors.
        NotSmaller = "not_smaller",
    }
}

op! {
    /// Resamples `x` along `axes`, by the factors `scales` or to the extents `sizes`. Each axis is interpolated on its
    /// own; an element of the result stands at a coordinate that `coordinate` finds, in `f32`. `region` holds the first
    /// and then the last normalised coordinates of the axes, for `tf_crop_and_resize` alone.
    ///
    /// - (C1) There is one of `scales` and `sizes`, with one positive element (`sizes`: not negative) for each axis.
    /// - (C2) `mode`, `nearest`, `coordinate` and `aspect` are spelled as in ONNX; `nearest` may be `simple` as well.
    /// - (C3) `region` has two elements for each axis.
    /// - (C4) An empty axis stays empty.
    "nn.resize" = Resize(x, scales: optional, sizes: optional, region: optional) {
        /// Whether filters are stretched where extents become smaller.
        antialias: bool = false,
        /// How `sizes` keep the ratio of extents.
        aspect: AspectPolicy = AspectPolicy::Stretch,
        /// The axes, negative ones from the end; empty for all.
        axes: Vec<i64> = vec![],
        /// Where an element of the result stands.
        coordinate: CoordinateTransform = CoordinateTransform::HalfPixel,
        /// The parameter of cubic interpolation.
        cubic_a: Real = Real(-0.75),
        /// Whether only elements inside of `x` have weights.
        exclude_outside: bool = false,
        /// The value of elements outside of the region.
        extrapolation: Real = Real(0.0),
        /// How values between elements come about.
        mode: Interpolation = Interpolation::Nearest,
        /// Which element is the nearest.
        nearest: NearestMode = NearestMode::RoundPreferFloor,
    }
}

/// The resampling of one axis.
struct Axis {
    axis: usize,
    from: usize,
    to: usize,
    scale: f32,
    /// The extent of the result before it is cut to an integer, which is what corners are aligned to.
    whole: f32,
    region: (f32, f32),
}

/// A coordinate this near to the middle between two elements is in the middle: it was rounded several times on the way.
/// ONNX Runtime 1.32 has the same bound.
const TIE: f64 = 1e-6;

/// How far a coordinate lies beyond the middle between the two elements around it.
fn past_middle(x: f32) -> f64 {
    f64::from(x) - f64::from(x.floor()) - 0.5
}

/// The weight of an element at distance `d`.
fn cubic_weight(d: f64, a: f64) -> f64 {
    match d {
        d if d < 1.0 => cubic_weights(d, a)[1],
        d if d < 2.0 => cubic_weights(d - 1.0, a)[0],
        _ => 0.0,
    }
}

impl Resize {
    fn axes(&self, rank: usize) -> Result<Vec<usize>, OpError> {
        if self.axes.is_empty() {
            return Ok((0..rank).collect());
        }
        let axes = self.axes.iter().map(|&a| axis_of(a, rank)).collect::<Result<Vec<_>, _>>()?;
        let twice = axes.iter().enumerate().any(|(i, a)| axes[..i].contains(a));
        ensure!(!twice, "C1", "axes {:?} name one twice", self.axes);
        Ok(axes)
    }

    /// The resampling of each axis of a tensor of shape `shape`.
    fn plan(&self, shape: &[usize], lists: [Option<&Tensor>; 3]) -> Result<Vec<Axis>, OpError> {
        let axes = self.axes(shape.len())?;
        let [scales, sizes, region] = lists;
        let crop = self.coordinate == CoordinateTransform::TfCropAndResize;
        let region = region.filter(|_| crop).map(Tensor::to_f64_vec);
        ensure!(region.as_ref().is_none_or(|r| r.len() == 2 * axes.len()), "C3", "the region does not fit the axes");
        ensure!(!crop || region.is_some(), "C3", "there is no region");
        let region = |i: usize| region.as_ref().map_or((0.0, 1.0), |r| (r[i] as f32, r[i + axes.len()] as f32));
        let (extents, factors): (Vec<i64>, Vec<f32>) = match (scales, sizes) {
            (Some(scales), None) => {
                let scales: Vec<f32> = scales.to_f64_vec().into_iter().map(|s| s as f32).collect();
                let fits = scales.len() == axes.len() && scales.iter().all(|s| *s > 0.0 && s.is_finite());
                ensure!(fits, "C1", "scales are {scales:?} for {} axes", axes.len());
                let part = |i: usize| if crop { region(i).1 - region(i).0 } else { 1.0 };
                let extent = |(i, &a): (usize, &usize)| (shape[a] as f32 * part(i) * scales[i]).floor() as i64;
                (axes.iter().enumerate().map(extent).collect(), scales)
            }
            (None, Some(sizes)) => self.sizes(sizes, shape, &axes)?,
            _ => (vec![], vec![]),
        };
        ensure!(extents.len() == axes.len(), "C1", "expected one of scales and sizes");
        ensure!(extents.iter().all(|e| (0..1 << 40).contains(e)), "C1", "the extents are {extents:?}");
        let axis = |(i, &axis): (usize, &usize)| {
            let (from, to) = (shape[axis], extents[i] as usize);
            ensure!(from > 0 || to == 0, "C4", "axis {axis} is empty");
            let whole = if scales.is_some() { from as f32 * factors[i] } else { to as f32 };
            Ok(Axis { axis, from, to, scale: factors[i], whole, region: region(i) })
        };
        axes.iter().enumerate().map(axis).collect()
    }

    /// Extents and factors for `sizes`.
    fn sizes(&self, sizes: &Tensor, shape: &[usize], axes: &[usize]) -> Result<(Vec<i64>, Vec<f32>), OpError> {
        let sizes = sizes.to_i64_vec();
        ensure!(sizes.len() == axes.len(), "C1", "sizes are {sizes:?} for {} axes", axes.len());
        let ratios: Vec<f32> = axes.iter().zip(&sizes).map(|(&a, &s)| s as f32 / shape[a] as f32).collect();
        let common = match self.aspect {
            AspectPolicy::Stretch => None,
            AspectPolicy::NotLarger => ratios.iter().copied().reduce(f32::min),
            AspectPolicy::NotSmaller => ratios.iter().copied().reduce(f32::max),
        };
        let Some(ratio) = common else { return Ok((sizes, ratios)) };
        let extents = axes.iter().map(|&a| (shape[a] as f32 * ratio).round() as i64).collect();
        Ok((extents, vec![ratio; axes.len()]))
    }

    /// The coordinate in `x` of element `i` of the result.
    fn coordinate(&self, axis: &Axis, i: usize) -> f32 {
        let (i, from, to, scale) = (i as f32, axis.from as f32, axis.to as f32, axis.scale);
        let half = (i + 0.5) / scale - 0.5;
        match self.coordinate {
            CoordinateTransform::Asymmetric => i / scale,
            CoordinateTransform::PytorchHalfPixel | CoordinateTransform::AlignCorners if axis.to <= 1 => 0.0,
            CoordinateTransform::AlignCorners => i * (from - 1.0) / (axis.whole - 1.0),
            CoordinateTransform::TfHalfPixelForNn => (i + 0.5) / scale,
            CoordinateTransform::HalfPixelSymmetric => from / 2.0 * (1.0 - to / (scale * from)) + half,
            CoordinateTransform::HalfPixel | CoordinateTransform::PytorchHalfPixel => half,
            CoordinateTransform::TfCropAndResize => {
                let (start, end) = axis.region;
                match axis.to {
                    0 | 1 => 0.5 * (start + end) * (from - 1.0),
                    _ => start * (from - 1.0) + i * (end - start) * (from - 1.0) / (to - 1.0),
                }
            }
        }
    }

    /// The element nearest to a coordinate.
    fn nearest(&self, x: f32, axis: &Axis) -> usize {
        let i = match self.nearest {
            NearestMode::RoundPreferFloor => x.floor() + f32::from(past_middle(x) > TIE),
            NearestMode::RoundPreferCeil => x.floor() + f32::from(past_middle(x) >= -TIE),
            NearestMode::Floor => x.floor(),
            NearestMode::Ceil => x.ceil(),
            NearestMode::Simple if axis.scale < 1.0 => x.ceil(),
            NearestMode::Simple => x.trunc(),
        };
        i.clamp(0.0, (axis.from - 1) as f32) as usize
    }

    /// The elements that a coordinate sees, with their weights.
    fn taps(&self, x: f32, axis: &Axis) -> Vec<(usize, f64)> {
        let (reach, weight): (f64, fn(f64, f64) -> f64) = match self.mode {
            Interpolation::Nearest => return vec![(self.nearest(x, axis), 1.0)],
            Interpolation::Linear => (1.0, |d, _| (1.0 - d).max(0.0)),
            Interpolation::Cubic => (2.0, cubic_weight),
        };
        let first = x.floor() as i64;
        let ratio = x as f64 - first as f64;
        let shrink = if self.antialias { (axis.scale as f64).min(1.0) } else { 1.0 };
        let a = self.cubic_a.0 as f64;
        let start = (-reach / shrink).floor() as i64 + 1;
        let weight = |k: i64| weight(((k as f64 - ratio) * shrink).abs(), a);
        let last = axis.from as i64 - 1;
        let all = (start..=1 - start).map(|k| (first + k, weight(k)));
        let kept: Vec<(i64, f64)> = all.filter(|(i, _)| !self.exclude_outside || (0..=last).contains(i)).collect();
        let sum: f64 = kept.iter().map(|t| t.1).sum();
        kept.into_iter().map(|(i, w)| (i.clamp(0, last) as usize, w / sum)).collect()
    }

    /// For each axis of a tensor of this shape, the element that each element of the result is; `None` where values are
    /// interpolated or extrapolated. `lists` are the operands `scales`, `sizes` and `region`.
    ///
    /// # Errors
    /// The operands do not fit the shape.
    pub fn picks(&self, shape: &[usize], lists: [Option<&Tensor>; 3]) -> Result<Option<Vec<Vec<usize>>>, OpError> {
        let plan = self.plan(shape, lists)?;
        if self.mode != Interpolation::Nearest || plan.iter().any(|axis| self.outside(axis).contains(&true)) {
            return Ok(None);
        }
        let mut picks: Vec<Vec<usize>> = shape.iter().map(|&n| (0..n).collect()).collect();
        for axis in plan.iter().filter(|axis| self.moves(axis)) {
            picks[axis.axis] = (0..axis.to).map(|i| self.nearest(self.coordinate(axis, i), axis)).collect();
        }
        Ok(Some(picks))
    }

    /// Whether an axis is resampled at all: not when each element stands where it was.
    fn moves(&self, axis: &Axis) -> bool {
        axis.from != axis.to || (0..axis.to).any(|i| self.coordinate(axis, i) != i as f32)
    }

    /// For each element of an axis of the result, whether it stands outside of `x`.
    fn outside(&self, axis: &Axis) -> Vec<bool> {
        let last = axis.from as f32 - 1.0;
        let beyond = |i: usize| !(0.0..=last).contains(&self.coordinate(axis, i));
        (0..axis.to).map(|i| self.coordinate == CoordinateTransform::TfCropAndResize && beyond(i)).collect()
    }
}

impl Semantics for Resize {
    const FACTS: Facts<Resize> = Facts::family();
    const EXTENTS: Option<usize> = Some(2);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        ensure!(
            self.mode == Interpolation::Nearest || x.dtype != DType::Str,
            "C2",
            "strings have no values in between"
        );
        ensure!(cx.has(1) != cx.has(2), "C1", "expected one of scales and sizes");
        let Some(dims) = &x.shape else { return Ok(vec![x.clone().into()]) };
        let axes = self.axes(dims.len())?;
        let lists = [1, 2, 3].map(|slot| cx.constant(slot));
        let known = (1..4).all(|slot| !cx.has(slot) || lists[slot - 1].is_some() || (slot == 3 && cx.has(2)));
        let mut shape = dims.clone();
        axes.iter().for_each(|&a| shape[a] = Dim::Unknown);
        if let (true, Some(dims)) = (known && lists[2].is_some() == cx.has(3), x.static_shape()) {
            for axis in self.plan(&dims, lists)? {
                shape[axis.axis] = Dim::Known(axis.to);
            }
        } else if let (Some(sizes), AspectPolicy::Stretch) = (lists[1], self.aspect) {
            let sizes = sizes.to_i64_vec();
            ensure!(sizes.len() == axes.len() && sizes.iter().all(|&s| s >= 0), "C1", "sizes are {sizes:?}");
            axes.iter().zip(sizes).for_each(|(&a, s)| shape[a] = Dim::Known(s as usize));
        } else if let (Some(scales), false) = (lists[0], self.coordinate == CoordinateTransform::TfCropAndResize) {
            let scales = scales.to_f64_vec();
            ensure!(scales.len() == axes.len(), "C1", "scales are {scales:?} for {} axes", axes.len());
            for (&a, scale) in axes.iter().zip(scales) {
                shape[a] = match dims[a].known() {
                    Some(n) => Dim::Known((n as f32 * scale as f32).floor() as usize),
                    None if scale == 1.0 => dims[a].clone(),
                    None => Dim::Unknown,
                };
            }
        }
        Ok(vec![TensorType::new(x.dtype, shape).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        // Sizes that name the items ask for as many as there are.
        let as_many = cx.infer.has(2) && self.aspect == AspectPolicy::Stretch && !cx.infer.has(3);
        let factor = cx.constant(1).and_then(|t| t.to_f64_vec().first().copied());
        match self.axes.is_empty() {
            true => cx.only(&[0]) && (as_many || factor == Some(1.0)),
            false => cx.spares(self.axes.iter().copied()),
        }
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let shape = &result_shapes(self, args)?[0];
        let plan = self.plan(x.shape(), [1, 2, 3].map(|slot| args.optional(slot)))?;
        let extrapolates = plan.iter().any(|axis| self.outside(axis).contains(&true));
        if self.mode == Interpolation::Nearest && !extrapolates {
            return Ok(vec![self.pick(x, &plan)?.into()]);
        }
        match eval_new(self, args, &[(x.dtype(), shape)])? {
            Some(results) => Ok(results),
            None => self.narrow(x, shape, &plan),
        }
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (x, y) = (operands.tensor(0)?, &mut results[0]);
        let list = |slot: usize| operands.optional(slot).map(|t| t.to_tensor()).transpose();
        let lists = [list(1)?, list(2)?, list(3)?];
        let plan = self.plan(x.shape(), lists.each_ref().map(Option::as_ref))?;
        let extrapolates = plan.iter().any(|axis| self.outside(axis).contains(&true));
        if self.mode == Interpolation::Nearest && !extrapolates {
            return Ok(false);
        }
        by_native!(x.dtype(), T => {
            let to = (y.shape(), y.as_mut_slice::<T>()?);
            self.interpolated(x.as_slice::<T>()?, x.shape(), to.1, to.0, &plan)?;
            Ok(true)
        }, else Ok(false))
    }
}

impl Resize {
    /// The resampling of an axis.
    ///
    /// # Errors
    /// There is no memory for it.
    fn resampling(&self, axis: &Axis) -> Result<Resampling, OpError> {
        let one = 56 + 32 * self.taps(self.coordinate(axis, 0), axis).len();
        let _room = room(axis.to.saturating_mul(one))?;
        let mut found = Resampling { axis: axis.axis, from: axis.from, taps: vec![], ends: vec![] };
        for i in 0..axis.to {
            found.taps.extend(self.taps(self.coordinate(axis, i), axis));
            found.ends.push(found.taps.len());
        }
        Ok(found)
    }

    /// `x` of shape `from` resampled along all axes to `y` of shape `to`: one slab of the axes before the first that is
    /// resampled after the other, in `f64`.
    ///
    /// # Errors
    /// There is no memory for a slab.
    fn interpolated<T: NativeElement>(
        &self,
        x: &[T],
        from: &[usize],
        y: &mut [T],
        to: &[usize],
        plan: &[Axis],
    ) -> Result<(), OpError> {
        if x.is_empty() || y.is_empty() {
            return Ok(());
        }
        let mut axes = vec![];
        for axis in plan.iter().filter(|axis| self.moves(axis)) {
            axes.push(self.resampling(axis)?);
        }
        let first = axes.iter().map(|axis| axis.axis).min().unwrap_or(0);
        let (slab, result): (usize, usize) = (from[first..].iter().product(), to[first..].iter().product());
        let largest = (0..axes.len()).fold((from.to_vec(), slab), |(mut extents, most), k| {
            extents[axes[k].axis] = axes[k].ends.len();
            let now = extents[first..].iter().product::<usize>();
            (extents, most.max(now))
        });
        let _room = room(largest.1.saturating_mul(16))?;
        let (mut values, mut next) = (Vec::with_capacity(largest.1), Vec::with_capacity(largest.1));
        let range = T::DTYPE.int_range().map_or((f64::NEG_INFINITY, f64::INFINITY), |(l, h)| (l as f64, h as f64));
        for (x, y) in x.chunks_exact(slab).zip(y.chunks_exact_mut(result)) {
            let mut extents = from.to_vec();
            values.clear();
            if axes.is_empty() {
                values.extend(x.iter().map(|v| v.to_f64()));
            }
            for (k, axis) in axes.iter().enumerate() {
                extents[axis.axis] = axis.ends.len();
                next.resize(extents[first..].iter().product(), 0.0);
                let inner = extents[axis.axis + 1..].iter().product();
                match k {
                    0 => axis.run(x, inner, &mut next),
                    _ => axis.run(&values, inner, &mut next),
                }
                std::mem::swap(&mut values, &mut next);
            }
            match T::DTYPE.is_float() {
                true => y.iter_mut().zip(&values).for_each(|(y, &v)| *y = T::of_float(v)),
                false => y.iter_mut().zip(&values).for_each(|(y, &v)| *y = T::of_float(v.clamp(range.0, range.1))),
            }
        }
        self.extrapolate(y, to, plan);
        Ok(())
    }

    /// Puts the value of elements outside of the region where these are.
    fn extrapolate<T: NativeElement>(&self, y: &mut [T], shape: &[usize], plan: &[Axis]) {
        let range = T::DTYPE.int_range().map_or((f64::NEG_INFINITY, f64::INFINITY), |(l, h)| (l as f64, h as f64));
        let value = T::of_float(f64::from(self.extrapolation.0).clamp(range.0, range.1));
        for axis in plan {
            let outside = self.outside(axis);
            if outside.contains(&true) {
                let inner: usize = shape[axis.axis + 1..].iter().product();
                let rows = y.chunks_mut(inner.max(1)).zip(outside.iter().cycle());
                rows.filter(|(_, outside)| **outside).for_each(|(row, _)| row.fill(value));
            }
        }
    }

    /// The result for elements of less than a byte and `bool`.
    fn narrow(&self, x: &Tensor, shape: &[usize], plan: &[Axis]) -> Result<Vec<Val>, OpError> {
        let mut values = vec![0f64; bounded(shape)?];
        self.interpolated(&x.to_f64_vec(), x.shape(), &mut values, shape, plan)?;
        if let Some((low, high)) = x.dtype().int_range() {
            values.iter_mut().for_each(|v| *v = v.clamp(low as f64, high as f64));
        }
        Ok(vec![Tensor::from_f64(x.dtype(), shape, &values)?.into()])
    }

    /// The nearest elements, of any dtype.
    fn pick(&self, x: &Tensor, plan: &[Axis]) -> Result<Tensor, OpError> {
        let mut y = x.clone();
        for axis in plan.iter().filter(|axis| self.moves(axis)) {
            let mut shape = y.shape().to_vec();
            let inner: usize = shape[axis.axis + 1..].iter().product();
            let outer: usize = shape[..axis.axis].iter().product();
            shape[axis.axis] = axis.to;
            let nearest: Vec<usize> = (0..axis.to).map(|i| self.nearest(self.coordinate(axis, i), axis)).collect();
            let rows = (0..outer).flat_map(|o| nearest.iter().map(move |i| (o * axis.from + i) * inner));
            y = gather_elements(&y, &shape, rows.flat_map(|row| (0..inner).map(move |k| Some(row + k))))?;
        }
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decl;

    /// The element that is nearest to `numerator / denominator`, by exact arithmetic.
    fn exact(numerator: i64, denominator: i64, nearest: NearestMode, last: i64) -> usize {
        let (floor, rest) = (numerator.div_euclid(denominator), 2 * numerator.rem_euclid(denominator));
        let up = match nearest {
            NearestMode::RoundPreferFloor => rest > denominator,
            _ => rest >= denominator,
        };
        (floor + i64::from(up)).clamp(0, last) as usize
    }

    /// Coordinates below 16, where an `f32` is as near to the exact one as ties are told.
    #[test]
    fn ties_are_those_of_exact_arithmetic() {
        for (from, to) in (1..17).flat_map(|from| (1..60).map(move |to| (from, to))) {
            let sizes = Tensor::from_slice(&[1], &[to]).unwrap();
            for nearest in [NearestMode::RoundPreferFloor, NearestMode::RoundPreferCeil] {
                for coordinate in [CoordinateTransform::HalfPixel, CoordinateTransform::Asymmetric] {
                    let op = Resize { nearest, coordinate, ..Resize::from_attrs(vec![]).unwrap() };
                    let picks = op.picks(&[from as usize], [None, Some(&sizes), None]).unwrap().unwrap();
                    let expected = |i: i64| match coordinate {
                        CoordinateTransform::HalfPixel => exact((2 * i + 1) * from - to, 2 * to, nearest, from - 1),
                        _ => exact(i * from, to, nearest, from - 1),
                    };
                    assert_eq!(picks[0], (0..to).map(expected).collect::<Vec<_>>(), "{from} to {to} by {op:?}");
                }
            }
        }
    }
}
