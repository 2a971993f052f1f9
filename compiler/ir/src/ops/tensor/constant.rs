//! Graph inputs, constants and filled tensors.

use optc_tensor::Tensor;

use super::Canvas;
use crate::{Args, Const, Dim, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// A graph input. It never stands in the text as an op; its type is declared with the function.
    "func.param" = Param() {
        /// The name that users know it by.
        name: String,
    }
}

impl Semantics for Param {
    const FACTS: Facts<Param> = Facts::host("it computes a constant unless shapes depend on data").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, _: &InferCx) -> Result<Vec<Type>, OpError> {
        Err(OpError::Constraint { constraint: "C1", reason: "a parameter's type is declared".to_owned() })
    }

    fn eval(&self, _: &Args) -> Result<Vec<Val>, OpError> {
        Err(OpError::Constraint { constraint: "C1", reason: "a parameter's value is given".to_owned() })
    }
}

op! {
    /// A tensor known at compile time.
    "tensor.const" = Constant() {
        /// Its value.
        value: Const,
        /// How many of its elements pruning made zero: as many at least are zero, now and after every pass (V7).
        zeros: i64 = 0,
    }
}

impl Constant {
    /// How many elements of a tensor are zero.
    pub fn count_zeros(t: &Tensor) -> usize {
        match t.dtype() {
            dtype if dtype.is_real() => t.to_f64_vec().into_iter().filter(|&v| v == 0.0).count(),
            _ => t.to_i64_vec().into_iter().filter(|&v| v == 0).count(),
        }
    }
}

impl Semantics for Constant {
    const FACTS: Facts<Constant> = Facts::host("it computes a constant unless shapes depend on data").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, _: &InferCx) -> Result<Vec<Type>, OpError> {
        Ok(vec![TensorType::fixed(self.value.0.dtype(), self.value.0.shape()).into()])
    }

    fn eval(&self, _: &Args) -> Result<Vec<Val>, OpError> {
        Ok(vec![self.value.0.clone().into()])
    }
}

/// Beyond this many dims a shape operand of a static length says nothing of the result's type.
const MAX_RANK: usize = 64;

/// The type of a shape operand: a list of integers, or one.
pub(crate) fn shape_type<'a>(cx: &InferCx<'a>, slot: usize) -> Result<&'a TensorType, OpError> {
    let ty = cx.tensor(slot)?;
    let list = ty.rank().is_none_or(|rank| rank <= 1) && ty.dtype.is_int();
    ensure!(list, "shape", "the shape is {ty}, not a list of integers");
    Ok(ty)
}

/// The dims that a constant shape operand names, or unknown ones of its length; `None` when not even that is known.
pub(crate) fn dims_of(cx: &InferCx, slot: usize) -> Result<Option<Vec<Dim>>, OpError> {
    let ty = shape_type(cx, slot)?;
    if let Some(t) = cx.constant(slot) {
        let dims = t.to_i64_vec();
        ensure!(dims.iter().all(|&d| d >= 0), "shape", "the shape {dims:?} has a negative extent");
        return Ok(Some(dims.into_iter().map(|d| Dim::Known(d as usize)).collect()));
    }
    let length = ty.static_shape().map(|s| s.iter().product::<usize>());
    Ok(length.filter(|&n| n <= MAX_RANK).map(|n| vec![Dim::Unknown; n]))
}

/// A shape operand's value.
pub(crate) fn shape_arg(t: &Tensor) -> Result<Vec<usize>, OpError> {
    let dims = t.to_i64_vec();
    ensure!(dims.iter().all(|&d| d >= 0), "shape", "the shape {dims:?} has a negative extent");
    Ok(dims.into_iter().map(|d| d as usize).collect())
}

op! {
    /// A tensor of shape `shape` whose elements are all `value`.
    ///
    /// - (C1) `value` has one element.
    "tensor.fill" = Fill(shape) {
        /// The element.
        value: Const,
    }
}

impl Semantics for Fill {
    const FACTS: Facts<Fill> = Facts::host("it computes a constant unless shapes depend on data").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        ensure!(self.value.0.len() == 1, "C1", "`value` has {} elements, expected 1", self.value.0.len());
        Ok(vec![TensorType::of(self.value.0.dtype(), dims_of(cx, 0)?).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        ensure!(self.value.0.len() == 1, "C1", "`value` has {} elements, expected 1", self.value.0.len());
        let shape = shape_arg(args.tensor(0)?)?;
        Ok(vec![Canvas::filled(&self.value.0, &shape)?.finish()?.into()])
    }
}
