//! What this machine can do at most with the emitter's vectors: the numbers of `optc hwbench` that kernels are judged
//! by.

use std::time::Instant;

use optc_emit::{Code, EmitError};
use optc_kernel::nest::{Access, Kernel, call, for_loop};
use optc_kernel::target::{Caches, Isa};
use optc_kernel::tile::{
    Binary, Count, MATRIX_BYTES, MATRIX_ROWS, Mat, MemType, Tile, TileBuilder, TileProduct, Unary,
};

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

/// What a loop on registers does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// FMAs of `f32`.
    Fma,
    /// Sums of four products of bytes.
    Bytes,
    /// Sums of two products of bfloat16.
    Bf16,
    /// Products of matrices of bytes.
    ByteMatrices,
    /// Products of matrices of bfloat16.
    Bf16Matrices,
}

impl Work {
    /// All of them.
    pub const ALL: [Work; 5] = [Work::Fma, Work::Bytes, Work::Bf16, Work::ByteMatrices, Work::Bf16Matrices];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Work::Fma => "fma",
            Work::Bytes => "int8",
            Work::Bf16 => "bf16",
            Work::ByteMatrices => "int8 matrices",
            Work::Bf16Matrices => "bf16 matrices",
        }
    }

    /// Whether a row has an instruction for it.
    pub fn is_of(self, isa: &Isa) -> bool {
        match self {
            Work::Fma => true,
            Work::Bytes => isa.needs.sums_bytes(),
            Work::Bf16 => isa.needs.sums_halves(),
            Work::ByteMatrices | Work::Bf16Matrices => isa.needs.has_matrices(),
        }
    }

    /// Additions and multiplications of one instruction.
    fn operations(self, lanes: usize) -> usize {
        2 * match self {
            Work::Fma => lanes,
            Work::Bytes => 4 * lanes,
            Work::Bf16 => 2 * lanes,
            Work::ByteMatrices => MATRIX_ROWS * MATRIX_ROWS * MATRIX_BYTES,
            Work::Bf16Matrices => MATRIX_ROWS * MATRIX_ROWS * MATRIX_BYTES / 2,
        }
    }

    fn matrices(self) -> Option<TileProduct> {
        match self {
            Work::ByteMatrices => Some(TileProduct::Bytes),
            Work::Bf16Matrices => Some(TileProduct::Bf16),
            Work::Fma | Work::Bytes | Work::Bf16 => None,
        }
    }
}

/// Independent chains: enough for two units with a latency of four or five cycles.
const CHAINS: usize = 12;
/// Matrices that are added to.
const SUMS: u8 = 4;
const UNROLL: usize = 4;
const TURNS: usize = 50_000;

/// A compiled loop on registers; [`Peak::measure`] may be called between runs of another kernel.
#[derive(Debug)]
pub struct Peak {
    code: Code,
    bytes: usize,
    operations: usize,
}

impl Peak {
    /// Compiles the loop of FMAs for the best instruction set of this machine.
    ///
    /// # Errors
    ///
    /// When the host cannot be compiled for.
    pub fn new() -> Result<Peak, EmitError> {
        Peak::of(optc_emit::host::isa(), Work::Fma)
    }

    /// Compiles the loop for an instruction set.
    ///
    /// # Errors
    ///
    /// When the host cannot be compiled for, or lacks the set.
    pub fn of(isa: &Isa, work: Work) -> Result<Peak, EmitError> {
        let (lanes, bytes) = (isa.lanes(), isa.vector_bits / 8);
        let chains = if work.matrices().is_some() { SUMS as usize } else { CHAINS };
        let tile = match work.matrices() {
            Some(of) => matrix_loop(isa, of),
            None => vector_loop(isa, work),
        };
        let mut kernel = Kernel::new("peak", 1);
        let (src, dst) = (kernel.buf("src", bytes, Access::Read), kernel.buf("dst", bytes, Access::Write));
        let tile = kernel.tile(tile);
        kernel.body = vec![call(tile, [src.at(0), dst.at(0)])];
        let operations = work.operations(lanes) * chains * UNROLL * TURNS;
        Ok(Peak { code: Code::compile(&[&kernel], 1)?, bytes, operations })
    }

