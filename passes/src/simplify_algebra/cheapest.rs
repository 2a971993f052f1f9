//! The cheapest spelling of every class.
//!
//! Knuth's generalization of Dijkstra's algorithm (1977): a term costs more than each of its children, so classes are
//! settled from the cheapest one up, each once. A fixpoint over all classes, which egg's extractor computes, takes as
//! many rounds as a chain is long.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use egg::Id;

use super::algebra::Algebra;
use super::terms::{AlgebraGraph, Term};

/// For each class the term of the least cost. Costs are those of [`Algebra::own_cost`], each use counted. Of two that
/// cost the same, what is `there` already stays.
pub(super) fn cheapest<'a>(egraph: &'a AlgebraGraph, there: &'a HashSet<Term>) -> HashMap<Id, &'a Term> {
    let mut search = Search::new(egraph, there);
    while let Some(Reverse((cost, class))) = search.open.pop() {
        search.settle(class, cost);
    }
    search.settled.into_iter().map(|(class, (_, term))| (class, term)).collect()
}

struct Search<'a> {
    egraph: &'a AlgebraGraph,
    there: &'a HashSet<Term>,
    /// Classes with a term that could be taken, and its cost.
    open: BinaryHeap<Reverse<(u64, Id)>>,
    /// Terms, their classes, and how many of their children are not settled.
    terms: Vec<(Id, &'a Term, usize)>,
    /// For each class the terms that have it as a child, once for each time.
    parents: HashMap<Id, Vec<usize>>,
    /// For each class the terms that could be taken, with their costs.
    ready: HashMap<Id, Vec<(u64, usize)>>,
    settled: HashMap<Id, (u64, &'a Term)>,
}

impl<'a> Search<'a> {
    fn new(egraph: &'a AlgebraGraph, there: &'a HashSet<Term>) -> Search<'a> {
        let (open, settled) = (BinaryHeap::new(), HashMap::new());
        let mut search =
            Search { egraph, there, open, terms: vec![], parents: HashMap::new(), ready: HashMap::new(), settled };
        for class in egraph.classes() {
            for term in &class.nodes {
                let at = search.terms.len();
                search.terms.push((class.id, term, term.children.len()));
                for &child in &term.children {
                    search.parents.entry(egraph.find(child)).or_default().push(at);
                }
                if term.children.is_empty() {
                    search.offer(at);
                }
            }
        }
        search
    }

    /// Notes what a term costs, whose children are all settled.
    fn offer(&mut self, at: usize) {
        let (class, term, _) = self.terms[at];
        let new = !self.there.contains(term) && !term.children.is_empty();
        let own = Algebra::own_cost(self.egraph, term) + u64::from(new);
        let child = |c: &Id| self.settled[&self.egraph.find(*c)].0;
        let cost = term.children.iter().fold(own, |sum, c| sum.saturating_add(child(c)));
        self.ready.entry(class).or_default().push((cost, at));
        self.open.push(Reverse((cost, class)));
    }

    /// Takes the first of the cheapest terms of a class, the first time that this class comes.
    fn settle(&mut self, class: Id, cost: u64) {
        if self.settled.contains_key(&class) {
            return;
        }
        let cheapest = self.ready.remove(&class).into_iter().flatten().min();
        let Some((_, at)) = cheapest else { return };
        self.settled.insert(class, (cost, self.terms[at].1));
        for parent in self.parents.remove(&class).unwrap_or_default() {
            self.terms[parent].2 -= 1;
            if self.terms[parent].2 == 0 {
                self.offer(parent);
            }
        }
    }
}
