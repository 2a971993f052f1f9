//! `widen`: compute what is in half precision in `f32`, and round where halves leave.
//!
//! ```optc
//! given %x: tensor<2x2xf16>
//! %0 = tensor.const {value = dense<[1.0, 0.5, 2.0, -1.0]> : tensor<2x2xf16>} : tensor<2x2xf16>
//! %1 = math.matmul %x, %0 : tensor<2x2xf16>
//! %2 = math.relu %1 : tensor<2x2xf16>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<2x2xf16>
//! %0 = tensor.const {value = dense<[1.0, 0.5, 2.0, -1.0]> : tensor<2x2xf16>} : tensor<2x2xf16>
//! %1 = math.cast %x {to = f32} : tensor<2x2xf32>
//! %2 = math.cast %0 {to = f32} : tensor<2x2xf32>
//! %3 = math.matmul %1, %2 : tensor<2x2xf32>
//! %4 = math.relu %3 : tensor<2x2xf32>
//! %5 = math.cast %4 {to = f16} : tensor<2x2xf16>
//! ```
//!
//! Why: kernels compute in `f32`, and all other passes know `f32` alone. Halves are `f16` and `bf16`.
//!
//! - What kernels compute is computed in `f32`: its halves are widened, and what it gives is rounded only for readers
//!   that stay in halves: outputs, ops that the host evaluates, regions, casts that the model has. Values in between
//!   are not rounded, as other runtimes on CPUs do it; they do not overflow either where halves would.
//! - What only moves elements follows what it moves: `f32` that was computed stays so, halves from outside (a table, an
//!   input) are moved as they are, and widened after it.
//! - A product of bfloat16 with constant weights is noted to round its factors, as they are bfloat16 in the model;
//!   `to-bf16{layers=noted}` keeps that where it is faster.
//! - A cast that the model has from floats rounds; one from integers gives `f32` like all else.
//!
//! Declines ops that want their operands to be halves, and those with regions, sequences or strings; regions are gone
//! through with their own inputs. Expects inferred types.

use std::collections::HashMap;

use optc_ir::ops::math::Cast;
use optc_ir::{ComputedBy, Graph, NodeId, Op, TensorType, Type, Value, infer_node};
use optc_tensor::DType;

use crate::matching::{dtype, tensor_type};
use crate::rewrite::{for_each_region, refined, remove_unused};
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// See the module.
pub struct Widen;

impl Pass for Widen {
    const NAME: &'static str = "widen";
    const SUMMARY: &'static str = "compute what is in half precision in `f32`, and round where halves leave";
    /// Some roundings to bfloat16, one after the other.
    const NUMERICS: Numerics = Numerics::Approximates { rtol: 0.03 };

    fn from_options(_: &mut PassArguments) -> Result<Widen, OptionError> {
        Ok(Widen)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        let mut wide = WideValues::default();
        for id in graph.topological_order().unwrap_or_default() {
            if wide.forward(graph, id) || !concerns(graph, id, &wide) || !cx.permit("op") {
                continue;
            }
            wide.widen(graph, id);
        }
        wide.made.iter().for_each(|&id| drop(remove_unused(graph, id)));
        for_each_region(graph, &mut |region| self.run(region, cx))
    }
}

/// Whether a dtype is one that is computed in `f32`.
fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

fn is_half_value(g: &Graph, v: Value) -> bool {
    dtype(g, v).is_some_and(is_half)
}

/// Whether an op is computed in `f32` instead of halves.
fn concerns(g: &Graph, id: NodeId, wide: &WideValues) -> bool {
    let node = g.node(id);
    if let Op::Cast(_) = node.op {
        let from = g.operand(id, 0).and_then(|v| dtype(g, v));
        return is_half_value(g, Value { node: id, result: 0 }) && from.is_some_and(|d| d.is_int() || d == DType::Bool);
    }
    if matches!(node.op.facts().computed_by, ComputedBy::Host(_)) {
        return false;
    }
    let halves = || node.operands.iter().flatten().filter(|&&v| is_half_value(g, v));
    let gives = node.results.iter().any(|r| r.ty.as_tensor().is_some_and(|t| is_half(t.dtype)));
    match node.op.only_moves() {
        true => halves().any(|v| wide.computed.contains_key(v)),
        false => halves().next().is_some() || gives && matches!(node.op, Op::Dequantize(_)),
    }
}

/// What is known in `f32` of halves.
#[derive(Default)]
struct WideValues {
    /// What was computed in `f32`, by its rounding.
    computed: HashMap<Value, Value>,
    /// What was widened, by the half.
    widened: HashMap<Value, Value>,
    /// The casts that were made.
    made: Vec<NodeId>,
}

