//! `math.einsum` as transposes, sums and matrix products.

use std::collections::BTreeMap;

use optc_ir::ops::math::{Einsum, EinsumLabel, MatMul, Mul, Reduce, ReduceKind};
use optc_ir::ops::tensor::{Reshape, Slice, Transpose};
use optc_ir::{Graph, NodeId, Value};
use optc_tensor::{DType, Tensor};

use crate::matching::{dtype, result, shape, shape_tensor};
use crate::rewrite::{Patch, Ref};

/// A value whose axes have different labels, each with its label's extent.
#[derive(Clone)]
struct Term {
    value: Ref,
    labels: Vec<EinsumLabel>,
}

impl Term {
    fn has(&self, label: EinsumLabel) -> bool {
        self.labels.contains(&label)
    }
}

/// The labels of two terms by what a product does with them.
struct Roles {
    /// In both, and kept.
    batch: Vec<EinsumLabel>,
    /// In both, and summed over.
    inner: Vec<EinsumLabel>,
    /// Of the first alone.
    rows: Vec<EinsumLabel>,
    /// Of the second alone.
    columns: Vec<EinsumLabel>,
}

impl Roles {
    /// The labels that stay, in the order of `order` as far as they are in it.
    fn of(a: &Term, b: &Term, kept: impl Fn(EinsumLabel) -> bool, order: &[EinsumLabel]) -> Roles {
        let place = |l: &EinsumLabel| order.iter().position(|o| o == l).unwrap_or(order.len());
        let sorted = |mut labels: Vec<EinsumLabel>| {
            labels.sort_by_key(place);
            labels
        };
        let of = |t: &Term, f: &dyn Fn(EinsumLabel) -> bool| t.labels.iter().copied().filter(|&l| f(l)).collect();
        Roles {
            batch: sorted(of(a, &|l| b.has(l) && kept(l))),
            inner: of(a, &|l| b.has(l) && !kept(l)),
            rows: sorted(of(a, &|l| !b.has(l))),
            columns: sorted(of(b, &|l| !a.has(l))),
        }
    }
}

/// What has been written so far.
struct Writer {
    patch: Patch,
    extents: BTreeMap<EinsumLabel, usize>,
}

/// An Einstein sum → sums, transposes and products, of `f32` with known extents.
pub(super) fn einsum(g: &Graph, node: NodeId) -> Option<Patch> {
    let op = g.op::<Einsum>(node)?;
    let operands: Vec<Value> = g.node(node).operands.iter().copied().collect::<Option<_>>()?;
    if operands.is_empty() || dtype(g, operands[0])? != DType::F32 {
        return None;
    }
    let shapes = operands.iter().map(|&v| shape(g, v)).collect::<Option<Vec<_>>>()?;
    let terms = op.terms(&shapes.iter().map(Vec::len).collect::<Vec<_>>()).ok()?;
    let extents = terms.extents(&shapes.iter().map(Vec::as_slice).collect::<Vec<_>>()).ok()?;
    let mut w = Writer { patch: Patch::new(), extents };
    let each = operands.iter().zip(&terms.operands).zip(&shapes);
    let each = each.map(|((&v, labels), shape)| w.distinct(v, labels, shape)).collect::<Option<Vec<_>>>()?;
    let mut left: Vec<Term> = vec![];
    for (i, term) in each.iter().enumerate() {
        let read = |l| terms.result.contains(&l) || each.iter().enumerate().any(|(j, t)| j != i && t.has(l));
        left.push(w.summed(term.clone(), read)?);
    }
    while left.len() > 1 {
        let (i, j) = w.cheapest(&left, &terms.result);
        let (b, a) = (left.remove(j), left.remove(i));
        let kept = |l| terms.result.contains(&l) || left.iter().any(|t| t.has(l));
        let product = w.product(a, b, kept, &terms.result)?;
        left.insert(i, product);
    }
    let sum = w.transposed(left.pop()?, &terms.result);
    // A sum that gives its only operand is that operand, not a new value.
    Some(w.patch.replacing(result(node), sum.value))
}

impl Writer {
    fn shape(&self, labels: &[EinsumLabel]) -> Vec<usize> {
        labels.iter().map(|l| self.extents[l]).collect()
    }

    fn count(&self, labels: &[EinsumLabel]) -> Option<usize> {
        self.shape(labels).into_iter().try_fold(1usize, usize::checked_mul)
    }

    fn reshape(&mut self, v: Ref, to: &[usize]) -> Option<Ref> {
        let target = self.patch.constant(shape_tensor(to)?);
        Some(self.patch.add(Reshape { allow_zero: to.contains(&0) }, &[v, target]))
    }

    fn transpose(&mut self, v: Ref, perm: &[usize]) -> Ref {
        match perm.iter().copied().eq(0..perm.len()) {
            true => v,
            false => self.patch.add(Transpose { perm: perm.iter().map(|&p| p as i64).collect() }, &[v]),
        }
    }

