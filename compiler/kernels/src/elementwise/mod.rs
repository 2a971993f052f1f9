//! Elementwise kernels: every element of the results is an expression of the operands' elements at the same index.
//!
//! Broadcasts and layouts are strides of the [`ByteView`]s. The dims are collapsed, and the loops run in the order of
//! the first result's memory. Two nests do the rest:
//!
//! ```text
//! linear:      for outer dims { for row { for vectors along the innermost dim { expression; store } } }
//! transposed:  for outer dims { for 64 rows i { for 16 columns j {
//!                 for 4 rows i { load; 4x4 transposes; expression; store } } } }
//! ```
//!
//! The transposed one is taken when an operand is contiguous along another dim than the result (a transpose, a change
//! of layout). What an inner loop does not change is computed before it. A dim is split among tasks only as far as
//! each has 16 Ki elements or the same work.

mod linear;
mod transpose;
mod transposed;

use optc_kernel::expr::Expr;
use optc_kernel::nest::{Access, Addr, Base, Ix, Kernel, Stmt, TASK};
use optc_kernel::space::{ByteView, Space};
use optc_kernel::target::Isa;

/// An elementwise computation.
#[derive(Clone, Debug, PartialEq)]
pub struct Elementwise {
    /// The shape of the results, which every view has a stride for each dim of.
    pub shape: Vec<usize>,
    /// The operands.
    pub operands: Vec<ByteView>,
    /// The results; operand `i` of an expression is `operands[i]`, and its value must fit the view's memory: `f32` for
    /// `MemType::F32` and halves of either kind, integers for the others (see [`Expr::bit`], [`Expr::to_int`]).
    pub results: Vec<(ByteView, Expr)>,
}

/// Builds the kernel. Buffers: the operands, then the results.
///
/// A result may share its buffer with an operand of equal view if [`in_place`] says so.
pub fn elementwise(p: &Elementwise, isa: &Isa) -> Kernel {
    let nest = Nest::new(p, isa.lanes());
    let mut kernel = Kernel::new(format!("elementwise_{}", nest.name()), 0);
    let mut bases = Vec::new();
    for (i, view) in p.operands.iter().enumerate() {
        bases.push(kernel.buf(format!("x{i}"), view.bytes, Access::Read));
    }
    for (i, (view, _)) in p.results.iter().enumerate() {
        let access = if view.is_whole(&p.shape) { Access::Write } else { Access::ReadWrite };
        bases.push(kernel.buf(format!("y{i}"), view.bytes, access));
    }
    (kernel.tasks, kernel.body) = nest.build(&mut kernel, &bases, &Ix::var(TASK));
    kernel.rounding_on(isa)
}

/// Whether the only result may be stored over operand `operand`: their views are equal, and every element is loaded
/// right before it is stored.
pub fn in_place(p: &Elementwise, operand: usize) -> bool {
    let [(result, _)] = &p.results[..] else { return false };
    p.operands.get(operand) == Some(result) && Nest::new(p, 1).transposed_dim().is_none()
}

/// Elements of a task at least, where one costs about an instruction.
const LEAST: usize = 16 << 10;

/// A problem with its dims collapsed. The views are in the order of the buffers: operands, then results.
pub(crate) struct Nest<'a> {
    p: &'a Elementwise,
    lanes: usize,
    space: Space,
    views: Vec<&'a ByteView>,
    /// Instructions for a vector of all results.
    cost: usize,
}

impl<'a> Nest<'a> {
    pub(crate) fn new(p: &'a Elementwise, lanes: usize) -> Nest<'a> {
        let results = p.results.iter().map(|(view, _)| view);
        let views: Vec<_> = p.operands.iter().chain(results.clone()).collect();
        // The order of the dims is that of the results, so they come first here.
        let ordered: Vec<_> = results.chain(&p.operands).map(|view| &view.strides).collect();
        let mut space = Space::new(&p.shape, &ordered);
        space.strides.iter_mut().for_each(|of| of.rotate_left(p.results.len()));
        let cost = p.results.iter().map(|(_, expr)| expr.cost()).sum();
        Nest { p, lanes, space, views, cost }
    }

    /// How many tasks there are, and what task `task` of them does; `bases` are the buffers of the views.
    pub(crate) fn build(&self, kernel: &mut Kernel, bases: &[Base], task: &Ix) -> (u64, Vec<Stmt>) {
        if self.space.is_empty() || self.p.results.is_empty() {
            return (0, Vec::new());
        }
        match self.transposed_dim() {
            Some(i) => transposed::build(self, kernel, bases, i, task),
            None => linear::build(self, kernel, bases, task),
        }
    }

    fn name(&self) -> String {
        self.space.extents.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
    }

    fn is_contiguous(&self, view: usize, dim: usize) -> bool {
        self.space.strides[dim][view] == self.views[view].mem.bytes()
    }

    /// The dim that an operand is contiguous along while the first result is contiguous along the innermost one: the
    /// longest, if there are several.
    fn transposed_dim(&self) -> Option<usize> {
        let inner = self.space.extents.len().checked_sub(1)?;
        let result = self.p.operands.len();
        let crosses = |view: usize, dim: usize| {
            let across = self.space.strides[inner][view];
            self.is_contiguous(view, dim) && across != 0 && !self.is_contiguous(view, inner)
        };
        let candidates = (0..inner).filter(|&dim| (0..result).any(|view| crosses(view, dim)));
        let longest = candidates.max_by_key(|&dim| self.space.extents[dim])?;
        (result < self.views.len() && self.is_contiguous(result, inner)).then_some(longest)
    }

    /// Elements that a task should have at least.
    fn least(&self) -> usize {
        LEAST / (1 + self.cost / 4)
    }

    /// The address of the element at `index` of a view.
    fn at(&self, base: Base, view: usize, index: &[Ix]) -> Addr {
        let zero = Ix::Const(self.views[view].offset);
        base.at(index.iter().zip(&self.space.strides).fold(zero, |sum, (i, of)| i.clone() * of[view] + sum))
    }

    fn addrs(&self, bases: &[Base], index: &[Ix]) -> Vec<Addr> {
        bases.iter().enumerate().map(|(view, &base)| self.at(base, view, index)).collect()
    }
}
