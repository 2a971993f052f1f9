//! The micro-kernel on matrix registers: two by two of them hold the sums of 32 pixels by 32 results.
//!
//! ```text
//! for row of taps { for tap { for 64 bytes of k {
//!     load pixels (up to 2 matrices), weights (up to 2); up to 4 products } } }
//! store the sums to the scratch; for pixel { load its sums; epilogue; store }
//! ```
//!
//! Matrices are loaded whole: rows of pixels that a tile does not have are read from what comes after, and never
//! stored.

use optc_kernel::tile::{Count, MATRIX_BYTES, MATRIX_ROWS, Mat, MemType, Ptr, Reg, TileBuilder, TileProduct};

use super::{Int8Form, NarrowProduct};

/// The parameters of a tile of matrix registers.
pub(super) struct Pointers {
    pub a: Ptr,
    pub panel: Ptr,
    pub operands: Vec<Ptr>,
    pub dst: Ptr,
    /// Where the sums pass.
    pub sums: Ptr,
}

/// Bytes of a row of the sums for `nr` columns.
fn sum_row(nr: usize) -> i64 {
    4 * nr as i64
}

/// A tile's extents in matrices.
struct Blocks {
    /// Matrices of pixels, and of results.
    rows: u8,
    cols: u8,
    nr: usize,
    /// Bytes from one pixel to the next.
    step: i64,
    of: TileProduct,
}

impl Blocks {
    fn sum(&self, r: u8, c: u8) -> Mat {
        Mat(2 * r + c)
    }

    fn each_sum(&self) -> impl Iterator<Item = (u8, u8)> + '_ {
        (0..self.rows).flat_map(|r| (0..self.cols).map(move |c| (r, c)))
    }

    /// Adds the products of 64 bytes of each pixel.
    fn accumulate(&self, b: &mut TileBuilder, a: Ptr, panel: Ptr) {
        let (pixels, weights) = (|r: u8| Mat(4 + r), |c: u8| Mat(6 + c));
        let row = sum_row(self.nr);
        (0..self.cols).for_each(|c| b.mat_load(weights(c), panel, i64::from(c) * MATRIX_BYTES as i64, row));
        for r in 0..self.rows {
            b.mat_load(pixels(r), a, i64::from(r) * MATRIX_ROWS as i64 * self.step, self.step);
            (0..self.cols).for_each(|c| b.mat_dot(self.sum(r, c), self.of, pixels(r), weights(c)));
        }
    }
}

/// Writes the program; `row_bytes` are those of a staged row.
pub(super) fn build(
    b: &mut TileBuilder,
    p: &NarrowProduct,
    (pixels, cols): (usize, usize),
    (row_bytes, nr): (usize, usize),
    at: &Pointers,
) {
    let (rows, taps, k) = p.taps();
    let blocks = Blocks {
        rows: pixels.div_ceil(MATRIX_ROWS) as u8,
        cols: cols.div_ceil(MATRIX_ROWS) as u8,
        nr,
        step: p.pixel_step(pixels),
        of: if p.form == Int8Form::HalfBlocks { TileProduct::Bf16 } else { TileProduct::Bytes },
    };
    blocks.each_sum().for_each(|(r, c)| b.mat_zero(blocks.sum(r, c)));
    let panel = b.offset(at.panel, p.pack().head_bytes(nr) as i64);
    let tap_bytes = p.pack().tap_bytes(nr) as i64;
    let row_step = (p.axes[0].dilation * row_bytes) as i64;
    let tap_step = (p.form.staged_bytes() * p.axes[1].dilation * p.channels) as i64;
    let count = |n: usize| Count::Static(n as u32);
    let steps = p.form.groups(k) / MATRIX_ROWS;
    let step_bytes = MATRIX_ROWS as i64 * sum_row(nr);
    b.for_each(count(rows), &[(at.a, row_step), (panel, tap_bytes * taps as i64)], &[], |b, row, _| {
        b.for_each(count(taps), &[(row[0], tap_step), (row[1], tap_bytes)], &[], |b, tap, _| {
            b.for_each(count(steps), &[(tap[0], MATRIX_BYTES as i64), (tap[1], step_bytes)], &[], |b, q, _| {
                blocks.accumulate(b, q[0], q[1]);
                vec![]
            });
            vec![]
        });
        vec![]
    });
    for (r, c) in blocks.each_sum() {
        let place = i64::from(r) * MATRIX_ROWS as i64 * sum_row(nr) + i64::from(c) * MATRIX_BYTES as i64;
        b.mat_store(at.sums, place, sum_row(nr), blocks.sum(r, c));
    }
    epilogue(b, p, (pixels, cols), nr, at);
}

