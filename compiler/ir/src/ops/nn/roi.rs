//! Pooling over regions of interest.

use optc_tensor::TensorMut;

use crate::ops::bad_dtype;
use crate::ops::eval::{eval_new, result_shapes, room};
use crate::ops::native::{NativeElement, by_native};
use crate::{
    Args, Dim, Facts, InferCx, OpError, Operands, Real, Semantics, TensorType, Type, Val, ensure, op, text_enum,
};

text_enum! {
    /// How the sampling points of a region's bin are pooled.
    pub enum RoiAlignMode {
        /// Their mean.
        Avg = "avg",
        /// The maximum of their weighted corners.
        Max = "max",
    }
}

/// The most sampling points along one axis of a bin.
const MAX_GRID: f64 = 4096.0;

op! {
    /// For each row of `rois: [R, 4]` (left, top, right, bottom) the image of `x: [N, C, H, W]` that `batch: [R]`
    /// names, pooled to `output_height × output_width` bins of interpolated sampling points (He et al. 2017).
    ///
    /// - (C1) `mode` is `avg` or `max` (of the points' weighted corners).
    /// - (C2) The shapes are those above, the dtype is a float, and indices lie in `0..N`.
    /// - (C3) The output extents are positive, `sampling_ratio` is not negative, and no bin has too many points.
    "nn.roi_align" = RoiAlign(x, rois, batch) {
        /// Whether coordinates are moved by half a pixel.
        half_pixel: bool = true,
        /// How sampling points are pooled.
        mode: RoiAlignMode = RoiAlignMode::Avg,
        /// Bins of a region from top to bottom.
        output_height: i64 = 1,
        /// Bins of a region from left to right.
        output_width: i64 = 1,
        /// Sampling points of a bin along each axis; 0 for one a pixel.
        sampling_ratio: i64 = 0,
        /// Factor from the regions' coordinates to pixels.
        spatial_scale: Real = Real(1.0),
    }
}

/// The result's type: an image of `size` for each row of `rois`.
fn pooled_type(x: &TensorType, rois: &TensorType, columns: usize, size: [i64; 2]) -> Result<Vec<Type>, OpError> {
    ensure!(x.dtype.is_float(), "C2", "`x` is {}, expected a float", x.dtype);
    ensure!(size.iter().all(|s| (1..1 << 31).contains(s)), "C3", "the output's extents are {size:?}");
    ensure!(x.rank().is_none_or(|r| r == 4), "C2", "`x` is {x}, expected rank 4");
    let fits = rois.shape.as_ref().is_none_or(|s| s.len() == 2 && s[1].known().is_none_or(|n| n == columns));
    ensure!(fits, "C2", "`rois` is {rois}, expected {columns} columns");
    let count = rois.shape.as_ref().map_or(Dim::Unknown, |s| s[0].clone());
    let channels = x.shape.as_ref().map_or(Dim::Unknown, |s| s[1].clone());
    let [height, width] = size.map(|s| Dim::Known(s as usize));
    Ok(vec![TensorType::new(x.dtype, vec![count, channels, height, width]).into()])
}

/// The sampling points of one axis of a region: for each bin, pixels and weights of each point.
type Points = Vec<Vec<[(usize, f64); 2]>>;

impl RoiAlign {
    /// The sampling points between `start` and `end` for `bins` bins over `extent` pixels.
    fn points(&self, start: f64, end: f64, bins: usize, extent: usize) -> Result<Points, OpError> {
        let shift = if self.half_pixel { 0.5 } else { 0.0 };
        let (start, end) = (start * self.spatial_scale.0 as f64 - shift, end * self.spatial_scale.0 as f64 - shift);
        let length = if self.half_pixel { end - start } else { (end - start).max(1.0) };
        let bin = length / bins as f64;
        let count = if self.sampling_ratio > 0 { self.sampling_ratio as f64 } else { bin.ceil() };
        ensure!(
            (f64::NEG_INFINITY..=MAX_GRID).contains(&count),
            "C3",
            "a bin has {count} points along an axis, expected at most {MAX_GRID}"
        );
        let points = |b: usize| {
            let at = move |i: usize| start + b as f64 * bin + (i as f64 + 0.5) * bin / count;
            (0..count as usize).map(|i| corners(at(i), extent)).collect()
        };
        Ok((0..bins).map(points).collect())
    }
}

