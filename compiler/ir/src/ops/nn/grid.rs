//! Sampling at the points of a grid, and the grid of an affine map.

use optc_tensor::{Tensor, for_each_index, strides_of};

use crate::ops::eval::result_shapes;
use crate::{Args, Dim, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op, text_enum};

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

/// The elements of one axis that a point sees, with their weights.
type Taps = Vec<(usize, f64)>;

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
        if n == 0 {
            return vec![];
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
        let first = x.floor();
        let weighted: Vec<(f64, f64)> = match self.mode {
            Interpolation::Nearest => vec![(x.round_ties_even(), 1.0)],
            Interpolation::Linear => vec![(first, 1.0 - (x - first)), (first + 1.0, x - first)],
            Interpolation::Cubic => {
                (0..4).map(|k| (first + k as f64 - 1.0, cubic_weights(x - first, -0.75)[k])).collect()
            }
        };
        weighted.into_iter().filter_map(|(i, w)| Some((self.element(i, n)?, w))).collect()
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
        let (plane, points): (usize, usize) = (spatial.iter().product(), shape[2..].iter().product());
        let strides = strides_of(spatial);
        let (xv, gv) = (x.to_f64_vec(), grid.to_f64_vec());
        let mut y = vec![0.0; shape.iter().product()];
        for (p, point) in gv.chunks(r).enumerate() {
            let taps: Vec<Taps> = (0..r).map(|d| self.taps(point[r - 1 - d], spatial[d])).collect();
            let counts: Vec<usize> = taps.iter().map(Vec::len).collect();
            let n = p / points;
            for_each_index(&counts, |i| {
                let tap = |d: usize| taps[d][i[d]];
                let at: usize = (0..r).map(|d| tap(d).0 * strides[d]).sum();
                let weight: f64 = (0..r).map(|d| tap(d).1).product();
                for c in n * shape[1]..(n + 1) * shape[1] {
                    y[c * points + p % points] += weight * xv[c * plane + at];
                }
            });
        }
        Ok(vec![Tensor::from_f64(x.dtype(), shape, &y)?.into()])
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
        let r = shape.len() - 2;
        let map = theta.to_f64_vec();
        let at = |i: usize, n: usize| match self.align_corners {
            true if n > 1 => 2.0 * i as f64 / (n - 1) as f64 - 1.0,
            true => 0.0,
            false => (2 * i + 1) as f64 / n as f64 - 1.0,
        };
        let mut y = vec![];
        for_each_index(&shape[..=r], |i| {
            // Coordinates come innermost axis first, then the constant 1.
            let point: Vec<f64> = (0..r).rev().map(|d| at(i[d + 1], shape[d + 1])).chain([1.0]).collect();
            let rows = map[i[0] * r * (r + 1)..][..r * (r + 1)].chunks(r + 1);
            y.extend(rows.map(|row| row.iter().zip(&point).map(|(a, b)| a * b).sum::<f64>()));
        });
        Ok(vec![Tensor::from_f64(theta.dtype(), shape, &y)?.into()])
    }
}
