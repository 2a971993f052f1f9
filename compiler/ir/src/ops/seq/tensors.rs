//! Sequences cut from a tensor and put together into one.

use optc_tensor::Tensor;

use super::{element_type, sequence};
use crate::ops::axis_of;
use crate::ops::cf::stack;
use crate::ops::eval::room;
use crate::ops::tensor::{Concat, Split, Squeeze};
use crate::{Args, Dim, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

/// Bytes of a small tensor in a list: its places there and in the list that it is cut from, its shapes, and a line for
/// its elements.
const PART: usize = 384;

op! {
    /// `x` cut along `axis`: into parts of the extents in `split`, of the one extent that `split` names, or of 1.
    ///
    /// - (C1) `split` is a positive integer, or integers that are not negative and add up to the extent.
    "seq.split" = SeqSplit(x, split: optional) {
        /// The axis; negative from the end.
        axis: i64 = 0,
        /// Whether parts of extent 1 keep the axis; only without `split`.
        keep_dims: bool = true,
    }
}

impl Semantics for SeqSplit {
    const FACTS: Facts<SeqSplit> = Facts::host("sequences and optionals are values of the host").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let mut part = x.clone();
        if let Some(shape) = &mut part.shape {
            let axis = axis_of(self.axis, shape.len())?;
            match (cx.has(1), self.keep_dims) {
                (true, _) => shape[axis] = Dim::Unknown,
                (false, true) => shape[axis] = Dim::Known(1),
                (false, false) => drop(shape.remove(axis)),
            }
        }
        Ok(vec![Type::Sequence(Box::new(part.into()))])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let axis = axis_of(self.axis, x.rank())?;
        let extent = x.shape()[axis] as i64;
        let split = args.optional(1);
        if let Some(t) = split {
            ensure!(t.dtype().is_int(), "C1", "`split` is {}, expected integers", t.dtype());
        }
        let sizes = match split.map(|t| (t.rank(), t.to_i64_vec())) {
            None => vec![1; extent as usize],
            Some((0, one)) => {
                let size = one.first().copied().unwrap_or(0);
                ensure!(size > 0, "C1", "`split` is {size}");
                (0..extent).step_by(size as usize).map(|at| size.min(extent - at)).collect()
            }
            Some((_, sizes)) => sizes,
        };
        let _room = room(sizes.len().saturating_mul(PART))?;
        let parts = Split { axis: axis as i64, parts: 0, sizes }.eval(&Args::plain(&[Some(x.clone().into())]))?;
        let squeeze = |part: Val| {
            let axes = Tensor::scalar(axis as i64).reshaped(&[1])?;
            let mut squeezed = Squeeze {}.eval(&Args::plain(&[Some(part), Some(axes.into())]))?;
            squeezed.pop().ok_or(OpError::Operand { slot: 0 })
        };
        let drop_axis = split.is_none() && !self.keep_dims;
        let parts = if drop_axis { parts.into_iter().map(squeeze).collect::<Result<_, _>>()? } else { parts };
        let joined = parts.iter().map(|part| Some(part.ty())).reduce(|a, b| a?.join(&b?)).flatten();
        let of = joined.unwrap_or_else(|| TensorType::unranked(x.dtype()).into());
        Ok(vec![Val::Seq(of, parts)])
    }
}

op! {
    /// The tensors of `seq` one after the other along `axis`, or stacked along a new one.
    ///
    /// - (C1) `seq` is a sequence of tensors, and not empty.
    /// - (C2) The tensors' shapes are equal, but for the extent at `axis` unless it is new.
    "seq.concat" = SeqConcat(seq) {
        /// The axis; negative from the end of the result's.
        axis: i64,
        /// Whether `axis` is new.
        new_axis: bool = false,
    }
}

impl Semantics for SeqConcat {
    const FACTS: Facts<SeqConcat> = Facts::host("sequences and optionals are values of the host").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let of = element_type(cx, 0)?;
        let not_tensor = || OpError::Constraint { constraint: "C1", reason: format!("{of} is not a tensor") };
        let t = of.as_tensor().ok_or_else(not_tensor)?;
        let Some(mut shape) = t.shape.clone() else { return Ok(vec![t.clone().into()]) };
        if self.new_axis {
            let axis = axis_of(self.axis, shape.len() + 1)?;
            shape.insert(axis, Dim::Unknown);
        } else {
            let axis = axis_of(self.axis, shape.len())?;
            shape[axis] = Dim::Unknown;
        }
        Ok(vec![TensorType::new(t.dtype, shape).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (_, items) = sequence(args, 0)?;
        ensure!(!items.is_empty(), "C1", "the sequence is empty");
        if !self.new_axis {
            let values: Vec<_> = items.iter().cloned().map(Some).collect();
            return Concat { axis: self.axis }.eval(&Args::plain(&values)).map_err(|e| e.numbered("C2"));
        }
        let tensors: Vec<Tensor> = items.iter().filter_map(|v| v.as_tensor().cloned()).collect();
        let first = tensors.first().filter(|_| tensors.len() == items.len()).ok_or(OpError::Operand { slot: 0 })?;
        let same = tensors.iter().all(|t| t.dtype() == first.dtype() && t.shape() == first.shape());
        ensure!(same, "C2", "the tensors' shapes differ");
        Ok(vec![stack(&tensors, axis_of(self.axis, first.rank() + 1)?)?.into()])
    }
}
