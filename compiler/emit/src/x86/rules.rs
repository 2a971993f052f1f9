//! Which instructions compute each tile instruction, lane by lane.

use super::bank::Full;
use super::encoding::{binary, condition, shift};
use super::matrix::matrix;
use super::moves::At;
use super::operand::{AsmOperand, MemOperand};
use super::{Walk, general, lanes_of, vector};
use iced_x86::{Code, Register};
use optc_kernel::tile::{Binary, Cmp, Elem, Inst, Law, Reg, Unary};
use optc_types::Features;

/// Whether an instruction can take its operand `reg` from memory, where its rule says so.
pub(super) fn takes_memory(inst: &Inst, reg: Reg, features: Features) -> bool {
    match inst {
        Inst::Binary { op, x, y, .. } => x != y && (*y == reg || op.has(Law::Commutes)),
        Inst::Fma { x, y, z, .. } => [x, y, z].into_iter().filter(|&&r| r == reg).count() == 1,
        Inst::Dot2 { x, y, z, .. } => x != y && *y == reg && *z != reg,
        // Without an instruction of its own, both factors are taken apart in registers.
        Inst::Dot4 { x, y, z, .. } => features.sums_bytes() && x != y && *y == reg && *z != reg,
        Inst::Cmp { x, y, .. } => x != y && *y == reg,
        // Among them products of bfloat16: the emulator that stands in for such a machine sums differently with an
        // operand in memory, and that form has not been seen to work.
        _ => false,
    }
}

/// The operand whose register the result had best take over, where there is one: the sum that products are added to.
pub(super) fn grows_from(inst: &Inst) -> Option<Reg> {
    match inst {
        Inst::Fma { z, .. } | Inst::Dot2 { z, .. } | Inst::Dot4 { z, .. } | Inst::DotBf16 { z, .. } => Some(*z),
        Inst::Binary { x, .. } | Inst::Unary { x, .. } => Some(*x),
        _ => None,
    }
}

