//! The ops: each declared once, with its text form, its constraints, its type inference and its reference evaluation.
//!
//! To add an op: declare it with [`op!`](crate::op) in the file of its dialect, implement [`Semantics`], and add its
//! line to [`for_each_op`](crate::for_each_op). Everything that must know all ops is made from that one list.

pub mod cf;
pub(crate) mod eval;
pub mod facts;
pub mod kernel;
pub mod math;
mod message;
pub mod ml;
pub mod nn;
mod number;
pub mod quant;
pub mod scalar;
pub mod seq;
pub mod tensor;
pub mod text;

use optc_kernel::expr::Expr;
use optc_tensor::{DType, Tensor};

pub use facts::{Anchor, ComputedBy, Effects, Facts, FusionRole, LayoutRule, OpFacts};
pub use scalar::{NoExpression, Scalar, Scalars};

use crate::{Attr, Graph, OpError, TensorType, Type, Val};

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
    fn attrs(&self) -> Vec<(&'static str, Attr)>;
    /// The op with these attributes.
    ///
    /// # Errors
    /// An attribute is missing, unknown or of another kind.
    fn from_attrs(attrs: Vec<(String, Attr)>) -> Result<Self, OpError>;
}

/// What an op means.
pub trait Semantics: Decl {
    /// The types of the results.
    ///
    /// # Errors
    /// A constraint of the op does not hold.
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError>;
    /// The types of a region's parameters as far as they follow from the operands: `None` (or a shorter list) leaves
    /// a parameter's type as it is. Only ops with regions have any.
    fn region_params(&self, _cx: &InferCx, _region: usize) -> Vec<Option<Type>> {
        Vec::new()
    }
    /// The results of its region that the op feeds back to the region's parameters. Only loops have any.
    fn carried(&self) -> Carried {
        Carried::default()
    }
    /// What other layers ask of the op.
    const FACTS: Facts<Self>;
    /// Whether an evaluation only moves elements from its operands to its results.
    const ONLY_MOVES: bool = false;
    /// Bytes that an evaluation works with beside its operands and results, which have so many elements. Ops that
    /// compute widen both to 64 bits, and make lists of new elements.
    fn working_bytes(&self, operands: usize, results: usize) -> usize {
        let work = operands.saturating_mul(8).saturating_add(results.saturating_mul(16));
        if Self::ONLY_MOVES { 0 } else { work }
    }
    /// Whether `infer` says all that there is to say of the results and of the parameters of the regions, down to their
    /// layouts: declared types then equal the inferred ones. Other ops give their results in whatever layout these are
    /// declared in, and hand plain values to their regions.
    fn exact(&self) -> bool {
        false
    }
    /// The results themselves.
    ///
    /// # Errors
    /// A constraint of the op does not hold for these operands.
    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError>;
}

/// Which results of a loop's region become its parameters on the next trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// The first parameter.
    pub param: usize,
    /// The first result.
    pub output: usize,
    /// How many there are.
    pub count: usize,
}

/// Runs a region of the op at hand: its number and one value per parameter, one result per output.
pub type RegionRunner<'a> = dyn Fn(usize, &[Val]) -> Result<Vec<Val>, OpError> + 'a;

/// What type inference may look at.
pub struct InferCx<'a> {
    /// The operands' types; `None` for absent ones.
    pub types: &'a [Option<&'a Type>],
    /// The operands' values where they are constants.
    pub consts: &'a [Option<&'a Tensor>],
    /// The op's regions.
    pub regions: &'a [Graph],
}

impl<'a> InferCx<'a> {
    /// The tensor type of operand `slot`.
    ///
    /// # Errors
    /// It is absent or not a tensor.
    pub fn tensor(&self, slot: usize) -> Result<&'a TensorType, OpError> {
        self.types.get(slot).copied().flatten().and_then(Type::as_tensor).ok_or(OpError::Operand { slot })
    }

    /// The constant value of operand `slot`, where it is known.
    pub fn constant(&self, slot: usize) -> Option<&'a Tensor> {
        self.consts.get(slot).copied().flatten()
    }

    /// True when operand `slot` is there.
    pub fn has(&self, slot: usize) -> bool {
        self.types.get(slot).copied().flatten().is_some()
    }
}

