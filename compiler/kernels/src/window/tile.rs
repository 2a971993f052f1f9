//! The tiles: the taps of a few columns in registers, for all vectors of a block of channels.

use std::ops::Range;

use optc_kernel::tile::{Binary, Count, Elem, MemType, Ptr, Reg, Tile, TileBuilder, Unary};

use super::{ImageView, WindowNest, WindowReduce};

/// With more taps in a row than this, the weights of a row do not stay in registers along with the sums.
const HELD_WEIGHTS: usize = 5;

/// One column of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// Existing taps.
    pub taps: Range<usize>,
    /// Those that a mean's divisor counts.
    pub count: usize,
}

/// What a tile does.
pub(super) struct WindowTile<'a> {
    pub window: &'a WindowNest,
    pub columns: &'a [Column],
    /// Channels: a whole vector again and again, or the last few once.
    pub lanes: usize,
    /// Whether all rows of the window are unrolled; else their numbers are parameters.
    pub unrolled: bool,
    /// The planes and rows that a mean's divisor counts, if they are not in the table.
    pub rows: Option<usize>,
    /// Vectors of channels in one turn.
    pub vectors: usize,
    /// Tiles next to each other.
    pub tiles: usize,
}

/// The pointers of a turn.
struct Ptrs {
    src: Ptr,
    weights: Option<Ptr>,
    operands: Vec<Ptr>,
    dst: Ptr,
    table: Option<Ptr>,
}

/// Builds the tile. Pointers: the first existing row of the window over the first column (where its first tap is, be it
/// in the padding), the weights of that row, the table's entry, the operands, the result. Counts: turns of `vectors`
/// vectors (whole ones only), then existing planes and rows of the window (if not unrolled).
pub(super) fn build(spec: &WindowTile, full_lanes: usize) -> Tile {
    let w = spec.window;
    let mut b = TileBuilder::new(format!("{}_{}", w.name(), spec.columns.len()), full_lanes);
    let src = b.ptr();
    let weights = (w.reduce == WindowReduce::Dot).then(|| b.ptr());
    let table = spec.rows.is_none().then(|| b.ptr());
    let operands: Vec<Ptr> = w.operands.iter().map(|_| b.ptr()).collect();
    let dst = b.ptr();
    let turns = (spec.lanes == full_lanes).then(|| b.count());
    let counts = (!spec.unrolled).then(|| [b.count(), b.count()]);
    let ptrs = Ptrs { src, weights, operands, dst, table };
    let beside = spec.columns.len() as i64;
    let columns = spec.steps(w.axes[2].stride as i64 * beside * w.src.strides[3], |v| beside * v.strides[3], 0);
    let by = (spec.vectors * full_lanes) as i64;
    let channels = spec.steps(by * w.src.strides[4], |v| by * v.strides[4], 4 * by);
    let all_channels = |b: &mut TileBuilder, ptrs: &Ptrs| match turns {
        Some(turns) => ptrs.each(b, turns, &channels, |b, ptrs| turn(b, spec, ptrs, counts)),
        None => turn(b, spec, ptrs, counts),
    };
    match spec.tiles {
        1 => all_channels(&mut b, &ptrs),
        tiles => ptrs.each(&mut b, Count::Static(tiles as u32), &columns, all_channels),
    }
    b.finish()
}

/// Bytes that the pointers of a turn are further in the next one.
struct Steps {
    src: i64,
    weights: i64,
    operands: Vec<i64>,
    dst: i64,
}

impl WindowTile<'_> {
    /// The steps of a loop: of the source, of the views of the result and the operands, and of the weights.
    fn steps(&self, src: i64, of: impl Fn(&ImageView) -> i64, weights: i64) -> Steps {
        Steps { src, weights, operands: self.window.operands.iter().map(&of).collect(), dst: of(&self.window.dst) }
    }
}

