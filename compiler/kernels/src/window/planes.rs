//! Depthwise convolution of images that have their pixels side by side: vectors lie along the columns.
//!
//! ```text
//! task = (image, block of channels)
//! for block of rows { for channel { for vector of columns { all taps of all rows in registers; store } } }
//! ```
//!
//! A tile has a few rows of the result, so that a vector of the source is used for all rows whose windows it is in.
//! What the padding takes away is known when a tile is built: rows by their own tiles, columns by loads of fewer lanes
//! and shifts at the edges. With a stride of two, two loads and a shuffle give the pixels under a tap.

use std::collections::HashMap;
use std::ops::Range;

use optc_kernel::nest::{Access, Base, Ix, Kernel, TASK, call_counts, for_loop, let_};
use optc_kernel::target::Isa;
use optc_kernel::tile::{Count, Elem, MemType, Ptr, Reg, Tile, TileBuilder, Unary};

use super::{BuiltWindow, ImageView, WindowNest};

/// With more taps than this, which are unrolled, a tile is too long.
pub const MOST_PLANE_TAPS: usize = 49;
/// Rows of a tile for each stride along them; with the weights and the pixels they fit sixteen registers.
const ROWS: usize = 4;
/// With more taps than this the weights do not stay in registers.
const HELD_WEIGHTS: usize = 9;
/// Vectors of a row that are unrolled; more of them are a loop.
const UNROLLED: usize = 4;
/// Multiply-adds of a tile's turn that are unrolled at most.
const MAX_UNROLLED: usize = 512;

/// Whether this schedule takes a problem: pixels of source and result are consecutive, channels are not, and the taps
/// are few.
pub(super) fn takes(w: &WindowNest) -> bool {
    let [d, h, x] = w.axes;
    let pixels = |v: &ImageView| v.strides[3] == v.mem.bytes() && v.strides[4] != v.mem.bytes();
    let taps = h.kernel * x.kernel;
    w.reduce == super::WindowReduce::Dot
        && d == super::Axis::NONE
        && pixels(&w.src)
        && pixels(&w.dst)
        && taps <= MOST_PLANE_TAPS
}

/// Equal blocks of rows next to each other.
struct Run {
    /// The first row of the first block.
    first: usize,
    blocks: usize,
    /// The taps of each row that are in the image.
    rows: Vec<Range<usize>>,
}

fn runs(w: &WindowNest) -> Vec<Run> {
    let axis = w.axes[1];
    let most = MAX_UNROLLED / (UNROLLED * axis.kernel * w.axes[2].kernel);
    let height = (ROWS / axis.stride.min(ROWS)).clamp(1, most.max(1));
    let mut runs: Vec<Run> = Vec::new();
    for first in (0..axis.out).step_by(height) {
        let rows: Vec<_> = (first..axis.out.min(first + height)).map(|y| axis.taps(y)).collect();
        match runs.last_mut() {
            Some(run) if run.rows == rows => run.blocks += 1,
            _ => runs.push(Run { first, blocks: 1, rows }),
        }
    }
    runs
}

