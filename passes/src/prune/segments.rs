//! The course of the walk: the graph in segments, between which weights, biases and statistics change.
//!
//! A segment begins at a layer that is pruned, or at a batch normalisation that reads what has changed: what reaches
//! them must be known before they run. It ends after a layer whose bias is corrected: what that gives must be known
//! before anything reads it. After the last of these nothing needs to run.

use std::collections::{HashMap, HashSet};

use optc_ir::{Graph, NodeId, Op, Value};

use super::{LayerPlan, Verdict, correct};
use crate::matching::result;
use crate::weighted::Weighted;

/// What changes before the first node of a segment runs in its new form.
#[derive(Clone, Copy)]
pub(super) enum Correction<'a> {
    /// The weights of a layer that is pruned.
    Weights(&'a LayerPlan),
    /// The statistics of a batch normalisation.
    Statistics(NodeId),
}

/// Nodes that run as one graph.
pub(super) struct Segment<'a> {
    /// In topological order.
    pub nodes: Vec<NodeId>,
    /// What changes before the first one.
    pub correction: Option<Correction<'a>>,
    /// The last one, if its bias changes after it.
    pub bias: Option<Weighted>,
}

/// The segments of a graph, and what is known of its values before any of them is computed.
#[derive(Default)]
pub(super) struct Route<'a> {
    pub segments: Vec<Segment<'a>>,
    /// Nodes whose results are others after pruning.
    pub changed: HashSet<NodeId>,
    /// Values that follow from shapes and constants alone.
    pub shapes: HashSet<Value>,
    /// The last segment that reads a value.
    pub last_reader: HashMap<Value, usize>,
}

impl<'a> Route<'a> {
    /// The way through a graph of which these layers are to be pruned.
    pub fn new(g: &Graph, plans: &'a [LayerPlan]) -> Route<'a> {
        let mut route = Route::default();
        for id in g.topological_order().unwrap_or_default() {
            if !matches!(g.node(id).op, Op::Param(_) | Op::Constant(_)) {
                let plan = plans.iter().find(|p| p.layer.node == id && p.verdict == Verdict::Pruned);
                route.append(g, id, plan);
            }
        }
        route.end();
        for (i, segment) in route.segments.iter().enumerate() {
            let read = segment.nodes.iter().flat_map(|&id| operands(g, id));
            route.last_reader.extend(read.map(|value| (value, i)));
        }
        route
    }

    /// Takes a node in, in the last segment or in a new one.
    fn append(&mut self, g: &Graph, id: NodeId, plan: Option<&'a LayerPlan>) {
        if self.follows_from_shapes(g, id) {
            self.shapes.extend(results(g, id));
        }
        let reads_changed = operands(g, id).any(|v| self.changed.contains(&v.node));
        let correction = match plan {
            Some(plan) => Some(Correction::Weights(plan)),
            None if reads_changed && matches!(g.node(id).op, Op::BatchNorm(_)) => Some(Correction::Statistics(id)),
            None => None,
        };
        let changes = plan.is_some() || reads_changed;
        if changes {
            self.changed.insert(id);
        }
        let bias = Weighted::of(g, id).filter(|layer| changes && correct::has_bias(g, layer));
        match self.segments.last_mut() {
            Some(last) if correction.is_none() && last.bias.is_none() => {
                last.nodes.push(id);
                last.bias = bias;
            }
            _ => self.segments.push(Segment { nodes: vec![id], correction, bias }),
        }
    }

    /// Leaves out what runs after the last change.
    fn end(&mut self) {
        while self.segments.last().is_some_and(|last| last.correction.is_none() && last.bias.is_none()) {
            self.segments.pop();
        }
        if let Some(last) = self.segments.last_mut().filter(|last| last.bias.is_none()) {
            last.nodes.truncate(1);
        }
    }

    fn follows_from_shapes(&self, g: &Graph, id: NodeId) -> bool {
        let known = |v: Value| self.shapes.contains(&v) || g.constant(v).is_some();
        let some = operands(g, id).any(|v| self.shapes.contains(&v));
        matches!(g.node(id).op, Op::ShapeOf(_)) || (some && operands(g, id).all(known))
    }

    /// Results of segment `i` that are read after it, or by what makes a change: as they were before pruning.
    pub fn outputs_before(&self, g: &Graph, i: usize) -> Vec<Value> {
        let Segment { nodes, correction, bias } = &self.segments[i];
        let layer = match correction {
            Some(Correction::Weights(plan)) => Some(result(plan.layer.node)),
            Some(Correction::Statistics(_)) | None => None,
        };
        let asked = [layer, bias.as_ref().map(|layer| result(layer.node))];
        // Where a node changes, it runs again without those that do not.
        let changes = |id: &NodeId| self.changed.contains(id);
        let read: HashSet<Value> = nodes.iter().filter(|id| changes(id)).flat_map(|&id| operands(g, id)).collect();
        let beside = |v: &Value| !changes(&v.node) && read.contains(v);
        let needed = |v: &Value| asked.contains(&Some(*v)) || self.last_reader.get(v) > Some(&i) || beside(v);
        nodes.iter().flat_map(|&id| results(g, id)).filter(needed).collect()
    }

    /// Nodes of segment `i` that change, and their results that are read after it or to correct a bias.
    pub fn outputs_now(&self, g: &Graph, i: usize) -> (Vec<NodeId>, Vec<Value>) {
        let Segment { nodes, bias, .. } = &self.segments[i];
        let asked = bias.as_ref().map(|layer| result(layer.node));
        let nodes: Vec<NodeId> = nodes.iter().copied().filter(|id| self.changed.contains(id)).collect();
        let needed = |v: &Value| asked == Some(*v) || self.last_reader.get(v) > Some(&i);
        let outputs = nodes.iter().flat_map(|&id| results(g, id)).filter(needed).collect();
        (nodes, outputs)
    }
}

/// The operands of a node that are present.
pub(super) fn operands(g: &Graph, id: NodeId) -> impl Iterator<Item = Value> + '_ {
    g.node(id).operands.iter().flatten().copied()
}

