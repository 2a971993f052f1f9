//! Leaves out what nobody reads: buffers of results that were fused away, and constants of kernels that were not taken
//! after all.

use optc_types::steps::{ArenaPlace, BufRef, KernelStep, Slot, Step};

use super::Program;

impl Program {
    /// Drops buffers that neither a step nor a port names, and constants that no buffer shows.
    pub fn compact(&mut self) {
        let mut used = vec![false; self.flow.buffers.len()];
        self.flow.steps.iter().flat_map(|step| step.places()).for_each(|at| used[at.buf] = true);
        self.ports().for_each(|at| used[at.buf] = true);
        let mut needed = vec![false; self.flow.constants.len()];
        for (buffer, _) in self.flow.buffers.iter().zip(&used).filter(|(_, used)| **used) {
            if let ArenaPlace::Constant(i) = buffer.place {
                needed[i] = true;
            }
        }
        let (numbers, constants) = (renumbered(&used), renumbered(&needed));
        self.flow.steps.iter_mut().flat_map(|step| step.places_mut()).for_each(|at| at.buf = numbers[at.buf]);
        self.ports().for_each(|at| at.buf = numbers[at.buf]);
        keep(&mut self.flow.buffers, &used);
        keep(&mut self.flow.constants, &needed);
        for buffer in &mut self.flow.buffers {
            if let ArenaPlace::Constant(i) = &mut buffer.place {
                *i = constants[*i];
            }
        }
    }

    /// Drops kernels that no step calls.
    pub(super) fn drop_kernels(&mut self) {
        let mut used = vec![false; self.kernels.len()];
        let of =
            |step: &KernelStep| std::iter::once(step.kernel).chain(step.several.iter().map(|s| s.kernel)).collect();
        let kernels = |step: &Step| if let Step::Kernel(step) = step { of(step) } else { Vec::new() };
        self.flow.steps.iter().flat_map(kernels).for_each(|kernel| used[kernel] = true);
        let numbers = renumbered(&used);
        for step in &mut self.flow.steps {
            let Step::Kernel(step) = step else { continue };
            step.kernel = numbers[step.kernel];
            step.several.iter_mut().for_each(|several| several.kernel = numbers[several.kernel]);
        }
        keep(&mut self.kernels, &used);
    }

    fn ports(&mut self) -> impl Iterator<Item = &mut BufRef> {
        let ports = self.flow.inputs.iter_mut().chain(&mut self.flow.outputs);
        ports.filter_map(|port| Slot::place_mut(&mut port.slot))
    }
}

/// The number of each among those that are kept.
fn renumbered(kept: &[bool]) -> Vec<usize> {
    kept.iter().scan(0, |next, &kept| Some(std::mem::replace(next, *next + usize::from(kept)))).collect()
}

fn keep<T>(list: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    list.retain(|_| kept.next().is_none_or(|&kept| kept));
}
