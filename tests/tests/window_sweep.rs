//! Convolutions over every small geometry of an axis: compiled code gives what the interpreter gives, between
//! inaccessible pages.
//!
//! Kernels of 1 to 3 taps, strides of 1 to 3, dilations of 1 and 2, 0 to 4 elements of padding before and after, and 1
//! to 9 elements: every one of these is the geometry of the rows in one shape, and of the columns in another. Each
//! shape is computed in `f32`, in bfloat16, and in 8-bit integers, over few channels and over as many as a vector
//! multiplies from where they are, dense or each channel on its own.
//!
//! The instruction sets take turns, two of them for each shape; with `OPTC_SWEEP=all` each has every shape.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use optc_ir::ops::nn::Conv;
use optc_ir::ops::quant::QuantConv;
use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Encoding, Graph, Op, Output, TensorType, Val, Value, Verified, infer_node};
use optc_kernel::program::Decision;
use optc_kernel::target::Isa;
use optc_lower::{LowerOptions, lower};
use optc_runtime::ThreadPool;
use optc_tensor::{DType, Difference, Random, Tensor};
use optc_testing::{isas, loaded, run_guarded};

/// How a window slides over an axis.
#[derive(Clone, Copy, Debug)]
struct Axis {
    size: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pads: [usize; 2],
}

/// Every geometry in which the window fits between the ends of the padding.
fn axes() -> Vec<Axis> {
    let mut all = vec![];
    for i in 0..3 * 3 * 2 * 5 * 5 * 9 {
        let (kernel, stride, dilation) = (1 + i % 3, 1 + i / 3 % 3, 1 + i / 9 % 2);
        let (pads, size) = ([i / 18 % 5, i / 90 % 5], 1 + i / 450);
        if (kernel - 1) * dilation < size + pads[0] + pads[1] {
            all.push(Axis { size, kernel, stride, dilation, pads });
        }
    }
    all
}

/// What is multiplied.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Numbers {
    Floats,
    Halves,
    Bytes,
}

/// One convolution.
#[derive(Debug)]
struct Shape {
    numbers: Numbers,
    axes: [Axis; 2],
    /// Input channels of a group, filters of a group, and groups.
    channels: [usize; 3],
    nhwc: bool,
    seed: u64,
}

impl Shape {
    /// The shape that a number stands for, of which there are three for each geometry.
    fn new(number: usize, axes: &[Axis]) -> Shape {
        let mut random = Random::new(number as u64);
        let numbers = [Numbers::Floats, Numbers::Halves, Numbers::Bytes][number % 3];
        let rows = number / 3;
        // A step that has no divisor in common with their number: columns take all geometries as well.
        let columns = (rows * 1009 + 7 * (number % 3)) % axes.len();
        let channels = match random.below(6) {
            0 => [1, 1, random.pick(&[2, 5, 9])],
            1 => [random.pick(&[2, 4]), 3, 2],
            2 => [64, 5, 1],
            _ => [random.pick(&[1, 3, 4, 8, 17]), random.pick(&[1, 4, 9]), 1],
        };
        Shape { numbers, axes: [axes[rows], axes[columns]], channels, nhwc: random.once_in(2), seed: number as u64 }
    }

    fn graph(&self) -> (Graph, Vec<Val>) {
        let of = |get: fn(&Axis) -> usize| self.axes.iter().map(get).map(|n| n as i64).collect::<Vec<_>>();
        let pads = [of(|a| a.pads[0]), of(|a| a.pads[1])].concat();
        let (dilations, strides) = (of(|a| a.dilation), of(|a| a.stride));
        let [channels, filters, groups] = self.channels;
        let x = [1, channels * groups, self.axes[0].size, self.axes[1].size];
        let w = [filters * groups, channels, self.axes[0].kernel, self.axes[1].kernel];
        let mut random = Random::new(self.seed);
        let groups = groups as i64;
        let (op, operands): (Op, Vec<Tensor>) = match self.numbers {
            Numbers::Bytes => {
                let image = random.pick(&[DType::U8, DType::I8]);
                let operands = vec![
                    bytes(&mut random, image, &x),
                    bytes(&mut random, DType::I8, &w),
                    bytes(&mut random, image, &[]),
                ];
                (QuantConv { dilations, groups, pads, strides }.into(), operands)
            }
            floats => {
                let precision = if floats == Numbers::Floats { DType::F32 } else { DType::BF16 };
                let operands = vec![floats_of(&mut random, &x), floats_of(&mut random, &w)];
                (Conv { dilations, groups, pads, precision, strides }.into(), operands)
            }
        };
        self.graph_of(op, operands)
    }

