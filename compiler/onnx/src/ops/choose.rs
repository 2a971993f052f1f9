//! Elementwise choice.

use optc_ir::ops::math;
use optc_tensor::Tensor;

use super::{Mapped, Table, plain};
use crate::mapping::NodeCx;

pub(crate) const TABLE: Table =
    &[plain!("Where", Where, 3), ("", "Clip", clip), ("", "Identity", |cx| Ok(vec![cx.input(0)?]))];

/// Before opset 11 the bounds are attributes, since then inputs.
fn clip(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let (mut low, mut high) = (cx.optional(1), cx.optional(2));
    if cx.opset < 11 {
        let dtype = cx.dtype(x)?;
        for (name, bound) in [("min", &mut low), ("max", &mut high)] {
            if let Some(v) = cx.attrs.float(name)? {
                *bound = Some(cx.constant(Tensor::from_f64(dtype, &[], &[v as f64])?));
            }
        }
    }
    cx.emit(math::Clip {}, &[Some(x), low, high])
}
