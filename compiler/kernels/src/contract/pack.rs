//! Packs B into strips of the columns of a vector: `[strip][tap][k][lanes]`, at compile time for weights and by a
//! kernel for computed operands. A panel, what a tile reads, is some strips one after the other: tiles of any number of
//! columns read the same packed B.

use optc_kernel::nest::{Access, Ix, Kernel, Rel, Stmt, TASK, call};
use optc_kernel::tile::{Count, MemType, Tile, TileBuilder};

/// Elements of one packed B, for vectors of `lanes` elements.
pub fn packed_len(taps: usize, k: usize, n: usize, lanes: usize) -> usize {
    n.div_ceil(lanes) * taps * k * lanes
}

/// B as it is in memory, in elements: `(tap, k, n)` is at `tap * tap_stride + k * k_stride + n * n_stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackB {
    /// Taps.
    pub taps: usize,
    /// Summed elements of each tap.
    pub k: usize,
    /// Columns.
    pub n: usize,
    /// From one tap to the next.
    pub tap_stride: usize,
    /// From one k to the next.
    pub k_stride: usize,
    /// From one column to the next.
    pub n_stride: usize,
}

/// Elements of a column that are moved in one go: those of a cache line.
const LINE: usize = 16;

/// Elements that are worth a thread of their own.
const SHARE: usize = 1 << 17;

/// Strips that are packed together: each row of `src` that they read is a few lines one after the other.
const TOGETHER: usize = 16;

/// Packs constant weights into `packed`, which holds [`packed_len`] zeros, on up to `threads` threads. `src` must hold
/// every element that `p` names.
pub fn pack_b<T: Copy + Send + Sync>(src: &[T], p: &PackB, lanes: usize, threads: usize, packed: &mut [T]) {
    let size = (p.taps * p.k * lanes).max(1);
    let column = column_order(p);
    let strips = |first: usize, packed: &mut [T]| {
        for (i, dst) in packed.chunks_mut(TOGETHER * size).enumerate() {
            let n0 = (first + i * TOGETHER) * lanes;
            let (src, cols) = (&src[n0 * p.n_stride..], (dst.len() / size * lanes).min(p.n - n0));
            match &column {
                Some(rows) => pack_columns(src, (cols, p.n_stride), rows, lanes, dst),
                None => pack_rows(src, p, cols, lanes, dst),
            }
        }
    };
    let shares = threads.min(packed.len() / SHARE).max(1);
    let share = (packed.len() / size).div_ceil(shares).max(1);
    let strips = &strips;
    std::thread::scope(|scope| {
        let mut shares = packed.chunks_mut(share * size).enumerate();
        let own = shares.next();
        for (i, packed) in shares {
            scope.spawn(move || strips(i * share, packed));
        }
        own.into_iter().for_each(|(_, packed)| strips(0, packed));
    });
}

/// Where the elements of a column belong (the row of the panel for each), if they lie one after the other in memory.
fn column_order(p: &PackB) -> Option<Vec<usize>> {
    let len = p.taps * p.k;
    if p.n_stride < len || len == 0 {
        return None;
    }
    let mut rows = vec![usize::MAX; len];
    for row in 0..len {
        *rows.get_mut(row / p.k * p.tap_stride + row % p.k * p.k_stride)? = row;
    }
    rows.iter().all(|&row| row != usize::MAX).then_some(rows)
}

/// Columns that are one after the other: a line of each of a strip in turn, so that every line of `src` is read once.
fn pack_columns<T: Copy>(src: &[T], (cols, n_stride): (usize, usize), rows: &[usize], lanes: usize, dst: &mut [T]) {
    for (strip, dst) in dst.chunks_exact_mut((rows.len() * lanes).max(1)).enumerate() {
        let columns = strip * lanes..cols.min((strip + 1) * lanes);
        for (chunk, rows) in rows.chunks(LINE).enumerate() {
            for n in columns.clone() {
                let from = n * n_stride + chunk * LINE;
                for (&row, &value) in rows.iter().zip(&src[from..from + rows.len()]) {
                    dst[row * lanes + n - columns.start] = value;
                }
            }
        }
    }
}

