//! Times a pointwise convolution, the depthwise one after it, and both as one kernel, on that many threads (one without
//! the argument).
//!
//! `cargo run --release --workspace --example separable_bench [THREADS]`

use std::sync::Barrier;
use std::time::Instant;

use optc_emit::Code;
use optc_kernel::expr::Expr;
use optc_kernel::nest::Kernel;
use optc_kernel::tile::Binary;
use optc_kernels::contract::{ContractSchedule, ConvNest, contract, conv};
use optc_kernels::separable::{Separable, separable};
use optc_kernels::window::{Axis, ImageView, WindowNest, WindowReduce, window};

type Failure = Box<dyn std::error::Error>;

/// Channels before, picture, channels between, window, stride: layers of MobileNet v1 and v2 and of EfficientNet-Lite0.
const PAIRS: [(usize, usize, usize, usize, usize); 12] = [
    (16, 112, 96, 3, 2),
    (32, 112, 64, 3, 2),
    (24, 56, 144, 3, 1),
    (64, 56, 128, 3, 1),
    (128, 56, 128, 3, 2),
    (128, 28, 256, 3, 1),
    (256, 28, 256, 3, 2),
    (40, 28, 240, 5, 1),
    (64, 14, 384, 3, 1),
    (112, 14, 672, 5, 1),
    (512, 14, 512, 3, 1),
    (192, 7, 1152, 5, 1),
];

/// A buffer aligned to 64 bytes, of numbers that are not zero.
struct Aligned(Vec<f32>);

impl Aligned {
    fn new(bytes: usize) -> Self {
        Aligned(vec![0.01; bytes / 4 + 32])
    }

    fn start(&mut self) -> usize {
        let skip = self.0.as_ptr().align_offset(64);
        self.0[skip..].as_mut_ptr() as usize
    }
}

/// Microseconds of each kernel on this many threads, which share the tasks evenly: the best of many rounds in which
/// they take turns.
fn times(kernels: &[&Kernel], threads: usize) -> Result<Vec<f64>, Failure> {
    let code = Code::compile(kernels, 1)?;
    let mut best = vec![f64::MAX; kernels.len()];
    let mut buffers: Vec<Vec<Aligned>> =
        kernels.iter().map(|k| k.bufs.iter().map(|b| Aligned::new(b.bytes)).collect()).collect();
    let args: Vec<Vec<usize>> = buffers.iter_mut().map(|b| b.iter_mut().map(Aligned::start).collect()).collect();
    let barrier = Barrier::new(threads);
    let work = |thread: usize| {
        let mut best = vec![f64::MAX; kernels.len()];
        let most = kernels.iter().map(|k| k.scratch_bytes).max().unwrap_or(0);
        let mut scratch = Aligned::new(most);
        for (_, (i, kernel)) in (0..60).flat_map(|round| kernels.iter().enumerate().map(move |k| (round, k))) {
            let share = |t: usize| kernel.tasks * t as u64 / threads as u64;
            barrier.wait();
            let start = Instant::now();
            // SAFETY: buffers and scratch of the declared lengths, aligned to 64 bytes, distinct; the tasks of a thread
            // are its own.
            unsafe {
                code.entry(i)(args[i].as_ptr().cast(), scratch.start() as *mut u8, share(thread), share(thread + 1));
            }
            barrier.wait();
            best[i] = best[i].min(start.elapsed().as_secs_f64() * 1e6);
        }
        best
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|t| scope.spawn(move || work(t))).collect();
        best = work(0);
        others.into_iter().for_each(|t| drop(t.join()));
    });
    Ok(best)
}

/// The sum and a bias, between 0 and 6.
fn clipped() -> Expr {
    let biased = Expr::Operand(0).plus(Expr::Operand(1));
    biased.binary(Binary::Max, Expr::Const(0.0)).binary(Binary::Min, Expr::Const(6.0))
}

fn main() -> Result<(), Failure> {
    let (isa, caches) = (optc_emit::host::isa(), optc_emit::host::caches());
    let threads = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
    for (inputs, size, channels, kernel, stride) in PAIRS {
        let point = Axis { size, out: size, ..Axis::NONE };
        let mut first = ConvNest::channels_last(1, inputs, channels, 1, [Axis::NONE, point, point]);
        (first.operands, first.epilogue) = (vec![ImageView::per_channel(channels)], clipped());
        let axis = Axis { size, out: size.div_ceil(stride), kernel, stride, dilation: 1, pads: [kernel / 2; 2] };
        let mut second = WindowNest::channels_last(1, channels, [Axis::NONE, axis, axis], WindowReduce::Dot);
        (second.operands, second.epilogue) = (vec![ImageView::per_channel(channels)], clipped());
        let (rows, columns) = isa.contract_f32;
        let both = Separable { dense: conv(&first), window: second, tile: (rows, columns * isa.lanes()) };
        if let Some(why) = both.declines() {
            println!("{inputs:4} -> {channels:4} {size}x{size}: {why}");
            continue;
        }
        let cut = both.cut(&caches);
        let pays = if both.pays(cut, &caches) { "" } else { ", not taken" };
        let schedule = ContractSchedule::choose(&both.dense, isa, &caches);
        let dense = contract(&both.dense, isa, schedule)?.kernel;
        let t = times(&[&dense, &window(&both.window, isa).kernel, &separable(&both, isa, cut)?], threads)?;
        println!(
            "{inputs:4} -> {channels:4} {size:3}x{size:<3} {kernel}x{kernel}/{stride}: {:7.1} + {:6.1} us, as one \
             {:7.1} us: {:.3}{pays}",
            t[0],
            t[1],
            t[2],
            t[2] / (t[0] + t[1])
        );
    }
    Ok(())
}
