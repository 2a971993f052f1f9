//! One class of machine registers while the code is walked: who holds which, and who has to leave.
//!
//! Values are numbers; their uses are known ([`super::live`]). A register is free again after the last use of its
//! value. When none is free, the value whose next use is farthest goes to the stack (constants go back to the pool,
//! where they still are). A loop's body must leave everything where the loop's head found it: [`Bank::restore`] says
//! what to move. What a carried register was before its last use in a turn is free until the end of the turn.

use super::moves::{At, Move};

/// A value that is nobody's: an instruction's own.
const TEMPORARY: usize = usize::MAX;

/// There is no register left: more are needed at once than the machine has.
#[derive(Debug)]
pub(super) struct Full;

/// Where the values are at a loop's head.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    holders: Vec<Option<usize>>,
    stored: Vec<bool>,
}

pub(super) struct Bank {
    uses: Vec<Vec<u32>>,
    holders: Vec<Option<usize>>,
    reg_of: Vec<Option<u8>>,
    /// Where a value is when it is in no register, once that is known.
    homes: Vec<Option<At>>,
    /// Whether the home holds the value at this place.
    stored: Vec<bool>,
    /// For carried registers of open loops: the loop's end.
    limits: Vec<u32>,
    /// Registers that the instruction at hand uses.
    pinned: Vec<bool>,
    /// Registers that carried values come back to, for each open loop.
    reserved: Vec<Vec<u8>>,
    slots: u32,
    /// Whether a register was ever used.
    pub used: Vec<bool>,
    /// Values that were put on the stack, to tell the next pass.
    pub evicted: Vec<usize>,
    pub moves: Vec<Move>,
}

impl Bank {
    pub fn new(registers: usize, uses: Vec<Vec<u32>>) -> Bank {
        let n = uses.len();
        Bank {
            uses,
            holders: vec![None; registers],
            reg_of: vec![None; n],
            homes: vec![None; n],
            stored: vec![false; n],
            limits: vec![u32::MAX; n],
            pinned: vec![false; registers],
            reserved: Vec::new(),
            slots: 0,
            used: vec![false; registers],
            evicted: Vec::new(),
            moves: Vec::new(),
        }
    }

    /// How many slots of the frame are in use.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// The next use of a value after a position, as far as this turn of the loop goes.
    fn next_use(&self, value: usize, after: u32) -> Option<u32> {
        let uses = &self.uses[value];
        let next = uses.get(uses.partition_point(|&u| u <= after)).copied();
        next.filter(|&u| u <= self.limits[value])
    }

    pub fn is_live(&self, value: usize, after: u32) -> bool {
        self.next_use(value, after).is_some()
    }

    pub fn reg_of(&self, value: usize) -> Option<u8> {
        self.reg_of[value]
    }

    /// Where a value is now.
    pub fn place(&self, value: usize) -> Option<At> {
        self.reg_of[value].map(At::Reg).or(self.homes[value].filter(|_| self.stored[value]))
    }

    /// A value that is in memory from the start.
    pub fn in_memory(&mut self, value: usize, home: At) {
        (self.homes[value], self.stored[value]) = (Some(home), true);
    }

    /// A parameter in a register.
    pub fn arrives(&mut self, value: usize, reg: u8) {
        self.hold(reg, value);
    }

    fn hold(&mut self, reg: u8, value: usize) {
        self.holders[reg as usize] = Some(value);
        self.used[reg as usize] = true;
        if value != TEMPORARY {
            self.reg_of[value] = Some(reg);
        }
    }

    fn free(&mut self, reg: u8) {
        if let Some(value) = self.holders[reg as usize].take()
            && value != TEMPORARY
        {
            self.reg_of[value] = None;
        }
    }

    pub fn pin(&mut self, reg: u8) {
        self.pinned[reg as usize] = true;
    }

    /// The instruction is done: its temporaries are free, and so is what has no further use.
    pub fn unpin(&mut self, at: u32) {
        for reg in 0..self.holders.len() {
            self.pinned[reg] = false;
            match self.holders[reg] {
                Some(TEMPORARY) => self.holders[reg] = None,
                Some(value) if !self.is_live(value, at) => self.free(reg as u8),
                _ => {}
            }
        }
    }

