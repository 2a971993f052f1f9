//! What an op is asked to say whether it works on each item of a batch by itself.

use optc_tensor::Tensor;

use super::{InferCx, axis_of};

/// A node whose operands are in part batches: tensors whose first axis is that of the items.
pub struct ItemCx<'a> {
    /// The operands' types and constants, for some number of items.
    pub infer: InferCx<'a>,
    /// Which operands are batches; the others are the same for all items.
    pub batched: &'a [bool],
    /// The ranks of the results, whose first extents are the number of items.
    pub results: &'a [usize],
}

impl ItemCx<'_> {
    /// Whether operand `slot` is a batch.
    pub fn is_batched(&self, slot: usize) -> bool {
        self.batched.get(slot).copied().unwrap_or(false)
    }

    /// Whether no operand but these is a batch.
    pub fn only(&self, slots: &[usize]) -> bool {
        (0..self.batched.len()).all(|slot| slots.contains(&slot) || !self.is_batched(slot))
    }

    /// Whether operand 0 is the only batch, and these axes of it are not that of the items.
    pub fn spares(&self, axes: impl IntoIterator<Item = i64>) -> bool {
        let Some(rank) = self.rank(0) else { return false };
        self.only(&[0]) && axes.into_iter().all(|axis| axis_of(axis, rank).is_ok_and(|axis| axis > 0))
    }

    /// The same for axes in a constant operand.
    pub fn spares_in(&self, slot: usize) -> bool {
        self.constant(slot).is_some_and(|axes| self.spares(axes.to_i64_vec()))
    }

    /// The rank of operand `slot`.
    pub fn rank(&self, slot: usize) -> Option<usize> {
        self.infer.tensor(slot).ok()?.rank()
    }

    /// The constant value of operand `slot`.
    pub fn constant(&self, slot: usize) -> Option<&Tensor> {
        self.infer.constant(slot)
    }

    /// Whether every operand that is a batch has as many dims as the first result, so that where operands broadcast,
    /// items meet items.
    pub fn is_aligned(&self) -> bool {
        let aligned = |slot: usize| !self.is_batched(slot) || self.rank(slot) == self.results.first().copied();
        (0..self.batched.len()).all(aligned)
    }
}
