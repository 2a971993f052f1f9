//! Sums of products over labelled axes, in Einstein's notation.

use std::collections::BTreeMap;

use optc_tensor::{DType, Tensor, for_each_index, strides_of};

use crate::ops::number::{Number, by_number, checked_len};
use crate::{Args, Dim, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// The sum over all labels that the result does not have of the products of the operands' elements: `ij,jk->ik` is
    /// the matrix product. A label that an operand has twice takes its diagonal, `...` stands for further axes, which
    /// broadcast. Without `->` the result has the axes of `...`, then the labels that occur once, in alphabetical
    /// order.
    ///
    /// - (C1) The equation has a term for each operand, with a label for each axis; labels are letters. Those of the
    ///   result occur in a term, and do not repeat.
    /// - (C2) Axes of one label have one extent, or 1 in some operands, which repeats them; in one operand they are
    ///   equal.
    /// - (C3) The operands have one numeric dtype.
    "math.einsum" = Einsum(xs: many) {
        /// The terms, and the result's labels.
        equation: String,
    }
}

/// An axis' name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EinsumLabel {
    /// The axis that lies this many places before the last one of `...`.
    Rest(usize),
    /// A letter of the equation.
    Letter(char),
}

impl std::fmt::Display for EinsumLabel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EinsumLabel::Rest(0) => f.write_str("the last axis of `...`"),
            EinsumLabel::Rest(behind) => write!(f, "axis {} of `...`", -1 - *behind as i64),
            EinsumLabel::Letter(letter) => write!(f, "`{letter}`"),
        }
    }
}

/// An equation whose `...` are resolved by the operands' ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EinsumTerms {
    /// The labels of each operand's axes; one may stand there more than once.
    pub operands: Vec<Vec<EinsumLabel>>,
    /// The labels of the result's axes, each once.
    pub result: Vec<EinsumLabel>,
}

impl EinsumTerms {
    /// The extent of each label; operands in which it is 1 broadcast.
    ///
    /// # Errors
    /// Extents of one label do not fit (C2).
    pub fn extents(&self, shapes: &[&[usize]]) -> Result<BTreeMap<EinsumLabel, usize>, OpError> {
        let mut extents = BTreeMap::new();
        for (labels, shape) in self.operands.iter().zip(shapes) {
            for (d, (&label, &n)) in labels.iter().zip(*shape).enumerate() {
                let own = (0..d).find(|&before| labels[before] == label).map(|before| shape[before]);
                ensure!(own.is_none_or(|own| own == n), "C2", "{label} is {} and {n} in one operand", own.unwrap_or(n));
                let extent = extents.entry(label).or_insert(n);
                ensure!(*extent == n || *extent == 1 || n == 1, "C2", "{label} is {extent} and {n}");
                if *extent == 1 {
                    *extent = n;
                }
            }
        }
        Ok(extents)
    }
}

fn wrong<T>(reason: String) -> Result<T, OpError> {
    Err(OpError::Constraint { constraint: "C1", reason })
}

/// The labels of one term; `rest` is the number of axes that `...` stands for.
fn labels(term: &str, rest: usize) -> Result<Vec<EinsumLabel>, OpError> {
    let (before, behind) = term.split_once("...").unwrap_or((term, ""));
    let letters = |s: &str| -> Result<Vec<EinsumLabel>, OpError> {
        ensure!(
            s.chars().all(|c| c.is_ascii_alphabetic()),
            "C1",
            "the term `{term}` holds something other than letters"
        );
        Ok(s.chars().map(EinsumLabel::Letter).collect())
    };
    let middle = (0..rest).rev().map(EinsumLabel::Rest).filter(|_| term.contains("...")).collect();
    Ok([letters(before)?, middle, letters(behind)?].concat())
}

/// Checks that the operands have one numeric dtype.
fn check_dtypes(mut dtypes: impl Iterator<Item = DType>) -> Result<(), OpError> {
    let Some(first) = dtypes.next() else { return Err(OpError::Operand { slot: 0 }) };
    ensure!(dtypes.all(|dtype| dtype == first), "C3", "the operands have several dtypes");
    ensure!(first.is_float() || first.is_int(), "C3", "the operands are {first}, expected numbers");
    Ok(())
}

