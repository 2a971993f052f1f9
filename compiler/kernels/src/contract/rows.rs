//! Where the rows of A and C are: a stride apart, or the pixels of images under a window.
//!
//! Pixels are cut into blocks. What the table says of a block is relative to its first source row, so that blocks that
//! see the same part of the padding share one piece of the table: it stays small however large the images are.

use std::ops::Range;

use indexmap::IndexMap;

use super::{Contract, ContractError, ContractSchedule};
use crate::window::Axis;

/// Where the rows of A are; all numbers are bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum ContractRows {
    /// Row `m` begins `m * stride` bytes into the batch; there is one tap.
    Stride(i64),
    /// Row `m` is a pixel of the result, its taps are pixels of A.
    Pixels(Box<Pixels>),
}

/// A window over images: every pixel of the result is a row, every tap of the window (or every row of taps) a tap.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// Images.
    pub images: usize,
    /// Planes, rows and columns.
    pub axes: [Axis; 3],
    /// Bytes from one image, plane, row and column of A to the next; not negative.
    pub a: [i64; 4],
    /// The same for C.
    pub c: [i64; 4],
    /// The same for each operand.
    pub operands: Vec<[i64; 4]>,
    /// How taps become rows of A.
    pub taps: Taps,
}

/// How the taps of a window become taps of the contraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taps {
    /// Each is one.
    Each,
    /// Those of a row are consecutive in memory, and are one longer tap.
    Merged,
    /// As `Merged`, of a padded copy in the scratch: each task first copies the source rows that it needs.
    Staged,
}

/// Pixels that a task works on, in the order of the nest's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PixelBlock {
    pub rows: usize,
    /// Where A, its piece of the table, C and the operands begin; for staged blocks A is the image's start.
    pub a: i64,
    pub table: i64,
    pub c: i64,
    pub operands: Vec<i64>,
    /// The first source row of a staged block.
    pub first: i64,
}

/// All blocks and the table's pieces one after the other.
pub(super) struct PixelBlocks {
    pub list: Vec<PixelBlock>,
    pub table: Vec<i32>,
}

/// Entries of a table that are small enough to be written out without regard to sharing.
const SMALL_TABLE: usize = 1 << 13;

/// What a piece of a table depends on.
type Key = (usize, usize, Vec<(Range<usize>, Range<usize>, i64)>);

impl Pixels {
    fn taps_per_pixel(&self) -> usize {
        let [d, h, w] = self.axes.map(|a| a.kernel);
        if self.taps == Taps::Each { d * h * w } else { d * h }
    }

    /// Bytes of a row of the padded copy, and how many rows `rows` rows of the result need.
    pub(super) fn staged_row(&self) -> usize {
        let w = self.axes[2];
        (((w.out - 1) * w.stride + w.kernel) * self.a[3] as usize).next_multiple_of(16)
    }

    pub(super) fn staged_rows(&self, rows: usize) -> usize {
        let h = self.axes[1];
        (rows - 1) * h.stride + (h.kernel - 1) * h.dilation + 1
    }

    /// Whether pixels of C and of the operands are a stride apart across rows, planes and images.
    pub(super) fn linear(&self) -> bool {
        let [d, h, w] = self.axes.map(|a| a.out as i64);
        let uniform = |s: &[i64; 4]| {
            (h == 1 || s[2] == w * s[3])
                && (d == 1 || s[1] == h * w * s[3])
                && (self.images == 1 || s[0] == d * h * w * s[3])
        };
        uniform(&self.c) && self.operands.iter().all(uniform)
    }

    /// Whole rows of the result that a block of about `mc` pixels has: a staged one has one row where pixels are not
    /// evenly apart across rows.
    pub(super) fn whole_rows(&self, mc: usize) -> usize {
        let width = self.axes[2].out.max(1);
        let even = [&self.c].into_iter().chain(&self.operands).all(|s| s[2] == width as i64 * s[3]);
        if even || self.taps != Taps::Staged { (mc / width).max(1) } else { 1 }
    }

