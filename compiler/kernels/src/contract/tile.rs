//! The micro-kernel: `rows` by `cols` sums in registers over all taps and k, then the epilogue.
//!
//! Each sum is one chain of multiply-adds in the order of taps and k, whatever the tile: a row's bits depend neither on
//! how many rows there are nor on where tiles and panels begin.

use optc_kernel::target::Isa;
use optc_kernel::tile::{Count, MemType, Ptr, Reg, Tile, TileBuilder};

use super::scaled::ScaledRows;
use super::{Contract, ContractRows, ContractSchedule};

/// Turns of k in one turn of the loop: an FMA with a reused multiplicand costs Cranelift a move, and so does each
/// carried register at the back edge, so that the loop must be long.
const UNROLL: usize = 4;

/// A panel of this many bytes, with the others of its B, is not in L2 when its turn comes.
const FAR: usize = 8 << 10;
/// Bytes of a cache line.
const LINE: usize = 64;

/// What each tile of a block of rows brings near of the next panel, so that its first tile does not wait for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ahead {
    /// Lines in a turn.
    lines: usize,
    /// Tiles that bring different parts; together the whole panel.
    pub parts: usize,
    /// Bytes of a part.
    pub bytes: usize,
}

impl Ahead {
    /// What suits, if the panel is long and there are several tiles of rows to share it.
    pub(super) fn choose(c: &Contract, s: ContractSchedule) -> Option<Ahead> {
        let turns = c.k / UNROLL;
        let tiles = s.mc.min(c.m) / s.mr;
        if c.scaled.is_some() || c.panel_bytes(s.nr) < FAR || turns == 0 || tiles < 2 {
            return None;
        }
        let all = (c.b_mem.bytes() as usize * UNROLL * s.nr).div_ceil(LINE);
        let lines = all.div_ceil(tiles);
        Some(Ahead { lines, parts: all.div_ceil(lines), bytes: c.taps * turns * lines * LINE })
    }
}

/// Which tile is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContractTile {
    /// Rows and columns.
    pub rows: usize,
    pub cols: usize,
    /// What is brought near meanwhile.
    pub ahead: Option<Ahead>,
    /// Whether it goes down the rows, as many tiles as its count says.
    pub below: bool,
}

/// The pointers of a tile.
#[derive(Clone)]
struct Places {
    a: Ptr,
    panel: Ptr,
    next: Option<(Ptr, usize)>,
    table: Option<(Ptr, Ptr)>,
    operands: Vec<Ptr>,
    dst: Ptr,
}

/// Builds the tile. Pointers: A (its first row, or the batch), the panel of B, what is brought near if something is,
/// the zeros and the offsets of the first row if there is a table, the operands of the epilogue, C.
pub(super) fn build(c: &Contract, isa: &Isa, spec: ContractTile) -> Tile {
    let ContractTile { rows, cols, .. } = spec;
    let mut b = TileBuilder::new(format!("contract_f32_{rows}x{cols}"), isa.lanes());
    let (a, panel) = (b.ptr(), b.ptr());
    let next = spec.ahead.map(|ahead| (b.ptr(), ahead.lines));
    let table = c.has_table().then(|| (b.ptr(), b.ptr()));
    let operands: Vec<Ptr> = c.operands.iter().map(|_| b.ptr()).collect();
    let places = Places { a, panel, next, table, operands, dst: b.ptr() };
    let strip = c.panel_bytes(isa.lanes()) as i64;
    let row = c.b_mem.bytes() * isa.lanes() as i64;
    let shape = Shape { rows, vectors: cols.div_ceil(isa.lanes()), strip, row, k: c.k, b_mem: c.b_mem };
    match &c.rows {
        ContractRows::Stride(stride) if spec.below => {
            let count = b.count();
            let down = |by: i64| rows as i64 * by;
            let mut advance = vec![(a, down(*stride)), (places.dst, down(c.c_row_stride))];
            let moving = |i: &usize| c.operands[*i].row_stride != 0;
            let all = (0..c.operands.len()).filter(moving);
            advance.extend(all.map(|i| (places.operands[i], down(c.operands[i].row_stride))));
            b.for_each(count, &advance, &[], |b, p, _| {
                let mut here = Places { a: p[0], dst: p[1], ..places.clone() };
                (0..c.operands.len()).filter(moving).zip(&p[2..]).for_each(|(i, &ptr)| here.operands[i] = ptr);
                shape.tile(b, c, &here, cols);
                vec![]
            });
        }
        ContractRows::Stride(_) | ContractRows::Pixels(_) => shape.tile(&mut b, c, &places, cols),
    }
    b.finish()
}