/// Rows of `cols` elements with any strides.
fn pack_rows<T: Copy>(src: &[T], p: &PackB, cols: usize, lanes: usize, dst: &mut [T]) {
    let strip = p.taps * p.k * lanes;
    for row in 0..p.taps * p.k {
        let from = row / p.k * p.tap_stride + row % p.k * p.k_stride;
        for n in (0..cols).step_by(lanes) {
            let dst = &mut dst[n / lanes * strip + row * lanes..][..lanes.min(cols - n)];
            let from = from + n * p.n_stride;
            match p.n_stride {
                1 => dst.copy_from_slice(&src[from..from + dst.len()]),
                stride => dst.iter_mut().enumerate().for_each(|(n, d)| *d = src[from + n * stride]),
            }
        }
    }
}

/// A kernel that packs a batch of computed matrices (one tap): buffers `src` of `src_len` elements and `dst`, a task
/// for each `nr` columns (some strips) of each batch; the batches of `src` are `batch_stride` elements apart.
pub fn pack_b_kernel(batch: usize, src_len: usize, batch_stride: usize, p: &PackB, nr: usize, lanes: usize) -> Kernel {
    let panels = p.n.div_ceil(nr);
    let mut kernel = Kernel::new("pack_b_f32", (batch * panels) as u64);
    let src = kernel.buf("src", 4 * src_len, Access::Read);
    let dst = kernel.buf("dst", 4 * batch * packed_len(1, p.k, p.n, lanes), Access::Write);
    let [of, panel] = [(); 2].map(|()| kernel.var());
    let from = Ix::var(of) * (4 * batch_stride as i64) + Ix::var(panel) * ((4 * nr * p.n_stride) as i64);
    let of_batch = 4 * packed_len(1, p.k, p.n, lanes) as i64;
    let to = Ix::var(of) * of_batch + Ix::var(panel) * ((4 * p.k * nr) as i64);
    let mut place = |cols: usize| {
        let tile = kernel.tile(tile(p, cols, lanes));
        vec![call(tile, [src.at(from.clone()), dst.at(to.clone())])]
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

/// Copies `cols` columns of all k, zeros after the last one.
fn tile(p: &PackB, cols: usize, lanes: usize) -> Tile {
    let mut b = TileBuilder::new(format!("pack_b_{cols}"), lanes);
    let (src, dst) = (b.ptr(), b.ptr());
    let steps = [(src, 4 * p.k_stride as i64), (dst, 4 * lanes as i64)];
    b.for_each(Count::Static(p.k as u32), &steps, &[], |b, at, _| {
        for col in (0..cols).step_by(lanes) {
            let value = match lanes.min(cols - col) {
                n if p.n_stride == 1 => b.load_n(MemType::F32, at[0], 4 * col as i64, n),
                n => b.load_strided(MemType::F32, at[0], (4 * col * p.n_stride) as i64, n, 4 * p.n_stride as i64),
            };
            b.store(MemType::F32, at[1], (4 * col * p.k) as i64, value);
        }
        vec![]
    });
    b.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_of_memory_packs_alike_on_any_threads() {
        let (taps, k, n, lanes) = (9, 70, 1203, 8);
        let value = |tap: usize, k: usize, n: usize| ((n * 100 + k) * 10 + tap) as f32;
        let strides = [(1, taps, taps * k), (k, 1, taps * k), (k * n, n, 1), (n, taps * n, 1)];
        for (tap_stride, k_stride, n_stride) in strides {
            let p = PackB { taps, k, n, tap_stride, k_stride, n_stride };
            let mut src = vec![0.0; taps * k * n];
            for i in 0..src.len() {
                let (t, row, col) = (i / (k * n), i / n % k, i % n);
                src[t * tap_stride + row * k_stride + col * n_stride] = value(t, row, col);
            }
            for threads in [1, 3, 7] {
                let mut packed = vec![0.0; packed_len(taps, k, n, lanes)];
                pack_b(&src, &p, lanes, threads, &mut packed);
                for (i, &found) in packed.iter().enumerate() {
                    let (strip, t, row) = (i / (lanes * k * taps), i / (lanes * k) % taps, i / lanes % k);
                    let col = strip * lanes + i % lanes;
                    assert_eq!(found, if col < n { value(t, row, col) } else { 0.0 }, "{p:?} {threads}");
                }
            }
        }
    }
}
