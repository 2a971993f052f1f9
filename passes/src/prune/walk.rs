//! The walk: the graph before pruning and the graph as it becomes are run side by side, op after op, on all samples.
//!
//! When a layer is reached, what it gave before and what reaches it now are at hand: its weights are chosen and fitted,
//! its bias or the batch normalisation behind it is corrected, and the walk goes on with what it gives now. Every op
//! runs twice in all; a value is dropped behind its last reader, and one that is the same in both graphs is held once.

use std::collections::HashMap;

use optc_ir::{Graph, NodeId, Op, Output, ResultInfo, Type, Val, Value};
use optc_tensor::Tensor;

use super::correct::{self, Moments};
use super::reconstruct::{Normal, fit, gram};
use super::saliency::Evidence;
use super::{
    CalibrationError, Evaluate, LayerError, LayerPlan, PruneOptions, SampleError, Verdict, budget, clear, name_of,
    rows, set_weights,
};
use crate::weighted::Weighted;

/// Unlabelled samples, and what runs the graph on them.
pub struct Calibration<'a, E> {
    /// Batches: one value for each graph input.
    pub batches: Vec<Vec<Val>>,
    /// What runs graphs.
    pub evaluate: &'a E,
}

impl<E> Calibration<'_, E> {
    /// Checks that samples are there, fit the inputs and are finite.
    pub(super) fn check(&self, g: &Graph) -> Result<(), SampleError> {
        if self.batches.is_empty() {
            return Err(SampleError::None);
        }
        for (value, batch) in self.batches.iter().flat_map(|b| g.inputs().zip(b)) {
            let input = g.input_name(value).unwrap_or_default().to_owned();
            let (found, expected) = (batch.ty(), g.ty(value));
            if !expected.admits(&found) {
                return Err(SampleError::Type { input, found, expected: expected.clone() });
            }
            let Some(t) = batch.as_tensor() else { return Err(SampleError::NoTensor { input }) };
            if t.is_empty() {
                return Err(SampleError::Empty { input, found });
            }
            if t.dtype().is_float() && t.to_f64_vec().iter().any(|v| !v.is_finite()) {
                return Err(SampleError::NotFinite { input });
            }
        }
        match self.batches.iter().find(|b| b.len() != g.inputs().len()) {
            Some(b) => Err(SampleError::Count { found: b.len(), expected: g.inputs().len() }),
            None => Ok(()),
        }
    }
}

/// A value on every batch, before and now.
#[derive(Clone)]
struct Pair {
    before: Vec<Val>,
    now: Vec<Val>,
    /// Whether both are the same.
    same: bool,
}

/// Prunes the layers of `plans` in the graph's order, each fitted on what the layers before it give now.
pub(super) fn walk<E: Evaluate>(
    g: &mut Graph,
    options: &PruneOptions,
    plans: &[LayerPlan],
    samples: &Calibration<E>,
) -> Result<(), CalibrationError<E::Error>> {
    let order = g.topological_order().unwrap_or_default();
    let mut readers: HashMap<Value, usize> = HashMap::new();
    for value in order.iter().flat_map(|&id| g.node(id).operands.iter().flatten()) {
        *readers.entry(*value).or_default() += 1;
    }
    let mut walk = Walk { samples, options, values: HashMap::new() };
    for (i, value) in g.inputs().enumerate() {
        let all: Vec<Val> = samples.batches.iter().map(|b| b[i].clone()).collect();
        walk.values.insert(value, Pair { before: all.clone(), now: all, same: true });
    }
    for &id in &order {
        if matches!(g.node(id).op, Op::Param(_) | Op::Constant(_)) {
            continue;
        }
        let plan = plans.iter().find(|p| p.layer.node == id && p.verdict == Verdict::Pruned);
        walk.node(g, id, plan).map_err(|error| CalibrationError::Layer { layer: name_of(g, id), error })?;
        for value in g.node(id).operands.iter().flatten() {
            if let Some(left) = readers.get_mut(value) {
                *left -= 1;
                if *left == 0 {
                    walk.values.remove(value);
                }
            }
        }
    }
    Ok(())
}

struct Walk<'a, E> {
    samples: &'a Calibration<'a, E>,
    options: &'a PruneOptions,
    values: HashMap<Value, Pair>,
}

