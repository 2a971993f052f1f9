//! The declaration of an op: what [`op!`](crate::op) makes of its text form.

use std::borrow::Cow;

use crate::{Attr, OpError};

/// How an operand may appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperandSpec {
    /// Always there.
    One(&'static str),
    /// May be absent.
    Optional(&'static str),
    /// Any number, at the end.
    Many(&'static str),
}

/// What [`op!`](crate::op) makes of a declaration.
pub trait Decl: Sized {
    /// `dialect.name`.
    const NAME: &'static str;
    /// The operands in order.
    const OPERANDS: &'static [OperandSpec];
    /// The attributes that differ from their defaults, by name.
    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)>;
    /// The op with these attributes.
    ///
    /// # Errors
    /// An attribute is missing, unknown or of another kind.
    fn from_attrs(attrs: Vec<(String, Attr)>) -> Result<Self, OpError>;
}

/// Declares an op: its struct, its name and the text form of its attributes.
///
/// `"dialect.name" = Struct(a, b: optional, cs: many) { attr: Type, other: Type = default }`: an operand is required,
/// or `: optional`, or `: many`; an attribute with a default is left out of the text when it has it. An attribute that
/// is one of a closed set of words is an enum, made by [`text_enum!`](crate::text_enum), never a `String`.
#[macro_export]
macro_rules! op {
    ($(#[$doc:meta])* $name:literal = $Op:ident($($operand:ident $(: $mark:ident)?),*)
     { $($(#[$adoc:meta])* $attr:ident: $T:ty $(= $default:expr)?),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub struct $Op { $($(#[$adoc])* pub $attr: $T,)* }

        impl $crate::Decl for $Op {
            const NAME: &'static str = $name;
            const OPERANDS: &'static [$crate::OperandSpec] = &[$($crate::op!(@spec $operand $($mark)?)),*];

            fn attrs(&self) -> Vec<(std::borrow::Cow<'static, str>, $crate::Attr)> {
                #[allow(unused_mut, reason = "ops without attributes")]
                let mut attrs: Vec<(std::borrow::Cow<'static, str>, $crate::Attr)> = vec![];
                $(
                    let default: Option<$T> = $crate::op!(@default $($default)?);
                    if default.as_ref() != Some(&self.$attr) {
                        let value = $crate::AttrValue::to_attr(&self.$attr);
                        attrs.push((std::borrow::Cow::Borrowed(stringify!($attr)), value));
                    }
                )*
                attrs.sort_by(|a, b| a.0.cmp(&b.0));
                attrs
            }

            fn from_attrs(attrs: Vec<(String, $crate::Attr)>) -> Result<Self, $crate::OpError> {
                #[allow(unused_mut, reason = "ops without attributes")]
                let mut attrs = attrs;
                $(
                    let default: Option<$T> = $crate::op!(@default $($default)?);
                    let $attr: $T = $crate::ops::take_attr(&mut attrs, stringify!($attr), default)?;
                )*
                $crate::ops::no_more_attrs(&attrs)?;
                Ok($Op { $($attr),* })
            }
        }
    };
    (@spec $name:ident) => { $crate::OperandSpec::One(stringify!($name)) };
    (@spec $name:ident optional) => { $crate::OperandSpec::Optional(stringify!($name)) };
    (@spec $name:ident many) => { $crate::OperandSpec::Many(stringify!($name)) };
    (@default) => { None };
    (@default $d:expr) => { Some($d) };
}

/// Takes one attribute out of a list, or its default.
#[doc(hidden)]
pub fn take_attr<T: crate::AttrValue>(
    attrs: &mut Vec<(String, Attr)>,
    name: &str,
    default: Option<T>,
) -> Result<T, OpError> {
    let error = |reason: String| OpError::Attribute { name: name.to_owned(), reason };
    match attrs.iter().position(|(n, _)| n == name) {
        Some(at) => {
            let (_, attr) = attrs.swap_remove(at);
            T::from_attr(&attr).ok_or_else(|| error(format!("{}expected {}", found(&attr), T::expected())))
        }
        None => default.ok_or_else(|| error("is missing".to_owned())),
    }
}

/// What was found instead of what an attribute may be, where it is a word or words.
fn found(attr: &Attr) -> String {
    match attr {
        Attr::Str(word) => format!("is {word:?}, "),
        Attr::Strs(words) => format!("is {words:?}, "),
        _ => String::new(),
    }
}

/// Refuses attributes that are left over.
#[doc(hidden)]
pub fn no_more_attrs(attrs: &[(String, Attr)]) -> Result<(), OpError> {
    match attrs.first() {
        None => Ok(()),
        Some((name, _)) => {
            Err(OpError::Attribute { name: name.clone(), reason: "is not an attribute of this op".to_owned() })
        }
    }
}
