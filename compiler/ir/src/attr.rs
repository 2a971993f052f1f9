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
    const EXPECTED: &'static str;
    /// To the dynamic form.
    fn to_attr(&self) -> Attr;
    /// From the dynamic form; `None` when it is of another kind.
    fn from_attr(attr: &Attr) -> Option<Self>;
}

macro_rules! attr_value {
    ($($T:ty, $V:ident, $expected:literal;)*) => {$(
        impl AttrValue for $T {
            const EXPECTED: &'static str = $expected;
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
    const EXPECTED: &'static str = "a list of floats";
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
    const EXPECTED: &'static str = "a list of strings";
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
