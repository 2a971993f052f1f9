//! Attention in one kernel, a block of queries at a time: scores, softmax and the mix of values, with no matrix of all
//! scores in memory.
//!
//! ```text
//! task = (head, block of queries) {
//!     scores = score(q · kᵀ)          in the scratch
//!     probabilities = softmax(scores) in the scratch
//!     y = probabilities · v
//! }
//! ```
//!
//! The three are the kernels that stand on their own elsewhere, inlined. `k` and `v` are packed in panels as any right
//! operand. A block's scores and probabilities take at most half of L2 (as many queries as a tile has rows at least):
//! for 2,048 keys and 12 heads that is 256 KiB instead of 384 MiB.

use optc_kernel::expr::Expr;
use optc_kernel::nest::{Access, Addr, Base, Ix, Kernel, Rel, Stmt, TASK, Var};
use optc_kernel::space::ByteView;
use optc_kernel::target::{Caches, Isa};
use optc_kernel::tile::MemType;

use crate::contract::{Contract, ContractError, ContractRows, ContractSchedule, Operand, contract, packed_len};
use crate::fold::{Folding, folding, softmax, softmax_of_seen};

/// The rows of a matrix for each head: bytes of the buffer, from one head to the next and from one row to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadMatrices {
    /// Length of the buffer.
    pub bytes: usize,
    /// From one head to the next.
    pub head_stride: i64,
    /// From one row to the next; elements of a row lie side by side.
    pub row_stride: i64,
}

/// An attention over `f32`.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionNest {
    /// Heads of all sequences that have keys of their own.
    pub heads: usize,
    /// Queries of a head.
    pub queries: usize,
    /// Keys of a head.
    pub keys: usize,
    /// Elements of a query and of a key.
    pub size: usize,
    /// Elements of a value.
    pub width: usize,
    /// The queries.
    pub q: HeadMatrices,
    /// Bytes from the packed keys of a head to those of the next, 0 where all share them; the same for the values.
    pub packed_strides: [i64; 2],
    /// Operands of the score; their batches are heads, their rows queries and their columns keys.
    pub operands: Vec<Operand>,
    /// The score: operand 0 is the product of a query and a key, operand `i + 1` is `operands[i]`.
    pub score: Expr,
    /// Whether a query whose scores are all minus infinity gives NaN, as the softmax of these is; else zeros.
    pub formula: bool,
    /// The result.
    pub dst: HeadMatrices,
}

impl AttentionNest {
    /// Multiply-adds of both products, twice.
    pub fn flops(&self) -> f64 {
        2.0 * (self.heads * self.queries) as f64 * (self.keys * (self.size + self.width)) as f64
    }

    /// Queries of a block: whole tiles, or all of them.
    fn block(&self, isa: &Isa, caches: &Caches) -> usize {
        let mr = isa.contract_f32.0;
        let fit = caches.l2 / 2 / (8 * self.keys);
        self.queries.min((fit / mr * mr).max(mr))
    }
}

/// Builds the kernel. Buffers: the queries, the packed keys, the packed values, the
/// operands of the score, the result.
///
/// # Errors
/// As [`contract`].
pub fn attention(a: &AttentionNest, isa: &Isa, caches: &Caches) -> Result<Kernel, ContractError> {
    let (block, lanes) = (a.block(isa, caches), isa.lanes());
    let blocks = a.queries.div_ceil(block);
    let mut kernel = Kernel::new(format!("attention_f32_{block}x{}", a.keys), (a.heads * blocks) as u64);
    let packed = |k: usize, n: usize, stride: i64| stride as usize * (a.heads - 1) + 4 * packed_len(1, k, n, lanes);
    let q = kernel.buf("q", a.q.bytes, Access::Read);
    let k = kernel.buf("k", packed(a.size, a.keys, a.packed_strides[0]), Access::Read);
    let v = kernel.buf("v", packed(a.keys, a.width, a.packed_strides[1]), Access::Read);
    let operands =
        a.operands.iter().enumerate().map(|(i, o)| kernel.buf(format!("x{i}"), o.bytes, Access::Read)).collect();
    let whole = 4 * a.heads * a.queries * a.width == a.dst.bytes;
    let dst = kernel.buf("y", a.dst.bytes, if whole { Access::Write } else { Access::ReadWrite });
    let scratch = [(); 2].map(|()| kernel.scratch(4 * block * a.keys));
    let [head, first] = [(); 2].map(|()| kernel.var());
    let nest = Nest { a, isa, q, k, v, operands, dst, scratch, head, first };
    let (full, rest) = (a.queries / block * block, a.queries % block);
    let whole = nest.block(&mut kernel, block)?;
    kernel.body = vec![
        Stmt::Let { var: head, value: Ix::var(TASK) / blocks as i64 },
        Stmt::Let { var: first, value: Ix::var(TASK) % blocks as i64 * block as i64 },
    ];
    if rest == 0 {
        kernel.body.extend(whole);
        return Ok(kernel);
    }
    let otherwise = nest.block(&mut kernel, rest)?;
    kernel.body.push(Stmt::If { a: first.into(), rel: Rel::Lt, b: full.into(), then: whole, otherwise });
    Ok(kernel)
}

