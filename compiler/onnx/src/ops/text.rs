//! Strings.

use optc_ir::ops::text::{self, CaseChange, NgramMode};
use optc_ir::{Const, Real, TextEnum};
use optc_tensor::Tensor;

use super::{Mapped, Table};
use crate::attributes::meaning;
use crate::mapping::{MapError, NodeCx};

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
    ("", "TfIdfVectorizer", ngrams),
];

/// ONNX's words for what is made of counts.
pub(crate) fn onnx_ngram_mode(mode: NgramMode) -> &'static str {
    match mode {
        NgramMode::Tf => "TF",
        NgramMode::Idf => "IDF",
        NgramMode::TfIdf => "TFIDF",
    }
}

/// Weights are those of the n-grams, as the standard has it and ONNX Runtime, not of the result's columns.
fn ngrams(cx: &mut NodeCx) -> Mapped {
    let missing = |name: &str| MapError::Invalid(format!("attribute `{name}` is missing"));
    let int = |name: &str| cx.attrs.int(name)?.ok_or_else(|| missing(name));
    let (min_length, max_length) = (int("min_gram_length")?, int("max_gram_length")?);
    let max_skip = int("max_skip_count")?;
    let starts = cx.attrs.ints("ngram_counts")?.ok_or_else(|| missing("ngram_counts"))?;
    let columns = cx.attrs.ints("ngram_indexes")?.ok_or_else(|| missing("ngram_indexes"))?;
    let weights = cx.attrs.floats("weights")?.unwrap_or_default().into_iter().map(Real).collect();
    let word = cx.attrs.string("mode")?.ok_or_else(|| missing("mode"))?;
    let words: Vec<_> = NgramMode::ALL.iter().map(|&mode| (onnx_ngram_mode(mode), mode)).collect();
    let mode = meaning("mode", &word, &words, |a, b| a == b)?;
    let pool = match (cx.attrs.ints("pool_int64s")?, cx.attrs.strings("pool_strings")?) {
        (Some(pool), None) => Tensor::from_slice(&[pool.len()], &pool)?,
        (None, Some(pool)) => Tensor::from_strings(&[pool.len()], pool)?,
        _ => return Err(MapError::Invalid("one of `pool_int64s` and `pool_strings` is expected".to_owned())),
    };
    let pool = Const(pool);
    let op = text::Ngrams { columns, max_length, max_skip, min_length, mode, pool, starts, weights };
    let x = cx.input(0)?;
    Ok(vec![cx.emit1(op, &[x])?])
}
