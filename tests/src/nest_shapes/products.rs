//! Products of reals.

use optc_ir::ops::math::{Einsum, MatMul};
use optc_ir::ops::nn::{Conv, ConvTranspose, Gemm};
use optc_ir::{NodeId, Real};
use optc_tensor::{DType, Tensor};

use super::{Maker, attributes, images, kernels, sizes};

/// Mostly `f32`; with products in bfloat16 no pass may scale what is rounded.
pub(super) fn precision(m: &mut Maker) -> DType {
    if !m.once_in(4) {
        return DType::F32;
    }
    m.passes = Some(m.random.pick(&["", "fuse"]));
    m.rounds = m.once_in(2);
    DType::BF16
}

pub(super) fn matmul(m: &mut Maker) -> Option<NodeId> {
    let (rows, k, columns) = (m.extent(), m.extent(), m.extent());
    let batch: &[usize] = m.random.pick(&[&[][..], &[2], &[3], &[2, 2]]);
    let mut left = [batch, &[rows, k]].concat();
    let mut right = if m.once_in(2) { vec![k, columns] } else { [batch, &[k, columns]].concat() };
    match m.random.below(8) {
        // A vector on one side.
        0 => left = vec![k],
        1 => right = vec![k],
        _ => {}
    }
    let precision = precision(m);
    let (a, b) = (m.factor(&left, precision), m.either(&right));
    m.op(MatMul { precision }, &[Some(a), Some(b)])
}

pub(super) fn gemm(m: &mut Maker) -> Option<NodeId> {
    let (rows, k, columns) = (m.extent(), m.extent(), m.extent());
    let (trans_a, trans_b) = (m.once_in(4), m.once_in(2));
    let turned = |turn: bool, of: [usize; 2]| if turn { [of[1], of[0]] } else { of };
    let precision = precision(m);
    let a = m.factor(&turned(trans_a, [rows, k]), precision);
    let b = m.either(&turned(trans_b, [k, columns]));
    let c = match m.random.below(4) {
        0 => None,
        1 => Some(m.either(&[rows, columns])),
        2 => Some(m.either(&[rows, 1])),
        _ => Some(m.either(&[columns])),
    };
    let factor = |m: &mut Maker| Real(if m.once_in(3) { 0.5 } else { 1.0 });
    let (alpha, beta) = (factor(m), factor(m));
    m.op(Gemm { alpha, beta, precision, trans_a, trans_b }, &[Some(a), Some(b), c])
}

/// A convolution in a precision whose weights `weights` makes.
fn convolution(m: &mut Maker, precision: DType, weights: fn(&mut Maker, &[usize]) -> optc_ir::Value) -> Option<NodeId> {
    let axes = m.random.pick(&[1, 2, 2, 2, 3]);
    let windows = m.sliding(axes);
    let groups = if m.once_in(4) { m.few(3) } else { 1 };
    let (inputs, filters) = if m.once_in(2) { (m.extent(), m.extent()) } else { (m.few(5), m.few(9)) };
    let shape = images(m, groups * inputs, &windows);
    let x = m.factor(&shape, precision);
    let w = weights(m, &[&[groups * filters, inputs][..], &kernels(&windows)].concat());
    let bias = m.once_in(2).then(|| m.constant(&[groups * filters]));
    let (dilations, pads, strides) = attributes(&windows);
    m.op(Conv { dilations, groups: groups as i64, pads, precision, strides }, &[Some(x), Some(w), bias])
}

pub(super) fn conv(m: &mut Maker) -> Option<NodeId> {
    let precision = precision(m);
    convolution(m, precision, |m, shape| m.constant(shape))
}

pub(super) fn computed_conv(m: &mut Maker) -> Option<NodeId> {
    // In bfloat16 there is no kernel for them.
    let precision = if m.once_in(2) { precision(m) } else { DType::F32 };
    convolution(m, precision, |m, shape| m.input(shape))
}

pub(super) fn conv_transpose(m: &mut Maker) -> Option<NodeId> {
    let axes = m.random.pick(&[1, 2, 2]);
    let mut windows = m.sliding(axes);
    for w in &mut windows {
        w.size = w.size.min(9);
    }
    let groups = if m.once_in(4) { 2 } else { 1 };
    let (inputs, filters) = (m.few(17), m.few(17));
    let shape = images(m, groups * inputs, &windows);
    let x = m.input(&shape);
    let w = m.constant(&[&[groups * inputs, filters][..], &kernels(&windows)].concat());
    let bias = m.once_in(2).then(|| m.constant(&[groups * filters]));
    let (dilations, pads, strides) = attributes(&windows);
    let output_padding =
        if m.once_in(2) { vec![] } else { strides.iter().map(|&s| m.random.below(s as usize) as i64).collect() };
    m.op(ConvTranspose { dilations, groups: groups as i64, output_padding, pads, strides }, &[Some(x), Some(w), bias])
}

