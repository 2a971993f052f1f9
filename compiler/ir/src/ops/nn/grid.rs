//! Sampling at the points of a grid, and the grid of an affine map.

use optc_tensor::{Tensor, TensorMut, for_each_index, strides_of};

use crate::ops::bad_dtype;
use crate::ops::eval::{eval_new, result_shapes, room};
use crate::ops::native::{NativeElement, by_native};
use crate::{Args, Dim, Facts, InferCx, OpError, Operands, Semantics, TensorType, Type, Val, ensure, op, text_enum};

text_enum! {
    /// How values between elements come about.
    pub enum Interpolation {
        /// The value of the nearest element.
        Nearest = "nearest",
        /// The sum of the two elements around, each weighted by how near it is.
        Linear = "linear",
        /// The sum of the four elements around, with cubic weights.
        Cubic = "cubic",
    }
}

text_enum! {
    /// What lies outside of a tensor that is sampled.
    pub enum GridPadding {
        /// Zeros.
        Zeros = "zeros",
        /// The nearest element.
        Border = "border",
        /// The tensor reflected at its borders.
        Reflection = "reflection",
    }
}

op! {
    /// Samples `x: [N, C, D…]` at the points of `grid: [N, E…, r]`, whose coordinates, innermost axis first, go from −1
    /// to 1 over an axis; result `[N, C, E…]`.
    ///
    /// - (C1) `mode` is `nearest`, `linear` or `cubic`; `padding` is `zeros`, `border` or `reflection`.
    /// - (C2) `x` has `r ≥ 1` spatial axes, and both operands one rank and batch.
    "nn.grid_sample" = GridSample(x, grid) {
        /// Whether −1 and 1 are the centres of the outermost elements rather than their borders.
        align_corners: bool = false,
        /// How values between elements come about.
        mode: Interpolation = Interpolation::Linear,
        /// What lies outside.
        padding: GridPadding = GridPadding::Zeros,
    }
}

/// The elements of one axis that a point sees, with their weights: four at most.
#[derive(Clone, Copy, Default)]
struct Taps {
    taps: [(usize, f64); 4],
    count: usize,
}

impl Taps {
    fn push(&mut self, element: Option<usize>, weight: f64) {
        if let Some(element) = element {
            self.taps[self.count] = (element, weight);
            self.count += 1;
        }
    }

    fn as_slice(&self) -> &[(usize, f64)] {
        &self.taps[..self.count]
    }
}

