//! Which machine instruction computes an operator, and which one does the same on wider registers.
//!
//! The rules name the instructions of AVX2, on 256 bits; [`widened`] gives those of AVX-512.

use iced_x86::Code;
use optc_kernel::tile::{Binary, Cmp, Elem, Shift};

/// Conditions of `vcmpps`: quiet but for the equalities, which have always been.
pub(super) fn condition(op: Cmp) -> u8 {
    match op {
        Cmp::Eq => 0x00,
        Cmp::Ne => 0x04,
        Cmp::Lt => 0x11,
        Cmp::Le => 0x12,
        Cmp::Ge => 0x1d,
        Cmp::Gt => 0x1e,
    }
}

/// The instruction of `x op y`; its line for 512 bits is in [`widened`].
pub(super) fn binary(op: Binary, elem: Elem) -> Code {
    match (op, elem) {
        (Binary::Add, Elem::F32) => Code::VEX_Vaddps_ymm_ymm_ymmm256,
        (Binary::Add, Elem::I32) => Code::VEX_Vpaddd_ymm_ymm_ymmm256,
        (Binary::Sub, Elem::F32) => Code::VEX_Vsubps_ymm_ymm_ymmm256,
        (Binary::Sub, Elem::I32) => Code::VEX_Vpsubd_ymm_ymm_ymmm256,
        (Binary::Mul, Elem::F32) => Code::VEX_Vmulps_ymm_ymm_ymmm256,
        (Binary::Mul, Elem::I32) => Code::VEX_Vpmulld_ymm_ymm_ymmm256,
        (Binary::Div, _) => Code::VEX_Vdivps_ymm_ymm_ymmm256,
        (Binary::Min, Elem::F32) => Code::VEX_Vminps_ymm_ymm_ymmm256,
        (Binary::Min, Elem::I32) => Code::VEX_Vpminsd_ymm_ymm_ymmm256,
        (Binary::Max, Elem::F32) => Code::VEX_Vmaxps_ymm_ymm_ymmm256,
        (Binary::Max, Elem::I32) => Code::VEX_Vpmaxsd_ymm_ymm_ymmm256,
        (Binary::And, _) => Code::VEX_Vpand_ymm_ymm_ymmm256,
        (Binary::Or, _) => Code::VEX_Vpor_ymm_ymm_ymmm256,
        (Binary::Xor, _) => Code::VEX_Vpxor_ymm_ymm_ymmm256,
        (Binary::SubPairs, _) => Code::VEX_Vpsubw_ymm_ymm_ymmm256,
    }
}

/// The instruction that shifts by a constant.
pub(super) fn shift(op: Shift) -> Code {
    match op {
        Shift::Left => Code::VEX_Vpslld_ymm_ymm_imm8,
        Shift::Logical => Code::VEX_Vpsrld_ymm_ymm_imm8,
        Shift::Arithmetic => Code::VEX_Vpsrad_ymm_ymm_imm8,
    }
}

