//! The micro-kernel: one row of blocks over a few vectors of pixels.

use optc_kernel::tile::{Binary, MemType, Ptr, Reg, Shift, Tile, TileBuilder};

use super::Spmm;
use super::form::{SparseForm, StepRow, UNROLL};

/// What a tile covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SparseTileShape {
    /// Rows of a block.
    pub block: usize,
    /// Rows of the result: fewer than a block has in the last one.
    pub rows: usize,
    /// Pixels.
    pub cols: usize,
    /// Pixels of the kernel's full tiles: sums of all tiles are added in their order, so that the bits of a pixel do
    /// not depend on where it lies.
    pub full: usize,
}

/// Builds the tile. Pointers: the blocks of the row, the first pixel of the activations, the operands of the epilogue,
/// the result. Counts: turns of [`UNROLL`] steps, then single ones.
pub(super) fn build(p: &Spmm, lanes: usize, shape: SparseTileShape) -> Tile {
    let SparseTileShape { block, rows, cols, full } = shape;
    let mut b = TileBuilder::new(format!("{}_{rows}x{cols}", p.name()), lanes);
    let (stream, x) = (b.ptr(), b.ptr());
    let operands: Vec<Ptr> = p.operands.iter().map(|_| b.ptr()).collect();
    let dst = b.ptr();
    let (turns, rest) = (b.count(), b.count());
    let vectors = vectors(lanes, cols);
    let sums = rows * vectors.len();
    let chains = p.form.chains().div_ceil(block * full.div_ceil(lanes)).min(UNROLL);
    let (first, stream) = p.form.start(&mut b, stream, block, rows);
    let acc: Vec<Reg> = (0..sums * chains).map(|i| first[i % sums / vectors.len()]).collect();
    let step = Step { form: p.form, rows, vectors: &vectors, x };
    let bytes = p.form.step_bytes(block) as i64;
    let (at, acc) = b.for_each_ptrs(turns, &[(stream, UNROLL as i64 * bytes)], &acc, |b, p, acc| {
        let mut acc = acc.to_vec();
        for u in 0..UNROLL {
            let chain = u % chains * sums;
            step.add(b, p[0], u as i64 * bytes, &mut acc[chain..chain + sums]);
        }
        acc
    });
    let acc = join(&mut b, acc, sums);
    let acc = b.for_each(rest, &[(at[0], bytes)], &acc, |b, p, acc| {
        let mut acc = acc.to_vec();
        step.add(b, p[0], 0, &mut acc);
        acc
    });
    store(&mut b, p, &acc, &vectors, (&operands, dst));
    b.finish()
}

/// The pixels of each vector: the first, and how many. A last vector that is not full begins earlier instead, over
/// pixels of the one before, where there are enough.
fn vectors(lanes: usize, cols: usize) -> Vec<(usize, usize)> {
    let last = |first: usize| if cols >= lanes { first.min(cols - lanes) } else { first };
    (0..cols).step_by(lanes).map(|first| (last(first), lanes.min(cols))).collect()
}

struct Step<'a> {
    form: SparseForm,
    rows: usize,
    vectors: &'a [(usize, usize)],
    x: Ptr,
}

impl Step<'_> {
    /// Adds the step at `stream + disp`.
    fn add(&self, b: &mut TileBuilder, stream: Ptr, disp: i64, acc: &mut [Reg]) {
        let pixels = self.form.pixels(b, stream, disp, self.x, self.vectors);
        for (number, sums) in acc.chunks_mut(pixels.len()).enumerate() {
            let row = StepRow { stream, disp, number, is_last: number + 1 == self.rows };
            self.form.add(b, &row, &pixels, sums);
        }
    }
}

/// Adds the chains of each sum.
fn join(b: &mut TileBuilder, mut acc: Vec<Reg>, sums: usize) -> Vec<Reg> {
    for chain in (1..acc.len() / sums).rev() {
        for i in 0..sums {
            acc[i] = b.add(acc[i], acc[chain * sums + i]);
        }
    }
    acc.truncate(sums);
    acc
}

/// Applies the epilogue to each register and stores it.
fn store(b: &mut TileBuilder, p: &Spmm, acc: &[Reg], vectors: &[(usize, usize)], (operands, dst): (&[Ptr], Ptr)) {
    let rows = acc.len() / vectors.len();
    if p.c_mem.bytes() == 1 && p.c_row_stride == 1 && rows == 4 {
        return store_words(b, p, acc, vectors, (operands, dst));
    }
    for row in 0..rows {
        let mut per_row = vec![None; operands.len()];
        for (v, &vector) in vectors.iter().enumerate() {
            let value = result(b, p, acc[row * vectors.len() + v], (row, vector), (operands, &mut per_row));
            let disp = row as i64 * p.c_row_stride + vector.0 as i64 * p.c_col_stride;
            b.store_strided(p.c_mem, dst, disp, vector.1, p.c_col_stride, value);
        }
    }
}

/// Stores bytes; those of four rows lie side by side: a word for each pixel.
fn store_words(b: &mut TileBuilder, p: &Spmm, acc: &[Reg], vectors: &[(usize, usize)], (operands, dst): (&[Ptr], Ptr)) {
    let mut per_row = vec![vec![None; operands.len()]; 4];
    for (v, &vector) in vectors.iter().enumerate() {
        let mut word = None;
        for (row, known) in per_row.iter_mut().enumerate() {
            let value = result(b, p, acc[row * vectors.len() + v], (row, vector), (operands, known));
            let mask = b.i32(0xff);
            let byte = if row < 3 { b.binary(Binary::And, value, mask) } else { value };
            let byte = if row > 0 { b.shift(Shift::Left, byte, 8 * row as u8) } else { byte };
            word = Some(word.map_or(byte, |word| b.binary(Binary::Or, word, byte)));
        }
        let disp = vector.0 as i64 * p.c_col_stride;
        b.store_strided(MemType::I32, dst, disp, vector.1, p.c_col_stride, word.expect("there are four rows"));
    }
}

/// The epilogue of a row's sums for one vector of pixels; `known` are the operands of the row that all its pixels
/// share.
fn result(
    b: &mut TileBuilder,
    p: &Spmm,
    sum: Reg,
    (row, (first, n)): (usize, (usize, usize)),
    (operands, known): (&[Ptr], &mut [Option<Reg>]),
) -> Reg {
    p.epilogue.emit(b, &mut |b, i| {
        let Some(i) = i.checked_sub(1) else { return sum };
        let o = &p.operands[i];
        if let (0, Some(reg)) = (o.col_stride, known[i]) {
            return reg;
        }
        let disp = row as i64 * o.row_stride + first as i64 * o.col_stride;
        let reg = b.load_along(o.mem, operands[i], disp, n, o.col_stride);
        known[i] = Some(reg);
        reg
    })
}
