//! Layers with all their attributes, drawn: convolutions, pools and products, of reals, of bfloat16 and of 8-bit
//! integers.

mod integers;
mod reals;

use arbitrary::{Result, Unstructured};
use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Graph, NodeId, Op, Output, ResultInfo, TensorType, Val, Value, infer_node};
use optc_tensor::{DType, Random, Tensor, element_count};

/// The most elements that a value of a layer has.
const ELEMENTS: usize = 20_000;

/// Pipelines that change what is rounded by nothing.
const ANY: &[&str] = &["", "fuse", "O2"];
/// Pipelines that move no scale over a product in bfloat16.
const EXACT: &[&str] = &["", "fuse"];

/// A layer, a value for each of its inputs, and the pipelines that it may go through.
type Layer = (Graph, Vec<Val>, &'static [&'static str]);

/// A layer; `None` where what was drawn does not fit.
///
/// # Errors
/// As [`Unstructured`]'s.
pub fn draw(u: &mut Unstructured) -> Result<Option<Layer>> {
    let random = Random::new(u.arbitrary()?);
    let mut net = Net { u, random, graph: Graph::new("layer"), inputs: vec![], passes: ANY };
    let last = match net.u.int_in_range(0..=10)? {
        0 | 1 => reals::conv(&mut net)?,
        2 => reals::conv_transpose(&mut net)?,
        3 => reals::pool(&mut net)?,
        4 => reals::matmul(&mut net)?,
        5 => reals::gemm(&mut net)?,
        6 | 7 => integers::conv(&mut net)?,
        8 => integers::matmul(&mut net)?,
        9 => integers::scaled(&mut net)?,
        _ => integers::marked(&mut net)?,
    };
    Ok(last.map(|last| {
        let mut graph = net.graph;
        for result in 0..graph.node(last).results.len() as u32 {
            graph.outputs.push(Output { name: format!("y{result}"), value: Value { node: last, result } });
        }
        (graph, net.inputs, net.passes)
    }))
}

/// The graph of a layer while it is made. Attributes and extents are drawn from bytes, so that they can be mutated; the
/// elements of tensors from a seed.
struct Net<'a, 'b> {
    u: &'a mut Unstructured<'b>,
    random: Random,
    graph: Graph,
    inputs: Vec<Val>,
    passes: &'static [&'static str],
}

/// What slides over a spatial axis: extent, window, stride, dilation, padding at the beginning and the end.
#[derive(Clone, Copy)]
struct Window {
    size: usize,
    kernel: usize,
    stride: i64,
    dilation: i64,
    pads: (i64, i64),
}

impl Net<'_, '_> {
    /// True `n` times in `of`.
    fn chance(&mut self, n: u8, of: u8) -> Result<bool> {
        self.u.ratio(n, of)
    }

    fn number(&mut self, low: usize, high: usize) -> Result<usize> {
        self.u.int_in_range(low..=high)
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> Result<T> {
        self.u.choose(items).copied()
    }

    /// An extent at or next to the end of a vector, a tile or a block; seldom zero.
    fn extent(&mut self) -> Result<usize> {
        if self.chance(1, 60)? {
            return Ok(0);
        }
        self.pick(&[1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 47, 48, 49, 64, 65])
    }

    /// Windows over this many axes, which may lie in the padding alone.
    fn windows(&mut self, axes: usize) -> Result<Vec<Window>> {
        let most = [40, 14, 6][axes.min(3) - 1];
        (0..axes)
            .map(|_| {
                let pad = |net: &mut Self| Ok(if net.chance(1, 2)? { net.number(0, 5)? as i64 } else { 0 });
                let (size, kernel) = (self.number(1, most)?, self.number(1, 4)?);
                let (stride, dilation) = (self.number(1, 4)? as i64, self.number(1, 3)? as i64);
                Ok(Window { size, kernel, stride, dilation, pads: (pad(self)?, pad(self)?) })
            })
            .collect()
    }

    fn floats(&mut self, shape: &[usize]) -> Option<Tensor> {
        let n = element_count(shape).filter(|&n| n <= ELEMENTS)?;
        let values: Vec<f32> = (0..n).map(|_| self.random.real(-1.0, 1.0) as f32).collect();
        Tensor::from_slice(shape, &values).ok()
    }

    fn integers(&mut self, dtype: DType, shape: &[usize], low: i64, high: i64) -> Option<Tensor> {
        let n = element_count(shape).filter(|&n| n <= ELEMENTS)?;
        let values: Vec<i64> = (0..n).map(|_| low + self.random.below((high - low + 1) as usize) as i64).collect();
        Tensor::from_i64(dtype, shape, &values).ok()
    }

    fn bytes(&mut self, dtype: DType, shape: &[usize]) -> Option<Tensor> {
        let low = if dtype == DType::I8 { -128 } else { 0 };
        self.integers(dtype, shape, low, low + 255)
    }

    fn input(&mut self, t: Tensor) -> Value {
        let name = format!("x{}", self.inputs.len());
        let value = self.graph.add_input(&name, TensorType::fixed(t.dtype(), t.shape()).into());
        self.inputs.push(t.into());
        value
    }

    fn constant(&mut self, t: Tensor) -> Value {
        let ty = TensorType::fixed(t.dtype(), t.shape()).into();
        Value { node: self.graph.add(Constant { value: Const(t), zeros: 0 }, &[], vec![ty]), result: 0 }
    }

    /// A tensor that the graph is given, or that is constant.
    fn either(&mut self, t: Tensor) -> Result<Value> {
        Ok(if self.chance(1, 3)? { self.input(t) } else { self.constant(t) })
    }

    fn shape(&self, v: Value) -> Option<Vec<usize>> {
        self.graph.ty(v).as_tensor()?.static_shape()
    }

    /// Adds an op; `None` where it refuses its operands, or its result is too large.
    fn op(&mut self, op: impl Into<Op>, operands: &[Option<Value>]) -> Option<Value> {
        let id: NodeId = self.graph.add(op, operands, vec![]);
        let types = infer_node(&self.graph, id).ok()?;
        let small = types.iter().all(|ty| {
            let shape = ty.as_tensor().and_then(TensorType::static_shape);
            shape.and_then(|s| element_count(&s)).is_some_and(|n| n <= ELEMENTS)
        });
        self.graph.node_mut(id).results = types.into_iter().map(|ty| ResultInfo { ty }).collect();
        small.then_some(Value { node: id, result: 0 })
    }
}

/// The shape of images of this many channels.
fn images(batch: usize, channels: usize, of: &[Window]) -> Vec<usize> {
    [batch, channels].into_iter().chain(of.iter().map(|w| w.size)).collect()
}

fn kernels(of: &[Window]) -> Vec<usize> {
    of.iter().map(|w| w.kernel).collect()
}

/// The attributes of windows: dilations, pads, strides.
fn attributes(of: &[Window]) -> (Vec<i64>, Vec<i64>, Vec<i64>) {
    let pads = of.iter().map(|w| w.pads.0).chain(of.iter().map(|w| w.pads.1)).collect();
    (of.iter().map(|w| w.dilation).collect(), pads, of.iter().map(|w| w.stride).collect())
}
