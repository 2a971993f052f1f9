//! Ops that put tensors together or take them apart along one axis.

use optc_tensor::{Tensor, for_each_index, strides_of};

use super::gather_elements;
use crate::ops::axis_of;
use crate::{Args, Dim, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// The operands one after the other along `axis`.
    ///
    /// - (C1) Ranks and dtypes are equal, and so are all extents but those at `axis`.
    "tensor.concat" = Concat(xs: many) {
        /// The axis; negative from the end.
        axis: i64,
    }
}

impl Semantics for Concat {
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        ensure!(!cx.types.is_empty(), "C1", "there is nothing to concatenate");
        let first = cx.tensor(0)?;
        let Some(mut shape) = first.shape.clone() else { return Ok(vec![first.clone().into()]) };
        let axis = axis_of(self.axis, shape.len())?;
        for slot in 1..cx.types.len() {
            let x = cx.tensor(slot)?;
            ensure!(x.dtype == first.dtype, "C1", "operand {slot} is {}, expected {}", x.dtype, first.dtype);
            let Some(dims) = &x.shape else { return Ok(vec![TensorType::unranked(first.dtype).into()]) };
            ensure!(dims.len() == shape.len(), "C1", "operand {slot} is {x}, the first {first}");
            for (d, n) in dims.iter().enumerate() {
                shape[d] = match (d == axis, shape[d].known(), n.known()) {
                    (true, Some(a), Some(b)) => Dim::Known(a.saturating_add(b)),
                    (true, _, _) => Dim::Unknown,
                    (false, Some(a), Some(b)) => {
                        ensure!(a == b, "C1", "operand {slot} is {x}, the first {first}");
                        Dim::Known(a)
                    }
                    (false, None, Some(b)) => Dim::Known(b),
                    (false, _, None) => shape[d].clone(),
                };
            }
        }
        Ok(vec![TensorType::new(first.dtype, shape).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let xs = (0..args.values.len()).map(|i| args.tensor(i)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = xs.first() else { return Err(OpError::Operand { slot: 0 }) };
        let axis = axis_of(self.axis, first.rank())?;
        let width = first.dtype().bits() / 8;
        for x in &xs {
            let same = x.rank() == first.rank() && x.dtype() == first.dtype();
            ensure!(same, "C1", "{:?} and {:?} do not concatenate", first.shape(), x.shape());
            let fits = (0..x.rank()).all(|d| d == axis || x.shape()[d] == first.shape()[d]);
            ensure!(fits, "C1", "{:?} and {:?} do not concatenate", first.shape(), x.shape());
        }
        let mut shape = first.shape().to_vec();
        shape[axis] = xs.iter().map(|x| x.shape()[axis]).sum();
        let outer: usize = shape[..axis].iter().product();
        if width == 0 {
            return crate::ops::bad_dtype("tensor.concat", first.dtype());
        }
        let mut bytes = vec![];
        for o in 0..outer {
            for x in &xs {
                let row = x.shape()[axis..].iter().product::<usize>() * width;
                bytes.extend_from_slice(&x.bytes()[o * row..(o + 1) * row]);
            }
        }
        Ok(vec![Tensor::from_bytes(first.dtype(), &shape, &bytes)?.into()])
    }
}

op! {
    /// `x` cut along `axis` into the parts that `sizes` names.
    ///
    /// - (C1) The sizes are not negative and add up to the extent.
    "tensor.split" = Split(x) {
        /// The axis; negative from the end.
        axis: i64 = 0,
        /// The parts' extents.
        sizes: Vec<i64>,
    }
}

impl Split {
    fn check(&self, extent: Option<usize>) -> Result<(), OpError> {
        ensure!(self.sizes.iter().all(|&s| s >= 0), "C1", "sizes {:?} have a negative one", self.sizes);
        let sum = self.sizes.iter().fold(0i64, |a, &b| a.saturating_add(b));
        ensure!(extent.is_none_or(|n| n as i64 == sum), "C1", "sizes {:?} do not add up to {extent:?}", self.sizes);
        Ok(())
    }
}

impl Semantics for Split {
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let Some(shape) = &x.shape else { return Ok(self.sizes.iter().map(|_| x.clone().into()).collect()) };
        let axis = axis_of(self.axis, shape.len())?;
        self.check(shape[axis].known())?;
        let part = |&n: &i64| {
            let mut dims = shape.clone();
            dims[axis] = Dim::Known(n as usize);
            TensorType::new(x.dtype, dims).into()
        };
        Ok(self.sizes.iter().map(part).collect())
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let axis = axis_of(self.axis, x.rank())?;
        self.check(Some(x.shape()[axis]))?;
        let strides = strides_of(x.shape());
        let (mut start, mut parts) = (0, vec![]);
        for &n in &self.sizes {
            let mut shape = x.shape().to_vec();
            shape[axis] = n as usize;
            let mut from = Vec::with_capacity(shape.iter().product());
            for_each_index(&shape, |i| {
                from.push(Some(i.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>() + start * strides[axis]));
            });
            parts.push(gather_elements(x, &shape, from.into_iter())?.into());
            start += n as usize;
        }
        Ok(parts)
    }
}
