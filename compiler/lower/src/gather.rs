//! Gathers: at constant even indices they are views, at other constant ones movements; at computed ones kernels that
//! load each index. Those are checked before the kernel runs, so that one out of range is an error.

use optc_ir::ops::tensor::Gather;
use optc_ir::{Encoding, Op};
use optc_kernel::nest::IndexMem;
use optc_kernels::gather::{self as kernels, gather};
use optc_tensor::DType;
use optc_types::ReasonCode;
use optc_types::steps::{Step, StepInfo};

use super::cx::Cx;
use super::moves::view_in;
use super::places::stored;
use super::{Declined, Lowered, Site, mapped};

/// Lowers a gather.
pub(super) fn op(cx: &mut Cx, op: &Gather, site: &Site) -> Lowered {
    site.without_epilogue()?;
    if cx.constant(site.operand(1)?).is_some() && cx.constant(site.operand(0)?).is_none() {
        return mapped::op(cx, &Op::Gather(op.clone()), site);
    }
    let dst = site.result()?.clone();
    let x = view_in(cx, site.operand(0)?, Encoding::Plain)?;
    let indices = view_in(cx, site.operand(1)?, Encoding::Plain)?;
    let index = match indices.dtype {
        DType::I32 => IndexMem::I32,
        DType::I64 => IndexMem::I64,
        other => return Err(Declined::new(ReasonCode::Numbers, format!("indices are {other}"))),
    };
    let rank = x.shape.len() as i64;
    let axis = usize::try_from(if op.axis < 0 { op.axis + rank } else { op.axis }).ok();
    let axis = axis
        .filter(|&d| d < x.shape.len())
        .ok_or_else(|| Declined::new(ReasonCode::Attribute, "there is no such axis"))?;
    if !dst.is(Encoding::Plain) || x.is_empty() {
        return Err(Declined::new(ReasonCode::Empty, "it is empty, or the result is not laid out plainly"));
    }
    let outer = x.shape[..axis].iter().product();
    let row = x.shape[axis + 1..].iter().product::<usize>() * x.width();
    let problem = kernels::GatherNest { outer, extent: x.shape[axis], count: indices.len(), row, index };
    if problem.outer * problem.count * row != dst.span_bytes() {
        return Err(Declined::new(ReasonCode::Shape, "the result has another shape than its operands say"));
    }
    cx.out.step(Step::Check { indices: stored(&indices), extent: x.shape[axis], loc: site.loc.join(", ") });
    let kernel = gather(&problem, cx.target.isa);
    let info = StepInfo { loc: site.loc.clone(), bytes: 2.0 * dst.span_bytes() as f64, ..StepInfo::default() };
    cx.kernel(kernel, vec![x.at, indices.at, dst.at], None, info);
    Ok(())
}
