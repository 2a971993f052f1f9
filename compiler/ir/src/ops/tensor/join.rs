//! Ops that put tensors together or take them apart along one axis.

use optc_tensor::{Tensor, strides_of};

use super::{Canvas, copy_view};
use crate::ops::axis_of;
use crate::{Args, Dim, Facts, InferCx, ItemCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

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
    const FACTS: Facts<Concat> = Facts::family().following().with_strings();
    const ONLY_MOVES: bool = true;

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

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.rank(0).is_some_and(|rank| axis_of(self.axis, rank).is_ok_and(|axis| axis > 0))
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let xs = (0..args.values.len()).map(|i| args.tensor(i)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = xs.first() else { return Err(OpError::Operand { slot: 0 }) };
        let axis = axis_of(self.axis, first.rank())?;
        for x in &xs {
            let same = x.rank() == first.rank() && x.dtype() == first.dtype();
            ensure!(same, "C1", "{:?} and {:?} do not concatenate", first.shape(), x.shape());
            let fits = (0..x.rank()).all(|d| d == axis || x.shape()[d] == first.shape()[d]);
            ensure!(fits, "C1", "{:?} and {:?} do not concatenate", first.shape(), x.shape());
        }
        let mut shape = first.shape().to_vec();
        shape[axis] = xs.iter().fold(0, |n, x| n.saturating_add(x.shape()[axis]));
        let mut y = Canvas::zeroed(first.dtype(), &shape)?;
        let runs: Vec<usize> = xs.iter().map(|x| x.shape()[axis..].iter().product()).collect();
        for o in 0..shape[..axis].iter().product() {
            xs.iter().zip(&runs).for_each(|(x, &run)| y.push(x, o * run, run));
        }
        Ok(vec![y.finish()?.into()])
    }
}

op! {
    /// `x` cut along `axis`: into the parts that the attribute `sizes` names, or the operand `by`, or into `parts` of
    /// equal extent but for the last, which may be smaller.
    ///
    /// - (C1) The sizes are not negative and add up to the extent.
    /// - (C2) One of the three is given; with the operand `parts` is their number.
    "tensor.split" = Split(x, by: optional) {
        /// The axis; negative from the end.
        axis: i64 = 0,
        /// The number of parts where `sizes` does not say it.
        parts: i64 = 0,
        /// The parts' extents.
        sizes: Vec<i64> = vec![],
    }
}

/// More parts than any model has; a hostile number must not become as many results.
const MAX_PARTS: i64 = 1 << 16;

impl Split {
    fn check(&self, sizes: &[i64], extent: Option<usize>) -> Result<(), OpError> {
        ensure!(sizes.iter().all(|&s| s >= 0), "C1", "sizes {sizes:?} have a negative one");
        let sum = sizes.iter().fold(0i64, |a, &b| a.saturating_add(b));
        if let Some(n) = extent {
            ensure!(n as i64 == sum, "C1", "sizes {sizes:?} do not add up to {n}");
        }
        Ok(())
    }

    /// The parts' extents; `None` for those that are not known.
    fn extents(
        &self,
        by: Option<&Tensor>,
        has_operand: bool,
        extent: Option<usize>,
    ) -> Result<Vec<Option<usize>>, OpError> {
        let counts = (0..=MAX_PARTS).contains(&self.parts);
        ensure!(counts && (self.parts == 0 || self.sizes.is_empty()), "C2", "`parts` is {}", self.parts);
        let sizes = match by {
            Some(t) => t.to_i64_vec(),
            None if has_operand => return Ok(vec![None; self.parts as usize]),
            None if self.parts > 0 => {
                let Some(n) = extent else { return Ok(vec![None; self.parts as usize]) };
                let part = n.div_ceil(self.parts as usize);
                return Ok((0..self.parts as usize)
                    .map(|i| Some(part.min(n.saturating_sub(i.saturating_mul(part)))))
                    .collect());
            }
            None => self.sizes.clone(),
        };
        let counted = by.is_none() || sizes.len() as i64 == self.parts;
        ensure!(counted, "C2", "there are {} sizes for {} parts", sizes.len(), self.parts);
        self.check(&sizes, extent)?;
        Ok(sizes.into_iter().map(|s| Some(s as usize)).collect())
    }
}