/// Builds the kernel; its buffers are those of every window.
pub(super) fn build(w: &WindowNest, isa: &Isa) -> BuiltWindow {
    let lanes = isa.lanes();
    let tasks = w.tasks().div_ceil(w.batch.max(1)).min(w.channels).max(1);
    let channels = w.channels.div_ceil(tasks);
    let channel_blocks = w.channels.div_ceil(channels);
    let mut kernel = Kernel::new(w.name(), (w.batch * channel_blocks) as u64);
    let taps = w.axes[1].kernel * w.axes[2].kernel;
    let src = kernel.buf("src", w.src.bytes, Access::Read);
    let weights = kernel.buf("weights", 4 * taps * w.channels, Access::Read);
    let operands: Vec<Base> =
        w.operands.iter().enumerate().map(|(i, o)| kernel.buf(format!("x{i}"), o.bytes, Access::Read)).collect();
    let whole = w.dst.mem.bytes() as usize * w.batch * w.axes[1].out * w.axes[2].out * w.channels == w.dst.bytes;
    let dst = kernel.buf("dst", w.dst.bytes, if whole { Access::Write } else { Access::ReadWrite });
    let [image, c0, count] = [(); 3].map(|()| kernel.var());
    let mut body = vec![
        let_(image, Ix::var(TASK) / channel_blocks as i64),
        let_(c0, Ix::var(TASK) % channel_blocks as i64 * channels as i64),
        let_(count, (Ix::from(w.channels) - c0).min(channels)),
    ];
    for run in runs(w) {
        let tile = kernel.tile(tile(w, lanes, &run.rows));
        let block = kernel.var();
        let y = Ix::var(block) * run.rows.len() as i64 + run.first;
        let at = |v: &ImageView, y: Ix| {
            Ix::var(image) * v.strides[0] + y * v.strides[2] + Ix::var(c0) * v.strides[4] + v.offset
        };
        let first = y.clone() * w.axes[1].stride as i64 - w.axes[1].pads[0];
        let mut ptrs = vec![src.at(at(&w.src, first)), weights.at(Ix::var(c0) * 4)];
        ptrs.extend(operands.iter().zip(&w.operands).map(|(base, o)| base.at(at(o, y.clone()))));
        ptrs.push(dst.at(at(&w.dst, y)));
        let call = call_counts(tile, ptrs, [count.into()]);
        body.push(for_loop(block, 0, run.blocks, vec![call]));
    }
    kernel.body = body;
    BuiltWindow { kernel, table: None }
}

/// One tile: rows with these taps, all columns, for as many channels as its count says. Pointers: the first row under
/// the first tap (be it in the padding) and the first column of the image, the weights, the operands, the result.
fn tile(w: &WindowNest, lanes: usize, rows: &[Range<usize>]) -> Tile {
    let numbers = match w.src.mem {
        MemType::F32 => "f32",
        MemType::Bf16 => "bf16",
        MemType::F16 => "f16",
        _ => "i8",
    };
    let mut b = TileBuilder::new(format!("depthwise_planes_{numbers}_{}", rows.len()), lanes);
    let (src, weights) = (b.ptr(), b.ptr());
    let operands: Vec<Ptr> = w.operands.iter().map(|_| b.ptr()).collect();
    let dst = b.ptr();
    let count = b.count();
    let mut advance = vec![(src, w.src.strides[4]), (weights, 4), (dst, w.dst.strides[4])];
    advance.extend(operands.iter().zip(&w.operands).map(|(&p, o)| (p, o.strides[4])));
    b.for_each(count, &advance, &[], |b, p, _| {
        let turn = Turn { w, lanes, rows, weights: p[1] };
        let held = turn.held(b);
        turn.columns(b, &held, Ptrs { src: p[0], dst: p[2], operands: p[3..].to_vec() });
        vec![]
    });
    b.finish()
}

/// Where the first column of a row is.
#[derive(Clone)]
struct Ptrs {
    src: Ptr,
    dst: Ptr,
    operands: Vec<Ptr>,
}

/// One channel of a tile.
struct Turn<'a> {
    w: &'a WindowNest,
    lanes: usize,
    rows: &'a [Range<usize>],
    weights: Ptr,
}

/// A vector of the result: its first column, its columns, and the column at which the pointers stand.
#[derive(Clone, Copy)]
struct Vector {
    first: usize,
    n: usize,
    origin: usize,
}