/// The two pixels around a coordinate and their weights, zero for one beyond the border.
fn corners(at: f64, extent: usize) -> [(usize, f64); 2] {
    let n = extent as f64;
    if !(-1.0..=n).contains(&at) || extent == 0 {
        return [(0, 0.0); 2];
    }
    let at = at.clamp(0.0, n - 1.0);
    let low = at as usize;
    [(low, 1.0 - at.fract()), ((low + 1).min(extent - 1), at.fract())]
}

impl Semantics for RoiAlign {
    const FACTS: Facts<RoiAlign> = Facts::host("there is no kernel for it");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        ensure!(self.sampling_ratio >= 0, "C3", "`sampling_ratio` is {}", self.sampling_ratio);
        pooled_type(cx.tensor(0)?, cx.tensor(1)?, 4, [self.output_height, self.output_width])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, batch) = (args.tensor(0)?, args.tensor(2)?);
        let shape = &result_shapes(self, args)?[0];
        ensure!(batch.len() == shape[0], "C2", "`batch` has {} elements, `rois` {} rows", batch.len(), shape[0]);
        match eval_new(self, args, &[(x.dtype(), shape)])? {
            Some(results) => Ok(results),
            None => bad_dtype("nn.roi_align", x.dtype()),
        }
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (x, rois, batch) = (operands.tensor(0)?, operands.tensor(1)?, operands.tensor(2)?.to_i64_vec());
        let (shape, from) = (results[0].shape(), x.shape());
        if batch.len() != shape[0] {
            return Ok(false);
        }
        let plane = from[2] * from[3];
        by_native!(x.dtype(), T => {
            let (x, y) = (x.as_slice::<T>()?, results[0].as_mut_slice::<T>()?);
            let size = shape[1..].iter().product::<usize>().max(1);
            for ((roi, &n), y) in rois.to_f64_vec().chunks_exact(4).zip(&batch).zip(y.chunks_exact_mut(size)) {
                ensure!((0..from[0] as i64).contains(&n), "C2", "batch index {n} is outside of 0..{}", from[0]);
                let bins = self.bins(roi, [shape[2], shape[3]], [from[2], from[3]])?;
                let x = &x[n as usize * shape[1] * plane..][..shape[1] * plane];
                match plane {
                    0 => y.fill(T::of_int(0)),
                    _ => bins.pool(x, plane, y, self.mode),
                }
            }
            Ok(true)
        }, else Ok(false))
    }
}

/// The pixels that the bins of a region see, with their weights, in the order of bins, points and corners.
struct Bins {
    pixels: Vec<(usize, f64)>,
    /// Where in the list those of each bin end.
    ends: Vec<usize>,
}

impl Bins {
    /// The value of each bin in each of the planes of `x`.
    fn pool<T: NativeElement>(&self, x: &[T], plane: usize, y: &mut [T], mode: RoiAlignMode) {
        for (x, y) in x.chunks_exact(plane).zip(y.chunks_exact_mut(self.ends.len().max(1))) {
            let mut begin = 0;
            for (y, &end) in y.iter_mut().zip(&self.ends) {
                let weighted = self.pixels[begin..end].iter().map(|&(at, weight)| weight * x[at].to_f64());
                // There are four corners to a point.
                let value = match mode {
                    RoiAlignMode::Max => weighted.reduce(f64::max).unwrap_or(0.0),
                    RoiAlignMode::Avg => weighted.sum::<f64>() / ((end - begin) / 4).max(1) as f64,
                };
                *y = T::of_float(value);
                begin = end;
            }
        }
    }
}

impl RoiAlign {
    /// What the bins of a region see of planes of `extents`.
    fn bins(&self, roi: &[f64], bins: [usize; 2], extents: [usize; 2]) -> Result<Bins, OpError> {
        let columns = self.points(roi[0], roi[2], bins[1], extents[1])?;
        let rows = self.points(roi[1], roi[3], bins[0], extents[0])?;
        let points = |bins: &Points| bins.iter().map(Vec::len).sum::<usize>();
        let _room = room(points(&rows).saturating_mul(points(&columns)).saturating_mul(64))?;
        let mut found = Bins { pixels: vec![], ends: vec![] };
        for (rows, columns) in rows.iter().flat_map(|r| columns.iter().map(move |c| (r, c))) {
            for (row, column) in rows.iter().flat_map(|r| columns.iter().map(move |c| (r, c))) {
                let corners = row.iter().flat_map(|r| column.iter().map(move |c| (r, c)));
                found.pixels.extend(corners.map(|(&(y, wy), &(x, wx))| (y * extents[1] + x, wy * wx)));
            }
            found.ends.push(found.pixels.len());
        }
        Ok(found)
    }
}

