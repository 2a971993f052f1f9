//! The walk: the graph before pruning and the graph in its new form are run side by side on all samples, segment after
//! segment ([`segments`](super::segments)).
//!
//! When a layer is reached, what it gave before and what reaches it now are at hand: its weights are chosen and fitted,
//! its bias or the batch normalisation after it is corrected, and the walk goes on with what it gives now. Each segment
//! is compiled once as it was, and once in its new form, without what is the same in both. A value is dropped after its
//! last reader.

use std::collections::HashMap;

use optc_ir::{Graph, NodeId, Op, Val, Value};
use optc_tensor::Tensor;

use super::correct::{self, Moments};
use super::part::GraphPart;
use super::reconstruct::{Normal, fit, gram};
use super::saliency::Evidence;
use super::segments::{Correction, Route};
use super::{
    Calibration, CalibrationError, Evaluate, LayerError, LayerPlan, PruneOptions, RowError, budget, clear, name_of,
    rows, set_weights,
};
use crate::matching::result;
use crate::weighted::Weighted;

/// A value on every batch, before and now.
struct Pair {
    before: Vec<Val>,
    /// None where it is the same.
    now: Option<Vec<Val>>,
}

impl Pair {
    fn now(&self) -> &[Val] {
        self.now.as_ref().unwrap_or(&self.before)
    }
}

/// Prunes the layers of `plans` in the graph's order, each fitted on what the layers before it give now.
pub(super) fn walk<E: Evaluate>(
    g: &mut Graph,
    options: &PruneOptions,
    plans: &[LayerPlan],
    samples: &Calibration<E>,
) -> Result<(), CalibrationError<E::Error>> {
    let mut walk = Walk { samples, options, route: Route::new(g, plans), values: HashMap::new() };
    for (i, value) in g.inputs().enumerate() {
        let before = samples.batches.iter().map(|b| b[i].clone()).collect();
        walk.values.insert(value, Pair { before, now: None });
    }
    for i in 0..walk.route.segments.len() {
        let first = walk.route.segments[i].nodes[0];
        walk.segment(g, i)
            .map_err(|error| CalibrationError::Layer { layer: name_of(g, first), error: Box::new(error) })?;
        let last_reader = &walk.route.last_reader;
        walk.values.retain(|value, _| last_reader.get(value) > Some(&i));
    }
    Ok(())
}

struct Walk<'a, E> {
    samples: &'a Calibration<'a, E>,
    options: &'a PruneOptions,
    route: Route<'a>,
    values: HashMap<Value, Pair>,
}

impl<E: Evaluate> Walk<'_, E> {
    /// Runs a segment as it was, makes its changes, and runs what changes in its new form.
    fn segment(&mut self, g: &mut Graph, i: usize) -> Result<(), LayerError<E::Error>> {
        let outputs = self.route.outputs_before(g, i);
        let nodes = &self.route.segments[i].nodes;
        let before = self.run(&GraphPart { graph: g, nodes, outputs: &outputs }, |pair| &pair.before)?;
        self.values.extend(outputs.into_iter().zip(before).map(|(v, before)| (v, Pair { before, now: None })));
        match self.route.segments[i].correction {
            Some(Correction::Weights(plan)) => self.prune(g, plan)?,
            Some(Correction::Statistics(id)) => self.batch_norm(g, id),
            None => {}
        }
        let (nodes, outputs) = self.route.outputs_now(g, i);
        let now = self.run(&GraphPart { graph: g, nodes: &nodes, outputs: &outputs }, Pair::now)?;
        for (value, now) in outputs.into_iter().zip(now) {
            if let Some(pair) = self.values.get_mut(&value) {
                pair.now = Some(now);
            }
        }
        if let Some(layer) = self.route.segments[i].bias.clone() {
            self.bias(g, &layer)?;
        }
        Ok(())
    }

    /// The outputs of a part on every batch.
    fn run(&self, part: &GraphPart, side: impl Fn(&Pair) -> &[Val]) -> Result<Vec<Vec<Val>>, LayerError<E::Error>> {
        let value = |value: Value, batch: usize| {
            let pair = self.values.get(&value)?;
            Some((&side(pair)[batch], self.route.shapes.contains(&value)))
        };
        part.run(self.samples.evaluate, self.samples.batches.len(), value)
    }

    fn batch_norm(&self, g: &mut Graph, id: NodeId) {
        let Some(pair) = g.operand(id, 0).and_then(|v| self.values.get(&v)) else { return };
        correct::batch_norm(g, id, &Moments::of(&pair.before, 1), &Moments::of(pair.now(), 1));
    }

    /// Corrects the bias of a layer that has run, and what it gave.
    fn bias(&mut self, g: &mut Graph, layer: &Weighted) -> Result<(), LayerError<E::Error>> {
        let Some(Pair { before, now: Some(now) }) = self.values.get_mut(&result(layer.node)) else { return Ok(()) };
        let rank = now.first().and_then(Val::as_tensor).map_or(2, Tensor::rank);
        let axis = if matches!(g.node(layer.node).op, Op::Conv(_)) { 1 } else { rank - 1 };
        let change = correct::bias(g, layer, &Moments::of(before, axis), &Moments::of(now, axis));
        for val in now {
            if let Val::Tensor(t) = val {
                correct::add(t, axis, &change).map_err(RowError::Tensor)?;
            }
        }
        Ok(())
    }

    /// Chooses and fits the weights of a layer.
    fn prune(&self, g: &mut Graph, plan: &LayerPlan) -> Result<(), LayerError<E::Error>> {
        let layer = &plan.layer;
        let of = |value: Option<Value>| value.and_then(|v| self.values.get(&v));
        let x = of(g.operand(layer.node, 0)).ok_or(LayerError::ConstantOperand)?;
        let y = of(Some(result(layer.node))).ok_or(LayerError::NotComputed)?;
        let outputs: Vec<&Tensor> = y.before.iter().filter_map(Val::as_tensor).collect();
        let rows = rows::sample(g, layer, x.now(), &outputs)?;
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