/// The operands that an evaluation gets.
pub struct Args<'a> {
    /// The operands' values; `None` for absent ones.
    pub values: &'a [Option<Val>],
    /// The results' declared types, as far as the caller knows them: a loop without a trip takes from here what it
    /// would have stacked.
    pub types: &'a [Type],
    /// Runs the op's regions: through the interpreter, or compiled.
    pub call: &'a RegionRunner<'a>,
}

impl<'a> Args<'a> {
    /// Arguments of an op that has no regions.
    pub fn plain(values: &'a [Option<Val>]) -> Args<'a> {
        fn none(_: usize, _: &[Val]) -> Result<Vec<Val>, OpError> {
            Err(OpError::Constraint { constraint: "regions", reason: "the op has no such region".to_owned() })
        }
        Args { values, types: &[], call: &none }
    }

    /// The tensor in operand `slot`.
    ///
    /// # Errors
    /// It is absent or not a tensor.
    pub fn tensor(&self, slot: usize) -> Result<&'a Tensor, OpError> {
        self.optional(slot).ok_or(OpError::Operand { slot })
    }

    /// The tensor in operand `slot`, if there is one.
    pub fn optional(&self, slot: usize) -> Option<&'a Tensor> {
        self.values.get(slot)?.as_ref()?.as_tensor()
    }
}

