//! Random shapes for every kind of nest: one op with the operands that its kernels are made for, and what may come
//! after it.
//!
//! A seed determines the whole case. Extents are mostly those at which vectors, tiles and blocks end, one less and one
//! more; windows come with strides, dilations, groups and uneven padding, in which some of them lie whole.

mod integers;
mod moves;
mod products;
mod rows;
mod sequences;
mod windows;

use optc_ir::ops::math::{Add, Cast, Mul, Relu, Sigmoid};
use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Encoding, Graph, NodeId, Op, Output, TensorType, Val, Value, infer_node};
use optc_tensor::{DType, Random, Tensor};

/// A kind of nest.
pub struct NestKind {
    /// What it is.
    pub name: &'static str,
    /// Parts of the names of its kernels; `view` where some need none.
    pub kernels: &'static [&'static str],
    /// Makes the op; `None` where the extents that were drawn do not fit each other.
    make: fn(&mut Maker) -> Option<NodeId>,
}

/// Every kind.
pub static KINDS: &[NestKind] = &[
    NestKind { name: "matmul", kernels: &["contract_"], make: products::matmul },
    NestKind { name: "gemm", kernels: &["contract_"], make: products::gemm },
    NestKind { name: "conv", kernels: &["contract_", "winograd"], make: products::conv },
    NestKind { name: "conv of computed weights", kernels: &["contract_"], make: products::computed_conv },
    NestKind { name: "conv_transpose", kernels: &["contract_"], make: products::conv_transpose },
    NestKind { name: "sparse", kernels: &["spmm_f32"], make: products::sparse },
    NestKind { name: "depthwise", kernels: &["depthwise_f32", "depthwise_bf16"], make: windows::depthwise },
    NestKind { name: "separable", kernels: &["separable_f32"], make: windows::separable },
    NestKind { name: "pool", kernels: &["pool"], make: windows::pool },
    NestKind { name: "reduce", kernels: &["fold"], make: rows::reduce },
    NestKind { name: "softmax", kernels: &["fold"], make: rows::softmax },
    NestKind { name: "norm", kernels: &["fold"], make: rows::norm },
    NestKind { name: "elementwise", kernels: &["elementwise"], make: rows::elementwise },
    NestKind { name: "movement", kernels: &["move", "elementwise", "transpose", "view"], make: moves::movement },
    NestKind { name: "gather", kernels: &["gather", "move", "view"], make: moves::gather },
    NestKind { name: "recurrent", kernels: &["recurrent"], make: sequences::recurrent },
    NestKind { name: "dynamic", kernels: &["dynamic_range", "recurrent_i8"], make: sequences::dynamic },
    NestKind { name: "attention", kernels: &["contract_", "attention"], make: sequences::attention },
    NestKind { name: "rotary", kernels: &["elementwise"], make: sequences::rotary },
    NestKind { name: "einsum", kernels: &["contract_", "elementwise", "fold", "move"], make: products::einsum },
    NestKind { name: "int8 matmul", kernels: &["contract_"], make: integers::matmul },
    NestKind { name: "int8 conv", kernels: &["contract_"], make: integers::conv },
    NestKind { name: "int8 depthwise", kernels: &["depthwise_i8"], make: integers::depthwise },
    NestKind { name: "int8 window", kernels: &["pool", "fold"], make: integers::window },
    NestKind { name: "quantize", kernels: &["elementwise"], make: integers::quantize },
];

/// One case.
pub struct Case {
    /// The graph.
    pub graph: Graph,
    /// A value for each of its inputs.
    pub inputs: Vec<Val>,
    /// The passes that it goes through.
    pub passes: &'static str,
    /// Threads that run it.
    pub threads: usize,
}

/// The case of a kind that a seed determines.
pub fn case(kind: &NestKind, seed: u64) -> Case {
    let mut random = Random::new(seed);
    loop {
        let nhwc = random.once_in(2);
        let (graph, inputs) = (Graph::new("case"), vec![]);
        let mut maker = Maker { random: &mut random, graph, inputs, passes: None, rounds: false, nhwc };
        let Some(last) = (kind.make)(&mut maker).and_then(|id| maker.finish(id)) else { continue };
        let (mut graph, inputs) = (maker.graph, maker.inputs);
        let passes = maker.passes;
        for result in 0..graph.node(last).results.len() as u32 {
            graph.outputs.push(Output { name: format!("y{result}"), value: Value { node: last, result } });
        }
        let passes = passes.unwrap_or_else(|| random.pick(&["", "fuse", "O2"]));
        let threads = if random.once_in(4) { 2 } else { 1 };
        return Case { graph, inputs, passes, threads };
    }
}

