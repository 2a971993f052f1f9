//! From the chosen terms back to nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use egg::Id;
use optc_ir::ops::tensor::{Constant, Reshape};
use optc_ir::{Const, Graph, NodeId, TensorType, Type, Value};

use super::terms::{Algebra, Head, Term};
use crate::PassCx;
use crate::matching::{result, shape_tensor};
use crate::rewrite::remove_unused;

/// Makes nodes of the chosen terms.
pub(super) struct Rebuild<'a> {
    algebra: &'a Algebra,
    chosen: &'a BTreeMap<Id, Term>,
    /// Nodes that compute a class by the term that was chosen, and the locations of all that compute it.
    existing: HashMap<(Id, Term), NodeId>,
    locations: HashMap<Id, Vec<String>>,
    /// The nodes that were taken in, with their heads.
    heads: BTreeMap<NodeId, usize>,
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
            merge(locations.entry(class).or_default(), &graph.node(id).loc);
        }
        Rebuild { algebra, chosen, existing, locations, heads, values: HashMap::new() }
    }

    /// Puts the new spellings in the place of the roots.
    pub fn run(mut self, graph: &mut Graph, cx: &mut PassCx) {
        let mut replaced = vec![];
        for &root in &self.algebra.roots {
            let class = self.algebra.egraph.find(self.algebra.classes[&root]);
            let new = self.value(graph, class, root.node);
            if new != root && cx.permit("cheaper-spelling") {
                replaced.push((root, new));
            }
        }
        // All at once: a root that another one's old spelling reads goes with that.
        for &(old, new) in &replaced {
            graph.replace_uses(old, new);
        }
        for id in graph.ids().collect::<Vec<_>>() {
            if graph.get(id).is_some() {
                remove_unused(graph, id);
            }
        }
    }

    fn value(&mut self, graph: &mut Graph, class: Id, root: NodeId) -> Value {
        if let Some(&value) = self.values.get(&class) {
            return value;
        }
        let term = &self.chosen[&class];
        let operands: Vec<Value> = term.children.iter().map(|&c| self.value(graph, c, root)).collect();
        let value = match &self.algebra.egraph.analysis.heads[term.head] {
            Head::Leaf(value) => *value,
            head => {
                let same = |id: &&NodeId| {
                    let old = graph.node(**id).operands.iter().flatten().copied();
                    old.take(operands.len()).eq(operands.iter().copied())
                };
                match self.existing.get(&(class, term.clone())).filter(same) {
                    Some(&id) => result(id),
                    None => {
                        let loc = self.location(graph, class, term, root);
                        add(graph, head, &operands, self.algebra.egraph[class].data.ty.clone(), loc)
                    }
                }
            }
        };
        self.values.insert(class, value);
        value
    }

    /// Where a new node came from: from the nodes with its head at the root and before it, else from what computed its value, else
    /// from the root.
    fn location(&self, graph: &Graph, class: Id, term: &Term, root: NodeId) -> Vec<String> {
        let (mut loc, mut seen, mut waiting) = (vec![], BTreeSet::new(), vec![root]);
        while let Some(id) = waiting.pop() {
            let Some(&head) = self.heads.get(&id).filter(|_| seen.insert(id)) else { continue };
            if head == term.head {
                merge(&mut loc, &graph.node(id).loc);
            }
            waiting.extend(graph.node(id).operands.iter().flatten().map(|v| v.node));
        }
        match self.locations.get(&class) {
            _ if !loc.is_empty() => loc,
            Some(of_class) => of_class.clone(),
            None => graph.node(root).loc.clone(),
        }
    }
}

/// Adds what is not there yet.
fn merge(loc: &mut Vec<String>, more: &[String]) {
    for name in more {
        if !loc.contains(name) {
            loc.push(name.clone());
        }
    }
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
