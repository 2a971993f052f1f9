//! What elementwise ops of two operands compute with: the elements that meet by broadcasting, and a function for each
//! kind of number.

use optc_tensor::{DType, TensorMut};

use super::broadcast::{Runs, for_each_broadcast};
use crate::ops::native::{NativeElement, by_native};
use crate::{OpError, Operands};

/// `f` of the elements that meet in each element of a result of shape `shape`.
pub(super) fn zip<A, T>(a: (&[A], &[usize]), b: (&[A], &[usize]), shape: &[usize], f: impl Fn(&A, &A) -> T) -> Vec<T> {
    let mut out = Vec::with_capacity(shape.iter().product());
    for_each_broadcast([a.1, b.1], shape, |[i, j]| out.push(f(&a.0[i], &b.0[j])));
    out
}

/// The same into memory that is there, in loops over runs of elements.
pub(super) fn zip_into<A: Copy, T: Copy>(
    (a, b): (&[A], &[A]),
    shapes: [&[usize]; 2],
    (y, shape): (&mut [T], &[usize]),
    f: impl Fn(A, A) -> T,
) {
    let runs = Runs::new(shapes, shape);
    let n = runs.len;
    runs.for_each(|to, [i, j]| {
        let y = &mut y[to..][..n];
        match runs.steps {
            [0, 0] => y.fill(f(a[i], b[j])),
            [0, _] => y.iter_mut().zip(&b[j..][..n]).for_each(|(y, &b)| *y = f(a[i], b)),
            [_, 0] => y.iter_mut().zip(&a[i..][..n]).for_each(|(y, &a)| *y = f(a, b[j])),
            _ => y.iter_mut().zip(&a[i..][..n]).zip(&b[j..][..n]).for_each(|((y, &a), &b)| *y = f(a, b)),
        }
    });
}

/// What an arithmetic op is on `f64`, on `i64` (for all integers but `u64`) and on `u64`.
pub(super) struct OnNumbers<F, I, U> {
    pub float: F,
    pub int: I,
    pub uint: U,
}

/// The function for one [`Number`].
pub(super) trait Apply<N> {
    fn apply(&self, a: N, b: N) -> N;
}

impl<F: Fn(f64, f64) -> f64, I, U> Apply<f64> for OnNumbers<F, I, U> {
    fn apply(&self, a: f64, b: f64) -> f64 {
        (self.float)(a, b)
    }
}

impl<F, I: Fn(i64, i64) -> i64, U> Apply<i64> for OnNumbers<F, I, U> {
    fn apply(&self, a: i64, b: i64) -> i64 {
        (self.int)(a, b)
    }
}

impl<F, I, U: Fn(u64, u64) -> u64> Apply<u64> for OnNumbers<F, I, U> {
    fn apply(&self, a: u64, b: u64) -> u64 {
        (self.uint)(a, b)
    }
}

/// Applies the function for the operands' dtype, on slices of it; to `f32` that of its own which is much faster, where
/// there is one.
pub(super) fn arithmetic_into(
    operands: &Operands,
    results: &mut [TensorMut],
    f: &(impl Apply<f64> + Apply<i64> + Apply<u64>),
    single: Option<fn(f32, f32) -> f32>,
) -> Result<bool, OpError> {
    let (a, b, y) = (operands.tensor(0)?, operands.tensor(1)?, &mut results[0]);
    if let (Some(single), DType::F32) = (single, a.dtype()) {
        let to = (y.shape(), y.as_mut_slice::<f32>()?);
        zip_into((a.as_slice()?, b.as_slice()?), [a.shape(), b.shape()], (to.1, to.0), single);
        return Ok(true);
    }
    by_native!(a.dtype(), T => {
        let to = (y.shape(), y.as_mut_slice::<T>()?);
        let of = (a.as_slice::<T>()?, b.as_slice::<T>()?);
        zip_into(of, [a.shape(), b.shape()], (to.1, to.0), |a, b| T::narrow(f.apply(a.widen(), b.widen())));
        Ok(true)
    }, else Ok(false))
}
