//! Fused regions: finds the one op that is not elementwise (the anchor) and makes a scalar expression from the rest.

use std::collections::HashMap;

use optc_ir::{ComputedBy, Graph, Node, NodeId, Op, Scalar, TensorType, Value};
use optc_kernel::expr::Expr;
use optc_tensor::DType;
use optc_types::ReasonCode;

use super::cx::Cx;
use super::families::op;
use super::{Declined, Epilogue, Lowered, Site, TensorView, elementwise};

/// Beyond this many leaves and operators fusion does not pay: the values do not stay in registers.
const MAX_EXPR: usize = 200;

/// What a region computes: an expression on operands.
pub(super) struct Fusion {
    pub anchor: Option<NodeId>,
    expr: Expr,
    /// The region's parameters that are operands `first..` of the expression; an `i64` is there twice, for its halves.
    pub operands: Vec<usize>,
}

/// Lowers a fused region into one kernel (or the kernels of its anchor, the last of which applies the epilogue).
pub(super) fn fused(cx: &mut Cx, region: &Graph, site: Site) -> Lowered {
    let fusion = analyse(region)?;
    let mut views: Vec<TensorView> = Vec::new();
    let result = site.result()?.clone();
    let mut params = fusion.operands.clone();
    params.dedup();
    for param in params {
        let value = site.operand(param)?;
        let wide = cx.view(value)?.broadcast(&result.shape);
        let wide =
            wide.ok_or_else(|| Declined::new(ReasonCode::Shape, "an operand does not broadcast to the result"))?;
        views.extend(elementwise::halves(wide));
    }
    let Some(anchor) = fusion.anchor else {
        return elementwise::elementwise(cx, &fusion.expr, &views, &result, &site.loc);
    };
    let params = anchor_params(region, anchor, &result.shape)?;
    let operands = params.into_iter().map(|param| param.map(|param| site.operand(param)).transpose());
    let operands = operands.collect::<Result<_, _>>()?;
    let epilogue = Epilogue { expr: fusion.expr, operands: views };
    op(cx, &region.node(anchor).op, &Site { operands, epilogue, ..site })
}

/// Which of the region's parameters the anchor reads, if its one result has this shape.
///
/// # Errors
/// It has another one, or an operand is not a parameter.
pub(super) fn anchor_params(region: &Graph, anchor: NodeId, shape: &[usize]) -> Result<Vec<Option<usize>>, Declined> {
    let node = region.node(anchor);
    let between = region.ty(Value { node: anchor, result: 0 }).as_tensor().and_then(TensorType::static_shape);
    if between.as_deref() != Some(shape) || node.results.len() != 1 {
        return Err(Declined::new(ReasonCode::Region, "the expression after an op has another shape"));
    }
    let params: HashMap<Value, usize> = region.inputs().enumerate().map(|(i, v)| (v, i)).collect();
    let param = |value: &Value| params.get(value).copied();
    let inside = || Declined::new(ReasonCode::Region, "the anchor reads a constant inside");
    let params = node.operands.iter().map(|o| o.as_ref().map(|v| param(v).ok_or_else(inside)).transpose());
    params.collect()
}

/// What a region computes.
///
/// # Errors
/// No kernel computes it.
pub(super) fn analyse(region: &Graph) -> Result<Fusion, Declined> {
    let [output] = &region.outputs[..] else {
        return Err(Declined::new(ReasonCode::Region, "the region has several results"));
    };
    let params: HashMap<Value, usize> = region.inputs().enumerate().map(|(i, v)| (v, i)).collect();
    let order =
        region.topological_order().ok_or_else(|| Declined::new(ReasonCode::Region, "the region has a cycle"))?;
    let anchor = find_anchor(region, &order)?;
    let first = usize::from(anchor.is_some());
    let mut operands: Vec<usize> = Vec::new();
    let mut known: HashMap<Value, Scalar> = HashMap::new();
    for id in order {
        let node = region.node(id);
        let value = Value { node: id, result: 0 };
        match &node.op {
            Op::Param(_) => {}
            Op::Constant(c) => {
                let scalar = Scalar::constant(&c.value.0)
                    .ok_or_else(|| Declined::new(ReasonCode::Region, "a constant inside is not a scalar"))?;
                known.insert(value, scalar);
            }
            _ if Some(id) == anchor => {
                known.insert(value, Scalar::operand(0, dtype(region, value)?));
            }
            op => {
                if matches!(op, Op::Quantize(_) | Op::Dequantize(_)) {
                    one_scale(region, node)?;
                }
                let mut args = Vec::new();
                for operand in &node.operands {
                    let Some(operand) = operand else {
                        args.push(None);
                        continue;
                    };
                    if let Some(&param) = params.get(operand) {
                        let dtype = dtype(region, *operand)?;
                        let at = operands.iter().position(|&p| p == param).unwrap_or_else(|| {
                            operands.extend(vec![param; if dtype == DType::I64 { 2 } else { 1 }]);
                            operands.iter().position(|&p| p == param).unwrap_or_default()
                        });
                        args.push(Some(Scalar::operand(first + at, dtype)));
                    } else {
                        args.push(known.get(operand).cloned());
                    }
                }
                let dtype = dtype(region, value)?;
                let expr = elementwise::expr_of(op, &args, dtype)?;
                if expr.size() > MAX_EXPR {
                    return Err(Declined::new(ReasonCode::Region, "the fused expression is too large"));
                }
                known.insert(value, Scalar::new(expr, dtype));
            }
        }
    }
    let expr = known
        .remove(&output.value)
        .ok_or_else(|| Declined::new(ReasonCode::Region, "the region gives one of its operands"))?;
    Ok(Fusion { anchor, expr: expr.stored(), operands })
}

/// Declines scales that differ along an axis: operands of a region are broadcast to its result.
fn one_scale(region: &Graph, node: &Node) -> Result<(), Declined> {
    let several = |v: &Value| {
        let shape = region.ty(*v).as_tensor().and_then(TensorType::static_shape);
        shape.is_none_or(|s| s.iter().product::<usize>() != 1)
    };
    match node.operands.iter().skip(1).flatten().any(several) {
        true => Err(Declined::new(ReasonCode::Region, "scales along an axis in a region")),
        false => Ok(()),
    }
}

fn find_anchor(region: &Graph, order: &[NodeId]) -> Result<Option<NodeId>, Declined> {
    let mut anchor = None;
    for &id in order {
        let op = &region.node(id).op;
        let free = matches!(op, Op::Param(_) | Op::Constant(_)) || op.facts().computed_by == ComputedBy::Expression;
        if !free && anchor.replace(id).is_some() {
            return Err(Declined::new(ReasonCode::Region, "the region has two ops that are not elementwise"));
        }
    }
    Ok(anchor)
}

fn dtype(region: &Graph, value: Value) -> Result<DType, Declined> {
    region
        .ty(value)
        .as_tensor()
        .map(|t| t.dtype)
        .ok_or_else(|| Declined::new(ReasonCode::Absent, "a value inside is not a tensor"))
}
