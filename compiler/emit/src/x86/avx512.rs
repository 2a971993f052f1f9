//! What AVX-512 does differently: registers of 512 bits by the same rules, masks for parts of vectors and for
//! conditions.
//!
//! The rules name the instructions of AVX2; [`encoding::widened`] gives those that are the same on wider registers. The
//! rest is here. The mask register `k1` is set right before each instruction that needs one.

use super::bank::Full;
use super::memory::Elements;
use super::operand::{AsmOperand, MemOperand};
use super::{Walk, encoding, general, lanes_of, low};
use iced_x86::{Code, Register};
use optc_kernel::tile::{Binary, Cmp, Elem, MemType, Reg};

pub(super) const LANES: usize = 16;

/// The immediate of `vpcmpd`, or of `vcmpps` for floats.
fn condition(op: Cmp, elem: Elem) -> (Code, u8) {
    if elem == Elem::F32 {
        return (Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae, encoding::condition(op));
    }
    let imm = match op {
        Cmp::Eq => 0,
        Cmp::Lt => 1,
        Cmp::Le => 2,
        Cmp::Ne => 4,
        Cmp::Ge => 5,
        Cmp::Gt => 6,
    };
    (Code::EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8, imm)
}

/// The low 32 bits of a general register.
fn word(general: Register) -> Register {
    Register::EAX + (general as u32 - Register::RAX as u32)
}

const K1: AsmOperand = AsmOperand::R(Register::K1);

