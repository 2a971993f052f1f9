//! General matrix product.

use optc_tensor::{DType, Tensor};

use crate::ops::math::{agree, broadcast_indices, factors, fits, product};
use crate::{Anchor, Args, Facts, InferCx, ItemCx, OpError, Real, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// `alpha · a′ · b′ + beta · c`, where `′` transposes where asked; `c` broadcasts to the result. With a `beta` of 0
    /// the elements of `c` are not read: what is not a number there does not come through.
    ///
    /// - (C1) `a` and `b` are matrices with equal inner extents.
    /// - (C2) One float dtype.
    /// - (C3) `c` broadcasts to the result.
    /// - (C4) A `precision` of bf16 is for operands of `f32`; `a` may be rounded already, a tensor of bf16.
    "nn.gemm" = Gemm(a, b, c: optional) {
        /// Factor of the product.
        alpha: Real = Real(1.0),
        /// Factor of `c`.
        beta: Real = Real(1.0),
        /// What `f32` factors are rounded to before they are multiplied: `bf16`, or as they are.
        precision: DType = DType::F32,
        /// Whether `a` is transposed.
        trans_a: bool = false,
        /// Whether `b` is transposed.
        trans_b: bool = false,
    }
}

impl Gemm {
    /// Whether the elements of `c` count.
    pub fn reads_c(&self) -> bool {
        self.beta.0 != 0.0
    }
}

impl Semantics for Gemm {
    const FACTS: Facts<Gemm> = Facts::anchor(Anchor::Product);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (a, b) = (cx.tensor(0)?, cx.tensor(1)?);
        let floats = agree(self.precision, a.dtype, b.dtype) && b.dtype.is_float();
        ensure!(floats, "C2", "operands are {} and {}", a.dtype, b.dtype);
        ensure!(fits(self.precision, b.dtype), "C4", "`precision` is {}, the operands are {}", self.precision, b.dtype);
        if cx.has(2) {
            let c = cx.tensor(2)?.dtype;
            ensure!(c == b.dtype, "C2", "`c` is {c}, expected {}", b.dtype);
        }
        let (Some(x), Some(y)) = (&a.shape, &b.shape) else { return Ok(vec![TensorType::unranked(b.dtype).into()]) };
        ensure!(x.len() == 2 && y.len() == 2, "C1", "operands are {a} and {b}, expected matrices");
        let (ta, tb) = (self.trans_a as usize, self.trans_b as usize);
        if let (Some(p), Some(q)) = (x[1 - ta].known(), y[tb].known()) {
            ensure!(p == q, "C1", "inner extents are {p} and {q}");
        }
        Ok(vec![TensorType::new(b.dtype, vec![x[ta].clone(), y[1 - tb].clone()]).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0, 2]) && cx.is_batched(0) && !self.trans_a && (!cx.is_batched(2) || cx.rank(2) == Some(2))
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (a, b) = (args.tensor(0)?, args.tensor(1)?);
        ensure!(a.rank() == 2 && b.rank() == 2, "C1", "shapes are {:?} and {:?}", a.shape(), b.shape());
        let floats = agree(self.precision, a.dtype(), b.dtype()) && b.dtype().is_float();
        ensure!(floats, "C2", "{} and {}", a.dtype(), b.dtype());
        let (av, m, k) = matrix(a, self.precision, self.trans_a);
        let (bv, inner, n) = matrix(b, self.precision, self.trans_b);
        ensure!(inner == k, "C1", "inner extents are {k} and {inner}");
        let mut y: Vec<f64> = product(&av, &bv, m, k, n).into_iter().map(|v| v * self.alpha.0 as f64).collect();
        if let Some(c) = args.optional(2) {
            let fits = optc_tensor::broadcast_shapes(c.shape(), &[m, n]).is_some_and(|s| s == [m, n]);
            ensure!(fits, "C3", "`c` has shape {:?}, the result [{m}, {n}]", c.shape());
            if self.reads_c() {
                let cv = c.to_f64_vec();
                for (y, i) in y.iter_mut().zip(broadcast_indices(c.shape(), &[m, n])) {
                    *y += self.beta.0 as f64 * cv[i];
                }
            }
        }
        Ok(vec![Tensor::from_f64(b.dtype(), &[m, n], &y)?.into()])
    }
}

/// The factors, rows and columns of a matrix, transposed where asked.
fn matrix(t: &Tensor, precision: DType, transposed: bool) -> (Vec<f64>, usize, usize) {
    let (rows, cols, v) = (t.shape()[0], t.shape()[1], factors(t, precision));
    if !transposed {
        return (v, rows, cols);
    }
    ((0..rows * cols).map(|i| v[i % rows * cols + i / rows]).collect(), cols, rows)
}