/// A convolution or a product whose constant weights have blocks of zeros.
pub(super) fn sparse(m: &mut Maker) -> Option<NodeId> {
    m.passes = Some("to-bcsr{margin=1000},assign-layout{to=nhwc},fuse");
    let (block, keep) = (m.random.pick(&[1, 2, 4]), m.random.pick(&[3, 5, 12]));
    let (filters, inputs) = (m.extent(), m.extent());
    let windows = m.sliding(2);
    let pointwise = m.once_in(2);
    let taps = if pointwise { vec![1, 1] } else { kernels(&windows) };
    let shape = [&[filters, inputs][..], &taps].concat();
    let columns = shape[1..].iter().product::<usize>();
    let kept: Vec<bool> = (0..filters.div_ceil(block) * columns).map(|_| m.once_in(keep)).collect();
    let values = m.floats(&shape).to_f64_vec();
    let pruned = values
        .iter()
        .enumerate()
        .map(|(i, &v)| if kept[i / columns / block * columns + i % columns] { v as f32 } else { 0.0 });
    let w = Tensor::from_slice(&shape, &pruned.collect::<Vec<_>>()).ok()?;
    let (x, w) = (m.input(&[&[1, inputs][..], &sizes(&windows)].concat()), m.constant_of(w));
    let bias = m.once_in(2).then(|| m.constant(&[filters]));
    let (dilations, pads, strides) = attributes(&windows);
    let (dilations, pads, strides) = if pointwise { Default::default() } else { (dilations, pads, strides) };
    m.op(Conv { dilations, groups: 1, pads, precision: DType::F32, strides }, &[Some(x), Some(w), bias])
}

/// Einstein sums of one to three operands over labels that are drawn: diagonals, traces, extents of 1 that broadcast,
/// `...` and results that are not said among them.
pub(super) fn einsum(m: &mut Maker) -> Option<NodeId> {
    let letters = ['a', 'b', 'c', 'd', 'e'];
    let extents: Vec<usize> = letters.iter().map(|_| if m.once_in(3) { m.extent() } else { m.few(5) }).collect();
    let count = m.random.pick(&[1, 2, 2, 2, 3]);
    let rest: Vec<usize> = (0..m.random.pick(&[0, 0, 0, 1, 2])).map(|_| m.few(3)).collect();
    // The interpreter looks at each combination of indices.
    if extents.iter().chain(&rest).product::<usize>() > 200_000 {
        return None;
    }
    let (mut terms, mut operands, mut used) = (vec![], vec![], vec![]);
    for _ in 0..count {
        let labels: Vec<usize> = (0..m.few(4)).map(|_| m.random.below(letters.len())).collect();
        // A label whose extent is 1 in an operand is so everywhere in it.
        let own: Vec<usize> = extents.iter().map(|&n| if m.once_in(8) { 1 } else { n }).collect();
        let dots = if rest.is_empty() || m.once_in(4) { 0 } else { m.random.below(rest.len() + 1) };
        let lead = rest[rest.len() - dots..].iter().map(|&n| if m.once_in(6) { 1 } else { n });
        let shape: Vec<usize> = lead.chain(labels.iter().map(|&l| own[l])).collect();
        let written: String = labels.iter().map(|&l| letters[l]).collect();
        terms.push(if rest.is_empty() { written } else { format!("...{written}") });
        used.extend(labels);
        operands.push(Some(m.either(&shape)));
    }
    used.sort_unstable();
    used.dedup();
    let mut kept: Vec<usize> = used.into_iter().filter(|_| !m.once_in(3)).collect();
    for i in (1..kept.len()).rev() {
        kept.swap(i, m.random.below(i + 1));
    }
    let result: String = kept.iter().map(|&l| letters[l]).collect();
    let dots = if rest.is_empty() { "" } else { "..." };
    let right = if m.once_in(5) { String::new() } else { format!("->{dots}{result}") };
    m.passes = Some(m.random.pick(&["decompose", "O1", "O2"]));
    m.op(Einsum { equation: terms.join(",") + &right }, &operands)
}
