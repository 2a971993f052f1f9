//! The staged copy of source rows between zeros for the padding: 16-bit integers without their zero point,
//! unsigned bytes, or what was rounded to bfloat16.

use optc_kernel::target::Isa;
use optc_kernel::tile::{Binary, Count, MemType, Ptr, Reg, Shift, Tile, TileBuilder, Unary};

use super::{Int8Form, NarrowProduct};

/// Elements of a staged row for `columns` columns of results: padding, source, padding.
fn parts(p: &NarrowProduct, columns: usize) -> [usize; 3] {
    let w = p.axes[1];
    let all = p.staged_columns(columns);
    let before = w.pads[0].min(all);
    let within = w.size.min(all - before);
    [before, within, all - before - within].map(|n| n * p.staged_channels())
}

/// Copies one row. Pointers: the first source pixel, the staged row.
pub(super) fn copy(p: &NarrowProduct, columns: usize, isa: &Isa) -> Tile {
    let [before, within, after] = parts(p, columns);
    let of = p.src.mem.bytes();
    let mut b = TileBuilder::with_isa(format!("stage_i8_{columns}"), isa);
    let (src, dst) = (b.ptr(), b.ptr());
    // Stores may reach a few elements too far: what is there is written after them.
    let width = p.form.staged_bytes() as i64;
    fill(&mut b, p, dst, 0, before);
    let inner = b.offset(dst, width * before as i64);
    let channels = p.staged_channels();
    if channels == 0 || channels == p.channels && p.src.strides[3] == of * p.channels as i64 {
        run(&mut b, p, src, inner, within);
    } else {
        let pixels = (within / channels) as u32;
        let steps = [(src, p.src.strides[3]), (inner, width * channels as i64)];
        b.for_each(Count::Static(pixels), &steps, &[], |b, at, _| {
            run(b, p, at[0], at[1], p.channels);
            fill(b, p, at[1], p.channels, channels - p.channels);
            vec![]
        });
    }
    fill(&mut b, p, dst, before + within, after);
    b.finish()
}

/// A row of zeros.
pub(super) fn zeros(p: &NarrowProduct, columns: usize, lanes: usize) -> Tile {
    let mut b = TileBuilder::new("stage_i8_zeros", lanes);
    let dst = b.ptr();
    fill(&mut b, p, dst, 0, parts(p, columns).iter().sum());
    b.finish()
}

/// Vectors in one turn of a copy.
const UNROLL: usize = 4;

/// `n` elements that are side by side.
fn run(b: &mut TileBuilder, p: &NarrowProduct, src: Ptr, dst: Ptr, n: usize) {
    let (lanes, group) = (b.lanes(), 4 / p.form.staged_bytes());
    let step = group as i64 * p.src.mem.bytes();
    let part = |b: &mut TileBuilder, src: Ptr, dst: Ptr, at: usize, n: usize| {
        let x = words(b, p, src, step * at as i64, n);
        b.store_n(MemType::I32, dst, 4 * at as i64, n, x);
    };
    let turn = UNROLL * lanes;
    let steps = [(src, step * turn as i64), (dst, 4 * turn as i64)];
    let turns = n / group / turn;
    let (at, _) = b.for_each_ptrs(Count::Static(turns as u32), &steps, &[], |b, at, _| {
        (0..UNROLL).for_each(|v| part(b, at[0], at[1], v * lanes, lanes));
        vec![]
    });
    let rest = n / group % turn;
    for v in (0..rest).step_by(lanes) {
        part(b, at[0], at[1], v, lanes.min(rest - v));
    }
    if !n.is_multiple_of(group) {
        let x = last(b, p, at[0], step * rest as i64, n % group);
        b.store_n(MemType::I32, at[1], 4 * rest as i64, 1, x);
    }
}

/// `n` groups of elements as they are staged, one in each lane.
fn words(b: &mut TileBuilder, p: &NarrowProduct, src: Ptr, at: i64, n: usize) -> Reg {
    if p.form.is_float() {
        return rounded(b, p, src, at, n);
    }
    let zero = (p.src_zero & 0xffff) | p.src_zero << 16;
    let (mem, op, with) = match (p.form, p.src.mem) {
        (Int8Form::Fours | Int8Form::ByteBlocks, MemType::I8) => (MemType::I32, Binary::Xor, SIGNS),
        (Int8Form::Fours | Int8Form::ByteBlocks, _) => (MemType::I32, Binary::Xor, 0),
        (_, MemType::I8) => (MemType::I8Pair, Binary::SubPairs, zero),
        (_, _) => (MemType::U8Pair, Binary::SubPairs, zero),
    };
    let x = b.load_n(mem, src, at, n);
    if with == 0 {
        return x;
    }
    let with = b.i32(with);
    b.binary(op, x, with)
}

