//! `TreeEnsembleClassifier` and `TreeEnsembleRegressor`: trees as lists of nodes with ids.

use std::collections::HashMap;

use optc_ir::Value;
use optc_ir::ops::math;
use optc_ir::ops::ml::{self, Aggregate, RowKind};
use optc_tensor::DType;

use super::scores::{Labels, Transform, above, beside, column, greatest, transformed, two_columns};
use super::trees::{TreeNode, compared, forest, index, same_length, with_base};
use super::{cast, invalid, missing, scalar};
use crate::attributes::meaning;
use crate::mapping::{MapError, NodeCx};
use crate::ops::Mapped;

/// The words of `nodes_modes`.
const MODES: [(&str, RowKind); 7] = [
    ("LEAF", RowKind::Leaf),
    ("BRANCH_LEQ", RowKind::LessEqual),
    ("BRANCH_LT", RowKind::Less),
    ("BRANCH_GTE", RowKind::GreaterEqual),
    ("BRANCH_GT", RowKind::Greater),
    ("BRANCH_EQ", RowKind::Equal),
    ("BRANCH_NEQ", RowKind::NotEqual),
];

/// The word that a node has in `nodes_modes`.
pub(crate) fn onnx_tree_word(kind: RowKind) -> Option<&'static str> {
    MODES.iter().find(|&&(_, k)| k == kind).map(|&(word, _)| word)
}

/// Trees by their nodes, the first of which are their roots, and the weights of their leaves.
struct Trees {
    nodes: Vec<TreeNode>,
    roots: Vec<usize>,
    /// The tree and the id of each node.
    names: Vec<(i64, i64)>,
    /// The target and the weight of each leaf, in the order of the attributes.
    weights: Vec<(usize, f64)>,
}

fn ints(cx: &NodeCx, name: &str) -> Result<Vec<i64>, MapError> {
    cx.attrs.ints(name)?.ok_or_else(|| missing(name))
}

/// Numbers that are a list of `f32` or a tensor of `f64`.
fn numbers(cx: &NodeCx, name: &str) -> Result<Option<Vec<f64>>, MapError> {
    let tensor = cx.tensor_attribute(&format!("{name}_as_tensor"))?;
    let list = cx.attrs.floats(name)?.filter(|v| !v.is_empty());
    match (list, tensor) {
        (Some(_), Some(_)) => Err(invalid(format!("`{name}` is given twice"))),
        (list, tensor) => {
            Ok(list.map_or(tensor.map(|t| t.to_f64_vec()), |v| Some(v.into_iter().map(f64::from).collect())))
        }
    }
}

fn shown(&(tree, id): &(i64, i64)) -> String {
    format!("node {id} of tree {tree}")
}

impl Trees {
    /// The trees of a node whose weights are called `target` or `class`.
    fn read(cx: &NodeCx, kind: &str) -> Result<Trees, MapError> {
        cx.attrs.ignore(&["nodes_hitrates", "nodes_hitrates_as_tensor"]);
        let (trees, ids) = (ints(cx, "nodes_treeids")?, ints(cx, "nodes_nodeids")?);
        let n = ids.len();
        same_length("nodes_treeids", trees.len(), n)?;
        let names: Vec<(i64, i64)> = trees.into_iter().zip(ids).collect();
        let mut places = HashMap::with_capacity(n);
        for (at, name) in names.iter().enumerate() {
            if places.insert(*name, at).is_some() {
                return Err(invalid(format!("{} is listed twice", shown(name))));
            }
        }
        let mut nodes = Self::nodes(cx, &names, &places)?;
        let weights = Self::weights(cx, kind, &mut nodes, &places)?;
        let mut known = std::collections::HashSet::new();
        let roots = (0..n).filter(|&at| known.insert(names[at].0)).collect();
        Ok(Trees { nodes, roots, names, weights })
    }

