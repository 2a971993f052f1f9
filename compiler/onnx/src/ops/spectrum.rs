//! Window functions and the weights of the mel scale.

use optc_ir::ops::math;
use optc_tensor::DType;

use super::cast::dtype_attribute;
use super::{Mapped, Table, direct};
use crate::mapping::NodeCx;

pub(crate) const TABLE: Table = &[
    ("", "HannWindow", |cx| window(cx, "hann")),
    ("", "HammingWindow", |cx| window(cx, "hamming")),
    ("", "BlackmanWindow", |cx| window(cx, "blackman")),
    ("", "MelWeightMatrix", |cx| {
        let dtype = dtype_attribute(cx, "output_datatype")?.unwrap_or(DType::F32);
        direct(cx, math::MelWeights { dtype }, 5)
    }),
];

fn window(cx: &mut NodeCx, kind: &str) -> Mapped {
    let dtype = dtype_attribute(cx, "output_datatype")?.unwrap_or(DType::F32);
    let periodic = cx.attrs.flag("periodic", true)?;
    direct(cx, math::Window { dtype, kind: kind.to_owned(), periodic }, 1)
}
