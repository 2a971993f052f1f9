//! From equal spellings to the cheapest ones.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use egg::Id;
use optc_ir::Graph;

use super::algebra::Algebra;
use super::cheapest::cheapest;
use super::rebuild::Rebuild;
use super::terms::Term;
use crate::PassCx;

/// Puts the cheapest spellings in place of the roots, if all together cost less than what is there; says
/// whether it did. What is not used any more stays.
pub(super) fn extract(algebra: &Algebra, graph: &mut Graph, cx: &mut PassCx) -> bool {
    let originals: BTreeSet<(Id, Term)> = algebra.nodes.iter().map(|&id| algebra.original(graph, id)).collect();
    let there: HashSet<Term> = originals.iter().map(|(_, term)| term.clone()).collect();
    let cheapest = cheapest(&algebra.egraph, &there);
    let mut chosen: BTreeMap<Id, Term> = BTreeMap::new();
    let mut waiting: Vec<Id> = algebra.roots.iter().map(|v| algebra.egraph.find(algebra.classes[v])).collect();
    while let Some(class) = waiting.pop() {
        if let Entry::Vacant(entry) = chosen.entry(class) {
            let term = algebra.canonical(cheapest[&class]);
            waiting.extend(&term.children);
            entry.insert(term);
        }
    }
    let after: u64 = chosen.values().map(|t| Algebra::own_cost(&algebra.egraph, t)).sum();
    let before: u64 = originals.iter().map(|(_, t)| Algebra::own_cost(&algebra.egraph, t)).sum();
    if after < before {
        Rebuild::new(algebra, graph, &chosen).run(graph, cx);
    }
    after < before
}