impl Turn<'_> {
    /// The weights in registers, if they are few.
    fn held(&self, b: &mut TileBuilder) -> Vec<Reg> {
        let taps = self.w.axes[1].kernel * self.w.axes[2].kernel;
        let held = if taps <= HELD_WEIGHTS { taps } else { 0 };
        (0..held).map(|tap| self.weight(b, tap)).collect()
    }

    fn weight(&self, b: &mut TileBuilder, tap: usize) -> Reg {
        b.broadcast(MemType::F32, self.weights, 4 * (tap * self.w.channels) as i64)
    }

    /// All vectors of the rows: those at the edges on their own, a long middle as a loop.
    fn columns(&self, b: &mut TileBuilder, held: &[Reg], p: Ptrs) {
        let (out, lanes) = (self.w.axes[2].out, self.lanes);
        let firsts: Vec<usize> = (0..out).step_by(lanes).collect();
        let inner: Vec<usize> = firsts.iter().copied().filter(|&f| self.is_inner(f)).collect();
        let looped = if inner.len() > UNROLLED { inner } else { Vec::new() };
        for &first in firsts.iter().filter(|f| !looped.contains(f)) {
            // A last vector that is not full begins earlier, over columns of the one before.
            let (first, n) = if out >= lanes { (first.min(out - lanes), lanes) } else { (first, out) };
            self.vector(b, held, &p, Vector { first, n, origin: 0 });
        }
        let Some(&start) = looped.first() else { return };
        let stride = self.w.axes[2].stride;
        let along = |strides: &[i64; 5], by: usize| by as i64 * strides[3];
        let src = b.offset(p.src, along(&self.w.src.strides, start * stride));
        let mut advance = vec![(src, along(&self.w.src.strides, lanes * stride))];
        let others = p.operands.iter().zip(&self.w.operands).map(|(&q, o)| (q, o.strides));
        for (q, strides) in [(p.dst, self.w.dst.strides)].into_iter().chain(others) {
            let q = b.offset(q, along(&strides, start));
            advance.push((q, along(&strides, lanes)));
        }
        let turns = Count::Static(looped.len() as u32);
        b.for_each(turns, &advance, &[], |b, q, _| {
            let p = Ptrs { src: q[0], dst: q[1], operands: q[2..].to_vec() };
            self.vector(b, held, &p, Vector { first: start, n: lanes, origin: start });
            vec![]
        });
    }

    /// Whether the vector from column `first` on is full, and everything it loads is in the row.
    fn is_inner(&self, first: usize) -> bool {
        let axis = self.w.axes[2];
        let start = (first * axis.stride).checked_sub(axis.pads[0]);
        let reach = (axis.kernel - 1) * axis.dilation + axis.stride * self.lanes;
        first + self.lanes <= axis.out && start.is_some_and(|s| s + reach <= axis.size)
    }

    /// One vector of each row.
    fn vector(&self, b: &mut TileBuilder, held: &[Reg], p: &Ptrs, v: Vector) {
        let [_, h, x] = self.w.axes;
        let zero = b.f32(0.0);
        let mut acc = vec![zero; self.rows.len()];
        let lines = (self.rows.len() - 1) * h.stride + (h.kernel - 1) * h.dilation;
        for line in 0..=lines {
            // Rows of the result and taps that meet in this line of the source.
            let meets = |row: usize| {
                let tap = line.checked_sub(row * h.stride).filter(|t| t % h.dilation == 0)? / h.dilation;
                self.rows[row].contains(&tap).then_some((row, tap))
            };
            let met: Vec<_> = (0..self.rows.len()).filter_map(meets).collect();
            if met.is_empty() {
                continue;
            }
            let mut source =
                Line { turn: self, p: p.src, disp: line as i64 * self.w.src.strides[2], v, known: HashMap::new() };
            for tap in 0..x.kernel {
                let Some(pixels) = source.pixels(b, tap) else { continue };
                for &(row, line_tap) in &met {
                    let tap = line_tap * x.kernel + tap;
                    let weight = held.get(tap).copied().unwrap_or_else(|| self.weight(b, tap));
                    acc[row] = b.fma(pixels, weight, acc[row]);
                }
            }
        }
        for (row, &sum) in acc.iter().enumerate() {
            self.store(b, p, v, row, sum);
        }
    }

    /// Applies the epilogue to a vector of row `row`, and stores it.
    fn store(&self, b: &mut TileBuilder, p: &Ptrs, v: Vector, row: usize, sum: Reg) {
        let at = |s: &[i64; 5]| row as i64 * s[2] + (v.first - v.origin) as i64 * s[3];
        let result = self.w.epilogue.emit(b, &mut |b, i| {
            let Some(i) = i.checked_sub(1) else { return sum };
            let ImageView { mem, strides, .. } = &self.w.operands[i];
            b.load_along(*mem, p.operands[i], at(strides), v.n, strides[3])
        });
        b.store_n(self.w.dst.mem, p.dst, at(&self.w.dst.strides), v.n, result);
    }
}

