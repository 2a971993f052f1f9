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

/// A result in row-major order as runs of elements, along each of which an operand that broadcasts to it either moves
/// on with it (a step of 1) or stays (0): what inner loops are made of.
pub(crate) struct Runs<const N: usize> {
    /// The extents around the runs, and how far each operand moves along them.
    outer: Vec<(usize, [usize; N])>,
    /// The elements of a run.
    pub len: usize,
    /// How far each operand moves from element to element.
    pub steps: [usize; N],
}

impl<const N: usize> Runs<N> {
    /// The runs of a result of shape `shape`; `from` are the operands' shapes.
    pub fn new(from: [&[usize]; N], shape: &[usize]) -> Runs<N> {
        let strides = from.map(|s| broadcast_strides(s, shape));
        let mut dims: Vec<(usize, [usize; N])> = Vec::new();
        // Dims that all operands go through as if they were one are one.
        for (d, &n) in shape.iter().enumerate().rev().filter(|(_, n)| **n != 1) {
            let moves: [usize; N] = std::array::from_fn(|k| strides[k][d]);
            match dims.last_mut() {
                Some((len, steps)) if (0..N).all(|k| moves[k] == steps[k].saturating_mul(*len)) => *len *= n,
                _ => dims.push((n, moves)),
            }
        }
        dims.reverse();
        let (len, steps) = dims.pop().unwrap_or((1, [0; N]));
        Runs { outer: dims, len, steps }
    }

    /// Calls `f` for each run with the positions of its first element in the result and in each operand.
    pub fn for_each(&self, mut f: impl FnMut(usize, [usize; N])) {
        if self.len == 0 || self.outer.iter().any(|(n, _)| *n == 0) {
            return;
        }
        let (mut index, mut to, mut at) = (vec![0; self.outer.len()], 0, [0; N]);
        loop {
            f(to, at);
            to += self.len;
            let mut d = self.outer.len();
            loop {
                let Some(next) = d.checked_sub(1) else { return };
                d = next;
                let (n, moves) = &self.outer[d];
                index[d] += 1;
                if index[d] < *n {
                    (0..N).for_each(|k| at[k] += moves[k]);
                    break;
                }
                index[d] = 0;
                (0..N).for_each(|k| at[k] -= (n - 1) * moves[k]);
            }
        }
    }
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
    fn runs_are_the_elements_one_by_one() {
        let shapes: [[&[usize]; 3]; 9] = [
            [&[2, 3, 4], &[4], &[2, 3, 4]],
            [&[2, 1, 4], &[3, 1], &[2, 3, 4]],
            [&[1], &[], &[]],
            [&[5, 1, 1], &[5, 2, 3], &[5, 2, 3]],
            [&[2, 3], &[2, 3], &[2, 3]],
            [&[0, 3], &[1, 3], &[0, 3]],
            [&[1, 3, 1, 2], &[4, 1, 5, 1], &[4, 3, 5, 2]],
            [&[3, 0], &[1], &[3, 0]],
            [&[1, 1, 1], &[1, 1, 2], &[1, 1, 2]],
        ];
        for [a, b, shape] in shapes {
            let (mut expected, mut found) = (vec![], vec![]);
            for_each_broadcast([a, b], shape, |at| expected.push(at));
            let runs = Runs::new([a, b], shape);
            runs.for_each(|to, [i, j]| {
                assert_eq!(to, found.len());
                found.extend((0..runs.len).map(|e| [i + e * runs.steps[0], j + e * runs.steps[1]]));
            });
            assert!(runs.steps.iter().all(|&s| s < 2));
            assert_eq!(found, expected, "{a:?} and {b:?} to {shape:?}");
        }
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
