//! The one list of ops, and what is made from it: the enum [`Op`], and each function on any op.

use std::borrow::Cow;

use optc_kernel::expr::Expr;
use optc_tensor::{DType, TensorMut};

use super::{
    Args, Carried, Decl, InferCx, ItemCx, NoExpression, OpFacts, OperandSpec, Operands, Scalars, Semantics, bad_dtype,
    cf, custom, eval, kernel, math, ml, nn, quant, random, seq, tensor, text,
};
use crate::{Attr, OpError, Type, Val};

/// Whether two names are equal, for the compiler: in assertions that all ops of the list are known elsewhere.
pub const fn same_name(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// The one list of ops: calls `$table!` with `Struct in module` for each.
#[macro_export]
macro_rules! for_each_op {
    ($table:ident) => {
        $table! {
            Param in tensor, Constant in tensor, Reshape in tensor, Transpose in tensor, Concat in tensor,
            Slice in tensor, Split in tensor, Gather in tensor, ShapeOf in tensor, Expand in tensor,
            Squeeze in tensor, Unsqueeze in tensor, Flatten in tensor, Fill in tensor, Pad in tensor,
            GatherElements in tensor, GatherNd in tensor, ScatterElements in tensor, ScatterNd in tensor,
            UpdateCache in tensor, Range in tensor, Eye in tensor, Triangle in tensor, OneHot in tensor,
            NonZero in tensor, Compress in tensor, Unique in tensor, Tile in tensor, ReverseSequence in tensor,
            CenterCropPad in tensor, Col2Im in tensor, Abs in math, Neg in math, Sign in math, Exp in math,
            Log in math, Sqrt in math, Reciprocal in math, Erf in math, Floor in math, Ceil in math, Round in math,
            Sin in math, Cos in math, Tan in math, Asin in math, Acos in math, Atan in math, Sinh in math,
            Cosh in math, Tanh in math, Asinh in math, Acosh in math, Atanh in math, IsNan in math, IsInf in math,
            Not in math, Sigmoid in math, Relu in math, Softplus in math, Softsign in math, HardSwish in math,
            Mish in math, Swish in math, LeakyRelu in math, ThresholdedRelu in math, Elu in math, Celu in math,
            Selu in math, HardSigmoid in math, Gelu in math, Shrink in math, PRelu in math, Add in math, Sub in math,
            Mul in math, Div in math, Mod in math, Pow in math, Min in math, Max in math, And in math, Or in math,
            Xor in math, Equal in math, Less in math, Greater in math, LessEqual in math, GreaterEqual in math,
            BitAnd in math, BitOr in math, BitXor in math, BitNot in math, ShiftLeft in math, ShiftRight in math,
            BitCast in math, Where in math, Clip in math, Cast in math, Narrow in math, MatMul in math,
            Reduce in math, ArgReduce in math, TopK in math, Cumulate in math, Einsum in math, Det in math,
            Dft in math, Stft in math, Window in math, MelWeights in math, Conv in nn, Pool in nn, Gemm in nn,
            BatchNorm in nn, LayerNorm in nn, Softmax in nn, Lstm in nn, If in cf, Loop in cf, Scan in cf,
            SeqConstruct in seq, SeqEmpty in seq, SeqInsert in seq, SeqErase in seq, SeqAt in seq, SeqLength in seq,
            SeqSplit in seq, SeqConcat in seq, OptSome in seq, OptNone in seq, OptHas in seq, OptGet in seq,
            StrConcat in text, StrSplit in text, StrMatch in text, StrNormalize in text, Ngrams in text, Lookup in ml,
            TreeEnsemble in ml, SquaredDistance in ml, Couple in ml, ConvTranspose in nn, DeformConv in nn,
            MaxPoolIndices in nn, LpPool in nn, MaxUnpool in nn, RoiAlign in nn, MaxRoiPool in nn, RmsNorm in nn,
            GroupNorm in nn, Lrn in nn, LpNorm in nn, Hardmax in nn, NllLoss in nn, Rnn in nn, Gru in nn,
            Attention in nn, LinearAttention in nn, RotaryEmbedding in nn, Resize in nn, GridSample in nn,
            AffineGrid in nn, NonMaxSuppression in nn, Quantize in quant, Dequantize in quant,
            DynamicQuantize in quant, Requantize in quant, QuantMatMul in quant, QuantConv in quant,
            FakeQuant in quant, QuantSum in quant, DynamicLstm in quant, Fused in kernel, ConvertLayout in kernel,
            Deferred in kernel, RandomUniform in random, RandomNormal in random, Multinomial in random,
            CustomCall in custom,
        }
    };
}

macro_rules! op_enum {
    ($($Op:ident in $module:ident,)*) => {
        /// Any op.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum Op {
            $(#[doc = concat!("See [`", stringify!($module), "::", stringify!($Op), "`].")] $Op($module::$Op),)*
        }

        $(impl From<$module::$Op> for Op { fn from(op: $module::$Op) -> Op { Op::$Op(op) } })*

        $(impl<'a> TryFrom<&'a Op> for &'a $module::$Op {
            type Error = ();
            fn try_from(op: &'a Op) -> Result<Self, ()> {
                if let Op::$Op(op) = op { Ok(op) } else { Err(()) }
            }
        })*

        impl Op {
            /// The names of all ops, in the order of the list.
            pub const NAMES: &'static [&'static str] = &[$($module::$Op::NAME),*];

            /// `dialect.name`.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$Op(_) => $module::$Op::NAME),* }
            }

            /// The operands that it takes.
            pub fn operands(&self) -> &'static [OperandSpec] {
                match self { $(Op::$Op(_) => $module::$Op::OPERANDS),* }
            }

            /// The attributes that differ from their defaults, sorted by name.
            pub fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
                match self { $(Op::$Op(op) => op.attrs()),* }
            }

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
            pub fn facts(&self) -> OpFacts {
                match self { $(Op::$Op(_) => $module::$Op::FACTS.op),* }
            }

            /// The expression that computes an element of its result from one of each operand.
            ///
            /// # Errors
            /// It has none, or none for these dtypes.
            pub fn expression(&self, scalars: &Scalars) -> Result<Expr, NoExpression> {
                match self { $(Op::$Op(op) => $module::$Op::FACTS.expression_of(op, scalars)),* }
            }

            /// What its region feeds back. See [`Semantics::carried`].
            pub fn carried(&self) -> Carried {
                match self { $(Op::$Op(op) => op.carried()),* }
            }

            /// What an evaluation works with. See [`Semantics::working_bytes`].
            pub fn working_bytes(&self, operands: usize, results: usize) -> usize {
                match self { $(Op::$Op(op) => op.working_bytes(operands, results)),* }
            }

            /// Whether it only moves elements. See [`Semantics::ONLY_MOVES`].
            pub fn only_moves(&self) -> bool { match self { $(Op::$Op(_) => $module::$Op::ONLY_MOVES),* } }

            /// Whether inference is exact. See [`Semantics::exact`].
            pub fn exact(&self) -> bool { match self { $(Op::$Op(op) => op.exact()),* } }

            /// The operand that says extents. See [`Semantics::EXTENTS`].
            pub fn extents_operand(&self) -> Option<usize> {
                match self { $(Op::$Op(_) => $module::$Op::EXTENTS),* }
            }

            /// Whether it works on each item of a batch by itself. See [`Semantics::is_itemwise`].
            pub fn is_itemwise(&self, cx: &ItemCx) -> bool {
                match self { $(Op::$Op(op) => op.is_itemwise(cx)),* }
            }

            /// Whether inference has seen all that constraints depend on. See [`Semantics::settled`].
            pub fn settled(&self, cx: &InferCx) -> bool { match self { $(Op::$Op(op) => op.settled(cx)),* } }

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

            /// The results into memory that is there, where the op can do so and they are of these types; whether it
            /// was done. See [`Semantics::eval_into`].
            ///
            /// # Errors
            /// As [`Op::eval`].
            pub fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
                // What does not fit is left to `eval`, which says why.
                if self.check_arity(operands.0.iter().map(Option::is_some).collect()).is_err()
                    || !eval::gives(self, operands, results) {
                    return Ok(false);
                }
                match self { $(Op::$Op(op) => op.eval_into(operands, results)),* }
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
