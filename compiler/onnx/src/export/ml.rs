//! Classical machine learning: trees, and probabilities of classes out of those of pairs.

use std::collections::{HashMap, HashSet};

use optc_ir::Real;
use optc_ir::Value;
use optc_ir::ops::ml::{Aggregate, Couple, Forest, Row, RowKind, TreeEnsemble};
use optc_tensor::{DType, Tensor};

use super::node::unsupported;
use super::spelling::{OnnxSpelling, spelled};
use super::{Exporter, Site};
use crate::Diagnostic;
use crate::ops::{onnx_tree_mode, onnx_tree_word};

const DOMAIN: &str = "ai.onnx.ml";
/// How often nodes may be written that trees share.
const MAX_COPIES: usize = 8;
/// Pairs of classes that are written as vectors of so many numbers.
const MAX_PAIRS: usize = 1 << 12;

/// A forest, with the rows that each tree has, its root first.
struct Written<'a> {
    op: &'a TreeEnsemble,
    rows: Vec<Row>,
    trees: Vec<Vec<usize>>,
    dtype: DType,
}

fn bad(e: optc_tensor::TensorError) -> Diagnostic {
    Diagnostic::new("export", e.to_string())
}

impl Exporter {
    /// The scores as one node; whether there are any as another one, in which each weight is 1.
    pub(super) fn tree_ensemble(&mut self, op: &TreeEnsemble, site: &Site) -> Result<(), Diagnostic> {
        let dtype = site.tensor(0).map_or(DType::F32, |t| t.dtype);
        self.scores(op, dtype, site, site.results.first().cloned().unwrap_or_default())?;
        if !site.graph.is_used(Value { node: site.id, result: 1 }) {
            return Ok(());
        }
        let mut rows = op.nodes.rows();
        let mut elements = 0;
        for row in &mut rows {
            match row.kind {
                RowKind::Leaf => (row.value, elements) = (1.0, row.yes.saturating_sub(1)),
                RowKind::Element if elements > 0 => (row.value, elements) = (1.0, elements - 1),
                _ => {}
            }
        }
        let ones = TreeEnsemble { nodes: Forest::new(&rows).map_err(bad)?, aggregate: Aggregate::Max, ..op.clone() };
        let counts = self.names.unique("");
        self.scores(&ones, dtype, site, counts.clone())?;
        let zero = self.literal(&Tensor::from_f64(dtype, &[], &[0.0]).map_err(bad)?);
        let scored = site.results.get(1).cloned().unwrap_or_default();
        self.write(spelled!("Greater"), vec![counts, zero], vec![scored], &[]);
        Ok(())
    }

    fn scores(&mut self, op: &TreeEnsemble, dtype: DType, site: &Site, to: String) -> Result<(), Diagnostic> {
        let written = Written::of(op, dtype)?;
        let single = |row: &Row| row.kind != RowKind::Leaf || row.yes == 1;
        let sets = written.rows.iter().any(|row| row.kind == RowKind::Member);
        if (sets || dtype == DType::F64) && written.rows.iter().all(single) {
            self.write(written.ensemble()?, vec![site.operand(0)], vec![to], &site.node.loc);
            return Ok(());
        }
        if sets {
            return Err(unsupported(
                "trees that test sets and have several weights in a leaf cannot be written".to_owned(),
            ));
        }
        let spelling = written.regressor()?;
        if dtype == DType::F32 {
            self.write(spelling, vec![site.operand(0)], vec![to], &site.node.loc);
            return Ok(());
        }
        // The op gives `f32` whatever it is given.
        let narrow = self.step(spelling, vec![site.operand(0)], site);
        self.write(spelled!("Cast").dtype("to", dtype), vec![narrow], vec![to], &[]);
        Ok(())
    }
}

impl Exporter {
    /// A support vector machine whose scores are the logits: for each pair, the first class has a unit vector. Its
    /// label is read by nobody.
    pub(super) fn couple(&mut self, op: &Couple, site: &Site) -> Result<(), Diagnostic> {
        let classes = usize::try_from(op.classes).unwrap_or(0);
        let pairs: Vec<(usize, usize)> = (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j))).collect();
        let n = pairs.len();
        if n > MAX_PAIRS {
            return Err(unsupported(format!("probabilities of {classes} classes out of pairs cannot be written")));
        }
        let (mut vectors, mut coefficients) = (vec![Real(0.0); n * n], vec![Real(0.0); n * classes.saturating_sub(1)]);
        for (pair, &(_, second)) in pairs.iter().enumerate() {
            vectors[pair * n + pair] = Real(1.0);
            coefficients[(second - 1) * n + pair] = Real(1.0);
        }
        let per_class: Vec<i64> = (0..op.classes).map(|class| op.classes - 1 - class).collect();
        let spelling = spelled!("SVMClassifier")
            .of(DOMAIN, 1)
            .string("kernel_type", "LINEAR")
            .floats("kernel_params", &[Real(0.0); 3])
            .ints("classlabels_ints", &(0..op.classes).collect::<Vec<_>>())
            .ints("vectors_per_class", &per_class)
            .floats("support_vectors", &vectors)
            .floats("coefficients", &coefficients)
            .floats("rho", &vec![Real(0.0); n])
            .floats("prob_a", &vec![Real(-1.0); n])
            .floats("prob_b", &vec![Real(0.0); n]);
        let (label, result) = (self.names.unique(""), site.results.first().cloned().unwrap_or_default());
        self.write(spelling, vec![site.operand(0)], vec![label, result], &site.node.loc);
        Ok(())
    }
}

