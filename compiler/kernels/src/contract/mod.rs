//! The contraction: everything dense is `C[m, n] = epilogue(sum over taps and k of A[row(m, tap), k] * B[tap, k, n])`.
//!
//! Rows of A are either a stride apart (a matrix product) or named by a table of byte offsets, one for each row and tap
//! of a block, where a negative one is a row of zeros (a convolution of any kernel, stride, dilation and padding over
//! NHWC, without an im2col buffer). B is packed in strips of the columns of a vector: `[strip][tap][k][lanes]`, zeros
//! after the last column. A panel is the strips under a tile, whatever its number of columns: how a contraction is cut
//! does not change how its weights are packed, and those that several products share are packed once.
//!
//! ```text
//! task = (batch, block of rows, block of panels)
//! for panel in block { for tile of mr rows in block { accumulate all taps and k in registers; epilogue; store } }
//! ```
//!
//! A block of rows of A stays in L2 while the panels pass. There is no blocking of k: the accumulators never leave the
//! registers, and a panel that is too long for L1 streams from L2 at a fifth of its bandwidth. Strips may hold halves,
//! which are widened as they are loaded.

mod conv;
mod pack;
mod rows;
mod scaled;
mod schedule;
mod stage;
mod tile;

pub use conv::{ConvNest, conv};
use optc_kernel::expr::Expr;
use optc_kernel::nest::{
    Access, Addr, Base, IndexMem, Ix, Kernel, Rel, Stmt, TASK, Var, call, call_counts, for_loop, for_step, let_,
};
use optc_kernel::target::Isa;
use optc_kernel::tile::MemType;
pub use pack::{PackB, pack_b, pack_b_kernel, packed_len};
use rows::Cut;
pub use rows::{ContractRows, Pixels, Taps};
pub use scaled::{Scaled, ScaledIntegers};
pub use schedule::ContractSchedule;
pub(crate) use schedule::{TASKS, panels};
use tile::{Ahead, ContractTile};

/// The most rows of a product that dequantizes its weights as it loads them. More widen a panel before they read it:
/// that takes about four instructions for a vector, and each row one for each. (Zen 5: see the measurements.)
const DIRECT: usize = 8;

/// An operand of the epilogue; element `(batch, m, n)` is at `batch * batch_stride + m * row_stride + n * col_stride`.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// What an element is.
    pub mem: MemType,
    /// The length of its buffer.
    pub bytes: usize,
    /// Where it begins in the buffer.
    pub offset: i64,
    /// Bytes from one batch to the next.
    pub batch_stride: i64,
    /// Bytes from one row to the next, 0 for a value per column.
    pub row_stride: i64,
    /// Bytes from one column to the next: an element's for consecutive ones, 0 for a value per row, or any other.
    pub col_stride: i64,
}

impl Operand {
    /// A value per column: a bias.
    pub fn per_column(n: usize) -> Operand {
        Operand { mem: MemType::F32, bytes: 4 * n, offset: 0, batch_stride: 0, row_stride: 0, col_stride: 4 }
    }
}

/// A contraction of `f32`, where B may be stored as halves. Strides and offsets are bytes.
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
    /// Where A begins in it.
    pub a_offset: i64,
    /// From one batch of A to the next.
    pub a_batch_stride: i64,
    /// The rows of A.
    pub rows: ContractRows,
    /// Whether each batch has a B of its own, one packed after the other.
    pub own_b: bool,
    /// What an element of packed B is: one that is `f32` in registers.
    pub b_mem: MemType,
    /// How the integers are kept of which the elements are made instead: of a matrix product, whose rows are a stride
    /// apart.
    pub scaled: Option<Scaled>,
    /// What an element of C is.
    pub c_mem: MemType,
    /// Length of the buffer of C.
    pub c_bytes: usize,
    /// Where C begins in it.
    pub c_offset: i64,
    /// From one batch of C to the next.
    pub c_batch_stride: i64,
    /// From one row of C to the next.
    pub c_row_stride: i64,
    /// From one column of C to the next; that of an element is the fast one.
    pub c_col_stride: i64,
    /// Operands of the epilogue.
    pub operands: Vec<Operand>,
    /// What is stored: operand 0 is the sum, operand `i + 1` is `operands[i]`.
    pub epilogue: Expr,
}

