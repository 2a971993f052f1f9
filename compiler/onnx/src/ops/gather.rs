//! Ops that pick elements or blocks by index.

use optc_ir::ops::tensor;

use super::{Table, direct};

pub(crate) const TABLE: Table = &[
    ("", "Gather", |cx| {
        let axis = cx.attrs.int_or("axis", 0)?;
        direct(cx, tensor::Gather { axis }, 2)
    }),
    ("", "GatherElements", |cx| {
        let axis = cx.attrs.int_or("axis", 0)?;
        direct(cx, tensor::GatherElements { axis }, 2)
    }),
    ("", "GatherND", |cx| {
        let batch_dims = cx.attrs.int_or("batch_dims", 0)?;
        direct(cx, tensor::GatherNd { batch_dims }, 2)
    }),
];
