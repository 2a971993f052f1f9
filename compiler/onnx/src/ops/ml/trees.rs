//! Decision trees on their way into the IR, and `TreeEnsemble`, the form that they have since version 5.

use optc_ir::Value;
use optc_ir::ops::math;
use optc_ir::ops::ml::{self, Aggregate, Forest, Row, RowKind};
use optc_tensor::{DType, Tensor};

use super::scores::{Transform, transformed};
use super::{invalid, missing, samples};
use crate::mapping::{MapError, NodeCx};
use crate::ops::Mapped;

/// A node of a tree: a test, or a leaf.
pub(super) struct TreeNode {
    pub(super) kind: RowKind,
    pub(super) feature: usize,
    pub(super) value: f64,
    /// The nodes after the test, by their places in the list.
    pub(super) yes: usize,
    pub(super) no: usize,
    pub(super) missing: bool,
    pub(super) members: Vec<f64>,
    /// The targets of a leaf, and what it says for each.
    pub(super) weights: Vec<(usize, f64)>,
}

impl TreeNode {
    pub(super) fn leaf(weights: Vec<(usize, f64)>) -> TreeNode {
        let kind = RowKind::Leaf;
        TreeNode { kind, feature: 0, value: 0.0, yes: 0, no: 0, missing: false, members: vec![], weights }
    }

    fn rows(&self) -> usize {
        1 + self.members.len() + self.weights.len().saturating_sub(1)
    }
}

/// The nodes that trees with these roots lead to, each before those after it; the first that is on a cycle where there
/// is one. Exporters let trees share what is equal in them.
fn order(nodes: &[TreeNode], roots: &[usize]) -> Result<Vec<usize>, usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        Never,
        Open,
        Done,
    }
    let mut seen = vec![Seen::Never; nodes.len()];
    let (mut order, mut stack) = (vec![], vec![]);
    for &root in roots.iter().rev() {
        stack.push((root, false));
        while let Some((at, left)) = stack.pop() {
            if left {
                seen[at] = Seen::Done;
                order.push(at);
                continue;
            }
            match seen[at] {
                Seen::Done => continue,
                Seen::Open => return Err(at),
                Seen::Never => seen[at] = Seen::Open,
            }
            stack.push((at, true));
            if nodes[at].kind != RowKind::Leaf {
                for next in [nodes[at].yes, nodes[at].no] {
                    match seen[next] {
                        Seen::Open => return Err(next),
                        Seen::Never => stack.push((next, false)),
                        Seen::Done => {}
                    }
                }
            }
        }
    }
    order.reverse();
    Ok(order)
}

/// The forest of these trees, and the rows of their roots; `name` says which node is on a cycle.
pub(super) fn forest(
    nodes: &[TreeNode],
    roots: &[usize],
    name: impl Fn(usize) -> String,
) -> Result<(Forest, Vec<i64>), MapError> {
    let order = order(nodes, roots).map_err(|at| invalid(format!("{} leads back to itself", name(at))))?;
    let mut places = vec![0; nodes.len()];
    let mut next = 0;
    for &at in &order {
        places[at] = next;
        next += nodes[at].rows();
    }
    let mut rows = Vec::with_capacity(next);
    for &at in &order {
        let node = &nodes[at];
        if node.kind == RowKind::Leaf {
            let (target, weight) = node.weights.first().copied().unwrap_or_default();
            rows.push(Row::leaf(node.weights.len(), target, weight));
            rows.extend(node.weights.iter().skip(1).map(|&(target, weight)| Row::element(target, weight)));
        } else {
            let value = if node.kind == RowKind::Member { node.members.len() as f64 } else { node.value };
            let ways = [places[node.yes], places[node.no]];
            rows.push(Row::test(node.kind, node.feature, value, ways, node.missing));
            rows.extend(node.members.iter().map(|&member| Row::element(0, member)));
        }
    }
    Ok((Forest::new(&rows)?, roots.iter().map(|&root| places[root] as i64).collect()))
}

