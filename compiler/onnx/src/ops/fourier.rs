//! Fourier transforms.

use optc_ir::ops::math;
use optc_tensor::Tensor;

use super::{Mapped, Table};
use crate::mapping::NodeCx;

pub(crate) const TABLE: Table = &[("", "DFT", dft), ("", "STFT", stft)];

/// The axis is an attribute before opset 20.
fn dft(cx: &mut NodeCx) -> Mapped {
    let (inverse, onesided) = (cx.attrs.flag("inverse", false)?, cx.attrs.flag("onesided", false)?);
    let axis = match cx.opset < 20 {
        true => {
            let axis = cx.attrs.int_or("axis", 1)?;
            Some(cx.constant(Tensor::scalar(axis)))
        }
        false => cx.optional(2),
    };
    let operands = [Some(cx.input(0)?), cx.optional(1), axis];
    cx.emit(math::Dft { inverse, onesided }, &operands)
}

fn stft(cx: &mut NodeCx) -> Mapped {
    let onesided = cx.attrs.flag("onesided", true)?;
    let operands = [Some(cx.input(0)?), Some(cx.input(1)?), cx.optional(2), cx.optional(3)];
    cx.emit(math::Stft { onesided }, &operands)
}
