//! Probabilities of classes out of those of pairs.

use optc_tensor::{DType, TensorMut};

use crate::ops::bad_dtype;
use crate::ops::eval::eval_new;
use crate::{Args, Dim, Facts, InferCx, ItemCx, OpError, Operands, Semantics, TensorType, Type, Val, ensure, op};

/// The most classes: each row takes a matrix of them.
const MAX_CLASSES: usize = 1 << 12;
/// Steps after which an estimate is taken as it is.
const MAX_STEPS: usize = 100;
/// No pair is more certain than this.
const LEAST: f32 = 1e-7;

op! {
    /// The probability of each of `classes`, of the logits of pairs: that it is the first of two classes rather than
    /// the second, for the pairs (0, 1), (0, 2), …, (1, 2), …. The method is the second one of Wu, Lin and Weng,
    /// "Probability Estimates for Multi-class Classification by Pairwise Coupling" (2004), in `f32`.
    ///
    /// - (C1) `x` is a matrix of `f32`.
    /// - (C2) There are 2 to 4096 classes, and a column for each pair of them.
    "ml.couple" = Couple(x) {
        /// The number of classes.
        classes: i64,
    }
}

impl Couple {
    fn checked(&self, pairs: Option<usize>) -> Result<usize, OpError> {
        let n = usize::try_from(self.classes).unwrap_or(0);
        ensure!(
            (2..=MAX_CLASSES).contains(&n),
            "C2",
            "there are {} classes, expected 2 to {MAX_CLASSES}",
            self.classes
        );
        let expected = n * (n - 1) / 2;
        let found = pairs.unwrap_or(expected);
        ensure!(found == expected, "C2", "`x` has {found} columns, expected {expected} for {n} classes");
        Ok(n)
    }
}

/// `1 / (1 + exp(−v))`, for which large values of either sign do not overflow.
fn logistic(v: f32) -> f32 {
    let half = 1.0 / (1.0 + (-v.abs()).exp());
    if v < 0.0 { 1.0 - half } else { half }
}

/// Sets `p` to the probabilities for one row of logits; `q` is room for the matrix of the method.
fn couple(logits: &[f32], p: &mut [f32], q: &mut [f32]) {
    let n = p.len();
    q.fill(0.0);
    let mut logits = logits.iter();
    for i in 0..n {
        for j in i + 1..n {
            let first = logistic(logits.next().copied().unwrap_or(0.0)).clamp(LEAST, 1.0 - LEAST);
            let second = 1.0 - first;
            q[i * n + i] += second * second;
            q[j * n + j] += first * first;
            q[i * n + j] = -(second * first);
            q[j * n + i] = q[i * n + j];
        }
    }
    p.fill(1.0 / n as f32);
    let close = 0.005 / n as f32;
    let mut qp = vec![0.0f32; n];
    for _ in 0..MAX_STEPS {
        for (sum, row) in qp.iter_mut().zip(q.chunks_exact(n)) {
            *sum = row.iter().zip(&*p).map(|(q, p)| q * p).sum();
        }
        let mut pqp: f32 = p.iter().zip(&qp).map(|(p, qp)| p * qp).sum();
        if qp.iter().all(|qp| (qp - pqp).abs() < close) {
            break;
        }
        for i in 0..n {
            let own = q[i * n + i];
            let step = (pqp - qp[i]) / own;
            let norm = 1.0 + step;
            p[i] += step;
            pqp = (pqp + step * (step * own + 2.0 * qp[i])) / norm / norm;
            for j in 0..n {
                qp[j] = (qp[j] + step * q[i * n + j]) / norm;
                p[j] /= norm;
            }
        }
    }
}

impl Semantics for Couple {
    const FACTS: Facts<Couple> = Facts::host("there is no kernel that couples probabilities");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let matrix = x.dtype == DType::F32 && x.rank().is_none_or(|rank| rank == 2);
        ensure!(matrix, "C1", "`x` is {x}, expected a matrix of `f32`");
        let extent = |axis: usize| x.shape.as_ref().and_then(|shape| shape.get(axis)).cloned();
        let classes = self.checked(extent(1).and_then(|dim| dim.known()))?;
        let shape = vec![extent(0).unwrap_or(Dim::Unknown), Dim::Known(classes)];
        Ok(vec![TensorType::of(DType::F32, Some(shape)).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        ensure!(x.rank() == 2, "C1", "`x` has {} dims, expected a matrix", x.rank());
        let classes = self.checked(x.shape().get(1).copied())?;
        match eval_new(self, args, &[(DType::F32, &[x.shape()[0], classes])])? {
            Some(results) => Ok(results),
            None => bad_dtype("ml.couple", x.dtype()),
        }
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let x = operands.tensor(0)?;
        let (&[_, pairs], DType::F32) = (x.shape(), x.dtype()) else { return Ok(false) };
        let n = self.checked(Some(pairs))?;
        let mut q = vec![0.0; n * n];
        let (x, y) = (x.as_slice::<f32>()?, results[0].as_mut_slice::<f32>()?);
        x.chunks_exact(pairs).zip(y.chunks_exact_mut(n)).for_each(|(x, y)| couple(x, y, &mut q));
        Ok(true)
    }
}