/// The samples in a dtype that trees compare: integers count as `f32`.
pub(super) fn compared(cx: &mut NodeCx) -> Result<Value, MapError> {
    let x = samples(cx)?;
    if cx.dtype(x)? == DType::F64 { Ok(x) } else { super::cast(cx, x, DType::F32) }
}

/// A feature, a node or a target: a number that is not negative.
pub(super) fn index(what: &str, number: i64) -> Result<usize, MapError> {
    let found = usize::try_from(number).ok().filter(|&n| n < u32::MAX as usize);
    found.ok_or_else(|| invalid(format!("{what} {number} is out of range")))
}

/// Whether a list has an element for each of `expected`.
pub(super) fn same_length(name: &str, found: usize, expected: usize) -> Result<(), MapError> {
    if found == expected {
        return Ok(());
    }
    Err(invalid(format!("`{name}` has {found} elements, expected {expected}")))
}

/// The attributes of [`ensemble`], one element for each test.
struct Tests {
    kinds: Vec<RowKind>,
    features: Vec<i64>,
    splits: Vec<f64>,
    ways: [Vec<i64>; 2],
    /// Whether a way is to a leaf.
    leaves: [Vec<i64>; 2],
    missing: Vec<i64>,
    members: Vec<Vec<f64>>,
}

const KINDS: [RowKind; 7] = [
    RowKind::LessEqual,
    RowKind::Less,
    RowKind::GreaterEqual,
    RowKind::Greater,
    RowKind::Equal,
    RowKind::NotEqual,
    RowKind::Member,
];

/// The number that a comparison has in `nodes_modes`.
pub(crate) fn onnx_tree_mode(kind: RowKind) -> Option<u8> {
    KINDS.iter().position(|&k| k == kind).map(|i| i as u8)
}

fn ints(cx: &NodeCx, name: &str) -> Result<Vec<i64>, MapError> {
    cx.attrs.ints(name)?.ok_or_else(|| missing(name))
}

fn tensor(cx: &NodeCx, name: &str) -> Result<Tensor, MapError> {
    cx.tensor_attribute(name)?.ok_or_else(|| missing(name))
}

impl Tests {
    fn read(cx: &NodeCx) -> Result<Tests, MapError> {
        let modes = tensor(cx, "nodes_modes")?;
        let kind = |mode: i64| {
            let found = usize::try_from(mode).ok().and_then(|i| KINDS.get(i)).copied();
            found.ok_or_else(|| invalid(format!("mode {mode} is none, expected 0 to 6")))
        };
        let kinds = modes.to_i64_vec().into_iter().map(kind).collect::<Result<Vec<_>, _>>()?;
        cx.attrs.ignore(&["nodes_hitrates"]);
        let tests = Tests {
            features: ints(cx, "nodes_featureids")?,
            splits: tensor(cx, "nodes_splits")?.to_f64_vec(),
            ways: [ints(cx, "nodes_truenodeids")?, ints(cx, "nodes_falsenodeids")?],
            leaves: [ints(cx, "nodes_trueleafs")?, ints(cx, "nodes_falseleafs")?],
            missing: cx.attrs.ints("nodes_missing_value_tracks_true")?.unwrap_or_default(),
            members: sets(cx, kinds.iter().filter(|&&kind| kind == RowKind::Member).count())?,
            kinds,
        };
        let n = tests.kinds.len();
        same_length("nodes_featureids", tests.features.len(), n)?;
        same_length("nodes_splits", tests.splits.len(), n)?;
        let names = [["nodes_truenodeids", "nodes_falsenodeids"], ["nodes_trueleafs", "nodes_falseleafs"]];
        for (lists, names) in [&tests.ways, &tests.leaves].into_iter().zip(names) {
            lists.iter().zip(names).try_for_each(|(list, name)| same_length(name, list.len(), n))?;
        }
        if !tests.missing.is_empty() {
            same_length("nodes_missing_value_tracks_true", tests.missing.len(), n)?;
        }
        Ok(tests)
    }

