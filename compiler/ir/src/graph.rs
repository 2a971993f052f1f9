//! The graph: a DAG whose nodes hold an op, ordered operands, typed results and regions.
//!
//! petgraph keeps the nodes and their identities. The edges are the operands, in [`Node::operands`], and the other way
//! around the uses of each value: petgraph's own edges stand in lists that are walked to remove one, which takes too
//! long for a value that thousands read. Regions are isolated: what a region uses from outside is passed in as an
//! operand.

mod outputs;
mod uses;
mod value;

use std::collections::BinaryHeap;

use optc_tensor::Tensor;
use petgraph::stable_graph::StableDiGraph;

pub use self::outputs::{Output, Outputs};
use self::uses::Uses;
pub use self::value::{NodeId, Value};
use crate::ops::tensor::Param;
use crate::{Op, Type};

/// What is known of one result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultInfo {
    /// Its type.
    pub ty: Type,
}

/// An op at its place in the graph.
#[derive(Debug, Clone)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// The operands in order; `None` for an optional operand that is absent.
    pub operands: Vec<Option<Value>>,
    /// The results in order.
    pub results: Vec<ResultInfo>,
    /// Nested graphs of control-flow ops.
    pub regions: Vec<Graph>,
    /// Names of the ONNX nodes that this op came from.
    pub loc: Vec<String>,
    /// What the model calls the results, as far as it does: empty names, and those left out at the end, are not known.
    pub names: Vec<String>,
}

