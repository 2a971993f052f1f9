//! The micro-kernel: sums of `pixels` by `cols` results in registers over all taps, then the epilogue.

use optc_kernel::target::Isa;
use optc_kernel::tile::{Binary, Count, MemType, Ptr, Reg, Shift, Tile, TileBuilder, Unary};

use super::{Int8Form, NarrowProduct, blocks};
use crate::window::ImageView;

/// Groups of k in one turn of the loop.
const UNROLL: usize = 4;

/// So many pixels are broadcast from memory, once for each vector; the others load several groups at once and broadcast
/// from the register. See the tile of `f32` contractions.
const REPEATED: usize = 1;

/// A tile that makes the matrix registers ready, or releases them.
pub(super) fn matrices(isa: &Isa, ready: bool) -> Tile {
    let mut b = TileBuilder::with_isa(if ready { "configure" } else { "release" }, isa);
    if ready {
        b.mat_configure()
    } else {
        b.mat_release()
    }
    b.finish()
}

/// Builds the tile. Pointers: the first staged pixel, the panel, the operands of the epilogue, the result, and, for
/// matrix registers, the place of the sums.
pub(super) fn build(p: &NarrowProduct, isa: &Isa, row_bytes: usize, nr: usize, pixels: usize, cols: usize) -> Tile {
    let lanes = isa.lanes();
    let mut b = TileBuilder::with_isa(format!("contract_{}_{pixels}x{cols}", p.form.word()), isa);
    let (a, panel) = (b.ptr(), b.ptr());
    let operands: Vec<Ptr> = p.operands.iter().map(|_| b.ptr()).collect();
    let dst = b.ptr();
    if p.form.is_blocked() {
        let sums = b.ptr();
        blocks::build(&mut b, p, (pixels, cols), (row_bytes, nr), &blocks::Pointers { a, panel, operands, dst, sums });
        return b.finish();
    }
    let (rows, taps, k) = p.taps();
    let shape = Shape { pixels, vectors: cols.div_ceil(lanes), nr, form: p.form, k, step: p.pixel_step(pixels) };
    let first = shape.first(&mut b, panel);
    let panel = b.offset(panel, p.pack().head_bytes(nr) as i64);
    let acc: Vec<_> = (0..pixels).flat_map(|_| first.iter().copied()).collect();
    let tap_bytes = p.pack().tap_bytes(nr) as i64;
    let row_step = (p.axes[0].dilation * row_bytes) as i64;
    let tap_step = (p.form.staged_bytes() * p.axes[1].dilation * p.channels) as i64;
    let turns = Count::Static(rows as u32);
    let acc = shape.outer(&mut b, turns, [(a, row_step), (panel, tap_bytes * taps as i64)], &acc, |b, at, acc| {
        let turns = Count::Static(taps as u32);
        shape.outer(b, turns, [(at[0], tap_step), (at[1], tap_bytes)], acc, |b, at, acc| {
            shape.accumulate(b, at[0], at[1], acc)
        })
    });
    epilogue(&mut b, p, &acc, pixels, cols, &operands, dst);
    b.finish()
}

struct Shape {
    pixels: usize,
    vectors: usize,
    nr: usize,
    form: Int8Form,
    /// Elements of a tap.
    k: usize,
    /// Bytes from one pixel to the next.
    step: i64,
}

impl Shape {
    /// What the sums of each vector of columns begin with.
    fn first(&self, b: &mut TileBuilder, panel: Ptr) -> Vec<Reg> {
        let lanes = b.lanes();
        let load = |v: usize| match self.form {
            Int8Form::Pairs => b.i32(0),
            Int8Form::Halves | Int8Form::HalfBlocks | Int8Form::Widened => b.f32(0.0),
            Int8Form::Fours | Int8Form::ByteBlocks => b.load(MemType::I32, panel, (4 * v * lanes) as i64),
        };
        (0..self.vectors).map(load).collect()
    }

    /// A loop over taps; none where there is one turn.
    fn outer(
        &self,
        b: &mut TileBuilder,
        count: Count,
        advance: [(Ptr, i64); 2],
        acc: &[Reg],
        turn: impl FnOnce(&mut TileBuilder, &[Ptr], &[Reg]) -> Vec<Reg>,
    ) -> Vec<Reg> {
        if count == Count::Static(1) {
            return turn(b, &advance.map(|(ptr, _)| ptr), acc);
        }
        b.for_each(count, &advance, acc, turn)
    }

    /// Adds one tap.
    fn accumulate(&self, b: &mut TileBuilder, a: Ptr, panel: Ptr, acc: &[Reg]) -> Vec<Reg> {
        // Sums of integers may read more elements than there are, which meet weights of zero; a NaN would stay one.
        let (group, exact) = (self.form.group(), self.form.is_float());
        let groups = if exact { self.k / group } else { self.k.div_ceil(group) };
        let turns = groups / UNROLL;
        let advance = [(a, UNROLL as i64 * self.group_bytes()), (panel, (4 * UNROLL * self.nr) as i64)];
        let (at, mut acc) = if turns == 0 {
            (vec![a, panel], acc.to_vec())
        } else {
            b.for_each_ptrs(Count::Static(turns as u32), &advance, acc, |b, at, acc| {
                let mut acc = acc.to_vec();
                let whole: Vec<_> = (REPEATED..self.pixels)
                    .map(|r| self.whole(b).then(|| b.load(MemType::F32, at[0], r as i64 * self.step)))
                    .collect();
                (0..UNROLL).for_each(|u| self.group(b, at[0], at[1], u, &whole, &mut acc));
                acc
            })
        };
        let rest = groups % UNROLL;
        (0..rest).for_each(|u| self.group(b, at[0], at[1], u, &[], &mut acc));
        if exact && !self.k.is_multiple_of(group) {
            self.half(b, at[0], at[1], rest, false, &mut acc);
        }
        acc
    }