    /// An operand as a term: labels that it has several times take its diagonal, those of which it has one element of
    /// many go.
    fn distinct(&mut self, v: Value, labels: &[EinsumLabel], shape: &[usize]) -> Option<Term> {
        let (mut v, mut labels, mut shape) = (v.into(), labels.to_vec(), shape.to_vec());
        while let Some((i, j)) = repeated(&labels) {
            // The two axes come last, as one of which the elements `n + 1` apart are taken.
            let n = shape[i];
            let rest: Vec<usize> = (0..labels.len()).filter(|d| ![i, j].contains(d)).collect();
            let moved = self.transpose(v, &[&rest[..], &[i, j]].concat());
            let mut flat: Vec<usize> = rest.iter().map(|&d| shape[d]).collect();
            flat.push(n.checked_mul(n)?);
            let flat_value = self.reshape(moved, &flat)?;
            let list = |v: usize| Tensor::from_slice(&[1], &[i64::try_from(v).ok()?]).ok();
            let bounds = [0, n * n, rest.len(), n + 1].map(|v| Some(self.patch.constant(list(v)?)));
            let [start, end, axis, step] = bounds;
            v = self.patch.add(Slice {}, &[flat_value, start?, end?, axis?, step?]);
            labels = rest.iter().map(|&d| labels[d]).chain([labels[i]]).collect();
            shape = [&flat[..rest.len()], &[n]].concat();
        }
        let kept: Vec<EinsumLabel> =
            labels.iter().zip(&shape).filter(|&(l, &n)| n == self.extents[l]).map(|(&l, _)| l).collect();
        if kept.len() < labels.len() {
            v = self.reshape(v, &self.shape(&kept))?;
        }
        Some(Term { value: v, labels: kept })
    }

    /// A term summed over the labels that nobody reads.
    fn summed(&mut self, term: Term, read: impl Fn(EinsumLabel) -> bool) -> Option<Term> {
        let (kept, gone): (Vec<usize>, Vec<usize>) = (0..term.labels.len()).partition(|&d| read(term.labels[d]));
        if gone.is_empty() {
            return Some(term);
        }
        let axes = gone.iter().map(|&d| d as i64).collect();
        let op = Reduce { all_if_empty: false, kind: ReduceKind::Sum, axes, keep_dims: false };
        let value = self.patch.add(op, &[term.value]);
        Some(Term { value, labels: kept.iter().map(|&d| term.labels[d]).collect() })
    }

    /// The two terms whose product has the fewest elements.
    fn cheapest(&self, terms: &[Term], result: &[EinsumLabel]) -> (usize, usize) {
        let size = |i: usize, j: usize| {
            let kept = |l| result.contains(&l) || terms.iter().enumerate().any(|(k, t)| k != i && k != j && t.has(l));
            let roles = Roles::of(&terms[i], &terms[j], kept, &[]);
            self.count(&[roles.batch, roles.rows, roles.columns].concat()).unwrap_or(usize::MAX)
        };
        let pairs = (0..terms.len()).flat_map(|i| (i + 1..terms.len()).map(move |j| (i, j)));
        pairs.min_by_key(|&(i, j)| size(i, j)).unwrap_or((0, 1))
    }

    /// The product of two terms, summed over the labels that are not kept; in the order of `order` where that costs
    /// nothing.
    fn product(&mut self, a: Term, b: Term, kept: impl Fn(EinsumLabel) -> bool, order: &[EinsumLabel]) -> Option<Term> {
        let columns_first = order.last().is_some_and(|&l| a.has(l) && !b.has(l));
        let (a, b) = if columns_first { (b, a) } else { (a, b) };
        let roles = Roles::of(&a, &b, kept, order);
        let (m, n) = (self.count(&roles.rows)?, self.count(&roles.columns)?);
        let lead = self.shape(&roles.batch);
        let with = |last: &[usize]| [&lead[..], last].concat();
        let labels = [&roles.batch[..], &roles.rows, &roles.columns].concat();
        let (value, flat) = if roles.inner.is_empty() {
            let a = self.matrix(a, &[&roles.batch, &roles.rows], &with(&[m, 1]))?;
            let b = self.matrix(b, &[&roles.batch, &roles.columns], &with(&[1, n]))?;
            (self.patch.add(Mul {}, &[a, b]), with(&[m, n]))
        } else {
            let k = self.count(&roles.inner)?;
            let shared = roles.batch.is_empty() && roles.inner.len() == 1;
            // Rows of several axes stay as they are where the other side is one matrix for all of them.
            let rows = if shared && roles.rows.len() > 1 { self.shape(&roles.rows) } else { vec![m] };
            let a_shape = [&lead[..], &rows, &[k]].concat();
            let a = self.matrix(a, &[&roles.batch, &roles.rows, &roles.inner], &a_shape)?;
            let b = self.matrix(b, &[&roles.batch, &roles.inner, &roles.columns], &with(&[k, n]))?;
            (self.patch.add(MatMul::default(), &[a, b]), [&lead[..], &rows, &[n]].concat())
        };
        let shape = self.shape(&labels);
        let value = if shape == flat { value } else { self.reshape(value, &shape)? };
        Some(Term { value, labels })
    }

    /// A term with its labels in this order, as a value of this shape.
    fn matrix(&mut self, term: Term, order: &[&[EinsumLabel]], shape: &[usize]) -> Option<Ref> {
        let term = self.transposed(term, &order.concat());
        if self.shape(&term.labels) == shape { Some(term.value) } else { self.reshape(term.value, shape) }
    }

    /// A term with its labels in this order.
    fn transposed(&mut self, term: Term, order: &[EinsumLabel]) -> Term {
        let place = |l: &EinsumLabel| term.labels.iter().position(|t| t == l);
        let perm: Vec<usize> = order.iter().filter_map(place).collect();
        Term { value: self.transpose(term.value, &perm), labels: perm.iter().map(|&d| term.labels[d]).collect() }
    }
}

/// Two axes of one label.
fn repeated(labels: &[EinsumLabel]) -> Option<(usize, usize)> {
    let before = |j: usize| (0..j).find(|&i| labels[i] == labels[j]).map(|i| (i, j));
    (0..labels.len()).find_map(before)
}
