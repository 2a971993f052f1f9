//! Places of extremes.

use optc_ir::ops::math::{self, Extreme};
use optc_tensor::Tensor;

use super::{Mapped, Table, direct};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table =
    &[("", "ArgMax", |cx| arg(cx, Extreme::Max)), ("", "ArgMin", |cx| arg(cx, Extreme::Min)), ("", "TopK", top_k)];

fn arg(cx: &mut NodeCx, kind: Extreme) -> Mapped {
    let (axis, keep_dims) = (cx.attrs.int_or("axis", 0)?, cx.attrs.flag("keepdims", true)?);
    let last = cx.attrs.flag("select_last_index", false)?;
    direct(cx, math::ArgReduce { axis, keep_dims, kind, last }, 1)
}

/// `k` is an attribute before opset 10. Results that need not be sorted are sorted as well.
fn top_k(cx: &mut NodeCx) -> Mapped {
    let (axis, largest) = (cx.attrs.int_or("axis", -1)?, cx.attrs.flag("largest", true)?);
    cx.attrs.ignore(&["sorted"]);
    let x = cx.input(0)?;
    let k = if cx.opset < 10 {
        let missing = || MapError::Invalid("attribute `k` is missing".to_owned());
        let k = cx.attrs.int("k")?.ok_or_else(missing)?;
        cx.constant(Tensor::from_slice(&[1], &[k])?)
    } else {
        cx.input(1)?
    };
    cx.emit(math::TopK { axis, largest }, &[Some(x), Some(k)])
}
