//! Windows that slide over images, each channel by itself: depthwise convolution, maximum and mean pooling.
//!
//! ```text
//! task = (image, block of rows, block of channels)
//! for row in block { for tile of columns { for vector of channels { all taps of all columns in registers; store } } }
//! ```
//!
//! A tile holds the sums of several columns for one vector of channels, so that a weight is loaded once for all of them
//! and a pixel once for all columns whose windows it is in. Padding costs no test in a tile: which taps of a column
//! exist is known when the tile is built (the first and the last columns have tiles of their own), and rows of the
//! window that lie outside of the image are left out of a tile's loop over rows.
//!
//! Everything is written for three spatial axes; images with fewer have leading axes of one. Memory is described by
//! strides, so that any layout works; it is fast where channels are consecutive. A depthwise convolution whose pixels
//! are consecutive instead has a nest and tiles of its own ([`planes`]).

mod nest;
mod planes;
mod tile;

use std::fmt;
use std::ops::Range;

pub use nest::window;
use optc_kernel::expr::Expr;
use optc_kernel::nest::Kernel;
use optc_kernel::tile::MemType;
pub use planes::MOST_PLANE_TAPS;

/// One spatial axis: how the window moves along it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Extent of the source.
    pub size: usize,
    /// Extent of the result.
    pub out: usize,
    /// Taps of the window.
    pub kernel: usize,
    /// Elements between two positions of the window.
    pub stride: usize,
    /// Elements between two taps.
    pub dilation: usize,
    /// Elements of padding before the first and after the last; the latter matters to means that count them.
    pub pads: [usize; 2],
}

impl Axis {
    /// The axis that an image does not have.
    pub const NONE: Axis = Axis { size: 1, out: 1, kernel: 1, stride: 1, dilation: 1, pads: [0, 0] };

    /// Whether a window of `kernel` neighbours moves by one.
    pub fn is_simple(&self, kernel: usize) -> bool {
        (self.kernel, self.stride, self.dilation) == (kernel, 1, 1)
    }

    /// Elements from the first tap of a window to the last.
    pub fn reach(&self) -> usize {
        (self.kernel - 1) * self.dilation + 1
    }

    /// The taps of output `i` that are not in the padding.
    pub fn taps(&self, i: usize) -> Range<usize> {
        let before = |end: usize| end.saturating_sub(i * self.stride).div_ceil(self.dilation).min(self.kernel);
        before(self.pads[0])..before(self.pads[0] + self.size).max(before(self.pads[0]))
    }

    /// The taps of output `i` that are not beyond the padding at the end.
    fn padded_taps(&self, i: usize) -> usize {
        let end = self.pads[0] + self.size + self.pads[1];
        end.saturating_sub(i * self.stride).div_ceil(self.dilation).min(self.kernel)
    }

    /// Whether every tap of every output is in the source.
    pub fn inside(&self) -> bool {
        (0..self.out).all(|i| self.taps(i) == (0..self.kernel))
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Axis { size, out, kernel, stride, dilation, pads: [begin, end] } = self;
        write!(f, "{size} to {out} kernel {kernel} stride {stride} dilation {dilation} pads {begin} {end}")
    }
}

/// Where the elements of a stack of images are; all numbers are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageView {
    /// What an element is.
    pub mem: MemType,
    /// The length of its buffer.
    pub bytes: usize,
    /// Where the first element is.
    pub offset: i64,
    /// From one image, plane, row, column and channel to the next; 0 repeats an element.
    pub strides: [i64; 5],
}

impl ImageView {
    /// Channels last: `[batch, planes, rows, columns, channels]`, nothing between.
    pub fn channels_last(batch: usize, [d, h, w]: [usize; 3], channels: usize) -> ImageView {
        let column = 4 * channels;
        let strides = [d * h * w * column, h * w * column, w * column, column, 4].map(|s| s as i64);
        ImageView { mem: MemType::F32, bytes: batch * d * h * w * column, offset: 0, strides }
    }

    /// Channels first: `[batch, channels, planes, rows, columns]`, nothing between.
    pub fn channels_first(batch: usize, [d, h, w]: [usize; 3], channels: usize) -> ImageView {
        let area = 4 * d * h * w;
        let strides = [channels * area, 4 * h * w, 4 * w, 4, area].map(|s| s as i64);
        ImageView { mem: MemType::F32, bytes: batch * channels * area, offset: 0, strides }
    }

    /// A value for each channel: a bias.
    pub fn per_channel(channels: usize) -> ImageView {
        ImageView { mem: MemType::F32, bytes: 4 * channels, offset: 0, strides: [0, 0, 0, 0, 4] }
    }

