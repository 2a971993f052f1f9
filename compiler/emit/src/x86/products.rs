//! Products that are added to a sum: the sum stays in its register where that may be.

use super::Walk;
use super::bank::Full;
use super::operand::AsmOperand;
use iced_x86::Code;
use optc_kernel::tile::Reg;

impl Walk<'_> {
    /// `d = x * y + z`: in the register of `z` if it dies (accumulators do), else in that of a factor that dies.
    pub(super) fn fma(&mut self, dst: Reg, x: Reg, y: Reg, z: Reg) -> Result<(), Full> {
        // A factor that is in memory comes last.
        let (x, y) = if self.in_register(x) || !self.in_register(y) { (x, y) } else { (y, x) };
        let all = [x, y, z];
        let factor = if self.dies(z) {
            None
        } else if self.dies(x) && x != z {
            Some((x, y))
        } else if self.dies(y) && y != z {
            Some((y, x))
        } else {
            None
        };
        if let Some((old, other)) = factor {
            // One of the two others may be memory.
            let (o, c) = (self.reg(old)?, (other, z));
            if self.in_register(c.0) || c.0 == old {
                let (m, z) = (self.reg(c.0)?, self.rm(z)?);
                let d = self.replace(dst, old, &all)?;
                debug_assert_eq!(d, o);
                self.ins(Code::VEX_Vfmadd213ps_ymm_ymm_ymmm256, &[AsmOperand::R(d), AsmOperand::R(m), z]);
            } else {
                let (z, m) = (self.reg(z)?, self.rm(c.0)?);
                let d = self.replace(dst, old, &all)?;
                debug_assert_eq!(d, o);
                self.ins(Code::VEX_Vfmadd132ps_ymm_ymm_ymmm256, &[AsmOperand::R(d), AsmOperand::R(z), m]);
            }
            return Ok(());
        }
        self.accumulate(Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256, dst, [x, y, z])
    }

    /// An instruction that adds products of `x` and `y` to its destination, which starts as `z`: the same register if
    /// `z` dies.
    pub(super) fn accumulate(&mut self, code: Code, dst: Reg, [x, y, z]: [Reg; 3]) -> Result<(), Full> {
        let a = self.reg(x)?;
        if self.dies(z) {
            let (c, b) = (self.reg(z)?, self.rm(y)?);
            let d = self.replace(dst, z, &[x, y, z])?;
            debug_assert_eq!(d, c);
            self.ins(code, &[AsmOperand::R(d), AsmOperand::R(a), b]);
            return Ok(());
        }
        // Nothing may be overwritten: the sum is a copy, in a register that is not a factor's.
        let (c, b) = (self.rm(z)?, self.rm(y)?);
        let want = self.live.wants[dst.0 as usize].and_then(|phi| self.heads.get(&phi).copied());
        let d = self.define_in(dst, &[], want)?;
        self.ins(Code::VEX_Vmovups_ymm_ymmm256, &[AsmOperand::R(d), c]);
        self.ins(code, &[AsmOperand::R(d), AsmOperand::R(a), b]);
        Ok(())
    }

    /// The products of pairs, added to the sum.
    pub(super) fn dot2(&mut self, dst: Reg, x: Reg, y: Reg, z: Reg) -> Result<(), Full> {
        let (a, b, products) = (self.reg(x)?, self.rm(y)?, self.temporary()?);
        self.ins(Code::VEX_Vpmaddwd_ymm_ymm_ymmm256, &[AsmOperand::R(products), AsmOperand::R(a), b]);
        let c = self.rm(z)?;
        let d = self.define(dst, &[x, y, z])?;
        self.ins(Code::VEX_Vpaddd_ymm_ymm_ymmm256, &[AsmOperand::R(d), AsmOperand::R(products), c]);
        Ok(())
    }

    /// One instruction where there is one. Else the even bytes as pairs of 16 bits, then the odd ones: exact, as the
    /// saturating product of bytes is not.
    pub(super) fn dot4(&mut self, dst: Reg, x: Reg, y: Reg, z: Reg) -> Result<(), Full> {
        if self.tile.features.sums_bytes() {
            return self.accumulate(Code::VEX_Vpdpbusd_ymm_ymm_ymmm256, dst, [x, y, z]);
        }
        let (a, b, bytes) = (self.reg(x)?, self.reg(y)?, self.lanes(0x00ff_00ff));
        let (even, odd, signed) = (self.temporary()?, self.temporary()?, self.temporary()?);
        self.ins(Code::VEX_Vpand_ymm_ymm_ymmm256, &[AsmOperand::R(even), AsmOperand::R(a), bytes]);
        self.ins(Code::VEX_Vpsllw_ymm_ymm_imm8, &[AsmOperand::R(signed), AsmOperand::R(b), AsmOperand::I(8)]);
        self.ins(Code::VEX_Vpsraw_ymm_ymm_imm8, &[AsmOperand::R(signed), AsmOperand::R(signed), AsmOperand::I(8)]);
        self.ins(
            Code::VEX_Vpmaddwd_ymm_ymm_ymmm256,
            &[AsmOperand::R(even), AsmOperand::R(even), AsmOperand::R(signed)],
        );
        self.ins(Code::VEX_Vpsrlw_ymm_ymm_imm8, &[AsmOperand::R(odd), AsmOperand::R(a), AsmOperand::I(8)]);
        self.ins(Code::VEX_Vpsraw_ymm_ymm_imm8, &[AsmOperand::R(signed), AsmOperand::R(b), AsmOperand::I(8)]);
        self.ins(Code::VEX_Vpmaddwd_ymm_ymm_ymmm256, &[AsmOperand::R(odd), AsmOperand::R(odd), AsmOperand::R(signed)]);
        self.ins(Code::VEX_Vpaddd_ymm_ymm_ymmm256, &[AsmOperand::R(even), AsmOperand::R(even), AsmOperand::R(odd)]);
        let c = self.rm(z)?;
        let d = self.define(dst, &[x, y, z])?;
        self.ins(Code::VEX_Vpaddd_ymm_ymm_ymmm256, &[AsmOperand::R(d), AsmOperand::R(even), c]);
        Ok(())
    }

    /// One instruction where there is one. Else the halves as `f32`, and two FMAs.
    pub(super) fn dot_bf16(&mut self, dst: Reg, x: Reg, y: Reg, z: Reg) -> Result<(), Full> {
        if self.tile.features.sums_halves() {
            return self.accumulate(Code::EVEX_Vdpbf16ps_zmm_k1z_zmm_zmmm512b32, dst, [x, y, z]);
        }
        let (a, b, high) = (self.reg(x)?, self.reg(y)?, self.lanes(0xffff_0000));
        let (c, sum, f, g) = (self.rm(z)?, self.temporary()?, self.temporary()?, self.temporary()?);
        let fma = Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256;
        self.ins(Code::VEX_Vmovups_ymm_ymmm256, &[AsmOperand::R(sum), c]);
        for (half, from) in [(f, a), (g, b)] {
            self.ins(Code::VEX_Vpand_ymm_ymm_ymmm256, &[AsmOperand::R(half), AsmOperand::R(from), high]);
        }
        self.ins(fma, &[AsmOperand::R(sum), AsmOperand::R(f), AsmOperand::R(g)]);
        for (half, from) in [(f, a), (g, b)] {
            self.ins(Code::VEX_Vpslld_ymm_ymm_imm8, &[AsmOperand::R(half), AsmOperand::R(from), AsmOperand::I(16)]);
        }
        self.ins(fma, &[AsmOperand::R(sum), AsmOperand::R(f), AsmOperand::R(g)]);
        let d = self.define(dst, &[x, y, z])?;
        self.ins(Code::VEX_Vmovaps_ymm_ymmm256, &[AsmOperand::R(d), AsmOperand::R(sum)]);
        Ok(())
    }
}
