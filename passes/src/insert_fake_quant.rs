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
//! Activations become `u8` with one range, which `calibrate` finds; until then they stay what they are. Constant weights become `i8`,
//! symmetric, with a range for each output channel, known at once. Which operands of which ops are marked is said in one table,
//! [`slots`]. All ops that read a marked value read it quantized, so that it is stored as bytes alone; what has no reader in the table
//! (a sum before its activation, say) is not marked and stays in registers.
//!
//! Declines nodes named in `skip` (`{skip=conv1|fc}`), and convolutions whose weights are computed. Weights that are not finite are an error.
//! A constant that two ops read is marked for each.

use indexmap::IndexMap;

use optc_ir::ops::quant::FakeQuant;
use optc_ir::{Graph, NodeId, Op, Real, ResultInfo, Value, infer_node};
use optc_tensor::DType;

use crate::matching::{dtype, rank, result};
use crate::rewrite::for_each_region;
use crate::{Numerics, OptionError, Options, Pass, PassCx, PassError};

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

/// The operands of a node that are quantized: slot and kind.
fn slots(g: &Graph, node: NodeId) -> Vec<(usize, Kind)> {
    let constant = |slot: usize| g.operand(node, slot).is_some_and(|v| g.constant(v).is_some());
    let last = || g.operand(node, 1).and_then(|v| rank(g, v)).unwrap_or(1) - 1;
    match &g.node(node).op {
        Op::Conv(_) if constant(1) => vec![(0, Kind::Activation), (1, Kind::Weights(0))],
        Op::Gemm(op) if constant(1) && !op.trans_a => {
            vec![(0, Kind::Activation), (1, Kind::Weights(usize::from(!op.trans_b)))]
        }
        // A vector has no columns.
        Op::MatMul(_) if constant(1) && last() > 0 => vec![(0, Kind::Activation), (1, Kind::Weights(last()))],
        Op::MatMul(_) if !constant(0) => vec![(0, Kind::Activation), (1, Kind::Activation)],
        // A mean over images: what it reads then stays in integers.
        Op::Reduce(op) if op.kind == "mean" && g.operand(node, 0).and_then(|v| rank(g, v)) == Some(4) => {
            vec![(0, Kind::Activation)]
        }
        _ => vec![],
    }
}

impl Pass for InsertFakeQuant {
    const NAME: &'static str = "insert-fake-quant";
    const NUMERICS: Numerics = Numerics::Approximates { rtol: 0.05 };

    fn from_options(options: &mut Options) -> Result<InsertFakeQuant, OptionError> {
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
        for (slot, kind) in slots(graph, id) {
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
            let suffix = if slot == 1 && kind == Kind::Activation { "y" } else { suffix };
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
