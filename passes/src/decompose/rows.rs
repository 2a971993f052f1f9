//! Rows that a mask keeps.

use optc_ir::ops::tensor::{Compress, Gather, NonZero, Squeeze};
use optc_ir::{Graph, NodeId};
use optc_tensor::Tensor;

use crate::matching::{positive_axes, result, shape};
use crate::rewrite::Patch;

/// The slices that a mask keeps → those at its places, which a gather moves: a list of places is all that is made anew
/// in each run.
pub(super) fn compress(g: &Graph, node: NodeId) -> Option<Patch> {
    let op = g.op::<Compress>(node)?;
    let (x, keep) = (g.operand(node, 0)?, g.operand(node, 1)?);
    let extents = shape(g, x)?;
    let axis = *positive_axes(&[op.axis], extents.len())?.first()?;
    // A mask that is longer than the axis is an error, even where it keeps nothing beyond.
    if shape(g, keep)?.first()? > extents.get(axis)? {
        return None;
    }
    let mut patch = Patch::new();
    let places = patch.add(NonZero {}, &[keep.into()]);
    let first = patch.constant(Tensor::from_slice(&[1], &[0i64]).ok()?);
    let list = patch.add(Squeeze {}, &[places, first]);
    let new = patch.add(Gather { axis: op.axis }, &[x.into(), list]);
    Some(patch.replacing(result(node), new))
}