    /// Frees an operand's register after its last use.
    pub fn release(&mut self, value: usize, at: u32) {
        if let Some(reg) = self.reg_of[value]
            && !self.is_live(value, at)
        {
            self.pinned[reg as usize] = false;
            self.free(reg);
        }
    }

    /// A register for anything, `want` if it is free.
    fn pick(&mut self, want: Option<u8>, at: u32) -> Result<u8, Full> {
        let free = |bank: &Bank, reg: usize| bank.holders[reg].is_none() && !bank.pinned[reg];
        if let Some(want) = want.filter(|&w| free(self, w as usize)) {
            return Ok(want);
        }
        let regs = 0..self.holders.len();
        let reserved = |bank: &Bank, reg: usize| bank.reserved.iter().any(|r| r.contains(&(reg as u8)));
        let all: Vec<_> = regs.filter(|&reg| free(self, reg)).collect();
        if let Some(&reg) = all.iter().find(|&&reg| !reserved(self, reg)).or(all.first()) {
            return Ok(reg as u8);
        }
        // Constants first: they need no store. Else what is needed last.
        let candidates = (0..self.holders.len()).filter(|&reg| !self.pinned[reg]).filter_map(|reg| {
            let value = self.holders[reg].filter(|&v| v != TEMPORARY)?;
            let constant = matches!(self.homes[value], Some(At::Pool(_)));
            Some((constant, self.next_use(value, at).unwrap_or(u32::MAX), reg))
        });
        let (.., reg) = candidates.max().ok_or(Full)?;
        self.evict(reg as u8);
        Ok(reg as u8)
    }

    /// Puts the value of a register into memory.
    fn evict(&mut self, reg: u8) {
        let Some(value) = self.holders[reg as usize] else { return };
        let home = self.home(value);
        if !self.stored[value] {
            self.moves.push(Move { dst: home, src: At::Reg(reg) });
            self.stored[value] = true;
        }
        self.evicted.push(value);
        self.free(reg);
    }

    fn home(&mut self, value: usize) -> At {
        let slots = &mut self.slots;
        *self.homes[value].get_or_insert_with(|| {
            *slots += 1;
            At::Slot(*slots - 1)
        })
    }

    /// Puts a value into memory if it is in a register.
    pub fn set_aside(&mut self, value: usize) {
        if let Some(reg) = self.reg_of.get(value).copied().flatten() {
            self.evict(reg);
        }
    }

    /// A place of the frame for nothing in particular.
    pub fn scratch(&mut self) -> At {
        self.slots += 1;
        At::Slot(self.slots - 1)
    }

    /// A register of the instruction's own.
    pub fn temporary(&mut self, at: u32) -> Result<u8, Full> {
        let reg = self.pick(None, at)?;
        self.hold(reg, TEMPORARY);
        self.pin(reg);
        Ok(reg)
    }

    /// A register for a value that is defined here.
    pub fn define(&mut self, value: usize, want: Option<u8>, at: u32) -> Result<u8, Full> {
        let reg = self.pick(want, at)?;
        self.hold(reg, value);
        self.pin(reg);
        self.stored[value] = false;
        Ok(reg)
    }

    /// Brings a value into a register; it is pinned.
    pub fn fetch(&mut self, value: usize, at: u32) -> Result<u8, Full> {
        if let Some(reg) = self.reg_of[value] {
            self.pin(reg);
            return Ok(reg);
        }
        let src = self.place(value).ok_or(Full)?;
        let reg = self.pick(None, at)?;
        self.hold(reg, value);
        self.pin(reg);
        self.moves.push(Move { dst: At::Reg(reg), src });
        Ok(reg)
    }

    /// A carried value takes over the register of its first value where that `leaves` it; or gets a fresh one.
    pub fn carry(&mut self, phi: usize, init: usize, leaves: bool, at: u32) -> Result<(), Full> {
        match self.reg_of[init].filter(|_| leaves && !self.is_live(init, at)) {
            Some(reg) => {
                self.free(reg);
                self.hold(reg, phi);
            }
            None => {
                let src = self.place(init).ok_or(Full)?;
                let reg = self.pick(None, at)?;
                // The register may be that of the first value, which was just put on the stack.
                let src = self.place(init).unwrap_or(src);
                self.hold(reg, phi);
                self.moves.push(Move { dst: At::Reg(reg), src });
            }
        }
        self.stored[phi] = false;
        Ok(())
    }

