//! The terms, and what is known of each class of equal ones.

use std::collections::HashMap;

use egg::{Analysis, DidMerge, EGraph, Id, Language};
use indexmap::IndexSet;
use optc_ir::{InferCx, Op, TensorType, Type, Value};
use optc_tensor::element_count;

/// Classes of equal terms.
pub(super) type AlgebraGraph = EGraph<Term, Heads>;

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

/// All heads, and the types of the leaves.
#[derive(Default)]
pub(super) struct Heads {
    pub heads: IndexSet<Head>,
    pub leaves: HashMap<Value, ClassFacts>,
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
