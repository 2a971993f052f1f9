//! The micro-kernel: one row of blocks over a few vectors of pixels.

use super::Spmm;
use super::bcsr::{Bcsr, UNROLL};
use crate::tile::{Mem, Ptr, Reg, Tile, TileBuilder};

/// Independent sums that hide the latency of the FMA units (4 cycles, 2 a cycle).
const CHAINS: usize = 8;

/// What a tile covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Rows of a block.
    pub block: usize,
    /// Rows of the result: fewer than a block has in the last one.
    pub rows: usize,
    /// Pixels.
    pub cols: usize,
}

/// Builds the tile. Pointers: the blocks of the row, the first pixel of the activations, the operands of the epilogue, the
/// result. Counts: turns of [`UNROLL`] blocks, then single ones.
pub(super) fn build(p: &Spmm, lanes: usize, shape: Shape) -> Tile {
    let Shape { block, rows, cols } = shape;
    let mut b = TileBuilder::new(format!("spmm_f32_{rows}x{cols}"), lanes);
    let (stream, x) = (b.ptr(), b.ptr());
    let operands: Vec<Ptr> = p.operands.iter().map(|_| b.ptr()).collect();
    let dst = b.ptr();
    let (turns, rest) = (b.count(), b.count());
    let vectors = vectors(lanes, cols);
    let sums = rows * vectors.len();
    let chains = CHAINS.div_ceil(sums).min(UNROLL);
    let zero = b.f32(0.0);
    let step = Step { rows, vectors: &vectors, x };
    let bytes = Bcsr::block_bytes(block) as i64;
    let (at, acc) =
        b.for_each_ptrs(turns, &[(stream, UNROLL as i64 * bytes)], &vec![zero; sums * chains], |b, p, acc| {
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

/// The pixels of each vector: the first, and how many. A last vector that is not full begins earlier instead, over pixels
/// of the one before, where there are enough.
fn vectors(lanes: usize, cols: usize) -> Vec<(usize, usize)> {
    let last = |first: usize| if cols >= lanes { first.min(cols - lanes) } else { first };
    (0..cols).step_by(lanes).map(|first| (last(first), lanes.min(cols))).collect()
}

struct Step<'a> {
    rows: usize,
    vectors: &'a [(usize, usize)],
    x: Ptr,
}

impl Step<'_> {
    /// Adds the block at `stream + disp`.
    fn add(&self, b: &mut TileBuilder, stream: Ptr, disp: i64, acc: &mut [Reg]) {
        let x = b.index_ptr(stream, disp, self.x);
        let pixels: Vec<Reg> =
            self.vectors.iter().map(|&(first, n)| b.load_n(Mem::F32, x, 4 * first as i64, n)).collect();
        for row in 0..self.rows {
            let weight = b.broadcast(Mem::F32, stream, disp + 4 + 4 * row as i64);
            for (v, &pixel) in pixels.iter().enumerate() {
                let sum = &mut acc[row * pixels.len() + v];
                // The first factor's register is overwritten: best one that is not needed again.
                let pixel_dies = row + 1 == self.rows;
                *sum = if pixel_dies { b.fma(pixel, weight, *sum) } else { b.fma(weight, pixel, *sum) };
            }
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
    for row in 0..acc.len() / vectors.len() {
        let mut per_row = vec![None; operands.len()];
        for (v, &(first, n)) in vectors.iter().enumerate() {
            let value = p.epilogue.emit(b, &mut |b, i| {
                let Some(i) = i.checked_sub(1) else { return acc[row * vectors.len() + v] };
                let o = &p.operands[i];
                if let (0, Some(reg)) = (o.col_stride, per_row[i]) {
                    return reg;
                }
                let disp = row as i64 * o.row_stride + first as i64 * o.col_stride;
                let reg = b.load_along(Mem::F32, operands[i], disp, n, o.col_stride);
                per_row[i] = Some(reg);
                reg
            });
            let disp = row as i64 * p.c_row_stride + first as i64 * p.c_col_stride;
            b.store_strided(Mem::F32, dst, disp, n, p.c_col_stride, value);
        }
    }
}
