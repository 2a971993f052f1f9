//! Elements around a tensor.

use optc_tensor::{Tensor, TensorMut, TensorRef, element_count, for_each_index, strides_of};

use super::Canvas;
use crate::ops::axis_of;
use crate::ops::eval::eval_new;
use crate::ops::message::type_of;
use crate::ops::native::by_width;
use crate::{
    Args, Dim, Facts, InferCx, ItemCx, OpError, Operands, Semantics, TensorType, Type, Val, ensure, op, text_enum,
};

text_enum! {
    /// What the elements around a tensor are.
    pub enum PadMode {
        /// A given value, or zero.
        Constant = "constant",
        /// The nearest element.
        Edge = "edge",
        /// The tensor reflected at its border elements.
        Reflect = "reflect",
        /// The tensor repeated.
        Wrap = "wrap",
    }
}

op! {
    /// `x` with elements around it; negative pads crop. The pads are those of the attribute (for all axes), or of the
    /// operand `by` (for the axes in the operand `axes`, or all).
    ///
    /// - (C1) There are a begin for each axis, then as many ends; they do not crop more than there is.
    /// - (C2) `mode` is `constant`, `edge`, `reflect` or `wrap`.
    /// - (C3) `value` is a scalar of `x`'s dtype; absent, it is zero.
    /// - (C4) The attribute is empty where `by` is there.
    /// - (C5) An extent of 0 grows in `constant` mode alone.
    "tensor.pad" = Pad(x, value: optional, by: optional, axes: optional) {
        /// What the new elements are; `value` where they are constant.
        mode: PadMode = PadMode::Constant,
        /// Begins, then ends.
        pads: Vec<i64> = vec![],
    }
}

impl Pad {
    /// Begin and end of each axis.
    ///
    /// # Errors
    /// The pads do not fit the rank, or are given twice.
    pub fn pairs(&self, by: Option<&Tensor>, axes: Option<&Tensor>, rank: usize) -> Result<Vec<(i64, i64)>, OpError> {
        ensure!(by.is_none() || self.pads.is_empty(), "C4", "pads are given twice");
        let pads = by.map_or_else(|| self.pads.clone(), |t| t.to_i64_vec());
        let axes = match axes {
            Some(t) => t.to_i64_vec().into_iter().map(|a| axis_of(a, rank)).collect::<Result<Vec<_>, _>>()?,
            None => (0..rank).collect(),
        };
        ensure!(pads.len() == 2 * axes.len(), "C1", "there are {} pads for {} axes", pads.len(), axes.len());
        let mut pairs = vec![(0, 0); rank];
        for (i, &axis) in axes.iter().enumerate() {
            pairs[axis] = (pads[i], pads[i + axes.len()]);
        }
        Ok(pairs)
    }

    fn extent(&self, n: usize, (begin, end): (i64, i64)) -> Result<usize, OpError> {
        let sum = (n as i64).saturating_add(begin).saturating_add(end);
        ensure!(sum >= 0, "C1", "pads {begin} and {end} crop more than the {n} elements that there are");
        ensure!(
            n > 0 || sum == 0 || self.mode == PadMode::Constant,
            "C5",
            "an extent of 0 has no elements to continue"
        );
        Ok(sum as usize)
    }

    /// For each axis of the result, the index in `x`, of shape `from`, of each of its elements; `None` for those that
    /// are new.
    ///
    /// # Errors
    /// The pads do not fit the shape.
    pub fn sources(
        &self,
        from: &[usize],
        by: Option<&Tensor>,
        axes: Option<&Tensor>,
    ) -> Result<Vec<Vec<Option<usize>>>, OpError> {
        let pairs = self.pairs(by, axes, from.len())?;
        let axis = |(&n, pair): (&usize, (i64, i64))| {
            let extent = self.extent(n, pair)? as i64;
            Ok((0..extent).map(|i| self.source(i.saturating_sub(pair.0), n)).collect())
        };
        from.iter().zip(pairs).map(axis).collect()
    }

    /// The source index of index `i` on an axis of extent `n`; `None` where it is new.
    fn source(&self, i: i64, n: usize) -> Option<usize> {
        let n = n as i64;
        let at = match self.mode {
            _ if (0..n).contains(&i) => i,
            PadMode::Constant => return None,
            PadMode::Edge => i.clamp(0, n - 1),
            PadMode::Wrap => i.rem_euclid(n),
            PadMode::Reflect if n == 1 => 0,
            PadMode::Reflect => {
                let k = i.rem_euclid(2 * (n - 1));
                k.min(2 * (n - 1) - k)
            }
        };
        Some(at as usize)
    }
}

