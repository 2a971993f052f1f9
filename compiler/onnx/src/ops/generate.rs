//! Tensors made from a few numbers, and triangles.

use optc_ir::ops::tensor;

use super::cast::dtype_attribute;
use super::{Mapped, Table, direct};
use crate::mapping::NodeCx;

pub(crate) const TABLE: Table = &[
    ("", "Range", |cx| {
        cx.attrs.ignore(&["stash_type"]); // the dtype of intermediate sums; there are none here
        direct(cx, tensor::Range {}, 3)
    }),
    ("", "EyeLike", |cx| {
        let x = cx.input(0)?;
        let dtype = dtype_attribute(cx, "dtype")?.map_or_else(|| cx.dtype(x), Ok)?;
        let k = cx.attrs.int_or("k", 0)?;
        direct(cx, tensor::Eye { dtype, k }, 1)
    }),
    ("", "Trilu", triangle),
    ("", "OneHot", |cx| {
        let axis = cx.attrs.int_or("axis", -1)?;
        direct(cx, tensor::OneHot { axis }, 3)
    }),
];

pub(super) fn triangle(cx: &mut NodeCx) -> Mapped {
    let upper = cx.attrs.flag("upper", true)?;
    let operands = [Some(cx.input(0)?), cx.optional(1)];
    cx.emit(tensor::Triangle { upper }, &operands)
}
