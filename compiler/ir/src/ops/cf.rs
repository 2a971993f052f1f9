//! `cf`: control flow. The regions are isolated: what one uses from outside is an operand of the op (a *capture*) and
//! a parameter of the region, after all others and in the same order.

mod branch;
mod repeat;
mod scan;
mod stack;

pub use branch::*;
pub use repeat::*;
pub use scan::*;
pub(crate) use stack::stack;

use optc_tensor::{DType, Tensor};

use crate::ops::message::type_of;
use crate::{Graph, InferCx, OpError, Type, Val, ensure};

/// The region with number `i`, whose parameters and outputs must be as many as given; at least as many outputs when
/// `more` are allowed.
fn region<'a>(cx: &InferCx<'a>, i: usize, params: usize, outputs: usize) -> Result<&'a Graph, OpError> {
    let missing = || OpError::Constraint { constraint: "C1", reason: "a region is missing".to_owned() };
    let region = cx.regions.get(i).ok_or_else(missing)?;
    let found = region.inputs().len();
    ensure!(found == params, "C1", "region {i} has {found} parameters, expected {params}");
    let found = region.outputs.len();
    ensure!(found >= outputs, "C1", "region {i} has {found} outputs, expected at least {outputs}");
    Ok(region)
}

/// The type of output `i` of a region.
fn output_type(region: &Graph, i: usize) -> Result<&Type, OpError> {
    let missing = || OpError::Constraint { constraint: "C1", reason: format!("the region has no output {i}") };
    Ok(region.ty(region.outputs.get(i).ok_or_else(missing)?.value))
}

/// Checks that the region's parameters from `start` on take the operands from `slot` on.
fn params_take_operands(cx: &InferCx, region: &Graph, start: usize, slot: usize) -> Result<(), OpError> {
    for (param, slot) in region.inputs().skip(start).zip(slot..) {
        let operand = cx.types.get(slot).copied().flatten().ok_or(OpError::Operand { slot })?;
        let param = region.ty(param);
        ensure!(param.admits(operand), "C2", "operand {slot} is {operand}, the region takes {param}");
    }
    Ok(())
}

/// The only element of a condition or a count.
fn only(t: &Tensor, dtype: DType, what: &str) -> Result<i64, OpError> {
    ensure!(t.dtype() == dtype && t.len() == 1, "C2", "{what} is {}, expected one {dtype}", type_of(t));
    Ok(t.to_i64_vec().first().copied().unwrap_or(0))
}

/// Checks the type of a condition or a count.
fn check_scalar(cx: &InferCx, slot: usize, dtype: DType, what: &str) -> Result<(), OpError> {
    let t = cx.tensor(slot)?;
    let one = t.static_shape().is_none_or(|s| optc_tensor::element_count(&s) == Some(1));
    ensure!(t.dtype == dtype && one, "C2", "{what} is {t}, expected one {dtype}");
    Ok(())
}

/// The operands from `slot` on, all of which must be there.
fn present(values: &[Option<Val>], slot: usize) -> Result<Vec<Val>, OpError> {
    let rest = values.get(slot..).unwrap_or_default();
    rest.iter().zip(slot..).map(|(v, slot)| v.clone().ok_or(OpError::Operand { slot })).collect()
}

/// The operands' types from `slot` on.
fn types_from(cx: &InferCx, slot: usize) -> Vec<Option<Type>> {
    cx.types.get(slot..).unwrap_or_default().iter().map(|t| t.cloned()).collect()
}

/// The error of a region that gives too few outputs when it runs.
fn short_region() -> OpError {
    OpError::Constraint { constraint: "C1", reason: "the region gives too few outputs".to_owned() }
}
