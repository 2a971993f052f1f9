//! Ops that move elements.

use optc_ir::NodeId;
use optc_ir::ops::tensor::{Concat, Expand, Gather, Pad, PadMode, Slice, Split, Transpose};
use optc_tensor::{DType, Tensor};

use super::Maker;

fn shape(m: &mut Maker) -> Vec<usize> {
    let rank = 1 + m.few(3);
    let long = m.random.below(rank);
    (0..rank).map(|d| if d == long { m.extent() } else { m.few(9) }).collect()
}

fn ints(m: &mut Maker, values: &[i64]) -> Option<optc_ir::Value> {
    let t = Tensor::from_slice(&[values.len()], values).ok()?;
    Some(m.constant_of(t))
}

/// Elements of one to eight bytes.
fn of_any_width(m: &mut Maker, shape: &[usize]) -> optc_ir::Value {
    let dtype = m.random.pick(&[DType::F32, DType::F32, DType::U8, DType::F16, DType::I64]);
    let values: Vec<i64> = (0..shape.iter().product()).map(|_| m.random.below(100) as i64).collect();
    let t = Tensor::from_i64(dtype, shape, &values).expect("as many values as the shape has");
    m.input_of(t)
}

pub(super) fn movement(m: &mut Maker) -> Option<NodeId> {
    let shape = shape(m);
    let (x, rank) = (of_any_width(m, &shape), shape.len());
    let axis = m.random.below(rank);
    match m.random.below(6) {
        0 => {
            let mut perm: Vec<i64> = (0..rank as i64).collect();
            (1..rank).for_each(|i| perm.swap(i, m.random.below(i + 1)));
            m.op(Transpose { perm }, &[Some(x)])
        }
        1 => m.op(Concat { axis: axis as i64 }, &[Some(x), Some(x), Some(x)]),
        2 => {
            let n = shape[axis];
            let (from, to) = (m.random.below(n), 1 + m.random.below(n));
            let step = m.few(3) as i64;
            let (starts, ends, steps) = match (from < to, m.once_in(2)) {
                (true, false) => (from as i64, to as i64, step),
                // Backwards; the end is not part of it.
                (true, true) => (to as i64 - 1, from as i64 - 1 - n as i64, -step),
                (false, _) => (0, n as i64, step),
            };
            let (starts, ends) = (ints(m, &[starts])?, ints(m, &[if ends < -(n as i64) { i64::MIN } else { ends }])?);
            let (axes, steps) = (ints(m, &[axis as i64])?, ints(m, &[steps])?);
            m.op(Slice {}, &[Some(x), Some(starts), Some(ends), Some(axes), Some(steps)])
        }
        3 => {
            let mode = m.random.pick(&[PadMode::Constant, PadMode::Edge, PadMode::Reflect, PadMode::Wrap]);
            let pads = (0..2 * rank).map(|_| m.random.below(3) as i64).collect();
            m.op(Pad { mode, pads }, &[Some(x)])
        }
        4 => {
            let thin: Vec<usize> = shape.iter().map(|&n| if m.once_in(2) { 1 } else { n }).collect();
            let (x, to) = (of_any_width(m, &thin), shape.iter().map(|&n| n as i64).collect::<Vec<_>>());
            let to = ints(m, &to)?;
            m.op(Expand {}, &[Some(x), Some(to)])
        }
        _ => {
            let first = m.few(shape[axis]) as i64;
            let rest = shape[axis] as i64 - first;
            let sizes = if rest > 0 { vec![first, rest] } else { vec![first] };
            m.op(Split { axis: axis as i64, parts: 0, sizes }, &[Some(x)])
        }
    }
}

pub(super) fn gather(m: &mut Maker) -> Option<NodeId> {
    let shape = shape(m);
    let axis = m.random.below(shape.len());
    let n = shape[axis];
    let dtype = m.random.pick(&[DType::I64, DType::I32]);
    let at = [m.few(9), m.few(3)];
    // Negative indices count from the end.
    let one = |m: &mut Maker| m.random.below(2 * n) as i64 - n as i64;
    let values: Vec<i64> = (0..at.iter().product()).map(|_| one(m)).collect();
    let indices = Tensor::from_i64(dtype, &at, &values).ok()?;
    let indices = if m.once_in(2) { m.input_of(indices) } else { m.constant_of(indices) };
    let x = m.either(&shape);
    m.op(Gather { axis: axis as i64 }, &[Some(x), Some(indices)])
}
