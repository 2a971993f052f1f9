//! The proof for all kernels of a program, with the constants that they are called with.

use std::collections::HashSet;

use optc_types::steps::{ArenaPlace, KernelStep, Step};

use super::BoundsError;
use crate::nest::{Access, Kernel, Stmt};
use crate::program::Program;
use crate::tile::{Inst, Tile};

impl Program {
    /// Proves that its kernels read and write within their buffers, with the index tables that its steps give them. The
    /// program must be verified.
    ///
    /// # Errors
    /// The first access that is not proven.
    pub(crate) fn prove(&self) -> Result<(), BoundsError> {
        let reads: Vec<bool> = self.kernels.iter().map(reads_tables).collect();
        let mut proven = HashSet::new();
        for step in self.flow.steps.iter().filter_map(kernel_step) {
            for kernel in std::iter::once(step.kernel).chain(step.several.iter().map(|several| several.kernel)) {
                // A kernel without tables is the same wherever it is called.
                let tables = if reads[kernel] { self.constants_of(step, kernel) } else { vec![] };
                if proven.insert((kernel, tables.clone())) {
                    let bytes = |(i, from): (usize, usize)| &self.flow.constants[i].tensor.bytes()[from..];
                    let contents: Vec<_> = tables.iter().map(|c| c.map(bytes)).collect();
                    self.kernels[kernel].prove(&contents)?;
                }
            }
        }
        Ok(())
    }

    /// For each buffer of a kernel the constant that it is, and where in it it begins.
    fn constants_of(&self, step: &KernelStep, kernel: usize) -> Vec<Option<(usize, usize)>> {
        let kernel = &self.kernels[kernel];
        let constant =
            |(at, buf): (&optc_types::steps::BufRef, &crate::nest::Buf)| match self.flow.buffers[at.buf].place {
                ArenaPlace::Constant(i) if buf.access == Access::Read => Some((i, at.offset)),
                _ => None,
            };
        step.args.iter().zip(&kernel.bufs).map(constant).collect()
    }
}

fn kernel_step(step: &Step) -> Option<&KernelStep> {
    if let Step::Kernel(step) = step { Some(step) } else { None }
}

/// Whether a kernel addresses by what it reads.
fn reads_tables(kernel: &Kernel) -> bool {
    fn loads(body: &[Stmt]) -> bool {
        body.iter().any(|stmt| match stmt {
            Stmt::LoadIndex { .. } => true,
            Stmt::For { body, .. } => loads(body),
            Stmt::If { then, otherwise, .. } => loads(then) || loads(otherwise),
            Stmt::Let { .. } | Stmt::Call { .. } => false,
        })
    }
    fn points(body: &[Inst]) -> bool {
        body.iter().any(|inst| match inst {
            Inst::LoadPtr { .. } => true,
            Inst::Loop(l) => points(&l.body),
            _ => false,
        })
    }
    loads(&kernel.body) || kernel.tiles.iter().any(|tile: &Tile| points(&tile.body))
}
