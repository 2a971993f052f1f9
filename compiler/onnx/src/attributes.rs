//! Typed access to a node's attributes.
//!
//! A mapping takes every attribute that it knows with one of the typed getters; [`Attributes::finish`] then refuses
//! those that nobody took, so that an attribute is never ignored silently. References to attributes of a model-local
//! function (`ref_attr_name`) are resolved when the reader is made.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use optc_ir::{TextEnum, one_of};
use optc_tensor::Tensor;

use crate::external::ExternalFiles;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{AttributeProto, GraphProto, NodeProto, TypeProto};
use crate::tensor::{StoredTensorError, read_sparse, read_tensor};

/// Values bound to the attribute names of a function's body.
pub type Bindings = HashMap<String, AttributeProto>;

/// Why an attribute cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// It is of another type.
    #[error("attribute `{name}` is of type {found}, expected {expected}")]
    Type {
        /// The attribute.
        name: String,
        /// The type that it has.
        found: &'static str,
        /// The type that the op declares.
        expected: &'static str,
    },
    /// A required attribute is absent.
    #[error("attribute `{0}` is missing")]
    Missing(String),
    /// The op does not have these attributes.
    #[error("unknown attribute{}", list(.0))]
    Unknown(Vec<String>),
    /// The attribute occurs twice.
    #[error("attribute `{0}` is given twice")]
    Twice(String),
    /// A string is not UTF-8.
    #[error("attribute `{0}` is not UTF-8")]
    NotUtf8(String),
    /// A string is none of the words that the op knows.
    #[error("attribute `{name}` is {found:?}, expected {expected}")]
    Word {
        /// The attribute.
        name: String,
        /// What it says.
        found: String,
        /// The words.
        expected: String,
    },
    /// A tensor attribute could not be read.
    #[error("attribute `{0}`: {1}")]
    Tensor(String, StoredTensorError),
}

fn list(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|n| format!("`{n}`")).collect();
    format!("{} {}", if names.len() > 1 { "s" } else { "" }, quoted.join(", "))
}

/// The attributes of one node.
#[derive(Debug)]
pub struct Attributes<'a> {
    known: HashMap<&'a str, &'a AttributeProto>,
    taken: RefCell<BTreeSet<String>>,
}

impl<'a> Attributes<'a> {
    /// The attributes of `node`, with references looked up in `bindings`. A reference to an unbound name is an absent
    /// attribute.
    ///
    /// # Errors
    /// An attribute occurs twice.
    pub fn of(node: &'a NodeProto, bindings: &'a Bindings) -> Result<Self, AttributeError> {
        let mut known = HashMap::new();
        for attribute in &node.attribute {
            let value = match attribute.ref_attr_name() {
                "" => Some(attribute),
                reference => bindings.get(reference),
            };
            let Some(value) = value else { continue };
            if known.insert(attribute.name(), value).is_some() {
                return Err(AttributeError::Twice(attribute.name().to_owned()));
            }
        }
        Ok(Attributes { known, taken: RefCell::default() })
    }

