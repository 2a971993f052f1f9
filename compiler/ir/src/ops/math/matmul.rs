//! Matrix products.

use std::num::Wrapping;
use std::ops::{AddAssign, Mul};

use optc_tensor::{DType, Tensor, bf16, broadcast_shapes};

use super::broadcast::{broadcast_indices, broadcast_types};
use crate::ops::bad_dtype;
use crate::{Anchor, Args, Dim, Facts, InferCx, ItemCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// NumPy's `matmul`: matrices in the last two dims, batches broadcast; a rank-1 operand is a row or a column.
    ///
    /// - (C1) The inner extents are equal.
    /// - (C2) The operands have one dtype.
    /// - (C3) No operand is a scalar.
    /// - (C4) A `precision` of bf16 is for operands of `f32`; `a` may be rounded already, a tensor of bf16.
    "math.matmul" = MatMul(a, b) {
        /// What `f32` operands are rounded to before they are multiplied: `bf16`, or as they are.
        precision: DType = DType::F32,
    }
}

impl Default for MatMul {
    fn default() -> MatMul {
        MatMul { precision: DType::F32 }
    }
}

impl Semantics for MatMul {
    const FACTS: Facts<MatMul> = Facts::anchor(Anchor::Product);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (a, b) = (cx.tensor(0)?, cx.tensor(1)?);
        if b.dtype.is_small_float() {
            return bad_dtype("math.matmul", b.dtype);
        }
        let one = agree(self.precision, a.dtype, b.dtype);
        ensure!(one, "C2", "operands are {} and {}, expected one dtype", a.dtype, b.dtype);
        ensure!(fits(self.precision, b.dtype), "C4", "`precision` is {}, the operands are {}", self.precision, b.dtype);
        let (Some(x), Some(y)) = (&a.shape, &b.shape) else { return Ok(vec![TensorType::unranked(b.dtype).into()]) };
        ensure!(!x.is_empty() && !y.is_empty(), "C3", "operands are {a} and {b}, expected rank 1 or more");
        let inner = (&x[x.len() - 1], &y[y.len().saturating_sub(2)]);
        if let (Some(p), Some(q)) = (inner.0.known(), inner.1.known()) {
            ensure!(p == q, "C1", "inner extents are {p} and {q}");
        }
        let lead = |s: &[Dim]| TensorType::new(a.dtype, s[..s.len().saturating_sub(2)].to_vec());
        let mut shape = broadcast_types(&lead(x), &lead(y))?.unwrap_or_default();
        if x.len() > 1 {
            shape.push(x[x.len() - 2].clone());
        }
        if y.len() > 1 {
            shape.push(y[y.len() - 1].clone());
        }
        Ok(vec![TensorType::new(b.dtype, shape).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        let matrix = |slot: usize| cx.rank(slot).unwrap_or(0);
        // The last two dims are matrices: items are rows of the left operand, or matrices.
        match (cx.is_batched(0), cx.is_batched(1)) {
            (true, false) => matrix(0) >= 2 && (matrix(1) <= 2 || matrix(1) < matrix(0)),
            (true, true) => matrix(0) >= 3 && matrix(0) == matrix(1),
            (false, _) => matrix(1) >= 3 && matrix(0) <= matrix(1),
        }
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (a, b) = (args.tensor(0)?, args.tensor(1)?);
        ensure!(a.rank() > 0 && b.rank() > 0, "C3", "an operand is a scalar");
        if b.dtype().is_small_float() {
            return bad_dtype("math.matmul", b.dtype());
        }
        let fit = agree(self.precision, a.dtype(), b.dtype()) && a.dtype() != DType::Str;
        ensure!(fit, "C2", "dtypes {} and {}", a.dtype(), b.dtype());
        let (x, y) = (a.shape(), b.shape());
        let m = if x.len() > 1 { x[x.len() - 2] } else { 1 };
        let (k, n) = (x[x.len() - 1], if y.len() > 1 { y[y.len() - 1] } else { 1 });
        ensure!(y[y.len().saturating_sub(2)] == k, "C1", "shapes are {x:?} and {y:?}");
        let (la, lb) = (&x[..x.len().saturating_sub(2)], &y[..y.len().saturating_sub(2)]);
        let batch = broadcast_shapes(la, lb);
        ensure!(batch.is_some(), "C1", "batches {la:?} and {lb:?} do not broadcast");
        let batch = batch.unwrap_or_default();
        let (ia, ib) = (broadcast_indices(la, &batch), broadcast_indices(lb, &batch));
        let mut shape = batch;
        shape.extend((x.len() > 1).then_some(m));
        shape.extend((y.len() > 1).then_some(n));
        let t = if a.dtype().is_float() {
            let (av, bv) = (factors(a, self.precision), factors(b, self.precision));
            let out = ia.iter().zip(&ib).flat_map(|(i, j)| product(&av[i * m * k..], &bv[j * k * n..], m, k, n));
            Tensor::from_f64(b.dtype(), &shape, &out.collect::<Vec<_>>())?
        } else {
            let wrapping = |t: &Tensor| t.to_i64_vec().into_iter().map(Wrapping).collect::<Vec<_>>();
            let (av, bv) = (wrapping(a), wrapping(b));
            let out = ia.iter().zip(&ib).flat_map(|(i, j)| product(&av[i * m * k..], &bv[j * k * n..], m, k, n));
            let out = out.map(|v| v.0);
            Tensor::from_i64(a.dtype(), &shape, &out.collect::<Vec<_>>())?
        };
        Ok(vec![t.into()])
    }
}

/// Whether products of this dtype can be computed in a precision.
pub(crate) fn fits(precision: DType, dtype: DType) -> bool {
    precision == DType::F32 || (precision == DType::BF16 && dtype == DType::F32)
}

/// Whether dtypes of two factors go together: they are one, or the first is rounded to the precision already.
pub(crate) fn agree(precision: DType, a: DType, b: DType) -> bool {
    a == b || (precision == DType::BF16 && a == DType::BF16)
}

/// The values of an operand as they are multiplied in a precision.
pub(crate) fn factors(t: &Tensor, precision: DType) -> Vec<f64> {
    let all = t.to_f64_vec();
    if precision != DType::BF16 {
        return all;
    }
    all.into_iter().map(|v| bf16::from_f32(v as f32).to_f64()).collect()
}

/// `a·b` for row-major `a: m×k`, `b: k×n`.
pub(crate) fn product<T>(a: &[T], b: &[T], m: usize, k: usize, n: usize) -> Vec<T>
where
    T: Copy + Default + Mul<Output = T> + AddAssign,
{
    let mut c = vec![T::default(); m * n];
    for i in 0..m {
        for p in 0..k {
            let v = a[i * k + p];
            for (c, &b) in c[i * n..(i + 1) * n].iter_mut().zip(&b[p * n..(p + 1) * n]) {
                *c += v * b;
            }
        }
    }
    c
}
