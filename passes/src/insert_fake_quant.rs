//! `insert-fake-quant`: mark what products read for quantization.
//!
//! ```optc
//! // passes: insert-fake-quant
//! given %x: tensor<1x2xf32>
//! %w = tensor.const {value = dense<[127, -1.5]> : tensor<2x1xf32>} : tensor<2x1xf32>
//! %0 = math.matmul %x, %w : tensor<1x1xf32> loc("fc")
//! ```
//! becomes
//! ```optc
//! given %x: tensor<1x2xf32>
//! %w = tensor.const {value = dense<[127, -1.5]> : tensor<2x1xf32>} : tensor<2x1xf32>
//! %0 = quant.fake_quant %x {name = "fc.x"} : tensor<1x2xf32> loc("fc")
//! %1 = quant.fake_quant %w {high = [127], low = [-127], name = "fc.w", to = i8} : tensor<2x1xf32> loc("fc")
//! %2 = math.matmul %0, %1 : tensor<1x1xf32> loc("fc")
//! ```
//!
//! Activations become `u8` with one range, which `calibrate` finds; until then they stay what they are. Constant
//! weights become `i8`, symmetric, with a range for each output channel, known at once. Which operands of which ops are
//! marked is said in one table, [`slots`]. All ops that read a marked value read it quantized, so that it is stored as
//! bytes alone; what has no reader in the table (a sum before its activation, say) is not marked and stays in
//! registers; of two convolutions that are added, one is marked, since it must be stored.
//!
//! Weights of recurrent layers and tables of embeddings (constants that rows are gathered from, or that are added
//! before a layer normalisation, without outliers) are marked as well, although no kernel computes with their integers:
//! they are stored in a quarter of the bytes.
//!
//! Declines nodes named in `skip` (`{skip=conv1|fc}`), and convolutions whose weights are computed. Weights that are
//! not finite are an error. A constant that two ops read is marked for each.

use indexmap::IndexMap;

use optc_ir::ops::math::ReduceKind;
use optc_ir::ops::nn::{Conv, PoolKind};
use optc_ir::ops::quant::FakeQuant;
use optc_ir::{Graph, NodeId, Op, Real, ResultInfo, Value, infer_node};
use optc_tensor::{DType, Tensor};

use crate::matching::{dtype, has_one_use, producer, rank, result};
use crate::rewrite::for_each_region;
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// See the module.
pub struct InsertFakeQuant {
    skip: Vec<String>,
}

/// How an operand is quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// One range, from calibration.
    Activation,
    /// A range for each index of this axis of a constant.
    Weights(usize),
}

/// The operands of a node that are quantized: slot and kind. `quantized` holds for nodes that take part.
fn slots(g: &Graph, node: NodeId, quantized: &dyn Fn(NodeId) -> bool) -> Vec<(usize, Kind)> {
    let constant = |slot: usize| g.operand(node, slot).is_some_and(|v| g.constant(v).is_some());
    let axes = |slot: usize| g.operand(node, slot).and_then(|v| rank(g, v)).unwrap_or(1).max(1);
    let last = || axes(1) - 1;
    let table = |slot: usize| g.operand(node, slot).and_then(|v| g.constant(v)).is_some_and(is_table);
    match &g.node(node).op {
        Op::Conv(_) if constant(1) => vec![(0, Kind::Activation), (1, Kind::Weights(0))],
        Op::Gemm(op) if constant(1) && !op.trans_a => {
            vec![(0, Kind::Activation), (1, Kind::Weights(usize::from(!op.trans_b)))]
        }
        // A vector has no columns.
        Op::MatMul(_) if constant(1) && last() > 0 => vec![(0, Kind::Activation), (1, Kind::Weights(last()))],
        Op::MatMul(_) if !constant(0) => vec![(0, Kind::Activation), (1, Kind::Activation)],
        // Both kinds of weights; a direction shares the ranges of the other. Kernels read them as reals, so only their
        // storage shrinks.
        Op::Lstm(_) | Op::Gru(_) | Op::Rnn(_) => {
            [1, 2].into_iter().filter(|&slot| constant(slot)).map(|slot| (slot, Kind::Weights(1))).collect()
        }
        // A mean over images, or under a window: what it reads then stays in integers.
        Op::Reduce(op) if op.kind == ReduceKind::Mean && g.operand(node, 0).and_then(|v| rank(g, v)) == Some(4) => {
            vec![(0, Kind::Activation)]
        }
        Op::Pool(op) if op.kind == PoolKind::Mean => vec![(0, Kind::Activation)],
        Op::Gather(op) if op.axis == 0 && table(0) => vec![(0, Kind::Weights(axes(0) - 1))],
        Op::Add(_) if table(1) && is_normalised(g, node) => vec![(1, Kind::Weights(axes(1) - 1))],
        Op::Add(_) => stored_summand(g, node, quantized).map(|slot| (slot, Kind::Activation)).into_iter().collect(),
        _ => vec![],
    }
}

/// Whether a layer normalisation reads the result.
fn is_normalised(g: &Graph, node: NodeId) -> bool {
    g.each_use(result(node)).any(|(user, _)| matches!(g.node(user).op, Op::LayerNorm(_) | Op::RmsNorm(_)))
}

/// Elements, and channels, below which a constant stays as it is.
const TABLE: (usize, usize) = (1024, 32);
/// How many times as large as the median of its channel an element of a table may be.
const SPREAD: f64 = 24.0;

