//! Functions of matrices.

use optc_tensor::Tensor;

use crate::ops::message::type_of;
use crate::{Args, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// The determinants of the matrices in the last two dims.
    ///
    /// - (C1) The matrices are square, and of a float dtype.
    "math.det" = Det(x) {}
}

impl Semantics for Det {
    const FACTS: Facts<Det> = Facts::host("there is no kernel for it");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        ensure!(x.dtype.is_float() && x.rank().is_none_or(|r| r >= 2), "C1", "`x` is {x}");
        let dims = x.shape.as_ref().map(|s| s[..s.len() - 2].to_vec());
        Ok(vec![TensorType::of(x.dtype, dims).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let [batch @ .., rows, columns] = x.shape() else {
            return Err(OpError::Constraint { constraint: "C1", reason: "`x` is not a matrix".to_owned() });
        };
        ensure!(
            rows == columns && x.dtype().is_float(),
            "C1",
            "`x` is {}, expected square matrices of floats",
            type_of(x)
        );
        let n = *rows;
        let values = x.to_f64_vec();
        let count = optc_tensor::element_count(batch).unwrap_or(0);
        let dets: Vec<f64> = (0..count).map(|b| determinant(values[b * n * n..][..n * n].to_vec(), n)).collect();
        Ok(vec![Tensor::from_f64(x.dtype(), batch, &dets)?.into()])
    }
}

/// Gaussian elimination with the largest pivot of each column.
fn determinant(mut a: Vec<f64>, n: usize) -> f64 {
    let mut det = 1.0;
    for c in 0..n {
        let pivot = (c..n).max_by(|&p, &q| a[p * n + c].abs().total_cmp(&a[q * n + c].abs())).unwrap_or(c);
        if pivot != c {
            (0..n).for_each(|k| a.swap(pivot * n + k, c * n + k));
            det = -det;
        }
        det *= a[c * n + c];
        if a[c * n + c] == 0.0 {
            return 0.0;
        }
        for r in c + 1..n {
            let factor = a[r * n + c] / a[c * n + c];
            (c..n).for_each(|k| a[r * n + k] -= factor * a[c * n + k]);
        }
    }
    det
}

#[cfg(test)]
mod tests {
    use super::determinant;

    #[test]
    fn pivots_singular_and_empty_matrices() {
        assert_eq!(determinant(vec![0.0, 2.0, 3.0, 4.0], 2), -6.0);
        assert_eq!(determinant(vec![1.0, 2.0, 2.0, 4.0], 2), 0.0);
        assert_eq!(determinant(vec![], 0), 1.0);
        assert!(determinant(vec![f64::NAN, 1.0, 1.0, 1.0], 2).is_nan());
    }
}
