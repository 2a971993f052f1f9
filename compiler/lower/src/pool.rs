//! Pooling: windows over images in whatever layout they have.

use optc_ir::ops::nn::{Pool, PoolKind};
use optc_kernels::window::{WindowNest, WindowReduce};
use optc_tensor::DType;
use optc_types::ReasonCode;

use super::conv::window;
use super::cx::Cx;
use super::operands::{axes, epilogue, image, only_f32};
use super::{Declined, Lowered, Site};

pub(super) fn pool(cx: &mut Cx, op: &Pool, site: &Site) -> Lowered {
    let dst = site.result()?.clone();
    let x = cx.view(site.operand(0)?)?;
    let exact = matches!(x.dtype, DType::U8 | DType::I8 | DType::BF16 | DType::F16) && op.kind == PoolKind::Max;
    if !exact {
        only_f32(&x)?;
    }
    if dst.is_empty() || x.is_empty() {
        return Err(Declined::new(ReasonCode::Empty, "an empty pooling"));
    }
    let reduce = match op.kind {
        PoolKind::Max => WindowReduce::Max,
        PoolKind::Mean => WindowReduce::Mean { count_padding: op.count_include_pad },
    };
    let kernel: Vec<usize> = op.kernel.iter().map(|&k| k as usize).collect();
    let axes = axes(&x.shape[2..], &dst.shape[2..], &kernel, &op.strides, &op.dilations, &op.pads)?;
    let fused = epilogue(cx, site, 2, &dst)?;
    let problem = WindowNest {
        batch: x.shape[0],
        channels: x.shape[1],
        axes,
        reduce,
        src: image(&x)?,
        src_zero: 0,
        dst: image(&dst)?,
        operands: fused.operands,
        epilogue: fused.expr,
    };
    window(cx, &problem, &x, None, &fused.places, &dst, &site.loc)?;
    Ok(())
}
