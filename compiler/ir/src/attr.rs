//! Attributes: compile-time parameters of an op, with one text form each.

use std::fmt;
use std::hash::{Hash, Hasher};

use optc_tensor::{DType, Tensor};

use crate::Type;

/// A float attribute, compared and hashed by its bits so that ops can be keys.
#[derive(Clone, Copy)]
pub struct Real(pub f32);

impl PartialEq for Real {
    fn eq(&self, other: &Real) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}
impl Eq for Real {}
impl Hash for Real {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.0.to_bits().hash(h);
    }
}
impl fmt::Debug for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A constant tensor, compared by content.
#[derive(Debug, Clone, PartialEq)]
pub struct Const(pub Tensor);
impl Eq for Const {}
impl Hash for Const {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.0.dtype().hash(h);
        self.0.shape().hash(h);
        self.0.bytes().get(..64.min(self.0.bytes().len())).hash(h);
    }
}

/// An attribute's value in its dynamic form, as the text form spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attr {
    /// An integer: `3`.
    Int(i64),
    /// A float: `0.5`.
    Real(Real),
    /// `true` or `false`.
    Bool(bool),
    /// A string in quotes.
    Str(String),
    /// A list of integers: `[1, 2]`.
    Ints(Vec<i64>),
    /// A list of floats: `[1.0, 2.5]`.
    Reals(Vec<Real>),
    /// A list of strings: `["a", "b"]`.
    Strs(Vec<String>),
    /// A dtype: `f32`.
    DType(DType),
    /// A type: `tensor<2xf32>`.
    Type(Type),
    /// A constant: `dense<[1, 2]>`, `dense<0>` of equal elements, or `@symbol`.
    Const(Const),
}

/// A Rust type that an op's attribute may have.
pub trait AttrValue: Sized {
    /// What the text form expects, for errors.
    fn expected() -> String;
    /// To the dynamic form.
    fn to_attr(&self) -> Attr;
    /// From the dynamic form; `None` when it is of another kind.
    fn from_attr(attr: &Attr) -> Option<Self>;
}

macro_rules! attr_value {
    ($($T:ty, $V:ident, $expected:literal;)*) => {$(
        impl AttrValue for $T {
            fn expected() -> String { $expected.to_owned() }
            fn to_attr(&self) -> Attr { Attr::$V(self.clone()) }
            fn from_attr(attr: &Attr) -> Option<Self> { if let Attr::$V(v) = attr { Some(v.clone()) } else { None } }
        }
    )*};
}
attr_value! {
    i64, Int, "an integer";
    Real, Real, "a float";
    bool, Bool, "true or false";
    String, Str, "a string";
    Vec<i64>, Ints, "a list of integers";
    DType, DType, "a dtype";
    Type, Type, "a type";
    Const, Const, "a constant";
}

impl AttrValue for Vec<Real> {
    fn expected() -> String {
        "a list of floats".to_owned()
    }
    fn to_attr(&self) -> Attr {
        Attr::Reals(self.clone())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::Reals(v) => Some(v.clone()),
            // `[]` and `[1, 2]` have no point that would tell them from lists of integers.
            Attr::Ints(v) => Some(v.iter().map(|&i| Real(i as f32)).collect()),
            _ => None,
        }
    }
}

impl AttrValue for Vec<String> {
    fn expected() -> String {
        "a list of strings".to_owned()
    }
    fn to_attr(&self) -> Attr {
        Attr::Strs(self.clone())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::Strs(v) => Some(v.clone()),
            Attr::Ints(v) if v.is_empty() => Some(vec![]),
            _ => None,
        }
    }
}

/// A closed set of words: an attribute that is one of them is an enum, which [`text_enum!`](crate::text_enum) declares.
pub trait TextEnum: Copy + 'static {
    /// All of them, in the order of their declaration.
    const ALL: &'static [Self];

    /// The word, as it stands between the quotes of the text form.
    fn as_str(self) -> &'static str;

    /// The one with this spelling.
    fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|v| v.as_str() == text)
    }

    /// The words, for errors: `one of "max", "mean"`.
    fn words() -> String {
        one_of(Self::ALL.iter().map(|v| v.as_str()))
    }
}

/// Words that are expected, for errors: `one of "max", "mean"`.
pub fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    format!("one of {}", words.map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", "))
}

impl<T: TextEnum> AttrValue for T {
    fn expected() -> String {
        T::words()
    }
    fn to_attr(&self) -> Attr {
        Attr::Str(self.as_str().to_owned())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        if let Attr::Str(text) = attr { T::from_text(text) } else { None }
    }
}

impl<T: TextEnum> AttrValue for Vec<T> {
    fn expected() -> String {
        format!("a list of words, each {}", T::words())
    }
    fn to_attr(&self) -> Attr {
        Attr::Strs(self.iter().map(|v| v.as_str().to_owned()).collect())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        Vec::<String>::from_attr(attr)?.iter().map(|text| T::from_text(text)).collect()
    }
}

/// Declares a closed set of words as an enum: `pub enum PoolKind { Max = "max", Mean = "mean" }`, everything with its
/// documentation. It prints as its word; see [`TextEnum`](crate::TextEnum).
#[macro_export]
macro_rules! text_enum {
    ($(#[$doc:meta])* pub enum $Name:ident { $($(#[$vdoc:meta])* $Variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $Name { $($(#[$vdoc])* $Variant),* }

        impl $crate::TextEnum for $Name {
            const ALL: &'static [$Name] = &[$($Name::$Variant),*];

            fn as_str(self) -> &'static str {
                match self { $($Name::$Variant => $word),* }
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($crate::TextEnum::as_str(*self))
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    text_enum! {
        /// Two words.
        pub enum Pair {
            /// The first.
            Left = "left",
            /// The second.
            Right = "right_hand",
        }
    }

    #[test]
    fn words_are_read_as_they_are_printed() {
        for &word in Pair::ALL {
            assert_eq!((Pair::from_text(word.as_str()), Pair::from_attr(&word.to_attr())), (Some(word), Some(word)));
        }
        assert_eq!(Pair::Right.to_string(), "right_hand");
        assert_eq!((Pair::from_text("Left"), Pair::from_attr(&Attr::Int(0))), (None, None));
        assert_eq!(Pair::expected(), r#"one of "left", "right_hand""#);
    }

    #[test]
    fn a_list_has_known_words_alone() {
        let list = vec![Pair::Right, Pair::Left];
        assert_eq!(Vec::from_attr(&list.to_attr()), Some(list));
        assert_eq!(Vec::<Pair>::from_attr(&Attr::Ints(vec![])), Some(vec![]));
        assert_eq!(Vec::<Pair>::from_attr(&Attr::Strs(vec!["left".to_owned(), "middle".to_owned()])), None);
    }
}
