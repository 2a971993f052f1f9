//! Elements around a tensor.

use optc_ir::ops::tensor::{self, PadMode};
use optc_tensor::Tensor;

use super::{Mapped, Table};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[("", "Pad", pad)];

/// Pads and value come from attributes before opset 11.
fn pad(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let mode = cx.attrs.text_or("mode", PadMode::Constant)?;
    if cx.opset < 11 {
        let missing = || MapError::Invalid("attribute `pads` is missing".to_owned());
        let pads = cx.attrs.ints("pads")?.ok_or_else(missing)?;
        let value = cx.attrs.float("value")?.filter(|&v| v != 0.0);
        let value =
            value.map(|v| Tensor::from_f64(cx.dtype(x)?, &[], &[v as f64]).map_err(MapError::from)).transpose()?;
        let value = value.map(|t| cx.constant(t));
        return cx.emit(tensor::Pad { mode, pads }, &[Some(x), value]);
    }
    // Zeros are what is put in without a value.
    let value = cx.optional(2).filter(|&v| cx.constant_of(v).is_none_or(|t| t.to_f64_vec() != [0.0]));
    let (by, axes) = (cx.input(1)?, cx.optional(3));
    // Pads that are known and of all axes become the attribute, which is what kernels are made for.
    match (cx.constant_of(by), axes) {
        (Some(pads), None) => {
            let pads = pads.to_i64_vec();
            cx.emit(tensor::Pad { mode, pads }, &[Some(x), value])
        }
        _ => cx.emit(tensor::Pad { mode, pads: vec![] }, &[Some(x), value, Some(by), axes]),
    }
}
