//! Some nodes of a graph as a graph of their own, run on every batch.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Graph, NodeId, Op, Output, TensorType, Type, Val, Value, infer_types};

use super::segments::operands;
use super::{Evaluate, LayerError};

/// Elements of the largest value that is a constant of the part because it follows from shapes: types are inferred from
/// it.
const MOST_EXTENTS: usize = 64;

/// Nodes of a graph, in topological order, and their results that are asked for.
pub(super) struct GraphPart<'a> {
    pub graph: &'a Graph,
    pub nodes: &'a [NodeId],
    pub outputs: &'a [Value],
}

/// What a part reads in one batch.
struct Given {
    value: Value,
    val: Val,
    /// Whether it is the same for all batches of these types.
    fixed: bool,
}

/// A part that is ready to run, and what it was made for.
struct ReadyPart<P> {
    types: Vec<Type>,
    fixed: Vec<Val>,
    prepared: P,
}

impl GraphPart<'_> {
    /// The outputs on this many batches, each on all. `value` gives what was computed of a value in a batch, and
    /// whether it follows from shapes.
    pub fn run<'v, E: Evaluate>(
        &self,
        evaluate: &E,
        batches: usize,
        value: impl Fn(Value, usize) -> Option<(&'v Val, bool)>,
    ) -> Result<Vec<Vec<Val>>, LayerError<E::Error>> {
        let mut results = vec![Vec::with_capacity(batches); self.outputs.len()];
        let mut ready: Vec<ReadyPart<E::Prepared>> = vec![];
        for batch in 0..if self.outputs.is_empty() { 0 } else { batches } {
            let given = self.given(|v| value(v, batch));
            let vals = |fixed: bool| given.iter().filter(move |g| g.fixed == fixed).map(|g| g.val.clone());
            let (inputs, fixed): (Vec<Val>, Vec<Val>) = (vals(false).collect(), vals(true).collect());
            let types: Vec<Type> = inputs.iter().map(Val::ty).collect();
            let at = match ready.iter().position(|known| known.types == types && known.fixed == fixed) {
                Some(at) => at,
                None => {
                    let prepared = evaluate.prepare(&self.alone(&given)?).map_err(LayerError::Evaluate)?;
                    ready.push(ReadyPart { types, fixed, prepared });
                    ready.len() - 1
                }
            };
            let outputs = evaluate.run(&mut ready[at].prepared, &inputs).map_err(LayerError::Evaluate)?;
            results.iter_mut().zip(outputs).for_each(|(all, val)| all.push(val));
        }
        Ok(results)
    }

    /// What the nodes read of what was computed, each value once.
    fn given<'v>(&self, value: impl Fn(Value) -> Option<(&'v Val, bool)>) -> Vec<Given> {
        let inside: HashSet<NodeId> = self.nodes.iter().copied().collect();
        let mut given: Vec<Given> = vec![];
        for read in self.nodes.iter().flat_map(|&id| operands(self.graph, id)) {
            let Some((val, of_shapes)) = value(read) else { continue };
            if !inside.contains(&read.node) && given.iter().all(|g| g.value != read) {
                let fixed = of_shapes && val.as_tensor().is_some_and(|t| t.len() <= MOST_EXTENTS);
                given.push(Given { value: read, val: val.clone(), fixed });
            }
        }
        given
    }

    /// The graph of the nodes: its inputs are what is given and not fixed; constants stay constants.
    fn alone<E: std::error::Error>(&self, given: &[Given]) -> Result<Graph, LayerError<E>> {
        let mut alone = Graph::new("part");
        let mut known: HashMap<Value, Value> = HashMap::new();
        for (i, Given { value, val, fixed }) in given.iter().enumerate() {
            let new = match val {
                Val::Tensor(t) if *fixed => {
                    let ty = TensorType::fixed(t.dtype(), t.shape());
                    let node = alone.add(Constant { value: Const(t.clone()), zeros: 0 }, &[], vec![ty.into()]);
                    Value { node, result: 0 }
                }
                other => alone.add_input(&format!("x{i}"), other.ty()),
            };
            known.insert(*value, new);
        }
        for &id in self.nodes {
            self.copy(id, &mut alone, &mut known)?;
        }
        for (i, value) in self.outputs.iter().enumerate() {
            let value = *known.get(value).ok_or(LayerError::NotComputed)?;
            alone.outputs.push(Output { name: format!("y{i}"), value });
        }
        infer_types(&mut alone)?;
        Ok(alone)
    }

    /// Adds a node, and the constants that it reads.
    fn copy<E: std::error::Error>(
        &self,
        id: NodeId,
        alone: &mut Graph,
        known: &mut HashMap<Value, Value>,
    ) -> Result<(), LayerError<E>> {
        let node = self.graph.node(id);
        for value in operands(self.graph, id) {
            if let Entry::Vacant(entry) = known.entry(value) {
                let constant = &self.graph.node(value.node).op;
                let Op::Constant(_) = constant else { return Err(LayerError::NotComputed) };
                let node = alone.add(constant.clone(), &[], vec![self.graph.ty(value).clone()]);
                entry.insert(Value { node, result: 0 });
            }
        }
        let operands: Vec<Option<Value>> = node.operands.iter().map(|v| known.get(&(*v)?).copied()).collect();
        let types = node.results.iter().map(|r| r.ty.widest()).collect();
        let new = alone.add(node.op.clone(), &operands, types);
        let copy = alone.node_mut(new);
        copy.regions.clone_from(&node.regions);
        copy.loc.clone_from(&node.loc);
        let results = 0..node.results.len() as u32;
        known.extend(results.map(|result| (Value { node: id, result }, Value { node: new, result })));
        Ok(())
    }
}
