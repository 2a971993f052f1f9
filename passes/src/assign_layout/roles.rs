//! What each op wants of its operands' and results' layouts.

use optc_ir::{Graph, NodeId, Op, Value};

use crate::matching::{dims, rank, result};

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
pub(super) enum Role {
    /// Layouts of its own. Only the operands in the first `reads` slots have a say.
    Fixed { operands: Wish, results: Wish, reads: usize },
    /// Operands and results have one layout, whichever.
    Follows,
}

impl Role {
    /// Whether the layout of operand `slot` matters.
    pub fn reads(&self, slot: usize) -> bool {
        match self {
            Role::Fixed { reads, .. } => slot < *reads,
            Role::Follows => true,
        }
    }
}

/// The role of a node.
pub(super) fn role(g: &Graph, id: NodeId) -> Role {
    let node = g.node(id);
    let plain = Role::Fixed { operands: Wish::Plain, results: Wish::Plain, reads: usize::MAX };
    match &node.op {
        // Weights and bias are packed at compile time or read as they are.
        Op::Conv(_) | Op::Pool(_) if has_planes(g, id) => {
            Role::Fixed { operands: Wish::Last, results: Wish::Last, reads: 1 }
        }
        Op::Transpose(t) if t.perm == to_channels_first(t.perm.len()) => {
            Role::Fixed { operands: Wish::Plain, results: Wish::PlainCosts, reads: 1 }
        }
        Op::Transpose(t) if t.perm == to_channels_last(t.perm.len()) => {
            Role::Fixed { operands: Wish::PlainCosts, results: Wish::Plain, reads: 1 }
        }
        Op::Reduce(r) if !r.keep_dims => Role::Fixed { operands: Wish::Either, results: Wish::Plain, reads: 1 },
        op if follows(op) && agrees(g, id) => Role::Follows,
        _ => plain,
    }
}

/// One or two spatial axes.
fn has_planes(g: &Graph, id: NodeId) -> bool {
    matches!(rank(g, result(id)), Some(3 | 4))
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

/// Ops that work on elements or whole axes wherever these lie.
fn follows(op: &Op) -> bool {
    let elementwise = crate::fuse::elementwise::is_elementwise(op) || matches!(op, Op::BatchNorm(_));
    elementwise || matches!(op, Op::Concat(_) | Op::Split(_) | Op::Pad(_) | Op::Slice(_) | Op::Reduce(_))
}

/// Whether an op that may follow does so here: an operand of the result's rank names the same axes. Operands of lower rank
/// are broadcast, and have no say.
fn agrees(g: &Graph, id: NodeId) -> bool {
    let rank_of = |v: Value| dims(g, v).map(<[_]>::len);
    let Some(rank) = rank_of(result(id)) else { return false };
    let first = g.node(id).operands.iter().flatten().any(|&v| rank_of(v) == Some(rank));
    rank >= 3 && first && g.node(id).operands.iter().flatten().all(|&v| rank_of(v).is_some_and(|r| r <= rank))
}
