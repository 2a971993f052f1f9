//! The pattern driver: applies rules until none fires.
//!
//! A [`Rule`] is a pure function from a place to an optional [`Patch`]. The driver goes through the nodes in
//! topological order, tries the rules in their order, applies the first patch, and repeats until a sweep changes
//! nothing. It works in the regions of control-flow ops as well; those of `kernel.fused` and
//! `kernel.deferred` are settled and are left alone.

use optc_ir::{Graph, NodeId, Op, OpError, TensorType, Type, Value, infer_node, is_proven};

use crate::{PassCx, PassError};

/// A named rule. The name appears in statistics, logs and errors.
pub type Rule = (&'static str, fn(&Graph, NodeId) -> Option<Patch>);

/// A value in a patch: one that exists, or a result of a node that the patch makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ref {
    /// A value of the graph.
    Old(Value),
    /// Result `.1` of the patch's node `.0`.
    New(usize, u32),
}

impl From<Value> for Ref {
    fn from(value: Value) -> Ref {
        Ref::Old(value)
    }
}

struct NewNode {
    op: Op,
    operands: Vec<Option<Ref>>,
    regions: Vec<Graph>,
}

/// What a rule wants done: nodes to make, and values whose uses go elsewhere. What is unused after that is removed.
#[derive(Default)]
pub struct Patch {
    nodes: Vec<NewNode>,
    replacements: Vec<(Value, Ref)>,
}

impl Patch {
    /// A patch that does nothing yet.
    pub fn new() -> Patch {
        Patch::default()
    }

    /// Every use of result 0 of `node` becomes a use of `value`.
    pub fn forward(node: NodeId, value: Value) -> Patch {
        Patch::new().replacing(Value { node, result: 0 }, value.into())
    }

    /// Result 0 of `node` is computed by `op` on `operands` instead.
    pub fn replace(node: NodeId, op: impl Into<Op>, operands: &[Value]) -> Patch {
        let mut patch = Patch::new();
        let operands: Vec<Ref> = operands.iter().map(|&v| v.into()).collect();
        let new = patch.add(op, &operands);
        patch.replacing(Value { node, result: 0 }, new)
    }

    /// Makes a node; returns its first result.
    pub fn add(&mut self, op: impl Into<Op>, operands: &[Ref]) -> Ref {
        self.add_optional(op, &operands.iter().map(|&r| Some(r)).collect::<Vec<_>>())
    }

    /// [`Patch::add`] with operands that may be absent.
    pub fn add_optional(&mut self, op: impl Into<Op>, operands: &[Option<Ref>]) -> Ref {
        self.nodes.push(NewNode { op: op.into(), operands: operands.to_vec(), regions: vec![] });
        Ref::New(self.nodes.len() - 1, 0)
    }

    /// Gives regions to the node that was made last.
    pub fn with_regions(mut self, regions: Vec<Graph>) -> Patch {
        if let Some(node) = self.nodes.last_mut() {
            node.regions = regions;
        }
        self
    }

    /// Makes a constant.
    pub fn constant(&mut self, value: optc_tensor::Tensor) -> Ref {
        self.constant_of(value, 0)
    }

    /// Makes a constant of which `zeros` elements were pruned.
    pub fn constant_of(&mut self, value: optc_tensor::Tensor, zeros: i64) -> Ref {
        self.add(optc_ir::ops::tensor::Constant { value: optc_ir::Const(value), zeros }, &[])
    }

    /// Every use of `old` becomes a use of `new`.
    pub fn replacing(mut self, old: Value, new: Ref) -> Patch {
        self.replacements.push((old, new));
        self
    }

    /// Whether it still reads a result of a node.
    fn reads(&self, node: NodeId) -> bool {
        let is = |r: &Ref| matches!(r, Ref::Old(value) if value.node == node);
        self.nodes.iter().flat_map(|n| n.operands.iter().flatten()).any(is)
            || self.replacements.iter().any(|(_, r)| is(r))
    }

