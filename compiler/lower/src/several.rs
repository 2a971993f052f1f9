//! Products of few rows in programs for batches: kernels for several items at once, whose rows are one matrix, beside
//! the kernel for one. Each sum is one chain over k, so that they have the same bits; weights are read once for all
//! rows.
//!
//! There is a kernel for each number of items whose rows are about a tile, so that no number is much slower than a
//! product of its own, and two for more. Whether items lie side by side is not known yet: kernels that do not fit are
//! left out later ([`optc_kernel::program::Program::for_batch`]).

use optc_kernel::nest::Kernel;
use optc_kernel::target::{Caches, Emitter, Isa, Target};
use optc_kernels::contract::{Contract, ContractRows, ContractSchedule, Operand, contract};

/// Rows from which on a product is one for each item: it reads its weights as often as tiles of rows are high.
const FEW: usize = 24;
/// Rows of the kernels for many items.
const MANY: [usize; 2] = [64, 16];

/// Rows up to which there is a kernel for each number of items.
const SOME: usize = 8;

/// The columns of a panel, where the rows of an item are so few that those of several are to be one product: for many
/// rows, but wide enough that a single row does not wait for its own sums. (Zen 5, AVX-512, one row of 784x128x64x10:
/// 25 % slower than with panels of its own with three vectors.)
pub(super) fn panels(c: &Contract, isa: &Isa, caches: &Caches) -> Option<usize> {
    if !is_few(c) {
        return None;
    }
    let many = ContractSchedule::choose(&Contract { m: MANY[0], ..c.clone() }, isa, caches).nr;
    let wide = isa.lanes() * if isa.vector_regs > 16 { 4 } else { 3 };
    let tiled = isa.emitter == Emitter::X86 && many == isa.contract_f32.1 * isa.lanes() && c.n >= wide;
    Some(if tiled { many.max(wide) } else { many })
}

fn is_few(c: &Contract) -> bool {
    matches!(c.rows, ContractRows::Stride(_)) && c.batch == 1 && c.m < FEW
}

/// The kernels of a product for several items, with their numbers of items, most first; `constant` says which operands
/// are constants.
pub(super) fn kernels(target: &Target, c: &Contract, constant: &[bool], s: ContractSchedule) -> Vec<(usize, Kernel)> {
    let Some(item) = dense(c, constant).filter(|_| is_few(c)) else { return vec![] };
    let isa = target.isa;
    let some = ContractSchedule::tallest(s.nr / isa.lanes(), isa).max(SOME) / c.m;
    let mut counts: Vec<usize> = MANY.iter().map(|rows| rows / c.m).chain(2..=some).filter(|&n| n > 1).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    counts.dedup();
    let kernel = |items: usize| {
        let c = several(c, &item, items);
        let schedule = ContractSchedule::in_panels(&c, s.nr, isa, &target.caches);
        Some((items, contract(&c, isa, schedule).ok()?.kernel))
    };
    counts.into_iter().filter_map(kernel).collect()
}

/// Bytes from row to row where rows lie side by side, from item to item too: of A, of the result, and of each operand
/// that is no constant. `None` where they do not.
struct Rows {
    a: i64,
    c: i64,
    operands: Vec<Option<i64>>,
}

fn dense(c: &Contract, constant: &[bool]) -> Option<Rows> {
    let ContractRows::Stride(stride) = c.rows else { return None };
    // The stride of a single row says nothing: it is as long as what is there.
    let row = |bytes: usize, offset: i64, stride: i64| {
        let (rows, bytes) = (c.m as i64, bytes as i64);
        (offset == 0 && bytes % rows == 0 && (rows == 1 || rows * stride == bytes)).then(|| bytes / rows)
    };
    let operand = |(o, constant): (&Operand, &bool)| match constant {
        true => (c.m == 1 || o.row_stride == 0).then_some(None),
        false => row(o.bytes, o.offset, o.row_stride).map(Some),
    };
    Some(Rows {
        a: row(c.a_bytes, c.a_offset, stride)?,
        c: row(c.c_bytes, c.c_offset, c.c_row_stride)?,
        operands: c.operands.iter().zip(constant).map(operand).collect::<Option<_>>()?,
    })
}

/// The product of several items.
fn several(c: &Contract, rows: &Rows, items: usize) -> Contract {
    let operand = |(o, row): (&Operand, &Option<i64>)| match row {
        Some(row) => Operand { bytes: items * o.bytes, row_stride: *row, ..o.clone() },
        None => Operand { row_stride: 0, ..o.clone() },
    };
    Contract {
        m: items * c.m,
        a_bytes: items * c.a_bytes,
        rows: ContractRows::Stride(rows.a),
        c_bytes: items * c.c_bytes,
        c_row_stride: rows.c,
        operands: c.operands.iter().zip(&rows.operands).map(operand).collect(),
        ..c.clone()
    }
}
