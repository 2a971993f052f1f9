//! `str`: ops on strings.

mod ngrams;

pub use ngrams::*;
use optc_tensor::{DType, Tensor, broadcast_shapes};

use crate::ops::math::broadcast_types;
use crate::ops::number::checked_len;
use crate::ops::tensor::Expand;
use crate::{Args, Dim, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op, text_enum};

/// The tensor type of operand `slot`, whose elements must be strings.
fn strings<'a>(cx: &InferCx<'a>, slot: usize) -> Result<&'a TensorType, OpError> {
    let t = cx.tensor(slot)?;
    ensure!(t.dtype == DType::Str, "C1", "operand {slot} is {t}, expected strings");
    Ok(t)
}

op! {
    /// Each string of `a` with the string of `b` after it, broadcast.
    ///
    /// - (C1) The operands are strings and their shapes broadcast.
    "str.concat" = StrConcat(a, b) {}
}

impl Semantics for StrConcat {
    const FACTS: Facts<StrConcat> = Facts::host("strings are values of the host").with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let shape = broadcast_types(strings(cx, 0)?, strings(cx, 1)?)?;
        Ok(vec![TensorType::of(DType::Str, shape).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (a, b) = (args.tensor(0)?, args.tensor(1)?);
        let shape = broadcast_shapes(a.shape(), b.shape());
        ensure!(shape.is_some(), "C1", "{:?} and {:?} do not broadcast", a.shape(), b.shape());
        let shape = shape.unwrap_or_default();
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let expand = |t: &Tensor| {
            let dims = Tensor::from_slice(&[dims.len()], &dims)?;
            Expand {}.eval(&Args::plain(&[Some(t.clone().into()), Some(dims.into())]))
        };
        let (a, b) = (expand(a)?, expand(b)?);
        let all = |v: &[Val]| v.first().and_then(Val::as_tensor).map(|t| t.strings().map(<[_]>::to_vec)).transpose();
        let (a, b) = (all(&a)?.unwrap_or_default(), all(&b)?.unwrap_or_default());
        let joined = a.into_iter().zip(b).map(|(a, b)| a + &b).collect();
        Ok(vec![Tensor::from_strings(&shape, joined)?.into()])
    }
}

op! {
    /// The parts of each string of `x` along a new last axis, filled up with empty strings, and the number of parts of
    /// each.
    ///
    /// - (C1) `x` has strings.
    "str.split" = StrSplit(x) {
        /// What stands between the parts; empty for runs of blanks.
        delimiter: String = String::new(),
        /// The most splits that are made, from the start; negative for no limit.
        max_split: i64 = -1,
    }
}

impl StrSplit {
    fn parts(&self, text: &str) -> Vec<String> {
        let limit = usize::try_from(self.max_split).map_or(usize::MAX, |n| n.saturating_add(1));
        if text.is_empty() {
            return vec![];
        }
        if !self.delimiter.is_empty() {
            return text.splitn(limit, &self.delimiter).map(str::to_owned).collect();
        }
        let (mut parts, mut rest) = (vec![], text.trim());
        while !rest.is_empty() && parts.len() + 1 < limit {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            parts.push(rest[..end].to_owned());
            rest = rest[end..].trim_start();
        }
        if !rest.is_empty() {
            parts.push(rest.to_owned());
        }
        parts
    }
}

impl Semantics for StrSplit {
    const FACTS: Facts<StrSplit> = Facts::host("strings are values of the host").with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = strings(cx, 0)?;
        let parts = x.shape.clone().map(|mut shape| {
            shape.push(Dim::Unknown);
            shape
        });
        Ok(vec![TensorType::of(DType::Str, parts).into(), TensorType::of(DType::I64, x.shape.clone()).into()])
    }

