//! A pointwise convolution and the depthwise one that reads it, in one kernel: what is between them never leaves the
//! caches.
//!
//! ```text
//! task = (image, band of rows, group of channels)
//! for block of rows in band {
//!     scratch = rows that were there, then the pointwise result of the new rows, of the group's channels only
//!     result = depthwise(scratch)
//! }
//! ```
//!
//! Both are the kernels that stand on their own elsewhere, inlined. A depthwise convolution needs no channel but its
//! own: a group is a few panels of the packed weights, whose pixels lie side by side in the scratch. Blocks go down the
//! picture, and rows under two blocks are moved instead of being computed again.

mod blocks;

use blocks::{BlockRun, RowBlock};
use optc_kernel::nest::{Access, Addr, Base, Ix, Kernel, Rel, Stmt, TASK, Var, call, for_loop, let_};
use optc_kernel::target::{Caches, Isa};
use optc_kernel::tile::{Count, MemType, TileBuilder};

use crate::contract::{Contract, ContractError, ContractRows, ContractSchedule, Operand, contract};
use crate::window::{self, Axis, ImageView, WindowNest, WindowReduce, window};

/// Both convolutions.
#[derive(Clone, Debug, PartialEq)]
pub struct Separable {
    /// The pointwise one over all images; where its result would be does not matter.
    pub dense: Contract,
    /// The depthwise one; the source is the pointwise one's result.
    pub window: WindowNest,
    /// Rows and columns of the pointwise one's tiles; its weights are packed for these columns.
    pub tile: (usize, usize),
}

/// How it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeparableSchedule {
    /// Panels of a group of channels.
    pub panels: usize,
    /// Bands of rows, each with all blocks of a task.
    pub bands: usize,
    /// Rows of the result in a block.
    pub rows: usize,
    /// Rows of the source matrix that stay near while a group's panels pass.
    pub mc: usize,
}

/// Tasks that balance a few threads, if groups of channels alone give them; and those that are worth bands.
const TASKS: usize = 6;
const FEW_TASKS: usize = 4;
/// Panels of a group at most.
const PANELS: usize = 2;
/// Bands begin with rows that their neighbours have computed too: a twentieth of all at most.
const TWICE: usize = 20;

impl Separable {
    /// Why there is no kernel for it.
    pub fn declines(&self) -> Option<&'static str> {
        let (c, w) = (&self.dense, &self.window);
        let [depth, high, wide] = w.axes;
        if !matches!(c.rows, ContractRows::Stride(_)) || c.batch != 1 || c.taps != 1 || c.scaled.is_some() {
            return Some("the first convolution is not pointwise");
        }
        if w.reduce != WindowReduce::Dot || w.src.mem != MemType::F32 || c.c_mem != MemType::F32 || depth != Axis::NONE
        {
            return Some("the second one is not depthwise over rows and columns of floats");
        }
        if c.n != w.channels || c.m != w.batch * high.size * wide.size {
            return Some("the pictures between them are not the same");
        }
        if !c.n.is_multiple_of(self.tile.1) {
            return Some("its channels are not whole panels");
        }
        if wide.kernel > LONG || (0..high.out).any(|i| high.taps(i).is_empty()) {
            return Some("the window is long, or some of it lies in the padding alone");
        }
        None
    }

    /// Chooses for a target and a machine: rows of a block in an eighth of L2, and enough tasks for a few threads.
    pub fn cut(&self, caches: &Caches) -> SeparableSchedule {
        let (mr, nr) = self.tile;
        let all = self.dense.n / nr;
        let tasks = |panels: usize| self.window.batch * (all / panels);
        let fits = |&p: &usize| all.is_multiple_of(p) && tasks(p) >= TASKS;
        let panels = (1..=PANELS).rev().find(fits).unwrap_or(1);
        let [_, high, wide] = self.window.axes;
        let twice = high.reach().saturating_sub(high.stride).max(1);
        let most = (high.size / (TWICE * twice) + 1).min(high.out);
        let bands = FEW_TASKS.div_ceil(tasks(panels)).clamp(1, most);
        let band = high.out.div_ceil(bands);
        let row = 4 * panels * nr * wide.size;
        let fit = |&rows: &usize| blocks::tallest(&high, rows) * row <= caches.l2 / 8;
        let most = (1..=band).take_while(fit).last().unwrap_or(1);
        // New rows of whole tiles.
        let even = |&rows: &usize| (rows * high.stride * wide.size).is_multiple_of(mr);
        let rows = if most == band { most } else { (most / 2 + 1..=most).rev().find(even).unwrap_or(most) };
        let mc = (caches.l2 / 4 / (4 * self.dense.k)).max(1).next_multiple_of(mr);
        SeparableSchedule { panels, bands: high.out.div_ceil(band), rows, mc }
    }

    /// Whether it is faster than both kernels: each group reads the source again, which costs more than the pictures
    /// between the convolutions where it comes from beyond L2 and is long.
    pub fn pays(&self, cut: SeparableSchedule, caches: &Caches) -> bool {
        let (c, w) = (&self.dense, &self.window);
        let source = 4 * c.k * w.axes[1].size * w.axes[2].size;
        let group = cut.panels * self.tile.1;
        source <= 2 * caches.l2 || c.k <= 4 * group
    }

    /// Multiply-adds of both, twice.
    pub fn flops(&self) -> f64 {
        let (c, w) = (&self.dense, &self.window);
        let taps: usize = w.axes.iter().map(|a| a.kernel * a.out).product();
        2.0 * (c.m * c.n) as f64 * c.k as f64 + 2.0 * (w.batch * w.channels * taps) as f64
    }
}

