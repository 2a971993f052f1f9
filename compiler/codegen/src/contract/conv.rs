//! Two-dimensional convolutions over NHWC as contractions.

use super::{Contract, PackB, Rows};
use crate::expr::Expr;

/// A convolution: `src` is `[batch, height, width, groups * channels]`, weights are `[groups * filters, channels, kh, kw]`
/// as in ONNX, `dst` is `[batch, out_h, out_w, groups * filters]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Images.
    pub batch: usize,
    /// Rows and columns of an image.
    pub size: [usize; 2],
    /// Input channels of a group.
    pub channels: usize,
    /// Output channels of a group.
    pub filters: usize,
    /// Groups.
    pub groups: usize,
    /// Rows and columns of a filter.
    pub kernel: [usize; 2],
    /// Steps between outputs.
    pub strides: [usize; 2],
    /// Steps between taps.
    pub dilations: [usize; 2],
    /// Zeros before the first row and column.
    pub pads: [usize; 2],
    /// Rows and columns of the output.
    pub out: [usize; 2],
}

impl Conv {
    /// Whether the taps of a filter's row are consecutive in memory, so that they are one longer tap.
    fn merges(&self) -> bool {
        let last = (self.out[1].saturating_sub(1)) * self.strides[1] + self.kernel[1];
        self.groups == 1 && self.dilations[1] == 1 && self.pads[1] == 0 && last <= self.size[1]
    }

    /// Where the weights of a group begin, in elements.
    pub fn group_weights(&self, group: usize) -> usize {
        group * self.filters * self.channels * self.kernel[0] * self.kernel[1]
    }

    /// How the weights of one group, transposed to `[filters, kh, kw, channels]`, are packed.
    pub fn pack(&self) -> PackB {
        let (taps, k) = self.taps();
        PackB { taps, k, n: self.filters, tap_stride: k, k_stride: 1, n_stride: taps * k }
    }

    fn taps(&self) -> (usize, usize) {
        let [kh, kw] = self.kernel;
        if self.merges() { (kh, kw * self.channels) } else { (kh * kw, self.channels) }
    }

    /// `[filters, channels, kh, kw]` of one group as `[filters, kh, kw, channels]`.
    pub fn to_channels_last(&self, weights: &[f32]) -> Vec<f32> {
        let (area, filter) = (self.kernel[0] * self.kernel[1], self.channels * self.kernel[0] * self.kernel[1]);
        let of = |i: usize| i / filter * filter + i % self.channels * area + i % filter / self.channels;
        (0..weights.len()).map(|i| weights[of(i)]).collect()
    }

    /// The byte offset of each row (output pixel) and tap in a group of `src`, -1 in the padding.
    fn offsets(&self, taps: usize) -> Vec<i32> {
        let [height, width] = self.size;
        let pixel = 4 * self.groups * self.channels;
        let columns = taps / self.kernel[0];
        let at = |image: usize, y: usize, x: usize| {
            let (y, x) = (y.checked_sub(self.pads[0])?, x.checked_sub(self.pads[1])?);
            (y < height && x < width).then(|| ((image * height + y) * width + x) * pixel)
        };
        let mut offsets = Vec::with_capacity(self.batch * self.out[0] * self.out[1] * taps);
        for image in 0..self.batch {
            for y in 0..self.out[0] {
                for x in 0..self.out[1] {
                    for tap in 0..taps {
                        let y = y * self.strides[0] + tap / columns * self.dilations[0];
                        let x = x * self.strides[1] + tap % columns * self.dilations[1];
                        offsets.push(at(image, y, x).map_or(-1, |o| o as i32));
                    }
                }
            }
        }
        offsets
    }
}

/// The contraction of a convolution, without an epilogue; `nr` is the panel's width of the schedule's target.
pub fn conv(c: &Conv, nr: usize) -> Contract {
    let (taps, k) = c.taps();
    let (c_in, c_out) = (c.groups * c.channels, c.groups * c.filters);
    let pixels = c.batch * c.out[0] * c.out[1];
    let pointwise = c.kernel == [1, 1] && c.strides == [1, 1] && c.pads == [0, 0] && c.out == c.size;
    let rows = if pointwise { Rows::Stride(4 * c_in as i64) } else { Rows::Table(c.offsets(taps)) };
    Contract {
        batch: c.groups,
        m: pixels,
        n: c.filters,
        k,
        taps,
        a_bytes: 4 * c.batch * c.size[0] * c.size[1] * c_in,
        a_batch_stride: 4 * c.channels as i64,
        rows,
        b_batch_stride: 4 * super::packed_len(taps, k, c.filters, nr) as i64,
        c_bytes: 4 * pixels * c_out,
        c_offset: 0,
        c_batch_stride: 4 * c.filters as i64,
        c_row_stride: 4 * c_out as i64,
        c_col_stride: 4,
        operands: Vec::new(),
        epilogue: Expr::Operand(0),
    }
}
