//! The rules: spellings that are equal to a term.
//!
//! - Two transposes are one; a transpose that moves nothing goes. Reshapes likewise.
//! - A transpose of an elementwise op is the op on transposed operands, and the other way around; a scalar stays as it
//!   is, and a constant of the full rank is transposed the other way. A reshape likewise, where all operands have the
//!   result's shape or are scalars.
//! - `(x ∘ a) ∘ b = x ∘ (a ∘ b)` for constants `a`, `b` and `∘` a sum or a product of floats; `(x + a) · s = x · s + a
//!   · s`.
//! - A scalar factor goes to either operand of a product of matrices, or after it.
//! - Those on quantizations are in [`super::quant`].
//!
//! Both sides of each have the same value up to rounding, and the same type, which the e-graph checks.

use egg::Id;
use optc_ir::Op;
use optc_ir::ops::math::{Add, MatMul, Mul};
use optc_ir::ops::tensor::Transpose;

use super::quant;
use super::spelling::{TermSpelling, class, is_elementwise, is_scalar, op, ops};
use super::terms::{AlgebraGraph, Head, Term};

/// The spellings that one rule each shows to be equal to `term`.
pub(super) fn equal(g: &AlgebraGraph, term: &Term) -> Vec<TermSpelling> {
    match &g.analysis.heads[term.head] {
        Head::Leaf(_) => vec![],
        Head::Reshape(to) => reshape(g, to, term.children[0]),
        Head::Op(Op::Transpose(t)) => transpose(g, &t.perm, term.children[0]),
        Head::Op(Op::MatMul(_)) => matmul(g, &term.children),
        Head::Op(op @ Op::Pool(_)) => quant::equal(g, op, &term.children),
        Head::Op(op) => {
            let mut found = out_of_elementwise(g, op, &term.children);
            found.extend(constants(g, op, &term.children));
            found.extend(quant::equal(g, op, &term.children));
            found
        }
    }
}

fn rank(g: &AlgebraGraph, class: Id) -> Option<usize> {
    Some(g[class].data.shape()?.len())
}

/// Floats of 32 bits or more: narrower ones are rounded so coarsely that another order of operations shows.
fn is_float(g: &AlgebraGraph, class: Id) -> bool {
    g[class].data.ty.as_ref().is_some_and(|t| t.dtype.is_float() && t.dtype.bits() >= 32)
}

/// A transpose, or nothing where no axis moves.
fn transposed(perm: Vec<i64>, x: TermSpelling) -> TermSpelling {
    if perm.iter().copied().eq(0..perm.len() as i64) { x } else { op(Transpose { perm }, vec![x]) }
}

fn inverse(perm: &[i64]) -> Vec<i64> {
    let mut inverse = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(to, &from)| inverse[from as usize] = to as i64);
    inverse
}

/// A permutation that an op may have: all of `0..n`.
fn is_permutation(perm: &[i64]) -> bool {
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    sorted.into_iter().eq(0..perm.len() as i64)
}

/// What a transpose of class `x` is.
fn transpose(g: &AlgebraGraph, perm: &[i64], x: Id) -> Vec<TermSpelling> {
    if !is_permutation(perm) {
        return vec![];
    }
    let twice = ops(g, x, |inner, children| match inner {
        Op::Transpose(t) if is_permutation(&t.perm) && t.perm.len() == perm.len() => {
            Some(transposed(perm.iter().map(|&p| t.perm[p as usize]).collect(), class(children[0])))
        }
        _ => None,
    });
    let inside = ops(g, x, |inner, children| {
        let operand = |&c: &Id| {
            if is_scalar(g, c, 0) {
                return Some(class(c));
            }
            (rank(g, c)? == perm.len()).then(|| transposed(perm.to_vec(), class(c)))
        };
        is_elementwise(inner)
            .then(|| children.iter().map(operand).collect::<Option<Vec<_>>>())?
            .map(|c| op(inner.clone(), c))
    });
    twice.chain(inside).collect()
}

/// What a reshape of class `x` is.
fn reshape(g: &AlgebraGraph, to: &[usize], x: Id) -> Vec<TermSpelling> {
    let reshaped = |c: Id| match g[c].data.shape().is_some_and(|s| s == to) {
        true => class(c),
        false => TermSpelling::Of(Head::Reshape(to.to_vec()), vec![class(c)]),
    };
    let mut found: Vec<TermSpelling> = g[x]
        .nodes
        .iter()
        .filter(|t| matches!(g.analysis.heads[t.head], Head::Reshape(_)))
        .map(|t| reshaped(t.children[0]))
        .collect();
    if g[x].data.shape().is_some_and(|s| s == to) {
        found.push(class(x));
    }
    let from = g[x].data.shape();
    found.extend(ops(g, x, |inner, children| {
        let operand = |&c: &Id| {
            if is_scalar(g, c, 0) {
                return Some(class(c));
            }
            (g[c].data.shape() == from).then(|| reshaped(c))
        };
        is_elementwise(inner)
            .then(|| children.iter().map(operand).collect::<Option<Vec<_>>>())?
            .map(|c| op(inner.clone(), c))
    }));
    found
}

