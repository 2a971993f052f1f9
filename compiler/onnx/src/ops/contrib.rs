//! Ops of ONNX Runtime, in the domain `com.microsoft`: what its optimizer writes into models, and its tools.
//!
//! Each is written out in ops of the IR, which passes then fuse. What an op can be told beyond what is mapped is
//! refused with the name of the attribute or input. Other quantized ops of the domain are
//! among the standard's. What is not imported, and why, is in `refused`.
//!
//! See `onnxruntime/docs/ContribOperators.md` of ONNX Runtime for what the ops do.

pub(super) mod activation;
pub(super) mod attention;
pub(super) mod basic;
pub(super) mod blocks;
pub(super) mod bnb;
pub(super) mod channels_last;
pub(super) mod experts;
pub(super) mod gated;
pub(super) mod group_query;
mod mask;
pub(super) mod norm;
pub(super) mod product;
pub(super) mod quant;
pub(super) mod refused;
pub(super) mod rotary;

use optc_ir::Value;
use optc_ir::ops::{math, tensor};
use optc_tensor::{DType, Tensor};

use crate::mapping::{MapError, NodeCx};
use crate::ops::attention::list;

/// The domain.
pub(crate) const MICROSOFT: &str = "com.microsoft";

/// `x + y`, or `x` where there is no `y`.
fn plus(cx: &mut NodeCx, x: Value, y: Option<Value>) -> Result<Value, MapError> {
    y.map_or(Ok(x), |y| cx.emit1(math::Add {}, &[x, y]))
}

/// `x` in a shape, of which 0 is the extent that there is and −1 what is left.
fn reshaped(cx: &mut NodeCx, x: Value, shape: &[i64]) -> Result<Value, MapError> {
    let shape = list(cx, shape)?;
    cx.emit1(tensor::Reshape { allow_zero: false }, &[x, shape])
}

/// `x` with axes of one element.
fn unsqueezed(cx: &mut NodeCx, x: Value, axes: &[i64]) -> Result<Value, MapError> {
    let axes = list(cx, axes)?;
    cx.emit1(tensor::Unsqueeze {}, &[x, axes])
}

/// The extent of `x` along an axis, as a list of one.
fn extent_of(cx: &mut NodeCx, x: Value, axis: i64) -> Result<Value, MapError> {
    cx.emit1(tensor::ShapeOf { start: axis, end: axis + 1 }, &[x])
}

/// `0, 1, …` up to `end`, a list of one.
fn counted(cx: &mut NodeCx, end: Value) -> Result<Value, MapError> {
    let end = reshaped(cx, end, &[])?;
    let (zero, one) = (integer(cx, 0), integer(cx, 1));
    cx.emit1(tensor::Range {}, &[zero, end, one])
}

/// A constant integer.
fn integer(cx: &mut NodeCx, v: i64) -> Value {
    cx.constant(Tensor::scalar(v))
}

/// Integers of any kind as `i64`.
fn wide(cx: &mut NodeCx, x: Value) -> Result<Value, MapError> {
    cx.emit1(math::Cast { to: DType::I64 }, &[x])
}

/// Part `start..end` of `x` along an axis.
fn part(cx: &mut NodeCx, x: Value, axis: i64, [start, end]: [Value; 2]) -> Result<Value, MapError> {
    let axis = list(cx, &[axis])?;
    cx.emit1(tensor::Slice {}, &[x, start, end, axis])
}

/// Refuses inputs: of each, its place and its name.
fn refuse_inputs(cx: &NodeCx, inputs: &[(usize, &str)]) -> Result<(), MapError> {
    match inputs.iter().find(|&&(i, _)| cx.optional(i).is_some()) {
        Some((i, name)) => Err(MapError::Unsupported(format!("input {i} (`{name}`) is not supported"))),
        None => Ok(()),
    }
}

/// Refuses attributes that are not 0.
fn refuse_flags(cx: &NodeCx, names: &[&str]) -> Result<(), MapError> {
    for name in names {
        if cx.attrs.int_or(name, 0)? != 0 {
            return Err(MapError::Unsupported(format!("`{name}` is not supported, nor by ONNX Runtime on CPUs")));
        }
    }
    Ok(())
}

/// Refuses outputs that are named: of each, its place and its name.
fn refuse_outputs(cx: &NodeCx, outputs: &[(usize, &str)]) -> Result<(), MapError> {
    match outputs.iter().find(|&&(i, _)| is_named(cx, i)) {
        Some((i, name)) => Err(MapError::Unsupported(format!("output {i} (`{name}`) is not supported"))),
        None => Ok(()),
    }
}

/// Whether the node names output `i`.
fn is_named(cx: &NodeCx, i: usize) -> bool {
    cx.node.output.get(i).is_some_and(|name| !name.is_empty())
}
