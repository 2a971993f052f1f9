//! Gathering kernels: rows of a tensor are picked by indices that are only known at run time.
//!
//! ```text
//! for row in task { index = load; index += extent if negative; clamp; copy inner bytes }
//! ```
//!
//! Indices are clamped, so that no index reads outside of the tensor; whether they are in range is for the caller to
//! check.

use optc_kernel::nest::{Access, IndexMem, Ix, Kernel, Stmt, TASK, call, for_loop};
use optc_kernel::space::AxisSplit;
use optc_kernel::target::Isa;
use optc_kernel::tile::{Count, MemType, Tile, TileBuilder};

/// Rows to be gathered: `dst[o, i] = src[o, indices[i]]`, all dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatherNest {
    /// How many tensors are picked from in the same way.
    pub outer: usize,
    /// Rows of each; at least one.
    pub extent: usize,
    /// How many indices.
    pub count: usize,
    /// Bytes of a row.
    pub row: usize,
    /// What an index is.
    pub index: IndexMem,
}

/// A task moves at least this many bytes.
const LEAST: usize = 32 << 10;

/// Builds the kernel. Buffers: the tensor, the indices, the result.
pub fn gather(g: &GatherNest, isa: &Isa) -> Kernel {
    let rows = g.outer * g.count;
    let split = AxisSplit::new(&[rows], &[1], LEAST.div_ceil(g.row.max(1)));
    let mut kernel = Kernel::new("gather", if rows * g.row == 0 { 0 } else { split.tasks() });
    let width = if g.index == IndexMem::I32 { 4 } else { 8 };
    let src = kernel.buf("src", g.outer * g.extent * g.row, Access::Read);
    let indices = kernel.buf("indices", g.count * width, Access::Read);
    let dst = kernel.buf("dst", rows * g.row, Access::Write);
    if kernel.tasks == 0 {
        return kernel;
    }
    let tile = kernel.tile(copy(g.row, isa.lanes()));
    let (mut body, ranges) = split.ranges(&mut kernel, &Ix::var(TASK));
    let [row, index, at] = [(); 3].map(|()| kernel.var());
    let extent = g.extent as i64;
    // 1 for an index that is not negative, else 0.
    let counts_from_start = (Ix::var(index) + 1).max(0).min(1);
    let wrapped = Ix::var(index) + extent - counts_from_start * extent;
    let from = (Ix::var(row) / g.count as i64) * extent + Ix::var(at);
    let each = vec![
        Stmt::LoadIndex { var: index, mem: g.index, at: indices.at(Ix::var(row) % g.count as i64 * width as i64) },
        Stmt::Let { var: at, value: wrapped.max(0).min(extent - 1) },
        call(tile, [src.at(from * g.row as i64), dst.at(Ix::var(row) * g.row as i64)]),
    ];
    body.push(for_loop(row, ranges[0].lo.clone(), ranges[0].hi.clone(), each));
    kernel.body = body;
    kernel
}

/// Copies this many bytes.
fn copy(bytes: usize, lanes: usize) -> Tile {
    let mut b = TileBuilder::new(format!("copy_{bytes}"), lanes);
    let (src, dst) = (b.ptr(), b.ptr());
    let words = bytes / 4;
    let turns = words / lanes;
    if turns > 0 {
        let step = 4 * lanes as i64;
        b.for_each(Count::Static(turns as u32), &[(src, step), (dst, step)], &[], |b, at, _| {
            let value = b.load(MemType::I32, at[0], 0);
            b.store(MemType::I32, at[1], 0, value);
            vec![]
        });
    }
    let (rest, done) = (words % lanes, 4 * (turns * lanes) as i64);
    if rest > 0 {
        let value = b.load_n(MemType::I32, src, done, rest);
        b.store_n(MemType::I32, dst, done, rest, value);
    }
    for at in 4 * words..bytes {
        let value = b.load_n(MemType::U8, src, at as i64, 1);
        b.store_n(MemType::U8, dst, at as i64, 1, value);
    }
    b.finish()
}
