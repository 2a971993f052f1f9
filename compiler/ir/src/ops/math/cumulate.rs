//! Running sums and products.

use optc_tensor::Tensor;

use crate::ops::axis_of;
use crate::ops::number::{Number, by_number};
use crate::{Args, Facts, InferCx, OpError, Semantics, Type, Val, ensure, op, text_enum};

text_enum! {
    /// What runs along an axis.
    pub enum CumulateKind {
        /// The sum.
        Sum = "sum",
        /// The product.
        Prod = "prod",
    }
}

op! {
    /// Along the axis that `axis` names, for each element the sum or product of those up to it.
    ///
    /// - (C1) `kind` is `sum` or `prod`.
    /// - (C2) `axis` has one element.
    "math.cumulate" = Cumulate(x, axis) {
        /// Whether the element itself does not count.
        exclusive: bool = false,
        /// What is computed.
        kind: CumulateKind,
        /// Whether to run from the end.
        reverse: bool = false,
    }
}

impl Cumulate {
    fn run<N: Number>(&self, x: &Tensor, axis: usize) -> Result<Vec<Val>, OpError> {
        let (first, f): (N, fn(N, N) -> N) = match self.kind {
            CumulateKind::Sum => (N::ZERO, N::plus),
            CumulateKind::Prod => (N::ONE, N::times),
        };
        let (n, inner) = (x.shape()[axis], x.shape()[axis + 1..].iter().product::<usize>());
        let outer: usize = x.shape()[..axis].iter().product();
        let mut values = N::all(x);
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let mut total = first;
            for step in 0..n {
                let k = if self.reverse { n - 1 - step } else { step };
                let value = &mut values[(o * n + k) * inner + i];
                let after = f(total, *value);
                *value = if self.exclusive { total } else { after };
                total = after;
            }
        }
        Ok(vec![N::tensor(x.dtype(), x.shape(), &values)?.into()])
    }
}

impl Semantics for Cumulate {
    const FACTS: Facts<Cumulate> = Facts::host("there is no kernel for it");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        Ok(vec![cx.tensor(0)?.clone().into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, axis) = (args.tensor(0)?, args.tensor(1)?.to_i64_vec());
        ensure!(axis.len() == 1, "C2", "`axis` has {} elements, expected 1", axis.len());
        let axis = axis_of(axis[0], x.rank())?;
        fn run<N: Number>(op: &Cumulate, x: &Tensor, axis: usize) -> Result<Vec<Val>, OpError> {
            op.run::<N>(x, axis)
        }
        by_number!("math.cumulate", x.dtype(), run(self, x, axis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_axes_and_axes_out_of_range() {
        let run = |x: Tensor, axis: i64| {
            let op = Cumulate { exclusive: true, kind: CumulateKind::Prod, reverse: true };
            crate::Op::from(op).eval(&Args::plain(&[Some(x.into()), Some(Tensor::scalar(axis).into())]))
        };
        let x = || Tensor::from_slice(&[3], &[2i32, 3, 4]).unwrap();
        assert_eq!(run(x(), -1).unwrap()[0].as_tensor().unwrap().to_i64_vec(), [12, 4, 1]);
        assert!(run(x(), 1).is_err());
        assert!(run(Tensor::zeros(optc_tensor::DType::F32, &[2, 0]).unwrap(), 1).is_ok());
    }
}