impl Semantics for Pad {
    const FACTS: Facts<Pad> = Facts::family().following().with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        if cx.has(1) {
            let value = cx.tensor(1)?;
            ensure!(value.dtype == x.dtype, "C3", "`value` is {}, expected {}", value.dtype, x.dtype);
            let one = value.static_shape().is_none_or(|s| element_count(&s) == Some(1));
            ensure!(one, "C3", "`value` is {value}, expected one element");
        }
        let Some(shape) = &x.shape else { return Ok(vec![TensorType::unranked(x.dtype).into()]) };
        if [2, 3].into_iter().any(|slot| cx.has(slot) && cx.constant(slot).is_none()) {
            return Ok(vec![TensorType::new(x.dtype, vec![Dim::Unknown; shape.len()]).into()]);
        }
        let pairs = self.pairs(cx.constant(2), cx.constant(3), shape.len())?;
        let dims = shape.iter().zip(pairs).map(|(n, pair)| match n.known() {
            _ if pair == (0, 0) => Ok(n.clone()),
            Some(n) => self.extent(n, pair).map(Dim::Known),
            None => Ok(Dim::Unknown),
        });
        Ok(vec![TensorType::new(x.dtype, dims.collect::<Result<_, _>>()?).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        let pairs = cx.rank(0).map(|rank| self.pairs(cx.constant(2), cx.constant(3), rank));
        let known = (2..4).all(|slot| cx.infer.has(slot) == cx.constant(slot).is_some());
        cx.only(&[0]) && known && pairs.is_some_and(|pairs| pairs.is_ok_and(|pairs| pairs.first() == Some(&(0, 0))))
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let pairs = self.pairs(args.optional(2), args.optional(3), x.rank())?;
        let shape =
            x.shape().iter().zip(&pairs).map(|(&n, &pair)| self.extent(n, pair)).collect::<Result<Vec<_>, _>>()?;
        let zero = Tensor::zeros(x.dtype(), &[])?;
        let value = args.optional(1).unwrap_or(&zero);
        ensure!(
            value.len() == 1 && value.dtype() == x.dtype(),
            "C3",
            "`value` is {}, expected one {}",
            type_of(value),
            x.dtype()
        );
        if let Some(results) = eval_new(self, args, &[(x.dtype(), &shape)])? {
            return Ok(results);
        }
        // Strings, and elements of less than a byte.
        let mut y = Canvas::filled(value, &shape)?;
        let sources = self.sources(x.shape(), args.optional(2), args.optional(3))?;
        let strides = strides_of(x.shape());
        let mut next = 0;
        for_each_index(&shape, |index| {
            let at = index.iter().enumerate().try_fold(0, |sum, (d, &i)| Some(sum + sources[d][i]? * strides[d]));
            if let Some(at) = at {
                y.put(next, x, at, 1);
            }
            next += 1;
        });
        Ok(vec![y.finish()?.into()])
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (x, y) = (operands.tensor(0)?, &mut results[0]);
        let list = |slot: usize| operands.optional(slot).map(|t| t.to_tensor()).transpose();
        let (by, axes) = (list(2)?, list(3)?);
        let value = operands.optional(1).map_or(&[0u8; 8][..], |t| t.bytes());
        self.padded(x, value, [by.as_ref(), axes.as_ref()], y)
    }
}

impl Pad {
    /// Pads `x` with the bytes of `value` into `y`, whose shape is the result's; whether the dtype fills bytes.
    pub(super) fn padded(
        &self,
        x: TensorRef,
        value: &[u8],
        [by, axes]: [Option<&Tensor>; 2],
        y: &mut TensorMut,
    ) -> Result<bool, OpError> {
        let sources = self.sources(x.shape(), by, axes)?;
        let (strides, shape) = (strides_of(x.shape()), y.shape());
        let Some((inner, outer)) = sources.split_last() else { return Ok(false) };
        // Along the last axis the elements from `first` on that stay are a run.
        let run = inner.iter().flatten().count().min(*x.shape().last().unwrap_or(&0));
        let first = inner.iter().position(Option::is_some).unwrap_or(0);
        let first = (first..inner.len()).find(|&i| inner[i] == Some(0)).unwrap_or(first);
        let is_run = |i: usize| inner.get(first + i).copied().flatten() == inner[first].map(|at| at + i);
        let run = (0..run).take_while(|&i| first < inner.len() && is_run(i)).count();
        by_width!(x.dtype(), T => {
            let mut fill = [0u8; size_of::<T>()];
            fill.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
            let (x, fill) = (x.as_bits::<T>()?, T::from_le_bytes(fill));
            let mut rows = y.as_mut_bits::<T>()?.chunks_exact_mut(inner.len().max(1));
            for_each_index(&shape[..outer.len()], |index| {
                let Some(row) = rows.next() else { return };
                let at = index.iter().enumerate().try_fold(0, |sum, (d, &i)| Some(sum + outer[d][i]? * strides[d]));
                let Some(at) = at else { return row.fill(fill) };
                let pick = |row: &mut [T], from: &[Option<usize>]| {
                    row.iter_mut().zip(from).for_each(|(y, i)| *y = i.map_or(fill, |i| x[at + i]));
                };
                pick(&mut row[..first], &inner[..first]);
                if let (Some(begin), true) = (inner.get(first).copied().flatten(), run > 0) {
                    row[first..first + run].copy_from_slice(&x[at + begin..][..run]);
                }
                pick(&mut row[first + run..], &inner[first + run..]);
            });
            Ok(true)
        }, else Ok(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_tensor::DType;

    fn pad(mode: PadMode, x: &[i64], pads: &[i64]) -> Result<Vec<i64>, OpError> {
        let op = Pad { mode, pads: pads.to_vec() };
        let x = Tensor::from_slice(&[x.len()], x).unwrap();
        let value = (mode == PadMode::Constant).then(|| Tensor::scalar(9i64).into());
        Ok(crate::Op::from(op).eval(&Args::plain(&[Some(x.into()), value]))?[0].as_tensor().unwrap().to_i64_vec())
    }

    #[test]
    fn every_mode_continues_in_its_way() {
        assert_eq!(pad(PadMode::Constant, &[1, 2], &[1, 1]).unwrap(), [9, 1, 2, 9]);
        assert_eq!(pad(PadMode::Edge, &[1, 2], &[2, 1]).unwrap(), [1, 1, 1, 2, 2]);
        assert_eq!(pad(PadMode::Reflect, &[1, 2, 3], &[4, 3]).unwrap(), [1, 2, 3, 2, 1, 2, 3, 2, 1, 2]);
        assert_eq!(pad(PadMode::Reflect, &[1], &[2, 0]).unwrap(), [1, 1, 1]);
        assert_eq!(pad(PadMode::Wrap, &[1, 2, 3], &[4, 1]).unwrap(), [3, 1, 2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn pads_that_make_no_sense_are_refused() {
        assert_eq!(pad(PadMode::Constant, &[1, 2, 3], &[-1, -1]).unwrap(), [2]);
        assert!(pad(PadMode::Constant, &[1], &[-1, -1]).is_err());
        assert!(pad(PadMode::Constant, &[1], &[i64::MAX, i64::MAX]).is_err());
        assert!(pad(PadMode::Constant, &[1], &[1]).is_err());
        assert!(pad(PadMode::Edge, &[], &[1, 1]).is_err());
        assert_eq!(pad(PadMode::Constant, &[], &[1, 1]).unwrap(), [9, 9]);
    }

    #[test]
    fn pads_of_some_axes_come_as_operands() {
        let op = Pad { mode: PadMode::Constant, pads: vec![] };
        let ints = |v: &[i64]| Some(Val::Tensor(Tensor::from_slice(&[v.len()], v).unwrap()));
        let x = Tensor::zeros(DType::F32, &[2, 3]).unwrap();
        let found = crate::Op::from(op.clone()).eval(&Args::plain(&[Some(x.into()), None, ints(&[1, 2]), ints(&[-1])]));
        assert_eq!(found.unwrap()[0].as_tensor().unwrap().shape(), [2, 6]);
        let x = Tensor::zeros(DType::F32, &[2, 3]).unwrap();
        assert!(crate::Op::from(op).eval(&Args::plain(&[Some(x.into()), None, ints(&[1, 2]), ints(&[2])])).is_err());
    }
}
