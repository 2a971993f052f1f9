//! The nodes of decision trees, as an attribute: one table, checked once, and flattened for the walk once.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use optc_tensor::{DType, Tensor, TensorError};

use super::flat::{Flat, Score};
use crate::{Attr, AttrValue, Const};

/// Numbers of a row: its kind, its index, its value, the rows of the test that holds and of the one that does not, and
/// whether a missing value counts as one for which the test holds.
const COLUMNS: usize = 6;
/// The most rows: the walk numbers its nodes by 32 bits, and a test takes several of them.
const MAX_ROWS: usize = 1 << 26;

/// What a row of a [`Forest`] is; its number is the first in the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// The end of a walk. `yes` counts its weights: the first is the row's own, the others are elements after it.
    Leaf = 0,
    /// Whether the feature is at most the value.
    LessEqual = 1,
    /// Whether the feature is less than the value.
    Less = 2,
    /// Whether the feature is at least the value.
    GreaterEqual = 3,
    /// Whether the feature is greater than the value.
    Greater = 4,
    /// Whether the feature is the value.
    Equal = 5,
    /// Whether the feature is another number than the value; NaN is one.
    NotEqual = 6,
    /// Whether the feature is among the elements after the row, as many as the value says.
    Member = 7,
    /// A further weight of a leaf, or a member of a set.
    Element = 8,
}

impl RowKind {
    const ALL: [RowKind; 9] = [
        RowKind::Leaf,
        RowKind::LessEqual,
        RowKind::Less,
        RowKind::GreaterEqual,
        RowKind::Greater,
        RowKind::Equal,
        RowKind::NotEqual,
        RowKind::Member,
        RowKind::Element,
    ];
}

/// A row of a [`Forest`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// What it is.
    pub kind: RowKind,
    /// The feature that is tested, or the target of a weight.
    pub index: usize,
    /// What the feature is compared with, the weight, the member, or the number of members.
    pub value: f64,
    /// The row after a test that holds; the number of weights of a leaf.
    pub yes: usize,
    /// The row after a test that does not hold.
    pub no: usize,
    /// Whether the test holds for NaN.
    pub missing: bool,
}

impl Row {
    /// A test of a feature; a set's members are elements after it.
    pub fn test(kind: RowKind, feature: usize, value: f64, [yes, no]: [usize; 2], missing: bool) -> Row {
        Row { kind, index: feature, value, yes, no, missing }
    }

    /// A leaf with this number of weights, and the first of them.
    pub fn leaf(weights: usize, target: usize, weight: f64) -> Row {
        Row { kind: RowKind::Leaf, index: target, value: weight, yes: weights, no: 0, missing: false }
    }

    /// A further weight of a leaf, or a member of a set.
    pub fn element(index: usize, value: f64) -> Row {
        Row { kind: RowKind::Element, index, value, yes: 0, no: 0, missing: false }
    }

    fn numbers(&self) -> [f64; COLUMNS] {
        let missing = f64::from(u8::from(self.missing));
        [f64::from(self.kind as u8), self.index as f64, self.value, self.yes as f64, self.no as f64, missing]
    }

    fn read(numbers: &[f64]) -> Option<Row> {
        let &[kind, index, value, yes, no, missing] = numbers else { return None };
        let whole = |v: f64| (v >= 0.0 && v <= f64::from(u32::MAX) && v.fract() == 0.0).then_some(v as usize);
        Some(Row {
            kind: RowKind::ALL.get(whole(kind)?).copied()?,
            index: whole(index)?,
            value,
            yes: whole(yes)?,
            no: whole(no)?,
            missing: whole(missing)? != 0,
        })
    }

    /// Elements that belong to the row and follow it.
    pub(super) fn elements(&self) -> usize {
        match self.kind {
            RowKind::Leaf => self.yes.saturating_sub(1),
            RowKind::Member => self.value as usize,
            _ => 0,
        }
    }

    pub(super) fn is_test(&self) -> bool {
        !matches!(self.kind, RowKind::Leaf | RowKind::Element)
    }
}

/// What is known of a table.
#[derive(Debug, Default)]
struct Checked {
    problem: Option<String>,
    /// Features that tests look at: one more than the largest.
    features: usize,
    /// Targets that weights are for: one more than the largest.
    targets: usize,
    narrow: OnceLock<Flat<f32>>,
    wide: OnceLock<Flat<f64>>,
}

