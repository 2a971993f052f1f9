//! `fold-constants`: compute now what depends on constants and known shapes alone.
//!
//! ```optc
//! given %x: tensor<2x3xf32>
//! %0 = tensor.shape %x : tensor<2xi64>
//! %1 = tensor.const {value = dense<[1]> : tensor<1xi64>} : tensor<1xi64>
//! %2 = tensor.concat %0, %1 {axis = 0} : tensor<3xi64>
//! %3 = tensor.reshape %x, %2 : tensor<2x3x1xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<2x3xf32>
//! %0 = tensor.const {value = dense<[2, 3, 1]> : tensor<3xi64>} : tensor<3xi64>
//! %1 = tensor.reshape %x, %0 : tensor<2x3x1xf32>
//! ```
//!
//! Goes through the ops in topological order, refreshing types as it goes, so that what a folded constant lets
//! inference know is folded in turn. Values come from `eval`, the reference. The branch that a constant condition
//! chooses takes the place of its `cf.if`, and its ops are gone through like all others; regions that stay are gone
//! through with the types that their op's operands got.
//!
//! Integers that are dequantized to be the right side of matrix products, or a table of which rows are gathered, stay:
//! they are read as they are. Those of four and eight bits that are cast and scaled by hand are dequantized.
//!
//! Declines when a result would take more than `max_bytes` (1 MiB) and more than four times what its operands take;
//! when the op has regions, which may loop for long; with `quantized=keep`, when it dequantizes, so that integers are
//! still there for `fold-quant`; when the work is not worth it ([`MAX_WORK`]); when `eval` refuses the operands, which
//! is then an error of the run.

mod branch;
mod stored;

use std::collections::VecDeque;

use optc_ir::ops::tensor::Constant;
use optc_ir::{
    Args, Const, Effects, Graph, NodeId, Op, ResultInfo, TensorType, Type, Val, Value, infer_node, infer_regions,
    regions_settled,
};
use optc_tensor::{Tensor, element_count};

use crate::matching::{kept_zeros, pruned};
use crate::rewrite::{is_settled, remove_unused};
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// Multiply-adds beyond which a contraction of constants stays: `eval` is written to be read, not to be fast.
const MAX_WORK: usize = 1 << 24;
/// Fewer integers than this are not worth a form of their own.
const STORED: usize = 1 << 10;

/// See the module.
pub struct FoldConstants {
    max_bytes: usize,
    keep_quantized: bool,
}

impl Pass for FoldConstants {
    const NAME: &'static str = "fold-constants";
    const SUMMARY: &'static str = "compute now what depends on constants and known shapes alone";
    const NUMERICS: Numerics = Numerics::BitExact;

    fn from_options(options: &mut PassArguments) -> Result<FoldConstants, OptionError> {
        let max_bytes = options.take("max_bytes", 1 << 20)?;
        let keep_quantized = match options.take("quantized", "fold".to_owned())?.as_str() {
            "fold" => false,
            "keep" => true,
            other => {
                let reason = format!("`{other}` is not `fold` or `keep`");
                return Err(OptionError { key: "quantized".to_owned(), reason });
            }
        };
        Ok(FoldConstants { max_bytes, keep_quantized })
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        let mut order: VecDeque<NodeId> = graph.topological_order().unwrap_or_default().into();
        while let Some(id) = order.pop_front() {
            // A dead operand of a node that was folded earlier.
            if graph.get(id).is_none() || matches!(graph.node(id).op, Op::Param(_) | Op::Constant(_)) {
                continue;
            }
            if let Some(chosen) = branch::known_branch(graph, id)
                && cx.permit("known-branch")
            {
                branch::inline(graph, id, 1, &chosen).into_iter().rev().for_each(|new| order.push_front(new));
                continue;
            }
            if let Some(expansion) = branch::expansion(graph, id)
                && cx.permit("custom-op")
            {
                branch::inline(graph, id, 0, &expansion).into_iter().rev().for_each(|new| order.push_front(new));
                continue;
            }
            self.regions(graph, id, cx)?;
            refresh_types(graph, id);
            if let Some(scaled) = stored::scaled(graph, id)
                && cx.permit("scaled-integers")
            {
                order.push_front(stored::dequantize(graph, id, scaled));
                remove_unused(graph, id);
                continue;
            }
            let folded = match &graph.node(id).op {
                Op::ShapeOf(_) => static_shape(graph, id).map(|t| ("known-shape", vec![t])),
                _ => self.evaluate(graph, id).map(|t| ("constant", t)),
            };
            if let Some((rule, tensors)) = folded
                && cx.permit(rule)
            {
                replace_by_constants(graph, id, tensors);
            }
        }
        Ok(())
    }
}

impl FoldConstants {
    /// Folds what lies in the regions of a node, with the types that the node's operands have by now.
    fn regions(&self, graph: &mut Graph, id: NodeId, cx: &mut PassCx) -> Result<(), PassError> {
        if graph.node(id).regions.is_empty() || is_settled(&graph.node(id).op) {
            return Ok(());
        }
        // What refuses its types is for `infer-types` to report.
        if regions_settled(graph, id) || infer_regions(graph, id).is_ok() {
            graph.node_mut(id).regions.iter_mut().try_for_each(|region| self.run(region, cx))?;
        }
        Ok(())
    }