    fn nodes(
        cx: &NodeCx,
        names: &[(i64, i64)],
        places: &HashMap<(i64, i64), usize>,
    ) -> Result<Vec<TreeNode>, MapError> {
        let n = names.len();
        let modes = cx.attrs.strings("nodes_modes")?.ok_or_else(|| missing("nodes_modes"))?;
        let features = ints(cx, "nodes_featureids")?;
        let (yes, no) = (ints(cx, "nodes_truenodeids")?, ints(cx, "nodes_falsenodeids")?);
        let values = numbers(cx, "nodes_values")?.ok_or_else(|| missing("nodes_values"))?;
        let missing = cx.attrs.ints("nodes_missing_value_tracks_true")?.unwrap_or_default();
        same_length("nodes_modes", modes.len(), n)?;
        same_length("nodes_featureids", features.len(), n)?;
        same_length("nodes_truenodeids", yes.len(), n)?;
        same_length("nodes_falsenodeids", no.len(), n)?;
        same_length("nodes_values", values.len(), n)?;
        if !missing.is_empty() {
            same_length("nodes_missing_value_tracks_true", missing.len(), n)?;
        }
        let mut nodes = Vec::with_capacity(n);
        for (i, name) in names.iter().enumerate() {
            let kind = meaning("nodes_modes", &modes[i], &MODES, |a, b| a == b)?;
            if kind == RowKind::Leaf {
                nodes.push(TreeNode::leaf(vec![]));
                continue;
            }
            let next = |id: i64| {
                let lost = || invalid(format!("{} leads to node {id}, which the tree does not have", shown(name)));
                places.get(&(name.0, id)).copied().ok_or_else(lost)
            };
            nodes.push(TreeNode {
                kind,
                feature: index("feature", features[i])?,
                value: values[i],
                yes: next(yes[i])?,
                no: next(no[i])?,
                missing: missing.get(i).is_some_and(|&v| v != 0),
                ..TreeNode::leaf(vec![])
            });
        }
        Ok(nodes)
    }

    /// Gives the leaves their weights; those of other nodes say nothing.
    fn weights(
        cx: &NodeCx,
        kind: &str,
        nodes: &mut [TreeNode],
        places: &HashMap<(i64, i64), usize>,
    ) -> Result<Vec<(usize, f64)>, MapError> {
        let name = |rest: &str| format!("{kind}_{rest}");
        let (trees, ids) = (ints(cx, &name("treeids"))?, ints(cx, &name("nodeids"))?);
        let targets = ints(cx, &name("ids"))?;
        let weights = numbers(cx, &name("weights"))?.ok_or_else(|| missing(&name("weights")))?;
        same_length(&name("treeids"), trees.len(), weights.len())?;
        same_length(&name("nodeids"), ids.len(), weights.len())?;
        same_length(&name("ids"), targets.len(), weights.len())?;
        let mut all = Vec::with_capacity(weights.len());
        for (i, name) in trees.into_iter().zip(ids).enumerate() {
            let at = places.get(&name).copied();
            let at = at.ok_or_else(|| invalid(format!("a weight is for {}, which is not there", shown(&name))))?;
            all.push((index(kind, targets[i])?, weights[i]));
            if nodes[at].kind == RowKind::Leaf {
                nodes[at].weights.push((index(kind, targets[i])?, weights[i]));
            }
        }
        Ok(all)
    }

    /// Adds the trees to the graph: the scores, and whether there are any.
    fn emit(&self, cx: &mut NodeCx, targets: usize, aggregate: Aggregate) -> Result<[Value; 2], MapError> {
        let (nodes, roots) = forest(&self.nodes, &self.roots, |at| shown(&self.names[at]))?;
        let x = compared(cx)?;
        let op = ml::TreeEnsemble { nodes, roots, targets: targets as i64, aggregate };
        match cx.emit(op, &[Some(x)])?[..] {
            [scores, scored] => Ok([scores, scored]),
            _ => Err(invalid("the op has another number of results than 2")),
        }
    }