impl Written<'_> {
    fn of(op: &TreeEnsemble, dtype: DType) -> Result<Written<'_>, Diagnostic> {
        let rows = op.nodes.rows();
        let (mut trees, mut total) = (vec![], 0);
        for &root in &op.roots {
            let mut seen = HashSet::new();
            let (mut tree, mut stack) = (vec![], vec![usize::try_from(root).unwrap_or(usize::MAX)]);
            while let Some(at) = stack.pop() {
                let Some(row) = rows.get(at).filter(|_| seen.insert(at)) else { continue };
                tree.push(at);
                if row.kind != RowKind::Leaf {
                    stack.extend([row.no, row.yes]);
                }
            }
            total += tree.len();
            if total > rows.len().saturating_mul(MAX_COPIES) {
                return Err(unsupported(format!(
                    "trees that share nodes take more than {MAX_COPIES} times their nodes"
                )));
            }
            trees.push(tree);
        }
        Ok(Written { op, rows, trees, dtype })
    }

    /// The weights of the leaf at a row.
    fn weights(&self, at: usize) -> &[Row] {
        let count = self.rows.get(at).map_or(0, |row| row.yes);
        self.rows.get(at..at + count).unwrap_or_default()
    }

    /// Numbers as a list of `f32`, or a tensor of the wider type.
    fn numbers(&self, spelling: OnnxSpelling, name: [&str; 2], values: &[f64]) -> Result<OnnxSpelling, Diagnostic> {
        if self.dtype == DType::F32 {
            let values: Vec<Real> = values.iter().map(|&v| Real(v as f32)).collect();
            return Ok(spelling.floats(name[0], &values));
        }
        Ok(spelling.tensor(name[1], &Tensor::from_f64(self.dtype, &[values.len()], values).map_err(bad)?))
    }

    fn regressor(&self) -> Result<OnnxSpelling, Diagnostic> {
        let mut list = NodeLists::default();
        for (tree, rows) in self.trees.iter().enumerate() {
            list.add(self, tree as i64, rows);
        }
        let aggregate = match self.op.aggregate {
            Aggregate::Sum => "SUM",
            Aggregate::Average => "AVERAGE",
            Aggregate::Min => "MIN",
            Aggregate::Max => "MAX",
        };
        let spelling = spelled!("TreeEnsembleRegressor")
            .of(DOMAIN, 3)
            .string("aggregate_function", aggregate)
            .int("n_targets", self.op.targets)
            .ints("nodes_treeids", &list.trees)
            .ints("nodes_nodeids", &list.ids)
            .ints("nodes_featureids", &list.features)
            .ints("nodes_truenodeids", &list.ways[0])
            .ints("nodes_falsenodeids", &list.ways[1])
            .ints("nodes_missing_value_tracks_true", &list.missing)
            .strings("nodes_modes", &list.modes)
            .ints("target_treeids", &list.target_trees)
            .ints("target_nodeids", &list.target_nodes)
            .ints("target_ids", &list.targets);
        let spelling = self.numbers(spelling, ["nodes_values", "nodes_values_as_tensor"], &list.values)?;
        self.numbers(spelling, ["target_weights", "target_weights_as_tensor"], &list.weights)
    }

    fn ensemble(&self) -> Result<OnnxSpelling, Diagnostic> {
        let mut list = Lists::default();
        for tree in &self.trees {
            list.add(self, tree);
        }
        let tensor = |v: &[f64]| Tensor::from_f64(self.dtype, &[v.len()], v).map_err(bad);
        let aggregate = match self.op.aggregate {
            Aggregate::Average => 0,
            Aggregate::Sum => 1,
            Aggregate::Min => 2,
            Aggregate::Max => 3,
        };
        let mut spelling = spelled!("TreeEnsemble")
            .of(DOMAIN, 5)
            .int("aggregate_function", aggregate)
            .int("post_transform", 0)
            .int("n_targets", self.op.targets)
            .ints("tree_roots", &list.roots)
            .tensor("nodes_modes", &Tensor::from_slice(&[list.modes.len()], &list.modes).map_err(bad)?)
            .ints("nodes_featureids", &list.features)
            .tensor("nodes_splits", &tensor(&list.splits)?)
            .ints("nodes_truenodeids", &list.ways[0])
            .ints("nodes_falsenodeids", &list.ways[1])
            .ints("nodes_trueleafs", &list.leaves[0])
            .ints("nodes_falseleafs", &list.leaves[1])
            .ints("nodes_missing_value_tracks_true", &list.missing)
            .ints("leaf_targetids", &list.targets)
            .tensor("leaf_weights", &tensor(&list.weights)?);
        if !list.members.is_empty() {
            spelling = spelling.tensor("membership_values", &tensor(&list.members)?);
        }
        Ok(spelling)
    }
}

