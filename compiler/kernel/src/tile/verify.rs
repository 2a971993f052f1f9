//! What a well-formed tile is.
//!
//! - every register and pointer is defined once, before its uses, in the same or an enclosing body;
//! - operand element types fit the operation, `next` of a carried register fits its `init`;
//! - lane counts are `1..=lanes`, permutations name lanes below `2 * lanes`, shifts are below 32;
//! - pairs of bytes are only loaded, and only side by side;
//! - matrices are those of a level that has them; what is multiplied or stored was written before, in the same body or
//!   around it;
//! - count parameters exist; loops nest at most [`MAX_DEPTH`] deep.

use super::{Binary, Count, Elem, Inst, Load, MATRICES, MAX_DEPTH, Mat, Ptr, Reg, Tile, TileLoop, Unary};
use std::collections::HashMap;

/// Why a tile is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// A register is used where it is not defined.
    #[error("register v{0} is used before its definition")]
    UndefinedReg(u32),
    /// A pointer is used where it is not defined.
    #[error("pointer p{0} is used before its definition")]
    UndefinedPtr(u32),
    /// Something is defined twice.
    #[error("`{0}` is defined twice")]
    Redefined(String),
    /// An operand has the wrong element type.
    #[error("register v{0} has the wrong element type for its use")]
    Elem(u32),
    /// A number is out of its range.
    #[error("{0} is out of range")]
    Range(&'static str),
    /// The text does not parse.
    #[error("line {line}: expected {expected}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
    },
}

/// The most pointers that a tile takes, and trip counts.
const MAX_ARGUMENTS: usize = 1 << 10;

/// Checks a tile.
///
/// # Errors
///
/// The first invariant that is broken.
pub fn verify(tile: &Tile) -> Result<(), TileError> {
    elems(tile).map(|_| ())
}

/// The element type of every register of a tile, after checking the tile.
///
/// # Errors
///
/// The first invariant that is broken.
pub fn elems(tile: &Tile) -> Result<HashMap<Reg, Elem>, TileError> {
    if tile.lanes == 0 || tile.lanes > 64 || !tile.lanes.is_power_of_two() {
        return Err(TileError::Range("the number of lanes"));
    }
    if tile.ptrs > MAX_ARGUMENTS || tile.counts > MAX_ARGUMENTS {
        return Err(TileError::Range("the number of pointers or trip counts"));
    }
    let mut check = Check {
        tile,
        all: HashMap::new(),
        regs: HashMap::new(),
        ptrs: HashMap::new(),
        mats: [false; MATRICES as usize],
    };
    for p in 0..tile.ptrs {
        check.def_ptr(Ptr(p as u32))?;
    }
    check.body(&tile.body, 0)?;
    Ok(check.all)
}

struct Check<'a> {
    tile: &'a Tile,
    all: HashMap<Reg, Elem>,
    /// Whether the register is visible at this place.
    regs: HashMap<Reg, bool>,
    ptrs: HashMap<Ptr, bool>,
    /// Whether a matrix register holds something at this place.
    mats: [bool; MATRICES as usize],
}

