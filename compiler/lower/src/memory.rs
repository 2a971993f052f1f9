//! The memory plan: offsets in one arena for buffers whose lives do not overlap.
//!
//! A buffer lives from the first step that names it to the last. Buffers are placed largest first, each at the lowest offset that
//! is free during its life (greedy by size, Pisarchyk and Lee 2020). A result that may overwrite an operand takes the operand's
//! place when the operand ends there.

mod occupied;

use optc_tensor::ALIGN;
use optc_types::steps::{BufId, Buffer, Place, Port, Slot, Step};

use self::occupied::Occupied;

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Intermediate bytes.
    Temp,
    /// A constant of this number.
    Constant(usize),
    /// A graph input.
    Input(usize),
    /// A graph output.
    Output(usize),
}

/// A buffer before it has a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft {
    pub bytes: usize,
    pub kind: Kind,
    /// The buffer that this one may take the place of, in the step that writes it first.
    pub in_place: Option<BufId>,
}

/// First and last step that names a buffer.
type Life = Option<(usize, usize)>;

/// Places every buffer; returns them and the arena's size.
pub(super) fn plan(drafts: &[Draft], steps: &[Step], outputs: &[Port]) -> (Vec<Buffer>, usize) {
    let mut lives = lives(drafts.len(), steps, outputs);
    let homes = share(drafts, &mut lives);
    let mut order: Vec<BufId> =
        (0..drafts.len()).filter(|&b| homes[b] == b && drafts[b].kind == Kind::Temp && lives[b].is_some()).collect();
    order.sort_by_key(|&b| (std::cmp::Reverse(drafts[b].bytes), b));
    let mut offsets = vec![0; drafts.len()];
    let mut occupied = Occupied::new(steps.len() + 1);
    let mut arena = 0;
    for b in order {
        let (size, Some(life)) = (drafts[b].bytes.max(1).next_multiple_of(ALIGN), lives[b]) else { continue };
        offsets[b] = occupied.lowest_free(life, size);
        occupied.take(life, offsets[b], size);
        arena = arena.max(offsets[b] + size);
    }
    let place = |b: BufId| match drafts[b].kind {
        Kind::Temp => Place::Arena(offsets[homes[b]]),
        Kind::Constant(i) => Place::Constant(i),
        Kind::Input(i) => Place::Input(i),
        Kind::Output(i) => Place::Output(i),
    };
    ((0..drafts.len()).map(|b| Buffer { bytes: drafts[b].bytes, place: place(b) }).collect(), arena)
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
fn share(drafts: &[Draft], lives: &mut [Life]) -> Vec<BufId> {
    let mut homes: Vec<BufId> = (0..drafts.len()).collect();
    let mut order: Vec<BufId> = (0..drafts.len()).filter(|&b| lives[b].is_some()).collect();
    order.sort_by_key(|&b| (lives[b], b));
    for b in order {
        let Some(from) = drafts[b].in_place else { continue };
        let home = homes[from];
        let both_temp = drafts[b].kind == Kind::Temp && drafts[home].kind == Kind::Temp;
        let (Some(life), Some(home_life)) = (lives[b], lives[home]) else { continue };
        // Equal sizes keep accesses through either within bounds, and every earlier tenant has ended.
        if both_temp && drafts[b].bytes == drafts[home].bytes && home_life.1 == life.0 && home != b {
            homes[b] = home;
            lives[home] = Some((home_life.0, life.1));
        }
    }
    homes
}

#[cfg(test)]
mod tests {
    use optc_types::steps::BufRef;

    use super::*;

    fn temp(bytes: usize, in_place: Option<BufId>) -> Draft {
        Draft { bytes, kind: Kind::Temp, in_place }
    }

    fn copy(src: BufId, dst: BufId) -> Step {
        let at = |buf| BufRef { buf, offset: 0 };
        Step::Copy { src: at(src), dst: at(dst), bytes: 1 }
    }

    #[test]
    fn buffers_that_never_meet_share_bytes() {
        let drafts = [temp(64, None), temp(128, None), temp(64, None), temp(100, None)];
        let steps = [copy(0, 1), copy(1, 2), copy(2, 3)];
        let (buffers, arena) = plan(&drafts, &steps, &[]);
        let at = |b: usize| match buffers[b].place {
            Place::Arena(offset) => offset,
            other => panic!("{other:?}"),
        };
        assert_eq!(arena, 192);
        for (a, b) in [(0, 1), (1, 2), (2, 3)] {
            let apart = at(a) + drafts[a].bytes <= at(b) || at(b) + drafts[b].bytes <= at(a);
            assert!(apart, "buffers {a} and {b} are alive together: {buffers:?}");
        }
    }

    #[test]
    fn a_result_takes_the_place_of_an_operand_that_ends() {
        let drafts = [temp(64, None), temp(64, Some(0)), temp(64, Some(1))];
        assert_eq!(plan(&drafts, &[copy(0, 1), copy(1, 2)], &[]).1, 64);
        // The operand is read once more: it keeps its place.
        assert_eq!(plan(&drafts, &[copy(0, 1), copy(1, 2), copy(0, 2)], &[]).1, 128);
    }
}