op! {
    /// For each row of `rois: [R, 5]` (image, left, top, right, bottom; pixels, both ends included) the maximum of `x:
    /// [N, C, H, W]` in `pooled_shape` bins, zero where a bin has no pixel (Girshick 2015).
    ///
    /// - (C2) The shapes are those above, the dtype is a float, and the images lie in `0..N`.
    /// - (C3) `pooled_shape` has two positive extents.
    "nn.max_roi_pool" = MaxRoiPool(x, rois) {
        /// Bins from top to bottom and from left to right.
        pooled_shape: Vec<i64>,
        /// Factor from the regions' coordinates to pixels.
        spatial_scale: Real = Real(1.0),
    }
}

impl MaxRoiPool {
    /// The pixels of each bin between `start` and `end`.
    fn bins(&self, start: f64, end: f64, bins: usize, extent: usize) -> Vec<std::ops::Range<usize>> {
        let scale = self.spatial_scale.0 as f64;
        let start = (start * scale).round();
        let length = ((end * scale).round() - start + 1.0).max(1.0);
        let pixel = |v: f64| (v + start).clamp(0.0, extent as f64) as usize;
        let edge = |b: usize| b as f64 * length / bins as f64;
        (0..bins).map(|b| pixel(edge(b).floor())..pixel(edge(b + 1).ceil())).collect()
    }
}

impl Semantics for MaxRoiPool {
    const FACTS: Facts<MaxRoiPool> = Facts::host("there is no kernel for it");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let size: Result<[i64; 2], _> = self.pooled_shape.as_slice().try_into();
        ensure!(size.is_ok(), "C3", "`pooled_shape` is {:?}", self.pooled_shape);
        pooled_type(cx.tensor(0)?, cx.tensor(1)?, 5, size.unwrap_or_default())
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, rois) = (args.tensor(0)?, args.tensor(1)?);
        let shape = &result_shapes(self, args)?[0];
        match eval_new(self, args, &[(x.dtype(), shape)])? {
            Some(results) => Ok(results),
            None => bad_dtype("nn.max_roi_pool", rois.dtype()),
        }
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (x, rois) = (operands.tensor(0)?, operands.tensor(1)?);
        let (shape, from) = (results[0].shape(), x.shape());
        let (height, width) = (from[2], from[3]);
        by_native!(x.dtype(), T => {
            let (x, y) = (x.as_slice::<T>()?, results[0].as_mut_slice::<T>()?);
            let size = shape[1..].iter().product::<usize>().max(1);
            for (roi, y) in rois.to_f64_vec().chunks_exact(5).zip(y.chunks_exact_mut(size)) {
                let n = roi[0];
                ensure!(n >= 0.0 && n < from[0] as f64, "C2", "image {n} is outside of 0..{}", from[0]);
                let columns = self.bins(roi[1], roi[3], shape[3], width);
                let rows = self.bins(roi[2], roi[4], shape[2], height);
                let bins = (0..shape[1]).flat_map(|c| rows.iter().flat_map({
                    let columns = &columns;
                    move |r| columns.iter().map(move |s| (c, r, s))
                }));
                for (y, (c, rows, columns)) in y.iter_mut().zip(bins) {
                    let plane = (n as usize * shape[1] + c) * height;
                    let row = |r: usize| &x[(plane + r) * width..][columns.start..columns.end.max(columns.start)];
                    let first = rows.clone().next().and_then(|r| row(r).first());
                    let mut top = first.copied().unwrap_or(T::of_int(0));
                    for r in rows.clone() {
                        row(r).iter().for_each(|&v| top = if v > top || top.not_a_number() { v } else { top });
                    }
                    *y = top;
                }
            }
            Ok(true)
        }, else Ok(false))
    }
}
