//! Iteration spaces: the dims that several strided views share, collapsed and put in order, and their split into tasks.
//!
//! What elementwise, movement and reducing kernels have in common. A [`ByteView`] says where the elements of a tensor
//! are; a [`Space`] is the smallest set of dims that visits the elements of all views together; a [`AxisSplit`] cuts
//! some of the dims into the ranges that parallel tasks take.

use crate::nest::{Ix, Kernel, Stmt, Var};
use crate::tile::MemType;

/// A tensor in memory: element `i` is at `offset + sum(i[d] * strides[d])` bytes of its buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByteView {
    /// What an element is.
    pub mem: MemType,
    /// The length of the buffer.
    pub bytes: usize,
    /// Where element 0 is.
    pub offset: i64,
    /// Bytes from one element to the next, for each dim; 0 where the tensor is broadcast, negative where it is
    /// reversed.
    pub strides: Vec<i64>,
}

impl ByteView {
    /// A tensor of this shape in row-major order, alone in its buffer.
    pub fn dense(mem: MemType, shape: &[usize]) -> ByteView {
        let mut strides = vec![0; shape.len()];
        let mut bytes = mem.bytes();
        for (stride, &extent) in strides.iter_mut().zip(shape).rev() {
            *stride = bytes;
            bytes *= extent as i64;
        }
        ByteView { mem, bytes: bytes as usize, offset: 0, strides }
    }

    /// The tensor with its dims permuted: dim `d` of the result is dim `perm[d]`.
    pub fn permuted(&self, perm: &[usize]) -> ByteView {
        ByteView { strides: perm.iter().map(|&d| self.strides[d]).collect(), ..self.clone() }
    }

    /// Whether the view visits every byte of its buffer: such a destination is written wholly.
    pub fn is_whole(&self, shape: &[usize]) -> bool {
        let elements = shape.iter().product::<usize>();
        let space = Space::new(shape, &[&self.strides]);
        let dense = match space.extents.len() {
            0 => true,
            1 => space.strides[0] == [self.mem.bytes()],
            _ => false,
        };
        dense && self.offset == 0 && elements * self.mem.bytes() as usize == self.bytes
    }
}

/// The dims that several views share, outermost first; extents of 1 are gone, and neighbours that are one dim to all
/// views are merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// The extents.
    pub extents: Vec<usize>,
    /// The strides of each dim, one for each view.
    pub strides: Vec<Vec<i64>>,
}

impl Space {
    /// Collapses `shape`. The dims are ordered by the strides of the first view, largest outside, then by those of the
    /// next ones, so that the innermost dim is contiguous in the first view if any is.
    pub fn new(shape: &[usize], views: &[&Vec<i64>]) -> Space {
        let mut dims: Vec<(usize, Vec<i64>)> = (0..shape.len())
            .filter(|&d| shape[d] != 1)
            .map(|d| (shape[d], views.iter().map(|strides| strides[d]).collect()))
            .collect();
        dims.sort_by_key(|(_, strides)| strides.iter().map(|s| -s.abs()).collect::<Vec<_>>());
        let mut merged: Vec<(usize, Vec<i64>)> = Vec::new();
        for (extent, inner) in dims {
            match merged.last_mut() {
                Some((n, outer)) if outer.iter().zip(&inner).all(|(o, i)| *o == i * extent as i64) => {
                    *n *= extent;
                    *outer = inner;
                }
                _ => merged.push((extent, inner)),
            }
        }
        let (extents, strides) = merged.into_iter().unzip();
        Space { extents, strides }
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        self.extents.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.extents.contains(&0)
    }
}

/// How many tasks a large kernel has: enough to balance a few threads.
const TASKS: usize = 16;

/// A cut of dims into ranges, one for each task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AxisSplit {
    extents: Vec<usize>,
    /// How much of each dim a task takes; the last task of a dim takes what is left.
    pub chunks: Vec<usize>,
}

/// The part of a dim that a task takes.
#[derive(Clone, Debug)]
pub struct AxisRange {
    /// The first index.
    pub lo: Ix,
    /// The index after the last.
    pub hi: Ix,
}

