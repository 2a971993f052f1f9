//! The padded copy of source rows in the scratch, for windows over few channels whose taps would otherwise be too
//! short.

use optc_kernel::nest::{Base, Ix, Kernel, Rel, Stmt, Var, call, for_loop};
use optc_kernel::tile::{Count, MemType, Ptr, Tile, TileBuilder};

use super::rows::Pixels;

/// Copies `rows` source rows from row `first` on into the scratch at `to`, zeros where there is none; `image` is where
/// the image begins in `src`.
pub(super) fn stage(
    kernel: &mut Kernel,
    p: &Pixels,
    rows: usize,
    lanes: usize,
    (src, image): (Base, Ix),
    first: Var,
    to: usize,
) -> Stmt {
    let (copy, zero) = (kernel.tile(copy(p, lanes)), kernel.tile(zero(p, lanes)));
    let row = kernel.var();
    let y = Ix::var(first) + Ix::var(row);
    let dst = Base::Scratch.at(Ix::var(row) * p.staged_row() as i64 + to);
    let copied = vec![call(copy, [src.at(image + y.clone() * p.a[2]), dst.clone()])];
    let empty = || vec![call(zero, [dst.clone()])];
    let below = Stmt::If { a: y.clone(), rel: Rel::Lt, b: p.axes[1].size.into(), then: copied, otherwise: empty() };
    let body = Stmt::If { a: y, rel: Rel::Ge, b: 0.into(), then: vec![below], otherwise: empty() };
    for_loop(row, 0, rows, vec![body])
}

/// One row between its padding.
fn copy(p: &Pixels, lanes: usize) -> Tile {
    let columns = p.axes[2];
    let pixel = p.a[3] as usize;
    let (before, all) = (columns.pads[0] * pixel, p.staged_row());
    let within = (columns.size * pixel).min(all.saturating_sub(before));
    let mut b = TileBuilder::new("stage_row", lanes);
    let (src, dst) = (b.ptr(), b.ptr());
    let before = before.min(all);
    fill(&mut b, dst, 0..before, lanes);
    let (turns, bytes) = (within / 4 / lanes, 4 * lanes);
    let inner = b.offset(dst, before as i64);
    b.for_each(Count::Static(turns as u32), &[(src, bytes as i64), (inner, bytes as i64)], &[], |b, q, _| {
        let x = b.load(MemType::F32, q[0], 0);
        b.store(MemType::F32, q[1], 0, x);
        vec![]
    });
    let tail = within / 4 % lanes;
    if tail > 0 {
        let x = b.load_n(MemType::F32, src, (turns * bytes) as i64, tail);
        b.store_n(MemType::F32, inner, (turns * bytes) as i64, tail, x);
    }
    fill(&mut b, dst, before + within..all, lanes);
    b.finish()
}

/// A row of zeros.
fn zero(p: &Pixels, lanes: usize) -> Tile {
    let mut b = TileBuilder::new("stage_zeros", lanes);
    let dst = b.ptr();
    fill(&mut b, dst, 0..p.staged_row(), lanes);
    b.finish()
}

/// Zeros in a range of bytes.
fn fill(b: &mut TileBuilder, dst: Ptr, bytes: std::ops::Range<usize>, lanes: usize) {
    let zero = b.f32(0.0);
    let (step, floats) = (4 * lanes, bytes.len() / 4);
    let at = b.offset(dst, bytes.start as i64);
    let turns = floats / lanes;
    b.for_each(Count::Static(turns as u32), &[(at, step as i64)], &[], |b, q, _| {
        b.store(MemType::F32, q[0], 0, zero);
        vec![]
    });
    if floats % lanes > 0 {
        b.store_n(MemType::F32, at, (turns * step) as i64, floats % lanes, zero);
    }
}
