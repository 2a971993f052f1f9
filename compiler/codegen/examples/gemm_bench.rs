//! Times contractions in GFLOP/s and per cent of the FMA peak measured right beside each run.
//!
//! `cargo run --release -p optc-codegen --example gemm_bench [ROWSxCOLS ...]`

use optc_codegen::contract::{Contract, Conv, Schedule, contract, conv};
use optc_codegen::emit::Code;
use optc_codegen::peak::FmaPeak;
use optc_codegen::target::{Isa, Machine};
use std::time::Instant;

fn pixels(size: usize, channels: usize, filters: usize, kernel: usize, stride: usize, pad: usize) -> Conv {
    let out = (size + 2 * pad - kernel) / stride + 1;
    Conv {
        batch: 1,
        size: [size; 2],
        channels,
        filters,
        groups: 1,
        kernel: [kernel; 2],
        strides: [stride; 2],
        dilations: [1, 1],
        pads: [pad; 2],
        out: [out; 2],
    }
}

fn problems(nr: usize) -> Vec<(&'static str, Contract)> {
    vec![
        ("gemm 512x512x512", Contract::matmul(1, 512, 512, 512)),
        ("bert 128x384x1536", Contract::matmul(1, 128, 1536, 384)),
        ("gemv 1x1000x2048", Contract::matmul(1, 1, 1000, 2048)),
        ("conv 56x56x64 3x3", conv(&pixels(56, 64, 64, 3, 1, 1), nr)),
        ("conv 14x14 1024->256 1x1", conv(&pixels(14, 1024, 256, 1, 1, 0), nr)),
        ("conv 7x7x512 3x3", conv(&pixels(7, 512, 512, 3, 1, 1), nr)),
        ("conv 230x230x3 7x7 s2", conv(&pixels(230, 3, 64, 7, 2, 0), nr)),
        ("conv 14x14x512 1x1", conv(&pixels(14, 512, 512, 1, 1, 0), nr)),
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
    let isa = Isa::host();
    let peak = FmaPeak::new()?;
    let mut tiles: Vec<(usize, usize)> = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.split_once('x').and_then(|(r, c)| Some((r.parse().ok()?, c.parse().ok()?))))
        .collect();
    if tiles.is_empty() {
        tiles.push((isa.contract_f32.0, isa.contract_f32.1 * isa.lanes()));
    }
    for (mr, nr) in tiles {
        for (name, c) in problems(nr) {
            let chosen = Schedule::choose(&c, isa, &Machine::host());
            let schedule = Schedule { mr, nr, mc: chosen.mc.next_multiple_of(mr), ..chosen };
            let built = contract(&c, isa, schedule);
            let start = Instant::now();
            let code = Code::compile(&[&built.kernel], 1)?;
            let compile = start.elapsed().as_secs_f64() * 1e3;
            let mut bufs: Vec<_> = built.kernel.bufs.iter().map(|b| Aligned::new(b.bytes)).collect();
            let args: Vec<_> = bufs.iter_mut().map(Aligned::ptr).collect();
            if let Some(table) = &built.table {
                let skip = bufs[2].0.as_ptr().align_offset(64);
                bufs[2].0[skip..skip + table.len()].copy_from_slice(table);
            }
            let flops = (2 * c.batch * c.m * c.n * c.k * c.taps) as f64;
            // Each task by itself, the best of many rounds: what else runs on the machine disturbs only some of them.
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
                "{mr}x{nr} {name:26} {best:7.2} GFLOP/s {:5.1} % of {top:.1}  compile {compile:.2} ms, {} bytes, {} tasks",
                100.0 * best / top,
                code.bytes(),
                built.kernel.tasks
            );
        }
    }
    Ok(())
}