/// A line of the source under a vector of the result, and what has been loaded of it.
struct Line<'a> {
    turn: &'a Turn<'a>,
    p: Ptr,
    disp: i64,
    v: Vector,
    known: HashMap<i64, Option<Reg>>,
}

impl Line<'_> {
    /// The pixels under tap `tap`, one a lane; `None` where all are in the padding.
    fn pixels(&mut self, b: &mut TileBuilder, tap: usize) -> Option<Reg> {
        let axis = self.turn.w.axes[2];
        let lanes = self.turn.lanes as i64;
        let start = (self.v.first * axis.stride) as i64 - axis.pads[0] as i64;
        let first = start + (tap * axis.dilation) as i64;
        match axis.stride {
            1 => self.consecutive(b, first),
            2 => {
                // Both parities of two consecutive vectors are used.
                let odd = (first - start) & 1;
                let low = self.consecutive(b, first - odd);
                let high = self.consecutive(b, first - odd + lanes);
                if low.is_none() && high.is_none() {
                    return None;
                }
                let zero = b.f32(0.0);
                let pick: Vec<u8> = (0..lanes).map(|i| (2 * i + odd) as u8).collect();
                Some(b.permute(low.unwrap_or(zero), high.unwrap_or(zero), &pick))
            }
            stride => self.strided(b, first, stride as i64),
        }
    }

    /// The lanes whose columns `first + lane * stride` exist.
    fn existing(&self, first: i64, stride: i64) -> Range<i64> {
        let lanes = self.turn.lanes as i64;
        let up_to = |end: i64| ((end - first + stride - 1).max(0) / stride).min(lanes);
        up_to(0)..up_to(self.turn.w.axes[2].size as i64)
    }

    /// A vector of the columns from `first` on, zeros outside of the row.
    fn consecutive(&mut self, b: &mut TileBuilder, first: i64) -> Option<Reg> {
        if let Some(&known) = self.known.get(&first) {
            return known;
        }
        let loaded = self.strided(b, first, 1);
        self.known.insert(first, loaded);
        loaded
    }

    fn strided(&self, b: &mut TileBuilder, first: i64, stride: i64) -> Option<Reg> {
        let lanes = self.existing(first, stride);
        let n = (lanes.end - lanes.start).max(0);
        if n == 0 {
            return None;
        }
        let origin = (self.v.origin * self.turn.w.axes[2].stride) as i64;
        let src = &self.turn.w.src;
        let element = src.mem.bytes();
        let disp = self.disp + element * (first + lanes.start * stride - origin);
        let x = b.load_along(src.mem, self.p, disp, n as usize, element * stride);
        let x = if src.mem.elem() == Elem::F32 { x } else { self.floats(b, x, n as usize) };
        if lanes.start == 0 {
            return Some(x);
        }
        // Lanes after the loaded ones are zero already; those before come from a vector of zeros.
        let zero = b.f32(0.0);
        let all = self.turn.lanes as i64;
        let shift: Vec<u8> = (0..all).map(|i| if i < lanes.start { all } else { i - lanes.start } as u8).collect();
        Some(b.permute(x, zero, &shift))
    }

    /// Integers without their zero point, as floats; zeros stay in the lanes after the first `n`.
    fn floats(&self, b: &mut TileBuilder, x: Reg, n: usize) -> Reg {
        let zero = self.turn.w.src_zero;
        if zero == 0 {
            return b.unary(Unary::ToFloat, x);
        }
        let zeros = b.i32(zero);
        let mut x = b.sub(x, zeros);
        if n < self.turn.lanes {
            let (none, all) = (b.i32(0), self.turn.lanes);
            let kept: Vec<u8> = (0..all).map(|i| if i < n { i } else { all } as u8).collect();
            x = b.permute(x, none, &kept);
        }
        b.unary(Unary::ToFloat, x)
    }
}
