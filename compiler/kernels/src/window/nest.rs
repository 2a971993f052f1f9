//! The nest: blocks of rows and channels, and which tile does which columns.

use optc_kernel::nest::{Access, Addr, Base, Ix, Kernel, Rel, Stmt, TASK, Var, call_counts, for_loop, let_};
use optc_kernel::target::Isa;

use super::tile::{Column, WindowTile, build};
use super::{Axis, BuiltWindow, WindowNest, WindowReduce, planes};

/// Columns of a tile: this many sums, a row of weights, a pixel and a copy of it fit sixteen registers.
const COLUMNS: usize = 8;
/// FMAs that a tile may have unrolled in its rows, beyond which it has loops.
const UNROLLED: usize = 160;

/// Equal tiles next to each other.
struct Run {
    /// The first column of the first.
    first: usize,
    tiles: usize,
    columns: Vec<Column>,
}

/// Cuts the columns into tiles.
fn runs(w: &WindowNest) -> Vec<Run> {
    let axis = w.axes[2];
    let tiles = axis.out.div_ceil((4 * UNROLLED / axis.kernel).clamp(1, COLUMNS));
    let width = axis.out.div_ceil(tiles.max(1)).max(1);
    let mut runs: Vec<Run> = Vec::new();
    for first in (0..axis.out).step_by(width) {
        let columns: Vec<_> = (first..axis.out.min(first + width))
            .map(|i| Column { taps: axis.taps(i), count: w.reduce.count(&axis, i) })
            .collect();
        match runs.last_mut() {
            Some(run) if run.columns == columns => run.tiles += 1,
            _ => runs.push(Run { first, tiles: 1, columns }),
        }
    }
    runs
}

impl WindowReduce {
    /// What output `i` contributes to the divisor of a mean.
    fn count(self, axis: &Axis, i: usize) -> usize {
        match self {
            WindowReduce::Dot | WindowReduce::Max => 1,
            WindowReduce::Mean { count_padding: true } => axis.padded_taps(i),
            WindowReduce::Mean { count_padding: false } => axis.taps(i).len(),
        }
    }
}

/// The divisors of each plane and row, or the one that all have.
enum Counts {
    Same(usize),
    Rows(Vec<usize>),
}

fn row_counts(w: &WindowNest) -> Counts {
    let of = |d: usize| (0..w.axes[d].out).map(|i| w.reduce.count(&w.axes[d], i)).collect::<Vec<_>>();
    let (planes, rows) = (of(0), of(1));
    let all: Vec<_> = planes.iter().flat_map(|p| rows.iter().map(move |r| p * r)).collect();
    match all.first() {
        Some(&first) if all.iter().any(|&c| c != first) => Counts::Rows(all),
        first => Counts::Same(first.copied().unwrap_or(1)),
    }
}

/// Builds the kernel.
pub fn window(problem: &WindowNest, isa: &Isa) -> BuiltWindow {
    if planes::takes(problem) {
        let built = planes::build(problem, isa);
        return BuiltWindow { kernel: built.kernel.rounding_on(isa), ..built };
    }
    let w = &problem.arranged();
    let lanes = isa.lanes();
    let [planes, rows] = [w.axes[0].out, w.axes[1].out];
    let blocks = Blocks::choose(w, lanes);
    let mut kernel = Kernel::new(w.name(), (w.batch * blocks.row_blocks * blocks.channel_blocks) as u64);
    let src = kernel.buf("src", w.src.bytes, Access::Read);
    let taps = w.axes.iter().map(|a| a.kernel).product::<usize>();
    let weights = (w.reduce == WindowReduce::Dot).then(|| kernel.buf("weights", 4 * taps * w.channels, Access::Read));
    let (same, table) = match row_counts(w) {
        Counts::Same(count) => (Some(count), None),
        Counts::Rows(counts) => (None, Some(counts.iter().flat_map(|&c| (1.0 / c as f32).to_le_bytes()).collect())),
    };
    let table: Option<Vec<u8>> = table;
    let scales = table.as_ref().map(|t| kernel.buf("scales", t.len(), Access::Read));
    let operands =
        w.operands.iter().enumerate().map(|(i, o)| kernel.buf(format!("x{i}"), o.bytes, Access::Read)).collect();
    let element = w.dst.mem.bytes() as usize;
    let whole = element * w.batch * planes * rows * w.axes[2].out * w.channels == w.dst.bytes;
    let dst = kernel.buf("dst", w.dst.bytes, if whole { Access::Write } else { Access::ReadWrite });
    let [image, r0, c0, row, plane, line] = [(); 6].map(|()| kernel.var());
    let unrolled = taps * COLUMNS <= 2 * UNROLLED;
    let nest =
        Nest { w, lanes, src, weights, scales, same, operands, dst, image, c0, row, plane, line, blocks, unrolled };
    let mut body = vec![let_(plane, Ix::var(row) / rows as i64), let_(line, Ix::var(row) % rows as i64)];
    body.extend(nest.row(&mut kernel));
    let (rows_of_task, channels_of_task) = (nest.blocks.rows, nest.blocks.channels);
    let (row_blocks, channel_blocks) = (nest.blocks.row_blocks as i64, nest.blocks.channel_blocks as i64);
    kernel.body = vec![
        let_(image, Ix::var(TASK) / (row_blocks * channel_blocks)),
        let_(r0, Ix::var(TASK) / channel_blocks % row_blocks * rows_of_task as i64),
        let_(c0, Ix::var(TASK) % channel_blocks * channels_of_task as i64),
        for_loop(row, r0, (Ix::var(r0) + rows_of_task).min(planes * rows), body),
    ];
    BuiltWindow { kernel: kernel.rounding_on(isa), table }
}

