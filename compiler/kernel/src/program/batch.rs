//! Programs for batches: from a program of one item to one of any number of them.
//!
//! In: a program for inputs and outputs whose outermost dim, of extent 1, is a batch, and for which it is known that
//! each item of the results is what the program computes of the same item of the inputs. What is done with items, the
//! places of values tell: a step that names bytes of an item is done for each, and whatever it writes is of an item
//! too. Everything else is done once. Kernels stay as they are, with the extents of one item, and so do their proofs;
//! and item `i` has the same bits whatever the number of items. Lowering may give kernels for several items at once
//! beside one for each, with the same bits: products of few rows, which would read their weights again for each.

use optc_types::steps::{ArenaPlace, Batch, BufId, BufRef, KernelStep, Port, SeveralItems, Slot, Step};
use optc_types::{Dim, Type};

use super::Program;
use crate::nest::{Access, Buf};

/// Items at once, at most.
const MOST: usize = 64;
/// Bytes that the items at hand may take: they are to stay in the outer caches from step to step. (Zen 5, 16 MiB of L3,
/// beside other work, seven items of mobilenet_v1: 57 to 90 ms one by one in 4.8 MB, 90 to 96 all at once in 33.7 MB.)
const AT_ONCE: usize = 8 << 20;

/// The name of the batch in the types of ports.
const NAME: &str = "N";

/// Why a program is not made for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoBatch {
    /// An op of the host takes part.
    #[error("an op runs on the host")]
    Host,
    /// An input or output lies in no buffer of its own.
    #[error("an input or output has no bytes of its own")]
    Port,
    /// What should be there once is computed from items.
    #[error("what is there once depends on an item")]
    Once,
}

impl Program {
    /// Makes this program, which is for one item, one for any number of items. `inputs` and `outputs` say whose
    /// outermost dim is the batch. Its memory is still to be planned.
    ///
    /// # Errors
    /// What is done with items is not done by kernels alone, or something else depends on them.
    pub fn for_batch(&mut self, inputs: &[bool], outputs: &[bool]) -> Result<(), NoBatch> {
        self.mark(inputs, outputs)?;
        let flow = &mut self.flow;
        let touches = |step: &Step| step.places().iter().any(|at| flow.buffers[at.buf].each);
        let by_host = |step: &Step| matches!(step, Step::Host(_) | Step::Load { .. });
        if flow.steps.iter().any(|step| by_host(step) && touches(step)) {
            return Err(NoBatch::Host);
        }
        let named = |port: &mut Port| {
            if let Type::Tensor(t) = &mut port.ty
                && let Some(first) = t.shape.as_mut().and_then(|shape| shape.first_mut())
            {
                *first = Dim::Named(NAME.into());
            }
        };
        let ports = flow.inputs.iter_mut().zip(inputs).chain(flow.outputs.iter_mut().zip(outputs));
        ports.filter(|(_, batched)| **batched).for_each(|(port, _)| named(port));
        self.drop_misfits();
        let flow = &mut self.flow;
        flow.batch = Some(Batch { block: 1, item_bytes: flow.arena_bytes });
        Ok(())
    }

    /// Whether a kernel fits the arguments of a step for several items.
    pub(super) fn does_several(&self, step: &KernelStep, several: &SeveralItems) -> bool {
        let (Some(one), Some(kernel)) = (self.kernels.get(step.kernel), self.kernels.get(several.kernel)) else {
            return false;
        };
        let fits = |((one, buf), at): ((&Buf, &Buf), &BufRef)| {
            let whole = self.flow.buffers.get(at.buf).is_some_and(|b| match b.each {
                true => at.offset == 0 && b.bytes.checked_mul(several.items) == Some(buf.bytes),
                false => at.offset.checked_add(buf.bytes).is_some_and(|end| end <= b.bytes),
            });
            whole && one.access == buf.access
        };
        several.items > 1
            && (several.tasks, several.scratch) == (kernel.tasks, kernel.scratch_bytes)
            && kernel.bufs.len() == one.bufs.len()
            && one.bufs.iter().zip(&kernel.bufs).zip(&step.args).all(fits)
            && step.args.iter().any(|at| self.flow.buffers[at.buf].each)
    }

