//! Packs weights in the form that is multiplied: at compile time where they are constant, else as pairs by a kernel.

use optc_kernel::nest::{Access, Ix, Kernel, Rel, Stmt, TASK, call};
use optc_kernel::tile::{Binary, Count, MemType, Reg, Shift, Tile, TileBuilder};

use super::Int8Form;
use crate::window::ImageView;

/// The extents and the form of packed weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pack {
    /// What is multiplied.
    pub form: Int8Form,
    /// Rows of taps.
    pub rows: usize,
    /// Taps of a row.
    pub taps: usize,
    /// Summed elements of each tap.
    pub k: usize,
    /// Columns: results for each pixel.
    pub n: usize,
    /// What stands for zero in staged pixels.
    pub zero: i32,
}

impl Pack {
    /// Bytes of the first values of a panel's sums.
    pub fn head_bytes(&self, nr: usize) -> usize {
        match self.form {
            Int8Form::Pairs | Int8Form::Halves | Int8Form::HalfBlocks | Int8Form::Widened => 0,
            Int8Form::Fours | Int8Form::ByteBlocks => 4 * nr,
        }
    }

    /// Bytes of a tap in a panel.
    pub fn tap_bytes(&self, nr: usize) -> usize {
        4 * self.form.groups(self.k) * nr
    }

    /// Bytes of a panel of `nr` columns.
    pub fn panel_bytes(&self, nr: usize) -> usize {
        self.head_bytes(nr) + self.rows * self.taps * self.tap_bytes(nr)
    }

    /// Bytes of all panels.
    pub fn bytes(&self, nr: usize) -> usize {
        self.n.div_ceil(nr) * self.panel_bytes(nr)
    }
}

/// Packs constant weights; `at(row, tap, k, n)` is a weight without its zero point, or the bits of a bfloat16.
pub fn pack(p: &Pack, nr: usize, at: impl Fn(usize, usize, usize, usize) -> i16) -> Vec<u8> {
    let mut packed = vec![0; p.bytes(nr)];
    for (panel, dst) in packed.chunks_exact_mut(p.panel_bytes(nr).max(1)).enumerate() {
        let (first, (head, mut rest)) = (panel * nr, dst.split_at_mut(p.head_bytes(nr)));
        let mut sums = vec![0i32; nr.min(p.n - first)];
        for (row, tap) in (0..p.rows).flat_map(|row| (0..p.taps).map(move |tap| (row, tap))) {
            let (here, after) = rest.split_at_mut(p.tap_bytes(nr));
            pack_tap(p, nr, here, &mut sums, |k, n| at(row, tap, k, first + n));
            rest = after;
        }
        for (to, sum) in head.chunks_exact_mut(4).zip(sums) {
            to.copy_from_slice(&sum.wrapping_mul(-p.zero).to_le_bytes());
        }
    }
    packed
}

/// Packs one tap of a panel, and adds its columns to `sums`, as many as there are.
fn pack_tap(p: &Pack, nr: usize, dst: &mut [u8], sums: &mut [i32], at: impl Fn(usize, usize) -> i16) {
    let (group, bytes) = (p.form.group(), p.form.packed_bytes());
    for k in 0..p.k {
        let row = &mut dst[k / group * 4 * nr..][..4 * nr];
        for (n, (sum, to)) in sums.iter_mut().zip(row.chunks_exact_mut(4)).enumerate() {
            let weight = at(k, n);
            *sum = sum.wrapping_add(i32::from(weight));
            to[k % group * bytes..][..bytes].copy_from_slice(&weight.to_le_bytes()[..bytes]);
        }
    }
}

/// A kernel that packs a batch of computed matrices as pairs: element `(batch, k, n)` is at strides 0, 3 and 4 of the
/// view, which are bytes. Buffers: the matrices, the packed ones; a task for each panel of each batch.
pub fn pack_pairs_kernel(batch: usize, p: &Pack, src: &ImageView, zero: i32, nr: usize, lanes: usize) -> Kernel {
    let panels = p.n.div_ceil(nr);
    let mut kernel = Kernel::new("pack_b_i8", (batch * panels) as u64);
    let from = kernel.buf("src", src.bytes, Access::Read);
    let to = kernel.buf("dst", batch * p.bytes(nr), Access::Write);
    let [of, panel] = [(); 2].map(|()| kernel.var());
    let [image, .., n_stride] = src.strides;
    let begin = Ix::var(of) * image + Ix::var(panel) * (nr as i64 * n_stride) + src.offset;
    let end = Ix::var(TASK) * p.panel_bytes(nr) as i64;
    let mut place = |cols: usize| {
        let tile = kernel.tile(tile(p, src, zero, nr, cols, lanes));
        vec![call(tile, [from.at(begin.clone()), to.at(end.clone())])]
    };
    let full = if p.n >= nr { place(nr) } else { Vec::new() };
    let tail = if p.n.is_multiple_of(nr) { Vec::new() } else { place(p.n % nr) };
    kernel.body = vec![
        Stmt::Let { var: of, value: Ix::var(TASK) / panels as i64 },
        Stmt::Let { var: panel, value: Ix::var(TASK) % panels as i64 },
        Stmt::If { a: Ix::var(panel), rel: Rel::Lt, b: (p.n / nr).into(), then: full, otherwise: tail },
    ];
    kernel
}

/// Packs `cols` columns of all k; the vectors after them are zeros.
fn tile(p: &Pack, src: &ImageView, zero: i32, nr: usize, cols: usize, lanes: usize) -> Tile {
    let mut b = TileBuilder::new(format!("pack_b_i8_{cols}"), lanes);
    let (from, to) = (b.ptr(), b.ptr());
    let [.., k_stride, n_stride] = src.strides;
    let pair = |b: &mut TileBuilder, from, to, both: bool| {
        for col in (0..nr).step_by(lanes) {
            let here = lanes.min(cols.saturating_sub(col));
            let nothing = b.i32(0);
            let value = if here == 0 {
                nothing
            } else {
                let mut half = |k: i64| {
                    let x = b.load_along(src.mem, from, k * k_stride + col as i64 * n_stride, here, n_stride);
                    without(b, x, zero)
                };
                let low = half(0);
                let high = if both { half(1) } else { nothing };
                let mask = b.i32(0xffff);
                let (low, high) = (b.binary(Binary::And, low, mask), b.shift(Shift::Left, high, 16));
                b.binary(Binary::Or, low, high)
            };
            b.store(MemType::I32, to, 4 * col as i64, value);
        }
    };
    let steps = [(from, 2 * k_stride), (to, 4 * nr as i64)];
    let pairs = p.k / 2;
    let (at, _) = b.for_each_ptrs(Count::Static(pairs as u32), &steps, &[], |b, at, _| {
        pair(b, at[0], at[1], true);
        vec![]
    });
    if !p.k.is_multiple_of(2) {
        pair(&mut b, at[0], at[1], false);
    }
    b.finish()
}

/// `x` without the zero point. Columns after the last one get some value: their sums are never stored.
fn without(b: &mut TileBuilder, x: Reg, zero: i32) -> Reg {
    if zero == 0 {
        return x;
    }
    let zero = b.i32(zero);
    b.binary(Binary::Sub, x, zero)
}