/// Declares an op: its struct, its name and the text form of its attributes.
///
/// `"dialect.name" = Struct(a, b: optional, cs: many) { attr: Type, other: Type = default }`: an operand is required,
/// or `: optional`, or `: many`; an attribute with a default is left out of the text when it has it.
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

            fn attrs(&self) -> Vec<(&'static str, $crate::Attr)> {
                #[allow(unused_mut, reason = "ops without attributes")]
                let mut attrs: Vec<(&'static str, $crate::Attr)> = vec![];
                $(
                    let default: Option<$T> = $crate::op!(@default $($default)?);
                    if default.as_ref() != Some(&self.$attr) {
                        attrs.push((stringify!($attr), $crate::AttrValue::to_attr(&self.$attr)));
                    }
                )*
                attrs.sort_by_key(|a| a.0);
                attrs
            }

            fn from_attrs(attrs: Vec<(String, $crate::Attr)>) -> Result<Self, $crate::OpError> {
                #[allow(unused_mut, reason = "ops without attributes")]
                let mut attrs = attrs;
                $(let $attr: $T = $crate::ops::take_attr(&mut attrs, stringify!($attr), $crate::op!(@default $($default)?))?;)*
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
            T::from_attr(&attr).ok_or_else(|| error(format!("expected {}", T::EXPECTED)))
        }
        None => default.ok_or_else(|| error("is missing".to_owned())),
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

/// The one list of ops: calls `$table!` with `Struct in module` for each.
#[macro_export]
macro_rules! for_each_op {
    ($table:ident) => {
        $table! {
            Param in tensor, Constant in tensor, Reshape in tensor, Transpose in tensor, Concat in tensor, Slice in tensor,
            Split in tensor, Gather in tensor, ShapeOf in tensor, Expand in tensor, Squeeze in tensor, Unsqueeze in tensor,
            Flatten in tensor, Fill in tensor, Pad in tensor,
            GatherElements in tensor, GatherNd in tensor, ScatterElements in tensor, ScatterNd in tensor, UpdateCache in tensor,
            Range in tensor, Eye in tensor, Triangle in tensor, OneHot in tensor, NonZero in tensor, Compress in tensor,
            Unique in tensor, Tile in tensor, ReverseSequence in tensor, CenterCropPad in tensor, Col2Im in tensor,
            Abs in math, Neg in math, Sign in math, Exp in math, Log in math, Sqrt in math, Reciprocal in math, Erf in math,
            Floor in math, Ceil in math, Round in math, Sin in math, Cos in math, Tan in math, Asin in math, Acos in math,
            Atan in math, Sinh in math, Cosh in math, Tanh in math, Asinh in math, Acosh in math, Atanh in math,
            IsNan in math, IsInf in math, Not in math,
            Sigmoid in math, Relu in math, Softplus in math, Softsign in math, HardSwish in math, Mish in math, Swish in math,
            LeakyRelu in math, ThresholdedRelu in math, Elu in math, Celu in math, Selu in math, HardSigmoid in math,
            Gelu in math, Shrink in math, PRelu in math,
            Add in math, Sub in math, Mul in math, Div in math, Mod in math, Pow in math, Min in math, Max in math,
            And in math, Or in math, Xor in math, Equal in math, Less in math, Greater in math, LessEqual in math,
            GreaterEqual in math, BitAnd in math, BitOr in math, BitXor in math, BitNot in math, ShiftLeft in math,
            ShiftRight in math, BitCast in math,
            Where in math, Clip in math, Cast in math, MatMul in math, Reduce in math, ArgReduce in math, TopK in math,
            Cumulate in math, Einsum in math, Det in math, Dft in math, Stft in math, Window in math, MelWeights in math,
            Conv in nn, Pool in nn, Gemm in nn, BatchNorm in nn, LayerNorm in nn, Softmax in nn, Lstm in nn,
            If in cf, Loop in cf, Scan in cf,
            SeqConstruct in seq, SeqEmpty in seq, SeqInsert in seq, SeqErase in seq, SeqAt in seq, SeqLength in seq,
            SeqSplit in seq, SeqConcat in seq, OptSome in seq, OptNone in seq, OptHas in seq, OptGet in seq,
            StrConcat in text, StrSplit in text, StrMatch in text, StrNormalize in text, Lookup in ml,
            ConvTranspose in nn, DeformConv in nn, MaxPoolIndices in nn, LpPool in nn, MaxUnpool in nn, RoiAlign in nn, MaxRoiPool in nn,
            RmsNorm in nn, GroupNorm in nn, Lrn in nn, LpNorm in nn, Hardmax in nn, NllLoss in nn, Rnn in nn, Gru in nn,
            Attention in nn, LinearAttention in nn, RotaryEmbedding in nn, Resize in nn, GridSample in nn, AffineGrid in nn, NonMaxSuppression in nn,
            Quantize in quant, Dequantize in quant, DynamicQuantize in quant, Requantize in quant, QuantMatMul in quant, QuantConv in quant,
            FakeQuant in quant, QuantSum in quant, DynamicLstm in quant,
            Fused in kernel, ConvertLayout in kernel,
        }
    };
}

macro_rules! op_enum {
    ($($Op:ident in $module:ident,)*) => {
        /// Any op.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum Op { $(#[doc = concat!("See [`", stringify!($module), "::", stringify!($Op), "`].")] $Op($module::$Op),)* }

        $(impl From<$module::$Op> for Op { fn from(op: $module::$Op) -> Op { Op::$Op(op) } })*

        $(impl<'a> TryFrom<&'a Op> for &'a $module::$Op {
            type Error = ();
            fn try_from(op: &'a Op) -> Result<Self, ()> { if let Op::$Op(op) = op { Ok(op) } else { Err(()) } }
        })*

        impl Op {
            /// The names of all ops, in the order of the list.
            pub const NAMES: &'static [&'static str] = &[$($module::$Op::NAME),*];

            /// `dialect.name`.
            pub fn name(&self) -> &'static str { match self { $(Op::$Op(_) => $module::$Op::NAME),* } }

            /// The operands that it takes.
            pub fn operands(&self) -> &'static [OperandSpec] { match self { $(Op::$Op(_) => $module::$Op::OPERANDS),* } }

            /// The attributes that differ from their defaults, sorted by name.
            pub fn attrs(&self) -> Vec<(&'static str, Attr)> { match self { $(Op::$Op(op) => op.attrs()),* } }

            /// The op called `name` with these attributes; `None` when there is no such op.
            pub fn from_attrs(name: &str, attrs: Vec<(String, Attr)>) -> Option<Result<Op, OpError>> {
                match name { $($module::$Op::NAME => Some($module::$Op::from_attrs(attrs).map(Op::$Op)),)* _ => None }
            }

            /// The types of the results. See [`Semantics::infer`].
            ///
            /// # Errors
            /// The arity is wrong or a constraint does not hold.
            pub fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
                self.check_arity(cx.types.iter().map(|t| t.is_some()).collect())?;
                self.refuse_strings(cx.types.iter().filter_map(|t| Some((*t)?.as_tensor()?.dtype)))?;
                let types = match self { $(Op::$Op(op) => op.infer(cx)),* }?;
                types.iter().try_for_each(bounded_type)?;
                Ok(types)
            }

            /// The types of a region's parameters. See [`Semantics::region_params`].
            pub fn region_params(&self, cx: &InferCx, region: usize) -> Vec<Option<Type>> {
                match self { $(Op::$Op(op) => op.region_params(cx, region)),* }
            }

            /// What other layers ask of it. See [`Semantics::FACTS`].
            pub fn facts(&self) -> OpFacts { match self { $(Op::$Op(_) => $module::$Op::FACTS.op),* } }

            /// The expression that computes an element of its result from one of each operand.
            ///
            /// # Errors
            /// It has none, or none for these dtypes.
            pub fn expression(&self, scalars: &Scalars) -> Result<Expr, NoExpression> {
                match self { $(Op::$Op(op) => $module::$Op::FACTS.expression_of(op, scalars)),* }
            }

            /// What its region feeds back. See [`Semantics::carried`].
            pub fn carried(&self) -> Carried { match self { $(Op::$Op(op) => op.carried()),* } }

            /// What an evaluation works with. See [`Semantics::working_bytes`].
            pub fn working_bytes(&self, operands: usize, results: usize) -> usize {
                match self { $(Op::$Op(op) => op.working_bytes(operands, results)),* }
            }

            /// Whether inference is exact. See [`Semantics::exact`].
            pub fn exact(&self) -> bool { match self { $(Op::$Op(op) => op.exact()),* } }

            /// The results. See [`Semantics::eval`].
            ///
            /// # Errors
            /// The arity is wrong, a constraint does not hold, or there is no memory for the results.
            pub fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
                self.check_arity(args.values.iter().map(|t| t.is_some()).collect())?;
                self.refuse_strings(args.values.iter().filter_map(|v| Some(v.as_ref()?.as_tensor()?.dtype())))?;
                let _work = eval::claim_work(self, args)?;
                match self { $(Op::$Op(op) => op.eval(args)),* }
            }
        }
    };
}
for_each_op!(op_enum);