    /// One run (about a millisecond): 10^9 operations a second, a multiply-add counting as two.
    pub fn measure(&self) -> f64 {
        let (mut src, mut dst) = (vec![0u8; self.bytes], vec![0u8; self.bytes]);
        let args = [src.as_mut_ptr(), dst.as_mut_ptr()];
        let start = Instant::now();
        // SAFETY: the kernel has one task, no scratch, and two buffers of a vector each; its accesses need no
        // alignment.
        unsafe { self.code.entry(0)(args.as_ptr(), std::ptr::null_mut(), 0, 1) };
        self.operations as f64 / start.elapsed().as_secs_f64() / 1e9
    }
}

/// Chains of one instruction on vectors.
fn vector_loop(isa: &Isa, work: Work) -> Tile {
    let mut b = TileBuilder::with_isa("peak", isa);
    let (src, dst) = (b.ptr(), b.ptr());
    let float = b.load(MemType::F32, src, 0);
    let word = b.unary(Unary::AsInt, float);
    let sum = if work == Work::Bytes { word } else { float };
    let sums = b.for_each(Count::Static(TURNS as u32), &[], &[sum; CHAINS], |b, _, acc| {
        let mut acc = acc.to_vec();
        for _ in 0..UNROLL {
            acc.iter_mut().for_each(|a| {
                *a = match work {
                    Work::Bytes => b.dot4(word, word, *a),
                    Work::Bf16 => b.dot_bf16(word, word, *a),
                    Work::Fma | Work::ByteMatrices | Work::Bf16Matrices => b.fma(*a, float, float),
                };
            });
        }
        acc
    });
    let total = sums[1..].iter().fold(sums[0], |total, &s| b.add(total, s));
    b.store(MemType::of(b.elem(total)), dst, 0, total);
    b.finish()
}

/// Products of zeros in matrix registers.
fn matrix_loop(isa: &Isa, of: TileProduct) -> Tile {
    let mut b = TileBuilder::with_isa("peak", isa);
    let (_, dst) = (b.ptr(), b.ptr());
    b.mat_configure();
    let (x, y) = (Mat(SUMS), Mat(SUMS + 1));
    (0..SUMS + 2).for_each(|m| b.mat_zero(Mat(m)));
    b.for_each(Count::Static(TURNS as u32), &[], &[], |b, _, _| {
        (0..UNROLL * SUMS as usize).for_each(|i| b.mat_dot(Mat(i as u8 % SUMS), of, x, y));
        vec![]
    });
    // All rows at one place.
    b.mat_store(dst, 0, 0, Mat(0));
    b.mat_release();
    b.finish()
}

/// Best load bandwidth of one thread from each level of cache and from memory.
///
/// # Errors
///
/// When the host cannot be compiled for.
pub fn bandwidth(caches: &Caches) -> Result<Vec<Bandwidth>, EmitError> {
    let levels = [
        ("L1", caches.l1 / 2),
        ("L2", caches.l2 / 2),
        ("L3", (caches.l3 / 2).max(2 * caches.l2)),
        ("DRAM", (4 * caches.l3).clamp(64 << 20, 256 << 20)),
    ];
    levels.into_iter().map(|(level, bytes)| load_level(level, bytes)).collect()
}

/// The bandwidth of one level: so many bytes are read again and again.
pub(crate) fn load_level(level: &'static str, bytes: usize) -> Result<Bandwidth, EmitError> {
    let passes = (64 << 20) / bytes + 1;
    let lanes = optc_emit::host::isa().lanes();
    let (vector, turn) = (4 * lanes, 32 * lanes);
    let bytes = bytes.next_multiple_of(turn);
    let mut b = TileBuilder::new("loads", lanes);
    let (src, dst) = (b.ptr(), b.ptr());
    let zero = b.i32(0);
    let acc = b.for_each(Count::Static((bytes / turn) as u32), &[(src, turn as i64)], &[zero; 4], |b, p, acc| {
        let mut acc = acc.to_vec();
        for i in 0..8 {
            let x = b.load(MemType::I32, p[0], (vector * i) as i64);
            acc[i % 4] = b.binary(Binary::Or, acc[i % 4], x);
        }
        acc
    });
    let all = acc[1..].iter().fold(acc[0], |all, &a| b.binary(Binary::Or, all, a));
    b.store(MemType::I32, dst, 0, all);
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