/// How the work is cut into tasks.
struct Blocks {
    rows: usize,
    row_blocks: usize,
    channels: usize,
    channel_blocks: usize,
}

impl Blocks {
    /// Rows first, so that channels stay together; channels in pieces of several cache lines.
    fn choose(w: &WindowNest, lanes: usize) -> Blocks {
        let rows = w.axes[0].out * w.axes[1].out;
        let tasks = w.tasks().div_ceil(w.batch.max(1));
        let rows_of_task = rows.div_ceil(tasks).max(1);
        let row_blocks = rows.div_ceil(rows_of_task);
        let wanted = tasks.div_ceil(row_blocks.max(1)).min(w.channels / (16 * lanes)).max(1);
        let channels = w.channels.div_ceil(wanted).next_multiple_of(4 * lanes);
        Blocks { rows: rows_of_task, row_blocks, channels, channel_blocks: w.channels.div_ceil(channels) }
    }
}

/// What a call of a tile needs to know.
struct Nest<'a> {
    w: &'a WindowNest,
    lanes: usize,
    src: Base,
    weights: Option<Base>,
    scales: Option<Base>,
    same: Option<usize>,
    operands: Vec<Base>,
    dst: Base,
    image: Var,
    c0: Var,
    row: Var,
    plane: Var,
    line: Var,
    blocks: Blocks,
    unrolled: bool,
}

/// The existing rows (or planes) of the window over one output.
#[derive(Clone)]
struct Clip {
    first: Ix,
    count: Ix,
}

