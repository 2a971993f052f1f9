//! Which ops make one region.

use std::collections::BTreeSet;

use optc_ir::{FusionRole, Graph, NodeId, Op, Value};
use optc_tensor::DType;

use super::elementwise::role_of;
use crate::matching::{dtype, result, same_shape, tensor_type};

/// How many ops a region may have: the registers of a kernel are few.
const MAX_OPS: usize = 48;
/// How many values a region may read: a kernel keeps a pointer for each.
const MAX_OPERANDS: usize = 16;
/// How far to look for the point at which the paths from a value join again.
const MAX_DETOUR: usize = 16;

/// Where each node of a graph comes in topological order, and which of them are in a group already. Both by the node's
/// index.
pub(super) struct Order {
    places: Vec<usize>,
    taken: Vec<bool>,
}

impl Order {
    pub(super) fn of(order: &[NodeId]) -> Order {
        let nodes = order.iter().map(|id| id.index() + 1).max().unwrap_or(0);
        let mut places = vec![0; nodes];
        order.iter().enumerate().for_each(|(place, id)| places[id.index()] = place);
        Order { places, taken: vec![false; nodes] }
    }

    pub(super) fn take(&mut self, group: &[NodeId]) {
        group.iter().for_each(|id| self.taken[id.index()] = true);
    }

    fn place(&self, id: NodeId) -> usize {
        self.places[id.index()]
    }

    fn is_taken(&self, id: NodeId) -> bool {
        self.taken[id.index()]
    }
}

/// An anchor and the ops of its epilogue in topological order; the last one gives the result.
pub(super) fn with_epilogue(g: &Graph, anchor: NodeId, order: &Order) -> Vec<NodeId> {
    let mut group = vec![anchor];
    let mut taken = group.clone();
    while let Some(longer) = extended(g, &group, order) {
        if longer.len() > MAX_OPS || operands(g, &longer).len() > MAX_OPERANDS {
            break;
        }
        group = longer;
        if suits(g, anchor, &group) {
            taken.clone_from(&group);
        }
    }
    with_dequantizations(g, taken, order)
}

/// Whether the kernel of an anchor can store what the group gives: that of a softmax keeps its exponentials where its
/// result will be.
fn suits(g: &Graph, anchor: NodeId, group: &[NodeId]) -> bool {
    let floats = group.last().is_some_and(|&last| dtype(g, result(last)) == Some(DType::F32));
    floats || !matches!(g.node(anchor).op, Op::Softmax(_))
}

/// The group with the dequantizations that it alone reads, right after its anchor: bytes are loaded instead of reals.
/// Kernels of integers load epilogue operands of any dtype.
fn with_dequantizations(g: &Graph, group: Vec<NodeId>, order: &Order) -> Vec<NodeId> {
    let Some((&anchor, epilogue)) = group.split_first() else { return group };
    if !matches!(g.node(anchor).op, Op::QuantConv(_) | Op::QuantMatMul(_) | Op::QuantSum(_)) {
        return group;
    }
    let fits = |id: &NodeId| {
        let dequantize = matches!(g.node(*id).op, Op::Dequantize(_)) && role_of(g, *id).is_some();
        let alone = !g.is_output(result(*id)) && g.each_use(result(*id)).all(|(user, _)| epilogue.contains(&user));
        dequantize && alone && !group.contains(id) && !order.is_taken(*id) && same_place(g, anchor, *id)
    };
    let read = epilogue.iter().flat_map(|&id| &g.node(id).operands).flatten().map(|v| v.node);
    let found: BTreeSet<NodeId> = read.filter(fits).collect();
    let longer: Vec<NodeId> = [anchor].into_iter().chain(found).chain(epilogue.iter().copied()).collect();
    if longer.len() > MAX_OPS || operands(g, &longer).len() > MAX_OPERANDS { group } else { longer }
}

/// The group with the next ops after it, up to a point where one value leaves it again.
fn extended(g: &Graph, group: &[NodeId], order: &Order) -> Option<Vec<NodeId>> {
    let (&anchor, &last) = (group.first()?, group.last()?);
    let mut longer = group.to_vec();
    let mut waiting = BTreeSet::new();
    let mut newest = last;
    for _ in 0..MAX_DETOUR {
        if g.is_output(result(newest)) {
            return None;
        }
        waiting.extend(g.uses(result(newest)).into_iter().map(|(user, _)| (order.place(user), user)));
        let (_, next) = waiting.pop_first()?;
        let role = role_of(g, next)?;
        let free = !order.is_taken(next);
        let mask_inside = role != FusionRole::Select || g.operand(next, 0).is_some_and(|v| longer.contains(&v.node));
        if !free || !mask_inside || !same_place(g, anchor, next) {
            return None;
        }
        longer.push(next);
        if waiting.is_empty() && role != FusionRole::Compare {
            return Some(longer);
        }
        newest = next;
    }
    None
}

/// Whether the results of two nodes have one shape and one encoding.
fn same_place(g: &Graph, a: NodeId, b: NodeId) -> bool {
    let (a, b) = (result(a), result(b));
    let encoding = |v: Value| tensor_type(g, v).map(|t| t.encoding);
    same_shape(g, a, b) && encoding(a) == encoding(b)
}

/// The elementwise ops that only serve `root`, and `root`, in topological order; empty when `root` is not one that
/// gives `f32`.
pub(super) fn elementwise(g: &Graph, root: NodeId, order: &Order) -> Vec<NodeId> {
    if order.is_taken(root) {
        return vec![];
    }
    let mut banned = BTreeSet::new();
    loop {
        if banned.contains(&root) || role_of(g, root).is_none_or(|c| c == FusionRole::Compare) {
            return vec![];
        }
        let group = absorbed(g, root, &|id| order.is_taken(id) || banned.contains(&id));
        let lacks_mask = |id: &&NodeId| {
            let mask = g.operand(**id, 0).map(|v| v.node);
            role_of(g, **id) == Some(FusionRole::Select) && mask.is_none_or(|m| !group.contains(&m))
        };
        match group.iter().find(lacks_mask) {
            Some(&select) => banned.insert(select),
            None => {
                let mut group: Vec<NodeId> = group.into_iter().collect();
                group.sort_by_key(|id| order.place(*id));
                return group;
            }
        };
    }
}

/// `root` and the elementwise ops that only it and each other use, without those that are `banned`.
fn absorbed(g: &Graph, root: NodeId, banned: &dyn Fn(NodeId) -> bool) -> BTreeSet<NodeId> {
    let mut group = BTreeSet::from([root]);
    loop {
        let fits = |id: &NodeId| {
            let alone = g.each_use(result(*id)).all(|(user, _)| group.contains(&user)) && !g.is_output(result(*id));
            let free = !banned(*id) && !group.contains(id);
            let small = || {
                let with: Vec<NodeId> = group.iter().copied().chain([*id]).collect();
                with.len() <= MAX_OPS && operands(g, &with).len() <= MAX_OPERANDS
            };
            free && alone && role_of(g, *id).is_some() && same_place(g, root, *id) && small()
        };
        let producers: BTreeSet<NodeId> =
            group.iter().flat_map(|&id| &g.node(id).operands).flatten().map(|v| v.node).collect();
        match producers.iter().rev().find(|id| fits(id)) {
            Some(&id) => group.insert(id),
            None => return group,
        };
    }
}

/// The values that a group reads from outside.
fn operands(g: &Graph, group: &[NodeId]) -> BTreeSet<Value> {
    let all = group.iter().flat_map(|&id| &g.node(id).operands).flatten();
    all.filter(|v| !group.contains(&v.node)).copied().collect()
}
