//! Value types: tensors with known, named or unknown dims, sequences and optionals.

use std::fmt;
use std::sync::Arc;

use optc_tensor::DType;

/// One extent of a shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A concrete extent.
    Known(usize),
    /// A symbol: equal names are equal extents within one graph.
    Named(Arc<str>),
    /// Nothing is known.
    Unknown,
}

/// The largest extent: what positions, which are signed in ONNX, can reach.
pub const MAX_EXTENT: usize = i64::MAX as usize;

impl Dim {
    /// The extent where it is concrete.
    pub fn known(&self) -> Option<usize> {
        if let Dim::Known(n) = self { Some(*n) } else { None }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Known(n) => write!(f, "{n}"),
            Dim::Named(name) if is_plain_symbol(name) => f.write_str(name),
            Dim::Named(name) => write!(f, "{name:?}"),
            Dim::Unknown => f.write_str("?"),
        }
    }
}

/// True for a symbol that prints without quotes: letters, digits and `_`, without an `x`, which separates dims.
fn is_plain_symbol(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_uppercase() || c == '_')
        && chars.all(|c| (c.is_ascii_alphanumeric() || c == '_') && c != 'x')
}

/// How a tensor's elements lie in memory. The shape, and with it the meaning of every op, stays the logical one: an
/// encoding changes no result, and the interpreter does not look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// Row-major in the order of the shape.
    #[default]
    Plain,
    /// Channels last: axis 1 of `[N, C, D…]` is the fastest. Prints as `nhwc`.
    Nhwc,
    /// `[N, C/4, D…, 4]`, channels padded to a multiple of four. Prints as `nchw4c`.
    Nchw4c,
    /// Block compressed sparse rows with blocks of `rows × cols`. Prints as `bcsr<4x1>`.
    Bcsr {
        /// Rows of a block.
        rows: u8,
        /// Columns of a block.
        cols: u8,
    },
}

impl Encoding {
    /// Whether a tensor of `rank` dims may have this encoding.
    pub fn fits(self, rank: usize) -> bool {
        match self {
            Encoding::Plain => true,
            Encoding::Nhwc | Encoding::Nchw4c => rank >= 3,
            Encoding::Bcsr { rows, cols } => rank >= 2 && rows > 0 && cols > 0,
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Encoding::Plain => f.write_str("plain"),
            Encoding::Nhwc => f.write_str("nhwc"),
            Encoding::Nchw4c => f.write_str("nchw4c"),
            Encoding::Bcsr { rows, cols } => write!(f, "bcsr<{rows}x{cols}>"),
        }
    }
}

/// The type of a tensor value: dtype, shape and how it lies in memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// The element type.
    pub dtype: DType,
    /// The extents; `None` for a tensor of unknown rank.
    pub shape: Option<Vec<Dim>>,
    /// The layout in memory.
    pub encoding: Encoding,
}

impl TensorType {
    /// A type with a concrete shape.
    pub fn fixed(dtype: DType, shape: &[usize]) -> TensorType {
        TensorType::of(dtype, Some(shape.iter().map(|&n| Dim::Known(n)).collect()))
    }

    /// A type with the given dims.
    pub fn new(dtype: DType, shape: Vec<Dim>) -> TensorType {
        TensorType::of(dtype, Some(shape))
    }

    /// A type of unknown rank.
    pub fn unranked(dtype: DType) -> TensorType {
        TensorType::of(dtype, None)
    }

    /// A plainly laid out type of this dtype and shape.
    pub fn of(dtype: DType, shape: Option<Vec<Dim>>) -> TensorType {
        TensorType { dtype, shape, encoding: Encoding::Plain }
    }

    /// The same type in another layout.
    pub fn with_encoding(mut self, encoding: Encoding) -> TensorType {
        self.encoding = encoding;
        self
    }

    /// The rank where it is known.
    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// The shape where every extent is concrete.
    pub fn static_shape(&self) -> Option<Vec<usize>> {
        self.shape.as_ref()?.iter().map(Dim::known).collect()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensor<")?;
        match &self.shape {
            None => f.write_str("*x")?,
            Some(dims) => dims.iter().try_for_each(|d| write!(f, "{d}x"))?,
        }
        write!(f, "{}", self.dtype)?;
        match self.encoding {
            Encoding::Plain => f.write_str(">"),
            encoding => write!(f, ", {encoding}>"),
        }
    }
}

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// A tensor.
    Tensor(TensorType),
    /// A sequence of values of one type.
    Sequence(Box<Type>),
    /// A value or nothing.
    Optional(Box<Type>),
}