/// The instruction on 512 bits that does what this one does on 256.
pub(super) fn widened(code: Code) -> Code {
    match code {
        Code::VEX_Vmovups_ymm_ymmm256 => Code::EVEX_Vmovups_zmm_k1z_zmmm512,
        Code::VEX_Vmovups_ymmm256_ymm => Code::EVEX_Vmovups_zmmm512_k1z_zmm,
        Code::VEX_Vmovaps_ymm_ymmm256 => Code::EVEX_Vmovaps_zmm_k1z_zmmm512,
        Code::VEX_Vaddps_ymm_ymm_ymmm256 => Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er,
        Code::VEX_Vsubps_ymm_ymm_ymmm256 => Code::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er,
        Code::VEX_Vmulps_ymm_ymm_ymmm256 => Code::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er,
        Code::VEX_Vdivps_ymm_ymm_ymmm256 => Code::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er,
        Code::VEX_Vminps_ymm_ymm_ymmm256 => Code::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae,
        Code::VEX_Vmaxps_ymm_ymm_ymmm256 => Code::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae,
        Code::VEX_Vpaddd_ymm_ymm_ymmm256 => Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpsubd_ymm_ymm_ymmm256 => Code::EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpsubw_ymm_ymm_ymmm256 => Code::EVEX_Vpsubw_zmm_k1z_zmm_zmmm512,
        Code::VEX_Vpmulld_ymm_ymm_ymmm256 => Code::EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpminsd_ymm_ymm_ymmm256 => Code::EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpmaxsd_ymm_ymm_ymmm256 => Code::EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpmaddwd_ymm_ymm_ymmm256 => Code::EVEX_Vpmaddwd_zmm_k1z_zmm_zmmm512,
        Code::VEX_Vpdpbusd_ymm_ymm_ymmm256 => Code::EVEX_Vpdpbusd_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpand_ymm_ymm_ymmm256 => Code::EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpor_ymm_ymm_ymmm256 => Code::EVEX_Vpord_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpxor_ymm_ymm_ymmm256 => Code::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vxorps_ymm_ymm_ymmm256 => Code::EVEX_Vxorps_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vxorps_xmm_xmm_xmmm128 => Code::EVEX_Vxorps_xmm_k1z_xmm_xmmm128b32,
        Code::VEX_Vandps_ymm_ymm_ymmm256 => Code::EVEX_Vandps_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vpabsd_ymm_ymmm256 => Code::EVEX_Vpabsd_zmm_k1z_zmmm512b32,
        Code::VEX_Vsqrtps_ymm_ymmm256 => Code::EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er,
        Code::VEX_Vcvtdq2ps_ymm_ymmm256 => Code::EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er,
        Code::VEX_Vroundps_ymm_ymmm256_imm8 => Code::EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae,
        Code::VEX_Vpslld_ymm_ymm_imm8 => Code::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8,
        Code::VEX_Vpsrld_ymm_ymm_imm8 => Code::EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8,
        Code::VEX_Vpsrad_ymm_ymm_imm8 => Code::EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8,
        Code::VEX_Vpsllw_ymm_ymm_imm8 => Code::EVEX_Vpsllw_zmm_k1z_zmmm512_imm8,
        Code::VEX_Vpsrlw_ymm_ymm_imm8 => Code::EVEX_Vpsrlw_zmm_k1z_zmmm512_imm8,
        Code::VEX_Vpsraw_ymm_ymm_imm8 => Code::EVEX_Vpsraw_zmm_k1z_zmmm512_imm8,
        Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256 => Code::EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er,
        Code::VEX_Vfmadd213ps_ymm_ymm_ymmm256 => Code::EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er,
        Code::VEX_Vfmadd132ps_ymm_ymm_ymmm256 => Code::EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er,
        Code::VEX_Vbroadcastss_ymm_m32 => Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32,
        Code::VEX_Vpbroadcastw_ymm_xmmm16 => Code::EVEX_Vpbroadcastw_zmm_k1z_xmmm16,
        Code::VEX_Vpbroadcastb_ymm_xmmm8 => Code::EVEX_Vpbroadcastb_zmm_k1z_xmmm8,
        Code::VEX_Vpmovzxbd_ymm_xmmm64 => Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128,
        Code::VEX_Vpmovsxbd_ymm_xmmm64 => Code::EVEX_Vpmovsxbd_zmm_k1z_xmmm128,
        Code::VEX_Vpmovzxbw_ymm_xmmm128 => Code::EVEX_Vpmovzxbw_zmm_k1z_ymmm256,
        Code::VEX_Vpmovsxbw_ymm_xmmm128 => Code::EVEX_Vpmovsxbw_zmm_k1z_ymmm256,
        Code::VEX_Vpermilps_ymm_ymmm256_imm8 => Code::EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8,
        Code::VEX_Vpermps_ymm_ymm_ymmm256 => Code::EVEX_Vpermps_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vshufps_ymm_ymm_ymmm256_imm8 => Code::EVEX_Vshufps_zmm_k1z_zmm_zmmm512b32_imm8,
        Code::VEX_Vunpcklps_ymm_ymm_ymmm256 => Code::EVEX_Vunpcklps_zmm_k1z_zmm_zmmm512b32,
        Code::VEX_Vunpckhps_ymm_ymm_ymmm256 => Code::EVEX_Vunpckhps_zmm_k1z_zmm_zmmm512b32,
        other => other,
    }
}
