//! Times elementwise, movement and folding kernels next to plain Rust loops on one thread: GB/s of bytes that must be
//! read and written, and elements in a nanosecond.
//!
//! `cargo run --release -p optc-hwbench --example nest_bench [FILTER]`

use std::hint::black_box;
use std::time::Instant;

use optc_emit::Code;
use optc_kernel::expr::Expr;
use optc_kernel::nest::Kernel;
use optc_kernel::space::ByteView;
use optc_kernel::tile::MemType;
use optc_kernels::elementwise::{Elementwise, elementwise};
use optc_kernels::fold::{Fold, Folding, Reduction, folding, normalised, softmax};
use optc_kernels::movement::{Movement, Piece, PiecePlace, Source, movement};

/// A buffer of ordinary floats aligned to 64 bytes.
struct Aligned(Vec<f32>);

impl Aligned {
    fn new(bytes: usize) -> Self {
        Aligned((0..bytes / 4 + 16).map(|i| (i % 1000) as f32 / 500.0 - 1.0).collect())
    }

    fn skip(&self) -> usize {
        self.0.as_ptr().align_offset(64)
    }
}

/// The best time of some rounds, in seconds.
fn best(mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    f();
    let repeat = (2e-3 / start.elapsed().as_secs_f64()).clamp(1.0, 1e5) as usize;
    let mut best = f64::MAX;
    for _ in 0..12 {
        let start = Instant::now();
        (0..repeat).for_each(|_| f());
        best = best.min(start.elapsed().as_secs_f64() / repeat as f64);
    }
    best
}

fn time_kernel(kernel: &Kernel) -> Result<f64, Box<dyn std::error::Error>> {
    let code = Code::compile(&[kernel], 1)?;
    let mut bufs: Vec<_> = kernel.bufs.iter().map(|b| Aligned::new(b.bytes)).collect();
    let skips: Vec<_> = bufs.iter().map(Aligned::skip).collect();
    let args: Vec<_> = bufs.iter_mut().zip(skips).map(|(b, skip)| b.0[skip..].as_mut_ptr().cast()).collect();
    // SAFETY: buffers of the declared lengths, aligned to 64 bytes, that live through the calls; no scratch is
    // declared.
    Ok(best(|| unsafe { code.entry(0)(args.as_ptr(), std::ptr::null_mut(), 0, kernel.tasks) }))
}

/// What is timed next to the kernel: a plain loop from a source to a destination.
type Plain<'a> = &'a dyn Fn(&[f32], &mut [f32]);

fn report(name: &str, kernel: &Kernel, n: usize, plain: Option<Plain>) -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().nth(1).is_some_and(|filter| !name.contains(&filter)) {
        return Ok(());
    }
    let time = time_kernel(kernel)?;
    let bytes: usize = kernel.bufs.iter().map(|b| b.bytes).sum();
    let beside = plain.map(|f| {
        let (src, mut dst) = (Aligned::new(4 * n), Aligned::new(4 * n));
        let (from, to) = (src.skip(), dst.skip());
        best(|| f(black_box(&src.0[from..from + n]), black_box(&mut dst.0[to..to + n])))
    });
    let rust = beside.map_or(String::new(), |t| format!("   plain Rust {:6.2} elements/ns", n as f64 / t / 1e9));
    println!("{name:34} {:7.2} GB/s {:6.2} elements/ns{rust}", bytes as f64 / time / 1e9, n as f64 / time / 1e9);
    Ok(())
}

fn map(n: usize, operands: usize, expr: Expr) -> Kernel {
    let view = ByteView::dense(MemType::F32, &[n]);
    let results = vec![(view.clone(), expr)];
    elementwise(&Elementwise { shape: vec![n], operands: vec![view; operands], results }, optc_emit::host::isa())
}