impl Einsum {
    /// The labels of operands of these ranks and of the result.
    ///
    /// # Errors
    /// The equation does not fit the operands (C1).
    pub fn terms(&self, ranks: &[usize]) -> Result<EinsumTerms, OpError> {
        let equation: String = self.equation.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match equation.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (&*equation, None),
        };
        let terms: Vec<&str> = left.split(',').collect();
        ensure!(
            terms.len() == ranks.len(),
            "C1",
            "`{equation}` has {} terms for {} operands",
            terms.len(),
            ranks.len()
        );
        let (mut operands, mut widest) = (vec![], 0);
        for (term, &rank) in terms.iter().zip(ranks) {
            let named = term.replace("...", "").chars().count();
            let Some(rest) = rank.checked_sub(named) else { return wrong(format!("`{term}` for rank {rank}")) };
            ensure!(rest == 0 || term.contains("..."), "C1", "`{term}` for rank {rank}");
            widest = widest.max(rest);
            operands.push(labels(term, rest)?);
        }
        let result = match right {
            Some(right) => labels(right, widest)?,
            None => implicit(&operands),
        };
        let known = result.iter().all(|l| operands.iter().flatten().any(|o| o == l));
        let once = (0..result.len()).all(|i| !result[..i].contains(&result[i]));
        ensure!(known && once, "C1", "the result of `{equation}` repeats or makes up a label");
        Ok(EinsumTerms { operands, result })
    }
}

/// The result's labels where the equation does not say them.
fn implicit(operands: &[Vec<EinsumLabel>]) -> Vec<EinsumLabel> {
    let mut counts: BTreeMap<EinsumLabel, usize> = BTreeMap::new();
    operands.iter().flatten().for_each(|&l| *counts.entry(l).or_default() += 1);
    let rests = counts.keys().rev().copied().filter(|l| matches!(l, EinsumLabel::Rest(_)));
    let letters = counts.iter().filter(|(l, n)| matches!(l, EinsumLabel::Letter(_)) && **n == 1).map(|(&l, _)| l);
    rests.chain(letters).collect()
}

/// For each label of `order`, how far a step along it moves in a tensor of shape `shape` with these labels.
fn steps(order: &[EinsumLabel], labels: &[EinsumLabel], shape: &[usize]) -> Vec<usize> {
    let strides = strides_of(shape);
    let step =
        |&l: &EinsumLabel| (0..labels.len()).filter(|&d| labels[d] == l && shape[d] != 1).map(|d| strides[d]).sum();
    order.iter().map(step).collect()
}

fn contract<N: Number>(
    terms: &EinsumTerms,
    xs: &[&Tensor],
    extents: &BTreeMap<EinsumLabel, usize>,
) -> Result<Vec<Val>, OpError> {
    let summed: Vec<EinsumLabel> = extents.keys().copied().filter(|l| !terms.result.contains(l)).collect();
    let shape: Vec<usize> = terms.result.iter().map(|l| extents[l]).collect();
    let inner: Vec<usize> = summed.iter().map(|l| extents[l]).collect();
    let values: Vec<Vec<N>> = xs.iter().map(|x| N::all(x)).collect();
    let of = |order: &[EinsumLabel]| -> Vec<Vec<usize>> {
        terms.operands.iter().zip(xs).map(|(labels, x)| steps(order, labels, x.shape())).collect()
    };
    let (outer_steps, inner_steps) = (of(&terms.result), of(&summed));
    let offset = |steps: &[usize], index: &[usize]| steps.iter().zip(index).map(|(s, i)| s * i).sum::<usize>();
    // The offsets of the summed elements are the same for each element of the result.
    let mut taps: Vec<Vec<usize>> = vec![];
    for_each_index(&inner, |index| taps.push(inner_steps.iter().map(|steps| offset(steps, index)).collect()));
    let mut y = Vec::with_capacity(checked_len(xs[0].dtype(), &shape)?);
    for_each_index(&shape, |index| {
        let base: Vec<usize> = outer_steps.iter().map(|steps| offset(steps, index)).collect();
        let product = |tap: &Vec<usize>| (0..xs.len()).fold(N::ONE, |p, k| p.times(values[k][base[k] + tap[k]]));
        y.push(taps.iter().fold(N::ZERO, |sum, tap| sum.plus(product(tap))));
    });
    Ok(vec![N::tensor(xs[0].dtype(), &shape, &y)?.into()])
}

