//! Ops that write elements or blocks by index.

use optc_ir::ops::tensor::{self, ScatterReduction};

use super::{Mapped, Table, direct};
use crate::mapping::NodeCx;

pub(crate) const TABLE: Table = &[
    ("", "Scatter", scatter_elements),
    ("", "ScatterElements", scatter_elements),
    ("", "ScatterND", |cx| {
        let reduction = cx.attrs.text_or("reduction", ScatterReduction::None)?;
        direct(cx, tensor::ScatterNd { reduction }, 3)
    }),
    ("", "TensorScatter", tensor_scatter),
];

fn scatter_elements(cx: &mut NodeCx) -> Mapped {
    let axis = cx.attrs.int_or("axis", 0)?;
    let reduction = cx.attrs.text_or("reduction", ScatterReduction::None)?;
    direct(cx, tensor::ScatterElements { axis, reduction }, 3)
}

fn tensor_scatter(cx: &mut NodeCx) -> Mapped {
    let axis = cx.attrs.int_or("axis", -2)?;
    let circular = cx.attrs.word_or("mode", &[("linear", false), ("circular", true)], false)?;
    let operands = [Some(cx.input(0)?), Some(cx.input(1)?), cx.optional(2)];
    cx.emit(tensor::UpdateCache { axis, circular }, &operands)
}
