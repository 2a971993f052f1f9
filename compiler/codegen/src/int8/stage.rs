//! The staged copy of source rows: 16-bit integers without their zero point, between zeros for the padding.

use super::Product;
use crate::tile::{Binary, Count, Mem, Ptr, Tile, TileBuilder};

/// Elements of a staged row for `columns` columns of results: padding, source, padding.
fn parts(p: &Product, columns: usize) -> [usize; 3] {
    let w = p.axes[1];
    let all = p.staged_columns(columns);
    let before = w.pads[0].min(all);
    let within = w.size.min(all - before);
    [before, within, all - before - within].map(|n| n * p.channels)
}

/// Copies one row. Pointers: the first source pixel, the staged row.
pub(super) fn copy(p: &Product, columns: usize, lanes: usize) -> Tile {
    let [before, within, after] = parts(p, columns);
    let mut b = TileBuilder::new(format!("stage_i8_{columns}"), lanes);
    let (src, dst) = (b.ptr(), b.ptr());
    // Stores may reach one element too far: what is there is written after them.
    fill(&mut b, dst, 0, before);
    let inner = b.offset(dst, 2 * before as i64);
    if p.src.strides[3] == p.channels as i64 || p.channels == 0 {
        run(&mut b, p, src, inner, within);
    } else {
        let pixels = (within / p.channels) as u32;
        let steps = [(src, p.src.strides[3]), (inner, 2 * p.channels as i64)];
        b.for_each(Count::Static(pixels), &steps, &[], |b, at, _| {
            run(b, p, at[0], at[1], p.channels);
            vec![]
        });
    }
    fill(&mut b, dst, before + within, after);
    b.finish()
}

/// A row of zeros.
pub(super) fn zeros(p: &Product, columns: usize, lanes: usize) -> Tile {
    let mut b = TileBuilder::new("stage_i8_zeros", lanes);
    let dst = b.ptr();
    fill(&mut b, dst, 0, parts(p, columns).iter().sum());
    b.finish()
}

/// Vectors in one turn of a copy.
const UNROLL: usize = 4;

/// `n` elements that are side by side.
fn run(b: &mut TileBuilder, p: &Product, src: Ptr, dst: Ptr, n: usize) {
    let lanes = b.lanes();
    let (pairs, one) = if p.src.mem == Mem::I8 { (Mem::I8Pair, Mem::I8) } else { (Mem::U8Pair, Mem::U8) };
    let zero = b.i32((p.src_zero & 0xffff) | p.src_zero << 16);
    let part = |b: &mut TileBuilder, src: Ptr, dst: Ptr, at: usize, n: usize| {
        let mut x = b.load_n(pairs, src, 2 * at as i64, n);
        if p.src_zero != 0 {
            x = b.binary(Binary::SubPairs, x, zero);
        }
        b.store_n(Mem::I32, dst, 4 * at as i64, n, x);
    };
    let turn = UNROLL * lanes;
    let steps = [(src, 2 * turn as i64), (dst, 4 * turn as i64)];
    let turns = n / 2 / turn;
    let (at, _) = b.for_each_ptrs(Count::Static(turns as u32), &steps, &[], |b, at, _| {
        (0..UNROLL).for_each(|v| part(b, at[0], at[1], v * lanes, lanes));
        vec![]
    });
    let rest = n / 2 % turn;
    for v in (0..rest).step_by(lanes) {
        part(b, at[0], at[1], v, lanes.min(rest - v));
    }
    if !n.is_multiple_of(2) {
        let x = b.load_n(one, at[0], 2 * rest as i64, 1);
        let zero = b.i32(p.src_zero);
        let mask = b.i32(0xffff);
        let x = b.binary(Binary::Sub, x, zero);
        let x = b.binary(Binary::And, x, mask);
        b.store_n(Mem::I32, at[1], 4 * rest as i64, 1, x);
    }
}

/// `n` zeros from element `from` on, and one more where `n` is odd.
fn fill(b: &mut TileBuilder, dst: Ptr, from: usize, n: usize) {
    let lanes = b.lanes();
    let zero = b.i32(0);
    let at = b.offset(dst, 2 * from as i64);
    let pairs = n.div_ceil(2);
    let (turns, rest) = (pairs / lanes, pairs % lanes);
    let (end, _) = b.for_each_ptrs(Count::Static(turns as u32), &[(at, 4 * lanes as i64)], &[], |b, q, _| {
        b.store(Mem::I32, q[0], 0, zero);
        vec![]
    });
    if rest > 0 {
        b.store_n(Mem::I32, end[0], 0, rest, zero);
    }
}