impl Check<'_> {
    fn def(&mut self, reg: Reg, elem: Elem) -> Result<(), TileError> {
        self.all.insert(reg, elem);
        match self.regs.insert(reg, true) {
            None => Ok(()),
            Some(_) => Err(TileError::Redefined(format!("v{}", reg.0))),
        }
    }

    fn def_ptr(&mut self, ptr: Ptr) -> Result<(), TileError> {
        match self.ptrs.insert(ptr, true) {
            None => Ok(()),
            Some(_) => Err(TileError::Redefined(format!("p{}", ptr.0))),
        }
    }

    fn elem(&self, reg: Reg) -> Result<Elem, TileError> {
        match self.regs.get(&reg) {
            Some(true) => Ok(self.all[&reg]),
            _ => Err(TileError::UndefinedReg(reg.0)),
        }
    }

    fn want(&self, reg: Reg, elem: Elem) -> Result<(), TileError> {
        if self.elem(reg)? == elem { Ok(()) } else { Err(TileError::Elem(reg.0)) }
    }

    fn ptr(&self, ptr: Ptr) -> Result<(), TileError> {
        match self.ptrs.get(&ptr) {
            Some(true) => Ok(()),
            _ => Err(TileError::UndefinedPtr(ptr.0)),
        }
    }

    fn matrices(&self) -> Result<(), TileError> {
        match self.tile.features.has_matrices() {
            true => Ok(()),
            false => Err(TileError::Range("the features of a tile with matrices")),
        }
    }

    fn def_mat(&mut self, mat: Mat) -> Result<(), TileError> {
        self.matrices()?;
        let known = self.mats.get_mut(mat.0 as usize).ok_or(TileError::Range("a matrix"))?;
        *known = true;
        Ok(())
    }

    fn mat(&self, mat: Mat) -> Result<(), TileError> {
        self.matrices()?;
        match self.mats.get(mat.0 as usize) {
            Some(true) => Ok(()),
            _ => Err(TileError::Range("a matrix")),
        }
    }

    fn count(&self, n: u8) -> Result<(), TileError> {
        let fits = (1..=self.tile.lanes).contains(&(n as usize));
        if fits { Ok(()) } else { Err(TileError::Range("a lane count")) }
    }

    fn body(&mut self, body: &[Inst], depth: usize) -> Result<(), TileError> {
        body.iter().try_for_each(|inst| self.inst(inst, depth))
    }

    fn inst(&mut self, inst: &Inst, depth: usize) -> Result<(), TileError> {
        match inst {
            Inst::ConstF(dst, _) => self.def(*dst, Elem::F32),
            Inst::ConstI(dst, _) => self.def(*dst, Elem::I32),
            Inst::Unary(dst, op, x) => {
                let elem = self.unary(*op, *x)?;
                self.def(*dst, elem)
            }
            Inst::Binary(dst, op, x, y) => {
                let elem = self.binary(*op, *x)?;
                self.want(*y, elem)?;
                self.def(*dst, elem)
            }
            Inst::Fma(dst, x, y, z) => {
                [x, y, z].into_iter().try_for_each(|r| self.want(*r, Elem::F32))?;
                self.def(*dst, Elem::F32)
            }
            Inst::Dot2(dst, x, y, z) | Inst::Dot4(dst, x, y, z) => {
                [x, y, z].into_iter().try_for_each(|r| self.want(*r, Elem::I32))?;
                self.def(*dst, Elem::I32)
            }
            Inst::DotBf16(dst, x, y, z) => {
                [x, y].into_iter().try_for_each(|r| self.want(*r, Elem::I32))?;
                self.want(*z, Elem::F32)?;
                self.def(*dst, Elem::F32)
            }
            Inst::PackBf16(dst, x, y) => {
                if !self.tile.features.sums_halves() {
                    return Err(TileError::Range("the features of a tile that packs bfloat16"));
                }
                [x, y].into_iter().try_for_each(|r| self.want(*r, Elem::F32))?;
                self.def(*dst, Elem::I32)
            }
            Inst::Cmp(dst, _, x, y) => {
                self.want(*y, self.elem(*x)?)?;
                self.def(*dst, Elem::I32)
            }
            Inst::Select(dst, mask, x, y) => {
                self.want(*mask, Elem::I32)?;
                let elem = self.elem(*x)?;
                self.want(*y, elem)?;
                self.def(*dst, elem)
            }
            Inst::Shift(dst, _, x, by) => {
                self.want(*x, Elem::I32)?;
                if *by >= 32 {
                    return Err(TileError::Range("a shift"));
                }
                self.def(*dst, Elem::I32)
            }
            Inst::Reduce(dst, op, x) => {
                if !matches!(op, Binary::Add | Binary::Mul | Binary::Min | Binary::Max) {
                    return Err(TileError::Range("the operation of a reduction"));
                }
                let elem = self.binary(*op, *x)?;
                self.def(*dst, elem)
            }
            Inst::Permute { dst, x, y, lanes } => {
                let elem = self.elem(*x)?;
                self.want(*y, elem)?;
                if lanes.len() != self.tile.lanes || lanes.iter().any(|&l| l as usize >= 2 * self.tile.lanes) {
                    return Err(TileError::Range("a permuted lane"));
                }
                self.def(*dst, elem)
            }
            Inst::MatConfigure | Inst::MatRelease => self.matrices(),
            Inst::MatZero(m) => self.def_mat(*m),
            Inst::MatLoad { dst, ptr, .. } => {
                self.ptr(*ptr)?;
                self.def_mat(*dst)
            }
            Inst::MatStore { ptr, src, .. } => {
                self.ptr(*ptr)?;
                self.mat(*src)
            }
            Inst::MatDot(m, _, x, y) => {
                if m == x || m == y || x == y {
                    return Err(TileError::Range("a matrix"));
                }
                [m, x, y].into_iter().try_for_each(|m| self.mat(*m))
            }
            Inst::Load { dst, mem, ptr, load, .. } => {
                self.ptr(*ptr)?;
                if let Load::Contiguous(n) | Load::Strided(n, _) = load {
                    self.count(*n)?;
                }
                if mem.is_pair() && !matches!(load, Load::Contiguous(_)) {
                    return Err(TileError::Range("a load of pairs"));
                }
                self.def(*dst, mem.elem())
            }
            Inst::Store { mem, ptr, n, src, .. } => {
                self.ptr(*ptr)?;
                self.count(*n)?;
                if mem.is_pair() {
                    return Err(TileError::Range("a store of pairs"));
                }
                self.want(*src, mem.elem())
            }
            Inst::Prefetch { ptr, .. } => self.ptr(*ptr),
            Inst::Offset { dst, ptr, .. } => {
                self.ptr(*ptr)?;
                self.def_ptr(*dst)
            }
            Inst::LoadPtr { dst, table, base, other, .. } => {
                [table, base].into_iter().chain(other).try_for_each(|p| self.ptr(*p))?;
                self.def_ptr(*dst)
            }
            Inst::Loop(l) => self.turn(l, depth),
        }
    }

    fn turn(&mut self, l: &TileLoop, depth: usize) -> Result<(), TileError> {
        if depth >= MAX_DEPTH {
            return Err(TileError::Range("the depth of loops"));
        }
        if matches!(l.count, Count::Param(c) if c as usize >= self.tile.counts) {
            return Err(TileError::Range("a count parameter"));
        }
        for induct in &l.inducts {
            self.ptr(induct.init)?;
        }
        for carry in &l.carries {
            self.elem(carry.init)?;
        }
        for induct in &l.inducts {
            self.def_ptr(induct.ptr)?;
        }
        for carry in &l.carries {
            self.def(carry.phi, self.all[&carry.init])?;
        }
        let (regs, ptrs, mats) = (self.regs.clone(), self.ptrs.clone(), self.mats);
        self.body(&l.body, depth + 1)?;
        self.mats = mats;
        for carry in &l.carries {
            self.want(carry.next, self.all[&carry.init])?;
        }
        // What the body defined is no longer visible, but stays defined.
        self.regs.iter_mut().for_each(|(reg, visible)| *visible &= regs.contains_key(reg));
        self.ptrs.iter_mut().for_each(|(ptr, visible)| *visible &= ptrs.contains_key(ptr));
        Ok(())
    }

    fn unary(&self, op: Unary, x: Reg) -> Result<Elem, TileError> {
        let (want, gives) = match op {
            Unary::Neg | Unary::Abs => return self.elem(x),
            Unary::Sqrt | Unary::Floor | Unary::Ceil | Unary::Trunc | Unary::Nearest => (Elem::F32, Elem::F32),
            Unary::ToInt | Unary::AsInt => (Elem::F32, Elem::I32),
            Unary::Not => (Elem::I32, Elem::I32),
            Unary::ToFloat | Unary::AsFloat => (Elem::I32, Elem::F32),
        };
        self.want(x, want)?;
        Ok(gives)
    }

    fn binary(&self, op: Binary, x: Reg) -> Result<Elem, TileError> {
        match op {
            Binary::Add | Binary::Sub | Binary::Mul | Binary::Min | Binary::Max => self.elem(x),
            Binary::Div => self.want(x, Elem::F32).map(|()| Elem::F32),
            Binary::And | Binary::Or | Binary::Xor | Binary::SubPairs => self.want(x, Elem::I32).map(|()| Elem::I32),
        }
    }
}
