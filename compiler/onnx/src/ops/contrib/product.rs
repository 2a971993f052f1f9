//! Products in one op with a factor, transposes, a bias or an activation.

use optc_ir::ops::{math, nn, tensor};
use optc_ir::{Real, Value};
use optc_tensor::DType;

use super::activation::activated;
use super::{MICROSOFT, plus};
use crate::mapping::{MapError, NodeCx};
use crate::ops::conv::conv_attrs;
use crate::ops::norm::scalar_like;
use crate::ops::{Mapped, Table, rank_of};

pub(crate) const TABLE: Table = &[
    (MICROSOFT, "FusedMatMul", fused_matmul),
    (MICROSOFT, "TransposeMatMul", fused_matmul),
    (MICROSOFT, "FusedGemm", fused_gemm),
    (MICROSOFT, "FusedConv", fused_conv),
];

/// An operand of a product of any rank, `[…, rows, columns]`: with `batch`, it is given as `[rows, …, columns]`; with
/// `matrix`, the last two are given the other way round. A vector stays as it is.
fn turned(cx: &mut NodeCx, x: Value, batch: bool, matrix: bool) -> Result<Value, MapError> {
    let rank = rank_of(cx, x)? as i64;
    if rank < 2 || !(batch || matrix) {
        return Ok(x);
    }
    let mut perm: Vec<i64> = (0..rank).collect();
    if batch {
        perm[..rank as usize - 1].rotate_left(1);
    }
    if matrix {
        perm.swap(rank as usize - 2, rank as usize - 1);
    }
    cx.emit1(tensor::Transpose { perm }, &[x])
}

fn fused_matmul(cx: &mut NodeCx) -> Mapped {
    let alpha = cx.attrs.float_or("alpha", 1.0)?;
    let (trans_a, trans_b) = (cx.attrs.flag("transA", false)?, cx.attrs.flag("transB", false)?);
    let (batch_a, batch_b) = (cx.attrs.flag("transBatchA", false)?, cx.attrs.flag("transBatchB", false)?);
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    if [a, b].iter().all(|&v| rank_of(cx, v).is_ok_and(|rank| rank == 2)) && cx.dtype(a)?.is_float() {
        let op = nn::Gemm { alpha: Real(alpha), beta: Real(1.0), precision: DType::F32, trans_a, trans_b };
        return cx.emit(op, &[Some(a), Some(b), None]);
    }
    let (a, b) = (turned(cx, a, batch_a, trans_a)?, turned(cx, b, batch_b, trans_b)?);
    let product = cx.emit1(math::MatMul::default(), &[a, b])?;
    if alpha == 1.0 {
        return Ok(vec![product]);
    }
    let alpha = scalar_like(cx, product, alpha.into())?;
    Ok(vec![cx.emit1(math::Mul {}, &[product, alpha])?])
}

fn fused_gemm(cx: &mut NodeCx) -> Mapped {
    cx.attrs.ignore(&["activation_alpha", "activation_beta", "activation_gamma"]); // of functions that have none
    let y = crate::ops::gemm::gemm(cx)?[0];
    let name = cx.attrs.string_or("activation", "")?;
    let parameter = |cx: &NodeCx, i: usize| {
        let name = ["activation_alpha", "activation_beta"][i];
        let missing = || MapError::Invalid(format!("attribute `{name}` is missing"));
        cx.attrs.float(name)?.ok_or_else(missing)
    };
    Ok(vec![activated(cx, y, &name, parameter)?])
}

/// What is added to the convolution comes in before the activation.
fn fused_conv(cx: &mut NodeCx) -> Mapped {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let op = conv_attrs(cx, x, w)?;
    let (bias, summand) = (cx.optional(2), cx.optional(3));
    let y = cx.emit(op, &[Some(x), Some(w), bias])?[0];
    let y = plus(cx, y, summand)?;
    let name = cx.attrs.string_or("activation", "")?;
    let parameters = cx.attrs.floats("activation_params")?.unwrap_or_default();
    let parameter = |_: &NodeCx, i: usize| {
        let missing = || MapError::Invalid(format!("`activation_params` has no entry {i}, which the activation needs"));
        parameters.get(i).copied().ok_or_else(missing)
    };
    Ok(vec![activated(cx, y, &name, parameter)?])
}
