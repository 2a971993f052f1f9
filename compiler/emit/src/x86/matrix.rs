//! Matrix registers (AMX): all are configured alike, 16 rows of 64 bytes.

use super::bank::Full;
use super::operand::{AsmOperand, MemOperand};
use super::{Walk, general};
use iced_x86::{Code, Register};
use optc_kernel::tile::{MATRICES, MATRIX_BYTES, MATRIX_ROWS, Mat, Ptr, TileProduct};

/// The register of a matrix.
pub(super) fn matrix(mat: Mat) -> AsmOperand {
    AsmOperand::R(Register::TMM0 + u32::from(mat.0))
}

/// What `ldtilecfg` reads: palette 1; for each register the bytes of its rows, and how many it has.
fn configuration() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[0] = 1;
    for i in 0..MATRICES as usize {
        bytes[16 + 2 * i] = MATRIX_BYTES as u8;
        bytes[48 + i] = MATRIX_ROWS as u8;
    }
    bytes
}

impl Walk<'_> {
    pub(super) fn mat_configure(&mut self) {
        let constant = self.asm.constant(configuration());
        self.ins(Code::VEX_Ldtilecfg_m512, &[AsmOperand::M(MemOperand::Pool(constant))]);
    }

    pub(super) fn mat_load(&mut self, dst: Mat, ptr: Ptr, disp: i64, stride: i64) -> Result<(), Full> {
        let rows = self.rows(ptr, disp, stride)?;
        self.ins(Code::VEX_Tileloadd_tmm_sibmem, &[matrix(dst), rows]);
        Ok(())
    }

    pub(super) fn mat_store(&mut self, ptr: Ptr, disp: i64, stride: i64, src: Mat) -> Result<(), Full> {
        let rows = self.rows(ptr, disp, stride)?;
        self.ins(Code::VEX_Tilestored_sibmem_tmm, &[rows, matrix(src)]);
        Ok(())
    }

    pub(super) fn mat_dot(&mut self, sum: Mat, of: TileProduct, x: Mat, y: Mat) {
        let code = match of {
            TileProduct::Bytes => Code::VEX_Tdpbusd_tmm_tmm_tmm,
            TileProduct::Bf16 => Code::VEX_Tdpbf16ps_tmm_tmm_tmm,
        };
        self.ins(code, &[matrix(sum), matrix(x), matrix(y)]);
    }

    /// Rows that are `stride` bytes apart: the index register holds the stride.
    fn rows(&mut self, ptr: Ptr, disp: i64, stride: i64) -> Result<AsmOperand, Full> {
        let MemOperand::At(base, disp) = self.address(ptr, disp)? else { return Err(Full) };
        let index = general(self.general.temporary(self.at)?);
        match i32::try_from(stride) {
            Ok(stride) => self.ins(Code::Mov_rm64_imm32, &[AsmOperand::R(index), AsmOperand::L(stride)]),
            Err(_) => self.far(index, stride),
        }
        Ok(AsmOperand::M(MemOperand::Indexed(base, index, disp)))
    }
}