/// Most elements of a value.
const MAX_ELEMENTS: usize = 20_000;

/// Makes the graph of a case.
struct Maker<'a> {
    random: &'a mut Random,
    graph: Graph,
    inputs: Vec<Val>,
    /// The passes, where the kind needs some.
    passes: Option<&'static str>,
    /// Whether the result is stored as bfloat16.
    rounds: bool,
    /// Whether images are to have their channels last.
    nhwc: bool,
}

impl Maker<'_> {
    /// An extent at or next to the end of a vector, a tile or a block.
    fn extent(&mut self) -> usize {
        let of = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 15, 16, 17, 23, 24, 25, 31, 32, 33, 47, 48, 49];
        self.random.pick(&of)
    }

    /// A small extent.
    fn few(&mut self, most: usize) -> usize {
        1 + self.random.below(most)
    }

    /// True once in `n` times.
    fn once_in(&mut self, n: usize) -> bool {
        self.random.once_in(n)
    }

    fn floats(&mut self, shape: &[usize]) -> Tensor {
        let n = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|_| self.random.real(-1.0, 1.0) as f32).collect();
        Tensor::from_slice(shape, &values).expect("as many values as the shape has")
    }

    fn bytes(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        let low = if dtype == DType::I8 { -128 } else { 0 };
        let values: Vec<i64> = (0..shape.iter().product()).map(|_| low + self.random.below(256) as i64).collect();
        Tensor::from_i64(dtype, shape, &values).expect("as many values as the shape has")
    }

    fn input_of(&mut self, t: Tensor) -> Value {
        let name = format!("x{}", self.inputs.len());
        let value = self.graph.add_input(&name, TensorType::fixed(t.dtype(), t.shape()).into());
        self.inputs.push(t.into());
        value
    }

    fn constant_of(&mut self, t: Tensor) -> Value {
        let ty = TensorType::fixed(t.dtype(), t.shape()).into();
        Value { node: self.graph.add(Constant { value: Const(t), zeros: 0 }, &[], vec![ty]), result: 0 }
    }

    /// Random floats that the graph is given.
    fn input(&mut self, shape: &[usize]) -> Value {
        let t = self.floats(shape);
        self.input_of(t)
    }

    /// Random bfloat16 that the graph is given.
    fn halves(&mut self, shape: &[usize]) -> Value {
        let t = self.floats(shape);
        self.input_of(Tensor::from_f64(DType::BF16, shape, &t.to_f64_vec()).expect("as many values as the shape has"))
    }

    /// The first factor of a product of a precision, which may be rounded to it already.
    fn factor(&mut self, shape: &[usize], precision: DType) -> Value {
        if precision == DType::BF16 && self.once_in(2) { self.halves(shape) } else { self.input(shape) }
    }

    /// Random floats that are constant.
    fn constant(&mut self, shape: &[usize]) -> Value {
        let t = self.floats(shape);
        self.constant_of(t)
    }

    /// One or the other.
    fn either(&mut self, shape: &[usize]) -> Value {
        if self.once_in(2) { self.input(shape) } else { self.constant(shape) }
    }

    fn shape(&self, v: Value) -> Option<Vec<usize>> {
        self.graph.ty(v).as_tensor()?.static_shape()
    }

    /// Adds an op; `None` where it refuses its operands, or its result is too large.
    fn op(&mut self, op: impl Into<Op>, operands: &[Option<Value>]) -> Option<NodeId> {
        let id = self.graph.add(op, operands, vec![]);
        let types = infer_node(&self.graph, id).ok()?;
        let small = types.iter().all(|ty| {
            let elements = ty.as_tensor().and_then(TensorType::static_shape).map(|s| s.iter().product::<usize>());
            elements.is_some_and(|n| (1..=MAX_ELEMENTS).contains(&n))
        });
        self.graph.node_mut(id).results = types.into_iter().map(|ty| optc_ir::ResultInfo { ty }).collect();
        small.then_some(id)
    }

    /// [`Maker::op`] of operands that are all there, as a value.
    fn value(&mut self, op: impl Into<Op>, operands: &[Value]) -> Option<Value> {
        let operands: Vec<Option<Value>> = operands.iter().copied().map(Some).collect();
        Some(Value { node: self.op(op, &operands)?, result: 0 })
    }

    /// Puts elementwise ops after an op of reals, some of the time, and lays images out with channels last where they
    /// are to be.
    fn finish(&mut self, id: NodeId) -> Option<NodeId> {
        let value = Value { node: id, result: 0 };
        let ty = self.graph.ty(value).as_tensor()?.clone();
        let mut last = id;
        if self.graph.node(id).results.len() == 1 && ty.dtype == DType::F32 {
            for _ in 0..self.random.below(3) {
                let (x, shape) = (Value { node: last, result: 0 }, ty.static_shape()?);
                let mut of_channels = vec![1; shape.len()];
                if let Some(n) = of_channels.get_mut(1) {
                    *n = shape[1];
                }
                let next = match self.random.below(4) {
                    0 => self.value(Relu {}, &[x])?,
                    1 => self.value(Sigmoid {}, &[x])?,
                    2 => {
                        let other = self.either(&shape);
                        self.value(Add {}, &[x, other])?
                    }
                    _ => {
                        let factors = self.constant(&of_channels);
                        self.value(Mul {}, &[x, factors])?
                    }
                };
                last = next.node;
            }
            if self.rounds {
                last = self.op(Cast { to: DType::BF16 }, &[Some(Value { node: last, result: 0 })])?;
            }
        }
        let images =
            matches!(self.graph.node(id).op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Pool(_) | Op::QuantConv(_));
        if self.nhwc
            && (images || ty.encoding == Encoding::Nhwc)
            && ty.static_shape()?.len() == 4
            && self.passes.is_none()
        {
            self.passes = Some(self.random.pick(&["", "fuse"]));
            let ids: Vec<NodeId> = self.graph.topological_order()?.into_iter().collect();
            for id in ids.into_iter().filter(|&id| id >= value.node) {
                self.channels_last(id);
            }
        }
        Some(last)
    }

    /// Lays out the results of a node that have channels with these last.
    fn channels_last(&mut self, id: NodeId) {
        if matches!(self.graph.node(id).op, Op::Param(_) | Op::Constant(_)) {
            return;
        }
        for result in &mut self.graph.node_mut(id).results {
            if let Some(t) = result.ty.as_tensor().filter(|t| t.static_shape().is_some_and(|s| s.len() == 4)).cloned() {
                result.ty = t.with_encoding(Encoding::Nhwc).into();
            }
        }
    }
}