    /// A graph of one op, whose first operand is an input and whose others are constants.
    fn graph_of(&self, op: Op, operands: Vec<Tensor>) -> (Graph, Vec<Val>) {
        let mut graph = Graph::new("case");
        let ty = |t: &Tensor| TensorType::fixed(t.dtype(), t.shape());
        let mut values = vec![Some(graph.add_input("x", ty(&operands[0]).into()))];
        values.extend(operands[1..].iter().map(|t| {
            let constant = Constant { value: Const(t.clone()), zeros: 0 };
            Some(Value { node: graph.add(constant, &[], vec![ty(t).into()]), result: 0 })
        }));
        let node = graph.add(op, &values, vec![TensorType::unranked(DType::F32).into()]);
        let found = infer_node(&graph, node).unwrap().remove(0).as_tensor().unwrap().clone();
        let encoding = if self.nhwc { Encoding::Nhwc } else { Encoding::Plain };
        graph.node_mut(node).results[0].ty = found.with_encoding(encoding).into();
        graph.outputs.push(Output { name: "y".to_owned(), value: Value { node, result: 0 } });
        (graph, vec![operands[0].clone().into()])
    }

    /// What compiled code gets wrong on an instruction set.
    fn failure(&self, isa: &'static Isa, pool: &ThreadPool) -> Option<String> {
        let (graph, inputs) = self.graph();
        let want = optc_ir::run(&graph, &inputs).unwrap().remove(0);
        let target = optc_emit::host::target().with_isa(isa);
        let graph = Verified::new(graph).unwrap();
        let compiled = match lower(graph, &target, LowerOptions::default()) {
            Ok(compiled) => compiled,
            Err(e) => return Some(e.to_string()),
        };
        if let Some(Decision::Host { reason }) = compiled.report.iter().map(|r| &r.decision).next() {
            return Some(format!("it runs on the host: {reason}"));
        }
        let found = run_guarded(&loaded(&compiled).unwrap(), &inputs, pool, &format!("{self:?} on {}", isa.name));
        let (Ok([Val::Tensor(a)]), Val::Tensor(b)) = (found.as_deref(), &want) else {
            return Some(format!("found {found:?}"));
        };
        let tolerance: f64 = if b.dtype() == DType::F32 { 1e-5 } else { 0.0 };
        // The bound of a filtered convolution is relative to the largest result, as its report says.
        let largest = b.to_f64_vec().into_iter().fold(0.0, |most: f64, v| most.max(v.abs()));
        let filtered = compiled.report[0].filtered.map_or(0.0, |filtered| filtered.error * largest);
        match Difference::between(a, b, tolerance, tolerance.max(filtered)) {
            Some(d) if d.within_tolerance() => None,
            Some(d) => Some(format!("off by {:.3e}", d.max_abs)),
            None => Some(format!("found {a:?}, expected {b:?}")),
        }
    }
}

fn floats_of(random: &mut Random, shape: &[usize]) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.real(-1.0, 1.0) as f32).collect();
    Tensor::from_slice(shape, &values).unwrap()
}

fn bytes(random: &mut Random, dtype: DType, shape: &[usize]) -> Tensor {
    let low = if dtype == DType::I8 { -128 } else { 0 };
    let values: Vec<i64> = (0..shape.iter().product()).map(|_| low + random.below(256) as i64).collect();
    Tensor::from_i64(dtype, shape, &values).unwrap()
}

#[test]
fn convolutions_over_every_small_geometry() {
    let (axes, isas) = (axes(), isas());
    let every = std::env::var("OPTC_SWEEP").is_ok_and(|of| of == "all");
    let (shapes, turns) = (3 * axes.len(), isas.len().min(if every { usize::MAX } else { 2 }));
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(vec![]));
    let work = || {
        let pool = ThreadPool::new(1).unwrap();
        while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&i| i < shapes * turns) {
            let shape = Shape::new(i % shapes, &axes);
            let isa = isas[(i / shapes + i % shapes / 3) % isas.len()];
            if let Some(how) = shape.failure(isa, &pool) {
                failures.lock().unwrap().push((i, format!("{shape:?} on {}: {how}", isa.name)));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(work);
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    let names: Vec<&str> = isas.iter().map(|isa| isa.name).collect();
    println!("{} of {shapes} shapes wrong in {} runs on {}", failures.len(), shapes * turns, names.join(", "));
    let some = failures.iter().take(5).map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {} runs fail; the first:\n{some}", failures.len(), shapes * turns);
}
