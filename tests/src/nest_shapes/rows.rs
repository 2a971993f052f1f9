//! Reductions, softmax and normalisations along any axes, and elementwise ops.

use optc_ir::ops::math::*;
use optc_ir::ops::nn::{GroupNorm, LayerNorm, RmsNorm, Softmax};
use optc_ir::{NodeId, Op, Real};

use super::Maker;

/// A shape of one to four axes.
fn shape(m: &mut Maker) -> Vec<usize> {
    let rank = m.few(4);
    let long = m.random.below(rank);
    (0..rank)
        .map(|d| if d == long || rank < 3 { m.extent() * if m.once_in(4) { 5 } else { 1 } } else { m.few(6) })
        .collect()
}

pub(super) fn reduce(m: &mut Maker) -> Option<NodeId> {
    let shape = shape(m);
    let kind = m.random.pick(&[
        ReduceKind::Sum,
        ReduceKind::Mean,
        ReduceKind::Max,
        ReduceKind::Min,
        ReduceKind::Prod,
        ReduceKind::L1,
        ReduceKind::L2,
        ReduceKind::SumSquare,
        ReduceKind::LogSumExp,
    ]);
    let mut axes: Vec<i64> = (0..shape.len() as i64).filter(|_| m.once_in(2)).collect();
    if axes.is_empty() {
        axes.push(m.random.below(shape.len()) as i64);
    }
    let x = m.input(&shape);
    let keep_dims = m.once_in(2);
    m.op(Reduce { all_if_empty: false, kind, axes, keep_dims }, &[Some(x)])
}

pub(super) fn softmax(m: &mut Maker) -> Option<NodeId> {
    let shape = shape(m);
    let axis = m.random.below(shape.len()) as i64;
    let x = m.input(&shape);
    let log = m.once_in(3);
    m.op(Softmax { axis, log }, &[Some(x)])
}

pub(super) fn norm(m: &mut Maker) -> Option<NodeId> {
    let shape = shape(m);
    let x = m.input(&shape);
    let axis = m.random.below(shape.len());
    let epsilon = Real(1e-3);
    match m.random.below(3) {
        0 => {
            let (scale, bias) = (m.constant(&shape[axis..]), m.constant(&shape[axis..]));
            m.op(LayerNorm { axis: axis as i64, epsilon }, &[Some(x), Some(scale), Some(bias)])
        }
        1 => {
            let scale = m.constant(&shape[axis..]);
            m.op(RmsNorm { axis: axis as i64, epsilon }, &[Some(x), Some(scale)])
        }
        _ => {
            let (groups, each) = (m.few(4), m.few(5));
            let shape = [m.few(2), groups * each, m.few(9), m.few(9)];
            let x = m.input(&shape);
            let (scale, bias) = (m.constant(&[groups * each]), m.constant(&[groups * each]));
            m.op(GroupNorm { epsilon, groups: groups as i64 }, &[Some(x), Some(scale), Some(bias)])
        }
    }
}

pub(super) fn elementwise(m: &mut Maker) -> Option<NodeId> {
    let shape = shape(m);
    // Some axes of the other operand are 1, and some in front are absent.
    let skipped = m.random.below(shape.len() + 1);
    let other: Vec<usize> = shape[skipped..].iter().map(|&n| if m.once_in(3) { 1 } else { n }).collect();
    let (x, y) = (m.input(&shape), m.either(&other));
    let two: [Op; 5] = [Add {}.into(), Sub {}.into(), Mul {}.into(), Max {}.into(), Min {}.into()];
    let one: [Op; 13] = [
        Relu {}.into(),
        Sigmoid {}.into(),
        Tanh {}.into(),
        Exp {}.into(),
        Erf {}.into(),
        Abs {}.into(),
        Floor {}.into(),
        Atan {}.into(),
        Asinh {}.into(),
        Sinh {}.into(),
        Cosh {}.into(),
        HardSwish {}.into(),
        Gelu { approximate: m.once_in(2) }.into(),
    ];
    if m.once_in(2) {
        let op = two[m.random.below(two.len())].clone();
        return m.op(op, &[Some(x), Some(y)]);
    }
    let op = one[m.random.below(one.len())].clone();
    m.op(op, &[Some(x)])
}