    /// The attribute in its raw form, whatever its type.
    pub fn raw(&self, name: &str) -> Option<&'a AttributeProto> {
        self.taken.borrow_mut().insert(name.to_owned());
        self.known.get(name).copied()
    }

    /// The names of all attributes that are given, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.known.keys().map(|&name| name.to_owned()).collect();
        names.sort();
        names
    }

    /// True when the attribute is given.
    pub fn has(&self, name: &str) -> bool {
        self.known.contains_key(name)
    }

    /// Marks attributes that carry no meaning for inference as known.
    pub fn ignore(&self, names: &[&str]) {
        self.taken.borrow_mut().extend(names.iter().map(|&n| n.to_owned()));
    }

    fn typed(&self, name: &str, expected: AttributeType) -> Result<Option<&'a AttributeProto>, AttributeError> {
        let Some(a) = self.raw(name) else { return Ok(None) };
        // Files of IR version 1 may leave the type out; the fields then tell it.
        if matches!(a.r#type(), AttributeType::Undefined) || a.r#type() == expected {
            return Ok(Some(a));
        }
        let (found, expected) = (a.r#type().as_str_name(), expected.as_str_name());
        Err(AttributeError::Type { name: name.to_owned(), found, expected })
    }

    /// An integer.
    ///
    /// # Errors
    /// The attribute is of another type.
    pub fn int(&self, name: &str) -> Result<Option<i64>, AttributeError> {
        Ok(self.typed(name, AttributeType::Int)?.map(AttributeProto::i))
    }

    /// An integer, or `default` where it is absent.
    ///
    /// # Errors
    /// The attribute is of another type.
    pub fn int_or(&self, name: &str, default: i64) -> Result<i64, AttributeError> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// An integer used as a truth value.
    ///
    /// # Errors
    /// The attribute is of another type.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, AttributeError> {
        Ok(self.int(name)?.map_or(default, |v| v != 0))
    }

    /// A float.
    ///
    /// # Errors
    /// The attribute is of another type.
    pub fn float(&self, name: &str) -> Result<Option<f32>, AttributeError> {
        Ok(self.typed(name, AttributeType::Float)?.map(AttributeProto::f))
    }

    /// A float, or `default` where it is absent.
    ///
    /// # Errors
    /// The attribute is of another type.
    pub fn float_or(&self, name: &str, default: f32) -> Result<f32, AttributeError> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    /// A list of integers.
    ///
    /// # Errors
    /// The attribute is of another type.
    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, AttributeError> {
        Ok(self.typed(name, AttributeType::Ints)?.map(|a| a.ints.clone()))
    }

    /// A list of floats.
    ///
    /// # Errors
    /// The attribute is of another type.
    pub fn floats(&self, name: &str) -> Result<Option<Vec<f32>>, AttributeError> {
        Ok(self.typed(name, AttributeType::Floats)?.map(|a| a.floats.clone()))
    }

    /// A string.
    ///
    /// # Errors
    /// The attribute is of another type or not UTF-8.
    pub fn string(&self, name: &str) -> Result<Option<String>, AttributeError> {
        self.typed(name, AttributeType::String)?.map(|a| utf8(name, a.s())).transpose()
    }

    /// A string, or `default` where it is absent.
    ///
    /// # Errors
    /// The attribute is of another type or not UTF-8.
    pub fn string_or(&self, name: &str, default: &str) -> Result<String, AttributeError> {
        Ok(self.string(name)?.unwrap_or_else(|| default.to_owned()))
    }

    /// A word that the IR spells like ONNX, or `default` where it is absent.
    ///
    /// # Errors
    /// The attribute is of another type or none of the words.
    pub fn text_or<T: TextEnum>(&self, name: &str, default: T) -> Result<T, AttributeError> {
        let words: Vec<_> = T::ALL.iter().map(|&value| (value.as_str(), value)).collect();
        self.word_or(name, &words, default)
    }

    /// What stands beside the attribute's word in a list, or `default` where it is absent.
    ///
    /// # Errors
    /// The attribute is of another type or none of the words.
    pub fn word_or<T: Copy>(&self, name: &str, words: &[(&str, T)], default: T) -> Result<T, AttributeError> {
        self.string(name)?.map_or(Ok(default), |found| meaning(name, &found, words, |a, b| a == b))
    }

    /// A list of strings.
    ///
    /// # Errors
    /// The attribute is of another type or not UTF-8.
    pub fn strings(&self, name: &str) -> Result<Option<Vec<String>>, AttributeError> {
        let Some(a) = self.typed(name, AttributeType::Strings)? else { return Ok(None) };
        a.strings.iter().map(|s| utf8(name, s)).collect::<Result<_, _>>().map(Some)
    }

    /// A tensor.
    ///
    /// # Errors
    /// The attribute is of another type, or the tensor cannot be read.
    pub fn tensor(&self, name: &str, files: &ExternalFiles) -> Result<Option<Tensor>, AttributeError> {
        let Some(t) = self.typed(name, AttributeType::Tensor)?.and_then(|a| a.t.as_ref()) else { return Ok(None) };
        read_tensor(t, files).map(Some).map_err(|e| AttributeError::Tensor(name.to_owned(), e))
    }

    /// A subgraph.
    ///
    /// # Errors
    /// The attribute is absent or of another type.
    pub fn graph(&self, name: &str) -> Result<&'a GraphProto, AttributeError> {
        let a = self.typed(name, AttributeType::Graph)?;
        a.and_then(|a| a.g.as_ref()).ok_or_else(|| AttributeError::Missing(name.to_owned()))
    }

    /// A value type.
    ///
    /// # Errors
    /// The attribute is of another type.
    pub fn type_proto(&self, name: &str) -> Result<Option<&'a TypeProto>, AttributeError> {
        Ok(self.typed(name, AttributeType::TypeProto)?.and_then(|a| a.tp.as_ref()))
    }

    /// The value of a `Constant` node, in any of its spellings; `None` when it is not a tensor.
    ///
    /// # Errors
    /// No spelling is given, or the tensor cannot be read.
    pub fn constant(&self, files: &ExternalFiles) -> Result<Tensor, AttributeError> {
        let wrong = |e: optc_tensor::TensorError| AttributeError::Tensor("value".to_owned(), e.into());
        if let Some(t) = self.tensor("value", files)? {
            return Ok(t);
        }
        if let Some(a) = self.typed("sparse_value", AttributeType::SparseTensor)?.and_then(|a| a.sparse_tensor.as_ref())
        {
            return read_sparse(a, files).map_err(|e| AttributeError::Tensor("sparse_value".to_owned(), e));
        }
        if let Some(v) = self.float("value_float")? {
            return Ok(Tensor::scalar(v));
        }
        if let Some(v) = self.int("value_int")? {
            return Ok(Tensor::scalar(v));
        }
        if let Some(v) = self.floats("value_floats")? {
            return Tensor::from_slice(&[v.len()], &v).map_err(wrong);
        }
        if let Some(v) = self.ints("value_ints")? {
            return Tensor::from_slice(&[v.len()], &v).map_err(wrong);
        }
        if let Some(v) = self.string("value_string")? {
            return Tensor::from_strings(&[], vec![v]).map_err(wrong);
        }
        if let Some(v) = self.strings("value_strings")? {
            return Tensor::from_strings(&[v.len()], v).map_err(wrong);
        }
        Err(AttributeError::Missing("value".to_owned()))
    }

    /// Refuses attributes that no getter asked for.
    ///
    /// # Errors
    /// There is such an attribute; all of them are named.
    pub fn finish(&self) -> Result<(), AttributeError> {
        let taken = self.taken.borrow();
        let mut rest: Vec<_> = self.known.keys().filter(|k| !taken.contains(**k)).map(|k| (*k).to_owned()).collect();
        rest.sort();
        if rest.is_empty() { Ok(()) } else { Err(AttributeError::Unknown(rest)) }
    }
}

