//! Where values are, and moves between places that happen at once, in an order that overwrites nothing too early.

use super::operand::Pooled;

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// A register, by its number in the bank.
    Reg(u8),
    /// A slot of the frame.
    Slot(u32),
    /// The pool of constants.
    Pool(Pooled),
    /// The stack parameter of this number.
    Param(u32),
}

/// A copy that the emitter has to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub dst: At,
    pub src: At,
}

/// One step of moves that happen at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MoveStep {
    Copy(Move),
    /// Two registers change places.
    Swap(u8, u8),
}

/// An order of moves that happen at once. Where places in memory are exchanged, `scratch` is one more.
pub(super) fn in_order(mut moves: Vec<Move>, mut scratch: impl FnMut() -> At) -> Vec<MoveStep> {
    let mut steps = Vec::new();
    while let Some(&first) = moves.first() {
        let ready = moves.iter().position(|m| moves.iter().all(|other| other.src != m.dst));
        if let Some(i) = ready {
            steps.push(MoveStep::Copy(moves.swap_remove(i)));
            continue;
        }
        // Only cycles are left.
        let memory = moves.iter().map(|m| m.dst).find(|dst| !matches!(dst, At::Reg(_)));
        match (memory, first.dst, first.src) {
            (None, At::Reg(dst), At::Reg(src)) => {
                steps.push(MoveStep::Swap(dst, src));
                // What was in `dst` is in `src` now, and the other way round.
                for m in &mut moves {
                    if m.src == first.dst {
                        m.src = first.src;
                    } else if m.src == first.src {
                        m.src = first.dst;
                    }
                }
                moves.retain(|m| m.src != m.dst);
            }
            (memory, dst, _) => {
                let (from, to) = (memory.unwrap_or(dst), scratch());
                steps.push(MoveStep::Copy(Move { dst: to, src: from }));
                moves.iter_mut().filter(|m| m.src == from).for_each(|m| m.src = to);
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(moves: &[(u8, u8)]) -> Vec<u8> {
        let list = moves.iter().map(|&(dst, src)| Move { dst: At::Reg(dst), src: At::Reg(src) }).collect();
        let mut regs: Vec<u8> = (0..8).collect();
        for step in in_order(list, || unreachable!("no memory is involved")) {
            match step {
                MoveStep::Copy(Move { dst: At::Reg(dst), src: At::Reg(src) }) => {
                    regs[dst as usize] = regs[src as usize]
                }
                MoveStep::Swap(a, b) => regs.swap(a as usize, b as usize),
                MoveStep::Copy(other) => panic!("{other:?}"),
            }
        }
        regs
    }

    #[test]
    fn moves_happen_at_once() {
        assert_eq!(moved(&[(0, 1), (1, 2), (2, 0)])[..3], [1, 2, 0]);
        assert_eq!(moved(&[(0, 1), (1, 0), (2, 0), (3, 0)])[..4], [1, 0, 0, 0]);
        assert_eq!(moved(&[(1, 0), (2, 1), (3, 2)])[..4], [0, 0, 1, 2]);
    }
}