impl WideValues {
    /// A value of halves in `f32`.
    fn of(&mut self, graph: &mut Graph, half: Value) -> Value {
        if let Some(known) = self.computed.get(&half).or_else(|| self.widened.get(&half)) {
            return *known;
        }
        let wide = cast(graph, half, DType::F32);
        self.widened.insert(half, wide);
        self.made.push(wide.node);
        wide
    }

    /// Readers of a cast to `f32` read what is there in `f32` already.
    fn forward(&mut self, graph: &mut Graph, id: NodeId) -> bool {
        let value = Value { node: id, result: 0 };
        let Some((half, Cast { to: DType::F32 })) = graph.operand(id, 0).zip(graph.op::<Cast>(id)) else {
            return false;
        };
        if !is_half_value(graph, half) {
            return false;
        }
        match self.computed.get(&half).or_else(|| self.widened.get(&half)) {
            Some(&known) if known != value => {
                graph.replace_uses(value, known);
                remove_unused(graph, id);
            }
            _ => drop(self.widened.insert(half, value)),
        }
        true
    }

    /// Computes a node in `f32`, if it takes that.
    fn widen(&mut self, graph: &mut Graph, id: NodeId) {
        let before = graph.node(id).clone();
        for (slot, operand) in before.operands.iter().enumerate() {
            if let Some(half) = operand.filter(|&v| is_half_value(graph, v)) {
                let wide = self.of(graph, half);
                graph.set_operand(id, slot, Some(wide));
            }
        }
        match &mut graph.node_mut(id).op {
            Op::Dequantize(op) => op.to = DType::F32,
            Op::Cast(op) => op.to = DType::F32,
            _ => {}
        }
        note_product(graph, id, &before.operands);
        let declared: Vec<Type> = before.results.iter().map(|r| in_f32(&r.ty)).collect();
        let inferred = infer_node(graph, id).unwrap_or_default();
        let same = |(found, declared): (&Type, &Type)| dtype_of(found) == dtype_of(declared);
        if inferred.len() != declared.len() || !inferred.iter().zip(&declared).all(same) {
            graph.node_mut(id).op = before.op;
            before.operands.iter().enumerate().for_each(|(slot, &v)| graph.set_operand(id, slot, v));
            return;
        }
        for (i, (ty, declared)) in inferred.iter().zip(&declared).enumerate() {
            let value = Value { node: id, result: i as u32 };
            let narrow = dtype_of(&before.results[i].ty).filter(|&d| is_half(d));
            let Some(narrow) = narrow else { continue };
            graph.node_mut(id).results[i].ty = refined(ty, declared);
            let readers = graph.uses(value);
            let rounded = cast(graph, value, narrow);
            let outputs = graph.is_output(value);
            for (user, slot) in readers {
                graph.set_operand(user, slot, Some(rounded));
            }
            if outputs {
                graph.outputs.replace(value, rounded);
            }
            self.computed.insert(rounded, value);
            self.made.push(rounded.node);
        }
    }
}

/// Notes that a product of bfloat16 with constant weights rounds its factors.
fn note_product(graph: &mut Graph, id: NodeId, operands: &[Option<Value>]) {
    let factor = |slot: usize| operands.get(slot).copied().flatten();
    let rounded = |slot: usize| factor(slot).and_then(|v| dtype(graph, v)) == Some(DType::BF16);
    let constant = factor(1).is_some_and(|v| graph.constant(v).is_some());
    if !(rounded(0) && rounded(1) && constant) {
        return;
    }
    match &mut graph.node_mut(id).op {
        Op::MatMul(op) => op.precision = DType::BF16,
        Op::Gemm(op) => op.precision = DType::BF16,
        Op::Conv(op) => op.precision = DType::BF16,
        _ => {}
    }
}

fn dtype_of(ty: &Type) -> Option<DType> {
    ty.as_tensor().map(|t| t.dtype)
}

/// The type with `f32` in place of halves.
fn in_f32(ty: &Type) -> Type {
    match ty {
        Type::Tensor(t) if is_half(t.dtype) => TensorType { dtype: DType::F32, ..t.clone() }.into(),
        other => other.clone(),
    }
}

/// Adds a cast of a value.
fn cast(graph: &mut Graph, value: Value, to: DType) -> Value {
    let ty = tensor_type(graph, value).map(|t| TensorType { dtype: to, ..t.clone() });
    let id = graph.add(Cast { to }, &[Some(value)], ty.into_iter().map(Into::into).collect());
    graph.node_mut(id).loc = graph.node(value.node).loc.clone();
    Value { node: id, result: 0 }
}
