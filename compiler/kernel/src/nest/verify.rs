//! What a well-formed kernel is: variables are defined before use and once, buffers and tiles exist, calls fit their
//! tiles, steps and divisors are positive, and every tile is well formed.

use super::{Addr, Base, Ix, Kernel, Stmt, TASK, Var};
use crate::tile::{self, verify::TileError};
use std::collections::HashSet;

/// The most variables of a kernel.
const MAX_VARS: u32 = 1 << 20;

/// Why a kernel is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NestError {
    /// One of its tiles is not.
    #[error("tile `{0}`: {1}")]
    Tile(String, TileError),
    /// A variable is used where it is not defined.
    #[error("variable i{0} is used before its definition")]
    Undefined(u32),
    /// A variable is defined twice, or was not handed out by the kernel.
    #[error("variable i{0} is defined twice or unknown")]
    Redefined(u32),
    /// A buffer does not exist.
    #[error("buffer {0} does not exist")]
    NoBuffer(u32),
    /// A call does not fit its tile.
    #[error("a call of tile {0} does not fit it")]
    Call(usize),
    /// The text does not parse.
    #[error("expected {expected} before `{before}`")]
    Syntax {
        /// What should be there.
        expected: &'static str,
        /// What is there.
        before: String,
    },
    /// A step or divisor is not positive.
    #[error("a step or divisor is not positive")]
    NotPositive,
    /// There is not even the variable of the task.
    #[error("a kernel has at least one variable, the task")]
    NoTask,
    /// There are more variables than a kernel has.
    #[error("more than {MAX_VARS} variables")]
    TooMany,
}

impl Kernel {
    /// Checks the kernel.
    ///
    /// # Errors
    ///
    /// The first invariant that is broken.
    pub fn verify(&self) -> Result<(), NestError> {
        if self.vars == 0 {
            return Err(NestError::NoTask);
        }
        if self.vars > MAX_VARS {
            return Err(NestError::TooMany);
        }
        for tile in &self.tiles {
            tile::verify(tile).map_err(|e| NestError::Tile(tile.name.clone(), e))?;
        }
        let mut check = Check { kernel: self, defined: HashSet::from([TASK]), visible: vec![TASK] };
        check.body(&self.body)
    }
}

struct Check<'a> {
    kernel: &'a Kernel,
    defined: HashSet<Var>,
    visible: Vec<Var>,
}

impl Check<'_> {
    fn body(&mut self, body: &[Stmt]) -> Result<(), NestError> {
        let outer = self.visible.len();
        body.iter().try_for_each(|stmt| self.stmt(stmt))?;
        self.visible.truncate(outer);
        Ok(())
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), NestError> {
        match stmt {
            Stmt::For { var, start, end, step, body } => {
                self.ix(start)?;
                self.ix(end)?;
                if *step <= 0 {
                    return Err(NestError::NotPositive);
                }
                let outer = self.visible.len();
                self.define(*var)?;
                self.body(body)?;
                self.visible.truncate(outer);
                Ok(())
            }
            Stmt::If { a, b, then, otherwise, .. } => {
                self.ix(a)?;
                self.ix(b)?;
                self.body(then)?;
                self.body(otherwise)
            }
            Stmt::Let { var, value } => {
                self.ix(value)?;
                self.define(*var)
            }
            Stmt::LoadIndex { var, at, .. } => {
                self.addr(at)?;
                self.define(*var)
            }
            Stmt::Call { tile, ptrs, counts } => {
                let fits = |t: &tile::Tile| t.ptrs == ptrs.len() && t.counts == counts.len();
                if !self.kernel.tiles.get(*tile).is_some_and(fits) {
                    return Err(NestError::Call(*tile));
                }
                ptrs.iter().try_for_each(|addr| self.addr(addr))?;
                counts.iter().try_for_each(|ix| self.ix(ix))
            }
        }
    }

    fn define(&mut self, var: Var) -> Result<(), NestError> {
        if var.0 >= self.kernel.vars || !self.defined.insert(var) {
            return Err(NestError::Redefined(var.0));
        }
        self.visible.push(var);
        Ok(())
    }

    fn addr(&self, addr: &Addr) -> Result<(), NestError> {
        match addr.base {
            Base::Buf(b) if b as usize >= self.kernel.bufs.len() => Err(NestError::NoBuffer(b)),
            Base::Buf(_) | Base::Scratch => self.ix(&addr.offset),
        }
    }

    fn ix(&self, ix: &Ix) -> Result<(), NestError> {
        match ix {
            Ix::Const(_) => Ok(()),
            Ix::Var(var) if self.visible.contains(var) => Ok(()),
            Ix::Var(var) => Err(NestError::Undefined(var.0)),
            Ix::Add(a, b) | Ix::Sub(a, b) | Ix::Min(a, b) | Ix::Max(a, b) => {
                self.ix(a)?;
                self.ix(b)
            }
            Ix::Mul(a, _) => self.ix(a),
            Ix::Div(a, c) | Ix::Rem(a, c) => {
                if *c <= 0 {
                    return Err(NestError::NotPositive);
                }
                self.ix(a)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_has_the_variable_of_its_task() {
        let mut kernel = Kernel::new("nothing", 3);
        assert_eq!(kernel.verify(), Ok(()));
        kernel.vars = 0;
        assert_eq!(kernel.verify(), Err(NestError::NoTask));
    }
}