    fn rotated(self) -> ImageView {
        let [n, d, h, w, c] = self.strides;
        ImageView { strides: [n, h, w, d, c], ..self }
    }
}

/// What becomes of the elements under the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowReduce {
    /// The sum of their products with the weights `[planes, rows, columns, channels]` of a filter ([`filters`]).
    Dot,
    /// The largest; NaN if there is one, minus infinity if there is nothing.
    Max,
    /// Their mean; NaN if there is nothing.
    Mean {
        /// Whether padding counts in the divisor.
        count_padding: bool,
    },
}

/// A problem: a window over the three last axes, every channel by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowNest {
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Planes, rows and columns.
    pub axes: [Axis; 3],
    /// What is computed.
    pub reduce: WindowReduce,
    /// The images: `f32`, or 8-bit integers whose sums are exact in `f32`. Maxima of integers are integers, all else is
    /// `f32`.
    pub src: ImageView,
    /// What is taken off each integer.
    pub src_zero: i32,
    /// The result.
    pub dst: ImageView,
    /// Operands of the epilogue.
    pub operands: Vec<ImageView>,
    /// What is stored: operand 0 is what the window gives, operand `i + 1` is `operands[i]`.
    pub epilogue: Expr,
}

impl WindowNest {
    /// A window over images that have their channels last, results too, without an epilogue.
    pub fn channels_last(batch: usize, channels: usize, axes: [Axis; 3], reduce: WindowReduce) -> WindowNest {
        WindowNest {
            batch,
            channels,
            axes,
            reduce,
            src: ImageView::channels_last(batch, axes.map(|a| a.size), channels),
            src_zero: 0,
            dst: ImageView::channels_last(batch, axes.map(|a| a.out), channels),
            operands: Vec::new(),
            epilogue: Expr::Operand(0),
        }
    }

    /// The same problem with the axes in an order that suits the tiles: along the last axis taps are unrolled, so that
    /// a long window goes to an axis that has a loop.
    fn arranged(&self) -> WindowNest {
        let mut w = self.clone();
        while w.axes[2].kernel > LONG && w.axes[0] == Axis::NONE {
            w.axes.rotate_left(1);
            w.src = w.src.rotated();
            w.dst = w.dst.rotated();
            w.operands.iter_mut().for_each(|o| *o = o.rotated());
        }
        w
    }

    /// What the kernel and its tiles are called.
    fn name(&self) -> &'static str {
        match (self.reduce, self.src.mem) {
            (WindowReduce::Dot, MemType::F32) => "depthwise_f32",
            (WindowReduce::Max, MemType::F32) => "max_pool_f32",
            (WindowReduce::Mean { .. }, MemType::F32) => "mean_pool_f32",
            (WindowReduce::Dot, MemType::Bf16) => "depthwise_bf16",
            (WindowReduce::Max, MemType::Bf16) => "max_pool_bf16",
            (WindowReduce::Mean { .. }, MemType::Bf16) => "mean_pool_bf16",
            (WindowReduce::Dot, MemType::F16) => "depthwise_f16",
            (WindowReduce::Max, MemType::F16) => "max_pool_f16",
            (WindowReduce::Mean { .. }, MemType::F16) => "mean_pool_f16",
            (WindowReduce::Dot, _) => "depthwise_i8",
            (WindowReduce::Max, _) => "max_pool_i8",
            (WindowReduce::Mean { .. }, _) => "mean_pool_i8",
        }
    }

    /// How many tasks the work is worth.
    fn tasks(&self) -> usize {
        let each = |of: fn(&Axis) -> usize| self.axes.iter().map(of).product::<usize>();
        let work = self.batch * self.channels * each(|a| a.out) * each(|a| a.kernel);
        (work / TASK_TAPS).clamp(1, TASKS)
    }
}

/// Tasks that balance a few threads, and the least work of one, in taps.
const TASKS: usize = 16;
const TASK_TAPS: usize = 1 << 16;

/// More taps than this along the columns are not unrolled if another axis can have them.
const LONG: usize = 32;

/// A kernel and the constant buffer that it needs.
#[derive(Clone, Debug)]
pub struct BuiltWindow {
    /// The kernel. Buffers: the images, the weights of [`WindowReduce::Dot`], the table if there is one, the operands
    /// of the epilogue, the result.
    pub kernel: Kernel,
    /// The contents of the table's buffer (number 1), if there is one: what a mean's sums are multiplied by.
    pub table: Option<Vec<u8>>,
}

/// The weights `[channels, 1, planes, rows, columns]` of a depthwise convolution as the kernel wants them.
pub fn filters(weights: &[f32], channels: usize) -> Vec<f32> {
    let taps = weights.len() / channels.max(1);
    (0..taps * channels).map(|i| weights[i % channels * taps + i / channels]).collect()
}
