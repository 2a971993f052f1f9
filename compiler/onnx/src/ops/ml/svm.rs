//! Support vector machines.

use optc_ir::Value;
use optc_ir::ops::{math, ml};
use optc_tensor::{DType, Tensor};

use super::scores::{Labels, Transform, above, flat, greatest, transformed, two_columns};
use super::{float_samples, floats, invalid, product, scalar, vector};
use crate::mapping::{MapError, NodeCx};
use crate::ops::Mapped;

/// The most weights of pairs, each of which has one for each support vector.
const MAX_WEIGHTS: usize = 1 << 26;

#[derive(Clone, Copy)]
enum Kernel {
    Linear,
    Poly,
    Rbf,
    Sigmoid,
}

/// A kernel with its parameters.
struct KernelOf {
    kind: Kernel,
    gamma: f32,
    offset: f32,
    degree: f32,
}

impl KernelOf {
    fn read(cx: &NodeCx) -> Result<KernelOf, MapError> {
        let words =
            [("LINEAR", Kernel::Linear), ("POLY", Kernel::Poly), ("RBF", Kernel::Rbf), ("SIGMOID", Kernel::Sigmoid)];
        let kind = cx.attrs.word_or("kernel_type", &words, Kernel::Linear)?;
        let parameters = cx.attrs.floats("kernel_params")?.unwrap_or_default();
        match (kind, &parameters[..]) {
            (_, &[gamma, offset, degree]) => Ok(KernelOf { kind, gamma, offset, degree }),
            (Kernel::Linear, []) => Ok(KernelOf { kind, gamma: 0.0, offset: 0.0, degree: 0.0 }),
            (_, found) => Err(invalid(format!("`kernel_params` has {} numbers, expected 3", found.len()))),
        }
    }

    /// The kernel between each sample and each of `count` support vectors.
    fn apply(&self, cx: &mut NodeCx, x: Value, vectors: &[f32], count: usize) -> Result<Value, MapError> {
        let offset = vec![self.offset; count];
        match self.kind {
            Kernel::Linear => product(cx, x, vectors, count, 1.0, &[]),
            Kernel::Poly => {
                let product = product(cx, x, vectors, count, self.gamma, &offset)?;
                let degree = scalar(cx, DType::F32, f64::from(self.degree))?;
                cx.emit1(math::Pow {}, &[product, degree])
            }
            Kernel::Sigmoid => {
                let product = product(cx, x, vectors, count, self.gamma, &offset)?;
                cx.emit1(math::Tanh {}, &[product])
            }
            Kernel::Rbf => {
                let features = vectors.len() / count.max(1);
                let vectors = cx.constant(Tensor::from_slice(&[count, features], vectors)?);
                let distance = cx.emit1(ml::SquaredDistance {}, &[x, vectors])?;
                let factor = scalar(cx, DType::F32, -f64::from(self.gamma))?;
                let scaled = cx.emit1(math::Mul {}, &[distance, factor])?;
                cx.emit1(math::Exp {}, &[scaled])
            }
        }
    }
}

/// The support vectors of a node, of which there are `count`.
fn vectors_of(cx: &NodeCx, count: usize) -> Result<Vec<f32>, MapError> {
    let vectors = floats(cx, "support_vectors")?;
    if !vectors.len().is_multiple_of(count) {
        return Err(invalid(format!("{} numbers are not {count} support vectors of one length", vectors.len())));
    }
    Ok(vectors)
}

