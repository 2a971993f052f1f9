//! Strips of integers: `(q - zero) * scale`. The tile of few rows dequantizes each of them as it is loaded; where many
//! rows read a panel, it is widened into the scratch before they do.
//!
//! ```text
//! strip = for each group of rows: a vector of scales, one of zero points if there are any, then the rows
//! row   = a byte for each lane; or two rows are so many bytes, the first in the lower halves
//! ```
//!
//! Scales and zero points are `f32`. They stay in registers while the rows of their group pass.

use optc_kernel::target::Isa;
use optc_kernel::tile::{Binary, Count, MemType, Ptr, Reg, Shift, Tile, TileBuilder};

/// How the integers of a B are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// Whether each is four bits, `0..16`, instead of a signed byte. A group then has an even number of rows.
    pub nibbles: bool,
    /// Rows that share a scale in each column; at least one.
    pub group: usize,
    /// What is subtracted from each; none where each group and column has its own.
    pub zero: Option<i32>,
}

/// The integers and their scales, by row or group and column.
pub struct ScaledIntegers<V, S, Z> {
    /// Rows.
    pub k: usize,
    /// Columns.
    pub n: usize,
    /// The integer of a row and a column: one that [`Scaled`] can keep.
    pub value: V,
    /// The scale of a group and a column.
    pub scale: S,
    /// The zero point of a group and a column.
    pub zero: Z,
}

impl Scaled {
    /// Bytes before the rows of a group in so many columns.
    fn header(&self, columns: usize) -> usize {
        4 * columns * if self.zero.is_none() { 2 } else { 1 }
    }

    /// Bytes of so many rows.
    fn rows(&self, rows: usize, columns: usize) -> usize {
        columns * if self.nibbles { rows.div_ceil(2) } else { rows }
    }

    /// Bytes of `k` rows in so many columns, which are whole strips.
    pub fn bytes(&self, k: usize, columns: usize) -> usize {
        let (groups, rest) = (k / self.group, k % self.group);
        let of = |rows: usize| self.header(columns) + self.rows(rows, columns);
        groups * of(self.group) + if rest > 0 { of(rest) } else { 0 }
    }

    /// Packs integers into strips of `lanes` columns: `packed` holds a zero for each of [`Scaled::bytes`].
    pub fn pack<V, S, Z>(&self, of: &ScaledIntegers<V, S, Z>, lanes: usize, packed: &mut [u8])
    where
        V: Fn(usize, usize) -> i32,
        S: Fn(usize, usize) -> f32,
        Z: Fn(usize, usize) -> f32,
    {
        let size = self.bytes(of.k, lanes).max(1);
        for (i, strip) in packed.chunks_exact_mut(size).enumerate() {
            let (first, cols) = (i * lanes, lanes.min(of.n - i * lanes));
            let mut at = 0;
            for (group, k0) in (0..of.k).step_by(self.group).enumerate() {
                let rows = self.group.min(of.k - k0);
                let mut floats = |value: &dyn Fn(usize, usize) -> f32| {
                    for n in 0..cols {
                        strip[at + 4 * n..at + 4 * n + 4].copy_from_slice(&value(group, first + n).to_le_bytes());
                    }
                    at += 4 * lanes;
                };
                floats(&of.scale);
                if self.zero.is_none() {
                    floats(&of.zero);
                }
                for row in 0..rows {
                    let (line, high) = if self.nibbles { (row / 2, row % 2 == 1) } else { (row, false) };
                    for n in 0..cols {
                        let value = (of.value)(k0 + row, first + n) as u8;
                        strip[at + line * lanes + n] |= if high { value << 4 } else { value };
                    }
                }
                at += self.rows(rows, lanes);
            }
        }
    }
}

/// A panel of so many strips of `k` rows, as `f32`. Pointers: the panel, and the strips that are written one after the
/// other.
pub(super) fn widened(scaled: Scaled, k: usize, vectors: usize, isa: &Isa) -> Tile {
    let lanes = isa.lanes();
    let mut b = TileBuilder::new(format!("widen_{}", vectors * lanes), lanes);
    let (panel, dst) = (b.ptr(), b.ptr());
    let row = 4 * lanes as i64;
    let mut store = |b: &mut TileBuilder, u: usize, columns: &[Reg], dst: Ptr, _: &mut [Reg]| {
        for (v, &column) in columns.iter().enumerate() {
            b.store(MemType::F32, dst, (v * k + u) as i64 * row, column);
        }
    };
    let strip = scaled.bytes(k, lanes) as i64;
    ScaledRows { scaled, k, strip, vectors, unroll: 4, step: row, add: &mut store }.all(&mut b, dst, panel, vec![]);
    b.finish()
}

/// Adds rows of strips to sums: element `u` of k, of which the columns are given.
pub(super) type AddRow<'a> = dyn FnMut(&mut TileBuilder, usize, &[Reg], Ptr, &mut [Reg]) + 'a;