/// `f32` rounded to bfloat16, or what is bfloat16 already: in `n` lanes as `f32`, or in pairs.
fn rounded(b: &mut TileBuilder, p: &NarrowProduct, src: Ptr, at: i64, n: usize) -> Reg {
    let lanes = b.lanes();
    match (p.form, p.src.mem) {
        (Int8Form::Widened, MemType::Bf16) => {
            let x = b.load_n(MemType::Bf16, src, at, n);
            return b.unary(Unary::AsInt, x);
        }
        (_, MemType::Bf16) => return b.load_n(MemType::I32, src, at, n),
        (Int8Form::Widened, _) => {
            let x = b.load_n(MemType::F32, src, at, n);
            return b.round_bf16(x);
        }
        _ => {}
    }
    let first = b.load_n(MemType::F32, src, at, lanes.min(2 * n));
    let second = match (2 * n).checked_sub(lanes) {
        Some(more) if more > 0 => b.load_n(MemType::F32, src, at + 4 * lanes as i64, more),
        _ => first,
    };
    if b.features().sums_halves() {
        return b.pack_bf16(first, second);
    }
    let mut half = |odd: usize| {
        let every_other: Vec<u8> = (0..lanes).map(|i| (2 * i + odd) as u8).collect();
        let x = b.permute(first, second, &every_other);
        b.round_bf16(x)
    };
    let (low, high) = (half(0), half(1));
    let low = b.shift(Shift::Logical, low, 16);
    b.binary(Binary::Or, low, high)
}

/// The sign bits of the bytes of a word.
const SIGNS: i32 = 0x8080_8080_u32 as i32;

/// The last elements, fewer than a group, as they are staged: in lane 0.
fn last(b: &mut TileBuilder, p: &NarrowProduct, src: Ptr, at: i64, n: usize) -> Reg {
    if p.form.is_float() {
        // One is left.
        let x = b.load_n(p.src.mem, src, at, 1);
        let x = if p.src.mem == MemType::Bf16 { b.unary(Unary::AsInt, x) } else { b.round_bf16(x) };
        return b.shift(Shift::Logical, x, 16);
    }
    let (mem, bits) = (if p.src.mem == MemType::I8 { MemType::I8 } else { MemType::U8 }, 8 * p.form.staged_bytes());
    // The difference between an element and what is staged for it.
    let less = if p.form == Int8Form::Pairs { p.src_zero } else { p.src_zero - p.staged_zero() };
    let (less, mask) = (b.i32(less), b.i32((1 << bits) - 1));
    let mut word = b.i32(0);
    for i in 0..n {
        let x = b.load_n(mem, src, at + i as i64, 1);
        let x = b.binary(Binary::Sub, x, less);
        let x = b.binary(Binary::And, x, mask);
        let x = b.shift(Shift::Left, x, (bits * i) as u8);
        word = b.binary(Binary::Or, word, x);
    }
    word
}

/// `n` elements that stand for zero from element `from` on, and more where `n` is not a multiple of a group.
fn fill(b: &mut TileBuilder, p: &NarrowProduct, dst: Ptr, from: usize, n: usize) {
    let lanes = b.lanes();
    let zero = match p.form {
        Int8Form::Fours | Int8Form::ByteBlocks => b.i32(i32::from_le_bytes([p.staged_zero() as u8; 4])),
        Int8Form::Pairs | Int8Form::Halves | Int8Form::HalfBlocks | Int8Form::Widened => b.i32(0),
    };
    let at = b.offset(dst, (p.form.staged_bytes() * from) as i64);
    let words = n.div_ceil(4 / p.form.staged_bytes());
    let (turns, rest) = (words / lanes, words % lanes);
    let (end, _) = b.for_each_ptrs(Count::Static(turns as u32), &[(at, 4 * lanes as i64)], &[], |b, q, _| {
        b.store(MemType::I32, q[0], 0, zero);
        vec![]
    });
    if rest > 0 {
        b.store_n(MemType::I32, end[0], 0, rest, zero);
    }
}
