//! The rows of a forest's table.

/// Numbers of a row: its kind, its index, its value, the rows of the test that holds and of the one that does not, and
/// whether a missing value counts as one for which the test holds.
pub(super) const COLUMNS: usize = 6;

/// What a row of a [`Forest`](super::Forest) is; its number is the first in the row.
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

/// A row of a [`Forest`](super::Forest).
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

    pub(super) fn numbers(&self) -> [f64; COLUMNS] {
        let missing = f64::from(u8::from(self.missing));
        [f64::from(self.kind as u8), self.index as f64, self.value, self.yes as f64, self.no as f64, missing]
    }

    pub(super) fn read(numbers: &[f64]) -> Option<Row> {
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
