//! Strings.

use optc_ir::ops::text;

use super::Table;
use crate::mapping::MapError;

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
        let case = cx.attrs.string_or("case_change_action", "NONE")?.to_lowercase();
        let case_sensitive = cx.attrs.flag("is_case_sensitive", false)?;
        let stopwords = cx.attrs.strings("stopwords")?.unwrap_or_default();
        let x = cx.input(0)?;
        Ok(vec![cx.emit1(text::StrNormalize { case, case_sensitive, stopwords }, &[x])?])
    }),
];
