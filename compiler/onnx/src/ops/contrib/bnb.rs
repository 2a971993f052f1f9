//! Products with weights of 4 bits that are places in a table of numbers.

use optc_ir::ops::math;
use optc_tensor::{DType, Tensor};

use super::MICROSOFT;
use super::blocks::{constant_bytes, extent};
use crate::mapping::{MapError, NodeCx};
use crate::ops::{Mapped, Table};

pub(crate) const TABLE: Table = &[(MICROSOFT, "MatMulBnb4", matmul)];

/// The positive floats of 4 bits, in the order of their bits: each is a third or more of 1.
const FP4: [f32; 8] = [0.0, 0.005_208_333_5, 0.666_666_7, 1.0, 0.333_333_34, 0.5, 0.166_666_67, 0.25];

/// The means of sixteen equal parts of a normal distribution (Dettmers et al. 2023), so that zero is one of them.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// `a · wᵀ`, where the elements of `w: [n, k]` follow each other in blocks with a scale each, the first of two in the
/// upper half of a byte. The weights become a constant.
fn matmul(cx: &mut NodeCx) -> Mapped {
    cx.attrs.ignore(&["training_mode"]); // it says what is kept for the gradient
    let (k, n, block) = (extent(cx, "K")?, extent(cx, "N")?, extent(cx, "block_size")?);
    let number = match cx.attrs.int_or("quant_type", -1)? {
        0 => |code: u8| if code < 8 { FP4[usize::from(code)] } else { -FP4[usize::from(code - 8)] },
        1 => |code: u8| NF4[usize::from(code)],
        other => return Err(MapError::Invalid(format!("`quant_type` is {other}, expected 0 or 1"))),
    };
    let turned = !cx.attrs.flag("transB", true)?;
    let (a, b, scales) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let bytes = constant_bytes(cx, b, "B", (n * k).div_ceil(2))?;
    let open = || MapError::Unsupported("`absmax` is supported only as an initializer".into());
    let scales = cx.constant_of(scales).ok_or_else(open)?;
    let (dtype, scales) = (scales.dtype(), scales.to_f64_vec());
    if scales.len() != (n * k).div_ceil(block) {
        return Err(MapError::Invalid(format!("`absmax` has {} elements for {n}·{k} in blocks", scales.len())));
    }
    let (rows, columns) = if turned { (n, k) } else { (k, n) };
    let mut weights = vec![0f32; n * k];
    for i in 0..n * k {
        let code = bytes.bytes()[i / 2] >> (4 * (1 - i % 2)) & 15;
        let to = if turned { i } else { i % k * n + i / k };
        weights[to] = number(code) * scales[i / block] as f32;
    }
    let weights = cx.constant(Tensor::from_slice(&[rows, columns], &weights)?);
    let weights = if dtype == DType::F32 { weights } else { cx.emit1(math::Cast { to: dtype }, &[weights])? };
    Ok(vec![cx.emit1(math::MatMul::default(), &[a, weights])?])
}
