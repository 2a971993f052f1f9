//! What the standard's versions of an op have, which says what is written at a version and which version is needed.
//!
//! The table is made from the standard's own schemas by `tests/tools/make_schemas.py`; its head says what a line holds.

use std::collections::HashMap;
use std::sync::LazyLock;

use optc_tensor::DType;

use crate::proto::AttributeProto;
use crate::proto::attribute_proto::AttributeType;

/// One version of an op.
pub(super) struct OpSchema {
    /// The operator set that brought it.
    pub(super) since: i64,
    /// The least and the most inputs; `None` where an operator set took the op away.
    inputs: Option<(usize, usize)>,
    /// The letters of each input's dtypes.
    dtypes: Vec<&'static str>,
    /// Names, and defaults where there are some.
    attributes: Vec<(&'static str, Option<&'static str>)>,
}

/// What is known of an operand's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OperandKind {
    /// The operand is left out, or its type is not known.
    Unknown,
    /// A tensor.
    Tensor(DType),
    /// A sequence or an optional.
    Other,
}

/// The versions of an op, from the one that is in force in the oldest operator set on.
pub(super) fn versions(op: &str) -> &'static [OpSchema] {
    static TABLE: LazyLock<HashMap<&str, Vec<OpSchema>>> = LazyLock::new(|| {
        let mut table: HashMap<&str, Vec<OpSchema>> = HashMap::new();
        for line in include_str!("schemas.txt").lines() {
            let mut words = line.split(' ');
            let Some(op) = words.next() else { continue };
            table.entry(op).or_default().extend(OpSchema::read(words));
        }
        table
    });
    TABLE.get(op).map_or(&[], Vec::as_slice)
}

/// The version of an op that an operator set has, or the first one, for an op that is newer.
pub(super) fn in_force(op: &str, opset: i64) -> Option<&'static OpSchema> {
    let versions = versions(op);
    versions.iter().rev().find(|v| v.since <= opset).or(versions.first())
}

/// The least operator set from `opset` on that has the op with these operands and attributes. Where none has it in
/// this form, the next one that has it on such a tensor, where it is written in another form; `opset` itself, or the
/// one that brought the op, where there is none: what the standard does not know cannot be checked.
pub(super) fn needed(op: &str, opset: i64, operands: &[OperandKind], attributes: &[AttributeProto]) -> i64 {
    let versions = versions(op);
    let current = versions.iter().rposition(|v| v.since <= opset).unwrap_or(0);
    let fits = |v: &&OpSchema| v.takes(operands) && attributes.iter().all(|a| v.has(a) || is_a_default(versions, a));
    let later = versions.get(current..).unwrap_or_default();
    let found = later.iter().find(fits).or_else(|| later.iter().skip(1).find(|v| v.takes_dtypes(operands.get(..1))));
    found.or(later.first()).map_or(opset, |v| v.since.max(opset))
}

/// Whether an attribute has the default that some version gives it: the others behave so without it.
fn is_a_default(versions: &[OpSchema], attribute: &AttributeProto) -> bool {
    versions.iter().any(|v| v.is_default(attribute))
}

/// Leaves out the attributes that have their defaults, and those that only other versions have.
pub(super) fn trim(op: &str, opset: i64, attributes: &mut Vec<AttributeProto>) {
    let versions = versions(op);
    if let Some(schema) = in_force(op, opset) {
        attributes.retain(|a| !schema.is_default(a) && (schema.has(a) || !is_a_default(versions, a)));
    }
}

impl OpSchema {
    /// Reads a line after its op.
    fn read(mut words: std::str::Split<'static, char>) -> Option<OpSchema> {
        let since = words.next()?.parse().ok()?;
        let Some(least) = words.next()?.parse().ok() else {
            return Some(OpSchema { since, inputs: None, dtypes: vec![], attributes: vec![] });
        };
        let most = words.next()?.parse().unwrap_or(usize::MAX);
        let mut dtypes: Vec<&str> = vec![];
        for letters in words.next()?.split(',') {
            dtypes.push(if letters == "~" { dtypes.last().copied().unwrap_or("*") } else { letters });
        }
        let attribute = |word: &'static str| match word.split_once('=') {
            Some((name, default)) => (name, Some(default)),
            None => (word, None),
        };
        Some(OpSchema { since, inputs: Some((least, most)), dtypes, attributes: words.map(attribute).collect() })
    }

    fn takes(&self, operands: &[OperandKind]) -> bool {
        let fits = |(least, most): (usize, usize)| (least..=most).contains(&operands.len());
        self.inputs.is_some_and(fits) && self.takes_dtypes(Some(operands))
    }

    fn takes_dtypes(&self, operands: Option<&[OperandKind]>) -> bool {
        let fits = |(i, operand): (usize, &OperandKind)| {
            let Some(&letters) = self.dtypes.get(i).or(self.dtypes.last()) else { return true };
            match operand {
                OperandKind::Unknown => true,
                OperandKind::Tensor(dtype) => letters == "*" || letter(*dtype).is_none_or(|l| letters.contains(l)),
                OperandKind::Other => letters == "*",
            }
        };
        operands.unwrap_or_default().iter().enumerate().all(fits)
    }

    fn has(&self, attribute: &AttributeProto) -> bool {
        self.attributes.iter().any(|(name, _)| *name == attribute.name())
    }

    fn is_default(&self, attribute: &AttributeProto) -> bool {
        let default = self.attributes.iter().find(|(name, _)| *name == attribute.name()).and_then(|(_, d)| *d);
        default.is_some_and(|default| is_written_as(attribute, default))
    }
}

