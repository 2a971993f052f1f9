//! What a well-formed tile is.
//!
//! - every register and pointer is defined once, before its uses, in the same or an enclosing body;
//! - operand element types fit the operation, `next` of a carried register fits its `init`;
//! - lane counts are `1..=lanes`, permutations name lanes below `2 * lanes`, shifts are below 32;
//! - pairs of bytes are only loaded, and only side by side;
//! - matrices are those of a level that has them; what is multiplied or stored was written before, in the same body or
//!   around it;
//! - count parameters exist; loops nest at most [`MAX_DEPTH`] deep.

pub use super::error::TileError;
use super::field::{Holds, InstPart};
use super::inst::InstTypes;
use super::{Count, Elem, Inst, Law, Load, MATRICES, MAX_DEPTH, Mat, Ptr, Reg, Tile, TileLoop};
use std::collections::HashMap;

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
        if let Inst::Loop(l) = inst {
            return self.turn(l, depth);
        }
        self.beyond_types(inst)?;
        let (parts, mut types) = (inst.parts(), InstTypes::default());
        parts.iter().try_for_each(|part| self.part(part, &mut types))?;
        for part in &parts {
            if let InstPart::NewMat(mat) = part {
                self.def_mat(*mat)?;
            }
        }
        match inst.result() {
            Some(InstPart::Reg(dst, holds)) => {
                let elem = types.result(holds).ok_or(TileError::Elem(dst.0))?;
                self.def(dst, elem)
            }
            Some(InstPart::Ptr(dst)) => self.def_ptr(dst),
            _ => Ok(()),
        }
    }

    /// What is used is defined and of the right type, and numbers are in their ranges.
    fn part(&self, part: &InstPart<'_>, types: &mut InstTypes) -> Result<(), TileError> {
        types.learn(part);
        match part {
            InstPart::Reg(reg, Holds::Elem(elem)) => self.want(*reg, *elem),
            InstPart::Reg(reg, Holds::Same) => {
                let elem = self.elem(*reg)?;
                self.want(*reg, *types.operands.get_or_insert(elem))
            }
            InstPart::Ptr(ptr) => self.ptr(*ptr),
            InstPart::Mat(mat) => self.mat(*mat),
            InstPart::LaneCount(n) | InstPart::Load(Load::Contiguous(n) | Load::Strided(n, _)) => self.count(*n),
            InstPart::ShiftBy(by) if *by >= 32 => Err(TileError::Range("a shift")),
            InstPart::Picks(lanes) => self.picks(lanes),
            InstPart::NewMat(_) | InstPart::Operator { .. } | InstPart::Mem(_) | InstPart::Load(Load::Broadcast) => {
                Ok(())
            }
            InstPart::Word(_) | InstPart::Bits(_) | InstPart::Number(_) | InstPart::ShiftBy(_) => Ok(()),
        }
    }

    fn picks(&self, lanes: &[u8]) -> Result<(), TileError> {
        let all = self.tile.lanes;
        match lanes.len() == all && lanes.iter().all(|&lane| usize::from(lane) < 2 * all) {
            true => Ok(()),
            false => Err(TileError::Range("a permuted lane")),
        }
    }

    /// What some instructions demand that their rows do not say.
    fn beyond_types(&self, inst: &Inst) -> Result<(), TileError> {
        let refused = match inst {
            Inst::PackBf16 { .. } if !self.tile.features.sums_halves() => "the features of a tile that packs bfloat16",
            Inst::Reduce { op, .. } if !op.has(Law::Reduces) => "the operation of a reduction",
            Inst::MatDot { sum, x, y, .. } if sum == x || sum == y || x == y => "a matrix",
            Inst::MatConfigure {} | Inst::MatRelease {} => return self.matrices(),
            Inst::Load { mem, load, .. } if mem.is_pair() && !matches!(load, Load::Contiguous(_)) => "a load of pairs",
            Inst::Store { mem, .. } if mem.is_pair() => "a store of pairs",
            _ => return Ok(()),
        };
        Err(TileError::Range(refused))
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
}
