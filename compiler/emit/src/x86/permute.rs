//! Permutations: one instruction where one does it, else the lanes of both operands and a blend.

use super::bank::Full;
use super::operand::{AsmOperand, MemOperand};
use super::{Walk, lanes_of};
use iced_x86::Code;
use optc_kernel::tile::Reg;

/// Lanes of 128 bits, within which most instructions stay.
const BLOCK: usize = 4;

/// An instruction with an immediate that makes a permutation of two registers; `swapped` takes the second one first.
struct Two {
    code: Code,
    swapped: bool,
    imm: Option<u8>,
}

impl Walk<'_> {
    pub(super) fn permute(&mut self, dst: Reg, x: Reg, y: Reg, lanes: &[u8]) -> Result<(), Full> {
        let lanes: Vec<usize> = lanes.iter().map(|&l| l as usize).collect();
        let n = lanes.len();
        if x == y || lanes.iter().all(|&l| l < n) {
            return self.permute_one(dst, x, &lanes.iter().map(|l| l % n).collect::<Vec<_>>());
        }
        if lanes.iter().all(|&l| l >= n) {
            return self.permute_one(dst, y, &lanes.iter().map(|l| l - n).collect::<Vec<_>>());
        }
        let exchanged: Vec<_> = lanes.iter().map(|l| (l + n) % (2 * n)).collect();
        if let Some(two) = two(&lanes, false).or_else(|| two(&exchanged, true)) {
            let (x, y) = if two.swapped { (y, x) } else { (x, y) };
            let (a, b) = (self.reg(x)?, self.rm(y)?);
            let d = self.define(dst, &[x, y])?;
            let imm = two.imm.map(AsmOperand::I);
            let ops: Vec<_> = [AsmOperand::R(d), AsmOperand::R(a), b].into_iter().chain(imm).collect();
            self.ins(two.code, &ops);
            return Ok(());
        }
        if self.wide {
            return self.permute_any_wide(dst, x, y, &lanes);
        }
        let index = self.temporary()?;
        let (a, b) = (self.rm(x)?, self.rm(y)?);
        let part = self.temporary()?;
        let constant = self.asm.constant(lanes_of(n, |i| (lanes[i] % n) as u32));
        self.ins(Code::VEX_Vmovups_ymm_ymmm256, &[AsmOperand::R(index), AsmOperand::M(MemOperand::Pool(constant))]);
        self.ins(Code::VEX_Vpermps_ymm_ymm_ymmm256, &[AsmOperand::R(part), AsmOperand::R(index), a]);
        self.ins(Code::VEX_Vpermps_ymm_ymm_ymmm256, &[AsmOperand::R(index), AsmOperand::R(index), b]);
        let second = (0..n).filter(|&i| lanes[i] >= n).map(|i| 1 << i).sum();
        let d = self.define(dst, &[x, y])?;
        self.ins(
            Code::VEX_Vblendps_ymm_ymm_ymmm256_imm8,
            &[AsmOperand::R(d), AsmOperand::R(part), AsmOperand::R(index), AsmOperand::I(second)],
        );
        Ok(())
    }

    fn permute_one(&mut self, dst: Reg, x: Reg, lanes: &[usize]) -> Result<(), Full> {
        if lanes.iter().enumerate().all(|(i, &l)| i == l) {
            return self.copy(dst, x);
        }
        let within =
            (0..lanes.len()).all(|i| lanes[i] / BLOCK == i / BLOCK && lanes[i] % BLOCK == lanes[i % BLOCK] % BLOCK);
        if within {
            let imm = (0..BLOCK).map(|i| (lanes[i] << (2 * i)) as u8).sum();
            return self.one(dst, x, Code::VEX_Vpermilps_ymm_ymmm256_imm8, imm);
        }
        let pairs = !self.wide
            && (0..lanes.len()).step_by(2).all(|i| lanes[i].is_multiple_of(2) && lanes[i + 1] == lanes[i] + 1);
        if pairs {
            let imm = (0..BLOCK).map(|i| ((lanes[2 * i] / 2) << (2 * i)) as u8).sum();
            return self.one(dst, x, Code::VEX_Vpermpd_ymm_ymmm256_imm8, imm);
        }
        let index = self.temporary()?;
        let a = self.rm(x)?;
        let constant = self.asm.constant(lanes_of(lanes.len(), |i| lanes[i] as u32));
        self.ins(Code::VEX_Vmovups_ymm_ymmm256, &[AsmOperand::R(index), AsmOperand::M(MemOperand::Pool(constant))]);
        let d = self.define(dst, &[x])?;
        self.ins(Code::VEX_Vpermps_ymm_ymm_ymmm256, &[AsmOperand::R(d), AsmOperand::R(index), a]);
        Ok(())
    }

    fn one(&mut self, dst: Reg, x: Reg, code: Code, imm: u8) -> Result<(), Full> {
        let a = self.rm(x)?;
        let d = self.define(dst, &[x])?;
        self.ins(code, &[AsmOperand::R(d), a, AsmOperand::I(imm)]);
        Ok(())
    }
}

/// The instruction that takes these lanes of two registers, if there is one.
fn two(lanes: &[usize], swapped: bool) -> Option<Two> {
    let n = lanes.len();
    let found = |code, imm| Some(Two { code, swapped, imm });
    if n == 2 * BLOCK && lanes.iter().enumerate().all(|(i, &l)| l % n == i) {
        let second = (0..n).filter(|&i| lanes[i] >= n).map(|i| 1 << i).sum();
        return found(Code::VEX_Vblendps_ymm_ymm_ymmm256_imm8, Some(second));
    }
    let blocks: Vec<_> = lanes.chunks(BLOCK).map(|c| c[0] / BLOCK).collect();
    if n == 2 * BLOCK && (0..n).all(|i| lanes[i] == blocks[i / BLOCK] * BLOCK + i % BLOCK) {
        return found(Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8, Some((blocks[0] | blocks[1] << 4) as u8));
    }
    // The same within each block: lanes of the second register count from `BLOCK`.
    let within: Vec<_> = lanes[..BLOCK].iter().map(|&l| l % n + l / n * BLOCK).collect();
    let repeats = (0..n).all(|i| {
        let block = i / BLOCK * BLOCK;
        let (from, lane) = (within[i % BLOCK] / BLOCK, within[i % BLOCK] % BLOCK);
        lanes[i] == from * n + block + lane
    });
    if !repeats || within.iter().any(|&w| w >= 2 * BLOCK) {
        return None;
    }
    match within[..] {
        [0, 4, 1, 5] => found(Code::VEX_Vunpcklps_ymm_ymm_ymmm256, None),
        [2, 6, 3, 7] => found(Code::VEX_Vunpckhps_ymm_ymm_ymmm256, None),
        [a, b, c, d] if a < BLOCK && b < BLOCK && c >= BLOCK && d >= BLOCK => {
            let imm = a | b << 2 | (c - BLOCK) << 4 | (d - BLOCK) << 6;
            found(Code::VEX_Vshufps_ymm_ymm_ymmm256_imm8, Some(imm as u8))
        }
        _ => None,
    }
}