fn is_written_as(attribute: &AttributeProto, text: &str) -> bool {
    match attribute.r#type() {
        AttributeType::Int => text.parse() == Ok(attribute.i()),
        AttributeType::Float => text.parse::<f64>().is_ok_and(|v| v as f32 == attribute.f()),
        AttributeType::String => attribute.s() == text.as_bytes(),
        AttributeType::Ints => format!("{:?}", attribute.ints).replace(' ', "") == text,
        _ => false,
    }
}

/// The letters of dtypes in the table.
const LETTERS: &[(DType, char)] = &[
    (DType::F32, 'f'),
    (DType::F64, 'd'),
    (DType::F16, 'e'),
    (DType::BF16, 'g'),
    (DType::I8, 'b'),
    (DType::U8, 'B'),
    (DType::I16, 'h'),
    (DType::U16, 'H'),
    (DType::I32, 'i'),
    (DType::U32, 'I'),
    (DType::I64, 'q'),
    (DType::U64, 'Q'),
    (DType::Bool, '?'),
    (DType::Str, 's'),
    (DType::I4, 'k'),
    (DType::U4, 'K'),
];

/// The letter of a dtype; one that has none is not checked.
fn letter(dtype: DType) -> Option<char> {
    LETTERS.iter().find(|(d, _)| *d == dtype).map(|&(_, letter)| letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(name: &str, i: i64) -> AttributeProto {
        let kind = Some(AttributeType::Int as i32);
        AttributeProto { name: Some(name.into()), i: Some(i), r#type: kind, ..AttributeProto::default() }
    }

    #[test]
    fn every_line_is_read_and_versions_rise() {
        let text = include_str!("schemas.txt");
        let mut ops: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        let lines = ops.len();
        ops.dedup();
        assert_eq!(ops.iter().map(|op| versions(op).len()).sum::<usize>(), lines);
        assert!(ops.iter().all(|op| versions(op).is_sorted_by(|a, b| a.since < b.since)));
        assert!(versions("Frobnicate").is_empty() && in_force("Frobnicate", 17).is_none());
    }

    #[test]
    fn the_least_version_with_the_form_is_needed() {
        let f32 = OperandKind::Tensor(DType::F32);
        assert_eq!(needed("Relu", 7, &[f32], &[]), 7);
        assert_eq!(needed("Relu", 7, &[OperandKind::Tensor(DType::I8)], &[]), 14);
        assert_eq!(needed("Relu", 22, &[f32], &[]), 22);
        assert_eq!(needed("Squeeze", 11, &[f32, OperandKind::Unknown], &[]), 13);
        assert_eq!(needed("Gelu", 17, &[f32], &[]), 20);
        assert_eq!(needed("ArgMax", 11, &[f32], &[int("select_last_index", 1)]), 12);
        assert_eq!(needed("ArgMax", 11, &[f32], &[int("select_last_index", 0)]), 11);
        assert_eq!(needed("Clip", 7, &[OperandKind::Tensor(DType::I32)], &[]), 12); // as an attribute's bounds
        assert_eq!(needed("TopK", 7, &[f32], &[int("k", 1), int("largest", 0)]), 10);
        assert_eq!(needed("Identity", 13, &[OperandKind::Other], &[]), 14);
        assert_eq!(needed("Upsample", 10, &[f32, f32], &[]), 10); // no version says more
    }

    #[test]
    fn defaults_and_attributes_of_other_versions_are_left_out() {
        let trimmed = |op: &str, opset: i64, attributes: &[AttributeProto]| {
            let mut attributes = attributes.to_vec();
            trim(op, opset, &mut attributes);
            attributes.iter().map(|a| a.name().to_owned()).collect::<Vec<_>>()
        };
        let arg = [int("axis", 0), int("keepdims", 0), int("select_last_index", 0)];
        assert_eq!(trimmed("ArgMax", 11, &arg), ["keepdims"]);
        assert_eq!(trimmed("ArgMax", 13, &[int("select_last_index", 1)]), ["select_last_index"]);
        assert_eq!(trimmed("QuantizeLinear", 10, &[int("axis", 1), int("block_size", 0)]), Vec::<String>::new());
        let cubic =
            AttributeProto { f: Some(-0.75), r#type: Some(AttributeType::Float as i32), ..int("cubic_coeff_a", 0) };
        assert_eq!(trimmed("Resize", 13, &[cubic]), Vec::<String>::new());
    }
}