    /// Makes the changes. New nodes get inferred types, which keep what the replaced value's type knew, and the
    /// locations of the nodes that go. Returns `false`, with the graph as it was, when a use would change its encoding.
    pub(crate) fn apply(self, graph: &mut Graph) -> Result<bool, OpError> {
        let changes_encoding = |(old, new): &(Value, Ref)| match new {
            Ref::Old(new) => encoding(graph.ty(*old)) != encoding(graph.ty(*new)),
            Ref::New(..) => false,
        };
        if self.replacements.iter().any(changes_encoding) {
            return Ok(false);
        }
        let mut made: Vec<NodeId> = vec![];
        for node in self.nodes {
            let value = |r: &Option<Ref>| r.map(|r| resolve(r, &made));
            let operands: Vec<Option<Value>> = node.operands.iter().map(value).collect();
            let id = graph.add(node.op, &operands, vec![]);
            graph.node_mut(id).regions = node.regions;
            made.push(id);
            let types = infer_node(graph, id)?;
            graph.node_mut(id).results = types.into_iter().map(|ty| optc_ir::ResultInfo { ty }).collect();
        }
        let mut gone = vec![];
        for (old, new) in &self.replacements {
            let (old, new) = (*old, resolve(*new, &made));
            if made.contains(&new.node) {
                let ty = refined(graph.ty(new), graph.ty(old));
                graph.node_mut(new.node).results[new.result as usize].ty = ty;
            }
            graph.replace_uses(old, new);
        }
        // All at the end: a node goes with its last result that is replaced, whether anybody read it or not.
        for (old, _) in self.replacements {
            gone.extend(remove_unused(graph, old.node));
        }
        made.retain(|&id| !matches!(graph.node(id).op, Op::Constant(_)));
        if let Some((&last, others)) = made.split_last() {
            let loc = moved_locations(gone);
            others.iter().for_each(|&id| graph.node_mut(id).loc.clone_from(&loc));
            graph.node_mut(last).loc = loc;
        }
        Ok(true)
    }
}

fn resolve(r: Ref, made: &[NodeId]) -> Value {
    match r {
        Ref::Old(value) => value,
        Ref::New(node, result) => Value { node: made[node], result },
    }
}

fn encoding(ty: &Type) -> Option<optc_ir::Encoding> {
    ty.as_tensor().map(|t| t.encoding)
}

/// `ty` with the extents that `known` has and it has not, in `known`'s encoding.
pub(crate) fn refined(ty: &Type, known: &Type) -> Type {
    let (Type::Tensor(t), Type::Tensor(k)) = (ty, known) else { return ty.clone() };
    let shape = match (&t.shape, &k.shape) {
        (Some(a), Some(b)) if a.len() == b.len() => Some(
            a.iter()
                .zip(b)
                .map(|(a, b)| if a.known().is_some() || *b == optc_ir::Dim::Unknown { a } else { b })
                .cloned()
                .collect(),
        ),
        (None, b) => b.clone(),
        (a, _) => a.clone(),
    };
    TensorType::of(t.dtype, shape).with_encoding(k.encoding).into()
}

/// The locations of nodes, each once, without those of constants.
pub(crate) fn locations<'a>(nodes: impl IntoIterator<Item = &'a optc_ir::Node>) -> Vec<String> {
    let mut loc: Vec<String> = vec![];
    for node in nodes.into_iter().filter(|n| !matches!(n.op, Op::Constant(_))) {
        add_locations(&mut loc, &node.loc);
    }
    loc
}

/// The locations of nodes that are gone: those of the first, of which a chain that becomes one op has many, are not
/// copied.
fn moved_locations(nodes: Vec<optc_ir::Node>) -> Vec<String> {
    let mut nodes = nodes.into_iter().filter(|n| !matches!(n.op, Op::Constant(_)));
    let mut loc = nodes.next().map(|n| n.loc).unwrap_or_default();
    nodes.for_each(|node| add_locations(&mut loc, &node.loc));
    loc
}

/// How many names an op keeps: what is merged along a chain of thousands of ops must not grow with the chain.
const MAX_LOCATIONS: usize = 128;
/// Stands at the end of the names of an op that came from more nodes than it can name.
const MORE_LOCATIONS: &str = "…";