    /// Bytes of a group of staged elements.
    fn group_bytes(&self) -> i64 {
        (self.form.group() * self.form.staged_bytes()) as i64
    }

    /// Whether the groups of a turn are loaded as one vector.
    fn whole(&self, b: &TileBuilder) -> bool {
        b.lanes() == UNROLL && self.group_bytes() == 4
    }

    /// Adds the products of the upper or the lower elements of group `u`, as `f32`.
    fn half(&self, b: &mut TileBuilder, a: Ptr, panel: Ptr, u: usize, upper: bool, acc: &mut [Reg]) {
        let lanes = b.lanes();
        let of_word = |b: &mut TileBuilder, x: Reg| {
            let x = if upper {
                let mask = b.i32(-0x1_0000);
                b.binary(Binary::And, x, mask)
            } else {
                b.shift(Shift::Left, x, 16)
            };
            b.unary(Unary::AsFloat, x)
        };
        let at = |v: usize| (4 * (u * self.nr + v * lanes)) as i64;
        let columns: Vec<_> = (0..self.vectors)
            .map(|v| {
                let words = b.load(MemType::I32, panel, at(v));
                of_word(b, words)
            })
            .collect();
        for (r, sums) in acc.chunks_mut(self.vectors).enumerate() {
            let at = r as i64 * self.step + u as i64 * self.group_bytes();
            let x = if self.form == Int8Form::Widened {
                b.broadcast(MemType::F32, a, at + 4 * i64::from(upper))
            } else {
                let words = b.broadcast(MemType::I32, a, at);
                of_word(b, words)
            };
            for (sum, &column) in sums.iter_mut().zip(&columns) {
                *sum = b.fma(x, column, *sum);
            }
        }
    }

    /// Adds group `u` of k from where the pointers stand. Broadcasts are of `f32`, whose bits are not looked at: those
    /// fold into one load.
    fn group(&self, b: &mut TileBuilder, a: Ptr, panel: Ptr, u: usize, whole: &[Option<Reg>], acc: &mut [Reg]) {
        if self.form == Int8Form::Widened {
            return [true, false].into_iter().for_each(|upper| self.half(b, a, panel, u, upper, acc));
        }
        let lanes = b.lanes();
        let columns: Vec<_> =
            (0..self.vectors).map(|v| b.load(MemType::I32, panel, (4 * (u * self.nr + v * lanes)) as i64)).collect();
        for r in 0..self.pixels {
            let mut known = None;
            for (v, &column) in columns.iter().enumerate() {
                let x = match known {
                    // A whole vector of groups is as long as the loop is unrolled on narrow vectors alone.
                    Some(x) if r >= REPEATED || lanes != UNROLL => x,
                    _ => {
                        let x = match r.checked_sub(REPEATED).and_then(|r| whole.get(r).copied().flatten()) {
                            Some(whole) => b.permute(whole, whole, &vec![u as u8; lanes]),
                            None => b.broadcast(MemType::F32, a, r as i64 * self.step + 4 * u as i64),
                        };
                        b.unary(Unary::AsInt, x)
                    }
                };
                known = Some(x);
                let sum = &mut acc[r * self.vectors + v];
                *sum = match self.form {
                    Int8Form::Pairs => b.dot2(x, column, *sum),
                    Int8Form::Fours | Int8Form::ByteBlocks => b.dot4(x, column, *sum),
                    Int8Form::Halves | Int8Form::HalfBlocks | Int8Form::Widened => b.dot_bf16(x, column, *sum),
                };
            }
        }
    }
}

/// Applies the epilogue to each register and stores it.
fn epilogue(
    b: &mut TileBuilder,
    p: &NarrowProduct,
    acc: &[Reg],
    pixels: usize,
    cols: usize,
    operands: &[Ptr],
    dst: Ptr,
) {
    let lanes = b.lanes();
    let vectors = cols.div_ceil(lanes);
    for v in 0..vectors {
        let (col, n) = ((v * lanes) as i64, lanes.min(cols - v * lanes));
        let mut per_column = vec![None; operands.len()];
        for r in 0..pixels {
            let at = |view: &ImageView| r as i64 * view.strides[3] + col * view.strides[4];
            let value = p.epilogue.emit(b, &mut |b, i| {
                let Some(i) = i.checked_sub(1) else { return acc[r * vectors + v] };
                let view = &p.operands[i];
                if let (0, Some(reg)) = (view.strides[3], per_column[i]) {
                    return reg;
                }
                let reg = b.load_along(view.mem, operands[i], at(view), n, view.strides[4]);
                per_column[i] = Some(reg);
                reg
            });
            b.store_strided(p.dst.mem, dst, at(&p.dst), n, p.dst.strides[4], value);
        }
    }
}