/// A function: parameters, ops and outputs.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The function's name.
    pub name: String,
    /// What the model's file says of itself, by key: carried from import to export, and without a meaning here.
    pub notes: Vec<(String, String)>,
    dag: StableDiGraph<Node, ()>,
    uses: Uses,
    inputs: Vec<NodeId>,
    /// What the function returns.
    pub outputs: Outputs,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: &str) -> Graph {
        Graph { name: name.to_owned(), ..Graph::default() }
    }

    /// Adds a graph input.
    pub fn add_input(&mut self, name: &str, ty: Type) -> Value {
        let op = Op::Param(Param { name: name.to_owned() });
        let results = vec![ResultInfo { ty }];
        let node = Node { op, operands: vec![], results, regions: vec![], loc: vec![], names: vec![] };
        let id = self.dag.add_node(node);
        self.inputs.push(id);
        Value { node: id, result: 0 }
    }

    /// Adds an op whose results have the given types. Operands must be defined already.
    pub fn add(&mut self, op: impl Into<Op>, operands: &[Option<Value>], types: Vec<Type>) -> NodeId {
        let results = types.into_iter().map(|ty| ResultInfo { ty }).collect();
        let (op, operands) = (op.into(), operands.to_vec());
        let node = Node { op, operands, results, regions: vec![], loc: vec![], names: vec![] };
        let id = self.dag.add_node(node);
        for (slot, value) in self.dag[id].operands.iter().enumerate() {
            if let Some(value) = value {
                self.uses.add(id, slot, *value);
            }
        }
        id
    }

    /// The values of the graph's inputs, in order.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = Value> + '_ {
        self.inputs.iter().map(|&node| Value { node, result: 0 })
    }

    /// The name of an input.
    pub fn input_name(&self, input: Value) -> Option<&str> {
        if let Op::Param(p) = &self.dag.node_weight(input.node)?.op { Some(&p.name) } else { None }
    }

    /// What the model calls a result, where that is known; inputs have their own names.
    pub fn value_name(&self, value: Value) -> Option<&str> {
        let name = self.get(value.node)?.names.get(value.result as usize)?;
        (!name.is_empty()).then_some(name)
    }

    /// Says what the model calls a result.
    pub fn set_value_name(&mut self, value: Value, name: &str) {
        let names = &mut self.dag[value.node].names;
        let at = value.result as usize;
        if names.len() <= at {
            names.resize(at + 1, String::new());
        }
        name.clone_into(&mut names[at]);
    }

    /// The note of this key.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes.iter().find(|(k, _)| k == key).map(|(_, text)| text.as_str())
    }

    /// The node with this identity, if it is there.
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.dag.node_weight(id)
    }

    /// The node with this identity.
    ///
    /// # Panics
    /// The node was removed.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.dag[id]
    }

    /// The node, for changes to its op, types, regions, locations and names. Operands change through
    /// [`Graph::set_operand`], which keeps the edges in step.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.dag[id]
    }

    /// The node's op, where it is a `T`.
    pub fn op<'a, T>(&'a self, id: NodeId) -> Option<&'a T>
    where
        &'a T: TryFrom<&'a Op>,
    {
        <&T>::try_from(&self.get(id)?.op).ok()
    }

    /// A node's operand, where it is there.
    pub fn operand(&self, id: NodeId, slot: usize) -> Option<Value> {
        self.get(id)?.operands.get(slot).copied().flatten()
    }

    /// The tensor of a value that a constant op defines.
    pub fn constant(&self, value: Value) -> Option<&Tensor> {
        if let Op::Constant(c) = &self.get(value.node)?.op { Some(&c.value.0) } else { None }
    }

    /// True when the graph returns this value.
    pub fn is_output(&self, value: Value) -> bool {
        self.outputs.holds(value)
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> &Type {
        &self.dag[value.node].results[value.result as usize].ty
    }

    /// Replaces one operand.
    pub fn set_operand(&mut self, id: NodeId, slot: usize, value: Option<Value>) {
        if let Some(old) = std::mem::replace(&mut self.dag[id].operands[slot], value) {
            self.uses.remove(id, slot, old);
        }
        if let Some(value) = value {
            self.uses.add(id, slot, value);
        }
    }

    /// The uses of a value: consumers and operand slots, ordered.
    pub fn uses(&self, value: Value) -> Vec<(NodeId, usize)> {
        let mut uses: Vec<_> = self.each_use(value).collect();
        uses.sort_unstable();
        uses
    }

    /// The uses of a value in no particular order: for questions that the first few may answer.
    pub fn each_use(&self, value: Value) -> impl ExactSizeIterator<Item = (NodeId, usize)> + '_ {
        self.uses.of(value).iter().map(|&(user, slot)| (user, slot as usize))
    }

    /// Whether an operand slot or an output of the graph reads a value.
    pub fn is_used(&self, value: Value) -> bool {
        self.each_use(value).len() > 0 || self.is_output(value)
    }

    /// Whether anything reads a result of a node.
    pub fn is_needed(&self, id: NodeId) -> bool {
        (0..self.node(id).results.len() as u32).any(|result| self.is_used(Value { node: id, result }))
    }

    /// Makes every use of `old`, outputs included, a use of `new`, which takes the name of `old` unless it has one.
    pub fn replace_uses(&mut self, old: Value, new: Value) {
        if let Some(name) = self.value_name(old).map(str::to_owned)
            && !matches!(self.node(new.node).op, Op::Param(_))
            && self.value_name(new).is_none()
        {
            self.set_value_name(new, &name);
        }
        for (node, slot) in self.uses(old) {
            self.set_operand(node, slot, Some(new));
        }
        self.outputs.replace(old, new);
    }

    /// Whether the operands of a node are what is noted as uses of their values.
    pub fn uses_follow_operands(&self, id: NodeId) -> bool {
        self.uses.agree(id, &self.node(id).operands)
    }

    /// Takes a node out. Its results must not be used.
    pub fn remove(&mut self, id: NodeId) -> Option<Node> {
        let node = self.dag.remove_node(id)?;
        for (slot, value) in node.operands.iter().enumerate() {
            if let Some(value) = value {
                self.uses.remove(id, slot, *value);
            }
        }
        self.uses.remove_node(id);
        if matches!(node.op, Op::Param(_)) {
            self.inputs.retain(|&n| n != id);
        }
        Some(node)
    }

    /// The nodes' identities in order of creation.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.dag.node_indices()
    }

    /// How many nodes there are, inputs included.
    pub fn len(&self) -> usize {
        self.dag.node_count()
    }

    /// True when there is no node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All nodes, each after its operands; among those that are ready the oldest first. `None` when there is a cycle.
    pub fn topological_order(&self) -> Option<Vec<NodeId>> {
        // Most graphs are as they were made, each node after its operands: the oldest is always ready.
        let before =
            |id: NodeId| self.node(id).operands.iter().flatten().all(|v| v.node < id && self.get(v.node).is_some());
        if self.ids().all(before) {
            return Some(self.ids().collect());
        }
        let mut waiting: Vec<usize> = vec![0; self.dag.node_indices().next_back().map_or(0, |n| n.index() + 1)];
        let mut ready = BinaryHeap::new();
        for id in self.dag.node_indices() {
            waiting[id.index()] = self.uses.operands(id);
            if waiting[id.index()] == 0 {
                ready.push(std::cmp::Reverse(id));
            }
        }
        let mut order = Vec::with_capacity(self.len());
        while let Some(std::cmp::Reverse(id)) = ready.pop() {
            order.push(id);
            for user in self.uses.of_node(id) {
                let left = &mut waiting[user.index()];
                *left -= 1;
                if *left == 0 {
                    ready.push(std::cmp::Reverse(user));
                }
            }
        }
        (order.len() == self.len()).then_some(order)
    }
}
