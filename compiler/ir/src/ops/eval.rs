//! What the evaluations of many ops share: the shapes of their results, and the memory that they take.

use optc_tensor::{Claim, DType, Memory, Tensor, TensorError, TensorMut, TensorRef, element_count};

use super::number::checked_len;
use super::{Args, InferCx, Operands, Semantics};
use crate::{Op, OpError, TensorType, Type, Val};

/// Claims what an evaluation works with besides its operands, and sees that there is room for its results as well, as
/// far as their shapes are known before.
///
/// # Errors
/// There is no memory for it.
pub(super) fn claim_work(op: &Op, args: &Args) -> Result<Claim, OpError> {
    let results = result_types(op, args).unwrap_or_default();
    let operands = total(args.values.iter().flatten().map(units));
    let work = op.working_bytes(operands, total(results.iter().map(count)));
    let text = total(args.values.iter().flatten().map(longest));
    let bytes = |t: &TensorType| match t.dtype {
        DType::Str => count(t).saturating_mul(size_of::<String>().saturating_add(text)),
        dtype => dtype.bytes_for(count(t)).unwrap_or(usize::MAX),
    };
    let kept = total(results.iter().map(bytes));
    let memory = Memory::current();
    let room = memory.claim(work.saturating_add(kept)).and_then(|_| memory.claim(work));
    room.map_err(|error| match results.iter().max_by_key(|t| bytes(t)) {
        Some(t) => TensorError::Memory { dtype: t.dtype, shape: t.static_shape().unwrap_or_default(), error }.into(),
        None => TensorError::from(error).into(),
    })
}

/// Claims bytes for lists whose length shows only during an evaluation.
///
/// # Errors
/// There is no memory for them.
pub(crate) fn room(bytes: usize) -> Result<Claim, OpError> {
    Ok(Memory::current().claim(bytes).map_err(TensorError::from)?)
}

fn total(parts: impl Iterator<Item = usize>) -> usize {
    parts.fold(0, usize::saturating_add)
}

fn count(t: &TensorType) -> usize {
    t.static_shape().and_then(|s| element_count(&s)).unwrap_or(usize::MAX)
}

/// How many values of 64 bits an operand is: the elements of a tensor, the bytes of strings, and what a list takes for
/// each of its items, whose tensors are shared.
fn units(value: &Val) -> usize {
    /// 64-bit words of a value besides its elements.
    const VALUE: usize = 16;
    match value {
        Val::Tensor(t) => t.strings().map_or(t.len(), |s| total(s.iter().map(|s| 3 + s.len() / 8))),
        Val::Seq(_, items) => total(items.iter().map(|item| match item {
            Val::Tensor(_) => VALUE,
            Val::Seq(..) | Val::Opt(..) => VALUE.saturating_add(units(item)),
        })),
        Val::Opt(_, item) => item.as_deref().map_or(0, units),
    }
}

/// The bytes of a value's longest string.
fn longest(value: &Val) -> usize {
    let strings = value.as_tensor().and_then(|t| t.strings().ok()).unwrap_or_default();
    strings.iter().map(String::len).max().unwrap_or(0)
}

/// The types of the results, where they are known before: those that are declared, or those that `infer` says for these
/// values.
fn result_types(op: &Op, args: &Args) -> Option<Vec<TensorType>> {
    let known = |ty: &Type| ty.as_tensor().filter(|t| t.static_shape().is_some()).cloned();
    if !args.types.is_empty()
        && let Some(declared) = args.types.iter().map(known).collect()
    {
        return Some(declared);
    }
    // What it refuses, the evaluation refuses in its own words.
    with_values(args, |cx| op.infer(cx)).ok()?.iter().map(known).collect()
}

/// Calls `f` with what inference may look at where all operands are known.
fn with_values<T>(args: &Args, f: impl FnOnce(&InferCx) -> T) -> T {
    let types: Vec<Option<Type>> = args.values.iter().map(|v| v.as_ref().map(Val::ty)).collect();
    let types: Vec<Option<&Type>> = types.iter().map(Option::as_ref).collect();
    let consts: Vec<Option<&Tensor>> = args.values.iter().map(|v| v.as_ref().and_then(Val::as_tensor)).collect();
    f(&InferCx { types: &types, consts: &consts, regions: &[] })
}

/// Operands of more bytes than this are not looked at to find the types of results: no axis, shape or count takes them.
const LISTS: usize = 1 << 10;

/// Whether the results of an op for these operands are of the types that memory is there for, as far as `infer` knows.
pub(super) fn gives(op: &Op, operands: &Operands, results: &[TensorMut]) -> bool {
    let ty = |t: &TensorRef| Type::from(TensorType::fixed(t.dtype(), t.shape()));
    let types: Vec<Option<Type>> = operands.0.iter().map(|t| t.as_ref().map(ty)).collect();
    let types: Vec<Option<&Type>> = types.iter().map(Option::as_ref).collect();
    let list = |t: &TensorRef| (t.bytes().len() <= LISTS).then(|| t.to_tensor().ok()).flatten();
    let consts: Vec<Option<Tensor>> = operands.0.iter().map(|t| t.as_ref().and_then(list)).collect();
    let consts: Vec<Option<&Tensor>> = consts.iter().map(Option::as_ref).collect();
    let Ok(found) = op.infer(&InferCx { types: &types, consts: &consts, regions: &[] }) else { return false };
    let declared = results.iter().map(|t| Type::from(TensorType::fixed(t.dtype(), t.shape())));
    found.into_iter().eq(declared)
}

/// The results of an op that [evaluates into memory that is there](Semantics::eval_into), in new tensors of these
/// dtypes and shapes; `None` where it leaves the operands to what its `eval` does else.
///
/// # Errors
/// As the evaluation, or there is no memory.
pub(crate) fn eval_new(
    op: &impl Semantics,
    args: &Args,
    results: &[(DType, &[usize])],
) -> Result<Option<Vec<Val>>, OpError> {
    let mut operands = Vec::with_capacity(args.values.len());
    for value in args.values {
        let view = value.as_ref().and_then(Val::as_tensor).and_then(Tensor::view);
        if view.is_none() && value.is_some() {
            return Ok(None);
        }
        operands.push(view);
    }
    let make = |(dtype, shape): &(DType, &[usize])| {
        checked_len(*dtype, shape)?;
        Tensor::zeros(*dtype, shape)
    };
    let mut tensors = results.iter().map(make).collect::<Result<Vec<_>, _>>()?;
    let mut views = Vec::with_capacity(tensors.len());
    for tensor in &mut tensors {
        let Some(view) = tensor.view_mut()? else { return Ok(None) };
        views.push(view);
    }
    let done = op.eval_into(&Operands(&operands), &mut views)?;
    Ok(done.then(|| tensors.into_iter().map(Val::from).collect()))
}

/// The shapes of the results for these operands: what `infer` says once all types and values are known.
///
/// # Errors
/// A constraint of the op does not hold, a shape depends on more than shapes, or a result is too large.
pub(crate) fn result_shapes(op: &impl Semantics, args: &Args) -> Result<Vec<Vec<usize>>, OpError> {
    let results = with_values(args, |cx| op.infer(cx))?;
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
/// There is no memory to compute them in `f64`.
pub(crate) fn bounded(shape: &[usize]) -> Result<usize, OpError> {
    Ok(checked_len(DType::F64, shape)?)
}
