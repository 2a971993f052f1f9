//! Loads and stores: whole vectors at once, parts of vectors in pieces that stay within the elements, strided ones lane
//! by lane.

use super::bank::Full;
use super::operand::{AsmOperand, MemOperand};
use super::{LANES, Walk, lanes_of, low};
use iced_x86::{Code, Register};
use optc_kernel::tile::{Elem, Load, MemType, Ptr, Reg};

/// Lanes of half a vector.
const HALF: usize = LANES / 2;
/// Picks lanes 0 and 2 of each of two registers' blocks, and puts the pairs of a register in the order 0, 2, 1, 3.
const EVEN: u8 = 0x88;
const PAIRS: u8 = 0xd8;

/// Elements in memory.
#[derive(Clone, Copy)]
pub(super) struct Elements {
    pub mem: MemType,
    pub ptr: Ptr,
    pub disp: i64,
    pub n: usize,
    pub stride: i64,
}

impl Walk<'_> {
    pub(super) fn load(&mut self, dst: Reg, mem: MemType, ptr: Ptr, disp: i64, load: Load) -> Result<(), Full> {
        let (n, stride) = match load {
            Load::Broadcast => return self.broadcast(dst, mem, ptr, disp),
            Load::Contiguous(n) => (n as usize, mem.bytes()),
            Load::Strided(n, stride) => (n as usize, stride),
        };
        let e = Elements { mem, ptr, disp, n, stride };
        if self.wide {
            return self.load_wide(dst, &e);
        }
        match mem {
            MemType::F32 | MemType::I32 if stride == mem.bytes() => self.load_words(dst, &e),
            MemType::I64 | MemType::F32 | MemType::I32 if stride == 8 && n == LANES => self.load_every_other(dst, &e),
            MemType::F32 | MemType::I32 | MemType::I64 => self.load_apart(dst, &e),
            MemType::Bf16 | MemType::F16 | MemType::U16 | MemType::I16 => self.load_halves(dst, &e),
            MemType::U8 | MemType::I8 => self.load_bytes(dst, &e),
            MemType::U8Pair | MemType::I8Pair => self.load_pairs(dst, &e),
        }
    }

    fn broadcast(&mut self, dst: Reg, mem: MemType, ptr: Ptr, disp: i64) -> Result<(), Full> {
        let at = AsmOperand::M(self.address(ptr, disp)?);
        let d = self.define(dst, &[])?;
        match mem {
            MemType::F32 | MemType::I32 | MemType::I64 => {
                self.ins(Code::VEX_Vbroadcastss_ymm_m32, &[AsmOperand::R(d), at])
            }
            MemType::Bf16 | MemType::F16 | MemType::U16 | MemType::I16 => self.broadcast_half(mem, d, at),
            // The verifier refuses broadcasts of pairs.
            MemType::U8 | MemType::I8 | MemType::U8Pair | MemType::I8Pair => {
                self.ins(Code::VEX_Vpbroadcastb_ymm_xmmm8, &[AsmOperand::R(d), at]);
                self.ins(widen(mem), &[AsmOperand::R(d), AsmOperand::R(low(d))]);
            }
        }
        Ok(())
    }

    /// Up to a vector of words that lie side by side.
    fn load_words(&mut self, dst: Reg, e: &Elements) -> Result<(), Full> {
        let at = AsmOperand::M(self.address(e.ptr, e.disp)?);
        if matches!(e.n, 5..=7) {
            let mask = self.temporary()?;
            let constant = self.asm.constant(lanes_of(LANES, |i| if i < e.n { u32::MAX } else { 0 }));
            let d = self.define(dst, &[])?;
            self.ins(Code::VEX_Vmovups_ymm_ymmm256, &[AsmOperand::R(mask), AsmOperand::M(MemOperand::Pool(constant))]);
            self.ins(Code::VEX_Vmaskmovps_ymm_ymm_m256, &[AsmOperand::R(d), AsmOperand::R(mask), at]);
            return Ok(());
        }
        let last = (e.n == 3).then(|| self.address(e.ptr, e.disp + 8)).transpose()?;
        let d = self.define(dst, &[])?;
        let x = AsmOperand::R(low(d));
        match e.n {
            1 => self.ins(Code::VEX_Vmovss_xmm_m32, &[x, at]),
            2 | 3 => self.ins(Code::VEX_Vmovsd_xmm_m64, &[x, at]),
            4 => self.ins(Code::VEX_Vmovups_xmm_xmmm128, &[x, at]),
            _ => self.ins(Code::VEX_Vmovups_ymm_ymmm256, &[AsmOperand::R(d), at]),
        }
        if let Some(last) = last {
            self.ins(Code::VEX_Vinsertps_xmm_xmm_xmmm32_imm8, &[x, x, AsmOperand::M(last), AsmOperand::I(2 << 4)]);
        }
        Ok(())
    }

    /// A vector of words eight bytes apart: two loads, the second so far back that it ends with the last word.
    fn load_every_other(&mut self, dst: Reg, e: &Elements) -> Result<(), Full> {
        // Whole elements of eight bytes may be read to their end.
        let whole = e.mem == MemType::I64;
        let (back, shuffle) = if whole { (0, EVEN) } else { (4, PAIRS) };
        let first = AsmOperand::M(self.address(e.ptr, e.disp)?);
        let second = AsmOperand::M(self.address(e.ptr, e.disp + 32 - back)?);
        let d = self.define(dst, &[])?;
        self.ins(Code::VEX_Vmovups_ymm_ymmm256, &[AsmOperand::R(d), first]);
        self.ins(
            Code::VEX_Vshufps_ymm_ymm_ymmm256_imm8,
            &[AsmOperand::R(d), AsmOperand::R(d), second, AsmOperand::I(shuffle)],
        );
        self.ins(Code::VEX_Vpermpd_ymm_ymmm256_imm8, &[AsmOperand::R(d), AsmOperand::R(d), AsmOperand::I(PAIRS)]);
        Ok(())
    }

    /// Words one by one, half a vector after the other.
    fn load_apart(&mut self, dst: Reg, e: &Elements) -> Result<(), Full> {
        let high = (e.n > HALF).then(|| self.temporary()).transpose()?;
        if let Some(high) = high {
            let disp = e.disp + HALF as i64 * e.stride;
            self.load_half(low(high), &Elements { disp, n: e.n - HALF, ..*e })?;
        }
        let d = self.define(dst, &[])?;
        self.load_half(low(d), &Elements { n: e.n.min(HALF), ..*e })?;
        if let Some(high) = high {
            let ops = [AsmOperand::R(d), AsmOperand::R(d), AsmOperand::R(low(high)), AsmOperand::I(1)];
            self.ins(Code::VEX_Vinsertf128_ymm_ymm_xmmm128_imm8, &ops);
        }
        Ok(())
    }

    fn load_half(&mut self, x: Register, e: &Elements) -> Result<(), Full> {
        for i in 0..e.n {
            let at = AsmOperand::M(self.address(e.ptr, e.disp + e.stride * i as i64)?);
            match i {
                0 => self.ins(Code::VEX_Vmovss_xmm_m32, &[AsmOperand::R(x), at]),
                _ => {
                    let ops = [AsmOperand::R(x), AsmOperand::R(x), at, AsmOperand::I((i << 4) as u8)];
                    self.ins(Code::VEX_Vinsertps_xmm_xmm_xmmm32_imm8, &ops);
                }
            }
            self.general.let_go();
        }
        Ok(())
    }

    fn load_bytes(&mut self, dst: Reg, e: &Elements) -> Result<(), Full> {
        if e.stride == 1 && e.n == LANES {
            let at = AsmOperand::M(self.address(e.ptr, e.disp)?);
            let d = self.define(dst, &[])?;
            self.ins(widen(e.mem), &[AsmOperand::R(d), at]);
            return Ok(());
        }
        let d = self.define(dst, &[])?;
        let x = AsmOperand::R(low(d));
        let mut i = 0;
        if e.stride == 1 && e.n >= 4 {
            let at = AsmOperand::M(self.address(e.ptr, e.disp)?);
            self.ins(Code::VEX_Vmovd_xmm_rm32, &[x, at]);
            i = 4;
        } else {
            self.ins(Code::VEX_Vpxor_xmm_xmm_xmmm128, &[x, x, x]);
        }
        for i in i..e.n {
            let at = AsmOperand::M(self.address(e.ptr, e.disp + e.stride * i as i64)?);
            self.ins(Code::VEX_Vpinsrb_xmm_xmm_r32m8_imm8, &[x, x, at, AsmOperand::I(i as u8)]);
            self.general.let_go();
        }
        self.ins(widen(e.mem), &[AsmOperand::R(d), x]);
        Ok(())
    }

    /// Up to a vector of pairs of bytes, each byte widened to a half of a lane.
    fn load_pairs(&mut self, dst: Reg, e: &Elements) -> Result<(), Full> {
        let at = AsmOperand::M(self.address(e.ptr, e.disp)?);
        let d = self.define(dst, &[])?;
        let x = AsmOperand::R(low(d));
        let widen = match e.mem {
            MemType::I8Pair => Code::VEX_Vpmovsxbw_ymm_xmmm128,
            _ => Code::VEX_Vpmovzxbw_ymm_xmmm128,
        };
        if e.n == LANES {
            self.ins(widen, &[AsmOperand::R(d), at]);
            return Ok(());
        }
        let mut i = 0;
        if e.n >= HALF {
            self.ins(Code::VEX_Vmovq_xmm_xmmm64, &[x, at]);
            i = HALF;
        } else {
            self.ins(Code::VEX_Vpxor_xmm_xmm_xmmm128, &[x, x, x]);
        }
        self.general.let_go();
        for i in i..e.n {
            let at = AsmOperand::M(self.address(e.ptr, e.disp + 2 * i as i64)?);
            self.ins(Code::VEX_Vpinsrw_xmm_xmm_r32m16_imm8, &[x, x, at, AsmOperand::I(i as u8)]);
            self.general.let_go();
        }
        self.ins(widen, &[AsmOperand::R(d), x]);
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        mem: MemType,
        ptr: Ptr,
        disp: i64,
        n: u8,
        stride: i64,
        src: Reg,
    ) -> Result<(), Full> {
        let e = Elements { mem, ptr, disp, n: n as usize, stride };
        let x = self.reg(src)?;
        if self.wide {
            return self.store_wide(x, &e);
        }
        match mem {
            MemType::F32 | MemType::I32 if e.n == LANES && stride == 4 => {
                let at = AsmOperand::M(self.address(ptr, disp)?);
                self.ins(Code::VEX_Vmovups_ymmm256_ymm, &[at, AsmOperand::R(x)]);
                Ok(())
            }
            MemType::F32 | MemType::I32 => self.store_words(x, &e),
            MemType::I64 => self.store_longs(x, &e),
            MemType::Bf16 | MemType::F16 | MemType::U16 | MemType::I16 => self.store_halves(x, &e),
            // The verifier refuses stores of pairs.
            MemType::U8 | MemType::I8 | MemType::U8Pair | MemType::I8Pair => self.store_bytes(x, &e),
        }
    }

    /// The high half of a register in a register of its own, if it is needed.
    fn high(&mut self, x: Register, needed: bool) -> Result<Register, Full> {
        if !needed {
            return Ok(low(x));
        }
        let high = low(self.temporary()?);
        self.ins(Code::VEX_Vextractf128_xmmm128_ymm_imm8, &[AsmOperand::R(high), AsmOperand::R(x), AsmOperand::I(1)]);
        Ok(high)
    }

    fn store_words(&mut self, x: Register, e: &Elements) -> Result<(), Full> {
        let high = self.high(x, e.n > HALF)?;
        let mut i = 0;
        while i < e.n {
            let half = if i < HALF { low(x) } else { high };
            let at = AsmOperand::M(self.address(e.ptr, e.disp + e.stride * i as i64)?);
            let side_by_side = e.stride == 4;
            i += match (i % HALF, e.n - i) {
                (0, 4..) if side_by_side => {
                    self.ins(Code::VEX_Vmovups_xmmm128_xmm, &[at, AsmOperand::R(half)]);
                    4
                }
                (0, 2..) if side_by_side => {
                    self.ins(Code::VEX_Vmovlps_m64_xmm, &[at, AsmOperand::R(half)]);
                    2
                }
                (0, _) => {
                    self.ins(Code::VEX_Vmovss_m32_xmm, &[at, AsmOperand::R(half)]);
                    1
                }
                (lane, _) => {
                    self.ins(Code::VEX_Vextractps_rm32_xmm_imm8, &[at, AsmOperand::R(half), AsmOperand::I(lane as u8)]);
                    1
                }
            };
            self.general.let_go();
        }
        Ok(())
    }

    /// Words as 64 bits each, a half after the other.
    fn store_longs(&mut self, x: Register, e: &Elements) -> Result<(), Full> {
        let high = self.high(x, e.n > HALF)?;
        let wide = self.temporary()?;
        for start in (0..e.n).step_by(HALF) {
            let n = HALF.min(e.n - start);
            let half = if start == 0 { low(x) } else { high };
            self.ins(Code::VEX_Vpmovsxdq_ymm_xmmm128, &[AsmOperand::R(wide), AsmOperand::R(half)]);
            let disp = e.disp + e.stride * start as i64;
            if n == HALF && e.stride == 8 {
                let at = AsmOperand::M(self.address(e.ptr, disp)?);
                self.ins(Code::VEX_Vmovups_ymmm256_ymm, &[at, AsmOperand::R(wide)]);
                self.general.let_go();
                continue;
            }
            for i in 0..n {
                let at = AsmOperand::M(self.address(e.ptr, disp + e.stride * i as i64)?);
                if i == 2 {
                    let upper = [AsmOperand::R(low(wide)), AsmOperand::R(wide), AsmOperand::I(1)];
                    self.ins(Code::VEX_Vextractf128_xmmm128_ymm_imm8, &upper);
                }
                let code = if i % 2 == 0 { Code::VEX_Vmovlps_m64_xmm } else { Code::VEX_Vmovhps_m64_xmm };
                self.ins(code, &[at, AsmOperand::R(low(wide))]);
                self.general.let_go();
            }
        }
        Ok(())
    }

    /// The low byte of each lane, gathered in the low half first.
    fn store_bytes(&mut self, x: Register, e: &Elements) -> Result<(), Full> {
        let bytes = self.temporary()?;
        let lanes = |i: usize| if i.is_multiple_of(HALF) { 0x0c08_0400 } else { 0x8080_8080 };
        let constant = self.asm.constant(lanes_of(LANES, lanes));
        self.ins(
            Code::VEX_Vpshufb_ymm_ymm_ymmm256,
            &[AsmOperand::R(bytes), AsmOperand::R(x), AsmOperand::M(MemOperand::Pool(constant))],
        );
        let high = self.high(bytes, e.n > HALF)?;
        let b = AsmOperand::R(low(bytes));
        if e.n > HALF {
            self.ins(Code::VEX_Vpunpckldq_xmm_xmm_xmmm128, &[b, b, AsmOperand::R(high)]);
        }
        let mut i = 0;
        while i < e.n {
            let at = AsmOperand::M(self.address(e.ptr, e.disp + e.stride * i as i64)?);
            i += match (i, e.n - i) {
                (0, 8) if e.stride == 1 => {
                    self.ins(Code::VEX_Vmovlps_m64_xmm, &[at, b]);
                    8
                }
                (0, 4..) if e.stride == 1 => {
                    self.ins(Code::VEX_Vmovd_rm32_xmm, &[at, b]);
                    4
                }
                (lane, _) => {
                    self.ins(Code::VEX_Vpextrb_r32m8_xmm_imm8, &[at, b, AsmOperand::I(lane as u8)]);
                    1
                }
            };
            self.general.let_go();
        }
        Ok(())
    }
}

/// The instruction that widens eight bytes to words.
fn widen(mem: MemType) -> Code {
    debug_assert_eq!(mem.elem(), Elem::I32);
    if mem == MemType::I8 { Code::VEX_Vpmovsxbd_ymm_xmmm64 } else { Code::VEX_Vpmovzxbd_ymm_xmmm64 }
}
