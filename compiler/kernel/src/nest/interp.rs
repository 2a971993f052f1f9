//! Interprets kernels over byte buffers: the oracle of the emitters, in safe code.

use super::{Addr, Base, IndexMem, Ix, Kernel, Rel, Stmt};
use crate::tile::interp::{Address, InterpError, run_verified};
use crate::tile::{Elem, Reg, verify};
use std::collections::HashMap;

impl Kernel {
    /// Runs all tasks over `buffers`, one for each buffer of the kernel.
    ///
    /// # Errors
    ///
    /// A kernel that is not well formed, buffers of the wrong size, and any access out of bounds.
    pub fn interpret(&self, buffers: &mut [Vec<u8>]) -> Result<(), InterpError> {
        self.interpret_with(buffers, &mut |_, _, _| {}).map(|_| ())
    }

    /// As [`Kernel::interpret`]; `watch` sees every call of a tile with its arguments, where the buffer after the last
    /// one is the scratch. Returns the scratch, which begins as bytes of 0xa5.
    ///
    /// # Errors
    ///
    /// Those of [`Kernel::interpret`].
    pub fn interpret_with(&self, buffers: &mut [Vec<u8>], watch: Watch) -> Result<Vec<u8>, InterpError> {
        self.verify().map_err(|_| InterpError::Nest("the kernel does not verify"))?;
        if buffers.len() != self.bufs.len() || self.bufs.iter().zip(&*buffers).any(|(b, have)| have.len() != b.bytes) {
            return Err(InterpError::Nest("the buffers are not those that the kernel declares"));
        }
        let mut memory: Vec<Vec<u8>> = buffers.iter_mut().map(std::mem::take).collect();
        memory.push(vec![0xa5; self.scratch_bytes]);
        let elems = self.tiles.iter().map(verify::elems).collect::<Result<Vec<_>, _>>()?;
        let mut state = State { kernel: self, elems, vars: vec![0; self.vars as usize], memory, watch };
        let result = (0..self.tasks).try_for_each(|task| {
            state.vars[0] = task as i64;
            state.body(&self.body)
        });
        let scratch = state.memory.pop().unwrap_or_default();
        buffers.iter_mut().zip(state.memory).for_each(|(buffer, bytes)| *buffer = bytes);
        result.map(|()| scratch)
    }
}

/// Sees a call: the tile's number, its pointers, its counts.
pub type Watch<'a> = &'a mut dyn FnMut(usize, &[Address], &[i64]);

struct State<'a> {
    kernel: &'a Kernel,
    elems: Vec<HashMap<Reg, Elem>>,
    vars: Vec<i64>,
    /// The buffers, then the scratch.
    memory: Vec<Vec<u8>>,
    watch: Watch<'a>,
}

impl State<'_> {
    fn body(&mut self, body: &[Stmt]) -> Result<(), InterpError> {
        body.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), InterpError> {
        match stmt {
            Stmt::For { var, start, end, step, body } => {
                let (mut i, end) = (self.ix(start), self.ix(end));
                while i < end {
                    self.vars[var.0 as usize] = i;
                    self.body(body)?;
                    i += step;
                }
                Ok(())
            }
            Stmt::If { a, rel, b, then, otherwise } => {
                let (a, b) = (self.ix(a), self.ix(b));
                let holds = match rel {
                    Rel::Eq => a == b,
                    Rel::Lt => a < b,
                    Rel::Ge => a >= b,
                };
                self.body(if holds { then } else { otherwise })
            }
            Stmt::Let { var, value } => {
                self.vars[var.0 as usize] = self.ix(value);
                Ok(())
            }
            Stmt::LoadIndex { var, mem, at } => {
                self.vars[var.0 as usize] = self.load(*mem, at)?;
                Ok(())
            }
            Stmt::Call { tile, ptrs, counts } => {
                let places: Vec<_> = ptrs.iter().map(|addr| self.place(addr)).collect();
                let counts: Vec<_> = counts.iter().map(|ix| self.ix(ix)).collect();
                (self.watch)(*tile, &places, &counts);
                run_verified(&self.kernel.tiles[*tile], &self.elems[*tile], &places, &counts, &mut self.memory)
            }
        }
    }

    fn load(&self, mem: IndexMem, at: &Addr) -> Result<i64, InterpError> {
        let place = self.place(at);
        let bytes = if mem == IndexMem::I32 { 4 } else { 8 };
        let start = usize::try_from(place.offset).ok();
        let raw = start.and_then(|s| self.memory[place.buffer].get(s..s + bytes));
        let raw = raw.ok_or(InterpError::Bounds { place, bytes })?;
        let mut wide = [if raw[bytes - 1] >= 0x80 { 0xff } else { 0 }; 8];
        wide[..bytes].copy_from_slice(raw);
        Ok(i64::from_le_bytes(wide))
    }

    fn place(&self, addr: &Addr) -> Address {
        let buffer = match addr.base {
            Base::Buf(b) => b as usize,
            Base::Scratch => self.kernel.bufs.len(),
        };
        Address { buffer, offset: self.ix(&addr.offset) }
    }

    fn ix(&self, ix: &Ix) -> i64 {
        match ix {
            Ix::Const(c) => *c,
            Ix::Var(var) => self.vars[var.0 as usize],
            Ix::Add(a, b) => self.ix(a) + self.ix(b),
            Ix::Sub(a, b) => self.ix(a) - self.ix(b),
            Ix::Mul(a, c) => self.ix(a) * c,
            Ix::Div(a, c) => self.ix(a) / c,
            Ix::Rem(a, c) => self.ix(a) % c,
            Ix::Min(a, b) => self.ix(a).min(self.ix(b)),
            Ix::Max(a, b) => self.ix(a).max(self.ix(b)),
        }
    }
}
