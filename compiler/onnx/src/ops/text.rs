//! Strings.

use optc_ir::TextEnum;
use optc_ir::ops::text::{self, CaseChange};

use super::Table;
use crate::attributes::meaning;
use crate::mapping::MapError;

/// ONNX's words for a change of case; in models their letters may be in any case.
pub(crate) fn onnx_case(case: CaseChange) -> &'static str {
    match case {
        CaseChange::None => "NONE",
        CaseChange::Lower => "LOWER",
        CaseChange::Upper => "UPPER",
    }
}

pub(crate) const TABLE: Table = &[
    ("", "StringConcat", |cx| {
        let operands = [cx.input(0)?, cx.input(1)?];
        Ok(vec![cx.emit1(text::StrConcat {}, &operands)?])
    }),
    ("", "StringSplit", |cx| {
        let delimiter = cx.attrs.string_or("delimiter", "")?;
        let max_split = cx.attrs.int_or("maxsplit", -1)?;
        let x = cx.input(0)?;
        cx.emit(text::StrSplit { delimiter, max_split }, &[Some(x)])
    }),
    ("", "RegexFullMatch", |cx| {
        let pattern = cx.attrs.string("pattern")?;
        let pattern = pattern.ok_or_else(|| MapError::Invalid("attribute `pattern` is missing".to_owned()))?;
        let x = cx.input(0)?;
        Ok(vec![cx.emit1(text::StrMatch { pattern }, &[x])?])
    }),
    ("", "StringNormalizer", |cx| {
        cx.attrs.ignore(&["locale"]); // the case of a character does not depend on it here
        let case = cx.attrs.string_or("case_change_action", onnx_case(CaseChange::None))?;
        let words: Vec<_> = CaseChange::ALL.iter().map(|&case| (onnx_case(case), case)).collect();
        let case = meaning("case_change_action", &case, &words, str::eq_ignore_ascii_case)?;
        let case_sensitive = cx.attrs.flag("is_case_sensitive", false)?;
        let stopwords = cx.attrs.strings("stopwords")?.unwrap_or_default();
        let x = cx.input(0)?;
        Ok(vec![cx.emit1(text::StrNormalize { case, case_sensitive, stopwords }, &[x])?])
    }),
];
