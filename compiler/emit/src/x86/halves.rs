//! Words of 16 bits in memory: bfloat16, halves, and integers.
//!
//! Loads put a bfloat16 into the upper half of a lane, stores round to the nearest one. Where there is an instruction
//! that rounds, it is used for stores of neighbours; it takes numbers that are not normal for zeros. Elsewhere integers
//! do it: half of the last place is added, and less one bit where the last place is even. Halves have instructions for
//! both ways (F16C), from and to words that lie side by side.

use super::bank::Full;
use super::memory::Elements;
use super::operand::AsmOperand;
use super::{LANES, Walk, low};
use iced_x86::{Code, Register};
use optc_kernel::tile::{MemType, Reg};

/// Bits of a word.
const BITS: u8 = 16;
/// Bytes of one.
const BYTES: i64 = 2;
/// `vcvtps2ph`: to nearest, ties to even, whatever the control register says.
const NEAREST: u8 = 0;
/// `vcmpps`: either is NaN.
const UNORDERED: u8 = 3;
/// Brings quarters 0 and 2 of a register to its front.
const FRONT: u8 = 8;

impl Walk<'_> {
    pub(super) fn load_halves(&mut self, dst: Reg, e: &Elements) -> Result<(), Full> {
        let widen = match e.mem {
            MemType::F16 => Code::VEX_Vcvtph2ps_ymm_xmmm128,
            MemType::I16 => Code::VEX_Vpmovsxwd_ymm_xmmm128,
            _ => Code::VEX_Vpmovzxwd_ymm_xmmm128,
        };
        let d = self.define(dst, &[])?;
        if e.stride == BYTES && e.n == LANES {
            let at = AsmOperand::M(self.address(e.ptr, e.disp)?);
            self.ins(widen, &[AsmOperand::R(d), at]);
        } else {
            self.words(low(d), e)?;
            self.ins(widen, &[AsmOperand::R(d), AsmOperand::R(low(d))]);
        }
        if e.mem == MemType::Bf16 {
            self.upper(d);
        }
        Ok(())
    }

    /// Words one by one after those that can be loaded together; zeros after them.
    fn words(&mut self, x: Register, e: &Elements) -> Result<(), Full> {
        let x = AsmOperand::R(x);
        let (load, first) = match e.n {
            4.. if e.stride == BYTES => (Some(Code::VEX_Vmovq_xmm_xmmm64), 4),
            2.. if e.stride == BYTES => (Some(Code::VEX_Vmovd_xmm_rm32), 2),
            _ => (None, 0),
        };
        match load {
            Some(load) => {
                let at = AsmOperand::M(self.address(e.ptr, e.disp)?);
                self.ins(load, &[x, at]);
                self.general.let_go();
            }
            None => self.ins(Code::VEX_Vpxor_xmm_xmm_xmmm128, &[x, x, x]),
        }
        for i in first..e.n {
            let at = AsmOperand::M(self.address(e.ptr, e.disp + e.stride * i as i64)?);
            self.ins(Code::VEX_Vpinsrw_xmm_xmm_r32m16_imm8, &[x, x, at, AsmOperand::I(i as u8)]);
            self.general.let_go();
        }
        Ok(())
    }

    /// Words in the lower halves of lanes become floats.
    pub(super) fn upper(&mut self, d: Register) {
        self.ins(Code::VEX_Vpslld_ymm_ymm_imm8, &[AsmOperand::R(d), AsmOperand::R(d), AsmOperand::I(BITS)]);
    }

    /// Words in the lower halves of lanes become what they are: floats, or the integers that they are already.
    pub(super) fn words_to_lanes(&mut self, mem: MemType, d: Register) {
        match mem {
            MemType::Bf16 => self.upper(d),
            MemType::F16 => {
                self.ins(Code::EVEX_Vpmovdw_ymmm256_k1z_zmm, &[AsmOperand::Half(d), AsmOperand::R(d)]);
                self.ins(Code::EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae, &[AsmOperand::R(d), AsmOperand::Half(d)]);
            }
            _ => {}
        }
    }

    pub(super) fn broadcast_half(&mut self, mem: MemType, d: Register, at: AsmOperand) {
        self.ins(Code::VEX_Vpbroadcastw_ymm_xmmm16, &[AsmOperand::R(d), at]);
        let back = |code: Code| (code, [AsmOperand::R(d), AsmOperand::R(d), AsmOperand::I(BITS)]);
        let shift = match mem {
            MemType::F16 if self.wide => {
                return self.ins(Code::EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae, &[AsmOperand::R(d), AsmOperand::Half(d)]);
            }
            MemType::F16 => {
                return self.ins(Code::VEX_Vcvtph2ps_ymm_xmmm128, &[AsmOperand::R(d), AsmOperand::R(low(d))]);
            }
            MemType::U16 => back(Code::VEX_Vpsrld_ymm_ymm_imm8),
            MemType::I16 => back(Code::VEX_Vpsrad_ymm_ymm_imm8),
            _ => return self.upper(d),
        };
        self.upper(d);
        self.ins(shift.0, &shift.1);
    }

    pub(super) fn load_halves_wide(&mut self, dst: Reg, e: &Elements) -> Result<(), Full> {
        let widen = match e.mem {
            MemType::F16 => Code::EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae,
            MemType::I16 => Code::EVEX_Vpmovsxwd_zmm_k1z_ymmm256,
            _ => Code::EVEX_Vpmovzxwd_zmm_k1z_ymmm256,
        };
        if e.n < 2 * LANES {
            self.first(e.n)?;
        }
        let at = AsmOperand::M(self.address(e.ptr, e.disp)?);
        let d = self.define(dst, &[])?;
        match e.n < 2 * LANES {
            true => self.masked(widen, true, &[AsmOperand::R(d), at]),
            false => self.ins(widen, &[AsmOperand::R(d), at]),
        }
        if e.mem == MemType::Bf16 {
            self.upper(d);
        }
        Ok(())
    }

    /// The nearest bfloat16 of each lane, in the lower half of a lane of a register of its own.
    fn rounded(&mut self, x: Register) -> Result<Register, Full> {
        let (one, half, quiet) = (self.lanes(1), self.lanes(0x7fff), self.lanes(0x0040_0000));
        let t = self.temporary()?;
        let (x, to) = (AsmOperand::R(x), AsmOperand::R(t));
        self.ins(Code::VEX_Vpsrld_ymm_ymm_imm8, &[to, x, AsmOperand::I(BITS)]);
        self.ins(Code::VEX_Vpand_ymm_ymm_ymmm256, &[to, to, one]);
        self.ins(Code::VEX_Vpaddd_ymm_ymm_ymmm256, &[to, to, half]);
        self.ins(Code::VEX_Vpaddd_ymm_ymm_ymmm256, &[to, to, x]);
        if self.wide {
            let k1 = AsmOperand::R(Register::K1);
            self.ins(Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae, &[k1, x, x, AsmOperand::I(UNORDERED)]);
            self.masked(Code::EVEX_Vpord_zmm_k1z_zmm_zmmm512b32, false, &[to, x, quiet]);
        } else {
            let (nan, is_nan) = (AsmOperand::R(self.temporary()?), AsmOperand::R(self.temporary()?));
            self.ins(Code::VEX_Vpor_ymm_ymm_ymmm256, &[nan, x, quiet]);
            self.ins(Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8, &[is_nan, x, x, AsmOperand::I(UNORDERED)]);
            self.ins(Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, &[to, to, nan, is_nan]);
        }
        self.ins(Code::VEX_Vpsrld_ymm_ymm_imm8, &[to, to, AsmOperand::I(BITS)]);
        Ok(t)
    }

    /// The words to store, side by side in the lower half of a register of its own.
    fn packed(&mut self, x: Register, e: &Elements) -> Result<Register, Full> {
        let t = match e.mem {
            MemType::F16 => {
                let t = self.temporary()?;
                let convert = [AsmOperand::R(low(t)), AsmOperand::R(x), AsmOperand::I(NEAREST)];
                self.ins(Code::VEX_Vcvtps2ph_xmmm128_ymm_imm8, &convert);
                return Ok(t);
            }
            MemType::Bf16 => self.rounded(x)?,
            _ => {
                let (t, word) = (self.temporary()?, self.lanes(0xffff));
                self.ins(Code::VEX_Vpand_ymm_ymm_ymmm256, &[AsmOperand::R(t), AsmOperand::R(x), word]);
                t
            }
        };
        self.ins(Code::VEX_Vpackusdw_ymm_ymm_ymmm256, &[AsmOperand::R(t), AsmOperand::R(t), AsmOperand::R(t)]);
        if e.n > LANES / 2 {
            self.ins(Code::VEX_Vpermq_ymm_ymmm256_imm8, &[AsmOperand::R(t), AsmOperand::R(t), AsmOperand::I(FRONT)]);
        }
        Ok(t)
    }

    pub(super) fn store_halves(&mut self, x: Register, e: &Elements) -> Result<(), Full> {
        let t = self.packed(x, e)?;
        let words = AsmOperand::R(low(t));
        let mut i = 0;
        while i < e.n {
            let at = AsmOperand::M(self.address(e.ptr, e.disp + e.stride * i as i64)?);
            i += match (i, e.n - i) {
                (0, LANES) if e.stride == BYTES => {
                    self.ins(Code::VEX_Vmovups_xmmm128_xmm, &[at, words]);
                    LANES
                }
                (0, 4..) if e.stride == BYTES => {
                    self.ins(Code::VEX_Vmovlps_m64_xmm, &[at, words]);
                    4
                }
                (0, 2..) if e.stride == BYTES => {
                    self.ins(Code::VEX_Vmovss_m32_xmm, &[at, words]);
                    2
                }
                (lane, _) => {
                    self.ins(Code::VEX_Vpextrw_r32m16_xmm_imm8, &[at, words, AsmOperand::I(lane as u8)]);
                    1
                }
            };
            self.general.let_go();
        }
        Ok(())
    }

    pub(super) fn store_halves_wide(&mut self, x: Register, e: &Elements) -> Result<(), Full> {
        let (code, t) = if e.mem == MemType::F16 {
            let t = self.temporary()?;
            let convert = [AsmOperand::Half(t), AsmOperand::R(x), AsmOperand::I(NEAREST)];
            self.ins(Code::EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae, &convert);
            (Code::EVEX_Vmovdqu16_ymmm256_k1z_ymm, AsmOperand::Half(t))
        } else if e.mem != MemType::Bf16 {
            (Code::EVEX_Vpmovdw_ymmm256_k1z_zmm, AsmOperand::R(x))
        } else if self.tile.features.sums_halves() {
            let t = self.temporary()?;
            self.ins(Code::EVEX_Vcvtneps2bf16_ymm_k1z_zmmm512b32, &[AsmOperand::Half(t), AsmOperand::R(x)]);
            (Code::EVEX_Vmovdqu16_ymmm256_k1z_ymm, AsmOperand::Half(t))
        } else {
            (Code::EVEX_Vpmovdw_ymmm256_k1z_zmm, AsmOperand::R(self.rounded(x)?))
        };
        let all = 2 * LANES;
        if e.n < all {
            self.first(e.n)?;
        }
        let at = AsmOperand::M(self.address(e.ptr, e.disp)?);
        match e.n < all {
            true => self.masked(code, false, &[at, t]),
            false => self.ins(code, &[at, t]),
        }
        Ok(())
    }

    /// Lane by lane, each rotated to the front.
    pub(super) fn store_halves_apart_wide(&mut self, x: Register, e: &Elements) -> Result<(), Full> {
        let t = match e.mem {
            MemType::Bf16 => self.rounded(x)?,
            MemType::F16 => {
                let t = self.temporary()?;
                let convert = [AsmOperand::Half(t), AsmOperand::R(x), AsmOperand::I(NEAREST)];
                self.ins(Code::EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae, &convert);
                self.ins(Code::EVEX_Vpmovzxwd_zmm_k1z_ymmm256, &[AsmOperand::R(t), AsmOperand::Half(t)]);
                t
            }
            _ => x,
        };
        let lane = self.temporary()?;
        for i in 0..e.n {
            let rotate = [AsmOperand::R(lane), AsmOperand::R(t), AsmOperand::R(t), AsmOperand::I(i as u8)];
            self.ins(Code::EVEX_Valignd_zmm_k1z_zmm_zmmm512b32_imm8, &rotate);
            let at = AsmOperand::M(self.address(e.ptr, e.disp + e.stride * i as i64)?);
            self.ins(Code::EVEX_Vpextrw_r32m16_xmm_imm8, &[at, AsmOperand::R(low(lane)), AsmOperand::I(0)]);
            self.general.let_go();
        }
        Ok(())
    }
}