/// Adds the names that are not there yet, up to a bound.
pub(crate) fn add_locations(loc: &mut Vec<String>, more: &[String]) {
    if loc.is_empty() {
        loc.extend_from_slice(more); // those of one op are distinct
        return;
    }
    for name in more {
        if loc.len() > MAX_LOCATIONS {
            return;
        }
        if !loc.contains(name) {
            loc.push(if loc.len() < MAX_LOCATIONS { name.clone() } else { MORE_LOCATIONS.to_owned() });
        }
    }
}

/// Removes `id` if nothing uses it, and then whatever only it used; inputs stay. Returns the nodes, operands first.
pub(crate) fn remove_unused(graph: &mut Graph, id: NodeId) -> Vec<optc_ir::Node> {
    let mut gone = vec![];
    let mut candidates = vec![id];
    while let Some(id) = candidates.pop() {
        let Some(node) = graph.get(id) else { continue };
        if matches!(node.op, Op::Param(_)) || graph.is_needed(id) {
            continue;
        }
        candidates.extend(node.operands.iter().flatten().map(|v| v.node));
        gone.extend(graph.remove(id));
    }
    gone.reverse();
    gone
}

/// Applies `rules` to a graph and the regions in it until none fires.
///
/// # Errors
/// A rule made an op that is not valid, or the rules do not settle.
pub fn rewrite_to_fixpoint(graph: &mut Graph, rules: &[Rule], cx: &mut PassCx) -> Result<(), PassError> {
    let bound = 1000 + 64 * graph.len();
    let mut rewrites = 0;
    loop {
        let before = rewrites;
        for id in graph.topological_order().unwrap_or_default() {
            if let Some(rule) = rewrite_at(graph, id, rules, cx)? {
                rewrites += 1;
                if rewrites > bound {
                    return Err(PassError::DoesNotSettle { rule, rewrites });
                }
            }
        }
        if rewrites == before {
            break;
        }
    }
    for_each_region(graph, &mut |region| rewrite_to_fixpoint(region, rules, cx))
}

/// Nodes that a rewrite is taken to match at most.
const MATCHED: usize = 64;

/// Whether a patch at `root` would take away a node that may refuse its operands at run time (see [`is_proven`]): the
/// root, or one that only it and what goes with it use.
fn drops_a_check(graph: &Graph, root: NodeId, patch: &Patch) -> bool {
    let (mut going, mut next) = (vec![root], 0);
    while let Some(&id) = going.get(next).filter(|_| next < MATCHED) {
        if !is_proven(graph, id) {
            return true;
        }
        next += 1;
        for value in graph.node(id).operands.iter().flatten() {
            let used = |(user, _): (NodeId, usize)| going.contains(&user);
            let goes = !patch.reads(value.node) && !graph.is_output(*value) && graph.each_use(*value).all(used);
            if goes && !going.contains(&value.node) {
                going.push(value.node);
            }
        }
    }
    false
}

/// Applies the first rule that fires at a node, and names it.
fn rewrite_at(
    graph: &mut Graph,
    id: NodeId,
    rules: &[Rule],
    cx: &mut PassCx,
) -> Result<Option<&'static str>, PassError> {
    for &(rule, matches) in rules {
        if graph.get(id).is_none() {
            return Ok(None);
        }
        let Some(patch) = matches(graph, id) else { continue };
        if drops_a_check(graph, id, &patch) {
            continue;
        }
        if !cx.permit(rule) {
            return Ok(None);
        }
        tracing::debug!(rule, node = id.index(), loc = ?graph.node(id).loc, "rewrite");
        if patch.apply(graph).map_err(|error| PassError::Rule { rule, error })? {
            return Ok(Some(rule));
        }
    }
    Ok(None)
}

/// Whether the regions of an op are left alone: they are one kernel, or go through all passes when they are run.
pub(crate) fn is_settled(op: &Op) -> bool {
    matches!(op, Op::Fused(_) | Op::Deferred(_))
}

/// Calls `f` on each region of the graph's control-flow ops.
pub(crate) fn for_each_region(
    graph: &mut Graph,
    f: &mut dyn FnMut(&mut Graph) -> Result<(), PassError>,
) -> Result<(), PassError> {
    for id in graph.ids().collect::<Vec<_>>() {
        if !is_settled(&graph.node(id).op) {
            graph.node_mut(id).regions.iter_mut().try_for_each(&mut *f)?;
        }
    }
    Ok(())
}
