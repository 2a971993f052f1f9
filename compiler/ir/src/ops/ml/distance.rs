//! Distances between rows.

use optc_tensor::{DType, TensorMut};

use crate::ops::bad_dtype;
use crate::ops::eval::eval_new;
use crate::ops::native::NativeElement;
use crate::{Args, Dim, Facts, InferCx, ItemCx, OpError, Operands, Semantics, TensorType, Type, Val, ensure, op};

/// Sums of squares that are taken side by side, so that they are computed as vectors.
const LANES: usize = 8;

op! {
    /// The sum of the squared differences between each row of `x` and each row of `y`.
    ///
    /// - (C1) Both are matrices of one dtype, `f32` or `f64`.
    /// - (C2) Their rows are of one length.
    "ml.squared_distance" = SquaredDistance(x, y) {}
}

impl SquaredDistance {
    fn evaluate<T: NativeElement<Wide = f64>>(operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (x, y) = (operands.tensor(0)?, operands.tensor(1)?);
        let (&[_, features], &[count, _]) = (x.shape(), y.shape()) else { return Ok(false) };
        let (x, y, z) = (x.as_slice::<T>()?, y.as_slice::<T>()?, results[0].as_mut_slice::<T>()?);
        if features == 0 {
            z.fill(T::of_int(0));
            return Ok(true);
        }
        for (x, z) in x.chunks_exact(features).zip(z.chunks_exact_mut(count.max(1))) {
            for (y, z) in y.chunks_exact(features).zip(z) {
                *z = T::narrow(squares(x, y));
            }
        }
        Ok(true)
    }
}

#[inline]
fn squares<T: NativeElement<Wide = f64>>(x: &[T], y: &[T]) -> f64 {
    let square = |x: T, y: T| (x.widen() - y.widen()) * (x.widen() - y.widen());
    let mut sums = [0.0; LANES];
    let (whole, rest) = (x.chunks_exact(LANES).zip(y.chunks_exact(LANES)), x.len() / LANES * LANES);
    for (x, y) in whole {
        sums.iter_mut().zip(x.iter().zip(y)).for_each(|(sum, (&x, &y))| *sum += square(x, y));
    }
    let rest: f64 = x[rest..].iter().zip(&y[rest..]).map(|(&x, &y)| square(x, y)).sum();
    sums.iter().sum::<f64>() + rest
}

impl Semantics for SquaredDistance {
    const FACTS: Facts<SquaredDistance> = Facts::host("there is no kernel that sums squared differences");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (x, y) = (cx.tensor(0)?, cx.tensor(1)?);
        let float = |t: &TensorType| matches!(t.dtype, DType::F32 | DType::F64) && t.rank().is_none_or(|r| r == 2);
        let right = float(x) && float(y) && x.dtype == y.dtype;
        ensure!(right, "C1", "the operands are {x} and {y}, expected matrices of one dtype, `f32` or `f64`");
        let extent = |t: &TensorType, axis: usize| t.shape.as_ref().and_then(|s| s.get(axis)).cloned();
        if let (Some(a), Some(b)) = (extent(x, 1).and_then(|d| d.known()), extent(y, 1).and_then(|d| d.known())) {
            ensure!(a == b, "C2", "the rows have {a} and {b} elements");
        }
        let rows = |t| extent(t, 0).unwrap_or(Dim::Unknown);
        Ok(vec![TensorType::of(x.dtype, Some(vec![rows(x), rows(y)])).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, y) = (args.tensor(0)?, args.tensor(1)?);
        let (&[rows, a], &[columns, b]) = (x.shape(), y.shape()) else {
            let reason = format!("the operands have {} and {} dims, expected matrices", x.rank(), y.rank());
            return Err(OpError::Constraint { constraint: "C1", reason });
        };
        ensure!(a == b, "C2", "the rows have {a} and {b} elements");
        match eval_new(self, args, &[(x.dtype(), &[rows, columns])])? {
            Some(results) => Ok(results),
            None => bad_dtype("ml.squared_distance", x.dtype()),
        }
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        match operands.tensor(0)?.dtype() {
            DType::F32 => Self::evaluate::<f32>(operands, results),
            DType::F64 => Self::evaluate::<f64>(operands, results),
            _ => Ok(false),
        }
    }
}