pub(super) fn regressor(cx: &mut NodeCx) -> Mapped {
    let (transform, kernel) = (Transform::of(cx)?, KernelOf::read(cx)?);
    let (coefficients, rho) = (floats(cx, "coefficients")?, floats(cx, "rho")?);
    let (supports, one_class) = (cx.attrs.int_or("n_supports", 0)?, cx.attrs.flag("one_class", false)?);
    let count = usize::try_from(supports).map_err(|_| invalid(format!("there are {supports} support vectors")))?;
    let mut x = float_samples(cx)?;
    if count == 0 {
        cx.attrs.ignore(&["support_vectors"]);
    } else {
        if coefficients.len() != count {
            return Err(invalid(format!("there are {} coefficients for {count} support vectors", coefficients.len())));
        }
        let vectors = vectors_of(cx, count)?;
        x = kernel.apply(cx, x, &vectors, count)?;
    }
    let y = product(cx, x, &coefficients, 1, 1.0, &rho[..1])?;
    if !one_class {
        return Ok(vec![transformed(cx, y, 1, transform)?]);
    }
    let inside = above(cx, y, 0.0)?;
    let (yes, no) = (scalar(cx, DType::F32, 1.0)?, scalar(cx, DType::F32, -1.0)?);
    Ok(vec![cx.emit1(math::Where {}, &[inside, yes, no])?])
}

pub(super) fn classifier(cx: &mut NodeCx) -> Mapped {
    let (transform, kernel) = (Transform::of(cx)?, KernelOf::read(cx)?);
    let labels = Labels::of(cx, "classlabels_ints")?;
    let per_class = cx.attrs.ints("vectors_per_class")?.unwrap_or_default();
    let (coefficients, rho) = (floats(cx, "coefficients")?, floats(cx, "rho")?);
    if per_class.iter().all(|&n| n == 0) {
        cx.attrs.ignore(&["support_vectors", "prob_a", "prob_b"]);
        return linear(cx, &labels, &coefficients, rho[0], transform);
    }
    let pairs = Pairs::new(&per_class, labels.len())?;
    let vectors = vectors_of(cx, pairs.vectors)?;
    let (a, b) = (cx.attrs.floats("prob_a")?.unwrap_or_default(), cx.attrs.floats("prob_b")?.unwrap_or_default());
    let weights = pairs.weights(&coefficients)?;
    pairs.check("rho", rho.len())?;
    let x = float_samples(cx)?;
    let kernels = kernel.apply(cx, x, &vectors, pairs.vectors)?;
    let scores = product(cx, kernels, &weights, pairs.len(), 1.0, &rho[..pairs.len()])?;
    let label = pairs.label(cx, &labels, scores)?;
    if a.is_empty() && b.is_empty() {
        return Ok(vec![label, pairs.scores(cx, scores, transform)?]);
    }
    pairs.check("prob_a", a.len())?;
    pairs.check("prob_b", b.len())?;
    let negative = |v: &[f32]| v[..pairs.len()].iter().map(|v| -v).collect::<Vec<_>>();
    let (a, b) = (vector(cx, &negative(&a))?, vector(cx, &negative(&b))?);
    let scaled = cx.emit1(math::Mul {}, &[scores, a])?;
    let logits = cx.emit1(math::Add {}, &[scaled, b])?;
    let classes = cx.emit1(ml::Couple { classes: pairs.classes as i64 }, &[logits])?;
    Ok(vec![label, transformed(cx, classes, pairs.classes, transform)?])
}

/// A score for each class, all with the first offset. Of two classes it is the second where any score says so, which is
/// what ONNX Runtime does.
fn linear(cx: &mut NodeCx, labels: &Labels, coefficients: &[f32], rho: f32, transform: Transform) -> Mapped {
    let n = labels.len();
    let x = float_samples(cx)?;
    let scores = product(cx, x, coefficients, n, 1.0, &vec![rho; n])?;
    let mut index = greatest(cx, scores)?;
    if n == 2 {
        let along = math::Reduce { all_if_empty: false, kind: math::ReduceKind::Max, axes: vec![1], keep_dims: true };
        let top = cx.emit1(along, &[scores])?;
        let second = match coefficients.iter().all(|&v| v >= 0.0) {
            true => {
                let half = scalar(cx, DType::F32, 0.5)?;
                cx.emit1(math::GreaterEqual {}, &[top, half])?
            }
            false => above(cx, top, 0.0)?,
        };
        let (second, one) = (flat(cx, second)?, cx.constant(Tensor::scalar(1i64)));
        index = cx.emit1(math::Where {}, &[second, one, index])?;
    }
    Ok(vec![labels.at(cx, index)?, transformed(cx, scores, n, transform)?])
}