    /// Each byte of text may be a part: a string with a place in a list, twice.
    fn working_bytes(&self, operands: usize, results: usize) -> usize {
        operands.saturating_mul(8 * 2 * size_of::<String>()).saturating_add(results)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        let parts: Vec<Vec<String>> = x.strings()?.iter().map(|s| self.parts(s)).collect();
        let longest = parts.iter().map(Vec::len).max().unwrap_or(0);
        let counts: Vec<i64> = parts.iter().map(|p| p.len() as i64).collect();
        checked_len(DType::Str, &[parts.len(), longest])?;
        let filled = parts.into_iter().flat_map(|mut p| {
            p.resize(longest, String::new());
            p
        });
        let mut shape = x.shape().to_vec();
        shape.push(longest);
        let parts = Tensor::from_strings(&shape, filled.collect())?;
        Ok(vec![parts.into(), Tensor::from_slice(x.shape(), &counts)?.into()])
    }
}

op! {
    /// Whether the whole of each string of `x` matches `pattern`.
    ///
    /// - (C1) `x` has strings.
    /// - (C2) `pattern` is a regular expression.
    "str.match" = StrMatch(x) {
        /// The regular expression.
        pattern: String,
    }
}

impl StrMatch {
    fn regex(&self) -> Result<regex::Regex, OpError> {
        let regex = regex::Regex::new(&format!("^(?:{})$", self.pattern));
        regex.map_err(|e| OpError::Constraint { constraint: "C2", reason: e.to_string() })
    }
}

impl Semantics for StrMatch {
    const FACTS: Facts<StrMatch> = Facts::host("strings are values of the host").with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        self.regex()?;
        Ok(vec![TensorType::of(DType::Bool, strings(cx, 0)?.shape.clone()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, regex) = (args.tensor(0)?, self.regex()?);
        let found: Vec<bool> = x.strings()?.iter().map(|s| regex.is_match(s)).collect();
        Ok(vec![Tensor::from_bools(x.shape(), &found)?.into()])
    }
}

text_enum! {
    /// What becomes of the case of strings.
    pub enum CaseChange {
        /// It stays.
        None = "none",
        /// All letters are lower case.
        Lower = "lower",
        /// All letters are upper case.
        Upper = "upper",
    }
}

op! {
    /// The strings of `x` that are not among `stopwords`, in another case. Where none is left, one empty string.
    ///
    /// - (C1) `x` has strings, and the shape `[n]` or `[1, n]`.
    /// - (C2) `case` is `none`, `lower` or `upper`.
    "str.normalize" = StrNormalize(x) {
        /// The case to change to.
        case: CaseChange = CaseChange::None,
        /// Whether stopwords are compared by case.
        case_sensitive: bool = false,
        /// What to leave out.
        stopwords: Vec<String> = vec![],
    }
}

impl Semantics for StrNormalize {
    const FACTS: Facts<StrNormalize> = Facts::host("strings are values of the host").with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = strings(cx, 0)?;
        let shape = x.shape.clone().map(|mut shape| {
            shape.iter_mut().next_back().into_iter().for_each(|last| *last = Dim::Unknown);
            shape
        });
        Ok(vec![TensorType::of(DType::Str, shape).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        ensure!(matches!(x.shape(), [_] | [1, _]), "C1", "the shape is {:?}", x.shape());
        let key = |s: &str| if self.case_sensitive { s.to_owned() } else { s.to_lowercase() };
        let stop: Vec<String> = self.stopwords.iter().map(|s| key(s)).collect();
        let kept = x.strings()?.iter().filter(|s| !stop.contains(&key(s)));
        let mut kept: Vec<String> = match self.case {
            CaseChange::None => kept.cloned().collect(),
            CaseChange::Lower => kept.map(|s| s.to_lowercase()).collect(),
            CaseChange::Upper => kept.map(|s| s.to_uppercase()).collect(),
        };
        if kept.is_empty() {
            kept.push(String::new());
        }
        let mut shape = x.shape().to_vec();
        shape.iter_mut().next_back().into_iter().for_each(|last| *last = kept.len());
        Ok(vec![Tensor::from_strings(&shape, kept)?.into()])
    }
}
