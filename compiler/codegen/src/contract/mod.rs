//! The contraction: everything dense is `C[m, n] = epilogue(sum over taps and k of A[row(m, tap), k] * B[tap, k, n])`.
//!
//! Rows of A are either a stride apart (a matrix product) or named by a table of byte offsets, one for each row and tap,
//! where a negative one is a row of zeros (a convolution of any kernel, stride, dilation and padding over NHWC, without
//! an im2col buffer). B is packed in panels of `nr` columns: `[panel][tap][k][nr]`, zeros behind the last column.
//!
//! ```text
//! task = (batch, block of rows, block of panels)
//! for panel in block { for tile of mr rows in block { accumulate all taps and k in registers; epilogue; store } }
//! ```
//!
//! A block of rows of A stays in L2 while the panels pass. There is no blocking of k: the accumulators never leave the
//! registers, and a panel that is too long for L1 streams from L2 at a fifth of its bandwidth.

mod conv;
mod pack;
mod tile;

pub use conv::{Conv, conv};
pub use pack::{PackB, pack_b, pack_b_kernel, packed_len};

use crate::expr::Expr;
use crate::nest::{Access, Base, Ix, Kernel, Rel, Stmt, TASK, Var, call, for_loop, for_step};
use crate::target::{Isa, Machine};

/// Where the rows of A are; all numbers are bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Rows {
    /// Row `m` begins `m * stride` bytes into the batch; there is one tap.
    Stride(i64),
    /// Row `m` of tap `t` begins `offsets[m * taps + t]` bytes into the batch; negative: all zeros.
    Table(Vec<i32>),
}

/// An operand of the epilogue; element `(batch, m, n)` is at `batch * batch_stride + m * row_stride + n * col_stride`.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// The length of its buffer.
    pub bytes: usize,
    /// Bytes from one batch to the next.
    pub batch_stride: i64,
    /// Bytes from one row to the next, 0 for a value per column.
    pub row_stride: i64,
    /// Bytes from one column to the next: 4 for consecutive ones, 0 for a value per row, or any other.
    pub col_stride: i64,
}

impl Operand {
    /// A value per column: a bias.
    pub fn per_column(n: usize) -> Operand {
        Operand { bytes: 4 * n, batch_stride: 0, row_stride: 0, col_stride: 4 }
    }
}

/// A contraction of `f32`. Strides and offsets are bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Contract {
    /// Independent products: a batch of matrices, or the groups of a convolution.
    pub batch: usize,
    /// Rows.
    pub m: usize,
    /// Columns.
    pub n: usize,
    /// Summed elements of each tap.
    pub k: usize,
    /// Taps.
    pub taps: usize,
    /// Length of the buffer of A.
    pub a_bytes: usize,
    /// From one batch of A to the next.
    pub a_batch_stride: i64,
    /// The rows of A.
    pub rows: Rows,
    /// From one batch of packed B to the next: 0, or [`packed_len`] times 4.
    pub b_batch_stride: i64,
    /// Length of the buffer of C.
    pub c_bytes: usize,
    /// Where C begins in it.
    pub c_offset: i64,
    /// From one batch of C to the next.
    pub c_batch_stride: i64,
    /// From one row of C to the next.
    pub c_row_stride: i64,
    /// From one column of C to the next; 4 is the fast one.
    pub c_col_stride: i64,
    /// Operands of the epilogue.
    pub operands: Vec<Operand>,
    /// What is stored: operand 0 is the sum, operand `i + 1` is `operands[i]`.
    pub epilogue: Expr,
}

impl Contract {
    /// The product of a batch of row-major matrices, `[m, k]` by packed `[k, n]`, without an epilogue.
    pub fn matmul(batch: usize, m: usize, n: usize, k: usize) -> Contract {
        Contract {
            batch,
            m,
            n,
            k,
            taps: 1,
            a_bytes: 4 * batch * m * k,
            a_batch_stride: 4 * (m * k) as i64,
            rows: Rows::Stride(4 * k as i64),
            b_batch_stride: 0,
            c_bytes: 4 * batch * m * n,
            c_offset: 0,
            c_batch_stride: 4 * (m * n) as i64,
            c_row_stride: 4 * n as i64,
            c_col_stride: 4,
            operands: Vec::new(),
            epilogue: Expr::Operand(0),
        }
    }
}