/// More taps than this in a row are laid out in another way.
const LONG: usize = 16;

/// The weights `[channels, 1, rows, columns]` of the depthwise convolution as the kernel wants them: groups of `panels
/// * nr` channels one after the other.
pub fn filters(weights: &[f32], channels: usize, of_group: usize) -> Vec<f32> {
    let group = weights.len() / channels.max(1) * of_group;
    weights.chunks(group.max(1)).flat_map(|w| window::filters(w, of_group)).collect()
}

/// Builds the kernel. Buffers: the source, the packed weights, the operands of the first epilogue, the filters of the
/// depthwise convolution ([`filters`]), the operands of the second epilogue, the result.
///
/// # Errors
/// As [`contract`].
pub fn separable(s: &Separable, isa: &Isa, cut: SeparableSchedule) -> Result<Kernel, ContractError> {
    let (c, w) = (&s.dense, &s.window);
    let channels = cut.panels * s.tile.1;
    let groups = c.n / channels;
    let [_, high, wide] = w.axes;
    let tasks = w.batch * cut.bands * groups;
    let mut kernel = Kernel::new(format!("separable_f32_{}x{channels}", cut.rows), tasks as u64);
    let operand = |k: &mut Kernel, i: usize, bytes: usize| k.buf(format!("x{i}"), bytes, Access::Read);
    let a = kernel.buf("a", c.a_bytes, Access::Read);
    let b = kernel.buf("b", c.b_bytes(isa.lanes()), Access::Read);
    let first = c.operands.iter().enumerate().map(|(i, o)| operand(&mut kernel, i, o.bytes)).collect();
    let filters = kernel.buf("filters", 4 * high.kernel * wide.kernel * c.n, Access::Read);
    let second = (c.operands.len()..).zip(&w.operands).map(|(i, o)| operand(&mut kernel, i, o.bytes)).collect();
    let whole = w.dst.mem.bytes() as usize * w.batch * high.out * wide.out * c.n == w.dst.bytes;
    let dst = kernel.buf("dst", w.dst.bytes, if whole { Access::Write } else { Access::ReadWrite });
    let pixel = 4 * channels;
    let scratch = kernel.scratch(blocks::tallest(&high, cut.rows) * wide.size * pixel);
    let [image, band, group] = [(); 3].map(|()| kernel.var());
    let nest = Nest { s, isa, cut, channels, pixel, a, b, first, filters, second, dst, scratch, image, group };
    kernel.body = vec![
        let_(image, Ix::var(TASK) / (groups * cut.bands) as i64),
        let_(band, Ix::var(TASK) / groups as i64 % cut.bands as i64),
        let_(group, Ix::var(TASK) % groups as i64),
    ];
    let of_band = high.out.div_ceil(cut.bands);
    for i in 0..cut.bands {
        let rows = high.out.min(i * of_band)..high.out.min((i + 1) * of_band);
        let mut then = Vec::new();
        for run in blocks::runs(&high, rows, cut.rows) {
            then.extend(nest.run(&mut kernel, &run)?);
        }
        kernel.body.push(Stmt::If { a: band.into(), rel: Rel::Eq, b: i.into(), then, otherwise: vec![] });
    }
    Ok(kernel)
}

/// Where everything is.
struct Nest<'a> {
    s: &'a Separable,
    isa: &'a Isa,
    cut: SeparableSchedule,
    /// Channels of a group, and the bytes of a pixel of them.
    channels: usize,
    pixel: usize,
    a: Base,
    b: Base,
    first: Vec<Base>,
    filters: Base,
    second: Vec<Base>,
    dst: Base,
    /// Where the pictures begin in the scratch.
    scratch: usize,
    image: Var,
    group: Var,
}