/// The lists of a `TreeEnsembleRegressor`. A node's id is its place in its tree: ONNX Runtime takes none that is larger
/// than the number of nodes.
#[derive(Default)]
struct NodeLists {
    trees: Vec<i64>,
    ids: Vec<i64>,
    modes: Vec<String>,
    features: Vec<i64>,
    values: Vec<f64>,
    ways: [Vec<i64>; 2],
    missing: Vec<i64>,
    target_trees: Vec<i64>,
    target_nodes: Vec<i64>,
    targets: Vec<i64>,
    weights: Vec<f64>,
}

impl NodeLists {
    fn add(&mut self, of: &Written, tree: i64, rows: &[usize]) {
        let ids: HashMap<usize, i64> = rows.iter().enumerate().map(|(id, &at)| (at, id as i64)).collect();
        for (id, &at) in rows.iter().enumerate() {
            let row = &of.rows[at];
            let leaf = row.kind == RowKind::Leaf;
            self.trees.push(tree);
            self.ids.push(id as i64);
            self.modes.push(onnx_tree_word(row.kind).unwrap_or_default().to_owned());
            self.features.push(if leaf { 0 } else { row.index as i64 });
            self.values.push(if leaf { 0.0 } else { row.value });
            self.missing.push(i64::from(row.missing));
            for (side, next) in [row.yes, row.no].into_iter().enumerate() {
                self.ways[side].push(if leaf { 0 } else { ids.get(&next).copied().unwrap_or(-1) });
            }
            for weight in if leaf { of.weights(at) } else { &[] } {
                self.target_trees.push(tree);
                self.target_nodes.push(id as i64);
                self.targets.push(weight.index as i64);
                self.weights.push(weight.value);
            }
        }
    }
}

/// The lists of a `TreeEnsemble`, whose tests and leaves are counted apart.
#[derive(Default)]
struct Lists {
    roots: Vec<i64>,
    modes: Vec<u8>,
    features: Vec<i64>,
    splits: Vec<f64>,
    ways: [Vec<i64>; 2],
    leaves: [Vec<i64>; 2],
    missing: Vec<i64>,
    /// The sets, with NaN after each.
    members: Vec<f64>,
    targets: Vec<i64>,
    weights: Vec<f64>,
}

impl Lists {
    fn add(&mut self, of: &Written, tree: &[usize]) {
        self.roots.push(self.modes.len() as i64);
        let mut numbers = HashMap::new();
        let (mut tests, mut leaves) = (self.modes.len() as i64, self.weights.len() as i64);
        for &at in tree {
            let counter = if of.rows[at].kind == RowKind::Leaf { &mut leaves } else { &mut tests };
            numbers.insert(at, *counter);
            *counter += 1;
        }
        for &at in tree {
            let row = &of.rows[at];
            if row.kind == RowKind::Leaf {
                self.targets.push(row.index as i64);
                self.weights.push(row.value);
                // A tree that is a leaf is a test both of whose ways lead to it.
                if tree.len() == 1 {
                    self.test(&Row::test(RowKind::LessEqual, 0, 0.0, [at; 2], false), of, &numbers);
                }
                continue;
            }
            self.test(row, of, &numbers);
            if row.kind == RowKind::Member {
                let members = of.rows.iter().skip(at + 1).take(row.value as usize);
                self.members.extend(members.map(|member| member.value).chain([f64::NAN]));
            }
        }
    }

    fn test(&mut self, row: &Row, of: &Written, numbers: &HashMap<usize, i64>) {
        self.modes.push(onnx_tree_mode(row.kind).unwrap_or_default());
        self.features.push(row.index as i64);
        self.splits.push(if row.kind == RowKind::Member { 0.0 } else { row.value });
        self.missing.push(i64::from(row.missing));
        for (side, next) in [row.yes, row.no].into_iter().enumerate() {
            self.ways[side].push(numbers.get(&next).copied().unwrap_or(-1));
            self.leaves[side].push(i64::from(of.rows[next].kind == RowKind::Leaf));
        }
    }
}