/// Whether a constant is a table of numbers alike in each of the many channels of the last axis, as embeddings are: 8
/// bits hold them well enough. What has outliers (a mask, with its large negative numbers) is not one, nor are
/// coordinates, of which there are few.
fn is_table(t: &Tensor) -> bool {
    let wide = |c: &&usize| t.dtype() == DType::F32 && t.rank() > 1 && t.len() >= TABLE.0 && **c >= TABLE.1;
    let Some(&channels) = t.shape().last().filter(wide) else { return false };
    let values = t.to_f64_vec();
    let alike = |c: usize| {
        let mut sizes: Vec<f64> = values.iter().skip(c).step_by(channels).map(|v| v.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let (median, largest) = (sizes[sizes.len() / 2], sizes[sizes.len() - 1]);
        largest.is_finite() && largest <= SPREAD * median
    };
    (0..channels).all(alike)
}

/// Of two convolutions whose sum alone is read, the one that must be stored: the other one computes the sum in its
/// kernel.
fn stored_summand(g: &Graph, add: NodeId, quantized: &dyn Fn(NodeId) -> bool) -> Option<usize> {
    let conv = |slot: usize| {
        let v = g.operand(add, slot).filter(|&v| has_one_use(g, v) && quantized(v.node))?;
        producer::<Conv>(g, v).map(|(id, _)| id)
    };
    let (a, b) = (conv(0)?, conv(1)?);
    // The later one in the order that `fuse` goes through: what the other one does not wait for.
    let order = g.topological_order()?;
    let at = |id: NodeId| order.iter().position(|&o| o == id);
    Some(usize::from(at(b) < at(a)))
}

impl Pass for InsertFakeQuant {
    const NAME: &'static str = "insert-fake-quant";
    const SUMMARY: &'static str = "mark what products read for quantization: `{skip=conv1|fc}`";
    const NUMERICS: Numerics = Numerics::Approximates { rtol: 0.05 };

    fn from_options(options: &mut PassArguments) -> Result<InsertFakeQuant, OptionError> {
        let skip: String = options.take("skip", String::new())?;
        Ok(InsertFakeQuant { skip: skip.split('|').filter(|s| !s.is_empty()).map(str::to_owned).collect() })
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        let skip = |g: &Graph, id: NodeId| g.node(id).loc.iter().any(|name| self.skip.contains(name));
        insert(graph, &skip, cx)
    }
}

/// Marks the operands of all nodes that `skip` does not hold for.
///
/// # Errors
/// Weights are not finite.
pub fn insert(graph: &mut Graph, skip: &dyn Fn(&Graph, NodeId) -> bool, cx: &mut PassCx) -> Result<(), PassError> {
    let mut marked: IndexMap<(Value, Kind), Value> = IndexMap::new();
    for id in graph.topological_order().unwrap_or_default() {
        if skip(graph, id) {
            continue;
        }
        for (slot, kind) in slots(graph, id, &|id| !skip(graph, id)) {
            let Some(x) = graph.operand(id, slot) else { continue };
            if dtype(graph, x) != Some(DType::F32) || graph.op::<FakeQuant>(x.node).is_some() {
                continue;
            }
            let (rule, suffix) = if kind == Kind::Activation { ("activation", "x") } else { ("weights", "w") };
            if let Some(&known) = marked.get(&(x, kind)) {
                graph.set_operand(id, slot, Some(known));
                continue;
            }
            if !cx.permit(rule) {
                continue;
            }
            let name = graph.node(id).loc.first().cloned().unwrap_or_else(|| format!("node{}", id.index()));
            let suffix = match (slot, kind) {
                (1, Kind::Activation) => "y",
                (2, Kind::Weights(_)) => "r",
                _ => suffix,
            };
            let op = fake_quant(graph, x, kind, format!("{name}.{suffix}"))?;
            let new = add(graph, op, x, id)?;
            match kind {
                // Skipped nodes keep what they have.
                Kind::Activation => {
                    for (user, slot) in graph.uses(x) {
                        if user != new.node && !skip(graph, user) {
                            graph.set_operand(user, slot, Some(new));
                        }
                    }
                }
                Kind::Weights(_) => graph.set_operand(id, slot, Some(new)),
            }
            marked.insert((x, kind), new);
        }
    }
    for_each_region(graph, &mut |region| insert(region, skip, cx))
}

fn add(graph: &mut Graph, op: FakeQuant, x: Value, at: NodeId) -> Result<Value, PassError> {
    let id = graph.add(op, &[Some(x)], vec![]);
    graph.node_mut(id).loc = graph.node(at).loc.clone();
    let types = infer_node(graph, id).map_err(|error| PassError::Rule { rule: "insert-fake-quant", error })?;
    graph.node_mut(id).results = types.into_iter().map(|ty| ResultInfo { ty }).collect();
    Ok(result(id))
}

/// The op; weights have their ranges at once.
fn fake_quant(graph: &Graph, x: Value, kind: Kind, name: String) -> Result<FakeQuant, PassError> {
    let activation = FakeQuant { axis: 1, high: vec![], low: vec![], name, to: DType::U8 };
    let (Kind::Weights(axis), Some(t)) = (kind, graph.constant(x)) else { return Ok(activation) };
    let (n, inner) = (t.shape()[axis], t.shape()[axis + 1..].iter().product::<usize>().max(1));
    let mut largest = vec![0f32; n];
    for (i, v) in t.to_f64_vec().into_iter().enumerate() {
        if !v.is_finite() {
            let reason = format!("weight {i} of `{}` is {v}: such weights have no range", activation.name);
            return Err(PassError::Data { reason });
        }
        let of = &mut largest[i / inner % n];
        *of = of.max(v.abs() as f32);
    }
    // The rank of weights of one channel still tells the axis.
    let high = largest.iter().map(|&v| Real(v)).collect();
    let low = largest.iter().map(|&v| Real(-v)).collect();
    Ok(FakeQuant { axis: axis as i64, high, low, to: DType::I8, ..activation })
}
