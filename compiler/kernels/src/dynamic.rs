//! 8-bit integers whose scale and zero point are known only at run time: those that the range of a value, stretched
//! to contain zero, asks for (`quant.dynamic_quantize`).

use optc_kernel::nest::{Access, Ix, Kernel, call};
use optc_kernel::target::Isa;
use optc_kernel::tile::{Binary, Cmp, Count, MemType, Ptr, Reg, Tile, TileBuilder, Unary};

/// The largest of the integers; the least is zero.
const LARGEST: f32 = 255.0;
/// Vectors in one turn of a loop, each with extremes of its own.
const UNROLL: usize = 4;

/// Calls `body` with a pointer into each of `ptrs`, displacement and length for vectors of `n` floats side by side,
/// carrying registers.
fn for_vectors<const P: usize>(
    b: &mut TileBuilder,
    ptrs: [Ptr; P],
    n: usize,
    carried: &[Reg],
    body: impl Fn(&mut TileBuilder, &[Ptr], i64, usize, &mut [Reg]),
) -> Vec<Reg> {
    let lanes = b.lanes();
    let turn = UNROLL * lanes;
    let at = |u: usize| (4 * u * lanes) as i64;
    let advance = ptrs.map(|p| (p, 4 * turn as i64));
    let (ends, mut carried) = b.for_each_ptrs(Count::Static((n / turn) as u32), &advance, carried, |b, p, regs| {
        let mut regs = regs.to_vec();
        (0..UNROLL).for_each(|u| body(b, p, at(u), lanes, &mut regs));
        regs
    });
    for (u, from) in (n / turn * turn..n).step_by(lanes).enumerate() {
        body(b, &ends, at(u), lanes.min(n - from), &mut carried);
    }
    carried
}

/// The scale and the zero point (a float) that `n` floats at `x` ask for, in all lanes.
fn range(b: &mut TileBuilder, x: Ptr, n: usize) -> [Reg; 2] {
    let zero = b.f32(0.0);
    let extremes = for_vectors(b, [x], n, &[zero; 2 * UNROLL], |b, p, at, n, regs| {
        // Lanes that are not there are zeros, which each range contains. No number is passed over.
        let v = b.load_n(MemType::F32, p[0], at, n);
        let u = at as usize / (4 * b.lanes()) % UNROLL;
        regs[2 * u] = b.min(v, regs[2 * u]);
        regs[2 * u + 1] = b.max(v, regs[2 * u + 1]);
    });
    let (mut low, mut high) = (extremes[0], extremes[1]);
    for u in 1..UNROLL {
        low = b.min(extremes[2 * u], low);
        high = b.max(extremes[2 * u + 1], high);
    }
    let (low, high) = (b.reduce(Binary::Min, low), b.reduce(Binary::Max, high));
    let (some, width, largest, one) = (b.cmp(Cmp::Gt, high, low), b.sub(high, low), b.f32(LARGEST), b.f32(1.0));
    let scale = b.div(width, largest);
    let scale = b.select(some, scale, one);
    let below = b.sub(zero, low);
    let steps = b.div(below, scale);
    let steps = b.clamp(steps, 0.0, LARGEST);
    [scale, b.unary(Unary::Nearest, steps)]
}

/// Finds the scale and the zero point of `n` floats. Buffers: the floats, the scale, the zero point (`u8`).
pub fn range_kernel(n: usize, isa: &Isa) -> Kernel {
    let mut b = TileBuilder::new("dynamic_range", isa.lanes());
    let [x, to_scale, to_zero] = [b.ptr(), b.ptr(), b.ptr()];
    let [scale, zero] = range(&mut b, x, n);
    b.store_n(MemType::F32, to_scale, 0, 1, scale);
    let zero = b.unary(Unary::ToInt, zero);
    b.store_n(MemType::U8, to_zero, 0, 1, zero);
    let tile = b.finish();
    let mut kernel = Kernel::new("dynamic_range", 1);
    let x = kernel.buf("x", 4 * n, Access::Read);
    let [scale, zero] = [("scale", 4), ("zero", 1)].map(|(name, bytes)| kernel.buf(name, bytes, Access::Write));
    let tile = kernel.tile(tile);
    kernel.body = vec![call(tile, [x, scale, zero].map(|base| base.at(Ix::from(0))))];
    kernel
}

/// Makes floats integers, without their zero point but still as floats. Pointers: `n` floats, the integers, a vector of
/// the scale.
pub(crate) fn quantize_tile(n: usize, lanes: usize) -> Tile {
    let mut b = TileBuilder::new("dynamic_quantize", lanes);
    let [x, to, to_scale] = [b.ptr(), b.ptr(), b.ptr()];
    let [scale, zero] = range(&mut b, x, n);
    b.store(MemType::F32, to_scale, 0, scale);
    let (none, largest) = (b.f32(0.0), b.f32(LARGEST));
    let (low, high) = (b.sub(none, zero), b.sub(largest, zero));
    for_vectors(&mut b, [x, to], n, &[], |b, p, at, n, _| {
        let v = b.load_n(MemType::F32, p[0], at, n);
        let steps = b.div(v, scale);
        let steps = b.unary(Unary::Nearest, steps);
        // What is not a number becomes the least integer.
        let steps = b.max(steps, low);
        let steps = b.min(steps, high);
        b.store_n(MemType::F32, p[1], at, n, steps);
    });
    b.finish()
}