/// What stands beside the word `found` of attribute `name` in a list; `same` compares words.
///
/// # Errors
/// It is none of the words.
pub(crate) fn meaning<T: Copy>(
    name: &str,
    found: &str,
    words: &[(&str, T)],
    same: fn(&str, &str) -> bool,
) -> Result<T, AttributeError> {
    let word = words.iter().find(|(word, _)| same(word, found));
    word.map(|&(_, value)| value).ok_or_else(|| AttributeError::Word {
        name: name.to_owned(),
        found: found.to_owned(),
        expected: one_of(words.iter().map(|&(word, _)| word)),
    })
}

fn utf8(name: &str, bytes: &[u8]) -> Result<String, AttributeError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| AttributeError::NotUtf8(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(name: &str, i: i64) -> AttributeProto {
        let r#type = Some(AttributeType::Int as i32);
        AttributeProto { name: Some(name.into()), i: Some(i), r#type, ..AttributeProto::default() }
    }

    fn node(attribute: Vec<AttributeProto>) -> NodeProto {
        NodeProto { attribute, ..NodeProto::default() }
    }

    #[test]
    fn untaken_attributes_are_refused_by_name() {
        let (n, none) = (node(vec![int("axis", 1), int("zeta", 2), int("beta", 3)]), Bindings::new());
        let a = Attributes::of(&n, &none).unwrap();
        assert_eq!(a.int_or("axis", 0), Ok(1));
        assert_eq!(a.int_or("absent", 7), Ok(7));
        let error = a.finish().unwrap_err();
        assert_eq!(error.to_string(), "unknown attributes `beta`, `zeta`");
        a.ignore(&["beta", "zeta"]);
        assert_eq!(a.finish(), Ok(()));
    }

    #[test]
    fn wrong_types_say_found_and_expected() {
        let (n, none) = (node(vec![int("alpha", 1)]), Bindings::new());
        let error = Attributes::of(&n, &none).unwrap().float("alpha").unwrap_err();
        assert_eq!(error.to_string(), "attribute `alpha` is of type INT, expected FLOAT");
    }

    #[test]
    fn an_unknown_word_says_the_words_that_are_expected() {
        let s = Some(bytes::Bytes::from_static(b"mirror"));
        let mode = AttributeProto { name: Some("mode".into()), s, ..AttributeProto::default() };
        let (n, none) = (node(vec![mode]), Bindings::new());
        let a = Attributes::of(&n, &none).unwrap();
        assert_eq!(a.word_or("absent", &[("on", true)], false), Ok(false));
        assert_eq!(a.word_or("mode", &[("flat", 0), ("mirror", 1)], 0), Ok(1));
        let error = a.text_or("mode", optc_ir::ops::tensor::PadMode::Constant).unwrap_err();
        let expected = r#"expected one of "constant", "edge", "reflect", "wrap""#;
        assert_eq!(error.to_string(), format!("attribute `mode` is \"mirror\", {expected}"));
    }

    #[test]
    fn references_resolve_to_the_callers_values() {
        let reference = |to: &str| AttributeProto { ref_attr_name: Some(to.to_owned()), ..int("axis", 0) };
        let bindings = Bindings::from([("outer".to_owned(), int("outer", 5))]);
        let n = node(vec![reference("outer")]);
        assert_eq!(Attributes::of(&n, &bindings).unwrap().int("axis"), Ok(Some(5)));
        let n = node(vec![reference("unbound")]);
        assert_eq!(Attributes::of(&n, &bindings).unwrap().int("axis"), Ok(None));
    }

    #[test]
    fn constants_have_many_spellings() {
        let (n, none) = (node(vec![int("value_int", 3)]), Bindings::new());
        let t = Attributes::of(&n, &none).unwrap().constant(&ExternalFiles::none()).unwrap();
        assert_eq!((t.to_i64_vec(), t.rank()), (vec![3], 0));
        let n = node(vec![]);
        let a = Attributes::of(&n, &none).unwrap();
        assert_eq!(a.constant(&ExternalFiles::none()), Err(AttributeError::Missing("value".to_owned())));
    }
}