/// A vector of columns: the first, how many, what its sums begin with, and operands that are the same for all pixels.
struct Column {
    first: usize,
    n: usize,
    head: Option<Reg>,
    fixed: Vec<Option<Reg>>,
}

impl Column {
    fn new(b: &mut TileBuilder, p: &NarrowProduct, (first, n): (usize, usize), nr: usize, at: &Pointers) -> Column {
        let head = (p.pack().head_bytes(nr) > 0).then(|| b.load(MemType::I32, at.panel, 4 * first as i64));
        let fixed = p.operands.iter().zip(&at.operands).map(|(view, &ptr)| {
            let same = view.strides[3] == 0;
            same.then(|| b.load_along(view.mem, ptr, first as i64 * view.strides[4], n, view.strides[4]))
        });
        let fixed = fixed.collect();
        Column { first, n, head, fixed }
    }

    /// Applies the epilogue to pixel `row` from where the pointers stand, and stores it.
    fn store(&self, b: &mut TileBuilder, p: &NarrowProduct, nr: usize, q: &[Ptr], row: i64) {
        let mem = if p.form.is_float() { MemType::F32 } else { MemType::I32 };
        let place = |strides: &[i64; 5]| row * strides[3] + self.first as i64 * strides[4];
        let sum = b.load(mem, q[0], row * sum_row(nr) + 4 * self.first as i64);
        let sum = self.head.map_or(sum, |head| b.add(sum, head));
        let mut known = self.fixed.clone();
        let value = p.epilogue.emit(b, &mut |b, i| {
            let Some(i) = i.checked_sub(1) else { return sum };
            let view = &p.operands[i];
            let load = || b.load_along(view.mem, q[2 + i], place(&view.strides), self.n, view.strides[4]);
            *known[i].get_or_insert_with(load)
        });
        b.store_strided(p.dst.mem, q[1], place(&p.dst.strides), self.n, p.dst.strides[4], value);
    }
}

/// Pixels in one turn of the epilogue.
const UNROLL: usize = 4;

/// Applies the epilogue to the sums, all columns of a pixel after the other, and stores it.
fn epilogue(b: &mut TileBuilder, p: &NarrowProduct, (pixels, cols): (usize, usize), nr: usize, at: &Pointers) {
    let lanes = b.lanes();
    let columns = (0..cols).step_by(lanes).map(|first| (first, lanes.min(cols - first)));
    let columns: Vec<Column> = columns.map(|of| Column::new(b, p, of, nr, at)).collect();
    let turn = |b: &mut TileBuilder, q: &[Ptr], rows: usize| {
        for row in 0..rows as i64 {
            columns.iter().for_each(|column| column.store(b, p, nr, q, row));
        }
    };
    let steps = [(at.sums, sum_row(nr)), (at.dst, p.dst.strides[3])].into_iter();
    let steps = steps.chain(p.operands.iter().zip(&at.operands).map(|(view, &ptr)| (ptr, view.strides[3])));
    let advance: Vec<(Ptr, i64)> = steps.map(|(ptr, step)| (ptr, UNROLL as i64 * step)).collect();
    let turns = Count::Static((pixels / UNROLL) as u32);
    let (rest, _) = b.for_each_ptrs(turns, &advance, &[], |b, q, _| {
        turn(b, q, UNROLL);
        vec![]
    });
    turn(b, &rest, pixels % UNROLL);
}