impl Semantics for Split {
    const FACTS: Facts<Split> = Facts::family().following().with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let axis = x.rank().map(|rank| axis_of(self.axis, rank)).transpose()?;
        let extent = axis.and_then(|axis| x.shape.as_ref()?[axis].known());
        let part = |n: Option<usize>| {
            let dims = axis.zip(x.shape.clone()).map(|(axis, mut dims)| {
                dims[axis] = n.map_or(Dim::Unknown, Dim::Known);
                dims
            });
            TensorType::of(x.dtype, dims).into()
        };
        Ok(self.extents(cx.constant(1), cx.has(1), extent)?.into_iter().map(part).collect())
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.spares([self.axis])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let axis = axis_of(self.axis, x.rank())?;
        let extents = self.extents(args.optional(1), args.optional(1).is_some(), Some(x.shape()[axis]))?;
        let strides: Vec<isize> = strides_of(x.shape()).iter().map(|&s| s as isize).collect();
        let (mut start, mut parts) = (0, vec![]);
        for n in extents.into_iter().flatten() {
            let mut shape = x.shape().to_vec();
            shape[axis] = n;
            parts.push(copy_view(x, start * strides[axis] as usize, &shape, &strides)?.into());
            start += n;
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_tensor::DType;

    fn eval(op: impl Into<crate::Op>, xs: Vec<Tensor>) -> Result<Vec<Tensor>, OpError> {
        let values: Vec<_> = xs.into_iter().map(|x| Some(x.into())).collect();
        let found = op.into().eval(&Args::plain(&values))?;
        Ok(found.iter().map(|v| v.as_tensor().unwrap().clone()).collect())
    }

    #[test]
    fn the_last_of_equal_parts_is_smaller_or_empty() {
        let x = || vec![Tensor::from_slice(&[5], &[1f32, 2.0, 3.0, 4.0, 5.0]).unwrap()];
        let split = |parts| Split { axis: -1, parts, sizes: vec![] };
        let lens = |parts| eval(split(parts), x()).unwrap().iter().map(Tensor::len).collect::<Vec<_>>();
        assert_eq!(lens(2), [3, 2]);
        assert_eq!(lens(4), [2, 2, 1, 0]);
        assert!(eval(split(-1), x()).is_err());
        assert!(eval(split(i64::MAX), x()).is_err());
    }

    #[test]
    fn sizes_must_add_up() {
        let x = || Tensor::zeros(DType::F32, &[4]).unwrap();
        let split = |sizes: &[i64]| Split { axis: 0, parts: 0, sizes: sizes.to_vec() };
        assert!(eval(split(&[5, -1]), vec![x()]).is_err());
        assert!(eval(split(&[1, 2]), vec![x()]).is_err());
        assert!(eval(split(&[i64::MAX, i64::MAX]), vec![x()]).is_err());
        assert_eq!(eval(split(&[0, 4]), vec![x()]).unwrap()[0].shape(), [0]);
        let by = Tensor::from_slice(&[2], &[1i64, 3]).unwrap();
        let op = Split { axis: 0, parts: 2, sizes: vec![] };
        assert_eq!(eval(op, vec![x(), by.clone()]).unwrap()[1].shape(), [3]);
        let op = Split { axis: 0, parts: 3, sizes: vec![] };
        assert!(eval(op, vec![x(), by]).is_err());
    }

    #[test]
    fn strings_concatenate() {
        let s = |v: &[&str]| Tensor::from_strings(&[v.len()], v.iter().map(|s| s.to_string()).collect()).unwrap();
        let y = eval(Concat { axis: 0 }, vec![s(&["a"]), s(&[]), s(&["b", "c"])]).unwrap();
        assert_eq!(y[0].strings().unwrap(), ["a", "b", "c"]);
        assert!(eval(Concat { axis: 1 }, vec![s(&["a"])]).is_err());
        assert!(eval(Concat { axis: 0 }, vec![]).is_err());
    }
}