    /// Whether samples have a score for each of `n` targets: where a tree has one in each leaf, all have.
    fn has(&self, n: usize) -> Vec<Has> {
        let (mut leaves, mut counts) = (HashMap::new(), HashMap::new());
        for (node, &(tree, _)) in self.nodes.iter().zip(&self.names).filter(|(node, _)| node.kind == RowKind::Leaf) {
            *leaves.entry(tree).or_insert(0usize) += 1;
            let mut of: Vec<usize> = node.weights.iter().map(|&(target, _)| target).collect();
            of.sort_unstable();
            of.dedup();
            of.into_iter().for_each(|target| *counts.entry((tree, target)).or_insert(0usize) += 1);
        }
        let mut has = vec![Has::Never; n];
        for ((tree, target), count) in counts {
            if let Some(has) = has.get_mut(target).filter(|has| **has != Has::Always) {
                *has = if leaves.get(&tree) == Some(&count) { Has::Always } else { Has::Sometimes };
            }
        }
        has
    }
}

/// Whether samples have a score.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Has {
    Never,
    Sometimes,
    Always,
}

pub(super) fn regressor(cx: &mut NodeCx) -> Mapped {
    let words =
        [("SUM", Aggregate::Sum), ("AVERAGE", Aggregate::Average), ("MIN", Aggregate::Min), ("MAX", Aggregate::Max)];
    let aggregate = cx.attrs.word_or("aggregate_function", &words, Aggregate::Sum)?;
    let (transform, trees) = (Transform::of(cx)?, Trees::read(cx, "target")?);
    let most = trees.weights.iter().map(|&(target, _)| target + 1).max().unwrap_or(1);
    let targets = index("target", cx.attrs.int_or("n_targets", most as i64)?)?;
    let base = numbers(cx, "base_values")?.unwrap_or_default();
    if !base.is_empty() {
        same_length("base_values", base.len(), targets)?;
    }
    let [sums, scored] = trees.emit(cx, targets, aggregate)?;
    let mut scores = with_base(cx, sums, &base)?;
    // ONNX Runtime adds nothing to those of several targets that have no score.
    if !base.is_empty() && targets > 1 && trees.has(targets).iter().any(|&has| has != Has::Always) {
        scores = cx.emit1(math::Where {}, &[scored, scores, sums])?;
    }
    let scores = transformed(cx, scores, targets, transform)?;
    Ok(vec![cast(cx, scores, DType::F32)?])
}

pub(super) fn classifier(cx: &mut NodeCx) -> Mapped {
    let (transform, labels) = (Transform::of(cx)?, Labels::of(cx, "classlabels_int64s")?);
    let (trees, n) = (Trees::read(cx, "class")?, labels.len());
    if let Some((class, _)) = trees.weights.iter().find(|&&(class, _)| class >= n) {
        return Err(invalid(format!("a weight is for class {class} of {n}")));
    }
    let base = numbers(cx, "base_values")?.unwrap_or_default();
    if !base.is_empty() && (base.len() != 1 || n > 2) {
        same_length("base_values", base.len(), n)?;
    }
    let [scores, scored] = trees.emit(cx, n, Aggregate::Sum)?;
    let (label, scores) = match n {
        1 => {
            let scores = with_base(cx, scores, &base)?;
            let positive = above(cx, scores, 0.0)?;
            (labels.by(cx, positive)?, transformed(cx, scores, 1, transform)?)
        }
        2 => {
            let binary = Binary { trees: &trees, has: trees.has(n), scored, base: &base, transform };
            binary.results(cx, &labels, scores)?
        }
        _ => {
            let scores = with_base(cx, scores, &base)?;
            let all = !base.is_empty() || trees.has(n).iter().all(|&has| has == Has::Always);
            let chosen = if all { scores } else { only_scored(cx, scores, scored)? };
            let index = greatest(cx, chosen)?;
            (labels.at(cx, index)?, transformed(cx, scores, n, transform)?)
        }
    };
    Ok(vec![label, cast(cx, scores, DType::F32)?])
}