/// Where everything is.
struct Nest<'a> {
    a: &'a AttentionNest,
    isa: &'a Isa,
    q: Base,
    k: Base,
    v: Base,
    operands: Vec<Base>,
    dst: Base,
    /// Where the scores and the probabilities begin in the scratch.
    scratch: [usize; 2],
    head: Var,
    first: Var,
}

impl Nest<'_> {
    /// The statements for `rows` queries from the first one on.
    fn block(&self, kernel: &mut Kernel, rows: usize) -> Result<Vec<Stmt>, ContractError> {
        let a = self.a;
        let [scores, probabilities] = self.scratch.map(|at| Base::Scratch.at(at));
        let from = |base: Base, head: i64, row: i64, offset: i64| {
            base.at(Ix::var(self.head) * head + Ix::var(self.first) * row + offset)
        };
        let mut product = Contract::matmul(1, rows, a.keys, a.size);
        product.rows = ContractRows::Stride(a.q.row_stride);
        product.a_bytes = span(rows, a.q.row_stride, a.size);
        // The offsets are part of the addresses here.
        product.operands = a.operands.iter().map(|o| Operand { offset: 0, ..o.clone() }).collect();
        product.epilogue = a.score.clone();
        let mut at = vec![from(self.q, a.q.head_stride, a.q.row_stride, 0), self.packed(self.k, a.packed_strides[0])];
        let operands = self.operands.iter().zip(&a.operands);
        at.extend(operands.map(|(&base, o)| from(base, o.batch_stride, o.row_stride, o.offset)));
        at.push(scores.clone());
        let mut stmts = self.contraction(kernel, &product, &at)?;
        stmts.extend(kernel.inline(&self.softmax(rows), &[scores, probabilities.clone()]));
        let mut mix = Contract::matmul(1, rows, a.width, a.keys);
        mix.c_row_stride = a.dst.row_stride;
        mix.c_bytes = span(rows, a.dst.row_stride, a.width);
        let dst = from(self.dst, a.dst.head_stride, a.dst.row_stride, 0);
        let at = [probabilities, self.packed(self.v, a.packed_strides[1]), dst];
        stmts.extend(self.contraction(kernel, &mix, &at)?);
        Ok(stmts)
    }

    fn packed(&self, base: Base, stride: i64) -> Addr {
        base.at(Ix::var(self.head) * stride)
    }

    fn contraction(&self, kernel: &mut Kernel, c: &Contract, at: &[Addr]) -> Result<Vec<Stmt>, ContractError> {
        let (mr, vectors) = self.isa.contract_f32;
        let nr = vectors * self.isa.lanes();
        let schedule = ContractSchedule { mr, nr, mc: c.m.next_multiple_of(mr), panels: c.n.div_ceil(nr) };
        Ok(kernel.inline(&contract(c, self.isa, schedule)?.kernel, at))
    }

    fn softmax(&self, rows: usize) -> Kernel {
        let (folds, store) = if self.a.formula { softmax(1) } else { softmax_of_seen(1) };
        let view = ByteView::dense(MemType::F32, &[rows, self.a.keys]);
        let problem = Folding {
            shape: vec![rows, self.a.keys],
            reduced: vec![false, true],
            operands: vec![view.clone()],
            folds,
            result: view,
            every: true,
            store,
        };
        folding(&problem, self.isa).expect("one reduced dim fits the loops of a tile")
    }
}

/// Bytes from the first element of `rows` rows to the end of the last.
fn span(rows: usize, stride: i64, columns: usize) -> usize {
    (rows - 1) * stride.max(0) as usize + 4 * columns
}