impl Semantics for Einsum {
    const FACTS: Facts<Einsum> = Facts::host("there is no kernel for it");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let xs = (0..cx.types.len()).map(|slot| cx.tensor(slot)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = xs.first() else { return Err(OpError::Operand { slot: 0 }) };
        check_dtypes(xs.iter().map(|x| x.dtype))?;
        let Some(ranks) = xs.iter().map(|x| x.rank()).collect::<Option<Vec<_>>>() else {
            return Ok(vec![TensorType::unranked(first.dtype).into()]);
        };
        let terms = self.terms(&ranks)?;
        let named = terms.operands.iter().zip(&xs).flat_map(|(labels, x)| labels.iter().zip(x.shape.iter().flatten()));
        let named: Vec<(&EinsumLabel, &Dim)> = named.collect();
        let dim = |label: &EinsumLabel| {
            let mut dims = named.iter().filter(|(l, _)| *l == label).map(|(_, dim)| *dim);
            let sure = |dim: &&Dim| dim.known().is_some_and(|n| n != 1);
            let all: Vec<&Dim> = dims.by_ref().collect();
            let same = all.iter().all(|d| *d == all[0] && **d != Dim::Unknown);
            all.iter().copied().find(sure).or(same.then(|| all[0])).cloned().unwrap_or(Dim::Unknown)
        };
        Ok(vec![TensorType::new(first.dtype, terms.result.iter().map(dim).collect()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let xs = (0..args.values.len()).map(|slot| args.tensor(slot)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = xs.first() else { return Err(OpError::Operand { slot: 0 }) };
        check_dtypes(xs.iter().map(|x| x.dtype()))?;
        let terms = self.terms(&xs.iter().map(|x| x.rank()).collect::<Vec<_>>())?;
        let extents = terms.extents(&xs.iter().map(|x| x.shape()).collect::<Vec<_>>())?;
        // The list of offsets must fit as well as the result does.
        checked_len(
            DType::F64,
            &extents.iter().filter(|(l, _)| !terms.result.contains(l)).map(|(_, &n)| n).collect::<Vec<_>>(),
        )?;
        by_number!("math.einsum", first.dtype(), contract(&terms, &xs, &extents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(equation: &str, xs: Vec<Tensor>) -> Result<Tensor, OpError> {
        let values: Vec<Option<Val>> = xs.into_iter().map(|t| Some(t.into())).collect();
        let op = Einsum { equation: equation.to_owned() };
        Ok(crate::Op::from(op).eval(&Args::plain(&values))?[0].as_tensor().unwrap().clone())
    }

    fn m(shape: &[usize]) -> Tensor {
        let values: Vec<i64> = (1..=shape.iter().product::<usize>() as i64).collect();
        Tensor::from_slice(shape, &values).unwrap()
    }

    #[test]
    fn labels_are_named_as_they_are_written() {
        let reason = |equation, a: &[usize], b: &[usize]| eval(equation, vec![m(a), m(b)]).unwrap_err().to_string();
        assert_eq!(reason("ij,jk->ik", &[2, 3], &[4, 2]), "`j` is 3 and 4 (C2)");
        assert_eq!(reason("...i,...i->...", &[2, 5], &[3, 5]), "the last axis of `...` is 2 and 3 (C2)");
        assert_eq!(reason("...i,...i->...", &[2, 4, 5], &[3, 4, 5]), "axis -2 of `...` is 2 and 3 (C2)");
    }

    #[test]
    fn products_diagonals_and_broadcasts() {
        assert_eq!(eval("ij,jk", vec![m(&[2, 2]), m(&[2, 2])]).unwrap().to_i64_vec(), [7, 10, 15, 22]);
        assert_eq!(eval("ii->i", vec![m(&[2, 2])]).unwrap().to_i64_vec(), [1, 4]);
        assert_eq!(eval("ii", vec![m(&[2, 2])]).unwrap().to_i64_vec(), [5]);
        assert_eq!(eval("...i,...i->...", vec![m(&[2, 2]), m(&[2])]).unwrap().to_i64_vec(), [5, 11]);
        assert_eq!(eval(" b a -> a b ", vec![m(&[2, 2])]).unwrap().to_i64_vec(), [1, 3, 2, 4]);
        assert_eq!(eval("i,i->", vec![m(&[0]), m(&[0])]).unwrap().to_i64_vec(), [0]);
        assert_eq!(eval("...", vec![m(&[2, 1])]).unwrap().shape(), [2, 1]);
        // An extent of 1 repeats, in either operand, summed or not; as numpy, PyTorch and ONNX Runtime have it.
        assert_eq!(eval("ij,jk->ik", vec![m(&[2, 1]), m(&[3, 2])]).unwrap().to_i64_vec(), [9, 12, 18, 24]);
        assert_eq!(eval("ij,ij->ij", vec![m(&[2, 2]), m(&[1, 2])]).unwrap().to_i64_vec(), [1, 4, 3, 8]);
        assert_eq!(eval("bi,bi->b", vec![m(&[1, 2]), m(&[3, 1])]).unwrap().to_i64_vec(), [3, 6, 9]);
        assert_eq!(eval("i,i->", vec![m(&[1]), m(&[0])]).unwrap().to_i64_vec(), [0]);
    }

    #[test]
    fn equations_that_do_not_fit_are_refused() {
        for bad in ["ij", "ij,jk,kl", "ij,jk->il", "ij,jk->ii", "ijk,jk", "i,j", "i-,jk", "->", "é,é"] {
            assert!(eval(bad, vec![m(&[2, 2]), m(&[2, 2])]).is_err(), "{bad}");
        }
        assert!(eval("ij,jk", vec![m(&[2, 2]), m(&[3, 2])]).is_err());
        assert!(eval("ii->i", vec![m(&[1, 3])]).unwrap_err().to_string().contains("in one operand"));
    }
}