impl AxisSplit {
    /// Cuts dims of these extents, outer ones first, into up to about 16 tasks of at least `least` elements. Ranges of
    /// dim `d` begin at multiples of `align[d]`.
    pub fn new(extents: &[usize], align: &[usize], least: usize) -> AxisSplit {
        let total: usize = extents.iter().product();
        let mut wanted = (total / least.max(1)).clamp(1, TASKS);
        let mut chunks = Vec::new();
        for (&extent, &align) in extents.iter().zip(align) {
            let units = extent.div_ceil(align).max(1);
            let chunk = units.div_ceil(wanted.min(units)) * align;
            wanted = wanted.div_ceil(extent.div_ceil(chunk).max(1));
            chunks.push(chunk);
        }
        AxisSplit { extents: extents.to_vec(), chunks }
    }

    /// Whether dim `d` is cut.
    pub fn cuts(&self, d: usize) -> bool {
        self.chunks[d] < self.extents[d]
    }

    /// How many tasks.
    pub fn tasks(&self) -> u64 {
        self.extents.iter().zip(&self.chunks).map(|(e, c)| e.div_ceil(*c) as u64).product()
    }

    /// The ranges of the task of this number, and the statements that define the variables that they use.
    pub fn ranges(&self, kernel: &mut Kernel, task: &Ix) -> (Vec<Stmt>, Vec<AxisRange>) {
        let (mut stmts, mut ranges) = (Vec::new(), Vec::new());
        let mut parts_inside = self.tasks() as i64;
        for d in 0..self.extents.len() {
            let (extent, chunk) = (self.extents[d], self.chunks[d]);
            if !self.cuts(d) {
                ranges.push(AxisRange { lo: Ix::Const(0), hi: extent.into() });
                continue;
            }
            let parts = extent.div_ceil(chunk) as i64;
            parts_inside /= parts;
            let lo = define(kernel, &mut stmts, (task.clone() / parts_inside) % parts * chunk as i64);
            let hi = define(kernel, &mut stmts, (Ix::var(lo) + chunk).min(extent));
            ranges.push(AxisRange { lo: lo.into(), hi: hi.into() });
        }
        (stmts, ranges)
    }
}

fn define(kernel: &mut Kernel, stmts: &mut Vec<Stmt>, value: Ix) -> Var {
    let var = kernel.var();
    stmts.push(Stmt::Let { var, value });
    var
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_merge_where_all_views_agree() {
        let shape = [2, 1, 3, 4];
        let dense = ByteView::dense(MemType::F32, &shape).strides;
        assert_eq!(Space::new(&shape, &[&dense]), Space { extents: vec![24], strides: vec![vec![4]] });
        let row = vec![0, 0, 0, 4];
        let both = Space::new(&shape, &[&dense, &row]);
        assert_eq!(both, Space { extents: vec![6, 4], strides: vec![vec![16, 0], vec![4, 4]] });
        assert_eq!(Space::new(&[1, 1], &[&vec![4, 4]]).extents, Vec::<usize>::new());
        assert!(Space::new(&[3, 0], &[&vec![0, 4]]).is_empty());
    }

    #[test]
    fn a_permuted_view_is_whole_and_a_slice_is_not() {
        let view = ByteView::dense(MemType::F32, &[3, 4]).permuted(&[1, 0]);
        assert!(view.is_whole(&[4, 3]));
        assert!(!view.is_whole(&[4, 2]));
        assert!(!ByteView { offset: 4, ..view.clone() }.is_whole(&[4, 3]));
        assert!(ByteView::dense(MemType::F32, &[]).is_whole(&[]));
    }

    #[test]
    fn tasks_are_few_and_large() {
        let split = |extents: &[usize]| AxisSplit::new(extents, &vec![1; extents.len()], 16_384);
        assert_eq!(split(&[100, 100]).tasks(), 1);
        assert_eq!(split(&[1_000_000]).tasks(), 16);
        assert_eq!(split(&[3, 1_000_000]).tasks(), 18);
        assert_eq!(split(&[17, 1_000_000]).tasks(), 18);
        assert_eq!(AxisSplit::new(&[1000], &[64], 1).chunks, [64]);
    }
}