/// A kernel and the constant buffers that it needs.
#[derive(Clone, Debug)]
pub struct Built {
    /// The kernel. Buffers: A, packed B, the table of rows if there is one, the operands of the epilogue, C.
    pub kernel: Kernel,
    /// The contents of the table's buffer (number 2), if there is one.
    pub table: Option<Vec<u8>>,
}

/// How a contraction is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Rows of a tile.
    pub mr: usize,
    /// Columns of a tile and of a panel.
    pub nr: usize,
    /// Rows of a block, a multiple of `mr`.
    pub mc: usize,
    /// Panels of a block.
    pub panels: usize,
}

impl Schedule {
    /// Chooses for a target and a machine: a block of A in half of L2, and enough tasks for a few threads.
    pub fn choose(c: &Contract, isa: &Isa, machine: &Machine) -> Schedule {
        let (mr, vectors) = isa.contract_f32;
        let nr = vectors * isa.lanes();
        let all_panels = c.n.div_ceil(nr);
        // Taps of a table overlap: the rows that they name are about as many bytes as one tap of each.
        let row_bytes = 4 * c.k;
        let fit = (machine.l2 / 2 / row_bytes.max(1)).clamp(mr, 64 * mr);
        // At least 16 tasks balance a few threads. The smaller operand is the one to be read again by each: a large B
        // (late convolutions) is cut by panels, else A by rows, in whole tiles.
        let large_b = c.taps * c.k * c.n > c.m * c.k;
        let parts = if large_b { 1 } else { 16 / c.batch.clamp(1, 16) };
        let share = c.m.div_ceil(parts).max(4 * mr);
        let mc = fit.min(share).next_multiple_of(mr);
        let blocks = c.batch * c.m.div_ceil(mc);
        let panels = if blocks >= 16 { all_panels } else { all_panels.div_ceil(16usize.div_ceil(blocks.max(1))) };
        Schedule { mr, nr, mc, panels: panels.max(1) }
    }
}

/// The bytes of zeros before the offsets in a table's buffer.
fn zeros(c: &Contract) -> usize {
    (4 * c.k).next_multiple_of(64)
}

/// Builds the kernel of a contraction.
pub fn contract(c: &Contract, isa: &Isa, schedule: Schedule) -> Built {
    let Schedule { mr, nr, mc, panels } = schedule;
    let (m_blocks, all_panels) = (c.m.div_ceil(mc), c.n.div_ceil(nr));
    let n_blocks = all_panels.div_ceil(panels);
    let name = format!("contract_f32_{mr}x{nr}");
    let mut kernel = Kernel::new(name, (c.batch * m_blocks * n_blocks) as u64);
    let a = kernel.buf("a", c.a_bytes, Access::Read);
    let last_b = c.b_batch_stride as usize * (c.batch - 1);
    let b = kernel.buf("b", last_b + 4 * packed_len(c.taps, c.k, c.n, nr), Access::Read);
    let table = match &c.rows {
        Rows::Stride(_) => None,
        Rows::Table(offsets) => {
            let mut bytes = vec![0; zeros(c)];
            bytes.extend(offsets.iter().flat_map(|o| o.to_le_bytes()));
            Some(bytes)
        }
    };
    let rows = table.as_ref().map(|bytes| kernel.buf("rows", bytes.len(), Access::Read));
    let operands =
        c.operands.iter().enumerate().map(|(i, o)| kernel.buf(format!("x{i}"), o.bytes, Access::Read)).collect();
    let dst = kernel.buf("c", c.c_bytes, Access::Write);
    let [batch, m0, p0, panel, row] = [(); 5].map(|()| kernel.var());
    let nest = Nest { c, isa, schedule, a, b, rows, operands, dst, batch, panel };
    let task = Ix::var(TASK);
    let full_n = (c.n / nr) as i64;
    let body = if full_n > 0 { nest.over_rows(&mut kernel, nr, m0, row) } else { Vec::new() };
    let mut stmts = vec![
        let_(batch, task.clone() / (m_blocks * n_blocks) as i64),
        let_(m0, task.clone() % m_blocks as i64 * mc as i64),
        let_(p0, task / m_blocks as i64 % n_blocks as i64 * panels as i64),
        for_loop(panel, p0, (Ix::var(p0) + panels).min(full_n), body),
    ];
    if !c.n.is_multiple_of(nr) {
        let [panel, row] = [(); 2].map(|()| kernel.var());
        let mut tail = vec![let_(panel, full_n.into())];
        tail.extend(Nest { panel, ..nest }.over_rows(&mut kernel, c.n % nr, m0, row));
        stmts.push(if_at_least(Ix::var(p0) + panels, all_panels.into(), tail));
    }
    kernel.body = stmts;
    Built { kernel, table }
}

