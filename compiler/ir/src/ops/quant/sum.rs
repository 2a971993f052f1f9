//! Sums of quantized integers.

use optc_tensor::{DType, Tensor};

use crate::ops::math::{Reduce, ReduceKind, Sub};
use crate::{Anchor, Args, Facts, InferCx, ItemCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// The sum of `x − zero` over axes (all where the list is empty), in `i32`, which wraps: what a mean of integers
    /// begins with.
    ///
    /// - (C1) `x` is an 8-bit integer, and `zero`, which has one element, of its dtype.
    /// - (C2) The axes lie within the rank; a reduced extent stays as 1 with `keep_dims`, else it goes.
    "quant.sum" = QuantSum(x, zero: optional) {
        /// The axes, negative ones from the end.
        axes: Vec<i64> = vec![],
        /// Whether reduced extents stay.
        keep_dims: bool = true,
    }
}

impl QuantSum {
    fn reduce(&self) -> Reduce {
        Reduce { kind: ReduceKind::Sum, axes: self.axes.clone(), keep_dims: self.keep_dims, all_if_empty: true }
    }
}

impl Semantics for QuantSum {
    const FACTS: Facts<QuantSum> = Facts::anchor(Anchor::Integers).following();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        ensure!(matches!(x.dtype, DType::I8 | DType::U8), "C1", "`x` is {x}, expected i8 or u8");
        if cx.has(1) {
            let zero = cx.tensor(1)?;
            let one = zero.static_shape().is_none_or(|s| s.iter().all(|&n| n == 1));
            ensure!(zero.dtype == x.dtype && one, "C1", "`zero` is {zero}, expected one {}", x.dtype);
        }
        let wide: Type = TensorType::of(DType::I32, x.shape.clone()).into();
        self.reduce().infer(&InferCx { types: &[Some(&wide), None], consts: &[], regions: &[] })
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        !self.axes.is_empty() && cx.spares(self.axes.iter().copied())
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let mut value: Val = Tensor::from_i64(DType::I32, x.shape(), &x.to_i64_vec())?.into();
        if let Some(zero) = args.optional(1) {
            ensure!(zero.len() == 1, "C1", "`zero` has {} elements", zero.len());
            let zero = Tensor::from_i64(DType::I32, &[], &zero.to_i64_vec())?;
            value = Sub {}.eval(&Args::plain(&[Some(value), Some(zero.into())]))?.swap_remove(0);
        }
        self.reduce().eval(&Args::plain(&[Some(value), None]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_summed_without_their_zero_point() {
        let x = Tensor::from_slice(&[1, 2, 2], &[1u8, 255, 7, 8]).unwrap();
        let op = QuantSum { axes: vec![2], keep_dims: false };
        let y = op.eval(&Args::plain(&[Some(x.into()), Some(Tensor::scalar(10u8).into())])).unwrap();
        assert_eq!(y[0].as_tensor().unwrap().to_i64_vec(), [236, -5]);
        assert_eq!(y[0].as_tensor().unwrap().dtype(), DType::I32);
    }
}
