//! What each op wants of its operands' and results' layouts.

use optc_ir::{Encoding, Graph, LayoutRule, NodeId, Op, Value};
use optc_tensor::DType;

use crate::machine::{Change, Form, Machine, Nanos};
use crate::matching::{dims, dtype, rank, result, tensor_type};
use crate::weighted::Weighted;

/// The layout that an op wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Plain.
    Plain,
    /// Channels last.
    Last,
    /// Either.
    Either,
    /// Either; plain costs the bytes of the result, since the op then moves them.
    PlainCosts,
}

/// How an op takes part in the choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LayoutRole {
    /// Layouts of its own. Only the operands in the first `reads` slots have a say.
    Fixed { operands: Wish, results: Wish, reads: usize },
    /// Operands and results have the same layout, whichever it is.
    Follows,
    /// The first operand and the results have one layout; what the op costs in each, in bytes that are converted
    /// meanwhile.
    Both { plain: u64, last: u64 },
}

impl LayoutRole {
    /// Whether the layout of operand `slot` matters.
    pub fn reads(&self, slot: usize) -> bool {
        match self {
            LayoutRole::Fixed { reads, .. } => slot < *reads,
            LayoutRole::Follows => true,
            LayoutRole::Both { .. } => slot == 0,
        }
    }
}

/// The role of a node.
pub(super) fn role(g: &Graph, id: NodeId, machine: &dyn Machine) -> LayoutRole {
    let node = g.node(id);
    let plain = LayoutRole::Fixed { operands: Wish::Plain, results: Wish::Plain, reads: usize::MAX };
    match &node.op {
        // Weights and bias are packed at compile time or read as they are.
        Op::Conv(_) | Op::QuantConv(_) if has_planes(g, id) => sparse(g, id, machine).unwrap_or_else(|| {
            // Depthwise kernels come for both layouts, about equally fast.
            let dense = LayoutRole::Fixed { operands: Wish::Last, results: Wish::Last, reads: 1 };
            if has_both(g, id, machine) { LayoutRole::Both { plain: 0, last: 0 } } else { dense }
        }),
        Op::Pool(_) if has_planes(g, id) => LayoutRole::Fixed { operands: Wish::Last, results: Wish::Last, reads: 1 },
        Op::ConvTranspose(_) if has_planes(g, id) && has_kernel(g, id) => {
            LayoutRole::Fixed { operands: Wish::Last, results: Wish::Last, reads: 1 }
        }
        Op::Transpose(t) if t.perm == to_channels_first(t.perm.len()) => {
            LayoutRole::Fixed { operands: Wish::Plain, results: Wish::PlainCosts, reads: 1 }
        }
        Op::Transpose(t) if t.perm == to_channels_last(t.perm.len()) => {
            LayoutRole::Fixed { operands: Wish::PlainCosts, results: Wish::Plain, reads: 1 }
        }
        Op::QuantSum(r) if !r.keep_dims => LayoutRole::Fixed { operands: Wish::Either, results: Wish::Plain, reads: 1 },
        Op::Reduce(r) if !r.keep_dims => LayoutRole::Fixed { operands: Wish::Either, results: Wish::Plain, reads: 1 },
        op if op.facts().layout == LayoutRule::Follows && agrees(g, id) => LayoutRole::Follows,
        _ => plain,
    }
}

/// A layer of either kind of number.
fn layer(g: &Graph, id: NodeId) -> Option<Weighted> {
    Weighted::of(g, id).or_else(|| Weighted::of_integers(g, id))
}

/// The role of a convolution whose weights are encoded as blocks of one column: sparse where it is plain, dense where
/// channels are last. Blocks of four columns are read with the channels last.
fn sparse(g: &Graph, id: NodeId, machine: &dyn Machine) -> Option<LayoutRole> {
    let layer = layer(g, id)?;
    let Encoding::Bcsr { rows, cols: 1 } = tensor_type(g, layer.weights)?.encoding else { return None };
    let (product, block) = (layer.product(g, 1)?, (usize::from(rows), 1));
    let bytes = |time: Nanos| (time / machine.copy(1 << 20) * f64::from(1 << 20)) as u64;
    let form = Form::Sparse { block, blocks: layer.blocks(g, block)? };
    let plain = 1.0 / machine.margin(Change::ToSparse) * machine.time(&product, form);
    Some(LayoutRole::Both { plain: bytes(plain), last: bytes(machine.densest(&product).1) })
}

/// Whether a convolution has one constant filter for each channel, and kernels for both layouts.
fn has_both(g: &Graph, id: NodeId, machine: &dyn Machine) -> bool {
    let product = layer(g, id).and_then(|layer| layer.product(g, 1));
    product.is_some_and(|product| product.depthwise && machine.declines(&product, Form::Planes).is_none())
}

/// One or two spatial axes.
fn has_planes(g: &Graph, id: NodeId) -> bool {
    matches!(rank(g, result(id)), Some(3 | 4))
}

/// Whether there are kernels for a transposed convolution: of `f32`, with constant weights.
fn has_kernel(g: &Graph, id: NodeId) -> bool {
    let constant = g.operand(id, 1).is_some_and(|weights| g.constant(weights).is_some());
    constant && dtype(g, result(id)) == Some(DType::F32)
}

/// `[0, r−1, 1, …, r−2]`: a plain operand gives a channels-last result without moving anything.
fn to_channels_first(rank: usize) -> Vec<i64> {
    let r = rank as i64;
    if rank < 3 { vec![] } else { [0, r - 1].into_iter().chain(1..r - 1).collect() }
}

/// `[0, 2, …, r−1, 1]`: the opposite.
fn to_channels_last(rank: usize) -> Vec<i64> {
    let r = rank as i64;
    if rank < 3 { vec![] } else { [0].into_iter().chain(2..r).chain([1]).collect() }
}

/// Whether an op that may follow does so here: an operand of the result's rank names the same axes. Operands of lower
/// rank are broadcast, and have no say.
fn agrees(g: &Graph, id: NodeId) -> bool {
    let rank_of = |v: Value| dims(g, v).map(<[_]>::len);
    let Some(rank) = rank_of(result(id)) else { return false };
    let first = g.node(id).operands.iter().flatten().any(|&v| rank_of(v) == Some(rank));
    rank >= 3 && first && g.node(id).operands.iter().flatten().all(|&v| rank_of(v).is_some_and(|r| r <= rank))
}
