//! Times contractions in GFLOP/s and per cent of the FMA peak measured right beside each run.
//!
//! `cargo run --release -p optc-hwbench --example gemm_bench [ROWSxCOLS ...]`

use std::time::Instant;

use optc_emit::Code;
use optc_hwbench::peak::Peak;
use optc_kernels::contract::{Contract, ContractSchedule, contract};

fn problems() -> Vec<(&'static str, Contract)> {
    vec![
        ("gemm 512x512x512", Contract::matmul(1, 512, 512, 512)),
        ("bert 128x384x1536", Contract::matmul(1, 128, 1536, 384)),
        ("gemv 1x1000x2048", Contract::matmul(1, 1, 1000, 2048)),
        ("gemm 100x4x300", Contract::matmul(1, 100, 4, 300)),
        ("gemm 300x300x5", Contract::matmul(1, 300, 300, 5)),
        ("gemm 64x64x256", Contract::matmul(1, 64, 64, 256)),
        ("gemm 500x500x500", Contract::matmul(1, 500, 500, 500)),
        ("gemm 512x512x520", Contract::matmul(1, 512, 512, 520)),
    ]
}

/// A buffer aligned to 64 bytes.
struct Aligned(Vec<u8>);

impl Aligned {
    fn new(bytes: usize) -> Self {
        // Not zeros: fresh pages of zeros are all the same memory, which slows the loads down.
        Aligned(vec![0x11; bytes + 64])
    }

    fn ptr(&mut self) -> *mut u8 {
        let skip = self.0.as_ptr().align_offset(64);
        self.0[skip..].as_mut_ptr()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let isa = optc_emit::host::isa();
    let peak = Peak::new()?;
    let mut tiles: Vec<(usize, usize)> = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.split_once('x').and_then(|(r, c)| Some((r.parse().ok()?, c.parse().ok()?))))
        .collect();
    if tiles.is_empty() {
        tiles.push((isa.contract_f32.0, isa.contract_f32.1 * isa.lanes()));
    }
    for (mr, nr) in tiles {
        for (name, c) in problems() {
            let chosen = ContractSchedule::choose(&c, isa, &optc_emit::host::caches());
            let schedule = ContractSchedule { mr, nr, mc: chosen.mc.next_multiple_of(mr), ..chosen };
            let built = contract(&c, isa, schedule)?;
            let start = Instant::now();
            let code = Code::compile(&[&built.kernel], 1)?;
            let compile = start.elapsed().as_secs_f64() * 1e3;
            let mut bufs: Vec<_> = built.kernel.bufs.iter().map(|b| Aligned::new(b.bytes)).collect();
            let args: Vec<_> = bufs.iter_mut().map(Aligned::ptr).collect();
            let flops = (2 * c.batch * c.m * c.n * c.k * c.taps) as f64;
            // Each task on its own, the best of many rounds: what else runs on the machine disturbs only some of them.
            let mut times = vec![f64::MAX; built.kernel.tasks as usize];
            let mut top = 0f64;
            for _ in 0..40 {
                top = top.max(peak.measure());
                for (task, time) in (0..).zip(times.iter_mut()) {
                    let start = Instant::now();
                    // SAFETY: buffers of the declared lengths, aligned to 64 bytes; one task; no scratch is declared.
                    unsafe { code.entry(0)(args.as_ptr(), std::ptr::null_mut(), task, task + 1) };
                    *time = time.min(start.elapsed().as_secs_f64());
                }
            }
            let best = flops / times.iter().sum::<f64>() / 1e9;
            println!(
                "{mr}x{nr} {name:26} {best:7.2} GFLOP/s {:5.1} % of {top:.1}  compile {compile:.2} ms, {} bytes, \
                 {} tasks",
                100.0 * best / top,
                code.bytes(),
                built.kernel.tasks
            );
        }
    }
    Ok(())
}
