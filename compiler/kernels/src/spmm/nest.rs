//! The nest: tiles of pixels over rows of blocks.

use optc_kernel::nest::{Access, Addr, Base, IndexMem, Ix, Kernel, Rel, Stmt, TASK, Var, call_counts, for_loop, let_};
use optc_kernel::target::Isa;

use super::form::ENTRY;
use super::tile::{SparseTileShape, build};
use super::weights::{Extents, Weights};
use super::{MatrixPlace, Spmm};

/// Sums of a tile: with the pixels, a weight and a copy of it they fit sixteen registers.
const SUMS: usize = 8;
/// Tasks that balance a few threads.
const TASKS: usize = 16;

/// Vectors of pixels in a tile, for blocks of this many rows.
pub fn vectors_of(rows: usize) -> usize {
    (SUMS / rows).max(1)
}

/// Why there is no kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpmmError {
    /// A row of the activations is out of reach.
    #[error("the activations are more than 2^31 - 1 bytes apart")]
    Reach,
}

/// A kernel and the constant buffer that it needs.
#[derive(Clone, Debug)]
pub struct BuiltSparse {
    /// The kernel. Buffers: the stream, the activations, the operands of the epilogue, the result.
    pub kernel: Kernel,
    /// The contents of the stream's buffer.
    pub stream: Vec<u8>,
}

/// Builds the kernel of a product.
///
/// # Errors
///
/// Activations so large that the offset of a row does not fit the stream.
pub fn spmm(p: &Spmm, weights: &Weights, isa: &Isa) -> Result<BuiltSparse, SpmmError> {
    let stream = weights.stream(p).ok_or(SpmmError::Reach)?;
    let weights = weights.extents();
    let lanes = isa.lanes();
    let width = vectors_of(weights.block) * lanes;
    let (tiles, tail) = (p.n / width, p.n % width);
    let pixel_tasks = p.n.div_ceil(width).min(TASKS.div_ceil(p.batch)).max(1);
    let tiles_of_task = p.n.div_ceil(width).div_ceil(pixel_tasks);
    let pixel_tasks = p.n.div_ceil(width).div_ceil(tiles_of_task.max(1));
    let whole_rows = weights.rows / weights.block;
    let row_tasks = TASKS.div_ceil((p.batch * pixel_tasks).max(1)).min(weights.block_rows().div_ceil(8)).max(1);
    let rows_of_task = weights.block_rows().div_ceil(row_tasks);
    let row_tasks = weights.block_rows().div_ceil(rows_of_task.max(1));
    let mut kernel = Kernel::new(
        format!("{}_{}x{}", p.name(), weights.block, weights.width),
        (p.batch * pixel_tasks * row_tasks) as u64,
    );
    let stream_buf = kernel.buf("w", stream.len(), Access::Read);
    let x = kernel.buf("x", p.x.bytes, Access::Read);
    let operands =
        p.operands.iter().enumerate().map(|(i, o)| kernel.buf(format!("x{i}"), o.bytes, Access::Read)).collect();
    let whole = p.c_mem.bytes() as usize * p.batch * weights.rows * p.n == p.c.bytes;
    let dst = kernel.buf("c", p.c.bytes, if whole { Access::Write } else { Access::ReadWrite });
    let [image, t0, r0, tile] = [(); 4].map(|()| kernel.var());
    let nest = Nest {
        p,
        weights: &weights,
        lanes,
        width,
        stream: stream_buf,
        x,
        operands,
        dst,
        image,
        r0,
        rows_of_task,
        whole_rows,
    };
    let task = Ix::var(TASK);
    let mut body = vec![
        let_(image, task.clone() / (pixel_tasks * row_tasks) as i64),
        let_(t0, task.clone() / row_tasks as i64 % pixel_tasks as i64 * tiles_of_task as i64),
        let_(r0, task % row_tasks as i64 * rows_of_task as i64),
    ];
    if tiles > 0 {
        let inner = nest.rows(&mut kernel, width, Ix::var(tile) * width as i64);
        body.push(for_loop(tile, t0, (Ix::var(t0) + tiles_of_task).min(tiles), inner));
    }
    if tail > 0 {
        let last = nest.rows(&mut kernel, tail, (tiles * width).into());
        let a = Ix::var(t0) + tiles_of_task;
        body.push(Stmt::If { a, rel: Rel::Ge, b: (tiles + 1).into(), then: last, otherwise: vec![] });
    }
    kernel.body = body;
    Ok(BuiltSparse { kernel, stream })
}

/// What a call of a tile needs to know.
struct Nest<'a> {
    p: &'a Spmm,
    weights: &'a Extents,
    lanes: usize,
    /// Pixels of a full tile.
    width: usize,
    stream: Base,
    x: Base,
    operands: Vec<Base>,
    dst: Base,
    image: Var,
    /// The first row of blocks of the task.
    r0: Var,
    rows_of_task: usize,
    /// Rows of blocks that have all their rows.
    whole_rows: usize,
}

impl Nest<'_> {
    /// All rows of blocks of the task for `cols` pixels from `first` on.
    fn rows(&self, kernel: &mut Kernel, cols: usize, first: Ix) -> Vec<Stmt> {
        let mut stmts = Vec::new();
        let end = || Ix::var(self.r0) + self.rows_of_task;
        if self.whole_rows > 0 {
            let row = kernel.var();
            let body = self.call(kernel, self.weights.block, cols, row.into(), &first);
            stmts.push(for_loop(row, self.r0, end().min(self.whole_rows), body));
        }
        let last = self.weights.rows % self.weights.block;
        if last > 0 {
            let then = self.call(kernel, last, cols, self.whole_rows.into(), &first);
            let b = self.weights.block_rows().into();
            stmts.push(Stmt::If { a: end(), rel: Rel::Ge, b, then, otherwise: vec![] });
        }
        stmts
    }

    /// The call of a tile.
    fn call(&self, kernel: &mut Kernel, rows: usize, cols: usize, row: Ix, first: &Ix) -> Vec<Stmt> {
        let shape = SparseTileShape { block: self.weights.block, rows, cols, full: self.width };
        let tile = kernel.tile(build(self.p, self.lanes, shape));
        let fields = [(); 3].map(|()| kernel.var());
        let [at, turns, rest] = fields;
        let mut stmts: Vec<Stmt> = (fields.into_iter().enumerate())
            .map(|(i, var)| {
                let at = self.stream.at(row.clone() * ENTRY as i64 + 8 * i);
                Stmt::LoadIndex { var, mem: IndexMem::I64, at }
            })
            .collect();
        stmts.push(call_counts(tile, self.ptrs(at, &row, first), [turns.into(), rest.into()]));
        stmts
    }

    /// The pointers of a call.
    fn ptrs(&self, blocks: Var, row: &Ix, first: &Ix) -> Vec<Addr> {
        let image = || Ix::var(self.image);
        let place = |p: &MatrixPlace| image() * p.batch_stride + p.offset;
        let element = |row_stride: i64, col_stride: i64| {
            row.clone() * (self.weights.block as i64 * row_stride) + first.clone() * col_stride
        };
        let mut ptrs =
            vec![self.stream.at(blocks), self.x.at(place(&self.p.x) + first.clone() * self.p.form.pixel() as i64)];
        for (base, o) in self.operands.iter().zip(&self.p.operands) {
            ptrs.push(base.at(image() * o.batch_stride + element(o.row_stride, o.col_stride) + o.offset));
        }
        let (p, c) = (self.p, &self.p.c);
        ptrs.push(self.dst.at(place(c) + element(p.c_row_stride, p.c_col_stride)));
        ptrs
    }
}
