//! The multidirectional (NumPy) rule of broadcasting, on types and on elements.

use optc_tensor::{Tensor, broadcast_shapes, for_each_index, strides_of};

use crate::ops::number::checked_len;
use crate::{Dim, OpError, TensorType, ensure};

/// The shape that types broadcast to; unknown extents stay unknown where they decide.
pub(crate) fn broadcast_types(a: &TensorType, b: &TensorType) -> Result<Option<Vec<Dim>>, OpError> {
    let (Some(x), Some(y)) = (&a.shape, &b.shape) else { return Ok(None) };
    let rank = x.len().max(y.len());
    let one = Dim::Known(1);
    let at = |s: &Vec<Dim>, d: usize| if d + s.len() < rank { one.clone() } else { s[d + s.len() - rank].clone() };
    let mut dims = Vec::with_capacity(rank);
    for d in 0..rank {
        dims.push(match (at(x, d), at(y, d)) {
            // Two unknown extents need not be the same one.
            (Dim::Unknown, Dim::Unknown) => Dim::Unknown,
            (p, q) if p == q => p,
            (Dim::Known(1), q) => q,
            (p, Dim::Known(1)) => p,
            (Dim::Known(p), Dim::Known(q)) => {
                ensure!(p == q, "C1", "{a} and {b} do not broadcast");
                Dim::Known(p)
            }
            (Dim::Known(p), _) | (_, Dim::Known(p)) => Dim::Known(p),
            _ => Dim::Unknown,
        });
    }
    Ok(Some(dims))
}

/// The shape that tensors broadcast to.
///
/// # Errors
/// They do not broadcast, or to something too large.
pub(crate) fn common_shape(tensors: &[&Tensor]) -> Result<Vec<usize>, OpError> {
    let mut shape = vec![];
    for t in tensors {
        let wider = broadcast_shapes(&shape, t.shape());
        ensure!(wider.is_some(), "C1", "shapes {shape:?} and {:?} do not broadcast", t.shape());
        shape = wider.unwrap_or_default();
        checked_len(t.dtype(), &shape)?;
    }
    Ok(shape)
}

/// Strides of a tensor of shape `from` seen as one of `shape`: 0 where an extent of 1 repeats.
pub(crate) fn broadcast_strides(from: &[usize], shape: &[usize]) -> Vec<usize> {
    let strides = strides_of(from);
    // A tensor of one element may have more dims than the result.
    let lead = shape.len().saturating_sub(from.len());
    (0..shape.len()).map(|d| if d < lead || from[d - lead] == 1 { 0 } else { strides[d - lead] }).collect()
}

/// Calls `f` for each element of `shape`, in row-major order, with the position of the element of each tensor that
/// broadcasts to it; `from` are the tensors' shapes.
pub(crate) fn for_each_broadcast<const N: usize>(from: [&[usize]; N], shape: &[usize], mut f: impl FnMut([usize; N])) {
    let strides = from.map(|s| broadcast_strides(s, shape));
    let (inner, outer) = match shape.split_last() {
        Some((&n, outer)) => (n, outer),
        None => (1, &[][..]),
    };
    let steps: [usize; N] = std::array::from_fn(|k| strides[k].last().copied().unwrap_or(0));
    for_each_index(outer, |index| {
        let mut at: [usize; N] = std::array::from_fn(|k| index.iter().zip(&strides[k]).map(|(i, s)| i * s).sum());
        for _ in 0..inner {
            f(at);
            (0..N).for_each(|k| at[k] += steps[k]);
        }
    });
}

/// For each element of `shape`, the index of the element of a tensor of shape `from` that broadcasts to it.
pub(crate) fn broadcast_indices(from: &[usize], shape: &[usize]) -> Vec<usize> {
    let mut indices = Vec::with_capacity(shape.iter().product());
    for_each_broadcast([from], shape, |[i]| indices.push(i));
    indices
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_tensor::DType;

    #[test]
    fn elements_meet_as_in_numpy() {
        let mut pairs = vec![];
        for_each_broadcast([&[2, 1], &[3]], &[2, 3], |p| pairs.push(p));
        assert_eq!(pairs, [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]);
        assert_eq!(broadcast_indices(&[], &[2]), [0, 0]);
        assert_eq!(broadcast_indices(&[1], &[]).len(), 1);
        assert!(broadcast_indices(&[0], &[0]).is_empty());
    }

    #[test]
    fn unknown_extents_are_not_taken_for_equal() {
        let t = |d: Vec<Dim>| TensorType::new(DType::F32, d);
        let both = broadcast_types(&t(vec![Dim::Unknown]), &t(vec![Dim::Unknown])).unwrap();
        assert_eq!(both, Some(vec![Dim::Unknown]));
        let n = Dim::Named("N".into());
        assert_eq!(broadcast_types(&t(vec![n.clone()]), &t(vec![n.clone()])).unwrap(), Some(vec![n]));
    }

    #[test]
    fn a_product_that_is_too_large_is_refused() {
        let a = Tensor::zeros(DType::F32, &[1 << 20, 1]).unwrap();
        let b = Tensor::zeros(DType::F32, &[1 << 20]).unwrap();
        assert!(common_shape(&[&a, &b]).is_err());
    }
}