    /// Cuts the pixels into blocks of about `mc`, and writes their table.
    pub(super) fn blocks(&self, mc: usize, mr: usize) -> Result<PixelBlocks, ContractError> {
        let width = self.axes[2].out;
        let rows = self.images * self.axes[0].out * self.axes[1].out;
        let total = rows * width;
        let mut cuts = Vec::new();
        let whole_rows = self.whole_rows(mc);
        if self.taps == Taps::Staged {
            let high = self.axes[1].out;
            for image in 0..rows / high.max(1) {
                let first = |y: usize| (image * high + y) * width;
                cuts.extend((0..high).step_by(whole_rows).map(|y| first(y)..first(high.min(y + whole_rows))));
            }
        } else if self.linear() && (total * self.taps_per_pixel() <= SMALL_TABLE || width < mc) {
            let aligned = (whole_rows.div_ceil(2)..=whole_rows).rev().find(|r| (r * width).is_multiple_of(mr));
            let small = total * self.taps_per_pixel() <= SMALL_TABLE;
            let step = if small { mc } else { aligned.unwrap_or(whole_rows) * width };
            cuts.extend((0..total).step_by(step.max(1)).map(|m| m..total.min(m + step)));
        } else {
            for row in 0..rows {
                cuts.extend((0..width).step_by(mc).map(|x| row * width + x..row * width + width.min(x + mc)));
            }
        }
        self.write(&cuts)
    }

    fn write(&self, cuts: &[Range<usize>]) -> Result<PixelBlocks, ContractError> {
        let (mut list, mut table) = (Vec::new(), Vec::new());
        let mut known: IndexMap<Key, usize> = IndexMap::new();
        for cut in cuts {
            let key = self.key(cut);
            let at = match known.get(&key) {
                Some(&at) => at,
                None => {
                    let at = table.len();
                    self.offsets(cut, &mut table)?;
                    known.insert(key, at);
                    at
                }
            };
            list.push(self.block(cut, 4 * at as i64));
        }
        Ok(PixelBlocks { list, table })
    }

    /// Image, plane, row and column of pixel `m`.
    fn place(&self, m: usize) -> [usize; 4] {
        let [d, h, w] = self.axes.map(|a| a.out);
        [m / w / h / d, m / w / h % d, m / w % h, m % w]
    }

    /// Where the source row of tap 0 of a row of pixels begins, its padding included.
    fn source_row(&self, [n, d, h, _]: [usize; 4]) -> i64 {
        let start = |axis: usize, i: usize| (i * self.axes[axis].stride) as i64 - self.axes[axis].pads[0] as i64;
        n as i64 * self.a[0] + start(0, d) * self.a[1] + start(1, h) * self.a[2]
    }

    /// What a block's offsets count from: the first source row of any of its rows. (A row with much padding after it
    /// may begin later than those of the next plane.)
    fn base(&self, cut: &Range<usize>) -> i64 {
        let width = self.axes[2].out;
        let rows = cut.start / width..=(cut.end - 1) / width;
        rows.map(|row| self.source_row(self.place(row * width))).min().unwrap_or(0)
    }

    /// The column that a block's offsets count from: its first where it is within a row.
    fn first_column(&self, cut: &Range<usize>) -> usize {
        let width = self.axes[2].out;
        if (cut.end - 1) / width == cut.start / width { cut.start % width } else { 0 }
    }

    fn key(&self, cut: &Range<usize>) -> Key {
        let [.., w] = self.axes;
        if self.taps == Taps::Staged {
            return (cut.len(), 0, Vec::new());
        }
        let (first, last) = (self.place(cut.start), self.place(cut.end - 1));
        let base = self.base(cut);
        let rows = (cut.start / w.out..=(cut.end - 1) / w.out).map(|row| {
            let place = self.place(row * w.out);
            (self.axes[0].taps(place[1]), self.axes[1].taps(place[2]), self.source_row(place) - base)
        });
        let whole = 0..w.kernel;
        let inside = first[..3] == last[..3] && w.taps(first[3]) == whole && w.taps(last[3]) == whole;
        (cut.len(), if inside { usize::MAX } else { first[3] }, rows.collect())
    }

