//! Plans: what is to be done for one set of input shapes, loaded and ready to run.
//!
//! A plan is a program's steps with the code of its kernels and the ops of the host. It is executed by an
//! [`Executor`](crate::Executor); it is immutable and shared.

use std::sync::Arc;

use optc_tensor::ALIGN;
pub use optc_types::steps::{
    ArenaPlace, BufId, BufRef, Flow, HostStep, KernelBuffer, KernelStep, PlainTensor, Port, Slot, Step, StepInfo,
};
use optc_types::{HostOp, Type};

use crate::kernel::KernelFn;

/// Machine code of kernels.
///
/// # Safety
/// Every entry must keep to the contract of [`KernelFn`] for the buffers, tasks and scratch of the steps that name it,
/// and be callable for as long as the object lives.
pub unsafe trait KernelCode: Send + Sync + std::fmt::Debug {
    /// The entry of the kernel with this number.
    fn entry(&self, kernel: usize) -> KernelFn;
    /// The memory that the code is in, each piece once: its address and bytes. Plans may share pieces.
    fn pieces(&self) -> Vec<(usize, usize)>;

    /// Bytes of machine code.
    fn bytes(&self) -> usize {
        self.pieces().iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Everything that a run needs. See the [module](self).
#[derive(Debug, Clone)]
pub struct Plan {
    /// What to do with which bytes.
    pub flow: Flow,
    /// The ops that run on the host.
    pub hosts: Vec<Arc<dyn HostOp>>,
    /// The kernels' code.
    pub code: Arc<dyn KernelCode>,
}

impl Plan {
    /// Bytes of all constants that kernels read.
    pub fn constant_bytes(&self) -> usize {
        self.flow.constants.iter().map(|c| c.tensor.bytes().len()).sum()
    }

    /// Bytes of scratch that each worker has: those of the kernel that needs most, to the next cache line.
    pub fn scratch_bytes(&self) -> usize {
        let of = |k: &KernelStep| k.several.iter().map(|several| several.scratch).fold(k.scratch, usize::max);
        self.kernel_steps().map(|k| of(k).next_multiple_of(ALIGN)).max().unwrap_or(0)
    }

    /// Bytes of the arena in a run with inputs of these types.
    pub fn arena_bytes(&self, inputs: &[Type]) -> usize {
        let batched = self.flow.inputs.iter().zip(inputs).find(|(port, _)| self.flow.is_batched(port));
        let items = batched.and_then(|(_, ty)| ty.as_tensor()?.shape.as_ref()?.first()?.known());
        self.flow.arena_for(items.unwrap_or(1))
    }

    /// The steps that are evaluated on the host.
    pub fn host_steps(&self) -> impl Iterator<Item = &HostStep> {
        self.flow.steps.iter().filter_map(|step| if let Step::Host(h) = step { Some(h) } else { None })
    }

    /// The kernel steps.
    pub fn kernel_steps(&self) -> impl Iterator<Item = &KernelStep> {
        self.flow.steps.iter().filter_map(|step| if let Step::Kernel(k) = step { Some(k) } else { None })
    }
}
