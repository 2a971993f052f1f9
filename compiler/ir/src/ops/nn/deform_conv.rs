//! Deformable convolution (Dai et al. 2017; with a mask, Zhu et al. 2019).

use optc_tensor::{Tensor, for_each_index};

use super::conv::{bias_planes, check_groups};
use super::window::WindowAxes;
use crate::ops::eval::result_shapes;
use crate::{Args, Dim, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// A 2-d convolution of `x: [N, C, H, W]` with `w: [M, C/groups, KH, KW]` whose window elements are moved by
    /// `offset: [N, offset_groups · KH · KW · 2, OH, OW]` (down, then right) and weighted by `mask: [N, offset_groups ·
    /// KH · KW, OH, OW]`. Values between pixels are interpolated linearly; pixels outside of `x` are zero.
    ///
    /// - (C1) `x` and `w` have rank 4 and one float dtype.
    /// - (C2) `C = groups · w[1]`, `groups` divides `M`, and `offset_groups` divides `C`.
    /// - (C3) `offset`, `mask` and `bias: [M]` have these shapes.
    "nn.deform_conv" = DeformConv(x, w, offset, bias: optional, mask: optional) {
        /// Steps of the window's elements, one an axis; empty for 1.
        dilations: Vec<i64> = vec![],
        /// Groups of channels that are convolved apart.
        groups: i64 = 1,
        /// Groups of channels that are moved alike.
        offset_groups: i64 = 1,
        /// Zeros around `x`: begins, then ends; empty for none.
        pads: Vec<i64> = vec![],
        /// Steps of the window, one an axis; empty for 1.
        strides: Vec<i64> = vec![],
    }
}

impl DeformConv {
    fn window<'a>(&'a self, kernel: &'a [usize]) -> WindowAxes<'a> {
        WindowAxes { kernel, strides: &self.strides, dilations: &self.dilations, pads: &self.pads, ceil: false }
    }
}

impl Semantics for DeformConv {
    const FACTS: Facts<DeformConv> = Facts::host("there is no kernel for it");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, w) = (cx.tensor(0)?, cx.tensor(1)?);
        ensure!(x.dtype == w.dtype && x.dtype.is_float(), "C1", "`x` is {}, `w` is {}", x.dtype, w.dtype);
        let (Some(xs), Some(ws)) = (&x.shape, &w.shape) else { return Ok(vec![TensorType::unranked(x.dtype).into()]) };
        ensure!(xs.len() == 4 && ws.len() == 4, "C1", "`x` is {x}, `w` is {w}");
        check_groups(self.groups, xs[1].known(), ws[1].known(), ws[0].known())?;
        check_groups(self.offset_groups, None, None, xs[1].known())?;
        let spatial = match (ws[2].known(), ws[3].known()) {
            (Some(h), Some(w)) => {
                let kernel = [h, w];
                let window = self.window(&kernel);
                window.check()?;
                window.dims(&xs[2..])?
            }
            _ => vec![Dim::Unknown; 2],
        };
        Ok(vec![TensorType::new(x.dtype, [vec![xs[0].clone(), ws[0].clone()], spatial].concat()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, w, offset) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
        let shape = &result_shapes(self, args)?[0];
        let (from, kernel) = (x.shape(), &w.shape()[2..]);
        let area: usize = kernel.iter().product();
        let points = self.offset_groups as usize * area;
        let fits = |t: &Tensor, n: usize| t.shape() == [shape[0], n, shape[2], shape[3]];
        ensure!(fits(offset, 2 * points), "C3", "`offset` has shape {:?}", offset.shape());
        let mask = args.optional(4);
        ensure!(mask.is_none_or(|m| fits(m, points)), "C3", "`mask` has another shape than `offset` asks for");
        let mut y = bias_planes(args.optional(3).map(Tensor::to_f64_vec), 0.0, shape)?;
        let (xv, wv, ov) = (x.to_f64_vec(), w.to_f64_vec(), offset.to_f64_vec());
        let mv = mask.map(Tensor::to_f64_vec);
        let window = self.window(kernel);
        let (plane, result) = (from[2] * from[3], shape[2] * shape[3]);
        let per_offset = from[1] / self.offset_groups as usize;
        let (per_group, out_group) = (w.shape()[1], shape[1] / self.groups as usize);
        for_each_index(&[shape[0], from[1], area, shape[2], shape[3]], |i| {
            let (n, c, t, p) = (i[0], i[1], i[2], i[3] * shape[3] + i[4]);
            let point = c / per_offset * area + t;
            let moved = |d: usize, index: usize, tap: usize| {
                let (stride, dilation, begin, _) = window.axis(d);
                let base = (index * stride + tap * dilation) as f64 - begin as f64;
                base + ov[((n * points + point) * 2 + d) * result + p]
            };
            let at = (moved(0, i[3], t / kernel[1]), moved(1, i[4], t % kernel[1]));
            let value = interpolate(&xv[(n * from[1] + c) * plane..][..plane], from[2], from[3], at);
            let value = value * mv.as_ref().map_or(1.0, |m| m[(n * points + point) * result + p]);
            let group = c / per_group;
            for m in group * out_group..(group + 1) * out_group {
                y[(n * shape[1] + m) * result + p] += wv[(m * per_group + c % per_group) * area + t] * value;
            }
        });
        Ok(vec![Tensor::from_f64(x.dtype(), shape, &y)?.into()])
    }
}

/// The linear interpolation of an image at a point; pixels outside are zero.
fn interpolate(image: &[f64], height: usize, width: usize, (y, x): (f64, f64)) -> f64 {
    let pixel = |y: f64, x: f64| {
        let inside = y >= 0.0 && x >= 0.0 && y < height as f64 && x < width as f64;
        if inside { image[y as usize * width + x as usize] } else { 0.0 }
    };
    let (top, left) = (y.floor(), x.floor());
    let (dy, dx) = (y - top, x - left);
    (1.0 - dy) * ((1.0 - dx) * pixel(top, left) + dx * pixel(top, left + 1.0))
        + dy * ((1.0 - dx) * pixel(top + 1.0, left) + dx * pixel(top + 1.0, left + 1.0))
}