impl Nest<'_> {
    /// One row of the result.
    fn row(&self, kernel: &mut Kernel) -> Vec<Stmt> {
        let axes = self.w.axes;
        let whole = [0, 1].map(|d: usize| Clip { first: 0.into(), count: axes[d].kernel.into() });
        if axes[0].inside() && axes[1].inside() {
            return self.columns(kernel, &whole, self.unrolled);
        }
        let (mut stmts, mut clips) = (Vec::new(), whole.clone());
        for (d, of) in [(0, self.plane), (1, self.line)] {
            if axes[d].inside() {
                continue;
            }
            let [first, end] = [(); 2].map(|()| kernel.var());
            let taps = |limit: usize| {
                let limit = (Ix::from(limit) - Ix::var(of) * axes[d].stride as i64).max(0);
                ((limit + (axes[d].dilation - 1)) / axes[d].dilation as i64).min(axes[d].kernel)
            };
            stmts.push(let_(first, taps(axes[d].pads[0])));
            stmts.push(let_(end, taps(axes[d].pads[0] + axes[d].size).max(first)));
            clips[d] = Clip { first: first.into(), count: Ix::var(end) - first };
        }
        let clipped = self.columns(kernel, &clips, false);
        if !self.unrolled {
            stmts.extend(clipped);
            return stmts;
        }
        let whole = self.columns(kernel, &whole, true);
        let all = clips[0].count.clone() + clips[1].count.clone();
        let b = (axes[0].kernel + axes[1].kernel).into();
        stmts.push(Stmt::If { a: all, rel: Rel::Eq, b, then: whole, otherwise: clipped });
        stmts
    }

    /// All tiles of a row.
    fn columns(&self, kernel: &mut Kernel, clips: &[Clip; 2], unrolled: bool) -> Vec<Stmt> {
        let mut stmts = Vec::new();
        for run in runs(self.w) {
            stmts.extend(self.channels(kernel, &run, clips, unrolled));
        }
        stmts
    }

    /// The tiles of a run, for all channels of the task.
    fn channels(&self, kernel: &mut Kernel, run: &Run, clips: &[Clip; 2], unrolled: bool) -> Vec<Stmt> {
        let (columns, tiles, at) = (&run.columns[..], run.tiles, Ix::from(run.first));
        let (lanes, channels) = (self.lanes, self.w.channels);
        let (whole, tail) = (channels / lanes * lanes, channels % lanes);
        let mut place = |lanes: usize, vectors: usize, channel: Ix, turns: Option<Ix>| {
            let spec = WindowTile { window: self.w, columns, lanes, unrolled, rows: self.same, vectors, tiles };
            let tile = kernel.tile(build(&spec, self.lanes));
            let mut counts: Vec<Ix> = turns.into_iter().collect();
            if !unrolled {
                counts.extend(clips.iter().map(|c| c.count.clone()));
            }
            call_counts(tile, self.ptrs(&at, channel, clips), counts)
        };
        let c0 = Ix::var(self.c0);
        let mut stmts = Vec::new();
        // Few columns are few independent sums: more vectors of channels at once make up for them.
        let vectors = (COLUMNS / 2 / columns.len()).min(whole / lanes).max(1);
        if whole > 0 {
            let count = (c0.clone() + self.blocks.channels).min(whole) - c0.clone();
            let by = (vectors * lanes) as i64;
            stmts.push(place(lanes, vectors, c0.clone(), Some(count.clone() / by)));
            if vectors > 1 {
                let done = count.clone() / by * by;
                stmts.push(place(lanes, 1, c0.clone() + done.clone(), Some((count - done) / lanes as i64)));
            }
        }
        if tail > 0 {
            let last = place(tail, 1, whole.into(), None);
            let end = c0 + self.blocks.channels;
            stmts.push(Stmt::If { a: end, rel: Rel::Ge, b: channels.into(), then: vec![last], otherwise: vec![] });
        }
        stmts
    }

    /// The pointers of a call.
    fn ptrs(&self, at: &Ix, channel: Ix, clips: &[Clip; 2]) -> Vec<Addr> {
        let axes = self.w.axes;
        let [n, d, h, c, ch] = self.w.src.strides;
        let start = |axis: usize, out: Ix| out * axes[axis].stride as i64 - axes[axis].pads[0];
        let tap = |axis: usize| clips[axis].first.clone() * axes[axis].dilation as i64;
        let src = Ix::var(self.image) * n
            + (start(0, self.plane.into()) + tap(0)) * d
            + (start(1, self.line.into()) + tap(1)) * h
            + start(2, at.clone()) * c
            + channel.clone() * ch
            + self.w.src.offset;
        let mut ptrs = vec![self.src.at(src)];
        if let Some(weights) = self.weights {
            let row = clips[0].first.clone() * axes[1].kernel as i64 + clips[1].first.clone();
            ptrs.push(weights.at(row * (4 * axes[2].kernel * self.w.channels) as i64 + channel.clone() * 4));
        }
        ptrs.extend(self.scales.map(|scales| scales.at(Ix::var(self.row) * 4)));
        let view = |offset: i64, [n, d, h, c, ch]: [i64; 5]| {
            Ix::var(self.image) * n
                + Ix::var(self.plane) * d
                + Ix::var(self.line) * h
                + at.clone() * c
                + channel.clone() * ch
                + offset
        };
        for (base, o) in self.operands.iter().zip(&self.w.operands) {
            ptrs.push(base.at(view(o.offset, o.strides)));
        }
        ptrs.push(self.dst.at(view(self.w.dst.offset, self.w.dst.strides)));
        ptrs
    }
}