impl Nest<'_> {
    /// The blocks of a run, one after the other.
    fn run(&self, kernel: &mut Kernel, run: &BlockRun) -> Result<Vec<Stmt>, ContractError> {
        let of = kernel.var();
        let body = self.block(kernel, &run.first, Ix::var(of) * run.first.out.len() as i64)?;
        Ok(vec![for_loop(of, 0, run.blocks, body)])
    }

    /// One block, `down` rows of the result below where it says.
    fn block(&self, kernel: &mut Kernel, block: &RowBlock, down: Ix) -> Result<Vec<Stmt>, ContractError> {
        let high = self.s.window.axes[1];
        let row = self.s.window.axes[2].size * self.pixel;
        let at = |slot: usize| Base::Scratch.at(self.scratch + slot * row);
        let mut stmts = Vec::new();
        if block.kept() > 0 && block.was_at > 0 {
            let tile = kernel.tile(self.keep(block.kept()));
            stmts.push(call(tile, [at(block.was_at), at(0)]));
        }
        if block.new < block.rows.end {
            let from = down.clone() * high.stride as i64 + block.new;
            stmts.extend(self.dense(kernel, block.rows.end - block.new, from, at(block.kept()))?);
        }
        stmts.extend(self.depthwise(kernel, block, down + block.out.start, at(0)));
        Ok(stmts)
    }

    /// Moves this many rows up in the scratch.
    fn keep(&self, rows: usize) -> optc_kernel::tile::Tile {
        let lanes = self.isa.lanes();
        let mut b = TileBuilder::new("keep_rows", lanes);
        let (src, dst) = (b.ptr(), b.ptr());
        let (pixels, bytes) = ((rows * self.s.window.axes[2].size) as u32, self.pixel as i64);
        b.for_each(Count::Static(pixels), &[(src, bytes), (dst, bytes)], &[], |b, p, _| {
            for v in (0..self.pixel).step_by(4 * lanes) {
                let x = b.load(MemType::F32, p[0], v as i64);
                b.store(MemType::F32, p[1], v as i64, x);
            }
            vec![]
        });
        b.finish()
    }

    /// The pointwise result of `rows` rows of the picture.
    fn dense(&self, kernel: &mut Kernel, rows: usize, from: Ix, to: Addr) -> Result<Vec<Stmt>, ContractError> {
        let c = &self.s.dense;
        let [_, high, wide] = self.s.window.axes;
        let ContractRows::Stride(stride) = c.rows else { return Ok(vec![]) };
        let pixel = (Ix::var(self.image) * high.size as i64 + from) * wide.size as i64;
        let (mr, nr) = self.s.tile;
        let part = Contract {
            m: rows * wide.size,
            n: self.channels,
            a_offset: 0,
            c_bytes: rows * wide.size * self.pixel,
            c_offset: 0,
            c_row_stride: self.pixel as i64,
            c_col_stride: 4,
            // The offsets are part of the addresses here.
            operands: c.operands.iter().map(|o| Operand { offset: 0, ..o.clone() }).collect(),
            ..c.clone()
        };
        let mc = part.m.min(self.cut.mc).next_multiple_of(mr);
        let schedule = ContractSchedule { mr, nr, mc, panels: self.cut.panels };
        let channel = |stride: i64| Ix::var(self.group) * (self.channels as i64 * stride);
        let mut at =
            vec![self.a.at(pixel.clone() * stride + c.a_offset), self.b.at(channel(c.b_mem.bytes() * c.k as i64))];
        for (base, o) in self.first.iter().zip(&c.operands) {
            at.push(base.at(pixel.clone() * o.row_stride + channel(o.col_stride) + o.offset));
        }
        at.push(to);
        Ok(kernel.inline(&contract(&part, self.isa, schedule)?.kernel, &at))
    }

    /// The depthwise result of a block that begins with row `line`.
    fn depthwise(&self, kernel: &mut Kernel, block: &RowBlock, line: Ix, from: Addr) -> Vec<Stmt> {
        let w = &self.s.window;
        let [_, high, wide] = w.axes;
        let (pixel, row) = (self.pixel as i64, (wide.size * self.pixel) as i64);
        let here = |view: &ImageView| ImageView { offset: 0, ..*view };
        let part = WindowNest {
            batch: 1,
            channels: self.channels,
            axes: [Axis::NONE, block.axis(&high), wide],
            src: ImageView {
                bytes: block.rows.len() * row as usize,
                offset: 0,
                strides: [0, 0, row, pixel, 4],
                ..w.src
            },
            dst: here(&w.dst),
            operands: w.operands.iter().map(here).collect(),
            ..w.clone()
        };
        let place = |base: Base, view: &ImageView| {
            let [n, _, h, _, c] = view.strides;
            let channel = Ix::var(self.group) * (self.channels as i64 * c);
            base.at(Ix::var(self.image) * n + line.clone() * h + channel + view.offset)
        };
        let filter = (high.kernel * wide.kernel * self.pixel) as i64;
        let mut at = vec![from, self.filters.at(Ix::var(self.group) * filter)];
        at.extend(self.second.iter().zip(&w.operands).map(|(&base, o)| place(base, o)));
        at.push(place(self.dst, &w.dst));
        kernel.inline(&window(&part, self.isa).kernel, &at)
    }
}
