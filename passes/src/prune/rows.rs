//! Rows of a layer's least-squares problem: activations under the window, and what the layer gave there, at sampled
//! places.

use optc_ir::ops::nn::Conv;
use optc_ir::{Graph, Op, Val};
use optc_tensor::Tensor;

use super::RowError;
use crate::weighted::Weighted;

/// Rows are sampled beyond a certain number for each column of the weights, and a certain number in all.
const PER_COLUMN: usize = 24;
const LEAST: usize = 8192;

/// The sampled rows, without the layer's bias.
pub(super) struct SampledRows {
    pub count: usize,
    /// `[count, cols]`.
    pub x: Vec<f32>,
    /// `[count, rows]`.
    pub y: Vec<f32>,
}

/// Samples a layer whose operand is `x` and which gave `y`, batch by batch.
pub(super) fn sample(g: &Graph, layer: &Weighted, x: &[Val], y: &[&Tensor]) -> Result<SampledRows, RowError> {
    let places: usize = y.iter().map(|t| t.len() / layer.rows).sum();
    let wanted = (PER_COLUMN * layer.cols).max(LEAST);
    // An odd step, so that places in a row and rows of an image are all met.
    let step = (places / wanted).max(1) | 1;
    let bias = bias(g, layer);
    let mut rows = SampledRows { count: 0, x: vec![], y: vec![] };
    let mut next = 0;
    for (x, y) in x.iter().filter_map(Val::as_tensor).zip(y) {
        let here = y.len() / layer.rows;
        while next < here {
            match &g.node(layer.node).op {
                Op::Conv(conv) => image(&mut rows, layer, (conv, g), x, y, next)?,
                _ => product(&mut rows, layer, x, y, next)?,
            }
            rows.count += 1;
            next += step;
        }
        next -= here;
    }
    if let Some(bias) = bias {
        rows.y.chunks_mut(layer.rows).for_each(|row| row.iter_mut().zip(&bias).for_each(|(y, b)| *y -= b));
    }
    if rows.count == 0 { Err(RowError::Nothing) } else { Ok(rows) }
}

/// What the layer adds to each channel.
fn bias(g: &Graph, layer: &Weighted) -> Option<Vec<f32>> {
    let t = g.constant(g.operand(layer.node, 2)?)?;
    let beta = match &g.node(layer.node).op {
        Op::Gemm(gemm) if !gemm.reads_c() => return None,
        Op::Gemm(gemm) => gemm.beta.0,
        _ => 1.0,
    };
    let values: Vec<f32> = t.to_f64_vec().into_iter().map(|v| v as f32 * beta).collect();
    (values.len() == layer.rows).then_some(values)
}

/// Row `at` of a product.
fn product(rows: &mut SampledRows, layer: &Weighted, x: &Tensor, y: &Tensor, at: usize) -> Result<(), RowError> {
    let row = |t: &[f32], n: usize| t.get(at * n..(at + 1) * n).map(<[f32]>::to_vec);
    rows.x.extend(row(x.as_slice()?, layer.cols).ok_or(RowError::Shape)?);
    rows.y.extend(row(y.as_slice()?, layer.rows).ok_or(RowError::Shape)?);
    Ok(())
}

/// Place `at` of all places of the images that a convolution gives.
fn image(
    rows: &mut SampledRows,
    layer: &Weighted,
    (conv, g): (&Conv, &Graph),
    x: &Tensor,
    y: &Tensor,
    at: usize,
) -> Result<(), RowError> {
    let weights = g.constant(layer.weights).ok_or(RowError::Weights)?;
    let (window, from, to) = (&weights.shape()[2..], &x.shape()[2..], &y.shape()[2..]);
    let (xs, ys) = (x.as_slice::<f32>()?, y.as_slice::<f32>()?);
    let plane: usize = to.iter().product();
    let (image, place) = (at / plane, at % plane);
    let (channels, area) = (x.shape()[1], from.iter().product::<usize>());
    let index = unravel(place, to);
    let or = |v: &[i64], d: usize, default: i64| v.get(d).copied().unwrap_or(default);
    for channel in 0..channels {
        let source = &xs[(image * channels + channel) * area..][..area];
        for tap in 0..window.iter().product() {
            let tap = unravel(tap, window);
            let mut offset = Some(0usize);
            for d in 0..from.len() {
                let p = index[d] as i64 * or(&conv.strides, d, 1) + tap[d] as i64 * or(&conv.dilations, d, 1)
                    - or(&conv.pads, d, 0);
                let inside = usize::try_from(p).ok().filter(|&p| p < from[d]);
                offset = offset.zip(inside).map(|(o, p)| o * from[d] + p);
            }
            rows.x.push(offset.map_or(0.0, |o| source[o]));
        }
    }
    rows.y.extend((0..layer.rows).map(|c| ys[(image * layer.rows + c) * plane + place]));
    Ok(())
}

fn unravel(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (i, &n) in index.iter_mut().zip(shape).rev() {
        (*i, at) = (at % n, at / n);
    }
    index
}
