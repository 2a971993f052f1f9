//! What this machine can do at most with the emitter's vectors: the numbers of `optc hwbench` that kernels are judged by.

use crate::emit::{Code, EmitError};
use crate::nest::{Access, Kernel, call, for_loop};
use crate::target::{Isa, Machine};
use crate::tile::{Binary, Count, Mem, TileBuilder};
use std::time::Instant;

/// A level of the memory and how fast one thread loads from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bandwidth {
    /// `L1`, `L2`, `L3` or `DRAM`.
    pub level: &'static str,
    /// The bytes that were read again and again.
    pub bytes: usize,
    /// 10^9 bytes a second.
    pub gb_per_s: f64,
}

/// Independent chains of FMAs: enough for two units with a latency of four or five cycles.
const CHAINS: usize = 12;
const TURNS: usize = 50_000;

/// A compiled loop of FMAs on registers; [`FmaPeak::measure`] may be called between runs of another kernel.
#[derive(Debug)]
pub struct FmaPeak {
    code: Code,
    lanes: usize,
}

impl FmaPeak {
    /// Compiles the loop for the best instruction set of this machine.
    ///
    /// # Errors
    ///
    /// When the host cannot be compiled for.
    pub fn new() -> Result<FmaPeak, EmitError> {
        FmaPeak::of(Isa::host())
    }

    /// Compiles the loop for an instruction set.
    ///
    /// # Errors
    ///
    /// When the host cannot be compiled for.
    pub fn of(isa: &Isa) -> Result<FmaPeak, EmitError> {
        let (lanes, bytes) = (isa.lanes(), isa.vector_bits / 8);
        let mut b = TileBuilder::new("fma_peak", lanes);
        let (src, dst) = (b.ptr(), b.ptr());
        let x = b.load(Mem::F32, src, 0);
        let start = vec![x; CHAINS];
        let sums = b.for_each(Count::Static(TURNS as u32), &[], &start, |b, _, acc| {
            let mut acc = acc.to_vec();
            for _ in 0..4 {
                acc.iter_mut().for_each(|a| *a = b.fma(*a, x, x));
            }
            acc
        });
        let total = sums[1..].iter().fold(sums[0], |total, &s| b.add(total, s));
        b.store(Mem::F32, dst, 0, total);
        let mut kernel = Kernel::new("fma_peak", 1);
        let (src, dst) = (kernel.buf("src", bytes, Access::Read), kernel.buf("dst", bytes, Access::Write));
        let tile = kernel.tile(b.finish());
        kernel.body = vec![call(tile, [src.at(0), dst.at(0)])];
        Ok(FmaPeak { code: Code::compile(&[&kernel], 1)?, lanes })
    }

    /// One run (about a millisecond): 10^9 operations a second, an FMA counting as two.
    pub fn measure(&self) -> f64 {
        let (mut src, mut dst) = (vec![0f32; self.lanes], vec![0f32; self.lanes]);
        let args = [src.as_mut_ptr().cast::<u8>(), dst.as_mut_ptr().cast::<u8>()];
        let start = Instant::now();
        // SAFETY: the kernel has one task, no scratch, and two buffers of a vector each; its accesses need no alignment.
        unsafe { self.code.entry(0)(args.as_ptr(), std::ptr::null_mut(), 0, 1) };
        let operations = 2 * self.lanes * CHAINS * 4 * TURNS;
        operations as f64 / start.elapsed().as_secs_f64() / 1e9
    }
}

/// Best load bandwidth of one thread from each level of cache and from memory.
///
/// # Errors
///
/// When the host cannot be compiled for.
pub fn bandwidth(machine: &Machine) -> Result<Vec<Bandwidth>, EmitError> {
    let levels = [
        ("L1", machine.l1 / 2),
        ("L2", machine.l2 / 2),
        ("L3", (machine.l3 / 2).max(2 * machine.l2)),
        ("DRAM", (4 * machine.l3).clamp(64 << 20, 256 << 20)),
    ];
    levels.into_iter().map(|(level, bytes)| load_level(level, bytes)).collect()
}

fn load_level(level: &'static str, bytes: usize) -> Result<Bandwidth, EmitError> {
    let passes = (64 << 20) / bytes + 1;
    let lanes = Isa::host().lanes();
    let (vector, turn) = (4 * lanes, 32 * lanes);
    let bytes = bytes.next_multiple_of(turn);
    let mut b = TileBuilder::new("loads", lanes);
    let (src, dst) = (b.ptr(), b.ptr());
    let zero = b.i32(0);
    let acc = b.for_each(Count::Static((bytes / turn) as u32), &[(src, turn as i64)], &[zero; 4], |b, p, acc| {
        let mut acc = acc.to_vec();
        for i in 0..8 {
            let x = b.load(Mem::I32, p[0], (vector * i) as i64);
            acc[i % 4] = b.binary(Binary::Or, acc[i % 4], x);
        }
        acc
    });
    let all = acc[1..].iter().fold(acc[0], |all, &a| b.binary(Binary::Or, all, a));
    b.store(Mem::I32, dst, 0, all);
    let mut kernel = Kernel::new("loads", 1);
    let (src, dst) = (kernel.buf("src", bytes, Access::Read), kernel.buf("dst", vector, Access::Write));
    let (tile, pass) = (kernel.tile(b.finish()), kernel.var());
    kernel.body = vec![for_loop(pass, 0, passes, vec![call(tile, [src.at(0), dst.at(0)])])];
    let code = Code::compile(&[&kernel], 1)?;
    let (mut memory, mut sum) = (vec![1u8; bytes], vec![0u8; vector]);
    let args = [memory.as_mut_ptr(), sum.as_mut_ptr()];
    let mut best = 0f64;
    for _ in 0..5 {
        let start = Instant::now();
        // SAFETY: one task, no scratch, buffers of the declared lengths; the kernel's accesses need no alignment.
        unsafe { code.entry(0)(args.as_ptr(), std::ptr::null_mut(), 0, 1) };
        best = best.max((bytes * passes) as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    Ok(Bandwidth { level, bytes, gb_per_s: best })
}
