//! Times sparse products beside the dense kernel of the same layer: milliseconds, per cent of the FMA peak, and the speed-up.
//!
//! `cargo run --release --workspace --example spmm_bench [ISA [PART]]`

use optc_codegen::contract::{Contract, Schedule, contract};
use optc_codegen::emit::Code;
use optc_codegen::expr::Expr;
use optc_codegen::nest::Kernel;
use optc_codegen::peak::FmaPeak;
use optc_codegen::spmm::{Bcsr, Spmm, spmm};
use optc_codegen::target::{Isa, Machine};
use optc_codegen::testing::random_floats;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

/// A buffer aligned to 64 bytes.
struct Aligned(Vec<u8>);

impl Aligned {
    fn new(bytes: usize) -> Self {
        // Not zeros: fresh pages of zeros are all the same memory, which slows the loads down.
        Aligned(vec![0x11; bytes + 64])
    }

    fn bytes(&mut self) -> &mut [u8] {
        let skip = self.0.as_ptr().align_offset(64);
        &mut self.0[skip..]
    }
}

/// A kernel that is ready to run.
struct Ready {
    code: Code,
    bufs: Vec<Aligned>,
    scratch: Aligned,
    tasks: u64,
}

impl Ready {
    fn new(kernel: &Kernel, stream: Option<&[u8]>) -> Result<Ready, Failure> {
        let mut bufs: Vec<_> = kernel.bufs.iter().map(|b| Aligned::new(b.bytes)).collect();
        if let Some(stream) = stream {
            bufs[0].bytes()[..stream.len()].copy_from_slice(stream);
        }
        let (code, scratch) = (Code::compile(&[kernel], 1)?, Aligned::new(kernel.scratch_bytes));
        Ok(Ready { code, bufs, scratch, tasks: kernel.tasks })
    }

    /// Milliseconds of all tasks by one thread.
    fn time(&mut self) -> f64 {
        let args: Vec<_> = self.bufs.iter_mut().map(|b| b.bytes().as_mut_ptr()).collect();
        let start = Instant::now();
        // SAFETY: buffers and scratch of the declared lengths, aligned to 64 bytes, distinct.
        unsafe { self.code.entry(0)(args.as_ptr(), self.scratch.bytes().as_mut_ptr(), 0, self.tasks) };
        start.elapsed().as_secs_f64() * 1e3
    }
}

/// The best times of two kernels, run in turns: what else runs on the machine disturbs both alike.
fn times(a: &mut Ready, b: &mut Ready) -> (f64, f64) {
    let pairs = (0..30).map(|_| (a.time(), b.time()));
    pairs.fold((f64::MAX, f64::MAX), |best, pair| (best.0.min(pair.0), best.1.min(pair.1)))
}

/// A matrix in which `zeros` of a hundred blocks are zero.
fn sparse(rows: usize, cols: usize, block: usize, zeros: usize) -> Vec<f32> {
    let kept = random_floats(rows / block * cols, 7);
    let keep = |i: usize| (kept[i / cols / block * cols + i % cols] + 1.0) * 50.0 >= zeros as f32;
    (0..rows * cols).map(|i| if keep(i) { 0.5 } else { 0.0 }).collect()
}

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let isa = args.next().and_then(|name| Isa::by_name(&name)).unwrap_or_else(Isa::host);
    let part = args.next().unwrap_or_default();
    let (machine, peak) = (Machine::host(), FmaPeak::of(isa)?);
    println!("{:24} {:>9} {:>9} {:>7} {:>8}", "layer", "dense ms", "sparse ms", "% peak", "speed-up");
    let layers = [(64, 32, 112), (128, 64, 56), (128, 128, 56), (256, 256, 28), (512, 512, 14), (1024, 1024, 7)];
    for (m, k, side) in layers {
        for (zeros, block) in [(95, 4), (90, 4), (80, 4), (50, 4), (90, 2), (50, 2), (95, 1), (90, 1), (80, 1), (50, 1)]
        {
            let name = format!("{m}x{k} {side}x{side} {zeros}% {block}x1");
            if !name.contains(&part) {
                continue;
            }
            let n = side * side;
            let mut dense = Contract::matmul(1, n, m, k);
            dense.epilogue = Expr::Operand(0).relu();
            let dense = contract(&dense, isa, Schedule::choose(&dense, isa, &machine))?;
            let weights = Bcsr::of(&sparse(m, k, block, zeros), m, k, block);
            let mut product = Spmm::product(1, m, n, k);
            product.epilogue = Expr::Operand(0).relu();
            let built = spmm(&product, &weights, isa)?;
            let (dense, ms) =
                times(&mut Ready::new(&dense.kernel, None)?, &mut Ready::new(&built.kernel, Some(&built.stream))?);
            let flops = 2.0 * (weights.blocks() * block * n) as f64;
            let share = flops / (ms * 1e6) / peak.measure() * 100.0;
            println!("{name:24} {dense:9.3} {ms:9.3} {share:7.1} {:8.2}", dense / ms);
        }
    }
    Ok(())
}