/// Refuses extents that positions cannot reach: products and sums of extents saturate.
fn bounded_type(ty: &Type) -> Result<(), OpError> {
    ty.oversized().map_or(Ok(()), |n| {
        Err(OpError::Constraint { constraint: "shape", reason: format!("the extent {n} is too large") })
    })
}

impl Op {
    /// Refuses strings where an op computes with numbers, once for all of these ops.
    fn refuse_strings(&self, mut dtypes: impl Iterator<Item = DType>) -> Result<(), OpError> {
        if !self.facts().strings && dtypes.any(|dtype| dtype == DType::Str) {
            bad_dtype(self.name(), DType::Str)
        } else {
            Ok(())
        }
    }

    fn check_arity(&self, present: Vec<bool>) -> Result<(), OpError> {
        let specs = self.operands();
        let many = matches!(specs.last(), Some(OperandSpec::Many(_)));
        let required = specs.iter().rposition(|s| matches!(s, OperandSpec::One(_))).map_or(0, |i| i + 1);
        let max = if many { usize::MAX } else { specs.len() };
        if present.len() < required || present.len() > max {
            let expected = match (required, max) {
                (r, usize::MAX) => format!("at least {r}"),
                (r, m) if r == m => r.to_string(),
                (r, m) => format!("{r} to {m}"),
            };
            return Err(OpError::Arity { op: self.name(), expected, found: present.len() });
        }
        let missing = specs.iter().zip(&present).position(|(s, &p)| !p && matches!(s, OperandSpec::One(_)));
        missing.map_or(Ok(()), |slot| Err(OpError::Operand { slot }))
    }
}

/// The error for a dtype on which an op is not defined.
pub(crate) fn bad_dtype<T>(op: &'static str, dtype: DType) -> Result<T, OpError> {
    Err(OpError::DType { op, dtype })
}

/// Resolves a possibly negative axis.
///
/// # Errors
/// It lies outside of `-rank..rank`.
pub(crate) fn axis_of(axis: i64, rank: usize) -> Result<usize, OpError> {
    let r = rank as i64;
    ensure_axis(axis, r)?;
    Ok(if axis < 0 { (axis + r) as usize } else { axis as usize })
}

fn ensure_axis(axis: i64, rank: i64) -> Result<(), OpError> {
    crate::ensure!(axis >= -rank && axis < rank, "axis", "axis {axis} is outside of {}..{rank}", -rank);
    Ok(())
}