impl Walk<'_> {
    pub(super) fn inst(&mut self, inst: &Inst) -> Result<(), Full> {
        match inst {
            Inst::ConstF { dst, bits } => self.constant(*dst, *bits),
            Inst::ConstI { dst, value } => self.constant(*dst, *value as u32),
            Inst::Unary { dst, op, x } => self.unary(*dst, *op, *x)?,
            Inst::Binary { dst, op, x, y } => self.binary(*dst, *op, *x, *y)?,
            Inst::Fma { dst, x, y, z } => self.fma(*dst, *x, *y, *z)?,
            Inst::Dot2 { dst, x, y, z } => self.dot2(*dst, *x, *y, *z)?,
            Inst::Dot4 { dst, x, y, z } => self.dot4(*dst, *x, *y, *z)?,
            Inst::DotBf16 { dst, x, y, z } => self.dot_bf16(*dst, *x, *y, *z)?,
            Inst::PackBf16 { dst, x, y } => {
                let (a, b) = (self.reg(*x)?, self.reg(*y)?);
                let d = self.define(*dst, &[*x, *y])?;
                self.ins(
                    Code::EVEX_Vcvtne2ps2bf16_zmm_k1z_zmm_zmmm512b32,
                    &[AsmOperand::R(d), AsmOperand::R(b), AsmOperand::R(a)],
                );
            }
            Inst::Cmp { dst, op, x, y } if self.wide => self.compare_wide(*dst, *op, *x, *y)?,
            Inst::Cmp { dst, op, x, y } => match self.elems[x] {
                Elem::F32 => {
                    let (a, b) = (self.reg(*x)?, self.rm(*y)?);
                    let d = self.define(*dst, &[*x, *y])?;
                    self.ins(
                        Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8,
                        &[AsmOperand::R(d), AsmOperand::R(a), b, AsmOperand::I(condition(*op))],
                    );
                }
                Elem::I32 => self.compare_ints(*dst, *op, *x, *y)?,
            },
            Inst::Select { dst, mask, x, y } if self.wide => self.select_wide(*dst, *mask, *x, *y)?,
            Inst::Select { dst, mask, x, y } => {
                let (m, a, b) = (self.reg(*mask)?, self.rm(*x)?, self.reg(*y)?);
                let d = self.define(*dst, &[*mask, *x, *y])?;
                self.ins(
                    Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm,
                    &[AsmOperand::R(d), AsmOperand::R(b), a, AsmOperand::R(m)],
                );
            }
            Inst::Shift { dst, op, x, by } => {
                let a = self.reg(*x)?;
                let d = self.define(*dst, &[*x])?;
                self.ins(shift(*op), &[AsmOperand::R(d), AsmOperand::R(a), AsmOperand::I(*by)]);
            }
            Inst::Reduce { dst, op, x } if self.wide => self.reduce_wide(*dst, *op, *x)?,
            Inst::Reduce { dst, op, x } => self.reduce(*dst, *op, *x)?,
            Inst::Permute { dst, x, y, lanes } => self.permute(*dst, *x, *y, lanes)?,
            Inst::Load { dst, mem, ptr, disp, load } => {
                if !self.live.folded.contains_key(dst) {
                    self.load(*dst, *mem, *ptr, *disp, *load)?;
                }
            }
            Inst::Store { mem, ptr, disp, n, stride, src } => self.store(*mem, *ptr, *disp, *n, *stride, *src)?,
            Inst::MatConfigure {} => self.mat_configure(),
            Inst::MatRelease {} => self.ins(Code::VEX_Tilerelease, &[]),
            Inst::MatZero { mat } => self.ins(Code::VEX_Tilezero_tmm, &[matrix(*mat)]),
            Inst::MatLoad { mat, ptr, disp, stride } => self.mat_load(*mat, *ptr, *disp, *stride)?,
            Inst::MatStore { ptr, disp, stride, src } => self.mat_store(*ptr, *disp, *stride, *src)?,
            Inst::MatDot { sum, of, x, y } => self.mat_dot(*sum, *of, *x, *y),
            Inst::Prefetch { ptr, disp } => {
                let at = self.address(*ptr, *disp)?;
                self.ins(Code::Prefetcht1_m8, &[AsmOperand::M(at)]);
            }
            // Pointers are resolved where they are used.
            Inst::Offset { .. } => {}
            Inst::LoadPtr { dst, table, disp, base, other } => {
                let at = self.address(*table, *disp)?;
                let offset = general(self.general.temporary(self.at)?);
                self.ins(Code::Movsxd_r64_rm32, &[AsmOperand::R(offset), AsmOperand::M(at)]);
                let base = self.pointer(*base)?;
                let other = other.map(|other| self.pointer(other)).transpose()?;
                let d = general(self.general.define(self.live.ptr(*dst), None, self.at)?);
                self.ins(Code::Mov_r64_rm64, &[AsmOperand::R(d), AsmOperand::R(base)]);
                self.ins(Code::Add_r64_rm64, &[AsmOperand::R(d), AsmOperand::R(offset)]);
                if let Some(other) = other {
                    self.ins(Code::Test_rm64_r64, &[AsmOperand::R(offset), AsmOperand::R(offset)]);
                    self.ins(Code::Cmovs_r64_rm64, &[AsmOperand::R(d), AsmOperand::R(other)]);
                }
            }
            Inst::Loop(l) => self.turns(l)?,
        }
        Ok(())
    }

    /// A pointer in a register.
    fn pointer(&mut self, ptr: optc_kernel::tile::Ptr) -> Result<Register, Full> {
        let (root, disp) = self.live.resolve(ptr, 0);
        let reg = general(self.general.fetch(self.live.ptr(root), self.at)?);
        if disp == 0 {
            return Ok(reg);
        }
        let at = self.address(ptr, 0)?;
        let sum = general(self.general.temporary(self.at)?);
        self.ins(Code::Lea_r64_m, &[AsmOperand::R(sum), AsmOperand::M(at)]);
        Ok(sum)
    }

    /// A constant lives in the pool until it is wanted in a register.
    fn constant(&mut self, dst: Reg, bits: u32) {
        let constant = self.asm.constant(lanes_of(self.tile.lanes, |_| bits));
        self.vectors.in_memory(dst.0 as usize, At::Pool(constant));
    }

    /// An operand in a register.
    pub(super) fn reg(&mut self, reg: Reg) -> Result<Register, Full> {
        if self.live.folded.contains_key(&reg) {
            let (from, to) = (self.rm(reg)?, self.temporary()?);
            self.ins(Code::VEX_Vmovups_ymm_ymmm256, &[AsmOperand::R(to), from]);
            return Ok(to);
        }
        Ok(vector(self.vectors.fetch(reg.0 as usize, self.at)?))
    }

    /// An operand where it is, be it memory; a constant with further uses comes into a register if there is one to
    /// spare.
    pub(super) fn rm(&mut self, reg: Reg) -> Result<AsmOperand, Full> {
        if let Some(folded) = self.live.folded.get(&reg).copied() {
            return Ok(AsmOperand::M(self.address(folded.ptr, folded.disp)?));
        }
        let value = reg.0 as usize;
        match self.vectors.place(value) {
            Some(at @ (At::Slot(_) | At::Pool(_)))
                if !self.vectors.is_live(value, self.at) || !self.vectors.has_spare() =>
            {
                Ok(AsmOperand::M(self.vector_slot(at)))
            }
            _ => Ok(AsmOperand::R(vector(self.vectors.fetch(value, self.at)?))),
        }
    }

    pub(super) fn in_register(&self, reg: Reg) -> bool {
        !self.live.folded.contains_key(&reg) && self.vectors.reg_of(reg.0 as usize).is_some()
    }

    /// Whether this is an operand's last use, so that its register may be overwritten.
    pub(super) fn dies(&self, reg: Reg) -> bool {
        self.in_register(reg) && !self.vectors.is_live(reg.0 as usize, self.at)
    }

    /// A vector register of the instruction's own.
    pub(super) fn temporary(&mut self) -> Result<Register, Full> {
        Ok(vector(self.vectors.temporary(self.at)?))
    }

    /// The register of a result: the operands' may be taken, so only the instruction that reads them last may write it.
    pub(super) fn define(&mut self, dst: Reg, operands: &[Reg]) -> Result<Register, Full> {
        let want = self.live.wants[dst.0 as usize].and_then(|phi| self.heads.get(&phi).copied());
        self.define_in(dst, operands, want)
    }

    pub(super) fn define_in(&mut self, dst: Reg, operands: &[Reg], want: Option<u8>) -> Result<Register, Full> {
        operands.iter().for_each(|r| self.vectors.release(r.0 as usize, self.at));
        Ok(vector(self.vectors.define(dst.0 as usize, want, self.at)?))
    }

    /// The register of a result that replaces a dying operand.
    pub(super) fn replace(&mut self, dst: Reg, old: Reg, operands: &[Reg]) -> Result<Register, Full> {
        let reg = self.vectors.reg_of(old.0 as usize);
        self.define_in(dst, operands, reg)
    }

    fn binary(&mut self, dst: Reg, op: Binary, x: Reg, y: Reg) -> Result<(), Full> {
        let (x, y) = if op.has(Law::Commutes) && !self.in_register(x) { (y, x) } else { (x, y) };
        let (a, b) = (self.reg(x)?, self.rm(y)?);
        let d = self.define(dst, &[x, y])?;
        self.ins(binary(op, self.elems[&x]), &[AsmOperand::R(d), AsmOperand::R(a), b]);
        Ok(())
    }

    fn unary(&mut self, dst: Reg, op: Unary, x: Reg) -> Result<(), Full> {
        let elem = self.elems[&x];
        match (op, elem) {
            (Unary::Neg, Elem::F32) => self.with_constant(dst, x, Code::VEX_Vxorps_ymm_ymm_ymmm256, 1 << 31),
            (Unary::Abs, Elem::F32) => self.with_constant(dst, x, Code::VEX_Vandps_ymm_ymm_ymmm256, !(1 << 31)),
            (Unary::Not, _) => self.with_constant(dst, x, Code::VEX_Vpxor_ymm_ymm_ymmm256, u32::MAX),
            (Unary::Neg, Elem::I32) => {
                let (a, zero) = (self.rm(x)?, self.temporary()?);
                let d = self.define(dst, &[x])?;
                self.ins(
                    Code::VEX_Vpxor_ymm_ymm_ymmm256,
                    &[AsmOperand::R(zero), AsmOperand::R(zero), AsmOperand::R(zero)],
                );
                self.ins(Code::VEX_Vpsubd_ymm_ymm_ymmm256, &[AsmOperand::R(d), AsmOperand::R(zero), a]);
                Ok(())
            }
            (Unary::Abs, Elem::I32) => self.simple(dst, x, Code::VEX_Vpabsd_ymm_ymmm256),
            (Unary::Sqrt, _) => self.simple(dst, x, Code::VEX_Vsqrtps_ymm_ymmm256),
            (Unary::ToFloat, _) => self.simple(dst, x, Code::VEX_Vcvtdq2ps_ymm_ymmm256),
            (Unary::Nearest, _) => self.round(dst, x, 8),
            (Unary::Floor, _) => self.round(dst, x, 9),
            (Unary::Ceil, _) => self.round(dst, x, 10),
            (Unary::Trunc, _) => self.round(dst, x, 11),
            (Unary::ToInt, _) if self.wide => self.convert_to_int_wide(dst, x),
            (Unary::ToInt, _) => self.convert_to_int(dst, x),
            (Unary::AsInt | Unary::AsFloat, _) => self.copy(dst, x),
        }
    }

    fn simple(&mut self, dst: Reg, x: Reg, code: Code) -> Result<(), Full> {
        let a = self.rm(x)?;
        let d = self.define(dst, &[x])?;
        self.ins(code, &[AsmOperand::R(d), a]);
        Ok(())
    }

    fn round(&mut self, dst: Reg, x: Reg, how: u8) -> Result<(), Full> {
        let a = self.rm(x)?;
        let d = self.define(dst, &[x])?;
        self.ins(Code::VEX_Vroundps_ymm_ymmm256_imm8, &[AsmOperand::R(d), a, AsmOperand::I(how)]);
        Ok(())
    }

    fn with_constant(&mut self, dst: Reg, x: Reg, code: Code, bits: u32) -> Result<(), Full> {
        let constant = self.lanes(bits);
        let a = self.reg(x)?;
        let d = self.define(dst, &[x])?;
        self.ins(code, &[AsmOperand::R(d), AsmOperand::R(a), constant]);
        Ok(())
    }

    /// A constant of the pool with these bits in every lane.
    pub(super) fn lanes(&mut self, bits: u32) -> AsmOperand {
        AsmOperand::M(MemOperand::Pool(self.asm.constant(lanes_of(self.tile.lanes, |_| bits))))
    }

    /// The same bits: the same register if that may be.
    pub(super) fn copy(&mut self, dst: Reg, x: Reg) -> Result<(), Full> {
        let (a, dies) = (self.reg(x)?, self.dies(x));
        let d = if dies { self.replace(dst, x, &[x])? } else { self.define(dst, &[x])? };
        if d != a {
            self.ins(Code::VEX_Vmovaps_ymm_ymmm256, &[AsmOperand::R(d), AsmOperand::R(a)]);
        }
        Ok(())
    }

    /// The instruction gives the smallest integer for all that it cannot convert: too large must be the largest one,
    /// NaN 0.
    fn convert_to_int(&mut self, dst: Reg, x: Reg) -> Result<(), Full> {
        let (a, limit) = (self.reg(x)?, self.lanes(2_147_483_648f32.to_bits()));
        let (int, fix) = (self.temporary()?, self.temporary()?);
        let cmp = Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8;
        self.ins(Code::VEX_Vcvttps2dq_ymm_ymmm256, &[AsmOperand::R(int), AsmOperand::R(a)]);
        self.ins(cmp, &[AsmOperand::R(fix), AsmOperand::R(a), limit, AsmOperand::I(condition(Cmp::Ge))]);
        self.ins(Code::VEX_Vpxor_ymm_ymm_ymmm256, &[AsmOperand::R(int), AsmOperand::R(int), AsmOperand::R(fix)]);
        self.ins(cmp, &[AsmOperand::R(fix), AsmOperand::R(a), AsmOperand::R(a), AsmOperand::I(7)]);
        let d = self.define(dst, &[x])?;
        self.ins(Code::VEX_Vpand_ymm_ymm_ymmm256, &[AsmOperand::R(d), AsmOperand::R(int), AsmOperand::R(fix)]);
        Ok(())
    }

    /// There are only two comparisons of integers: the others are their complements, or exchange the operands.
    fn compare_ints(&mut self, dst: Reg, op: Cmp, x: Reg, y: Reg) -> Result<(), Full> {
        let (code, swap, complement) = match op {
            Cmp::Eq => (Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, false, false),
            Cmp::Ne => (Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, false, true),
            Cmp::Gt => (Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, false, false),
            Cmp::Le => (Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, false, true),
            Cmp::Lt => (Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, true, false),
            Cmp::Ge => (Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, true, true),
        };
        let (x, y) = if swap { (y, x) } else { (x, y) };
        let (a, b) = (self.reg(x)?, self.rm(y)?);
        let d = self.define(dst, &[x, y])?;
        self.ins(code, &[AsmOperand::R(d), AsmOperand::R(a), b]);
        if complement {
            let ones = self.lanes(u32::MAX);
            self.ins(Code::VEX_Vpxor_ymm_ymm_ymmm256, &[AsmOperand::R(d), AsmOperand::R(d), ones]);
        }
        Ok(())
    }

    /// A tree of halves: the halves, the pairs and the neighbours change places.
    fn reduce(&mut self, dst: Reg, op: Binary, x: Reg) -> Result<(), Full> {
        let code = binary(op, self.elems[&x]);
        let a = self.reg(x)?;
        let (sum, other) = (self.temporary()?, self.temporary()?);
        let permute = Code::VEX_Vpermilps_ymm_ymmm256_imm8;
        self.ins(
            Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8,
            &[AsmOperand::R(other), AsmOperand::R(a), AsmOperand::R(a), AsmOperand::I(1)],
        );
        self.ins(code, &[AsmOperand::R(sum), AsmOperand::R(a), AsmOperand::R(other)]);
        self.ins(permute, &[AsmOperand::R(other), AsmOperand::R(sum), AsmOperand::I(0x4e)]);
        self.ins(code, &[AsmOperand::R(sum), AsmOperand::R(sum), AsmOperand::R(other)]);
        self.ins(permute, &[AsmOperand::R(other), AsmOperand::R(sum), AsmOperand::I(0xb1)]);
        let d = self.define(dst, &[x])?;
        self.ins(code, &[AsmOperand::R(d), AsmOperand::R(sum), AsmOperand::R(other)]);
        Ok(())
    }
}