/// `dst[i][j] = src[j][i]`.
fn transpose(rows: usize, cols: usize, width: usize) -> Kernel {
    let w = width as i64;
    let piece = Piece {
        shape: vec![cols, rows],
        source: Source::Copy(0, PiecePlace { offset: 0, strides: vec![w, cols as i64 * w] }),
        dst: PiecePlace { offset: 0, strides: vec![rows as i64 * w, w] },
    };
    let bytes = rows * cols * width;
    movement(&Movement { width, sources: vec![bytes], dst_bytes: bytes, pieces: vec![piece] }, optc_emit::host::isa())
}

fn lines(rows: usize, n: usize, along: bool, (folds, store): (Vec<Fold>, Expr), every: bool) -> Option<Kernel> {
    let shape = if along { vec![rows, n] } else { vec![n, rows] };
    let reduced = vec![!along, along];
    let x = ByteView::dense(MemType::F32, &shape);
    let written: Vec<_> = (0..2).map(|d| if every || !reduced[d] { shape[d] } else { 1 }).collect();
    let result = ByteView::dense(MemType::F32, &written);
    folding(&Folding { shape, reduced, operands: vec![x], folds, result, every, store }, optc_emit::host::isa())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let x = || Expr::Operand(0);
    for n in [4 << 10, 64 << 10, 4 << 20] {
        let size = format!("{} Ki", n >> 10);
        let copy: Plain = &|x, y| y.copy_from_slice(x);
        let relu: Plain = &|x, y| y.iter_mut().zip(x).for_each(|(y, x)| *y = x.max(0.0));
        let gelu: Plain = &|x, y| {
            y.iter_mut()
                .zip(x)
                .for_each(|(y, &x)| *y = 0.5 * x * (1.0 + (0.797_884_6 * x * (1.0 + 0.044_715 * x * x)).tanh()));
        };
        let exp: Plain = &|x, y| y.iter_mut().zip(x).for_each(|(y, x)| *y = x.exp());
        report(&format!("copy {size}"), &map(n, 1, x()), n, Some(copy))?;
        report(&format!("relu {size}"), &map(n, 1, x().relu()), n, Some(relu))?;
        report(&format!("add {size}"), &map(n, 2, x().plus(Expr::Operand(1))), n, None)?;
        report(&format!("exp {size}"), &map(n, 1, x().exp()), n, Some(exp))?;
        report(&format!("gelu {size}"), &map(n, 1, x().gelu()), n, None)?;
        report(&format!("gelu_tanh {size}"), &map(n, 1, x().gelu_tanh()), n, Some(gelu))?;
        report(&format!("silu {size}"), &map(n, 1, x().silu()), n, None)?;
        report(&format!("log {size}"), &map(n, 1, x().log()), n, None)?;
        report(&format!("sin {size}"), &map(n, 1, x().func(optc_kernel::expr::Func::Sin)), n, None)?;
    }
    for (rows, cols) in [(64, 64), (384, 384), (512, 512), (3136, 64), (1000, 1000), (1024, 1024), (2048, 2048)] {
        let plain: Plain = &|x, y| (0..cols).for_each(|i| (0..rows).for_each(|j| y[i * rows + j] = x[j * cols + i]));
        report(&format!("transpose {rows}x{cols}"), &transpose(rows, cols, 4), rows * cols, Some(plain))?;
        report(&format!("transpose {rows}x{cols} bytes"), &transpose(rows, cols, 1), rows * cols, None)?;
    }
    for (rows, n) in [(384, 128), (128, 768), (1024, 1024)] {
        for along in [true, false] {
            let name = |what: &str| format!("{what} {rows}x{n} {}", if along { "along" } else { "across" });
            let cases = [
                ("sum", Reduction::Sum.folds(n, 1), false),
                ("max", Reduction::Max.folds(n, 1), false),
                ("softmax", softmax(1), true),
                ("layer_norm", normalised(n, 1e-5, 1), true),
            ];
            for (what, folds, every) in cases {
                if let Some(kernel) = lines(rows, n, along, folds, every) {
                    report(&name(what), &kernel, rows * n, None)?;
                }
            }
        }
    }
    Ok(())
}
