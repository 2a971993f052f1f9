//! Ops of ONNX Runtime, in the domain `com.microsoft`: what its optimizer writes into models, and its tools.
//!
//! Each is written out in ops of the IR, which passes then fuse. What an op can be told beyond what is mapped is
//! refused with the name of the attribute or input. Other quantized ops of the domain are
//! among the standard's.
//!
//! See `onnxruntime/docs/ContribOperators.md` of ONNX Runtime for what the ops do.

pub(super) mod activation;
pub(super) mod attention;
pub(super) mod blocks;
pub(super) mod norm;
pub(super) mod product;
pub(super) mod quant;
pub(super) mod rotary;

use optc_ir::Value;
use optc_ir::ops::math;

use crate::mapping::{MapError, NodeCx};

/// The domain.
pub(crate) const MICROSOFT: &str = "com.microsoft";

/// `x + y`, or `x` where there is no `y`.
fn plus(cx: &mut NodeCx, x: Value, y: Option<Value>) -> Result<Value, MapError> {
    y.map_or(Ok(x), |y| cx.emit1(math::Add {}, &[x, y]))
}

/// Refuses inputs: of each, its place and its name.
fn refuse_inputs(cx: &NodeCx, inputs: &[(usize, &str)]) -> Result<(), MapError> {
    match inputs.iter().find(|&&(i, _)| cx.optional(i).is_some()) {
        Some((i, name)) => Err(MapError::Unsupported(format!("input {i} (`{name}`) is not supported"))),
        None => Ok(()),
    }
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