/// So many rows broadcast from memory, once for each vector: a load of a single use becomes one `vbroadcastss` without
/// a register move. The other rows load [`UNROLL`] elements at once and broadcast them from the register, which takes
/// the shuffle unit instead of the two load ports. (Zen 3, 4x8, 512x512x512, per cent of the FMA peak: 79 with none,
/// 88.5 with one, 84.5 with two, 81.7 with three; 83 when the other rows load each element on its own.)
const REPEATED: usize = 1;

struct Shape {
    rows: usize,
    vectors: usize,
    /// Bytes from one strip of B to the next.
    strip: i64,
    /// Bytes from one row of a strip to the next.
    row: i64,
    k: usize,
    b_mem: MemType,
}

impl Shape {
    /// All sums of one tile and their epilogue.
    fn tile(&self, b: &mut TileBuilder, c: &Contract, p: &Places, cols: usize) {
        let zero = b.f32(0.0);
        let acc = vec![zero; self.rows * self.vectors];
        let acc = match (&c.rows, p.table) {
            (ContractRows::Pixels(_), Some((zeros, offsets))) => {
                let mut advance = vec![(offsets, 4), (p.panel, self.row * c.k as i64)];
                advance.extend(p.next.map(|(next, lines)| (next, (c.k / UNROLL * lines * LINE) as i64)));
                b.for_each(Count::Static(c.taps as u32), &advance, &acc, |b, q, acc| {
                    let next = p.next.map(|(_, lines)| (q[2], lines));
                    let row = |r: usize| (4 * r * c.taps) as i64;
                    let at: Vec<_> = (0..self.rows).map(|r| (b.load_ptr(q[0], row(r), p.a, zeros), 0)).collect();
                    self.accumulate(b, &at, q[1], next, acc)
                })
            }
            (ContractRows::Stride(stride), _) if c.scaled.is_some() => self.scaled(b, c, p, *stride, acc),
            (ContractRows::Stride(stride), _) => {
                let at: Vec<_> = (0..self.rows).map(|r| (p.a, r as i64 * stride)).collect();
                self.accumulate(b, &at, p.panel, p.next, &acc)
            }
            (ContractRows::Pixels(_), None) => acc,
        };
        epilogue(b, c, &acc, self.rows, cols, &p.operands, p.dst);
    }

    /// Adds all rows of strips of integers.
    fn scaled(&self, b: &mut TileBuilder, c: &Contract, p: &Places, stride: i64, acc: Vec<Reg>) -> Vec<Reg> {
        let Some(scaled) = c.scaled else { return acc };
        let mut add = |b: &mut TileBuilder, u: usize, columns: &[Reg], a: Ptr, acc: &mut [Reg]| {
            for r in 0..self.rows {
                let x = b.broadcast(MemType::F32, a, r as i64 * stride + 4 * u as i64);
                for (v, &column) in columns.iter().enumerate() {
                    let sum = &mut acc[r * self.vectors + v];
                    *sum = b.fma(x, column, *sum);
                }
            }
        };
        let (k, strip, vectors) = (self.k, self.strip, self.vectors);
        ScaledRows { scaled, k, strip, vectors, unroll: UNROLL, step: 4, add: &mut add }.all(b, p.a, p.panel, acc)
    }

