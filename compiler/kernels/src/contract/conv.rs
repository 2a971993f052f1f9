//! Convolutions over images with channels last as contractions.

use optc_kernel::expr::Expr;
use optc_kernel::tile::MemType;

use super::{Contract, ContractRows, Operand, PackB, Pixels, Taps};
use crate::window::{Axis, ImageView};

/// A convolution over up to three axes. The channels of `src` are consecutive: `groups * channels` of them, those of
/// `dst` are `groups * filters`; weights are `[groups * filters, channels, planes, rows, columns]` as in ONNX.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvNest {
    /// Images.
    pub batch: usize,
    /// Input channels of a group.
    pub channels: usize,
    /// Output channels of a group.
    pub filters: usize,
    /// Groups.
    pub groups: usize,
    /// Planes, rows and columns.
    pub axes: [Axis; 3],
    /// The images.
    pub src: ImageView,
    /// The result.
    pub dst: ImageView,
    /// Operands of the epilogue.
    pub operands: Vec<ImageView>,
    /// What is stored: operand 0 is the sum, operand `i + 1` is `operands[i]`.
    pub epilogue: Expr,
}

/// With more channels than this, the taps of a row are long enough on their own.
const FEW_CHANNELS: usize = 16;

impl ConvNest {
    /// A convolution of images that have their channels last, results too, without an epilogue.
    pub fn channels_last(batch: usize, channels: usize, filters: usize, groups: usize, axes: [Axis; 3]) -> ConvNest {
        ConvNest {
            batch,
            channels,
            filters,
            groups,
            axes,
            src: ImageView::channels_last(batch, axes.map(|a| a.size), groups * channels),
            dst: ImageView::channels_last(batch, axes.map(|a| a.out), groups * filters),
            operands: Vec::new(),
            epilogue: Expr::Operand(0),
        }
    }

    /// How the taps of a row become taps of the contraction.
    fn kind(&self) -> Taps {
        let [d, _, w] = self.axes;
        let consecutive = self.src.strides[3] == 4 * self.channels as i64 && self.groups == 1 && w.dilation == 1;
        if !consecutive || w.kernel == 1 || self.channels > FEW_CHANNELS {
            Taps::Each
        } else if w.inside() {
            Taps::Merged
        } else if d == Axis::NONE {
            Taps::Staged
        } else {
            Taps::Each
        }
    }

    /// Taps, and the elements of each.
    fn taps(&self) -> (usize, usize) {
        let [d, h, w] = self.axes.map(|a| a.kernel);
        match self.kind() {
            Taps::Each => (d * h * w, self.channels),
            Taps::Merged | Taps::Staged => (d * h, w * self.channels),
        }
    }

    /// Where the weights of a group begin, in elements.
    pub fn group_weights(&self, group: usize) -> usize {
        let (taps, k) = self.taps();
        group * self.filters * taps * k
    }

    /// How the weights of one group, transposed to `[filters, planes, rows, columns, channels]`, are packed.
    pub fn pack(&self) -> PackB {
        let (taps, k) = self.taps();
        PackB { taps, k, n: self.filters, tap_stride: k, k_stride: 1, n_stride: taps * k }
    }

    /// How the weights of one group are packed from where ONNX has them, `[filters, channels, planes, rows, columns]`.
    /// `None` where the taps of a row are summed with their channels, which do not lie that way.
    fn pack_in_place(&self) -> Option<PackB> {
        let (taps, k) = self.taps();
        let straight = PackB { taps, k, n: self.filters, tap_stride: 1, k_stride: taps, n_stride: taps * k };
        (self.kind() == Taps::Each).then_some(straight)
    }

    /// `[filters, channels, planes, rows, columns]` as `[filters, planes, rows, columns, channels]`.
    fn to_channels_last<T: Copy>(&self, weights: &[T]) -> Vec<T> {
        let area: usize = self.axes.iter().map(|a| a.kernel).product();
        let filter = self.channels * area;
        let of = |i: usize| i / filter * filter + i % self.channels * area + i % filter / self.channels;
        (0..weights.len()).map(|i| weights[of(i)]).collect()
    }

    /// Elements of the packed weights of all groups.
    pub fn packed_len(&self, lanes: usize) -> usize {
        let (taps, k) = self.taps();
        self.groups * super::packed_len(taps, k, self.filters, lanes)
    }

    /// Packs the weights of all groups as ONNX has them for vectors of `lanes` columns into `packed`, which holds
    /// [`ConvNest::packed_len`] zeros, on up to `threads` threads.
    pub fn pack_weights<T: Copy + Send + Sync>(&self, weights: &[T], lanes: usize, threads: usize, packed: &mut [T]) {
        let turned;
        let (from, pack) = match self.pack_in_place() {
            Some(pack) => (weights, pack),
            None => {
                turned = self.to_channels_last(weights);
                (&turned[..], self.pack())
            }
        };
        let group = packed.len() / self.groups.max(1);
        for (g, packed) in packed.chunks_exact_mut(group.max(1)).enumerate() {
            super::pack_b(&from[self.group_weights(g)..], &pack, lanes, threads, packed);
        }
    }
}

/// The contraction of a convolution.
pub fn conv(c: &ConvNest) -> Contract {
    let (taps, k) = c.taps();
    let outer = |v: &ImageView| [v.strides[0], v.strides[1], v.strides[2], v.strides[3]];
    let pixels = Pixels {
        images: c.batch,
        axes: c.axes,
        a: outer(&c.src),
        c: outer(&c.dst),
        operands: c.operands.iter().map(outer).collect(),
        taps: c.kind(),
    };
    let m = c.batch * c.axes.iter().map(|a| a.out).product::<usize>();
    let rows =
        if pointwise(&pixels) { ContractRows::Stride(pixels.a[3]) } else { ContractRows::Pixels(Box::new(pixels)) };
    Contract {
        batch: c.groups,
        m,
        n: c.filters,
        k,
        taps,
        a_bytes: c.src.bytes,
        a_offset: c.src.offset,
        a_batch_stride: 4 * c.channels as i64,
        rows,
        own_b: true,
        b_mem: MemType::F32,
        scaled: None,
        c_mem: c.dst.mem,
        c_bytes: c.dst.bytes,
        c_offset: c.dst.offset,
        c_batch_stride: c.filters as i64 * c.dst.strides[4],
        c_row_stride: c.dst.strides[3],
        c_col_stride: c.dst.strides[4],
        operands: c.operands.iter().map(|o| operand(c, o)).collect(),
        epilogue: c.epilogue.clone(),
    }
}

fn operand(c: &ConvNest, view: &ImageView) -> Operand {
    Operand {
        mem: view.mem,
        bytes: view.bytes,
        offset: view.offset,
        batch_stride: c.filters as i64 * view.strides[4],
        row_stride: view.strides[3],
        col_stride: view.strides[4],
    }
}

/// Whether row `m` of A, of C and of all operands is `m` strides away.
fn pointwise(p: &Pixels) -> bool {
    let same = |a: &Axis| a.kernel == 1 && a.stride == 1 && a.pads[0] == 0 && a.out == a.size;
    p.axes.iter().all(same) && p.linear() && Pixels { c: p.a, ..p.clone() }.linear()
}