/// The nodes of decision trees. Its text form is a table of `f64` with a row for each node, see [`Row`]: the tests of a
/// tree come before what they lead to, so that every walk ends.
#[derive(Debug, Clone)]
pub struct Forest {
    table: Const,
    checked: Arc<Checked>,
}

impl PartialEq for Forest {
    fn eq(&self, other: &Forest) -> bool {
        self.table == other.table
    }
}
impl Eq for Forest {}
impl Hash for Forest {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.table.hash(h);
    }
}

impl AttrValue for Forest {
    fn expected() -> String {
        "a constant".to_owned()
    }
    fn to_attr(&self) -> Attr {
        Attr::Const(self.table.clone())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        if let Attr::Const(table) = attr { Some(Forest::of_table(table.0.clone())) } else { None }
    }
}

impl Forest {
    /// The forest of these rows.
    ///
    /// # Errors
    /// There is no memory for the table.
    pub fn new(rows: &[Row]) -> Result<Forest, TensorError> {
        let numbers: Vec<f64> = rows.iter().flat_map(Row::numbers).collect();
        Ok(Forest::of_table(Tensor::from_slice(&[rows.len(), COLUMNS], &numbers)?))
    }

    fn of_table(table: Tensor) -> Forest {
        let checked = match read(&table).and_then(|rows| check(&rows)) {
            Ok((features, targets)) => Checked { features, targets, ..Checked::default() },
            Err(problem) => Checked { problem: Some(problem), ..Checked::default() },
        };
        Forest { table: Const(table), checked: Arc::new(checked) }
    }

    /// The rows; none where the table is not one of a forest.
    pub fn rows(&self) -> Vec<Row> {
        read(&self.table.0).unwrap_or_default()
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.table.0.len() / COLUMNS
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Why the table is not one of a forest.
    pub fn problem(&self) -> Option<&str> {
        self.checked.problem.as_deref()
    }

    /// How many features tests look at: one more than the largest.
    pub fn features(&self) -> usize {
        self.checked.features
    }

    /// How many targets weights are for: one more than the largest.
    pub fn targets(&self) -> usize {
        self.checked.targets
    }

    /// The nodes as an evaluation walks them, made at the first.
    pub(super) fn flat<T: Score>(&self) -> &Flat<T> {
        T::cached(&self.checked.narrow, &self.checked.wide, || Flat::new(&self.rows()))
    }
}

fn read(table: &Tensor) -> Result<Vec<Row>, String> {
    let fits = table.dtype() == DType::F64 && matches!(table.shape(), &[rows, COLUMNS] if rows <= MAX_ROWS);
    if !fits {
        return Err(format!("the nodes are {}, expected `?x{COLUMNS}xf64`", crate::ops::message::type_of(table)));
    }
    let numbers = table.to_f64_vec();
    let row = |(i, numbers)| Row::read(numbers).ok_or_else(|| format!("row {i} is no node"));
    numbers.chunks_exact(COLUMNS).enumerate().map(row).collect()
}

/// The numbers of features and targets, where all that follows a row is there, and comes after it.
fn check(rows: &[Row]) -> Result<(usize, usize), String> {
    let (mut features, mut targets) = (0, 0);
    for (i, row) in rows.iter().enumerate() {
        let elements = rows.get(i + 1..).and_then(|rest| rest.get(..row.elements()));
        if elements.is_none_or(|elements| elements.iter().any(|e| e.kind != RowKind::Element)) {
            return Err(format!("row {i} has fewer elements than it says"));
        }
        if row.is_test() {
            let follows = |next: usize| next > i && rows.get(next).is_some_and(|r| r.kind != RowKind::Element);
            if let Some(next) = [row.yes, row.no].into_iter().find(|&next| !follows(next)) {
                return Err(format!("row {i} leads to row {next}, expected a node after it"));
            }
            features = features.max(row.index + 1);
        } else if row.kind == RowKind::Leaf && row.yes > 0 {
            targets = elements.into_iter().flatten().fold(targets.max(row.index + 1), |n, e| n.max(e.index + 1));
        }
    }
    Ok((features, targets))
}