impl Contract {
    /// The product of a batch of row-major matrices, `[m, k]` times packed `[k, n]`, without an epilogue.
    pub fn matmul(batch: usize, m: usize, n: usize, k: usize) -> Contract {
        Contract {
            batch,
            m,
            n,
            k,
            taps: 1,
            a_bytes: 4 * batch * m * k,
            a_offset: 0,
            a_batch_stride: 4 * (m * k) as i64,
            rows: ContractRows::Stride(4 * k as i64),
            own_b: false,
            b_mem: MemType::F32,
            scaled: None,
            c_mem: MemType::F32,
            c_bytes: 4 * batch * m * n,
            c_offset: 0,
            c_batch_stride: 4 * (m * n) as i64,
            c_row_stride: 4 * n as i64,
            c_col_stride: 4,
            operands: Vec::new(),
            epilogue: Expr::Operand(0),
        }
    }

    /// Bytes of packed B for so many columns, which are whole strips.
    pub fn panel_bytes(&self, columns: usize) -> usize {
        match self.scaled {
            Some(scaled) => scaled.bytes(self.k, columns),
            None => self.b_mem.bytes() as usize * self.taps * self.k * columns,
        }
    }

    /// Bytes of one packed B, for vectors of `lanes` columns.
    pub fn b_bytes(&self, lanes: usize) -> usize {
        self.n.div_ceil(lanes) * self.panel_bytes(lanes)
    }
}

/// A kernel and the constant buffers that it needs.
#[derive(Clone, Debug)]
pub struct BuiltContract {
    /// The kernel. Buffers: A, packed B, the table of rows if there is one, the operands of the epilogue, C.
    pub kernel: Kernel,
    /// The contents of the table's buffer (number 2), if there is one.
    pub table: Option<Vec<u8>>,
}

/// Why there is no kernel for a contraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    /// A tap is too far from its block's first row.
    #[error("a tap is {0} bytes from its block, at most 2^31 - 1 can be addressed")]
    Reach(i64),
}

/// The rows of a task and where they are: variables of the nest, in bytes but for the number of rows.
struct Place {
    rows: Var,
    a: Var,
    table: Var,
    c: Var,
    operands: Vec<Var>,
    first: Var,
}

/// Builds the kernel of a contraction.
///
/// # Errors
///
/// Images so large that the offsets within a block do not fit the table.
pub fn contract(c: &Contract, isa: &Isa, schedule: ContractSchedule) -> Result<BuiltContract, ContractError> {
    let ContractSchedule { mr, nr, panels, .. } = schedule;
    let cut = Cut::new(c, schedule)?;
    let all_panels = c.n.div_ceil(nr);
    let n_blocks = all_panels.div_ceil(panels);
    let name = format!("contract_f32_{mr}x{nr}");
    let mut kernel = Kernel::new(name, (c.batch * cut.blocks * n_blocks) as u64);
    let a = kernel.buf("a", c.a_bytes, Access::Read);
    let sets = if c.own_b { c.batch } else { 1 };
    let b = kernel.buf("b", sets * c.b_bytes(isa.lanes()), Access::Read);
    let rows = cut.buffer.as_ref().map(|bytes| kernel.buf("rows", bytes.len(), Access::Read));
    let operands =
        c.operands.iter().enumerate().map(|(i, o)| kernel.buf(format!("x{i}"), o.bytes, Access::Read)).collect();
    let whole = c.c_mem.bytes() as usize * c.batch * c.m * c.n == c.c_bytes;
    let dst = kernel.buf("c", c.c_bytes, if whole { Access::Write } else { Access::ReadWrite });
    let [batch, block, p0, panel, tail] = [(); 5].map(|()| kernel.var());
    let [rows_of, a_at, table, c_at, first] = [(); 5].map(|()| kernel.var());
    let place = Place {
        rows: rows_of,
        a: a_at,
        table,
        c: c_at,
        operands: c.operands.iter().map(|_| kernel.var()).collect(),
        first,
    };
    let vectors = nr.min(c.n).div_ceil(isa.lanes());
    let widened = c.scaled.filter(|_| c.m > DIRECT);
    let widened = widened.map(|scaled| (scaled, kernel.scratch(4 * c.k * vectors * isa.lanes())));
    let nest = Nest { c, isa, schedule, a, b, rows, operands, dst, batch, panel, place, tail, cut: &cut, widened };
    let task = Ix::var(TASK);
    let mut stmts = vec![
        let_(batch, task.clone() / (cut.blocks * n_blocks) as i64),
        let_(block, task.clone() % cut.blocks as i64),
        let_(p0, task / cut.blocks as i64 % n_blocks as i64 * panels as i64),
    ];
    stmts.extend(nest.find(&mut kernel, block));
    stmts.push(let_(tail, Ix::var(nest.place.rows) % mr as i64));
    let full_n = (c.n / nr) as i64;
    if full_n > 0 {
        let body = nest.over_rows(&mut kernel, nr);
        stmts.push(for_loop(panel, p0, (Ix::var(p0) + panels).min(full_n), body));
    }
    if !c.n.is_multiple_of(nr) {
        let panel = kernel.var();
        let mut last = vec![let_(panel, full_n.into())];
        last.extend(Nest { panel, ..nest }.over_rows(&mut kernel, c.n % nr));
        stmts.push(Stmt::If {
            a: Ix::var(p0) + panels,
            rel: Rel::Ge,
            b: all_panels.into(),
            then: last,
            otherwise: vec![],
        });
    }
    kernel.body = stmts;
    Ok(BuiltContract { kernel: kernel.rounding_on(isa), table: cut.buffer.clone() })
}

