//! Times integer products next to `f32` ones of the same shape, on every instruction set of this machine: `cargo run
//! --release -p optc-hwbench --example int8_bench`. Each line: shape, instruction set, GFLOP/s of `f32`, GOP/s of
//! integers for tiles of several heights, minima of alternating runs on one thread.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a bench stops at the first failure and prints")]

use std::time::Instant;

use optc_emit::Code;
use optc_kernel::expr::Expr;
use optc_kernel::nest::Kernel;
use optc_kernel::target::Isa;
use optc_kernel::tile::MemType;
use optc_kernels::contract::{self, contract};
use optc_kernels::int8::{Int8Form, Int8Schedule, NarrowProduct, product};
use optc_kernels::window::{Axis, ImageView};
use optc_testing::isas;

/// Rows and columns, channels, filters, extent of the window.
const SHAPES: [(usize, usize, usize, usize); 6] =
    [(56, 64, 64, 3), (28, 128, 128, 3), (14, 256, 256, 3), (7, 512, 512, 3), (14, 512, 512, 1), (56, 64, 256, 1)];

struct Timed {
    code: Code,
    kernel: Kernel,
    buffers: Vec<Vec<u8>>,
    best: f64,
}

impl Timed {
    fn new(kernel: Kernel, table: Option<Vec<u8>>) -> Timed {
        let code = Code::compile(&[&kernel], 1).expect("the kernel compiles");
        let mut buffers: Vec<Vec<u8>> = kernel.bufs.iter().map(|b| vec![0x11; b.bytes + 64]).collect();
        if let Some(table) = table {
            let skip = buffers[2].as_ptr().align_offset(64);
            buffers[2][skip..skip + table.len()].copy_from_slice(&table);
        }
        Timed { code, kernel, buffers, best: f64::INFINITY }
    }

    fn run(&mut self) {
        let align = |b: &mut Vec<u8>| {
            let skip = b.as_ptr().align_offset(64);
            b[skip..].as_mut_ptr()
        };
        let args: Vec<*mut u8> = self.buffers.iter_mut().map(align).collect();
        let mut scratch = vec![0u8; self.kernel.scratch_bytes + 64];
        let scratch = align(&mut scratch);
        let start = Instant::now();
        // SAFETY: each buffer holds the declared bytes from its aligned start on, as the scratch does; the tasks are
        // all of the kernel's.
        unsafe { self.code.entry(0)(args.as_ptr(), scratch, 0, self.kernel.tasks) };
        self.best = self.best.min(start.elapsed().as_secs_f64());
    }
}

fn integer(isa: &Isa, (size, channels, filters, kernel): (usize, usize, usize, usize), mr: usize) -> Kernel {
    let axis = Axis { size, out: size, kernel, stride: 1, dilation: 1, pads: [kernel / 2; 2] };
    let view = |c: usize| ImageView {
        mem: MemType::U8,
        bytes: size * size * c,
        offset: 0,
        strides: [size * size * c, size * size * c, size * c, c, 1].map(|s| s as i64),
    };
    let problem = NarrowProduct {
        images: 1,
        groups: 1,
        channels,
        filters,
        axes: [axis; 2],
        src: view(channels),
        src_zero: 0,
        dst: view(filters),
        operands: vec![],
        epilogue: Expr::Operand(0),
        own_weights: false,
        form: Int8Form::choose(isa, size, true),
    };
    let problem = problem.merged();
    let schedule = Int8Schedule::choose(&problem, isa, &optc_emit::host::caches());
    product(&problem, isa, Int8Schedule { mr, ..schedule })
}

fn main() {
    for isa in isas() {
        for shape in SHAPES {
            let (size, channels, filters, kernel) = shape;
            let axis = Axis { size, out: size, kernel, stride: 1, dilation: 1, pads: [kernel / 2; 2] };
            let conv = contract::ConvNest::channels_last(1, channels, filters, 1, [Axis::NONE, axis, axis]);
            let problem = contract::conv(&conv);
            let built =
                contract(&problem, isa, contract::ContractSchedule::choose(&problem, isa, &optc_emit::host::caches()));
            let built = built.expect("the images are small");
            let mut all = vec![Timed::new(built.kernel, built.table)];
            let heights = [3, 4, 5, 6, 7];
            all.extend(heights.map(|mr| Timed::new(integer(isa, shape, mr), None)));
            for _ in 0..30 {
                all.iter_mut().for_each(Timed::run);
            }
            let operations = 2.0 * (size * size * channels * filters * kernel * kernel) as f64 / 1e9;
            let rates: Vec<String> = all.iter().map(|t| format!("{:6.1}", operations / t.best)).collect();
            println!("{:9} {shape:?}: f32 {} i8 by height {heights:?} {}", isa.name, rates[0], rates[1..].join(" "));
        }
    }
}