    /// Leaves out kernels for several items that do not fit where the items lie, and all that no step calls any more.
    fn drop_misfits(&mut self) {
        for i in 0..self.flow.steps.len() {
            let Step::Kernel(step) = &self.flow.steps[i] else { continue };
            let fits: Vec<_> = step.several.iter().copied().filter(|s| self.does_several(step, s)).collect();
            if let Step::Kernel(step) = &mut self.flow.steps[i] {
                step.several = fits;
            }
        }
        self.drop_kernels();
    }

    /// Says how many items are at hand at once, as their bytes allow, once the memory is planned.
    pub(super) fn choose_block(&mut self) {
        if let Some(batch) = &mut self.flow.batch {
            batch.block = (AT_ONCE / batch.item_bytes.max(1)).clamp(1, MOST);
        }
    }

    /// Finds the buffers of which each item has its own.
    fn mark(&mut self, inputs: &[bool], outputs: &[bool]) -> Result<(), NoBatch> {
        let batched = |of: &[bool], i: usize| of.get(i).copied().unwrap_or(false);
        let in_buffers = |ports: &[Port], of: &[bool]| {
            let own = |(port, batched): (&Port, &bool)| !batched || matches!(port.slot, Slot::Buffer(_));
            ports.len() == of.len() && ports.iter().zip(of).all(own)
        };
        if !in_buffers(&self.flow.inputs, inputs) || !in_buffers(&self.flow.outputs, outputs) {
            return Err(NoBatch::Port);
        }
        for buffer in &mut self.flow.buffers {
            buffer.each = match buffer.place {
                ArenaPlace::Input(i) => batched(inputs, i),
                ArenaPlace::Output(i) => batched(outputs, i),
                ArenaPlace::Arena(_) | ArenaPlace::Constant(_) => false,
            };
        }
        // A step that writes what an earlier one wrote in part may come late.
        while self.mark_written() {}
        let once = |buffer: &optc_types::steps::KernelBuffer| match buffer.place {
            ArenaPlace::Input(i) => buffer.each == batched(inputs, i),
            ArenaPlace::Output(i) => buffer.each == batched(outputs, i),
            ArenaPlace::Constant(_) => !buffer.each,
            ArenaPlace::Arena(_) => true,
        };
        let own = |(i, port): (usize, &Port)| match &port.slot {
            Slot::Buffer(s) => {
                !self.flow.buffers[s.at.buf].each || self.flow.buffers[s.at.buf].place == ArenaPlace::Output(i)
            }
            Slot::Value(_) | Slot::Constant(_) => true,
        };
        match self.flow.buffers.iter().all(once) {
            false => Err(NoBatch::Once),
            true if self.flow.outputs.iter().enumerate().all(own) => Ok(()),
            true => Err(NoBatch::Port),
        }
    }

    /// Marks what is written by steps that name what is marked; whether there was any.
    fn mark_written(&mut self) -> bool {
        let mut any = false;
        for step in &self.flow.steps {
            let repeated = step.places().iter().any(|at| self.flow.buffers[at.buf].each);
            for buf in self.written(step).into_iter().filter(|_| repeated) {
                any |= !std::mem::replace(&mut self.flow.buffers[buf].each, true);
            }
        }
        any
    }

    /// The buffers that a step writes.
    fn written(&self, step: &Step) -> Vec<BufId> {
        match step {
            Step::Kernel(KernelStep { kernel, args, .. }) => {
                let bufs = self.kernels[*kernel].bufs.iter().zip(args);
                bufs.filter(|(buf, _)| buf.access != Access::Read).map(|(_, at)| at.buf).collect()
            }
            Step::Host(host) => {
                let of = |slot: &Option<Slot>| match slot {
                    Some(Slot::Buffer(stored)) => Some(stored.at.buf),
                    _ => None,
                };
                host.results.iter().filter_map(of).collect()
            }
            Step::Copy { dst, .. } => vec![dst.buf],
            Step::Arrange(arrange) => vec![arrange.dst.0.buf],
            Step::Load { to, .. } => vec![to.at.buf],
            Step::Check { .. } | Step::CheckLengths { .. } => vec![],
        }
    }
}