/// One classifier for each two classes: (0, 1), (0, 2), …, (1, 2), ….
struct Pairs {
    classes: usize,
    /// The first support vector of each class, and their number at the end.
    starts: Vec<usize>,
    vectors: usize,
}

impl Pairs {
    fn new(per_class: &[i64], classes: usize) -> Result<Pairs, MapError> {
        if per_class.len() != classes || classes < 2 {
            let n = per_class.len();
            return Err(invalid(format!(
                "`vectors_per_class` has {n} numbers for {classes} classes, expected 2 or more"
            )));
        }
        let mut starts = vec![0];
        for &count in per_class {
            let count = usize::try_from(count).map_err(|_| invalid(format!("a class has {count} support vectors")))?;
            starts.push(starts.last().copied().unwrap_or(0usize).saturating_add(count));
        }
        let pairs = Pairs { classes, vectors: starts.last().copied().unwrap_or(0), starts };
        let weights = pairs.len().saturating_mul(pairs.vectors.max(classes));
        if weights > MAX_WEIGHTS {
            return Err(MapError::Unsupported(format!(
                "{classes} classes take {weights} weights, more than {MAX_WEIGHTS}"
            )));
        }
        Ok(pairs)
    }

    fn len(&self) -> usize {
        self.classes * (self.classes - 1) / 2
    }

    fn each(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let n = self.classes;
        (0..n).flat_map(move |i| (i + 1..n).map(move |j| (i, j)))
    }

    fn check(&self, name: &str, found: usize) -> Result<(), MapError> {
        let (pairs, n) = (self.len(), self.classes);
        if found < pairs {
            return Err(invalid(format!("`{name}` has {found} numbers, expected {pairs} for {n} classes")));
        }
        Ok(())
    }

    /// The weight of each support vector for each pair. The coefficients have a row for each other class.
    fn weights(&self, coefficients: &[f32]) -> Result<Vec<f32>, MapError> {
        let (vectors, n) = (self.vectors, self.classes);
        let expected = vectors.saturating_mul(n - 1);
        if coefficients.len() < expected {
            let found = coefficients.len();
            return Err(invalid(format!("`coefficients` has {found} numbers, expected {expected} for {n} classes")));
        }
        let mut weights = Vec::with_capacity(self.len() * vectors);
        for (i, j) in self.each() {
            let (of_i, of_j) = (self.starts[i]..self.starts[i + 1], self.starts[j]..self.starts[j + 1]);
            weights.extend((0..vectors).map(|v| match (of_i.contains(&v), of_j.contains(&v)) {
                (true, _) => coefficients[(j - 1) * vectors + v],
                (_, true) => coefficients[i * vectors + v],
                _ => 0.0,
            }));
        }
        Ok(weights)
    }

    /// The label of the class that most pairs are for.
    fn label(&self, cx: &mut NodeCx, labels: &Labels, scores: Value) -> Result<Value, MapError> {
        let (mut votes, mut base) = (vec![0.0; self.classes * self.len()], vec![0.0; self.classes]);
        for (pair, (i, j)) in self.each().enumerate() {
            votes[i * self.len() + pair] = 1.0;
            votes[j * self.len() + pair] = -1.0;
            base[j] += 1.0;
        }
        let first = above(cx, scores, 0.0)?;
        let first = cx.emit1(math::Cast { to: DType::F32 }, &[first])?;
        let votes = product(cx, first, &votes, self.classes, 1.0, &base)?;
        labels.of_greatest(cx, votes)
    }

    fn scores(&self, cx: &mut NodeCx, scores: Value, transform: Transform) -> Result<Value, MapError> {
        match self.classes {
            2 => two_columns(cx, scores, transform == Transform::None, transform),
            _ => transformed(cx, scores, self.len(), transform),
        }
    }
}