impl Ptrs {
    /// A loop over turns; what does not move is not a pointer of the loop.
    fn each(&self, b: &mut TileBuilder, count: Count, by: &Steps, turn: impl FnOnce(&mut TileBuilder, &Ptrs)) {
        let mut all = vec![(self.src, by.src), (self.dst, by.dst)];
        all.extend(self.weights.map(|w| (w, by.weights)));
        all.extend(self.operands.iter().copied().zip(by.operands.iter().copied()));
        let moving: Vec<_> = all.iter().copied().filter(|&(_, by)| by != 0).collect();
        b.for_each(count, &moving, &[], |b, q, _| {
            let mut moved = q.iter();
            let mut now: Vec<Ptr> =
                all.iter().map(|&(p, by)| if by == 0 { p } else { moved.next().copied().unwrap_or(p) }).collect();
            let operands = now.split_off(now.len() - self.operands.len());
            let weights = self.weights.map(|_| now[2]);
            turn(b, &Ptrs { src: now[0], dst: now[1], weights, operands, table: self.table });
            vec![]
        });
    }
}

/// One vector of channels (or several) of all columns.
fn turn(b: &mut TileBuilder, spec: &WindowTile, p: &Ptrs, counts: Option<[Count; 2]>) {
    let w = spec.window;
    let start = match (w.reduce, w.src.mem) {
        (WindowReduce::Max, MemType::F32 | MemType::Bf16 | MemType::F16) => b.f32(f32::NEG_INFINITY),
        (WindowReduce::Max, MemType::I16) => b.i32(i32::from(i16::MIN)),
        (WindowReduce::Max, MemType::I8) => b.i32(i32::from(i8::MIN)),
        (WindowReduce::Max, _) => b.i32(0),
        _ => b.f32(0.0),
    };
    let mut acc = vec![start; spec.columns.len() * spec.vectors];
    let step = |axis: usize| w.axes[axis].dilation as i64 * w.src.strides[axis + 1];
    let row_weights = (4 * w.channels * w.axes[2].kernel) as i64;
    let plane_weights = row_weights * w.axes[1].kernel as i64;
    let Some([planes, rows]) = counts else {
        for d in 0..w.axes[0].kernel as i64 {
            for h in 0..w.axes[1].kernel as i64 {
                let src = (p.src, d * step(0) + h * step(1));
                let weights = p.weights.map(|p| (p, d * plane_weights + h * row_weights));
                (0..spec.vectors).for_each(|v| spec.row(b, src, weights, v, &mut acc));
            }
        }
        return spec.finish(b, p, &acc);
    };
    let over = |src: Ptr, src_step: i64, weights: Option<Ptr>, weights_step: i64| {
        let mut advance = vec![(src, src_step)];
        advance.extend(weights.map(|w| (w, weights_step)));
        advance
    };
    let row_loop = |b: &mut TileBuilder, src: Ptr, weights: Option<Ptr>, acc: &[Reg]| {
        b.for_each(rows, &over(src, step(1), weights, row_weights), acc, |b, q, acc| {
            let mut acc = acc.to_vec();
            let weights = weights.map(|_| (q[1], 0));
            (0..spec.vectors).for_each(|v| spec.row(b, (q[0], 0), weights, v, &mut acc));
            acc
        })
    };
    let acc = if w.axes[0].kernel == 1 && w.axes[0].inside() {
        row_loop(b, p.src, p.weights, &acc)
    } else {
        b.for_each(planes, &over(p.src, step(0), p.weights, plane_weights), &acc, |b, q, acc| {
            row_loop(b, q[0], p.weights.map(|_| q[1]), acc)
        })
    };
    spec.finish(b, p, &acc);
}