impl Walk<'_> {
    pub(super) fn masked(&mut self, code: Code, zero: bool, ops: &[AsmOperand]) {
        self.flush();
        self.asm.ins_masked(code, zero, ops);
    }

    /// Sets `k1` to these bits.
    fn mask(&mut self, bits: u32) -> Result<(), Full> {
        let reg = general(self.general.temporary(self.at)?);
        self.ins(Code::Mov_rm64_imm32, &[AsmOperand::R(reg), AsmOperand::L(bits as i32)]);
        self.ins(Code::VEX_Kmovd_kr_r32, &[K1, AsmOperand::R(word(reg))]);
        self.general.let_go();
        Ok(())
    }

    pub(super) fn first(&mut self, n: usize) -> Result<(), Full> {
        self.mask(((1u64 << n) - 1) as u32)
    }

    pub(super) fn compare_wide(&mut self, dst: Reg, op: Cmp, x: Reg, y: Reg) -> Result<(), Full> {
        let (code, imm) = condition(op, self.elems[&x]);
        let (a, b) = (self.reg(x)?, self.rm(y)?);
        let d = self.define(dst, &[x, y])?;
        self.ins(code, &[K1, AsmOperand::R(a), b, AsmOperand::I(imm)]);
        self.ins(Code::EVEX_Vpmovm2d_zmm_kr, &[AsmOperand::R(d), K1]);
        Ok(())
    }

    pub(super) fn select_wide(&mut self, dst: Reg, mask: Reg, x: Reg, y: Reg) -> Result<(), Full> {
        let (m, a, b) = (self.reg(mask)?, self.rm(x)?, self.reg(y)?);
        let d = self.define(dst, &[mask, x, y])?;
        self.ins(Code::EVEX_Vpmovd2m_kr_zmm, &[K1, AsmOperand::R(m)]);
        self.masked(Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32, false, &[AsmOperand::R(d), AsmOperand::R(b), a]);
        Ok(())
    }

    /// What is too large gives the largest integer, NaN gives 0.
    pub(super) fn convert_to_int_wide(&mut self, dst: Reg, x: Reg) -> Result<(), Full> {
        let compare = Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae;
        let (a, limit, largest) = (self.reg(x)?, self.lanes(2_147_483_648f32.to_bits()), self.lanes(i32::MAX as u32));
        let int = self.temporary()?;
        self.ins(Code::EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae, &[AsmOperand::R(int), AsmOperand::R(a)]);
        self.ins(compare, &[K1, AsmOperand::R(a), limit, AsmOperand::I(encoding::condition(Cmp::Ge))]);
        self.masked(Code::EVEX_Vmovups_zmm_k1z_zmmm512, false, &[AsmOperand::R(int), largest]);
        self.ins(compare, &[K1, AsmOperand::R(a), AsmOperand::R(a), AsmOperand::I(7)]);
        let d = self.define(dst, &[x])?;
        self.masked(Code::EVEX_Vmovaps_zmm_k1z_zmmm512, true, &[AsmOperand::R(d), AsmOperand::R(int)]);
        Ok(())
    }

    pub(super) fn reduce_wide(&mut self, dst: Reg, op: Binary, x: Reg) -> Result<(), Full> {
        let code = encoding::binary(op, self.elems[&x]);
        let mut a = self.reg(x)?;
        let (sum, other) = (self.temporary()?, self.temporary()?);
        for imm in [0x4e, 0xb1] {
            let ops = [AsmOperand::R(other), AsmOperand::R(a), AsmOperand::R(a), AsmOperand::I(imm)];
            self.ins(Code::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8, &ops);
            self.ins(code, &[AsmOperand::R(sum), AsmOperand::R(a), AsmOperand::R(other)]);
            a = sum;
        }
        let permute = Code::VEX_Vpermilps_ymm_ymmm256_imm8;
        self.ins(permute, &[AsmOperand::R(other), AsmOperand::R(sum), AsmOperand::I(0x4e)]);
        self.ins(code, &[AsmOperand::R(sum), AsmOperand::R(sum), AsmOperand::R(other)]);
        self.ins(permute, &[AsmOperand::R(other), AsmOperand::R(sum), AsmOperand::I(0xb1)]);
        let d = self.define(dst, &[x])?;
        self.ins(code, &[AsmOperand::R(d), AsmOperand::R(sum), AsmOperand::R(other)]);
        Ok(())
    }

    /// Any lanes of two registers: the index becomes the result.
    pub(super) fn permute_any_wide(&mut self, dst: Reg, x: Reg, y: Reg, lanes: &[usize]) -> Result<(), Full> {
        let (a, b) = (self.reg(x)?, self.rm(y)?);
        let index = self.temporary()?;
        let constant = self.asm.constant(lanes_of(LANES, |i| lanes[i] as u32));
        self.ins(Code::VEX_Vmovups_ymm_ymmm256, &[AsmOperand::R(index), AsmOperand::M(MemOperand::Pool(constant))]);
        self.ins(Code::EVEX_Vpermi2ps_zmm_k1z_zmm_zmmm512b32, &[AsmOperand::R(index), AsmOperand::R(a), b]);
        let d = self.define(dst, &[x, y])?;
        self.ins(Code::VEX_Vmovaps_ymm_ymmm256, &[AsmOperand::R(d), AsmOperand::R(index)]);
        Ok(())
    }

    pub(super) fn load_wide(&mut self, dst: Reg, e: &Elements) -> Result<(), Full> {
        if e.stride != e.mem.bytes() {
            return self.load_apart_wide(dst, e);
        }
        let (code, mask) = match e.mem {
            MemType::I64 => return self.load_longs_wide(dst, e),
            MemType::Bf16 | MemType::F16 | MemType::U16 | MemType::I16 => return self.load_halves_wide(dst, e),
            MemType::F32 | MemType::I32 => (Code::EVEX_Vmovups_zmm_k1z_zmmm512, e.n),
            MemType::U8 => (Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128, e.n),
            MemType::I8 => (Code::EVEX_Vpmovsxbd_zmm_k1z_xmmm128, e.n),
            MemType::U8Pair => (Code::EVEX_Vpmovzxbw_zmm_k1z_ymmm256, 2 * e.n),
            MemType::I8Pair => (Code::EVEX_Vpmovsxbw_zmm_k1z_ymmm256, 2 * e.n),
        };
        if e.n < LANES {
            self.first(mask)?;
        }
        let at = AsmOperand::M(self.address(e.ptr, e.disp)?);
        let d = self.define(dst, &[])?;
        match e.n {
            LANES => self.ins(code, &[AsmOperand::R(d), at]),
            _ => self.masked(code, true, &[AsmOperand::R(d), at]),
        }
        Ok(())
    }

    /// The low words of eight longs, then of the rest.
    fn load_longs_wide(&mut self, dst: Reg, e: &Elements) -> Result<(), Full> {
        let half = LANES / 2;
        let (wide, high) = (self.temporary()?, self.temporary()?);
        let words = |walk: &mut Self, to: Register, start: usize| -> Result<(), Full> {
            walk.first(half.min(e.n - start))?;
            let at = AsmOperand::M(walk.address(e.ptr, e.disp + 8 * start as i64)?);
            walk.masked(Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512, true, &[AsmOperand::R(wide), at]);
            walk.ins(Code::EVEX_Vpmovqd_ymmm256_k1z_zmm, &[AsmOperand::Half(to), AsmOperand::R(wide)]);
            walk.general.let_go();
            Ok(())
        };
        if e.n > half {
            words(self, high, half)?;
        }
        let d = self.define(dst, &[])?;
        words(self, d, 0)?;
        if e.n > half {
            let ops = [AsmOperand::R(d), AsmOperand::R(d), AsmOperand::Half(high), AsmOperand::I(1)];
            self.ins(Code::EVEX_Vinserti64x4_zmm_k1z_zmm_ymmm256_imm8, &ops);
        }
        Ok(())
    }

    /// Lane by lane, each broadcast to where the mask has it.
    fn load_apart_wide(&mut self, dst: Reg, e: &Elements) -> Result<(), Full> {
        let d = self.define(dst, &[])?;
        self.ins(Code::VEX_Vpxor_ymm_ymm_ymmm256, &[AsmOperand::R(d), AsmOperand::R(d), AsmOperand::R(d)]);
        for i in 0..e.n {
            self.mask(1 << i)?;
            let at = AsmOperand::M(self.address(e.ptr, e.disp + e.stride * i as i64)?);
            let one = match e.mem {
                MemType::F32 | MemType::I32 | MemType::I64 => {
                    self.masked(Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32, false, &[AsmOperand::R(d), at]);
                    self.general.let_go();
                    continue;
                }
                // The verifier refuses pairs that are apart.
                MemType::Bf16 | MemType::F16 | MemType::U16 => Code::Movzx_r32_rm16,
                MemType::I16 => Code::Movsx_r32_rm16,
                MemType::U8 | MemType::U8Pair => Code::Movzx_r32_rm8,
                MemType::I8 | MemType::I8Pair => Code::Movsx_r32_rm8,
            };
            let one_word = word(general(self.general.temporary(self.at)?));
            self.ins(one, &[AsmOperand::R(one_word), at]);
            self.masked(Code::EVEX_Vpbroadcastd_zmm_k1z_r32, false, &[AsmOperand::R(d), AsmOperand::R(one_word)]);
            self.general.let_go();
        }
        self.words_to_lanes(e.mem, d);
        Ok(())
    }

    pub(super) fn store_wide(&mut self, x: Register, e: &Elements) -> Result<(), Full> {
        match (e.mem, e.stride == e.mem.bytes()) {
            (MemType::Bf16 | MemType::F16 | MemType::U16 | MemType::I16, true) => return self.store_halves_wide(x, e),
            (MemType::Bf16 | MemType::F16 | MemType::U16 | MemType::I16, false) => {
                return self.store_halves_apart_wide(x, e);
            }
            (_, false) => return self.store_apart_wide(x, e),
            (_, true) => {}
        }
        let code = match e.mem {
            MemType::I64 => return self.store_longs_wide(x, e),
            MemType::F32 | MemType::I32 => Code::EVEX_Vmovups_zmmm512_k1z_zmm,
            // The verifier refuses stores of pairs; 16 bits have rules of their own.
            MemType::Bf16 | MemType::F16 | MemType::U16 | MemType::I16 => Code::EVEX_Vpmovdw_ymmm256_k1z_zmm,
            MemType::U8 | MemType::I8 | MemType::U8Pair | MemType::I8Pair => Code::EVEX_Vpmovdb_xmmm128_k1z_zmm,
        };
        if e.n < LANES {
            self.first(e.n)?;
        }
        let at = AsmOperand::M(self.address(e.ptr, e.disp)?);
        match e.n {
            LANES => self.ins(code, &[at, AsmOperand::R(x)]),
            _ => self.masked(code, false, &[at, AsmOperand::R(x)]),
        }
        Ok(())
    }

    fn store_longs_wide(&mut self, x: Register, e: &Elements) -> Result<(), Full> {
        let (half, wide) = (LANES / 2, self.temporary()?);
        for start in (0..e.n).step_by(half) {
            let from = if start == 0 { x } else { wide };
            if start > 0 {
                self.ins(
                    Code::EVEX_Vextracti64x4_ymmm256_k1z_zmm_imm8,
                    &[AsmOperand::Half(wide), AsmOperand::R(x), AsmOperand::I(1)],
                );
            }
            self.ins(Code::EVEX_Vpmovsxdq_zmm_k1z_ymmm256, &[AsmOperand::R(wide), AsmOperand::Half(from)]);
            self.first(half.min(e.n - start))?;
            let at = AsmOperand::M(self.address(e.ptr, e.disp + 8 * start as i64)?);
            self.masked(Code::EVEX_Vmovdqu64_zmmm512_k1z_zmm, false, &[at, AsmOperand::R(wide)]);
            self.general.let_go();
        }
        Ok(())
    }

    /// Lane by lane, each rotated to the front.
    fn store_apart_wide(&mut self, x: Register, e: &Elements) -> Result<(), Full> {
        let lane = self.temporary()?;
        let one = AsmOperand::R(low(lane));
        for i in 0..e.n {
            let rotate = [AsmOperand::R(lane), AsmOperand::R(x), AsmOperand::R(x), AsmOperand::I(i as u8)];
            self.ins(Code::EVEX_Valignd_zmm_k1z_zmm_zmmm512b32_imm8, &rotate);
            let at = AsmOperand::M(self.address(e.ptr, e.disp + e.stride * i as i64)?);
            match e.mem {
                MemType::F32 | MemType::I32 => self.ins(Code::EVEX_Vmovss_m32_k1_xmm, &[at, one]),
                MemType::I64 => {
                    self.ins(Code::EVEX_Vpmovsxdq_xmm_k1z_xmmm64, &[one, one]);
                    self.ins(Code::EVEX_Vmovq_xmmm64_xmm, &[at, one]);
                }
                MemType::Bf16 | MemType::F16 | MemType::U16 | MemType::I16 => {
                    self.ins(Code::EVEX_Vpextrw_r32m16_xmm_imm8, &[at, one, AsmOperand::I(0)]);
                }
                MemType::U8 | MemType::I8 | MemType::U8Pair | MemType::I8Pair => {
                    self.ins(Code::EVEX_Vpextrb_r32m8_xmm_imm8, &[at, one, AsmOperand::I(0)]);
                }
            }
            self.general.let_go();
        }
        Ok(())
    }
}