impl<E: Evaluate> Walk<'_, E> {
    fn node(&mut self, g: &mut Graph, id: NodeId, plan: Option<&LayerPlan>) -> Result<(), LayerError<E::Error>> {
        let operands: Vec<Value> = g.node(id).operands.iter().flatten().copied().collect();
        let same = operands.iter().all(|v| self.values.get(v).is_none_or(|p| p.same));
        let before = self.run(g, id, |p| &p.before)?;
        if let Op::BatchNorm(_) = g.node(id).op
            && !same
        {
            self.batch_norm(g, id);
        }
        if let Some(plan) = plan {
            self.prune(g, plan, &before)?;
        }
        let mut now = if same && plan.is_none() { before.clone() } else { self.run(g, id, |p| &p.now)? };
        if let Some(layer) = Weighted::of(g, id)
            && !(same && plan.is_none())
            && g.operand(id, 2).is_some()
        {
            let axis = if matches!(g.node(id).op, Op::Conv(_)) { 1 } else { rank(&now) - 1 };
            let moments = |values: &[Vec<Val>]| moments(values.iter().filter_map(|b| b.first()), axis);
            correct::bias(g, &layer, &moments(&before), &moments(&now));
            now = self.run(g, id, |p| &p.now)?;
        }
        let same = same && plan.is_none();
        for result in 0..g.node(id).results.len() {
            let of = |all: &[Vec<Val>]| all.iter().map(|b| b[result].clone()).collect::<Vec<Val>>();
            let pair = Pair { before: of(&before), now: of(&now), same };
            self.values.insert(Value { node: id, result: result as u32 }, pair);
        }
        Ok(())
    }

    /// The results of an op on every batch.
    fn run(
        &self,
        g: &Graph,
        id: NodeId,
        side: impl Fn(&Pair) -> &Vec<Val>,
    ) -> Result<Vec<Vec<Val>>, LayerError<E::Error>> {
        let evaluate = self.samples.evaluate;
        let mut ready: Vec<(Vec<Type>, E::Prepared)> = vec![];
        let mut results = vec![];
        for batch in 0..self.samples.batches.len() {
            let (graph, inputs) = self.alone(g, id, batch, &side)?;
            let types: Vec<Type> = inputs.iter().map(Val::ty).collect();
            let at = match ready.iter().position(|(known, _)| *known == types) {
                Some(at) => at,
                None => {
                    ready.push((types, evaluate.prepare(&graph).map_err(LayerError::Evaluate)?));
                    ready.len() - 1
                }
            };
            results.push(evaluate.run(&mut ready[at].1, &inputs).map_err(LayerError::Evaluate)?);
        }
        Ok(results)
    }

    /// A graph of one op, and its inputs: what the walk has computed; constants stay constants.
    fn alone(
        &self,
        g: &Graph,
        id: NodeId,
        batch: usize,
        side: &impl Fn(&Pair) -> &Vec<Val>,
    ) -> Result<(Graph, Vec<Val>), LayerError<E::Error>> {
        let node = g.node(id);
        let (mut alone, mut inputs, mut operands) = (Graph::new("op"), vec![], vec![]);
        for (slot, value) in node.operands.iter().enumerate() {
            let Some(value) = value else {
                operands.push(None);
                continue;
            };
            operands.push(Some(match self.values.get(value) {
                Some(pair) => {
                    let v = side(pair)[batch].clone();
                    let input = alone.add_input(&format!("x{slot}"), v.ty());
                    inputs.push(v);
                    input
                }
                None => {
                    let constant = &g.node(value.node);
                    let Op::Constant(_) = constant.op else { return Err(LayerError::NotComputed) };
                    let node = alone.add(constant.op.clone(), &[], vec![g.ty(*value).clone()]);
                    Value { node, result: 0 }
                }
            }));
        }
        let types = node.results.iter().map(|r| r.ty.widest()).collect();
        let new = alone.add(node.op.clone(), &operands, types);
        alone.node_mut(new).regions.clone_from(&node.regions);
        let types = optc_ir::infer_node(&alone, new)?;
        alone.node_mut(new).results = types.into_iter().map(|ty| ResultInfo { ty }).collect();
        for result in 0..node.results.len() {
            let value = Value { node: new, result: result as u32 };
            alone.outputs.push(Output { name: format!("y{result}"), value });
        }
        Ok((alone, inputs))
    }

    fn batch_norm(&self, g: &mut Graph, id: NodeId) {
        let Some(pair) = g.operand(id, 0).and_then(|v| self.values.get(&v)) else { return };
        let (before, now) = (moments(&pair.before, 1), moments(&pair.now, 1));
        correct::batch_norm(g, id, &before, &now);
    }

    /// Chooses and fits the weights of a layer, which gave `before`.
    fn prune(&self, g: &mut Graph, plan: &LayerPlan, before: &[Vec<Val>]) -> Result<(), LayerError<E::Error>> {
        let layer = &plan.layer;
        let x = g.operand(layer.node, 0).and_then(|v| self.values.get(&v)).ok_or(LayerError::ConstantOperand)?;
        let outputs: Vec<&Tensor> = before.iter().filter_map(|b| b.first()?.as_tensor()).collect();
        let rows = rows::sample(g, layer, &x.now, &outputs)?;
        let evaluate = self.samples.evaluate;
        let h = gram(evaluate, rows.count, &rows.x, &rows.x)?;
        let energy: Vec<f64> = (0..layer.cols).map(|i| f64::from(h[i * layer.cols + i])).collect();
        let mut weights = layer.matrix(g);
        let evidence = Evidence { weights: &weights, cols: layer.cols, energy: Some(&energy) };
        let scores = self.options.saliency.scores(&evidence);
        let keep = budget::mask(&scores, layer, self.options.block, plan.share);
        clear(&mut weights, &keep);
        let g_matrix = gram(evaluate, rows.count, &rows.y, &rows.x)?;
        fit(evaluate, Normal { h, g: g_matrix, cols: layer.cols }, &mut weights, &keep)?;
        set_weights(g, layer, &weights, &keep);
        Ok(())
    }
}

fn rank(values: &[Vec<Val>]) -> usize {
    values.first().and_then(|b| b.first()?.as_tensor()).map_or(2, Tensor::rank)
}

fn moments<'a>(values: impl IntoIterator<Item = &'a Val>, axis: usize) -> Moments {
    let mut moments = Moments::default();
    values.into_iter().filter_map(Val::as_tensor).for_each(|t| moments.add(t, axis));
    moments
}