fn let_(var: Var, value: Ix) -> Stmt {
    Stmt::Let { var, value }
}

/// `if a >= b { then }`.
fn if_at_least(a: Ix, b: Ix, then: Vec<Stmt>) -> Stmt {
    Stmt::If { a, rel: Rel::Ge, b, then, otherwise: Vec::new() }
}

/// What a call of a tile needs to know.
struct Nest<'a> {
    c: &'a Contract,
    isa: &'a Isa,
    schedule: Schedule,
    a: Base,
    b: Base,
    rows: Option<Base>,
    operands: Vec<Base>,
    dst: Base,
    batch: Var,
    panel: Var,
}

impl Nest<'_> {
    /// The current panel over the rows of the block that begins at `m0`; `row` is the variable of the loop.
    fn over_rows(&self, kernel: &mut Kernel, cols: usize, m0: Var, row: Var) -> Vec<Stmt> {
        let Schedule { mr, mc, .. } = self.schedule;
        let (m, tail) = (self.c.m, self.c.m % mr);
        let end = (Ix::var(m0) + mc).min(m - tail);
        let mut body = Vec::new();
        if m >= mr {
            body.push(for_step(row, m0, end, mr as i64, vec![self.place(kernel, mr, cols, Ix::var(row))]));
        }
        if tail > 0 {
            let rest = self.place(kernel, tail, cols, (m - tail).into());
            body.push(if_at_least(Ix::var(m0) + mc, m.into(), vec![rest]));
        }
        body
    }

    /// The call of the tile for `rows` by `cols` at row `row` of the current panel.
    fn place(&self, kernel: &mut Kernel, rows: usize, cols: usize, row: Ix) -> Stmt {
        let (c, nr) = (self.c, self.schedule.nr as i64);
        let tile = kernel.tile(tile::build(c, self.isa, nr as usize, rows, cols));
        let batch = || Ix::var(self.batch);
        let panel_bytes = 4 * nr * (c.taps * c.k) as i64;
        let a_row = match c.rows {
            Rows::Stride(stride) => row.clone() * stride,
            Rows::Table(_) => Ix::Const(0),
        };
        let mut ptrs = vec![
            self.a.at(batch() * c.a_batch_stride + a_row),
            self.b.at(batch() * c.b_batch_stride + Ix::var(self.panel) * panel_bytes),
        ];
        if let Some(table) = self.rows {
            ptrs.push(table.at(0));
            ptrs.push(table.at(row.clone() * (4 * c.taps as i64) + zeros(c)));
        }
        let element = |batch_stride: i64, row_stride: i64, col_stride: i64| {
            batch() * batch_stride + row.clone() * row_stride + Ix::var(self.panel) * (nr * col_stride)
        };
        for (base, o) in self.operands.iter().zip(&c.operands) {
            ptrs.push(base.at(element(o.batch_stride, o.row_stride, o.col_stride)));
        }
        ptrs.push(self.dst.at(element(c.c_batch_stride, c.c_row_stride, c.c_col_stride) + c.c_offset));
        call(tile, ptrs)
    }
}
