//! From the chosen terms back to nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use egg::Id;
use optc_ir::ops::tensor::{Constant, Reshape};
use optc_ir::{Const, Graph, NodeId, TensorType, Type, Value};

use super::algebra::Algebra;
use super::terms::{Head, Term};
use crate::PassCx;
use crate::matching::{result, shape_tensor};
use crate::rewrite::add_locations;

/// How many nodes before a root are asked whether they have a new node's head.
const MAX_ORIGINS: usize = 512;

/// Makes nodes of the chosen terms.
pub(super) struct Rebuild<'a> {
    algebra: &'a Algebra,
    chosen: &'a BTreeMap<Id, Term>,
    /// Nodes that compute a class by the term that was chosen, and the locations of all that compute it.
    existing: HashMap<(Id, Term), NodeId>,
    locations: HashMap<Id, Vec<String>>,
    /// The nodes that were taken in, with their heads.
    heads: BTreeMap<NodeId, usize>,
    /// For a root and a head, the locations of the nodes with that head before the root.
    origins: HashMap<(NodeId, usize), Vec<String>>,
    values: HashMap<Id, Value>,
}

impl<'a> Rebuild<'a> {
    pub fn new(algebra: &'a Algebra, graph: &Graph, chosen: &'a BTreeMap<Id, Term>) -> Rebuild<'a> {
        let (mut existing, mut locations) = (HashMap::new(), HashMap::<Id, Vec<String>>::new());
        let mut heads = BTreeMap::new();
        for &id in &algebra.nodes {
            let (class, term) = algebra.original(graph, id);
            heads.insert(id, term.head);
            existing.entry((class, term)).or_insert(id);
            add_locations(locations.entry(class).or_default(), &graph.node(id).loc);
        }
        let (origins, values) = (HashMap::new(), HashMap::new());
        Rebuild { algebra, chosen, existing, locations, heads, origins, values }
    }

    /// Puts the new spellings in place of the roots.
    pub fn run(mut self, graph: &mut Graph, cx: &mut PassCx) {
        let mut replaced = vec![];
        for &root in &self.algebra.roots {
            let class = self.algebra.egraph.find(self.algebra.classes[&root]);
            let new = self.value(graph, class, root.node);
            if new != root && cx.permit("cheaper-spelling") {
                replaced.push((root, new));
            }
        }
        // All at once, when every node is made.
        for &(old, new) in &replaced {
            graph.replace_uses(old, new);
        }
    }

    /// The value of a class, made with all that it needs: children first, from the left.
    fn value(&mut self, graph: &mut Graph, class: Id, root: NodeId) -> Value {
        let chosen = self.chosen;
        let mut waiting = vec![class];
        while let Some(next) = waiting.pop() {
            if self.values.contains_key(&next) {
                continue;
            }
            let missing = chosen[&next].children.iter().rev().filter(|c| !self.values.contains_key(c));
            let missing: Vec<Id> = missing.copied().collect();
            if missing.is_empty() {
                let value = self.made(graph, next, root);
                self.values.insert(next, value);
            } else {
                waiting.push(next);
                waiting.extend(missing);
            }
        }
        self.values[&class]
    }

    /// The value of a class whose children have theirs.
    fn made(&mut self, graph: &mut Graph, class: Id, root: NodeId) -> Value {
        let term = &self.chosen[&class];
        let operands: Vec<Value> = term.children.iter().map(|c| self.values[c]).collect();
        match &self.algebra.egraph.analysis.heads[term.head] {
            Head::Leaf(value) => *value,
            head => {
                let same = |id: &&NodeId| {
                    let old = graph.node(**id).operands.iter().flatten().copied();
                    old.take(operands.len()).eq(operands.iter().copied())
                };
                match self.existing.get(&(class, term.clone())).filter(same) {
                    Some(&id) => result(id),
                    None => {
                        let loc = self.location(graph, class, term.head, root);
                        add(graph, head, &operands, self.algebra.egraph[class].data.ty.clone(), loc)
                    }
                }
            }
        }
    }

    /// Where a new node came from: from the nodes with its head at the root and before it, else from what computed its
    /// value, else from the root.
    fn location(&mut self, graph: &Graph, class: Id, head: usize, root: NodeId) -> Vec<String> {
        let heads = &self.heads;
        let loc = self.origins.entry((root, head)).or_insert_with(|| origins(graph, heads, head, root));
        match self.locations.get(&class) {
            _ if !loc.is_empty() => loc.clone(),
            Some(of_class) => of_class.clone(),
            None => graph.node(root).loc.clone(),
        }
    }
}

/// The locations of the nodes with this head among the root and the nodes before it, of which a bounded number is
/// looked at.
fn origins(graph: &Graph, heads: &BTreeMap<NodeId, usize>, head: usize, root: NodeId) -> Vec<String> {
    let (mut loc, mut seen, mut waiting) = (vec![], BTreeSet::new(), vec![root]);
    while let Some(id) = waiting.pop().filter(|_| seen.len() < MAX_ORIGINS) {
        let Some(&own) = heads.get(&id).filter(|_| seen.insert(id)) else { continue };
        if own == head {
            add_locations(&mut loc, &graph.node(id).loc);
        }
        waiting.extend(graph.node(id).operands.iter().flatten().map(|v| v.node));
    }
    loc
}

/// Adds the node of a head.
fn add(graph: &mut Graph, head: &Head, operands: &[Value], ty: Option<TensorType>, loc: Vec<String>) -> Value {
    let mut operands: Vec<Option<Value>> = operands.iter().copied().map(Some).collect();
    let op = match head {
        Head::Op(op) => op.clone(),
        Head::Leaf(value) => return *value,
        Head::Reshape(to) => {
            if let Some(target) = shape_tensor(to) {
                let ty = TensorType::fixed(target.dtype(), target.shape()).into();
                operands.push(Some(result(graph.add(Constant { value: Const(target), zeros: 0 }, &[], vec![ty]))));
            }
            Reshape { allow_zero: to.contains(&0) }.into()
        }
    };
    let id = graph.add(op, &operands, ty.into_iter().map(Type::from).collect());
    graph.node_mut(id).loc = loc;
    result(id)
}