impl WindowTile<'_> {
    /// Adds one row of the window to the sums of vector `v`.
    fn row(&self, b: &mut TileBuilder, src: (Ptr, i64), weights: Option<(Ptr, i64)>, v: usize, acc: &mut [Reg]) {
        let axis = self.window.axes[2];
        let acc = &mut acc[v * self.columns.len()..][..self.columns.len()];
        let column = |p: usize, tap: usize| p * axis.stride + tap * axis.dilation;
        match weights {
            Some(weights) if axis.kernel > HELD_WEIGHTS => {
                for tap in 0..axis.kernel {
                    let mut weight = None;
                    for p in (0..self.columns.len()).filter(|&p| self.columns[p].taps.contains(&tap)) {
                        let x = self.pixel(b, src, v, column(p, tap));
                        let weight = *weight.get_or_insert_with(|| self.weight(b, weights, v, tap));
                        acc[p] = b.fma(x, weight, acc[p]);
                    }
                }
            }
            _ => {
                let mut held = vec![None; axis.kernel];
                for at in 0..=column(self.columns.len() - 1, axis.kernel - 1) {
                    let mut x = None;
                    // Later columns of the window first: their tap 0 begins with this pixel.
                    for tap in (0..axis.kernel).rev() {
                        let Some(from) = at.checked_sub(tap * axis.dilation) else { continue };
                        let p = from / axis.stride;
                        if from % axis.stride != 0 || !self.columns.get(p).is_some_and(|c| c.taps.contains(&tap)) {
                            continue;
                        }
                        let x = *x.get_or_insert_with(|| self.pixel(b, src, v, at));
                        acc[p] = match weights {
                            Some(from) => {
                                let w = *held[tap].get_or_insert_with(|| self.weight(b, from, v, tap));
                                b.fma(x, w, acc[p])
                            }
                            None if self.window.reduce == WindowReduce::Max => max(b, acc[p], x),
                            None => b.add(acc[p], x),
                        };
                    }
                }
            }
        }
    }

    fn pixel(&self, b: &mut TileBuilder, (ptr, disp): (Ptr, i64), v: usize, column: usize) -> Reg {
        let [.., column_stride, stride] = self.window.src.strides;
        let disp = disp + column as i64 * column_stride + (v * self.lanes) as i64 * stride;
        let x = b.load_along(self.window.src.mem, ptr, disp, self.lanes, stride);
        if self.window.src.mem.elem() == Elem::F32 || self.window.reduce == WindowReduce::Max {
            return x;
        }
        let x = b.unary(Unary::ToFloat, x);
        if self.window.src_zero == 0 {
            return x;
        }
        let zero = b.f32(self.window.src_zero as f32);
        b.sub(x, zero)
    }

    fn weight(&self, b: &mut TileBuilder, (ptr, disp): (Ptr, i64), v: usize, tap: usize) -> Reg {
        let disp = disp + (4 * (tap * self.window.channels + v * self.lanes)) as i64;
        b.load_n(MemType::F32, ptr, disp, self.lanes)
    }

    /// Scales the sums of a mean, applies the epilogue and stores.
    fn finish(&self, b: &mut TileBuilder, p: &Ptrs, acc: &[Reg]) {
        let w = self.window;
        let row_scale = p.table.map(|table| b.broadcast(MemType::F32, table, 0));
        for v in 0..self.vectors {
            let mut known = vec![None; w.operands.len()];
            for (i, column) in self.columns.iter().enumerate() {
                let sum = acc[v * self.columns.len() + i];
                let value = self.scaled(b, sum, row_scale, column.count);
                let at = |strides: [i64; 5]| i as i64 * strides[3] + (v * self.lanes) as i64 * strides[4];
                let result = w.epilogue.emit(b, &mut |b, operand| {
                    let Some(operand) = operand.checked_sub(1) else { return value };
                    let strides = w.operands[operand].strides;
                    if let (0, Some(reg)) = (strides[3], known[operand]) {
                        return reg;
                    }
                    let view = w.operands[operand];
                    let reg = b.load_along(view.mem, p.operands[operand], at(strides), self.lanes, strides[4]);
                    known[operand] = Some(reg);
                    reg
                });
                b.store_strided(w.dst.mem, p.dst, at(w.dst.strides), self.lanes, w.dst.strides[4], result);
            }
        }
    }

    /// A mean of its sum; a reciprocal is at most one rounding worse than a division.
    fn scaled(&self, b: &mut TileBuilder, sum: Reg, row_scale: Option<Reg>, count: usize) -> Reg {
        if !matches!(self.window.reduce, WindowReduce::Mean { .. }) {
            return sum;
        }
        let scale = b.f32(1.0 / (count * self.rows.unwrap_or(1)) as f32);
        let scale = row_scale.map_or(scale, |row| b.mul(row, scale));
        b.mul(sum, scale)
    }
}

/// The larger, NaN if either is: both orders agree but for a NaN, where one of them gives it and the other does not.
fn max(b: &mut TileBuilder, x: Reg, y: Reg) -> Reg {
    if b.elem(x) == Elem::I32 {
        return b.max(x, y);
    }
    let (xy, yx) = (b.max(x, y), b.max(y, x));
    let (xy, yx) = (b.unary(Unary::AsInt, xy), b.unary(Unary::AsInt, yx));
    let both = b.binary(Binary::Or, xy, yx);
    b.unary(Unary::AsFloat, both)
}
