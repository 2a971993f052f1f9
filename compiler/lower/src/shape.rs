//! Ops that only name bytes in another way: reshapes, transposes, slices with positive steps, broadcasts. They become
//! views and cost nothing; whoever reads them copes with the strides, or asks for a dense copy.

use optc_ir::{Encoding, Node, NodeId, Op, Value};
use optc_kernel::program::Decision;

use super::cx::Cx;
use super::moves::view_in;
use super::places::{Loc, buffered};
use super::{TensorView, strides_in};

/// Makes the node's results views of its operand, where that is all it takes.
pub(super) fn try_view(cx: &mut Cx, id: NodeId, node: &Node) -> Option<Decision> {
    let types = node.results.iter().map(|r| buffered(&r.ty)?.static_shape()).collect::<Option<Vec<_>>>()?;
    let x = match cx.places.get(node.operands.first().copied()??)? {
        Loc::View(view) => view.clone(),
        Loc::Slot(_) | Loc::Constant(_) => return None,
    };
    let views = match &node.op {
        Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze(_) | Op::Unsqueeze(_) => match x.reshaped(&types[0]) {
            Some(view) => vec![view],
            // No regular strides: the elements are put in order first.
            None => vec![view_in(cx, node.operands[0]?, Encoding::Plain).ok()?.reshaped(&types[0])?],
        },
        Op::Transpose(t) => vec![transposed(&x, &t.perm)?],
        Op::Expand(_) => vec![x.broadcast(&types[0])?],
        Op::Slice(_) => vec![sliced(cx, &x, node, &types[0])?],
        Op::Gather(g) => vec![gathered(cx, &x, g.axis, node, &types[0])?],
        Op::Split(s) => split(&x, s.axis, &types)?,
        Op::ConvertLayout(_) => {
            let encoding = node.results[0].ty.as_tensor()?.encoding;
            vec![x.is(encoding).then_some(x)?]
        }
        _ => return None,
    };
    for (i, view) in views.into_iter().enumerate() {
        cx.places.set(Value { node: id, result: i as u32 }, Loc::View(view));
    }
    Some(Decision::View)
}

/// The gather of constant indices that are as far apart as each other: a slice, with other dims.
fn gathered(cx: &Cx, x: &TensorView, axis: i64, node: &Node, shape: &[usize]) -> Option<TensorView> {
    let indices = cx.constant(node.operands.get(1).copied()??)?;
    let rank = x.shape.len() as i64;
    let d = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok().filter(|&d| d < x.shape.len())?;
    let n = x.shape[d] as i64;
    let wrapped = |i: i64| Some(if i < 0 { i + n } else { i }).filter(|i| (0..n).contains(i));
    let at = indices.to_i64_vec().into_iter().map(wrapped).collect::<Option<Vec<_>>>()?;
    let first = *at.first()?;
    let step = at.get(1).map_or(1, |second| second - first);
    if step < 0 || at.windows(2).any(|pair| pair[1] - pair[0] != step) {
        return None;
    }
    let inner = strides_in(indices.shape(), Encoding::Plain).into_iter().map(|s| s * step * x.strides[d]);
    let mut strides = x.strides.clone();
    strides.splice(d..d + 1, inner);
    let mut view = TensorView { shape: shape.to_vec(), strides, ..x.clone() };
    if !view.is_empty() {
        view.at.offset += usize::try_from(first * x.strides[d]).ok()? * view.width();
    }
    Some(view)
}

/// The slice as a view: constant bounds, positive steps.
fn sliced(cx: &Cx, x: &TensorView, node: &Node, shape: &[usize]) -> Option<TensorView> {
    let list = |slot: usize| -> Option<Option<Vec<i64>>> {
        match node.operands.get(slot).copied().flatten() {
            None => Some(None),
            Some(value) => Some(Some(cx.constant(value)?.to_i64_vec())),
        }
    };
    let starts = list(1)??;
    let axes = list(3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    let mut view = x.clone();
    let mut offset = 0i64;
    for ((&start, &axis), &step) in starts.iter().zip(&axes).zip(&steps) {
        let rank = x.shape.len() as i64;
        let d = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok().filter(|&d| d < x.shape.len())?;
        let n = x.shape[d] as i64;
        if step <= 0 {
            return None;
        }
        let start = if start < 0 { start.saturating_add(n) } else { start }.clamp(0, n);
        offset += start * view.strides[d];
        view.strides[d] = view.strides[d].checked_mul(step)?;
    }
    view.shape = shape.to_vec();
    if !view.is_empty() {
        view.at.offset += usize::try_from(offset).ok()? * view.width();
    }
    Some(view)
}

fn transposed(x: &TensorView, perm: &[i64]) -> Option<TensorView> {
    let pick = |d: &i64| usize::try_from(*d).ok().filter(|&d| d < x.shape.len());
    let perm: Vec<usize> = perm.iter().map(pick).collect::<Option<_>>()?;
    let shape = perm.iter().map(|&d| x.shape[d]).collect();
    let strides = perm.iter().map(|&d| x.strides[d]).collect();
    Some(TensorView { shape, strides, ..x.clone() })
}

fn split(x: &TensorView, axis: i64, shapes: &[Vec<usize>]) -> Option<Vec<TensorView>> {
    let rank = x.shape.len() as i64;
    let d = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok().filter(|&d| d < x.shape.len())?;
    let mut start = 0i64;
    let mut views = Vec::new();
    for shape in shapes {
        let mut part = TensorView { shape: shape.clone(), ..x.clone() };
        if !part.is_empty() {
            part.at.offset += usize::try_from(start * x.strides[d]).ok()? * x.width();
        }
        start += shape[d] as i64;
        views.push(part);
    }
    Some(views)
}
