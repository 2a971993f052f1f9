//! Times sparse products of floats and of bytes next to the dense kernels of the same layer: milliseconds, the speed-up
//! over dense of the same numbers, and how long a block took compared with what the profile says.
//!
//! `cargo run --release --workspace --example spmm_bench [ISA [PART]]`

use std::time::Instant;

use optc_emit::Code;
use optc_kernel::expr::Expr;
use optc_kernel::nest::Kernel;
use optc_kernel::target::Isa;
use optc_kernel::tile::{Binary, MemType};
use optc_kernels::contract::{self, Contract, contract};
use optc_kernels::int8;
use optc_kernels::profile::Profile;
use optc_kernels::spmm::{Bcsr, MatrixPlace, Operand, SparseForm, Spmm, Weights, spmm};
use optc_kernels::window::{Axis, ImageView};
use optc_testing::random_floats;
use optc_types::{Form, Machine, Numbers, Product};

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
fn sparse(rows: usize, cols: usize, (block, width): (usize, usize), zeros: usize) -> Vec<f32> {
    let kept = random_floats(rows / block * cols, 7);
    let keep = |i: usize| (kept[i / cols / block * cols + i % cols / width] + 1.0) * 50.0 >= zeros as f32;
    (0..rows * cols).map(|i| if keep(i) { 0.5 } else { 0.0 }).collect()
}

/// A product to be timed.
struct Layer {
    m: usize,
    k: usize,
    n: usize,
    zeros: usize,
    block: (usize, usize),
}

impl Layer {
    /// The dense kernel and the sparse one with its stream and blocks.
    fn floats(&self, isa: &'static Isa) -> Result<Pair, Failure> {
        let Layer { m, k, n, zeros, block } = *self;
        let mut dense = Contract::matmul(1, n, m, k);
        dense.epilogue = Expr::Operand(0).relu();
        let dense =
            contract(&dense, isa, contract::ContractSchedule::choose(&dense, isa, &optc_emit::host::caches()))?.kernel;
        let weights = Bcsr::of(&sparse(m, k, block, zeros), m, k, block.0);
        let mut product = Spmm::product(1, m, n, k);
        product.epilogue = Expr::Operand(0).relu();
        let blocks = weights.blocks();
        let built = spmm(&product, &Weights::Floats(weights), isa)?;
        Ok(Pair { dense, sparse: built.kernel, stream: built.stream, blocks })
    }

    /// The same for bytes, which are requantized.
    fn bytes(&self, isa: &'static Isa) -> Result<Pair, Failure> {
        let Layer { m, k, n, zeros, block: (block, width) } = *self;
        let scaled = Expr::Operand(0).to_float().times(Expr::Operand(1));
        let epilogue = scaled.binary(Binary::Max, Expr::Const(0.0)).binary(Binary::Min, Expr::Const(255.0)).to_int();
        let view = |columns: usize| ImageView {
            mem: MemType::U8,
            bytes: n * columns,
            offset: 0,
            strides: [(n * columns) as i64, 0, 0, columns as i64, 1],
        };
        let scales = ImageView { mem: MemType::F32, bytes: 4 * m, offset: 0, strides: [0, 0, 0, 0, 4] };
        let dense = int8::NarrowProduct {
            images: 1,
            groups: 1,
            channels: k,
            filters: m,
            axes: [Axis::NONE, Axis { size: n, out: n, ..Axis::NONE }],
            src: view(k),
            src_zero: 0,
            dst: view(m),
            operands: vec![scales],
            epilogue: epilogue.clone(),
            own_weights: false,
            form: int8::Int8Form::Pairs,
        };
        let dense = int8::product(&dense, isa, int8::Int8Schedule::choose(&dense, isa, &optc_emit::host::caches()));
        let matrix: Vec<i16> = sparse(m, k, (block, width), zeros).iter().map(|v| (v * 200.0) as i16).collect();
        let weights = Bcsr::with_blocks(&matrix, (m, k), (block, width));
        let place = |rows: usize| MatrixPlace { bytes: rows * n, offset: 0, batch_stride: 0 };
        // Quads are stored as they are in the network: with their channels last.
        let (c_row_stride, c_col_stride) = if width == 1 { (n as i64, 1) } else { (1, m as i64) };
        let product = Spmm {
            x: place(k),
            form: SparseForm::of_bytes(width, false),
            x_rows: (0..k / width).map(|c| (c * width * n) as i64).collect(),
            c: place(m),
            c_mem: MemType::U8,
            c_row_stride,
            c_col_stride,
            operands: vec![Operand {
                mem: MemType::F32,
                bytes: 4 * m,
                offset: 0,
                batch_stride: 0,
                row_stride: 4,
                col_stride: 0,
            }],
            epilogue,
            ..Spmm::product(1, m, n, k)
        };
        let blocks = weights.blocks();
        let built = spmm(&product, &Weights::Integers { weights, zero: 0 }, isa)?;
        Ok(Pair { dense, sparse: built.kernel, stream: built.stream, blocks })
    }
}

/// Kernels of one layer.
struct Pair {
    dense: Kernel,
    sparse: Kernel,
    stream: Vec<u8>,
    blocks: usize,
}

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let isa = args.next().and_then(|name| Isa::by_name(&name)).unwrap_or_else(optc_emit::host::isa);
    let part = args.next().unwrap_or_default();
    let machine = Profile::of(isa);
    println!("{:30} {:>9} {:>9} {:>9} {:>9} {:>8}", "layer", "dense ms", "model", "sparse ms", "model", "speed-up");
    let layers = [(64, 32, 112), (128, 64, 56), (128, 128, 56), (256, 256, 28), (512, 512, 14), (1024, 1024, 7)];
    let columns = [(95, 4), (90, 4), (80, 4), (50, 4), (90, 2), (50, 2), (95, 1), (90, 1), (80, 1), (50, 1)];
    for (m, k, side) in layers {
        for numbers in [Numbers::Floats, Numbers::Bytes] {
            let quads = [(95, 4), (90, 4), (50, 4), (90, 2), (90, 1)].map(|(zeros, rows)| (zeros, rows, 4));
            let wide = if numbers == Numbers::Floats { &[][..] } else { &quads };
            let all = columns.iter().map(|&(zeros, rows)| (zeros, rows, 1)).chain(wide.iter().copied());
            for (zeros, rows, width) in all {
                let name = format!("{numbers:?} {m}x{k} {side}x{side} {zeros}% {rows}x{width}");
                if !name.contains(&part) {
                    continue;
                }
                let layer = Layer { m, k, n: side * side, zeros, block: (rows, width) };
                let pair = if numbers == Numbers::Floats { layer.floats(isa)? } else { layer.bytes(isa)? };
                let (dense, ms) =
                    times(&mut Ready::new(&pair.dense, None)?, &mut Ready::new(&pair.sparse, Some(&pair.stream))?);
                let product = Product::new(layer.n, k, m, numbers);
                let sparse = Form::Sparse { block: layer.block, blocks: pair.blocks };
                let (dense_model, model) =
                    (1e3 * machine.densest(&product).1.seconds(), 1e3 * machine.time(&product, sparse).seconds());
                println!("{name:30} {dense:9.3} {dense_model:9.3} {ms:9.3} {model:9.3} {:8.2}", dense / ms);
            }
        }
    }
    Ok(())
}