    /// The tests, then the leaves.
    fn nodes(self, leaves: Vec<TreeNode>) -> Result<Vec<TreeNode>, MapError> {
        let (n, mut members) = (self.kinds.len(), self.members.into_iter());
        let mut nodes = Vec::with_capacity(n + leaves.len());
        for (i, &kind) in self.kinds.iter().enumerate() {
            let way = |side: usize| {
                let (to, leaf) = (self.ways[side][i], self.leaves[side][i] != 0);
                let (from, limit, what) = if leaf { (n, leaves.len(), "leaf") } else { (0, n, "node") };
                let at = usize::try_from(to).ok().filter(|&to| to < limit).map(|to| to + from);
                at.ok_or_else(|| invalid(format!("node {i} leads to {what} {to} of {limit}")))
            };
            nodes.push(TreeNode {
                kind,
                feature: index("feature", self.features[i])?,
                value: self.splits[i],
                yes: way(0)?,
                no: way(1)?,
                missing: self.missing.get(i).is_some_and(|&v| v != 0),
                members: if kind == RowKind::Member { members.next().unwrap_or_default() } else { vec![] },
                weights: vec![],
            });
        }
        nodes.extend(leaves);
        Ok(nodes)
    }
}

/// The sets of the membership tests, in their order. In the attribute a NaN ends each.
fn sets(cx: &NodeCx, expected: usize) -> Result<Vec<Vec<f64>>, MapError> {
    let values = cx.tensor_attribute("membership_values")?.map(|t| t.to_f64_vec()).unwrap_or_default();
    let mut sets: Vec<Vec<f64>> = values.split(|v| v.is_nan()).map(<[f64]>::to_vec).collect();
    if sets.last().is_some_and(Vec::is_empty) {
        sets.pop();
    }
    if sets.len() != expected {
        let found = sets.len();
        return Err(invalid(format!("`membership_values` has {found} sets, expected {expected}")));
    }
    Ok(sets)
}

pub(super) fn ensemble(cx: &mut NodeCx) -> Mapped {
    let aggregates = [Aggregate::Average, Aggregate::Sum, Aggregate::Min, Aggregate::Max];
    let number = cx.attrs.int_or("aggregate_function", 1)?;
    let aggregate = usize::try_from(number).ok().and_then(|i| aggregates.get(i)).copied();
    let aggregate = aggregate.ok_or_else(|| invalid(format!("`aggregate_function` is {number}, expected 0 to 3")))?;
    let transform = Transform::of_number(cx)?;
    let (weights, of) = (tensor(cx, "leaf_weights")?.to_f64_vec(), ints(cx, "leaf_targetids")?);
    same_length("leaf_targetids", of.len(), weights.len())?;
    let leaf = |(&target, &weight): (&i64, &f64)| Ok(TreeNode::leaf(vec![(index("target", target)?, weight)]));
    let leaves = of.iter().zip(&weights).map(leaf).collect::<Result<Vec<_>, MapError>>()?;
    let roots = ints(cx, "tree_roots")?;
    let most = of.iter().max().map_or(1, |&most| most.saturating_add(1));
    let targets = cx.attrs.int_or("n_targets", most)?;
    let tests = Tests::read(cx)?;
    let n = tests.kinds.len();
    let root = |&root: &i64| usize::try_from(root).ok().filter(|&root| root < n);
    let out = |root: &i64| invalid(format!("a tree begins at node {root} of {n}"));
    let roots = roots.iter().map(|r| root(r).ok_or_else(|| out(r))).collect::<Result<Vec<_>, _>>()?;
    let nodes = tests.nodes(leaves)?;
    let (nodes, roots) = forest(&nodes, &roots, |at| format!("node {at}"))?;
    let x = compared(cx)?;
    let scores = cx.emit1(ml::TreeEnsemble { nodes, roots, targets, aggregate }, &[x])?;
    Ok(vec![transformed(cx, scores, index("target", targets)?, transform)?])
}

/// The sum of scores and base values, of which there may be none.
pub(super) fn with_base(cx: &mut NodeCx, scores: Value, base: &[f64]) -> Result<Value, MapError> {
    if base.is_empty() {
        return Ok(scores);
    }
    let dtype = cx.dtype(scores)?;
    let base = cx.constant(Tensor::from_f64(dtype, &[base.len()], base)?);
    cx.emit1(math::Add {}, &[scores, base])
}
