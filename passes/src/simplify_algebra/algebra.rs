//! The e-graph of a graph's ops.

use std::collections::{BTreeSet, HashMap};

use egg::{EGraph, Id};
use optc_ir::{Encoding, Graph, NodeId, Op, Value};
use optc_tensor::{DType, element_count};

use super::spelling::{TermSpelling, is_elementwise};
use super::terms::{AlgebraGraph, ClassFacts, Head, Heads, Term};
use crate::matching::{picks_elements, result};

/// The pure part of a graph, or of a piece of it, as an e-graph.
pub(super) struct Algebra {
    pub egraph: AlgebraGraph,
    /// The class of each value.
    pub classes: HashMap<Value, Id>,
    /// Values that something outside of the algebra reads.
    pub roots: Vec<Value>,
    /// The nodes that were taken in, in topological order.
    pub nodes: Vec<NodeId>,
}

impl Algebra {
    /// The e-graph of the next ops of `order` that the rules know: of all that are left, or of this many terms.
    pub fn of_next(graph: &Graph, order: &mut impl Iterator<Item = NodeId>, terms: usize) -> Algebra {
        let egraph = EGraph::new(Heads::default());
        let mut algebra = Algebra { egraph, classes: HashMap::new(), roots: vec![], nodes: vec![] };
        while algebra.len() < terms
            && let Some(id) = order.next()
        {
            if let Some(head) = head_of(graph, id) {
                let operands = graph.node(id).operands.iter().flatten().copied();
                let taken = if matches!(head, Head::Reshape(_)) { 1 } else { usize::MAX };
                let children: Vec<Id> = operands.take(taken).map(|v| algebra.class(graph, v)).collect();
                let class = algebra.term(head, children);
                algebra.classes.insert(result(id), class);
                algebra.nodes.push(id);
            }
        }
        let inside: BTreeSet<NodeId> = algebra.nodes.iter().copied().collect();
        let read_outside =
            |v: &Value| graph.is_output(*v) || graph.each_use(*v).any(|(user, _)| !inside.contains(&user));
        algebra.roots = algebra.nodes.iter().map(|&id| result(id)).filter(read_outside).collect();
        algebra
    }

    /// How many terms there are.
    pub fn len(&self) -> usize {
        self.egraph.total_number_of_nodes()
    }

    fn class(&mut self, graph: &Graph, value: Value) -> Id {
        if let Some(&class) = self.classes.get(&value) {
            return class;
        }
        let ty = graph.ty(value).as_tensor().filter(|t| t.static_shape().is_some()).cloned();
        let info = ClassFacts { ty, constant: graph.constant(value).is_some() };
        self.egraph.analysis.leaves.insert(value, info);
        if let Some(t) = graph.constant(value).filter(|t| t.len() == 1 && t.dtype() != DType::Str) {
            self.egraph.analysis.scalars.insert(value, t.to_f64_vec()[0]);
        }
        let class = self.term(Head::Leaf(value), vec![]);
        self.classes.insert(value, class);
        class
    }

    fn term(&mut self, head: Head, children: Vec<Id>) -> Id {
        let (head, _) = self.egraph.analysis.heads.insert_full(head);
        self.egraph.add(Term { head, children })
    }

    /// The class of a spelling, which is made where it is not there.
    pub fn build(&mut self, spelling: TermSpelling) -> Id {
        match spelling {
            TermSpelling::Class(id) => id,
            TermSpelling::Of(head, children) => {
                let children = children.into_iter().map(|c| self.build(c)).collect();
                self.term(head, children)
            }
        }
    }

    /// What a term costs besides its children, in bytes: what it writes, with a factor for what does not fuse.
    pub fn own_cost(egraph: &AlgebraGraph, term: &Term) -> u64 {
        let children = term.children.iter();
        let constant = !term.children.is_empty() && children.clone().all(|&c| egraph[c].data.constant);
        let size = |info: &ClassFacts| {
            let elements = info.shape().and_then(|s| element_count(&s)).unwrap_or(0);
            let dtype = info.ty.as_ref().map(|t| t.dtype);
            dtype.and_then(|d| d.bytes_for(elements)).unwrap_or(0) as u64
        };
        let head = &egraph.analysis.heads[term.head];
        let written = || match egraph.lookup(term.clone()) {
            Some(class) => size(&egraph[class].data),
            None => children.clone().map(|&c| size(&egraph[c].data)).max().unwrap_or(0),
        };
        match head {
            Head::Leaf(_) => 0,
            // Computed now; a little for what the model's constants grow by where the old one has other users.
            _ if constant => 1 + children.clone().map(|&c| size(&egraph[c].data)).max().unwrap_or(0) / 64,
            Head::Reshape(_) => 8,
            Head::Op(Op::Transpose(_)) => 64 + 4 * written(),
            Head::Op(_) => 16 + written(),
        }
    }

    /// A term on the classes that its children are in now.
    pub fn canonical(&self, term: &Term) -> Term {
        Term { head: term.head, children: term.children.iter().map(|&c| self.egraph.find(c)).collect() }
    }

    /// The class and the term of a node as it stands in the graph.
    pub fn original(&self, graph: &Graph, id: NodeId) -> (Id, Term) {
        let head = head_of(graph, id).and_then(|h| self.egraph.analysis.heads.get_index_of(&h));
        let taken = if matches!(graph.node(id).op, Op::Reshape(_)) { 1 } else { usize::MAX };
        let operands = graph.node(id).operands.iter().flatten().take(taken);
        let children = operands.map(|v| self.egraph.find(self.classes[v])).collect();
        (self.egraph.find(self.classes[&result(id)]), Term { head: head.unwrap_or_default(), children })
    }
}

/// The head of a node that the rules know: of plain values with concrete shapes, absent ones at the end alone.
fn head_of(graph: &Graph, id: NodeId) -> Option<Head> {
    let node = graph.node(id);
    let plain = |v: &Value| {
        let t = graph.ty(*v).as_tensor();
        t.is_some_and(|t| t.encoding == Encoding::Plain && t.static_shape().is_some())
    };
    let given = node.operands.iter().take_while(|v| v.is_some()).count();
    let known = node.results.len() == 1
        && plain(&result(id))
        && node.operands.iter().flatten().all(plain)
        && node.operands.iter().flatten().count() == given
        && given > 0;
    if !known {
        return None;
    }
    match &node.op {
        Op::Reshape(_) => Some(Head::Reshape(graph.ty(result(id)).as_tensor()?.static_shape()?)),
        Op::Transpose(_) | Op::MatMul(_) => Some(Head::Op(node.op.clone())),
        Op::Pool(pool) => picks_elements(pool).then(|| Head::Op(node.op.clone())),
        op => is_elementwise(op).then(|| Head::Op(op.clone())),
    }
}