/// What a call of a tile needs to know.
struct Nest<'a> {
    c: &'a Contract,
    isa: &'a Isa,
    schedule: ContractSchedule,
    a: Base,
    b: Base,
    rows: Option<Base>,
    operands: Vec<Base>,
    dst: Base,
    batch: Var,
    panel: Var,
    place: Place,
    /// Rows after the last whole tile.
    tail: Var,
    cut: &'a Cut,
    /// The integers of panels that are widened before rows read them, and where in the scratch.
    widened: Option<(Scaled, usize)>,
}

impl Nest<'_> {
    /// Finds the rows of `block`, and copies them if they are staged.
    fn find(&self, kernel: &mut Kernel, block: Var) -> Vec<Stmt> {
        let (c, p) = (self.c, &self.place);
        let (ContractRows::Pixels(pixels), Some(index)) = (&c.rows, self.rows) else {
            let m0 = || Ix::var(block) * self.schedule.mc as i64;
            let stride = if let ContractRows::Stride(stride) = c.rows { stride } else { 0 };
            let mut stmts = vec![
                let_(p.rows, (Ix::from(c.m) - m0()).min(self.schedule.mc)),
                let_(p.a, m0() * stride),
                let_(p.c, m0() * c.c_row_stride),
            ];
            stmts.extend(p.operands.iter().zip(&c.operands).map(|(&var, o)| let_(var, m0() * o.row_stride)));
            return stmts;
        };
        let vars = [p.rows, p.a, p.table, p.c, p.first].into_iter().chain(p.operands.iter().copied());
        let at = |i: usize| index.at(Ix::var(block) * self.cut.entry as i64 + self.cut.zeros + 8 * i);
        let mut stmts: Vec<_> =
            vars.enumerate().map(|(i, var)| Stmt::LoadIndex { var, mem: IndexMem::I64, at: at(i) }).collect();
        if pixels.taps == Taps::Staged {
            let rows = pixels.staged_rows(pixels.whole_rows(self.schedule.mc).min(pixels.axes[1].out));
            let to = kernel.scratch(rows * pixels.staged_row());
            let image = Ix::var(p.a) + c.a_offset;
            stmts.push(stage::stage(kernel, pixels, rows, self.isa.lanes(), (self.a, image), p.first, to));
        }
        stmts
    }

    /// The current panel over the rows of the task.
    fn over_rows(&self, kernel: &mut Kernel, cols: usize) -> Vec<Stmt> {
        let mr = self.schedule.mr;
        let (row, rows) = (kernel.var(), Ix::var(self.place.rows));
        let mut body: Vec<Stmt> = self.widen(kernel, cols).into_iter().collect();
        if self.c.m >= mr {
            if self.below() {
                body.push(self.call(kernel, mr, cols, 0.into(), Some(rows.clone() / mr as i64)));
            } else {
                let tile = self.call(kernel, mr, cols, Ix::var(row), None);
                body.push(for_step(row, 0, rows.clone() - self.tail + (1 - mr as i64), mr as i64, vec![tile]));
            }
        }
        for &tail in &self.cut.tails {
            let rest = self.call(kernel, tail, cols, rows.clone() - tail, None);
            let (a, b) = (Ix::var(self.tail), tail.into());
            body.push(Stmt::If { a, rel: Rel::Eq, b, then: vec![rest], otherwise: vec![] });
        }
        body
    }

    /// An address in packed B, so many bytes into a panel.
    fn panel(&self, number: Ix, part: Ix) -> Addr {
        let c = self.c;
        let own_b = if c.own_b { c.b_bytes(self.isa.lanes()) as i64 } else { 0 };
        let bytes = c.panel_bytes(self.schedule.nr) as i64;
        self.b.at(Ix::var(self.batch) * own_b + number * bytes + part)
    }

    /// Widens so many columns of the current panel, if it is integers that many rows read.
    fn widen(&self, kernel: &mut Kernel, cols: usize) -> Option<Stmt> {
        let (scaled, to) = self.widened?;
        let tile = kernel.tile(scaled::widened(scaled, self.c.k, cols.div_ceil(self.isa.lanes()), self.isa));
        Some(call(tile, vec![self.panel(Ix::var(self.panel), 0.into()), Base::Scratch.at(to)]))
    }

    /// The call of the tile for `rows` by `cols` at row `row` of the task and the current panel.
    fn call(&self, kernel: &mut Kernel, rows: usize, cols: usize, row: Ix, below: Option<Ix>) -> Stmt {
        let (c, nr, p) = (self.c, self.schedule.nr as i64, &self.place);
        let ahead = Ahead::choose(c, self.schedule);
        let spec = ContractTile { rows, cols, ahead, below: below.is_some() };
        let tile = match self.widened {
            Some(_) => tile::build(&Contract { scaled: None, b_mem: MemType::F32, ..c.clone() }, self.isa, spec),
            None => tile::build(c, self.isa, spec),
        };
        let tile = kernel.tile(tile);
        let batch = || Ix::var(self.batch);
        let a = match &c.rows {
            ContractRows::Pixels(p) if p.taps == Taps::Staged => Base::Scratch.at(0),
            ContractRows::Pixels(_) => self.a.at(batch() * c.a_batch_stride + p.a + c.a_offset),
            ContractRows::Stride(stride) => {
                self.a.at(batch() * c.a_batch_stride + p.a + row.clone() * *stride + c.a_offset)
            }
        };
        let panel = Ix::var(self.panel);
        let b = self.widened.map_or_else(|| self.panel(panel.clone(), 0.into()), |(_, to)| Base::Scratch.at(to));
        let mut ptrs = vec![a, b];
        ptrs.extend(ahead.map(|ahead| {
            let part = (row.clone() / self.schedule.mr as i64).min(ahead.parts - 1) * ahead.bytes as i64;
            self.panel(panel + 1, part)
        }));
        if let Some(table) = self.rows {
            ptrs.push(table.at(0));
            ptrs.push(table.at(Ix::var(p.table) + row.clone() * (4 * c.taps as i64)));
        }
        let element = |block: Var, batch_stride: i64, row_stride: i64, col_stride: i64| {
            batch() * batch_stride + block + row.clone() * row_stride + Ix::var(self.panel) * (nr * col_stride)
        };
        for ((base, o), &block) in self.operands.iter().zip(&c.operands).zip(&p.operands) {
            ptrs.push(base.at(element(block, o.batch_stride, o.row_stride, o.col_stride) + o.offset));
        }
        ptrs.push(self.dst.at(element(p.c, c.c_batch_stride, c.c_row_stride, c.c_col_stride) + c.c_offset));
        call_counts(tile, ptrs, below.into_iter().collect::<Vec<_>>())
    }

    /// Whether a call goes down all rows of the block: where tiles are so short that calling them costs much.
    fn below(&self) -> bool {
        let short = matches!(self.c.rows, ContractRows::Stride(_)) && self.c.k <= SHORT;
        short && Ahead::choose(self.c, self.schedule).is_none()
    }
}

/// Elements of k of a tile whose call costs a twentieth of it.
const SHORT: usize = 128;