/// Scores of which those that are none are least.
fn only_scored(cx: &mut NodeCx, scores: Value, scored: Value) -> Result<Value, MapError> {
    let least = scalar(cx, cx.dtype(scores)?, f64::NEG_INFINITY)?;
    cx.emit1(math::Where {}, &[scored, scores, least])
}

/// Two classes. The standard does not say what becomes of them where there are scores for one only: this is what ONNX
/// Runtime does. A score of the second class decides, or else that of the first.
struct Binary<'a> {
    trees: &'a Trees,
    /// Whether samples have a score for each class.
    has: Vec<Has>,
    scored: Value,
    base: &'a [f64],
    transform: Transform,
}

impl Binary<'_> {
    /// `yes` for samples with a score for the class, `no` for the others.
    fn select(&self, cx: &mut NodeCx, class: usize, yes: Value, no: Value) -> Result<Value, MapError> {
        match self.has[class] {
            Has::Always => Ok(yes),
            Has::Never => Ok(no),
            Has::Sometimes => {
                let scored = column(cx, self.scored, class)?;
                cx.emit1(math::Where {}, &[scored, yes, no])
            }
        }
    }

    /// The two scores with the base values.
    fn with_base(&self, cx: &mut NodeCx, first: Value, second: Value) -> Result<(Value, Value), MapError> {
        match *self.base {
            [] => Ok((first, second)),
            [one] => Ok((with_base(cx, first, &[one])?, second)),
            [one, two, ..] => {
                // With a score for the second class, that of the first takes its place, and the first its negative.
                let taken = with_base(cx, first, &[two])?;
                let negative = cx.emit1(math::Neg {}, &[taken])?;
                let (first, second) = (with_base(cx, first, &[one])?, with_base(cx, second, &[two])?);
                Ok((self.select(cx, 1, negative, first)?, self.select(cx, 1, taken, second)?))
            }
        }
    }

    fn results(&self, cx: &mut NodeCx, labels: &Labels, scores: Value) -> Result<(Value, Value), MapError> {
        // Where there is no score, the sum of none is 0, and stays it.
        let none = [column(cx, scores, 0)?, column(cx, scores, 1)?];
        let (first, second) = self.with_base(cx, none[0], none[1])?;
        let first = self.select(cx, 0, first, none[0])?;
        let second = self.select(cx, 1, second, none[1])?;
        let one_class = self.has.contains(&Has::Never);
        let positive = self.trees.weights.iter().all(|&(_, weight)| weight >= 0.0);
        let deciding = self.select(cx, 1, second, first)?;
        let chosen = above(cx, deciding, if one_class && positive { 0.5 } else { 0.0 })?;
        let label = labels.by(cx, chosen)?;
        let both = beside(cx, &[first, second])?;
        let both = transformed(cx, both, 2, self.transform)?;
        if self.base.len() == 2 {
            return Ok((label, both));
        }
        let alone = self.alone(cx, first, one_class, positive)?;
        Ok((label, self.select(cx, 1, both, alone)?))
    }

    /// Both columns out of the score of the first class alone.
    fn alone(&self, cx: &mut NodeCx, first: Value, one_class: bool, positive: bool) -> Result<Value, MapError> {
        match self.transform {
            Transform::Probit => {
                let probit = transformed(cx, first, 1, Transform::Probit)?;
                beside(cx, &[probit, first])
            }
            Transform::Logistic => two_columns(cx, first, true, Transform::Logistic),
            // Nothing says what the second column is, and ONNX Runtime leaves it as it was in memory.
            _ if !one_class && !self.base.is_empty() => beside(cx, &[first, first]),
            _ => two_columns(cx, first, !(one_class && positive), Transform::None),
        }
    }
}
