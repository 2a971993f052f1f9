//! The nodes of decision trees, as an attribute: one table, checked once, and flattened for the walk once.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use optc_tensor::{DType, Tensor, TensorError};

use super::flat::{Flat, Score};
use super::row::{COLUMNS, Row, RowKind};
use crate::{Attr, AttrValue, Const};

/// The most rows: the walk numbers its nodes by 32 bits, and a test takes several of them.
const MAX_ROWS: usize = 1 << 26;

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