impl Type {
    /// The tensor type, where it is one.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        if let Type::Tensor(t) = self { Some(t) } else { None }
    }

    /// How a tensor's elements lie; plain for values that are not tensors.
    pub fn encoding(&self) -> Encoding {
        self.as_tensor().map_or(Encoding::Plain, |t| t.encoding)
    }

    /// True when a result of type `other` may be declared as `self`: one [admits](Type::admits) the other, and both lie
    /// in memory alike.
    pub fn accepts(&self, other: &Type) -> bool {
        self.encoding() == other.encoding() && self.admits(other)
    }

    /// True when a value of type `other` may be given where `self` is declared: same kinds and dtypes, no two concrete
    /// extents that differ. A dim that either leaves open (`?`, a name, an unknown rank) fits any, since what it turns
    /// out to be is looked at when the value is there. A value stands for the optional that holds it. How elements lie
    /// does not matter: values are handed over plain.
    pub fn admits(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Tensor(a), Type::Tensor(b)) => {
                let dims = match (&a.shape, &b.shape) {
                    (Some(a), Some(b)) => {
                        a.len() == b.len()
                            && a.iter().zip(b).all(|(a, b)| match (a.known(), b.known()) {
                                (Some(a), Some(b)) => a == b,
                                _ => true,
                            })
                    }
                    _ => true,
                };
                a.dtype == b.dtype && dims
            }
            (Type::Sequence(a), Type::Sequence(b)) | (Type::Optional(a), Type::Optional(b)) => a.admits(b),
            (Type::Optional(a), b) => a.admits(b),
            _ => false,
        }
    }

    /// An extent of a tensor that positions do not reach all of ([`MAX_EXTENT`]).
    pub fn oversized(&self) -> Option<usize> {
        let mut extents = self.as_tensor()?.shape.iter().flatten().filter_map(Dim::known);
        extents.find(|&n| n > MAX_EXTENT)
    }

    /// The same type, plainly laid out.
    pub fn plain(&self) -> Type {
        match self {
            Type::Tensor(t) => t.clone().with_encoding(Encoding::Plain).into(),
            Type::Sequence(t) => Type::Sequence(Box::new(t.plain())),
            Type::Optional(t) => Type::Optional(Box::new(t.plain())),
        }
    }

    /// The narrowest type that covers `self` and `other`; `None` when their kinds or dtypes differ.
    pub fn join(&self, other: &Type) -> Option<Type> {
        match (self, other) {
            (Type::Tensor(a), Type::Tensor(b)) if a.dtype == b.dtype => {
                let shape = match (&a.shape, &b.shape) {
                    (Some(a), Some(b)) if a.len() == b.len() => {
                        let join = |(a, b): (&Dim, &Dim)| if a == b { a.clone() } else { Dim::Unknown };
                        Some(a.iter().zip(b).map(join).collect())
                    }
                    _ => None,
                };
                let encoding = if a.encoding == b.encoding { a.encoding } else { Encoding::Plain };
                Some(TensorType { dtype: a.dtype, shape, encoding }.into())
            }
            (Type::Sequence(a), Type::Sequence(b)) => Some(Type::Sequence(Box::new(a.join(b)?))),
            (Type::Optional(a), Type::Optional(b)) => Some(Type::Optional(Box::new(a.join(b)?))),
            (Type::Optional(a), b) | (b, Type::Optional(a)) => Some(Type::Optional(Box::new(a.join(b)?))),
            _ => None,
        }
    }

    /// True when every value of type `other` is one of `self`: nothing that `self` says is left open by `other`.
    pub fn covers(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Tensor(a), Type::Tensor(b)) => {
                let dims = match (&a.shape, &b.shape) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(a), Some(b)) => {
                        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| *a == Dim::Unknown || a == b)
                    }
                };
                a.dtype == b.dtype && dims
            }
            (Type::Sequence(a), Type::Sequence(b)) | (Type::Optional(a), Type::Optional(b)) => a.covers(b),
            (Type::Optional(a), b) => a.covers(b),
            _ => false,
        }
    }

    /// The type of the same kind and dtype that says nothing of shapes.
    pub fn widest(&self) -> Type {
        match self {
            Type::Tensor(t) => TensorType::unranked(t.dtype).into(),
            Type::Sequence(t) => Type::Sequence(Box::new(t.widest())),
            Type::Optional(t) => Type::Optional(Box::new(t.widest())),
        }
    }
}

impl From<TensorType> for Type {
    fn from(t: TensorType) -> Type {
        Type::Tensor(t)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(t) => t.fmt(f),
            Type::Sequence(t) => write!(f, "seq<{t}>"),
            Type::Optional(t) => write!(f, "opt<{t}>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(dims: &[Dim]) -> Type {
        TensorType::new(DType::F32, dims.to_vec()).into()
    }

    #[test]
    fn a_join_covers_both_sides() {
        let (four, n) = (Dim::Known(4), Dim::Named("N".into()));
        let types = [
            f32s(&[four.clone(), n.clone()]),
            f32s(&[four.clone(), Dim::Unknown]),
            f32s(&[n, four.clone()]),
            f32s(&[four]),
            TensorType::unranked(DType::F32).into(),
        ];
        for a in &types {
            for b in &types {
                let join = a.join(b).unwrap();
                assert!(join.covers(a) && join.covers(b), "{a} {b} {join}");
                assert!(a.widest().covers(a));
            }
        }
        assert_eq!(types[0].join(&types[1]), Some(types[1].clone()));
        assert!(!types[0].covers(&types[1]));
        let ints: Type = TensorType::unranked(DType::I64).into();
        assert_eq!(types[0].join(&ints), None);
        let seq = |t: &Type| Type::Sequence(Box::new(t.clone()));
        assert_eq!(seq(&types[0]).join(&seq(&types[3])), Some(seq(&types[4])));
        assert_eq!(seq(&types[0]).join(&types[0]), None);
        let opt = Type::Optional(Box::new(types[0].clone()));
        assert_eq!(types[0].join(&opt), Some(opt.clone()));
        assert!(opt.covers(&types[0]) && !types[0].covers(&opt));
    }
}
