//! How rules spell what is equal to a term, and what they ask of a class.

use egg::Id;
use optc_ir::Op;
use optc_tensor::element_count;

use super::terms::{AlgebraGraph, Head};

/// A spelling: classes that are there, and heads on them that may be new.
#[derive(Debug, Clone)]
pub(super) enum TermSpelling {
    /// A class.
    Class(Id),
    /// A head on spellings.
    Of(Head, Vec<TermSpelling>),
}

/// A class that is there.
pub(super) fn class(id: Id) -> TermSpelling {
    TermSpelling::Class(id)
}

/// An op on spellings.
pub(super) fn op(op: impl Into<Op>, children: Vec<TermSpelling>) -> TermSpelling {
    TermSpelling::Of(Head::Op(op.into()), children)
}

/// The ops in a class that `f` makes something of, with their children.
pub(super) fn ops<'a, T: 'a>(
    g: &'a AlgebraGraph,
    class: Id,
    f: impl Fn(&'a Op, &'a [Id]) -> Option<T> + 'a,
) -> impl Iterator<Item = T> + 'a {
    g[class].nodes.iter().filter_map(move |term| match &g.analysis.heads[term.head] {
        Head::Op(op) => f(op, &term.children),
        Head::Leaf(_) | Head::Reshape(_) => None,
    })
}

/// Whether a class has one element and no more axes than it takes.
pub(super) fn is_scalar(g: &AlgebraGraph, class: Id, rank: usize) -> bool {
    g[class].data.shape().is_some_and(|s| element_count(&s) == Some(1) && s.len() <= rank)
}

/// Ops that compute each element of the result from one element of each operand.
pub(super) fn is_elementwise(op: &Op) -> bool {
    op.facts().fusion.is_some()
}