/// An elementwise op on transposed or reshaped operands → the transpose or the reshape of the op.
fn out_of_elementwise(g: &AlgebraGraph, outer: &Op, children: &[Id]) -> Vec<TermSpelling> {
    let perms =
        |c: &Id| ops(g, *c, |o, inner| if let Op::Transpose(t) = o { Some((t.perm.clone(), inner[0])) } else { None });
    let mut tried: Vec<Vec<i64>> = vec![];
    let mut found = vec![];
    for (perm, _) in children.iter().flat_map(perms).filter(|(p, _)| is_permutation(p)) {
        if tried.contains(&perm) {
            continue;
        }
        let operand = |c: &Id| {
            if is_scalar(g, *c, 0) {
                return Some(class(*c));
            }
            let source = perms(c).find(|(p, _)| *p == perm).map(|(_, x)| class(x));
            let constant = || g[*c].data.constant && rank(g, *c) == Some(perm.len());
            source.or_else(|| constant().then(|| transposed(inverse(&perm), class(*c))))
        };
        if let Some(operands) = children.iter().map(operand).collect::<Option<Vec<_>>>() {
            found.push(transposed(perm.clone(), op(outer.clone(), operands)));
        }
        tried.push(perm);
    }
    found.extend(reshape_out(g, outer, children));
    found
}

/// `f(reshape(a), reshape(b), scalar)` → `reshape(f(a, b, scalar))`, where `a` and `b` have one shape.
fn reshape_out(g: &AlgebraGraph, outer: &Op, children: &[Id]) -> Option<TermSpelling> {
    let sources = |c: Id| {
        let terms = g[c].nodes.iter().filter(|t| matches!(g.analysis.heads[t.head], Head::Reshape(_)));
        terms.map(|t| t.children[0])
    };
    let first = children.iter().find(|&&c| !is_scalar(g, c, 0))?;
    let to = g[*first].data.shape()?;
    let from = g[sources(*first).next()?].data.shape()?;
    let operand = |&c: &Id| {
        if is_scalar(g, c, 0) {
            return Some(class(c));
        }
        let source = sources(c).find(|&x| g[x].data.shape().as_ref() == Some(&from));
        source.filter(|_| g[c].data.shape().as_ref() == Some(&to)).map(class)
    };
    let operands = children.iter().map(operand).collect::<Option<Vec<_>>>()?;
    Some(TermSpelling::Of(Head::Reshape(to), vec![op(outer.clone(), operands)]))
}

/// Sums and products with constants.
fn constants(g: &AlgebraGraph, outer: &Op, children: &[Id]) -> Vec<TermSpelling> {
    let (&[x, c], true) = (children, matches!(outer, Op::Add(_) | Op::Mul(_))) else { return vec![] };
    if !g[c].data.constant || !is_float(g, c) {
        return vec![];
    }
    if g[x].data.constant {
        return if matches!(outer, Op::Mul(_)) { quant::scaled(g, x, c) } else { vec![] };
    }
    let inner = ops(g, x, |o, inner| match (outer, o, inner) {
        (Op::Add(_), Op::Add(_), &[y, d]) if g[d].data.constant => {
            Some(op(Add {}, vec![class(y), op(Add {}, vec![class(d), class(c)])]))
        }
        (Op::Mul(_), Op::Mul(_), &[y, d]) if g[d].data.constant => {
            Some(op(Mul {}, vec![class(y), op(Mul {}, vec![class(d), class(c)])]))
        }
        (Op::Mul(_), Op::Add(_), &[y, d]) if g[d].data.constant => {
            let sides = [y, d].map(|side| op(Mul {}, vec![class(side), class(c)]));
            Some(op(Add {}, sides.to_vec()))
        }
        (Op::Mul(_), Op::MatMul(_), &[a, b]) if is_scalar(g, c, 0) => {
            let scaled = op(Mul {}, vec![class(b), class(c)]);
            g[b].data.constant.then(|| op(MatMul::default(), vec![class(a), scaled]))
        }
        _ => None,
    });
    inner.collect()
}

/// A scalar factor of an operand → one after the product of matrices.
fn matmul(g: &AlgebraGraph, children: &[Id]) -> Vec<TermSpelling> {
    let &[a, b] = children else { return vec![] };
    let factor = |side: Id| {
        ops(g, side, move |o, inner| match (o, inner) {
            (Op::Mul(_), &[x, s]) if is_scalar(g, s, 0) && is_float(g, s) => Some((x, s)),
            _ => None,
        })
    };
    let behind = |x: Id, y: Id, s: Id| op(Mul {}, vec![op(MatMul::default(), vec![class(x), class(y)]), class(s)]);
    let left = factor(a).map(|(x, s)| behind(x, b, s));
    let right = factor(b).map(|(y, s)| behind(a, y, s));
    left.chain(right).collect()
}