    /// No register is an operand any more, and no temporary is in use; values stay where they are.
    pub fn let_go(&mut self) {
        self.pinned.fill(false);
        self.holders.iter_mut().filter(|h| **h == Some(TEMPORARY)).for_each(|h| *h = None);
    }

    /// Opens a loop: `phis` end with the turn at `end`.
    pub fn open(&mut self, phis: &[usize], end: u32) -> Snapshot {
        phis.iter().for_each(|&phi| self.limits[phi] = end);
        self.reserved.push(phis.iter().filter_map(|&phi| self.reg_of[phi]).collect());
        Snapshot { holders: self.holders.clone(), stored: self.stored.clone() }
    }

    /// The registers of carried values that the turn does not read are free.
    pub fn release_unread(&mut self, phis: &[usize], at: u32) {
        phis.iter().for_each(|&phi| self.release(phi, at));
    }

    /// Where a value was at the head of a loop.
    pub fn head(&self, snapshot: &Snapshot, value: usize) -> Option<At> {
        let reg = snapshot.holders.iter().position(|&h| h == Some(value)).map(|reg| At::Reg(reg as u8));
        reg.or(self.homes[value].filter(|_| snapshot.stored[value]))
    }

    /// The moves at the end of a turn: `next` of each carried value into its place, all else back to where it was.
    pub fn restore(&mut self, snapshot: &Snapshot, carries: &[(usize, usize)]) -> Result<Vec<Move>, Full> {
        let mut moves = Vec::new();
        for &(phi, next) in carries {
            // What nobody reads has no place.
            let Some(dst) = self.head(snapshot, phi) else { continue };
            moves.push(Move { dst, src: self.place(next).ok_or(Full)? });
        }
        for (reg, holder) in snapshot.holders.iter().enumerate() {
            let Some(value) = *holder else { continue };
            if !carries.iter().any(|&(phi, _)| phi == value) {
                moves.push(Move { dst: At::Reg(reg as u8), src: self.place(value).ok_or(Full)? });
            }
        }
        moves.retain(|m| m.dst != m.src);
        Ok(moves)
    }

    /// Closes a loop: everything is where the head had it.
    pub fn close(&mut self, snapshot: Snapshot, phis: &[usize]) {
        phis.iter().for_each(|&phi| self.limits[phi] = u32::MAX);
        self.reserved.pop();
        self.reg_of.fill(None);
        self.holders = snapshot.holders;
        self.stored = snapshot.stored;
        for reg in 0..self.holders.len() {
            if let Some(value) = self.holders[reg] {
                self.reg_of[value] = Some(reg as u8);
            }
        }
    }

    /// What was put on the stack since `since` although the loop between two positions only lets it pass.
    pub fn passing(&self, snapshot: &Snapshot, since: usize, head: u32, end: u32) -> Vec<usize> {
        let used = |v: usize| self.uses[v].iter().any(|&u| head < u && u < end);
        let constant = |v: usize| matches!(self.homes[v], Some(At::Pool(_)));
        let evicted = self.evicted[since..].iter().copied();
        evicted.filter(|&v| snapshot.holders.contains(&Some(v)) && (constant(v) || !used(v))).collect()
    }

    /// Whether a register holds nothing and is not in use.
    pub fn has_spare(&self) -> bool {
        (0..self.holders.len()).any(|r| self.holders[r].is_none() && !self.pinned[r])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_needed_last_leaves() {
        let mut bank = Bank::new(2, vec![vec![5], vec![9], vec![6]]);
        for value in 0..3 {
            bank.define(value, None, value as u32).unwrap();
            bank.unpin(value as u32);
        }
        assert_eq!(bank.evicted, [1]);
        assert_eq!(bank.moves, [Move { dst: At::Slot(0), src: At::Reg(1) }]);
        assert_eq!(bank.place(1), Some(At::Slot(0)));
    }
}