    /// Adds one tap: the rows of A are at a pointer and a displacement each.
    fn accumulate(
        &self,
        b: &mut TileBuilder,
        at: &[(Ptr, i64)],
        panel: Ptr,
        next: Option<(Ptr, usize)>,
        acc: &[Reg],
    ) -> Vec<Reg> {
        let mut advance = vec![(panel, UNROLL as i64 * self.row)];
        // Rows that share a pointer advance by it alone.
        let mut slots = Vec::new();
        for &(ptr, _) in at {
            let known = advance[1..].iter().position(|&(p, _)| p == ptr);
            slots.push(known.unwrap_or(advance.len() - 1) + 1);
            if known.is_none() {
                advance.push((ptr, 4 * UNROLL as i64));
            }
        }
        let rows = advance.len();
        advance.extend(next.map(|(next, lines)| (next, (lines * LINE) as i64)));
        let turns = (self.k / UNROLL) as u32;
        let (ptrs, mut acc) = if turns == 0 {
            (advance.iter().map(|&(p, _)| p).collect(), acc.to_vec())
        } else {
            b.for_each_ptrs(Count::Static(turns), &advance, acc, |b, p, acc| {
                let mut acc = acc.to_vec();
                let lines = next.map_or(0, |(_, lines)| lines);
                (0..lines).for_each(|i| b.prefetch(p[rows], (i * LINE) as i64));
                let whole: Vec<_> = (REPEATED..self.rows)
                    .map(|r| (b.lanes() == UNROLL).then(|| b.load(MemType::F32, p[slots[r]], at[r].1)))
                    .collect();
                (0..UNROLL).for_each(|u| self.step(b, u, p, &slots, at, &whole, &mut acc));
                acc
            })
        };
        (0..self.k % UNROLL).for_each(|u| self.step(b, u, &ptrs, &slots, at, &[], &mut acc));
        acc
    }

    /// Adds element `u` of k from where the pointers stand.
    #[expect(clippy::too_many_arguments, reason = "what a turn has at hand")]
    fn step(
        &self,
        b: &mut TileBuilder,
        u: usize,
        p: &[Ptr],
        slots: &[usize],
        at: &[(Ptr, i64)],
        whole: &[Option<Reg>],
        acc: &mut [Reg],
    ) {
        let lanes = b.lanes();
        let row = u as i64 * self.row;
        let columns: Vec<_> =
            (0..self.vectors).map(|v| b.load(self.b_mem, p[0], v as i64 * self.strip + row)).collect();
        for r in 0..self.rows {
            let mut x = None;
            for (v, &column) in columns.iter().enumerate() {
                let at = (p[slots[r]], at[r].1 + 4 * u as i64);
                let value = match x {
                    Some(x) if r >= REPEATED => x,
                    _ => match r.checked_sub(REPEATED).and_then(|r| whole.get(r).copied().flatten()) {
                        Some(whole) => b.permute(whole, whole, &vec![u as u8; lanes]),
                        None => b.broadcast(MemType::F32, at.0, at.1),
                    },
                };
                x = Some(value);
                let sum = &mut acc[r * self.vectors + v];
                // The first factor's register is overwritten: best one that is not needed again.
                let column_dies = r + 1 == self.rows && v + 1 < self.vectors;
                *sum = if column_dies { b.fma(column, value, *sum) } else { b.fma(value, column, *sum) };
            }
        }
    }
}

/// Applies the epilogue to each register and stores it.
fn epilogue(b: &mut TileBuilder, c: &Contract, acc: &[Reg], rows: usize, cols: usize, operands: &[Ptr], dst: Ptr) {
    let lanes = b.lanes();
    let vectors = cols.div_ceil(lanes);
    for v in 0..vectors {
        let (col, n) = ((v * lanes) as i64, lanes.min(cols - v * lanes));
        let mut per_column = vec![None; operands.len()];
        for r in 0..rows as i64 {
            let value = c.epilogue.emit(b, &mut |b, i| {
                let Some(i) = i.checked_sub(1) else { return acc[r as usize * vectors + v] };
                let o = &c.operands[i];
                if let (0, Some(reg)) = (o.row_stride, per_column[i]) {
                    return reg;
                }
                let disp = r * o.row_stride + col * o.col_stride;
                let reg = b.load_along(o.mem, operands[i], disp, n, o.col_stride);
                per_column[i] = Some(reg);
                reg
            });
            let disp = r * c.c_row_stride + col * c.c_col_stride;
            b.store_strided(c.c_mem, dst, disp, n, c.c_col_stride, value);
        }
    }
}
