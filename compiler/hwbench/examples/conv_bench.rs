//! Times the kernels of convolutional networks, layer by layer, in GFLOP/s and per cent of the FMA peak measured right
//! beside each run; an argument selects layers by a part of their names.
//!
//! `cargo run --release -p optc-hwbench --example conv_bench [PART]`

use std::time::Instant;

use optc_emit::Code;
use optc_hwbench::peak::Peak;
use optc_kernel::expr::Expr;
use optc_kernel::nest::Kernel;
use optc_kernels::contract::{ContractSchedule, ConvNest, contract, conv};
use optc_kernels::window::{Axis, ImageView, WindowNest, WindowReduce, window};

type Failure = Box<dyn std::error::Error>;

/// A kernel and the contents of its constant buffers.
struct Layer {
    kernel: Kernel,
    constants: Vec<(usize, Vec<u8>)>,
    flops: usize,
}

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

/// Milliseconds of all tasks by one thread, and the peak beside it. Each task is timed on its own, the best of many
/// rounds: what else runs on the machine disturbs only some of them.
fn time(layer: &Layer, peak: &Peak) -> Result<(f64, f64), Failure> {
    let code = Code::compile(&[&layer.kernel], 1)?;
    let mut bufs: Vec<_> = layer.kernel.bufs.iter().map(|b| Aligned::new(b.bytes)).collect();
    for (i, bytes) in &layer.constants {
        bufs[*i].bytes()[..bytes.len()].copy_from_slice(bytes);
    }
    let args: Vec<_> = bufs.iter_mut().map(|b| b.bytes().as_mut_ptr()).collect();
    let mut scratch = Aligned::new(layer.kernel.scratch_bytes);
    let (mut times, mut top) = (vec![f64::MAX; layer.kernel.tasks as usize], 0f64);
    for _ in 0..25 {
        top = top.max(peak.measure());
        for (task, time) in (0..).zip(times.iter_mut()) {
            let start = Instant::now();
            // SAFETY: buffers and scratch of the declared lengths, aligned to 64 bytes, distinct; one task.
            unsafe { code.entry(0)(args.as_ptr(), scratch.bytes().as_mut_ptr(), task, task + 1) };
            *time = time.min(start.elapsed().as_secs_f64());
        }
    }
    Ok((times.iter().sum::<f64>() * 1e3, top))
}

fn sliding(reduce: WindowReduce, size: usize, channels: usize, kernel: usize, stride: usize, planes: bool) -> Layer {
    let pad = (kernel - 1) / 2;
    let out = (size + 2 * pad - kernel) / stride + 1;
    let axis = Axis { size, out, kernel, stride, dilation: 1, pads: [pad; 2] };
    let mut w = WindowNest::channels_last(1, channels, [Axis::NONE, axis, axis], reduce);
    if planes {
        w.src = ImageView::channels_first(1, [1, size, size], channels);
        w.dst = ImageView::channels_first(1, [1, out, out], channels);
    }
    w.operands = vec![ImageView::per_channel(channels)];
    w.epilogue = Expr::Operand(0).plus(Expr::Operand(1)).relu();
    let built = window(&w, optc_emit::host::isa());
    let constants = built.table.into_iter().map(|t| (1, t)).collect();
    Layer { kernel: built.kernel, constants, flops: 2 * out * out * channels * kernel * kernel }
}

fn dense(size: usize, channels: usize, filters: usize, kernel: usize, stride: usize) -> Result<Layer, Failure> {
    let pad = (kernel - 1) / 2;
    let out = (size + 2 * pad - kernel) / stride + 1;
    let axis = Axis { size, out, kernel, stride, dilation: 1, pads: [pad; 2] };
    let mut c = ConvNest::channels_last(1, channels, filters, 1, [Axis::NONE, axis, axis]);
    c.operands = vec![ImageView::per_channel(filters)];
    c.epilogue = Expr::Operand(0).plus(Expr::Operand(1)).relu();
    let isa = optc_emit::host::isa();
    let problem = conv(&c);
    let built = contract(&problem, isa, ContractSchedule::choose(&problem, isa, &optc_emit::host::caches()))?;
    let constants = built.table.into_iter().map(|t| (2, t)).collect();
    Ok(Layer { kernel: built.kernel, constants, flops: 2 * out * out * filters * channels * kernel * kernel })
}

fn layers() -> Result<Vec<(String, Layer)>, Failure> {
    let mut layers = Vec::new();
    for (size, channels, filters, kernel, stride) in [
        (224, 3, 64, 7, 2),
        (224, 3, 32, 3, 2),
        (56, 64, 64, 1, 1),
        (56, 64, 64, 3, 1),
        (56, 64, 256, 1, 1),
        (56, 256, 128, 1, 2),
        (56, 128, 128, 3, 2),
        (28, 512, 128, 1, 1),
        (28, 128, 128, 3, 1),
        (14, 1024, 256, 1, 1),
        (14, 256, 256, 3, 1),
        (7, 512, 512, 3, 1),
        (7, 2048, 512, 1, 1),
        (112, 32, 64, 1, 1),
        (56, 128, 128, 1, 1),
        (14, 512, 512, 1, 1),
        (7, 1024, 1024, 1, 1),
    ] {
        let name = format!("conv {size}x{size}x{channels}->{filters} {kernel}x{kernel} s{stride}");
        layers.push((name, dense(size, channels, filters, kernel, stride)?));
    }
    for (size, channels, kernel, stride) in [
        (112, 32, 3, 1),
        (112, 64, 3, 2),
        (56, 128, 3, 1),
        (56, 128, 3, 2),
        (28, 256, 3, 1),
        (14, 512, 3, 1),
        (14, 512, 3, 2),
        (7, 1024, 3, 1),
        (28, 120, 5, 1),
        (56, 96, 7, 1),
    ] {
        let name = format!("depthwise {size}x{size}x{channels} {kernel}x{kernel} s{stride}");
        layers.push((format!("{name} nchw"), sliding(WindowReduce::Dot, size, channels, kernel, stride, true)));
        layers.push((name, sliding(WindowReduce::Dot, size, channels, kernel, stride, false)));
    }
    layers.push(("max pool 112x112x64 3x3 s2".into(), sliding(WindowReduce::Max, 112, 64, 3, 2, false)));
    Ok(layers)
}

fn main() -> Result<(), Failure> {
    let part = std::env::args().nth(1).unwrap_or_default();
    let peak = Peak::new()?;
    for (name, layer) in layers()?.into_iter().filter(|(name, _)| name.contains(&part)) {
        let (ms, top) = time(&layer, &peak)?;
        let (rate, tasks) = (layer.flops as f64 / ms / 1e6, layer.kernel.tasks);
        println!("{name:36} {ms:8.3} ms {rate:7.2} GFLOP/s {:5.1} % of {top:.1}, {tasks} tasks", 100.0 * rate / top);
    }
    Ok(())
}
