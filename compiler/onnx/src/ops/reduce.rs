//! Reductions over axes.

use optc_ir::Value;
use optc_ir::ops::math::{self, ReduceKind};
use optc_tensor::Tensor;

use super::{Mapped, Table};
use crate::mapping::NodeCx;

pub(crate) const TABLE: Table = &[
    ("", "ReduceSum", |cx| reduce(cx, ReduceKind::Sum, 13)),
    ("", "ReduceMean", |cx| reduce(cx, ReduceKind::Mean, 18)),
    ("", "ReduceMax", |cx| reduce(cx, ReduceKind::Max, 18)),
    ("", "ReduceMin", |cx| reduce(cx, ReduceKind::Min, 18)),
    ("", "ReduceProd", |cx| reduce(cx, ReduceKind::Prod, 18)),
    ("", "ReduceSumSquare", |cx| reduce(cx, ReduceKind::SumSquare, 18)),
    ("", "ReduceL1", |cx| reduce(cx, ReduceKind::L1, 18)),
    ("", "ReduceL2", |cx| reduce(cx, ReduceKind::L2, 18)),
    ("", "ReduceLogSum", |cx| reduce(cx, ReduceKind::LogSum, 18)),
    ("", "ReduceLogSumExp", |cx| reduce(cx, ReduceKind::LogSumExp, 18)),
];

/// The axes are an input since opset `since`, an attribute before. With none, all axes are reduced, or on request none
/// at all, for which the IR op takes them as an operand.
fn reduce(cx: &mut NodeCx, kind: ReduceKind, since: i64) -> Mapped {
    let x = cx.input(0)?;
    let keep_dims = cx.attrs.flag("keepdims", true)?;
    let op = |axes| math::Reduce { all_if_empty: false, kind, axes, keep_dims };
    if cx.opset < since {
        let axes = cx.attrs.ints("axes")?.unwrap_or_default();
        return cx.emit(op(axes), &[Some(x)]);
    }
    let none_if_empty = cx.attrs.flag("noop_with_empty_axes", false)?;
    let by = cx.optional(1);
    match known_axes(cx, by) {
        Some(axes) if axes.is_empty() && none_if_empty => {
            let nothing = cx.constant(Tensor::from_slice::<i64>(&[0], &[])?);
            cx.emit(op(vec![]), &[Some(x), Some(nothing)])
        }
        Some(axes) => cx.emit(op(axes), &[Some(x)]),
        None => cx.emit(math::Reduce { all_if_empty: !none_if_empty, ..op(vec![]) }, &[Some(x), by]),
    }
}

/// The axes where they are known at import.
fn known_axes(cx: &NodeCx, by: Option<Value>) -> Option<Vec<i64>> {
    let Some(by) = by else { return Some(vec![]) };
    let nothing = (length(cx, by) == Some(0)).then(Vec::new);
    cx.constant_of(by).map(Tensor::to_i64_vec).or(nothing)
}

fn length(cx: &NodeCx, value: Value) -> Option<usize> {
    Some(cx.ty(value).as_tensor()?.static_shape()?.iter().product())
}