fn results(g: &Graph, node: NodeId) -> impl Iterator<Item = Value> + use<> {
    (0..g.node(node).results.len() as u32).map(move |result| Value { node, result })
}

#[cfg(test)]
mod tests {
    use optc_ir::parse;

    use super::*;
    use crate::prune::{BlockShape, PruneOptions, Spare, plans};

    /// Two convolutions that are pruned, a batch normalisation between them, and a bias of the second one.
    const TEXT: &str = "func @f(%x: tensor<2x2x5x5xf32>, %s: tensor<2xf32>, %y: tensor<2x2x5x5xf32>) {
        %w = tensor.const {value = dense<[0.5, 1.0, 1.5, 2.0]> : tensor<2x2x1x1xf32>} : tensor<2x2x1x1xf32>
        %v = tensor.const {value = dense<[0.5, 1.0, 1.5, 2.0]> : tensor<2x2x1x1xf32>} : tensor<2x2x1x1xf32>
        %b = tensor.const {value = dense<[1.0, 2.0]> : tensor<2xf32>} : tensor<2xf32>
        %0 = math.relu %x : tensor<2x2x5x5xf32>
        %1 = nn.conv %0, %w : tensor<2x2x5x5xf32>
        %2 = math.neg %y : tensor<2x2x5x5xf32>
        %3 = math.add %1, %2 : tensor<2x2x5x5xf32>
        %4 = nn.batch_norm %3, %s, %s, %s, %s : tensor<2x2x5x5xf32>
        %5 = math.relu %4 : tensor<2x2x5x5xf32>
        %6 = nn.conv %5, %v, %b : tensor<2x2x5x5xf32>
        %7 = math.relu %6 : tensor<2x2x5x5xf32>
        return %7 as \"z\"
    }";

    fn names(g: &Graph, nodes: impl IntoIterator<Item = NodeId>) -> Vec<&'static str> {
        nodes.into_iter().map(|id| g.node(id).op.name()).collect()
    }

    #[test]
    fn segments_end_where_something_changes() {
        let g = parse(TEXT).unwrap();
        let options = PruneOptions::new(0.5, BlockShape { rows: 1, cols: 1 }).unwrap();
        let plans = plans(&g, &PruneOptions { spare: Spare::None, ..options }).unwrap();
        let route = Route::new(&g, &plans);
        let found: Vec<_> = route.segments.iter().map(|s| names(&g, s.nodes.iter().copied())).collect();
        let conv = vec!["nn.conv", "math.neg", "math.add"];
        assert_eq!(found, [vec!["math.relu"], conv, vec!["nn.batch_norm", "math.relu"], vec!["nn.conv"]]);
        assert!(matches!(route.segments[2].correction, Some(Correction::Statistics(_))));
        assert!(route.segments[3].bias.is_some(), "nothing runs after the last bias");
        // What the first convolution gave is asked for, and `neg` is not run again.
        let before = route.outputs_before(&g, 1).into_iter().map(|v| v.node);
        assert_eq!(names(&g, before), ["nn.conv", "math.neg", "math.add"]);
        let (nodes, outputs) = route.outputs_now(&g, 1);
        assert_eq!(names(&g, nodes), ["nn.conv", "math.add"]);
        assert_eq!(names(&g, outputs.into_iter().map(|v| v.node)), ["math.add"]);
    }
}
