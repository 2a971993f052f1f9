//! Random typed graphs, for tests that compare two ways of computing the same thing.
//!
//! A graph is made from a seed and a number of ops: the same arguments give the same graph, and fewer ops of one seed
//! are a prefix of more, so that a failure shrinks by trying smaller numbers. Shapes are small and mostly odd, so that
//! vectors have tails; values stay small, so that rounding does not hide mistakes.

mod compound;
mod pieces;

use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Graph, NodeId, Op, Output, TensorType, Value, infer_node};
use optc_tensor::{DType, Random, Tensor, element_count};

/// A graph that grows.
pub(crate) struct GraphBuilder {
    pub graph: Graph,
    pub random: Random,
    /// The `f32` values so far.
    pub values: Vec<Value>,
}

/// Values with more elements than this are not made.
const MAX_ELEMENTS: usize = 2000;

impl GraphBuilder {
    /// Adds an op; `None`, with the graph as it was, when it refuses its operands or its result is too large.
    pub fn op(&mut self, op: impl Into<Op>, operands: &[Value]) -> Option<Value> {
        let operands: Vec<Option<Value>> = operands.iter().map(|&v| Some(v)).collect();
        let id = self.graph.add(op, &operands, vec![]);
        match self.typed(id) {
            Some(()) => Some(Value { node: id, result: 0 }),
            None => {
                self.graph.remove(id);
                None
            }
        }
    }

    fn typed(&mut self, id: NodeId) -> Option<()> {
        let types = infer_node(&self.graph, id).ok()?;
        let small = |t: &TensorType| {
            t.static_shape().and_then(|s| element_count(&s)).is_some_and(|n| (1..=MAX_ELEMENTS).contains(&n))
        };
        types.iter().all(|t| t.as_tensor().is_some_and(small)).then_some(())?;
        self.graph.node_mut(id).results = types.into_iter().map(|ty| optc_ir::ResultInfo { ty }).collect();
        Some(())
    }

    /// Adds an op on earlier values and keeps its `f32` results as operands for later ones.
    pub fn step(&mut self, op: impl Into<Op>, operands: &[Value]) -> Option<Value> {
        let first = self.op(op, operands)?;
        for result in 0..self.graph.node(first.node).results.len() as u32 {
            self.values.push(Value { node: first.node, result });
        }
        Some(first)
    }

    /// Adds a constant.
    pub fn constant(&mut self, t: Tensor) -> Option<Value> {
        self.op(Constant { value: Const(t), zeros: 0 }, &[])
    }

    /// Adds a constant of random elements in `low..high`.
    pub fn weights(&mut self, shape: &[usize], low: f64, high: f64) -> Option<Value> {
        let values: Vec<f64> =
            (0..element_count(shape)?).map(|_| (self.random.real(low, high) * 64.0).round() / 64.0).collect();
        self.constant(Tensor::from_f64(DType::F32, shape, &values).ok()?)
    }

    /// Adds a scalar constant.
    pub fn scalar(&mut self, value: f32) -> Option<Value> {
        self.constant(Tensor::scalar(value))
    }

    /// Adds a vector of integers.
    pub fn ints(&mut self, values: &[i64]) -> Option<Value> {
        self.constant(Tensor::from_slice(&[values.len()], values).ok()?)
    }

    /// The concrete shape of a value.
    pub fn shape(&self, v: Value) -> Vec<usize> {
        self.graph.ty(v).as_tensor().and_then(TensorType::static_shape).unwrap_or_default()
    }

    /// An earlier value; later ones more often, so that chains form.
    pub fn any(&mut self) -> Value {
        let n = self.values.len();
        let back = self.random.below(n).min(self.random.below(n));
        self.values[n - 1 - back]
    }

    /// An earlier value of this rank.
    pub fn of_rank(&mut self, ranks: &[usize]) -> Option<Value> {
        (0..6).find_map(|_| Some(self.any()).filter(|&v| ranks.contains(&self.shape(v).len())))
    }
}

/// A graph of about `ops` ops, determined by `seed`. Every input has a concrete shape; every value that no op reads is
/// an output.
pub fn random_graph(seed: u64, ops: usize) -> Graph {
    random_graph_of(seed, ops, None)
}

/// The same, whose inputs all have this outermost extent.
pub fn random_graph_of(seed: u64, ops: usize, items: Option<usize>) -> Graph {
    let mut b = GraphBuilder { graph: Graph::new("random"), random: Random::new(seed), values: vec![] };
    let image = [1 + b.random.below(2), b.random.pick(&[1, 3, 4, 5, 8]), 3 + b.random.below(5), 3 + b.random.below(5)];
    let matrix = [1 + b.random.below(7), b.random.pick(&[1, 3, 5, 8, 9])];
    let tokens = [1 + b.random.below(2), 2 + b.random.below(4), b.random.pick(&[4, 6, 7])];
    for (name, shape) in [("image", &image[..]), ("matrix", &matrix[..]), ("tokens", &tokens[..])] {
        let shape = &[&[items.unwrap_or(shape[0])][..], &shape[1..]].concat();
        let v = b.graph.add_input(name, TensorType::fixed(DType::F32, shape).into());
        b.values.push(v);
    }
    for _ in 0..ops {
        // What does not fit at the place that was picked is left out.
        let _ = pieces::add(&mut b);
    }
    let ids: Vec<NodeId> = b.graph.ids().collect();
    for id in ids {
        for result in 0..b.graph.node(id).results.len() as u32 {
            let value = Value { node: id, result };
            let kept = b.graph.uses(value).is_empty() && b.values.contains(&value);
            if kept && !matches!(b.graph.node(id).op, Op::Param(_)) {
                let name = format!("y{}", b.graph.outputs.len());
                b.graph.outputs.push(Output { name, value });
            }
        }
    }
    b.graph
}
