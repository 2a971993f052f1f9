//! What the evaluations of many ops share: the shapes of their results.

use optc_tensor::{Tensor, TensorError, element_count};

use super::{Args, InferCx, Semantics};
use crate::{OpError, Type, Val};

/// The most elements that one result may have here: an evaluation widens to `f64`, so this is 2 GiB.
const MAX_ELEMENTS: usize = 1 << 28;

/// The shapes of the results for these operands: what `infer` says once all types and values are known.
///
/// # Errors
/// A constraint of the op does not hold, a shape depends on more than shapes, or a result is too large.
pub(crate) fn result_shapes(op: &impl Semantics, args: &Args) -> Result<Vec<Vec<usize>>, OpError> {
    let types: Vec<Option<Type>> = args.values.iter().map(|v| v.as_ref().map(Val::ty)).collect();
    let types: Vec<Option<&Type>> = types.iter().map(Option::as_ref).collect();
    let consts: Vec<Option<&Tensor>> = args.values.iter().map(|v| v.as_ref().and_then(Val::as_tensor)).collect();
    let results = op.infer(&InferCx { types: &types, consts: &consts, regions: &[] })?;
    let shape = |ty: &Type| {
        let shape = ty.as_tensor().and_then(crate::TensorType::static_shape);
        let open = || OpError::Constraint { constraint: "shape", reason: "a result's shape is not known".to_owned() };
        shape.ok_or_else(open).and_then(|s| bounded(&s).map(|_| s))
    };
    results.iter().map(shape).collect()
}

/// The number of elements of `shape`.
///
/// # Errors
/// They are too many to compute here.
pub(crate) fn bounded(shape: &[usize]) -> Result<usize, OpError> {
    let n = element_count(shape).filter(|&n| n <= MAX_ELEMENTS);
    Ok(n.ok_or_else(|| TensorError::TooLarge(shape.to_vec()))?)
}
