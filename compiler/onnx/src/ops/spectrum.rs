//! Window functions and the weights of the mel scale.

use optc_ir::ops::math::{self, WindowFunction};
use optc_tensor::DType;

use super::cast::dtype_attribute;
use super::{Mapped, Table, direct};
use crate::mapping::NodeCx;

pub(crate) const TABLE: Table = &[
    ("", "HannWindow", |cx| window(cx, WindowFunction::Hann)),
    ("", "HammingWindow", |cx| window(cx, WindowFunction::Hamming)),
    ("", "BlackmanWindow", |cx| window(cx, WindowFunction::Blackman)),
    ("", "MelWeightMatrix", |cx| {
        let dtype = dtype_attribute(cx, "output_datatype")?.unwrap_or(DType::F32);
        direct(cx, math::MelWeights { dtype }, 5)
    }),
];

fn window(cx: &mut NodeCx, kind: WindowFunction) -> Mapped {
    let dtype = dtype_attribute(cx, "output_datatype")?.unwrap_or(DType::F32);
    let periodic = cx.attrs.flag("periodic", true)?;
    direct(cx, math::Window { dtype, kind, periodic }, 1)
}
