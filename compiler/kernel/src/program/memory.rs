//! The memory plan: offsets in one arena for buffers whose lives do not overlap.
//!
//! Lowering gives each buffer bytes of its own; this rewrite lets them share. A buffer lives from the first step that
//! names it to the last. Buffers are placed largest first, each at the lowest offset that is free during its life
//! (greedy by size, Pisarchyk and Lee 2020). A result that may overwrite an operand takes the operand's place when the
//! operand ends there.
//!
//! In a program with a batch, buffers that each item has share the item's part of the arena; the others keep bytes of
//! their own, since later items need them again.

mod occupied;

use optc_tensor::ALIGN;
use optc_types::steps::{ArenaPlace, BufId, Flow, KernelBuffer, Port, Slot, Step};

use self::occupied::Occupied;
use super::Program;

/// First and last step that names a buffer.
type Life = Option<(usize, usize)>;

impl Program {
    /// Bytes of the arena that a buffer takes.
    pub fn room(bytes: usize) -> usize {
        bytes.max(1).next_multiple_of(ALIGN)
    }

    /// Gives each buffer of the arena its place, and the arena its size. Nothing else changes.
    pub fn plan_memory(&mut self) {
        let flow = &mut self.flow;
        let mut lives = lives(flow.buffers.len(), &flow.steps, &flow.outputs);
        if flow.batch.is_some() {
            let once = lives.iter_mut().zip(&flow.buffers).filter(|(_, buffer)| !buffer.each);
            once.filter_map(|(life, _)| life.as_mut()).for_each(|life| *life = (0, flow.steps.len()));
        }
        let homes = share(flow, &mut lives);
        let mut offsets = vec![0; flow.buffers.len()];
        let mut place = |each: bool| {
            let movable =
                |b: BufId| matches!(flow.buffers[b].place, ArenaPlace::Arena(_)) && flow.buffers[b].each == each;
            let mut order: Vec<BufId> =
                (0..flow.buffers.len()).filter(|&b| homes[b] == b && movable(b) && lives[b].is_some()).collect();
            order.sort_by_key(|&b| (std::cmp::Reverse(flow.buffers[b].bytes), b));
            let mut occupied = Occupied::new(flow.steps.len() + 1);
            let mut end = 0;
            for b in order {
                let (size, Some(life)) = (Program::room(flow.buffers[b].bytes), lives[b]) else { continue };
                offsets[b] = occupied.lowest_free(life, size);
                occupied.take(life, offsets[b], size);
                end = end.max(offsets[b] + size);
            }
            end
        };
        let (once, each) = (place(false), place(true));
        flow.arena_bytes = once;
        if let Some(batch) = &mut flow.batch {
            batch.item_bytes = each;
        }
        self.choose_block();
        let flow = &mut self.flow;
        for (b, buffer) in flow.buffers.iter_mut().enumerate() {
            if let ArenaPlace::Arena(offset) = &mut buffer.place {
                *offset = offsets[homes[b]];
            }
        }
    }
}

fn lives(buffers: usize, steps: &[Step], outputs: &[Port]) -> Vec<Life> {
    let mut lives: Vec<Life> = vec![None; buffers];
    let mut touch = |b: BufId, step: usize| {
        let life = &mut lives[b];
        *life = Some(life.map_or((step, step), |(first, last)| (first.min(step), last.max(step))));
    };
    for (i, step) in steps.iter().enumerate() {
        step.places().iter().for_each(|at| touch(at.buf, i));
    }
    for port in outputs {
        if let Slot::Buffer(s) = &port.slot {
            touch(s.at.buf, steps.len());
        }
    }
    lives
}

/// For each buffer the one whose place it has: itself, or that of an operand which ends where it begins.
fn share(flow: &Flow, lives: &mut [Life]) -> Vec<BufId> {
    let mut homes: Vec<BufId> = (0..flow.buffers.len()).collect();
    let movable = |b: BufId| matches!(flow.buffers[b].place, ArenaPlace::Arena(_));
    for (i, step) in flow.steps.iter().enumerate() {
        let Step::Kernel(step) = step else { continue };
        let Some((from, b)) = step.shares() else { continue };
        let home = homes[from];
        let (Some(life), Some(home_life)) = (lives[b], lives[home]) else { continue };
        let begins = life.0 == i && movable(b) && movable(home);
        let alike = |a: &KernelBuffer, b: &KernelBuffer| (a.bytes, a.each) == (b.bytes, b.each);
        // Equal sizes keep accesses through either within bounds, and every earlier tenant has ended.
        if begins && alike(&flow.buffers[b], &flow.buffers[home]) && home_life.1 == i && home != b {
            homes[b] = home;
            lives[home] = Some((home_life.0, life.1));
        }
    }
    homes
}

#[cfg(test)]
mod tests {
    use optc_types::steps::{BufRef, KernelStep, StepInfo};

    use super::*;
    use crate::target::{Arch, Target};

    /// A program of steps that each read one buffer and write the next, which may take its place.
    fn program(sizes: &[usize], steps: &[(BufId, BufId)], in_place: Option<usize>) -> Program {
        let mut program = super::super::parse::empty(Target::of(Arch::X86_64.least()));
        program.flow.buffers =
            sizes.iter().map(|&bytes| KernelBuffer { bytes, place: ArenaPlace::Arena(0), each: false }).collect();
        let at = |buf| BufRef { buf, offset: 0 };
        let step = |&(from, to): &(BufId, BufId)| KernelStep {
            kernel: 0,
            args: vec![at(from), at(to)],
            tasks: 1,
            scratch: 0,
            in_place,
            parallel: false,
            several: vec![],
            point: None,
            info: StepInfo::default(),
        };
        program.flow.steps = steps.iter().map(step).map(Step::Kernel).collect();
        program.plan_memory();
        program
    }

    #[test]
    fn buffers_that_never_meet_share_bytes() {
        let sizes = [64, 128, 64, 100];
        let program = program(&sizes, &[(0, 1), (1, 2), (2, 3)], None);
        let at = |b: usize| match program.flow.buffers[b].place {
            ArenaPlace::Arena(offset) => offset,
            other => panic!("{other:?}"),
        };
        assert_eq!(program.flow.arena_bytes, 192);
        for (a, b) in [(0, 1), (1, 2), (2, 3)] {
            let apart = at(a) + sizes[a] <= at(b) || at(b) + sizes[b] <= at(a);
            assert!(apart, "buffers {a} and {b} are alive together: {:?}", program.flow.buffers);
        }
    }

    #[test]
    fn a_result_takes_the_place_of_an_operand_that_ends() {
        let arena = |steps: &[(BufId, BufId)], in_place| program(&[64; 3], steps, in_place).flow.arena_bytes;
        assert_eq!(arena(&[(0, 1), (1, 2)], Some(0)), 64);
        assert_eq!(arena(&[(0, 1), (1, 2)], None), 128);
        // The operand is read once more: it keeps its place.
        assert_eq!(arena(&[(0, 1), (1, 2), (0, 2)], Some(0)), 128);
    }
}