/// The weights of the four elements around a point, `t` after the second (Keys 1981).
pub(super) fn cubic_weights(t: f64, a: f64) -> [f64; 4] {
    let near = |d: f64| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
    let far = |d: f64| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
    [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
}

/// `x` reflected at the bounds until it lies between them.
fn reflect(x: f64, low: f64, high: f64) -> f64 {
    let range = high - low;
    if range <= 0.0 || !x.is_finite() {
        return low;
    }
    let (from, sign) = if x < low { (low - x, 1.0) } else { (x - high, -1.0) };
    if from <= 0.0 {
        return x;
    }
    let (near, far) = if sign > 0.0 { (low, high) } else { (high, low) };
    let rest = from % range;
    if (from / range).floor() % 2.0 == 0.0 { near + sign * rest } else { far - sign * rest }
}

/// `x.floor()`, which calls a function where the target has no instruction for it, as the build must expect.
#[inline]
fn floor(x: f64) -> f64 {
    /// From here on, and for NaN, there is no fraction.
    const WHOLE: f64 = 4_503_599_627_370_496.0;
    let down = x as i64 as f64;
    match x.abs() < WHOLE {
        true if down > x => down - 1.0,
        true => down,
        false => x,
    }
}

impl GridSample {
    /// The bounds between which coordinates of an axis of extent `n` lie.
    fn bounds(&self, n: usize) -> (f64, f64) {
        if self.align_corners { (0.0, n as f64 - 1.0) } else { (-0.5, n as f64 - 0.5) }
    }

    /// The element that stands for index `i` of an axis of extent `n`.
    fn element(&self, i: f64, n: usize) -> Option<usize> {
        let inside = |i: f64| (i >= 0.0 && i < n as f64).then_some(i as usize);
        let (low, high) = self.bounds(n);
        match self.padding {
            GridPadding::Zeros => inside(i),
            GridPadding::Border => inside(i.clamp(0.0, n as f64 - 1.0)),
            GridPadding::Reflection => inside(reflect(i, low, high).clamp(0.0, n as f64 - 1.0)),
        }
    }

    /// What a normalised coordinate sees of an axis of extent `n`.
    fn taps(&self, at: f64, n: usize) -> Taps {
        let mut taps = Taps::default();
        if n == 0 {
            return taps;
        }
        let size = n as f64;
        let (low, high) = self.bounds(n);
        let mut x = if self.align_corners { (at + 1.0) / 2.0 * (size - 1.0) } else { ((at + 1.0) * size - 1.0) / 2.0 };
        if self.mode == Interpolation::Nearest {
            x = x.round_ties_even();
        }
        // Cubic weights are those of the place itself: only the elements that they fall on are moved.
        if self.mode != Interpolation::Cubic && (x < low || x > high) {
            match self.padding {
                GridPadding::Zeros => (),
                GridPadding::Border => x = x.clamp(0.0, size - 1.0),
                GridPadding::Reflection => x = reflect(x, low, high),
            }
        }
        let first = floor(x);
        if self.mode == Interpolation::Linear && first >= 0.0 && first + 1.0 < size {
            // Both elements are there, as for most points.
            let low = first as usize;
            taps.push(Some(low), 1.0 - (x - first));
            taps.push(Some(low + 1), x - first);
            return taps;
        }
        let mut see = |i: f64, weight: f64| taps.push(self.element(i, n), weight);
        match self.mode {
            Interpolation::Nearest => see(x.round_ties_even(), 1.0),
            Interpolation::Linear => {
                see(first, 1.0 - (x - first));
                see(first + 1.0, x - first);
            }
            Interpolation::Cubic => {
                let weights = cubic_weights(x - first, -0.75);
                weights.into_iter().enumerate().for_each(|(k, weight)| see(first + k as f64 - 1.0, weight));
            }
        }
        taps
    }

    /// What the points of one batch, whose coordinates are `points`, see of tensors of shape `spatial`.
    fn seen(&self, points: &[f64], spatial: &[usize]) -> Seen {
        let (r, strides) = (spatial.len(), strides_of(spatial));
        let mut seen = Seen { taps: Vec::new(), ends: Vec::with_capacity(points.len() / r.max(1)) };
        let mut axes = vec![Taps::default(); r];
        for point in points.chunks_exact(r) {
            axes.iter_mut().enumerate().for_each(|(d, taps)| *taps = self.taps(point[r - 1 - d], spatial[d]));
            match (&axes[..], &strides[..]) {
                // Pictures, by the same products.
                ([rows, columns], &[down, _]) => rows.as_slice().iter().for_each(|&(i, w)| {
                    let of_row = columns.as_slice().iter().map(|&(j, v)| (i * down + j, w * v));
                    seen.taps.extend(of_row);
                }),
                _ => combine(&axes, &strides, (0, 1.0), &mut seen.taps),
            }
            seen.ends.push(seen.taps.len());
        }
        seen
    }
}

/// Each element that was seen along the axes before is seen with each along the first of these.
fn combine(axes: &[Taps], strides: &[usize], (at, weight): (usize, f64), seen: &mut Vec<(usize, f64)>) {
    match (axes, strides) {
        ([first, axes @ ..], [stride, strides @ ..]) => {
            let along = first.as_slice().iter();
            along.for_each(|&(i, w)| combine(axes, strides, (at + i * stride, weight * w), seen));
        }
        _ => seen.push((at, weight)),
    }
}

/// The elements of a plane that points see, with their weights.
struct Seen {
    taps: Vec<(usize, f64)>,
    /// Where in the list those of each point end.
    ends: Vec<usize>,
}

/// Channels that are sampled at once, so that what a point sees is looked up once for all of them.
const CHANNELS: usize = 4;

impl Seen {
    /// The value of each point in each of the planes of `x`.
    fn sample<T: NativeElement>(&self, x: &[T], plane: usize, y: &mut [T]) {
        let points = self.ends.len();
        let (mut x, mut y) = (x.chunks_exact(plane.max(1)), y.chunks_exact_mut(points.max(1)));
        loop {
            let planes: [&[T]; CHANNELS] = std::array::from_fn(|_| x.next().unwrap_or_default());
            let results: [&mut [T]; CHANNELS] = std::array::from_fn(|_| y.next().unwrap_or_default());
            match results.iter().filter(|row| !row.is_empty()).count() {
                0 => return,
                CHANNELS => self.sample_planes(planes, results),
                _ => {
                    let pairs = planes.into_iter().zip(results).filter(|(_, row)| !row.is_empty());
                    pairs.for_each(|(plane, row)| self.sample_planes([plane], [row]));
                }
            }
        }
    }

    /// The value of each point in each plane.
    fn sample_planes<T: NativeElement, const N: usize>(&self, planes: [&[T]; N], mut y: [&mut [T]; N]) {
        let mut begin = 0;
        for (p, &end) in self.ends.iter().enumerate() {
            let mut sums = [0.0; N];
            for &(at, weight) in &self.taps[begin..end] {
                (0..N).for_each(|c| sums[c] += weight * planes[c][at].to_f64());
            }
            (0..N).for_each(|c| y[c][p] = T::of_float(sums[c]));
            begin = end;
        }
    }
}

impl Semantics for GridSample {
    const FACTS: Facts<GridSample> = Facts::host("there is no kernel for it");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, grid) = (cx.tensor(0)?, cx.tensor(1)?);
        ensure!(grid.dtype.is_float(), "C2", "`grid` is {grid}");
        let (Some(xs), Some(gs)) = (&x.shape, &grid.shape) else {
            return Ok(vec![TensorType::unranked(x.dtype).into()]);
        };
        let r = xs.len().saturating_sub(2);
        let fits = r >= 1 && gs.len() == xs.len() && gs[r + 1].known().is_none_or(|n| n == r);
        ensure!(fits, "C2", "`x` is {x}, `grid` is {grid}");
        Ok(vec![TensorType::new(x.dtype, [&xs[..2], &gs[1..=r]].concat()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, grid) = (args.tensor(0)?, args.tensor(1)?);
        let shape = &result_shapes(self, args)?[0];
        let spatial = &x.shape()[2..];
        let r = spatial.len();
        let fits = grid.shape()[0] == shape[0] && grid.shape()[r + 1] == r;
        ensure!(fits, "C2", "`x` has shape {:?}, `grid` {:?}", x.shape(), grid.shape());
        match eval_new(self, args, &[(x.dtype(), shape)])? {
            Some(results) => Ok(results),
            None => bad_dtype("nn.grid_sample", x.dtype()),
        }
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (x, grid) = (operands.tensor(0)?, operands.tensor(1)?);
        let spatial = &x.shape()[2..];
        let (r, channels) = (spatial.len(), x.shape()[1]);
        if grid.shape()[0] != x.shape()[0] || grid.shape()[r + 1] != r {
            return Ok(false);
        }
        let (plane, points): (usize, usize) = (spatial.iter().product(), grid.shape()[1..=r].iter().product());
        // Coordinates, then elements with their weights.
        let taps = if self.mode == Interpolation::Cubic { 4usize } else { 2 }.saturating_pow(r as u32);
        let _room =
            room(points.saturating_mul(8 * r + 8).saturating_add(points.saturating_mul(32).saturating_mul(taps)))?;
        by_native!(x.dtype(), T => {
            let (x, y, grid) = (x.as_slice::<T>()?, results[0].as_mut_slice::<T>()?, grid.to_f64_vec());
            if points == 0 {
                return Ok(true);
            }
            for (n, y) in y.chunks_exact_mut((channels * points).max(1)).enumerate() {
                let seen = self.seen(&grid[n * points * r..][..points * r], spatial);
                seen.sample(&x[n * channels * plane..][..channels * plane], plane, y);
            }
            Ok(true)
        }, else Ok(false))
    }
}

op! {
    /// The points that the affine maps `theta: [N, r, r + 1]` take a regular grid to, for `nn.grid_sample`: `size` is
    /// the shape `[N, C, E…]` of what is sampled there; result `[N, E…, r]`.
    ///
    /// - (C1) `theta` is a float, `r` is 2 or 3, and `size` has `r + 2` elements, the first of which is `N`.
    "nn.affine_grid" = AffineGrid(theta, size) {
        /// Whether −1 and 1 are the centres of the outermost elements rather than their borders.
        align_corners: bool = false,
    }
}

impl Semantics for AffineGrid {
    const FACTS: Facts<AffineGrid> = Facts::host("it computes a constant unless shapes depend on data");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let theta = cx.tensor(0)?;
        ensure!(theta.dtype.is_float() && theta.rank().is_none_or(|r| r == 3), "C1", "`theta` is {theta}");
        let Some(size) = cx.constant(1).map(Tensor::to_i64_vec) else {
            let axes = theta.shape.as_ref().and_then(|s| s[1].known()).filter(|r| matches!(r, 2 | 3));
            let dims = axes.map(|r| [vec![Dim::Unknown; r + 1], vec![Dim::Known(r)]].concat());
            return Ok(vec![TensorType::of(theta.dtype, dims).into()]);
        };
        let r = size.len().saturating_sub(2);
        let fits = matches!(r, 2 | 3) && size.iter().all(|&n| n >= 0);
        ensure!(fits, "C1", "`size` is {size:?}");
        if let Some(shape) = &theta.shape {
            let has = |d: usize, n: usize| shape[d].known().is_none_or(|m| m == n);
            ensure!(
                has(0, size[0] as usize) && has(1, r) && has(2, r + 1),
                "C1",
                "`theta` is {theta}, `size` {size:?}"
            );
        }
        let mut dims: Vec<Dim> = vec![Dim::Known(size[0] as usize)];
        dims.extend(size[2..].iter().map(|&n| Dim::Known(n as usize)));
        dims.push(Dim::Known(r));
        Ok(vec![TensorType::new(theta.dtype, dims).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let theta = args.tensor(0)?;
        let shape = &result_shapes(self, args)?[0];
        match eval_new(self, args, &[(theta.dtype(), shape)])? {
            Some(results) => Ok(results),
            None => bad_dtype("nn.affine_grid", theta.dtype()),
        }
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (theta, y) = (operands.tensor(0)?.to_f64_vec(), &mut results[0]);
        let shape = y.shape();
        let r = shape.len() - 2;
        let at = |i: usize, n: usize| match self.align_corners {
            true if n > 1 => 2.0 * i as f64 / (n - 1) as f64 - 1.0,
            true => 0.0,
            false => (2 * i + 1) as f64 / n as f64 - 1.0,
        };
        let columns: Vec<f64> = (0..shape[r]).map(|i| at(i, shape[r])).collect();
        by_native!(y.dtype(), T => {
            let mut rows = y.as_mut_slice::<T>()?.chunks_exact_mut((columns.len() * r).max(1));
            for_each_index(&shape[..r], |i| {
                let map = &theta[i[0] * r * (r + 1)..][..r * (r + 1)];
                let Some(row) = rows.next() else { return };
                // Coordinates come innermost axis first, then the constant 1.
                let outer = |d: usize| at(i[d], shape[d]);
                match r {
                    2 => {
                        let terms = [0, 3].map(|k| [map[k], map[k + 1] * outer(1), map[k + 2]]);
                        affine_row(row, &columns, terms, |v, [a, b, c]| a * v + b + c);
                    }
                    _ => {
                        let terms =
                            [0, 4, 8].map(|k| [map[k], map[k + 1] * outer(2), map[k + 2] * outer(1), map[k + 3]]);
                        affine_row(row, &columns, terms, |v, [a, b, c, d]| a * v + b + c + d);
                    }
                }
            });
            Ok(true)
        }, else Ok(false))
    }
}

/// The points of a row: each coordinate of each column's point, by its terms.
fn affine_row<T: NativeElement, const R: usize, const N: usize>(
    row: &mut [T],
    columns: &[f64],
    terms: [[f64; N]; R],
    f: impl Fn(f64, [f64; N]) -> f64,
) {
    let (points, _) = row.as_chunks_mut::<R>();
    for (point, &v) in points.iter_mut().zip(columns) {
        (0..R).for_each(|k| point[k] = T::of_float(f(v, terms[k])));
    }
}
