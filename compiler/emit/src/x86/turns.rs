//! Loops: carried values stay in their registers, the counter counts down, the test is at the bottom.

use super::Walk;
use super::bank::{Full, Snapshot};
use super::general;
use super::moves::{At, in_order};
use super::operand::AsmOperand;
use iced_x86::Code;
use optc_kernel::tile::{Count, Inst, TileLoop};

/// A loop while its body is walked.
struct Open {
    number: usize,
    head: u32,
    phis: Vec<usize>,
    vectors: Snapshot,
    generals: Snapshot,
    /// How much had been put on the stack before.
    evicted: (usize, usize),
}

impl Walk<'_> {
    pub(super) fn turns(&mut self, l: &TileLoop) -> Result<(), Full> {
        let number = self.loops;
        self.loops += 1;
        let (end, counter) = (self.live.ends[number], self.live.counter(number));
        self.start_carried(l)?;
        self.start_pointers(l)?;
        let counted = !matches!(l.count, Count::Static(0 | 1));
        if counted {
            self.start_counter(l.count, counter)?;
        }
        self.set_aside(number);
        self.done();
        self.flush();
        let skip = match l.count {
            Count::Param(_) => {
                self.test(counter);
                Some(self.asm.jump_ahead(Code::Jle_rel32_64))
            }
            Count::Static(_) => None,
        };
        let open = self.open(l, number, end);
        if l.count == Count::Static(0) {
            self.loops += loops(&l.body);
            self.close(open, end);
        } else {
            let top = counted.then(|| self.asm.loop_head());
            self.vectors.release_unread(&open.phis, open.head);
            self.body(&l.body)?;
            self.at = end;
            self.back_to_head(l, &open)?;
            self.close(open, end);
            self.advance(l);
            if let Some(top) = top {
                let op = self.location(counter);
                self.asm.ins(Code::Sub_rm64_imm8, &[op, AsmOperand::S(1)]);
                self.asm.jump_back(Code::Jne_rel32_64, top);
            }
        }
        self.at = end;
        if let Some(skip) = skip {
            self.asm.land(skip);
        }
        Ok(())
    }

    /// Carried registers get their first values, one after the other: a move's source may be the next one's place.
    fn start_carried(&mut self, l: &TileLoop) -> Result<(), Full> {
        for (i, carry) in l.carries.iter().enumerate() {
            let last = l.carries[i + 1..].iter().all(|later| later.init != carry.init);
            self.vectors.carry(carry.phi.0 as usize, carry.init.0 as usize, last, self.at)?;
        }
        self.flush();
        Ok(())
    }

    fn start_pointers(&mut self, l: &TileLoop) -> Result<(), Full> {
        let inits: Vec<_> = l.inducts.iter().map(|i| self.live.resolve(i.init, 0)).collect();
        for (i, induct) in l.inducts.iter().enumerate() {
            let (root, disp) = inits[i];
            let (ptr, init) = (self.live.ptr(induct.ptr), self.live.ptr(root));
            let last = inits[i + 1..].iter().all(|later| later.0 != root);
            self.general.carry(ptr, init, last, self.at)?;
            self.flush();
            let op = self.location(ptr);
            self.add(op, disp);
        }
        Ok(())
    }

    fn start_counter(&mut self, count: Count, counter: usize) -> Result<(), Full> {
        match count {
            Count::Static(n) => {
                let reg = general(self.general.define(counter, None, self.at)?);
                self.ins(Code::Mov_rm64_imm32, &[AsmOperand::R(reg), AsmOperand::L(n.min(i32::MAX as u32) as i32)]);
            }
            Count::Param(c) => self.general.carry(counter, self.live.count(c), true, self.at)?,
        }
        self.flush();
        Ok(())
    }

    /// What the body would put on the stack again and again goes there now.
    fn set_aside(&mut self, number: usize) {
        self.vectors.let_go();
        self.general.let_go();
        let (vectors, generals) = &self.aside[number];
        vectors.iter().for_each(|&value| self.vectors.set_aside(value));
        generals.iter().for_each(|&value| self.general.set_aside(value));
    }

    fn open(&mut self, l: &TileLoop, number: usize, end: u32) -> Open {
        let phis: Vec<_> = l.carries.iter().map(|c| c.phi.0 as usize).collect();
        let evicted = (self.vectors.evicted.len(), self.general.evicted.len());
        let (vectors, generals) = (self.vectors.open(&phis, end), self.general.open(&[], end));
        for carry in &l.carries {
            if let Some(reg) = self.vectors.reg_of(carry.phi.0 as usize) {
                self.heads.insert(carry.phi, reg);
            }
        }
        Open { number, head: self.at, phis, vectors, generals, evicted }
    }

    /// At the end of a turn: the carried registers' next values, and all else as the head has it.
    fn back_to_head(&mut self, l: &TileLoop, open: &Open) -> Result<(), Full> {
        let pairs: Vec<_> = l.carries.iter().map(|c| (c.phi.0 as usize, c.next.0 as usize)).collect();
        let vectors = in_order(self.vectors.restore(&open.vectors, &pairs)?, || self.vectors.scratch());
        let generals = in_order(self.general.restore(&open.generals, &[])?, || self.general.scratch());
        self.flush();
        self.steps(vectors, true);
        self.steps(generals, false);
        Ok(())
    }

    fn close(&mut self, open: Open, end: u32) {
        let passing = self.vectors.passing(&open.vectors, open.evicted.0, open.head, end);
        self.aside[open.number].0.extend(passing);
        let passing = self.general.passing(&open.generals, open.evicted.1, open.head, end);
        self.aside[open.number].1.extend(passing);
        self.vectors.close(open.vectors, &open.phis);
        self.general.close(open.generals, &[]);
    }

    /// The pointers of the next turn.
    fn advance(&mut self, l: &TileLoop) {
        for induct in &l.inducts {
            let op = self.location(self.live.ptr(induct.ptr));
            self.add(op, induct.step);
        }
    }

    fn add(&mut self, op: AsmOperand, mut by: i64) {
        while by != 0 {
            let part = by.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
            match i8::try_from(part) {
                Ok(small) => self.asm.ins(Code::Add_rm64_imm8, &[op, AsmOperand::S(small)]),
                Err(_) => self.asm.ins(Code::Add_rm64_imm32, &[op, AsmOperand::L(part)]),
            }
            by -= i64::from(part);
        }
    }

    /// Where a pointer or counter that is in use stands.
    fn location(&self, value: usize) -> AsmOperand {
        match self.general.place(value) {
            Some(At::Reg(reg)) => AsmOperand::R(general(reg)),
            Some(at) => AsmOperand::M(self.general_slot(at)),
            None => unreachable!("pointers and counters of a loop are live until its end"),
        }
    }

    fn test(&mut self, counter: usize) {
        let op = self.location(counter);
        self.asm.ins(Code::Cmp_rm64_imm8, &[op, AsmOperand::S(0)]);
    }
}

/// How many loops there are in a body.
fn loops(body: &[Inst]) -> usize {
    let inner = |inst: &Inst| if let Inst::Loop(l) = inst { 1 + loops(&l.body) } else { 0 };
    body.iter().map(inner).sum()
}
