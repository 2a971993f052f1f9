//! The ops: each declared once, with its text form, its constraints, its type inference and its reference evaluation.
//!
//! To add an op: declare it with [`op!`](crate::op) in the file of its dialect, implement [`Semantics`], and add its
//! line to [`for_each_op`](crate::for_each_op). Everything that must know all ops is made from that one list.

mod all;
pub mod cf;
pub mod custom;
mod declare;
pub(crate) mod eval;
pub mod facts;
mod items;
pub mod kernel;
pub mod math;
mod message;
pub mod ml;
mod native;
pub mod nn;
mod number;
pub mod quant;
pub mod random;
pub mod scalar;
pub mod seq;
pub mod tensor;
pub mod text;

use optc_tensor::{DType, Tensor, TensorMut, TensorRef};

pub use all::{Op, same_name};
pub use declare::{Decl, OperandSpec};
#[doc(hidden)]
pub use declare::{no_more_attrs, take_attr};
pub use facts::{Anchor, ComputedBy, Effects, Facts, FusionRole, LayoutRule, OpFacts};
pub use items::ItemCx;
pub use scalar::{NoExpression, Scalar, Scalars};

use crate::{Graph, OpError, TensorType, Type, Val};

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
    /// The operand that says the extents of the result, and nothing else.
    const EXTENTS: Option<usize> = None;
    /// Bytes that an evaluation works with besides its operands and results, which have this many elements. Ops that
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
    /// Whether item `i` of each result, along the first axis, is computed of item `i` of those operands that are
    /// batches and of the whole of the others, in the same way for each. `false` where the op cannot say so; a
    /// pointwise op can, where its operands are aligned.
    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        Self::FACTS.op.computed_by == ComputedBy::Expression && cx.is_aligned()
    }
    /// Whether `infer` has seen all operands that the op's constraints depend on: what it then says of the results
    /// holds whatever their values are. Where it has not, only an evaluation shows whether the op takes its operands.
    fn settled(&self, _cx: &InferCx) -> bool {
        true
    }
    /// The results themselves.
    ///
    /// # Errors
    /// A constraint of the op does not hold for these operands.
    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError>;
    /// The results themselves, into memory that is there: dtypes and shapes of `results` are those that `infer` says,
    /// their bytes are any. An op that can do so computes here alone, on slices of the dtype at hand, and its `eval` is
    /// [`eval_new`](eval::eval_new) and what is left: strings, and dtypes of less than a byte. Whether it was done.
    ///
    /// # Errors
    /// As [`Semantics::eval`].
    fn eval_into(&self, _operands: &Operands, _results: &mut [TensorMut]) -> Result<bool, OpError> {
        Ok(false)
    }
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

/// The operands of an evaluation into memory that is there: tensors whose elements are borrowed, `None` for absent
/// ones.
pub struct Operands<'a>(pub &'a [Option<TensorRef<'a>>]);

impl<'a> Operands<'a> {
    /// The tensor in operand `slot`.
    ///
    /// # Errors
    /// It is absent.
    pub fn tensor(&self, slot: usize) -> Result<TensorRef<'a>, OpError> {
        self.optional(slot).ok_or(OpError::Operand { slot })
    }

    /// The tensor in operand `slot`, if there is one.
    pub fn optional(&self, slot: usize) -> Option<TensorRef<'a>> {
        self.0.get(slot).copied().flatten()
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
