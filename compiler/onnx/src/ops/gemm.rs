//! Matrix products with a bias.

use optc_ir::Real;
use optc_ir::ops::nn;
use optc_tensor::DType;

use super::{Mapped, Table};
use crate::mapping::NodeCx;

pub(crate) const TABLE: Table = &[("", "Gemm", gemm)];

pub(super) fn gemm(cx: &mut NodeCx) -> Mapped {
    let (alpha, beta) = (Real(cx.attrs.float_or("alpha", 1.0)?), Real(cx.attrs.float_or("beta", 1.0)?));
    let (trans_a, trans_b) = (cx.attrs.flag("transA", false)?, cx.attrs.flag("transB", false)?);
    let operands = [Some(cx.input(0)?), Some(cx.input(1)?), cx.optional(2)];
    cx.emit(nn::Gemm { alpha, beta, precision: DType::F32, trans_a, trans_b }, &operands)
}
