//! `seq` and `opt`: sequences and optional values.

mod list;
mod optional;
mod tensors;

pub use list::*;
pub use optional::*;
pub use tensors::*;

use crate::{Args, InferCx, OpError, Type, Val};

/// The element type of the sequence in operand `slot`.
fn element_type<'a>(cx: &InferCx<'a>, slot: usize) -> Result<&'a Type, OpError> {
    match cx.types.get(slot).copied().flatten() {
        Some(Type::Sequence(of)) => Ok(of),
        _ => Err(OpError::Constraint { constraint: "C1", reason: format!("operand {slot} is not a sequence") }),
    }
}

/// The sequence in operand `slot`: the type of its elements and the elements.
fn sequence<'a>(args: &Args<'a>, slot: usize) -> Result<(&'a Type, &'a [Val]), OpError> {
    match args.values.get(slot).and_then(Option::as_ref) {
        Some(Val::Seq(of, items)) => Ok((of, items)),
        _ => Err(OpError::Constraint { constraint: "C1", reason: format!("operand {slot} is not a sequence") }),
    }
}

/// The value in operand `slot`.
fn value<'a>(args: &Args<'a>, slot: usize) -> Result<&'a Val, OpError> {
    args.values.get(slot).and_then(Option::as_ref).ok_or(OpError::Operand { slot })
}

/// The type of operand `slot`.
fn type_of<'a>(cx: &InferCx<'a>, slot: usize) -> Result<&'a Type, OpError> {
    cx.types.get(slot).copied().flatten().ok_or(OpError::Operand { slot })
}
