//! The terms, the e-graph of them, and the way back.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use egg::{Analysis, DidMerge, EGraph, Id, Language};
use indexmap::IndexSet;
use optc_ir::{Encoding, Graph, InferCx, NodeId, Op, TensorType, Type, Value};
use optc_tensor::{DType, element_count};

use super::cheapest::cheapest;
use super::rebuild::Rebuild;
use crate::PassCx;
use crate::matching::{picks_elements, result};

/// What a term applies to its children.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Head {
    /// A value that the algebra does not look into.
    Leaf(Value),
    /// An op.
    Op(Op),
    /// A reshape to these extents.
    Reshape(Vec<usize>),
}

/// A head, by its number, on classes of equal terms.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Term {
    pub head: usize,
    pub children: Vec<Id>,
}

impl Language for Term {
    type Discriminant = usize;

    fn discriminant(&self) -> usize {
        self.head
    }

    fn matches(&self, other: &Term) -> bool {
        self.head == other.head && self.children.len() == other.children.len()
    }

    fn children(&self) -> &[Id] {
        &self.children
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}

/// What is known of a class.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ClassFacts {
    /// The type; `None` for a term that is not well formed, which is equal to nothing.
    pub ty: Option<TensorType>,
    /// Whether it depends on constants alone.
    pub constant: bool,
}

impl ClassFacts {
    /// The concrete shape.
    pub fn shape(&self) -> Option<Vec<usize>> {
        self.ty.as_ref()?.static_shape()
    }
}

/// The heads that there are, and the types of the leaves.
#[derive(Default)]
pub(super) struct Heads {
    pub heads: IndexSet<Head>,
    leaves: HashMap<Value, ClassFacts>,
    /// The values of the leaves that are constants of one element.
    pub scalars: HashMap<Value, f64>,
}

impl Analysis<Term> for Heads {
    type Data = ClassFacts;

    fn make(egraph: &mut EGraph<Term, Heads>, term: &Term, _: Id) -> ClassFacts {
        let heads = &egraph.analysis;
        let children: Vec<&ClassFacts> = term.children.iter().map(|&c| &egraph[c].data).collect();
        let constant = children.iter().all(|c| c.constant);
        match &heads.heads[term.head] {
            Head::Leaf(value) => heads.leaves[value].clone(),
            Head::Op(op) => ClassFacts { ty: infer(op, &children), constant },
            Head::Reshape(to) => {
                let from = children.first().and_then(|c| c.ty.as_ref());
                let fits = |t: &&TensorType| t.static_shape().and_then(|s| element_count(&s)) == element_count(to);
                ClassFacts { ty: from.filter(fits).map(|t| TensorType::fixed(t.dtype, to)), constant }
            }
        }
    }

    fn merge(&mut self, a: &mut ClassFacts, b: ClassFacts) -> DidMerge {
        let (constant, other) = (a.constant || b.constant, b.constant);
        let did = DidMerge(a.constant != constant, other != constant);
        a.constant = constant;
        did
    }
}

fn infer(op: &Op, children: &[&ClassFacts]) -> Option<TensorType> {
    let types: Vec<Type> = children.iter().map(|c| c.ty.clone().map(Type::from)).collect::<Option<_>>()?;
    let types: Vec<Option<&Type>> = types.iter().map(Some).collect();
    let cx = InferCx { types: &types, consts: &vec![None; types.len()], regions: &[] };
    let ty = op.infer(&cx).ok()?.first()?.as_tensor()?.clone();
    ty.static_shape().map(|_| ty)
}

/// A spelling: classes that are there, and heads on them that may be new.
#[derive(Debug, Clone)]
pub(super) enum TermSpelling {
    /// A class.
    Class(Id),
    /// A head on spellings.
    Of(Head, Vec<TermSpelling>),
}

/// The pure part of a graph, or of a piece of it, as an e-graph.
pub(super) struct Algebra {
    pub egraph: EGraph<Term, Heads>,
    /// The class of each value.
    pub classes: HashMap<Value, Id>,
    /// Values that something outside of the algebra reads.
    pub roots: Vec<Value>,
    /// The nodes that were taken in, in topological order.
    pub nodes: Vec<NodeId>,
}

impl Algebra {
    /// The e-graph of the next ops of `order` that the rules know: of all that are left, or of a piece of some size.
    pub fn of_next(graph: &Graph, order: &mut impl Iterator<Item = NodeId>) -> Algebra {
        let egraph = EGraph::new(Heads::default());
        let mut algebra = Algebra { egraph, classes: HashMap::new(), roots: vec![], nodes: vec![] };
        while algebra.len() < super::PIECE_TERMS
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

    fn build(&mut self, spelling: TermSpelling) -> Id {
        match spelling {
            TermSpelling::Class(id) => id,
            TermSpelling::Of(head, children) => {
                let children = children.into_iter().map(|c| self.build(c)).collect();
                self.term(head, children)
            }
        }
    }

    /// Applies all rules to all terms; false when nothing new is equal.
    pub fn saturate_once(&mut self) -> bool {
        let mut classes: Vec<Id> = self.egraph.classes().map(|c| c.id).collect();
        classes.sort_unstable();
        let found: Vec<(Id, TermSpelling)> = classes
            .into_iter()
            .flat_map(|class| {
                let terms = self.egraph[class].nodes.iter();
                terms
                    .flat_map(|term| super::rules::equal(&self.egraph, term))
                    .map(move |s| (class, s))
                    .collect::<Vec<_>>()
            })
            .collect();
        let mut changed = false;
        for (class, spelling) in found {
            if self.len() > super::MAX_TERMS {
                break;
            }
            let new = self.build(spelling);
            // A spelling of another type is a rule's mistake; it is not believed.
            let same = self.egraph[new].data.ty.is_some() && self.egraph[new].data.ty == self.egraph[class].data.ty;
            changed |= same && self.egraph.union(class, new);
        }
        self.egraph.rebuild();
        changed
    }

    /// What a term costs beside its children, in bytes: what it writes, with a factor for what does not fuse.
    pub fn own_cost(egraph: &EGraph<Term, Heads>, term: &Term) -> u64 {
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

    /// Puts the cheapest spellings in the place of the roots, if all together cost less than what is there; says
    /// whether it did. What is not used any more stays.
    pub fn extract(&self, graph: &mut Graph, cx: &mut PassCx) -> bool {
        let originals: BTreeSet<(Id, Term)> = self.nodes.iter().map(|&id| self.original(graph, id)).collect();
        let there: HashSet<Term> = originals.iter().map(|(_, term)| term.clone()).collect();
        let cheapest = cheapest(&self.egraph, &there);
        let mut chosen: BTreeMap<Id, Term> = BTreeMap::new();
        let mut waiting: Vec<Id> = self.roots.iter().map(|v| self.egraph.find(self.classes[v])).collect();
        while let Some(class) = waiting.pop() {
            if let Entry::Vacant(entry) = chosen.entry(class) {
                let term = self.canonical(cheapest[&class]);
                waiting.extend(&term.children);
                entry.insert(term);
            }
        }
        let after: u64 = chosen.values().map(|t| Algebra::own_cost(&self.egraph, t)).sum();
        let before: u64 = originals.iter().map(|(_, t)| Algebra::own_cost(&self.egraph, t)).sum();
        if after < before {
            Rebuild::new(self, graph, &chosen).run(graph, cx);
        }
        after < before
    }

    fn canonical(&self, term: &Term) -> Term {
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
        op => super::rules::is_elementwise(op).then(|| Head::Op(op.clone())),
    }
}
