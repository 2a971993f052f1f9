//! A rewrite of the program: copies into other layouts become kernels.

use indexmap::IndexSet;
use optc_kernel::nest::Kernel;
use optc_kernel::program::Program;
use optc_kernels::movement::{Movement, Piece, PiecePlace, Source, movement};
use optc_types::steps::{Arrange, KernelStep, Step};

/// Makes kernels of all copies into other layouts; equal ones share one.
pub(super) fn kernels(program: &mut Program) {
    let mut kernels: IndexSet<Kernel> = std::mem::take(&mut program.kernels).into_iter().collect();
    for step in &mut program.flow.steps {
        let Step::Arrange(arrange) = step else { continue };
        let kernel = movement(&movement_of(arrange), program.target.isa);
        let (tasks, scratch) = (kernel.tasks, kernel.scratch_bytes);
        let (kernel, _) = kernels.insert_full(kernel);
        let Arrange { src, dst, point, info, .. } = arrange.clone();
        let (args, parallel) = (vec![src.0, dst.0], info.is_parallel(tasks, 1));
        let (in_place, several) = (None, vec![]);
        *step = Step::Kernel(KernelStep { kernel, args, tasks, scratch, in_place, parallel, several, point, info });
    }
    program.kernels = kernels.into_iter().collect();
}

fn movement_of(a: &Arrange) -> Movement {
    let place = |strides: &[i64]| PiecePlace { offset: 0, strides: strides.to_vec() };
    let piece = Piece { shape: a.shape.clone(), source: Source::Copy(0, place(&a.src.1)), dst: place(&a.dst.1) };
    let bytes = |bytes: Option<usize>| bytes.unwrap_or_default();
    Movement {
        width: a.width,
        sources: vec![bytes(a.src_bytes())],
        dst_bytes: bytes(a.dst_bytes()),
        pieces: vec![piece],
    }
}
