//! Pooling over regions of interest.

use optc_tensor::{Tensor, for_each_index};

use crate::ops::eval::result_shapes;
use crate::{Args, Dim, Facts, InferCx, OpError, Real, Semantics, TensorType, Type, Val, ensure, op, text_enum};

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
        let (x, rois, batch) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?.to_i64_vec());
        let shape = &result_shapes(self, args)?[0];
        ensure!(batch.len() == shape[0], "C2", "`batch` has {} elements, `rois` {} rows", batch.len(), shape[0]);
        let (height, width) = (x.shape()[2], x.shape()[3]);
        let plane = height * width;
        let (xv, rv) = (x.to_f64_vec(), rois.to_f64_vec());
        let mut y = vec![];
        for (roi, &n) in rv.chunks(4).zip(&batch) {
            ensure!((0..x.shape()[0] as i64).contains(&n), "C2", "batch index {n} is outside of 0..{}", x.shape()[0]);
            let columns = self.points(roi[0], roi[2], shape[3], width)?;
            let rows = self.points(roi[1], roi[3], shape[2], height)?;
            for c in 0..shape[1] {
                let image = &xv[(n as usize * shape[1] + c) * plane..][..plane];
                for rows in &rows {
                    y.extend(columns.iter().map(|columns| self.pool(image, width, rows, columns)));
                }
            }
        }
        Ok(vec![Tensor::from_f64(x.dtype(), shape, &y)?.into()])
    }
}

impl RoiAlign {
    fn pool(&self, image: &[f64], width: usize, rows: &[[(usize, f64); 2]], columns: &[[(usize, f64); 2]]) -> f64 {
        let pixel = |y: usize, x: usize| image.get(y * width + x).copied().unwrap_or(0.0);
        let points = rows.iter().flat_map(|r| columns.iter().map(move |c| (r, c)));
        let corners = points.flat_map(|(r, c)| r.iter().flat_map(move |r| c.iter().map(move |c| (r, c))));
        let weighted = corners.map(|(&(y, wy), &(x, wx))| wy * wx * pixel(y, x));
        match self.mode {
            RoiAlignMode::Max => weighted.reduce(f64::max).unwrap_or(0.0),
            RoiAlignMode::Avg => weighted.sum::<f64>() / (rows.len() * columns.len()).max(1) as f64,
        }
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
        let (height, width) = (x.shape()[2], x.shape()[3]);
        let (xv, rv) = (x.to_f64_vec(), rois.to_f64_vec());
        let mut y = vec![];
        for roi in rv.chunks(5) {
            let n = roi[0];
            ensure!(n >= 0.0 && n < x.shape()[0] as f64, "C2", "image {n} is outside of 0..{}", x.shape()[0]);
            let (columns, rows) =
                (self.bins(roi[1], roi[3], shape[3], width), self.bins(roi[2], roi[4], shape[2], height));
            for_each_index(&shape[1..], |i| {
                let plane = (n as usize * shape[1] + i[0]) * height;
                let pixels =
                    rows[i[1]].clone().flat_map(|r| columns[i[2]].clone().map(move |c| (plane + r) * width + c));
                y.push(pixels.map(|p| xv[p]).reduce(f64::max).unwrap_or(0.0));
            });
        }
        Ok(vec![Tensor::from_f64(x.dtype(), shape, &y)?.into()])
    }
}