    fn offsets(&self, cut: &Range<usize>, table: &mut Vec<i32>) -> Result<(), ContractError> {
        let [d, h, w] = self.axes;
        let (base, x0) = (self.base(cut), self.first_column(cut));
        let columns = if self.taps == Taps::Each { w.kernel } else { 1 };
        let staged = self.taps == Taps::Staged;
        let row_bytes = if staged { self.staged_row() as i64 } else { self.a[2] };
        let y0 = self.place(cut.start)[2];
        for m in cut.clone() {
            let place = self.place(m);
            let row =
                if staged { ((place[2] - y0) * h.stride) as i64 * row_bytes } else { self.source_row(place) - base };
            let taps = [d.taps(place[1]), h.taps(place[2]), w.taps(place[3])];
            for tap in 0..d.kernel * h.kernel * columns {
                let at = [tap / columns / h.kernel, tap / columns % h.kernel, tap % columns];
                let exists = (0..3).all(|i| taps[i].contains(&at[i]) || (i == 2 && columns == 1 && w.kernel > 1));
                let step = |axis: Axis, i: usize| (at[i] * axis.dilation) as i64;
                let column = ((place[3] - x0) * w.stride) as i64 + step(w, 2);
                let offset = row + step(d, 0) * self.a[1] + step(h, 1) * row_bytes + column * self.a[3];
                table.push(if exists || staged { offset_of(offset)? } else { -1 });
            }
        }
        Ok(())
    }

    fn block(&self, cut: &Range<usize>, table: i64) -> PixelBlock {
        let place = self.place(cut.start);
        let at = |strides: &[i64; 4]| place.iter().zip(strides).map(|(&i, s)| i as i64 * s).sum::<i64>();
        let [.., h, w] = self.axes;
        let column = (self.first_column(cut) * w.stride) as i64 - w.pads[0] as i64;
        let staged = self.taps == Taps::Staged;
        PixelBlock {
            rows: cut.len(),
            a: if staged { place[0] as i64 * self.a[0] } else { self.base(cut) + column * self.a[3] },
            table,
            c: at(&self.c),
            operands: self.operands.iter().map(at).collect(),
            first: (place[2] * h.stride) as i64 - h.pads[0] as i64,
        }
    }
}

/// An offset as the table has it.
fn offset_of(offset: i64) -> Result<i32, ContractError> {
    i32::try_from(offset).ok().filter(|&o| o >= 0).ok_or(ContractError::Reach(offset))
}

impl Contract {
    /// Taps of a row as the tile sees them.
    pub(super) fn has_table(&self) -> bool {
        matches!(self.rows, ContractRows::Pixels(_))
    }
}

/// The blocks of rows and the buffer that describes them.
pub(super) struct Cut {
    pub blocks: usize,
    /// Numbers of rows that remain after whole tiles.
    pub tails: Vec<usize>,
    /// Zeros, the index of the blocks, the pieces of the table.
    pub buffer: Option<Vec<u8>>,
    /// Bytes of the zeros, and of an entry of the index.
    pub zeros: usize,
    pub entry: usize,
}

impl Cut {
    pub fn new(c: &Contract, s: ContractSchedule) -> Result<Cut, ContractError> {
        let ContractRows::Pixels(pixels) = &c.rows else {
            let tails = if c.m.is_multiple_of(s.mr) { vec![] } else { vec![c.m % s.mr] };
            return Ok(Cut { blocks: c.m.div_ceil(s.mc), tails, buffer: None, zeros: 0, entry: 0 });
        };
        let blocks = pixels.blocks(s.mc, s.mr)?;
        let mut tails: Vec<_> = blocks.list.iter().map(|b| b.rows % s.mr).filter(|&t| t > 0).collect();
        tails.sort_unstable();
        tails.dedup();
        let (zeros, entry) = ((4 * c.k).next_multiple_of(64), 8 * (5 + c.operands.len()));
        let tables = (zeros + entry * blocks.list.len()) as i64;
        let mut buffer = vec![0; zeros];
        for b in &blocks.list {
            let fields = [b.rows as i64, b.a, tables + b.table, b.c, b.first];
            buffer.extend(fields.iter().chain(&b.operands).flat_map(|v| v.to_le_bytes()));
        }
        buffer.extend(blocks.table.iter().flat_map(|o| o.to_le_bytes()));
        Ok(Cut { blocks: blocks.list.len(), tails, buffer: Some(buffer), zeros, entry })
    }
}