/// What slides over a spatial axis: extent, window, stride, dilation, padding before and after.
#[derive(Clone, Copy)]
struct Sliding {
    size: usize,
    kernel: usize,
    stride: i64,
    dilation: i64,
    pads: (i64, i64),
}

impl Maker<'_> {
    /// A window for each of `axes` axes that fits.
    fn sliding(&mut self, axes: usize) -> Vec<Sliding> {
        let most = [33, 17, 6][axes.min(3) - 1];
        let one = |m: &mut Self| loop {
            let (size, kernel) = (m.few(most), m.few(if axes == 1 { 7 } else { 5 }));
            let (stride, dilation) = (m.few(3) as i64, if m.once_in(3) { m.few(3) as i64 } else { 1 });
            let reach = (kernel as i64 - 1) * dilation + 1;
            let pads = (m.padding(reach, stride), m.padding(reach, stride));
            if reach <= size as i64 + pads.0 + pads.1 {
                return Sliding { size, kernel, stride, dilation, pads };
            }
        };
        (0..axes).map(|_| one(self)).collect()
    }

    /// Padding at one end of an axis: mostly none or a little, else so much that whole windows may lie in it.
    fn padding(&mut self, reach: i64, stride: i64) -> i64 {
        let most = match self.random.below(6) {
            0..3 => 0,
            3..5 => 2,
            _ => reach + 2 * stride,
        };
        self.random.below(most as usize + 1) as i64
    }
}

/// The shape of one image or two of this many channels.
fn images(m: &mut Maker, channels: usize, of: &[Sliding]) -> Vec<usize> {
    [&[m.few(2), channels][..], &sizes(of)].concat()
}

/// The attributes of windows: dilations, pads, strides.
fn attributes(of: &[Sliding]) -> (Vec<i64>, Vec<i64>, Vec<i64>) {
    let pads = of.iter().map(|s| s.pads.0).chain(of.iter().map(|s| s.pads.1)).collect();
    (of.iter().map(|s| s.dilation).collect(), pads, of.iter().map(|s| s.stride).collect())
}

fn sizes(of: &[Sliding]) -> Vec<usize> {
    of.iter().map(|s| s.size).collect()
}

fn kernels(of: &[Sliding]) -> Vec<usize> {
    of.iter().map(|s| s.kernel).collect()
}