    /// The results of an op whose operands are all constants.
    fn evaluate(&self, graph: &Graph, id: NodeId) -> Option<Vec<Tensor>> {
        let node = graph.node(id);
        let kept = self.keep_quantized && matches!(node.op, Op::Dequantize(_) | Op::FakeQuant(_));
        let kept = kept || stored::is_to_be_scaled(graph, id);
        if kept || is_read_as_stored(graph, id) || node.op.facts().effects != Effects::Pure || !node.regions.is_empty()
        {
            return None;
        }
        let constant = |v: &Option<Value>| match v {
            None => Some(None),
            Some(v) => Some(Some(Val::Tensor(graph.constant(*v)?.clone()))),
        };
        let values: Vec<Option<Val>> = node.operands.iter().map(constant).collect::<Option<_>>()?;
        let given: usize = values.iter().flatten().filter_map(Val::as_tensor).map(|t| t.bytes().len()).sum();
        let limit = self.max_bytes.max(given.saturating_mul(4));
        let fits = |info: &ResultInfo| static_bytes(&info.ty).is_none_or(|bytes| bytes <= limit);
        if !node.results.iter().all(fits) || work(graph, id) > MAX_WORK {
            return None;
        }
        let types: Vec<Type> = node.results.iter().map(|r| r.ty.clone()).collect();
        let results = node.op.eval(&Args { types: &types, ..Args::plain(&values) }).ok()?;
        let tensors = results.iter().map(|v| v.as_tensor().cloned()).collect::<Option<Vec<Tensor>>>()?;
        let small = tensors.iter().map(|t| t.bytes().len()).sum::<usize>() <= limit.saturating_mul(tensors.len());
        (small && tensors.len() == node.results.len()).then_some(tensors)
    }
}

/// Whether a node dequantizes a matrix that only products, on their right side, and gathers of rows read. One that was
/// pruned may be stored in blocks of floats.
fn is_read_as_stored(graph: &Graph, id: NodeId) -> bool {
    let value = Value { node: id, result: 0 };
    let Op::Dequantize(_) = &graph.node(id).op else { return false };
    let Some(integers) = graph.operand(id, 0).filter(|&v| pruned(graph, v) == 0).and_then(|v| graph.constant(v)) else {
        return false;
    };
    let reads = |(user, slot): (NodeId, usize)| match &graph.node(user).op {
        Op::MatMul(_) | Op::Gemm(_) => slot == 1,
        Op::Gather(op) => slot == 0 && op.axis == 0,
        _ => false,
    };
    let large = integers.rank() == 2 && integers.len() >= STORED;
    large && graph.is_used(value) && !graph.is_output(value) && graph.each_use(value).all(reads)
}

/// Infers the types of a node again; they stay as they are where that fails.
fn refresh_types(graph: &mut Graph, id: NodeId) {
    let Ok(types) = infer_node(graph, id) else { return };
    for (info, ty) in graph.node_mut(id).results.iter_mut().zip(types) {
        info.ty = crate::rewrite::refined(&ty, &info.ty);
    }
}

fn static_bytes(ty: &Type) -> Option<usize> {
    let t = ty.as_tensor()?;
    // An overflowing size is too large for any limit.
    Some(element_count(&t.static_shape()?).and_then(|n| t.dtype.bytes_for(n)).unwrap_or(usize::MAX))
}

/// The multiply-adds of a contraction, roughly; 0 for ops that are linear in their operands' size.
fn work(graph: &Graph, id: NodeId) -> usize {
    let node = graph.node(id);
    let elements = |ty: &Type| ty.as_tensor().and_then(TensorType::static_shape).and_then(|s| element_count(&s));
    let operand = |slot: usize| graph.operand(id, slot).and_then(|v| elements(graph.ty(v))).unwrap_or(usize::MAX);
    let result = || node.results.first().and_then(|r| elements(&r.ty)).unwrap_or(usize::MAX);
    let last = |slot: usize| {
        let ty = graph.operand(id, slot).and_then(|v| graph.ty(v).as_tensor());
        ty.and_then(|t| t.static_shape()?.last().copied()).unwrap_or(usize::MAX)
    };
    match &node.op {
        Op::MatMul(_) => result().saturating_mul(last(0)),
        Op::Gemm(_) | Op::Conv(_) => result().saturating_mul(operand(1).min(1 << 20)),
        Op::Lstm(_) => operand(0).saturating_mul(operand(2)),
        _ => 0,
    }
}

/// The extents that `tensor.shape` gives, where the operand's are concrete.
fn static_shape(graph: &Graph, id: NodeId) -> Option<Tensor> {
    let Op::ShapeOf(op) = &graph.node(id).op else { return None };
    let ty = graph.ty(graph.operand(id, 0)?).as_tensor()?;
    let dims = ty.shape.as_ref()?;
    let rank = dims.len() as i64;
    let at = |v: i64| if v < 0 { v.saturating_add(rank) } else { v }.clamp(0, rank) as usize;
    let dims = dims.get(at(op.start)..at(op.end).max(at(op.start)))?;
    let extents: Vec<i64> = dims.iter().map(|d| d.known().map(|n| n as i64)).collect::<Option<_>>()?;
    Tensor::from_slice(&[extents.len()], &extents).ok()
}

fn replace_by_constants(graph: &mut Graph, id: NodeId, tensors: Vec<Tensor>) {
    for (result, tensor) in tensors.into_iter().enumerate() {
        let ty = TensorType::fixed(tensor.dtype(), tensor.shape()).into();
        let zeros = graph.node(id).operands.iter().flatten().map(|&v| pruned(graph, v)).max().unwrap_or(0);
        let zeros = kept_zeros(zeros, &tensor);
        let new = graph.add(Constant { value: Const(tensor), zeros }, &[], vec![ty]);
        let old = Value { node: id, result: result as u32 };
        if graph.is_used(old) {
            graph.replace_uses(old, Value { node: new, result: 0 });
        } else {
            graph.remove(new);
        }
    }
    remove_unused(graph, id);
}