/// What a tile multiplies with the rows of strips.
pub(super) struct ScaledRows<'a> {
    pub scaled: Scaled,
    pub k: usize,
    /// Bytes from one strip to the next.
    pub strip: i64,
    /// Strips.
    pub vectors: usize,
    /// Rows in a turn of the loop.
    pub unroll: usize,
    /// Bytes from one element to the next of what `add` gets a pointer into.
    pub step: i64,
    /// Adds element `u` from a pointer on.
    pub add: &'a mut AddRow<'a>,
}

impl ScaledRows<'_> {
    /// Goes through all groups of the strips from a pointer on: `a` is where `add` begins.
    pub fn all(&mut self, b: &mut TileBuilder, a: Ptr, panel: Ptr, acc: Vec<Reg>) -> Vec<Reg> {
        let Scaled { group, .. } = self.scaled;
        let (groups, rest) = (self.k / group, self.k % group);
        let bytes = self.scaled.bytes(group, b.lanes()) as i64;
        let (ptrs, mut acc) = match groups {
            0 => (vec![panel, a], acc),
            1 => {
                let acc = self.group(b, a, panel, group, acc);
                (vec![b.offset(panel, bytes), b.offset(a, self.step * group as i64)], acc)
            }
            _ => b.for_each_ptrs(
                Count::Static(groups as u32),
                &[(panel, bytes), (a, self.step * group as i64)],
                &acc,
                |b, p, acc| self.group(b, p[1], p[0], group, acc.to_vec()),
            ),
        };
        if rest > 0 {
            acc = self.group(b, ptrs[1], ptrs[0], rest, acc);
        }
        acc
    }

    /// The rows of one group.
    fn group(&mut self, b: &mut TileBuilder, a: Ptr, panel: Ptr, rows: usize, mut acc: Vec<Reg>) -> Vec<Reg> {
        let lanes = b.lanes();
        let places: Vec<i64> = (0..self.vectors).map(|v| v as i64 * self.strip).collect();
        let scales: Vec<Reg> = places.iter().map(|&at| b.load(MemType::F32, panel, at)).collect();
        let zeros: Vec<Option<Reg>> = match self.scaled.zero {
            Some(0) => vec![None; self.vectors],
            Some(zero) => vec![Some(b.f32(zero as f32)); self.vectors],
            None => places.iter().map(|&at| Some(b.load(MemType::F32, panel, at + 4 * lanes as i64))).collect(),
        };
        let data = b.offset(panel, self.scaled.header(lanes) as i64);
        let columns = Columns { scaled: self.scaled, strip: self.strip, scales, zeros };
        let (turns, step) = (rows / self.unroll, self.scaled.rows(self.unroll, lanes) as i64);
        let mut ptrs = vec![data, a];
        if turns > 0 {
            let advance = [(data, step), (a, self.step * self.unroll as i64)];
            (ptrs, acc) = b.for_each_ptrs(Count::Static(turns as u32), &advance, &acc, |b, p, acc| {
                let mut acc = acc.to_vec();
                self.rows(b, &columns, (p[0], p[1]), self.unroll, &mut acc);
                acc
            });
        }
        self.rows(b, &columns, (ptrs[0], ptrs[1]), rows % self.unroll, &mut acc);
        acc
    }

    /// So many rows, from where the pointers stand.
    fn rows(&mut self, b: &mut TileBuilder, of: &Columns, (data, a): (Ptr, Ptr), rows: usize, acc: &mut [Reg]) {
        let mut pair: Vec<Reg> = Vec::new();
        for u in 0..rows {
            let columns = of.row(b, data, u, &mut pair);
            (self.add)(b, u, &columns, a, acc);
        }
    }
}

/// How the columns of a row are made.
struct Columns {
    scaled: Scaled,
    strip: i64,
    scales: Vec<Reg>,
    zeros: Vec<Option<Reg>>,
}

impl Columns {
    /// Row `u` from a pointer on; `pair` are the bytes that it shares with its neighbour.
    fn row(&self, b: &mut TileBuilder, data: Ptr, u: usize, pair: &mut Vec<Reg>) -> Vec<Reg> {
        let (lanes, nibbles) = (b.lanes(), self.scaled.nibbles);
        let line = if nibbles { u / 2 } else { u };
        let at = |v: usize| v as i64 * self.strip + (line * lanes) as i64;
        let all = 0..self.scales.len();
        let integers: Vec<Reg> = match (nibbles, u % 2) {
            (false, _) => all.map(|v| b.load(MemType::I8, data, at(v))).collect(),
            (true, 0) => {
                *pair = all.map(|v| b.load(MemType::U8, data, at(v))).collect();
                let low = b.i32(15);
                pair.iter().map(|&x| b.binary(Binary::And, x, low)).collect()
            }
            (true, _) => pair.iter().map(|&x| b.shift(Shift::Logical, x, 4)).collect(),
        };
        let value = |(v, x): (usize, Reg)| {
            let x = b.unary(optc_kernel::tile::Unary::ToFloat, x);
            let x = self.zeros[v].map_or(x, |zero| b.sub(x, zero));
            b.mul(x, self.scales[v])
        };
        integers.into_iter().enumerate().map(value).collect()
    }
}
