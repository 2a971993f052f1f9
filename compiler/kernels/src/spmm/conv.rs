//! Convolutions as products: what the columns of the weights are, and where their pixels lie.
//!
//! A 1x1 convolution of stride 1 reads the channels as they are. For any other, the taps of a row of the window are
//! laid out first: a copy of each channel for every column of the window, cut to the width of the result and with its
//! padding, so that the pixels under one tap are consecutive. With a stride along the rows there is a copy for each row
//! of the window as well.
//!
//! ```text
//! staged[channel][row of the window, if strided][column of the window][rows that are read][columns of the result]
//! ```

use crate::movement::{Movement, Piece, PiecePlace, Source};
use crate::window::{Axis, ImageView};

/// A convolution over rows and columns without groups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SparseConv {
    /// Images.
    pub batch: usize,
    /// Input channels.
    pub channels: usize,
    /// Rows and columns.
    pub axes: [Axis; 2],
    /// Bytes of a pixel of a channel.
    pub width: usize,
    /// Whether the pixels of a channel already lie side by side.
    pub planes: bool,
    /// What stands in the padding.
    pub fill: [u8; 8],
}

/// The laid-out taps.
#[derive(Clone, Debug, PartialEq)]
pub struct Staged {
    /// Bytes of the copies of all images.
    pub bytes: usize,
    /// Bytes of the copies of one image.
    pub image_bytes: usize,
    /// The copying.
    pub movement: Movement,
}

impl SparseConv {
    /// Whether the channels can be read as they are.
    pub fn is_direct(&self) -> bool {
        self.planes && self.axes.iter().all(|a| a.kernel == 1 && a.stride == 1 && a.pads == [0, 0] && a.out == a.size)
    }

    /// Copies of a channel for the rows of the window, and the rows of each copy.
    fn row_copies(&self) -> (usize, usize) {
        let [h, _] = self.axes;
        if h.stride == 1 { (1, h.out + (h.kernel - 1) * h.dilation) } else { (h.kernel, h.out) }
    }

    /// Bytes that laying the taps out writes for each image; 0 where nothing is to be laid out.
    pub fn staged_bytes(&self) -> usize {
        let (copies, rows) = self.row_copies();
        let all = self.width * self.channels * copies * self.axes[1].kernel * rows * self.axes[1].out;
        if self.is_direct() { 0 } else { all }
    }

    /// Where the pixels of each column `(channel, row, column)` of the weights begin, in bytes; `channel_stride` is
    /// that of the image where the channels are read as they are.
    pub fn x_rows(&self, channel_stride: i64) -> Vec<i64> {
        let [h, w] = self.axes;
        if self.is_direct() {
            return (0..self.channels as i64).map(|c| c * channel_stride).collect();
        }
        let (copies, rows) = self.row_copies();
        let place = |c: usize, kh: usize, kw: usize| {
            let (copy, row) = if copies == 1 { (0, kh * h.dilation) } else { (kh, 0) };
            self.width as i64 * ((((c * copies + copy) * w.kernel + kw) * rows + row) * w.out) as i64
        };
        let taps = |c: usize| (0..h.kernel * w.kernel).map(move |t| place(c, t / w.kernel, t % w.kernel));
        (0..self.channels).flat_map(taps).collect()
    }

    /// The copying for images in `src`, which are alone in their buffer.
    pub fn stage(&self, src: &ImageView) -> Staged {
        let [h, w] = self.axes;
        let (copies, rows) = self.row_copies();
        let (image_bytes, element) = (self.staged_bytes(), self.width as i64);
        let mut pieces = Vec::new();
        for copy in 0..copies {
            for kw in 0..w.kernel {
                // Row y of the copy is row `y * stride + tap - pad` of the image.
                let row_axis = Axis { out: rows, ..h };
                let ys = inside(&row_axis, if copies == 1 { 0 } else { copy * h.dilation });
                let xs = inside(&w, kw * w.dilation);
                let plane = element * ((copy * w.kernel + kw) * rows * w.out) as i64;
                let channel = element * (copies * w.kernel * rows * w.out) as i64;
                let outer = |y: usize, x: usize, height: usize, width: usize| Piece {
                    shape: vec![self.batch, self.channels, height, width],
                    source: Source::Fill(self.fill),
                    dst: PiecePlace {
                        offset: plane + element * (y * w.out + x) as i64,
                        strides: vec![image_bytes as i64, channel, element * w.out as i64, element],
                    },
                };
                let [n, _, row, column, c] = src.strides;
                let from = |y: usize, tap: usize, a: &Axis| (y * a.stride + tap) as i64 - a.pads[0] as i64;
                let tap_row = if copies == 1 { 0 } else { copy * h.dilation };
                let copied = Piece {
                    source: Source::Copy(
                        0,
                        PiecePlace {
                            offset: src.offset
                                + from(ys.0, tap_row, &h) * row
                                + from(xs.0, kw * w.dilation, &w) * column,
                            strides: vec![n, c, h.stride as i64 * row, w.stride as i64 * column],
                        },
                    ),
                    ..outer(ys.0, xs.0, ys.1 - ys.0, xs.1 - xs.0)
                };
                pieces.push(copied);
                pieces.push(outer(0, 0, ys.0, w.out));
                pieces.push(outer(ys.1, 0, rows - ys.1, w.out));
                pieces.push(outer(ys.0, 0, ys.1 - ys.0, xs.0));
                pieces.push(outer(ys.0, xs.1, ys.1 - ys.0, w.out - xs.1));
            }
        }
        pieces.retain(|p| !p.shape.contains(&0));
        let bytes = self.batch * image_bytes;
        let movement = Movement { width: self.width, sources: vec![src.bytes], dst_bytes: bytes, pieces };
        Staged { bytes, image_bytes, movement }
    }
}

/// The outputs of an axis whose element under the tap `tap` elements after the first is in the image: from and to.
fn inside(a: &Axis, tap: usize) -> (usize, usize) {
    let first = a.pads[0].saturating_sub(tap).div_ceil(a.stride).min(a.out);
    let end = (a.size + a.pads[0]).saturating_sub(tap).div_ceil(a.stride).min(a.out);
    (first, end.max(first))
}
