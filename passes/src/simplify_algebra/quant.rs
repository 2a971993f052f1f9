//! Rules on quantizations with one scale: pairs that agree go away, and what stands between them computes with
//! integers.
//!
//! - `quantize(dequantize(q)) = q`, where scale, zero point and dtype agree; other pairs round, and are what they are.
//! - `quantize(relu(x)) = max(quantize(x), zero)` and `relu(dequantize(q)) = dequantize(max(q, zero))`; where the zero
//!   point is the least integer the maximum goes too.
//! - `dequantize(q, s) · c = dequantize(q, s · c)` for a scalar.
//! - The largest under a window, and of two values of one scale, is the largest of the integers, which `quantize` and
//!   `dequantize` keep in order.
//!
//! Transposes and reshapes pass them like any other elementwise op. NaN, which becomes the least integer, becomes the
//! zero point after a `relu`.

use egg::Id;
use optc_ir::Op;
use optc_ir::ops::math::{Max, Mul};
use optc_ir::ops::quant::{Dequantize, Quantize};
use optc_tensor::DType;

use super::spelling::{TermSpelling, class, is_scalar, op, ops};
use super::terms::{AlgebraGraph, Head};

/// A scale, a zero point and the dtype of the integers.
#[derive(Clone, Copy, PartialEq)]
struct Parameters {
    scale: f32,
    zero: i64,
    dtype: DType,
}

impl Parameters {
    /// Of an op with these children, where they are constant scalars and all integers have reals of their own.
    fn of(g: &AlgebraGraph, children: &[Id], dtype: DType) -> Option<Parameters> {
        let scale = scalar(g, *children.get(1)?)? as f32;
        let zero = children.get(2).map_or(Some(0.0), |&zero| scalar(g, zero))? as i64;
        let usable = scale >= f32::MIN_POSITIVE && (scale * 256.0).is_finite();
        (usable && matches!(dtype, DType::U8 | DType::I8)).then_some(Parameters { scale, zero, dtype })
    }
}

/// The value of a class that is a scalar constant.
fn scalar(g: &AlgebraGraph, class: Id) -> Option<f64> {
    g[class].nodes.iter().find_map(|term| match &g.analysis.heads[term.head] {
        Head::Leaf(value) => g.analysis.scalars.get(value).copied(),
        Head::Op(_) | Head::Reshape(_) => None,
    })
}

fn dtype(g: &AlgebraGraph, class: Id) -> Option<DType> {
    Some(g[class].data.ty.as_ref()?.dtype)
}

/// What one rule each shows to be equal to an op on these children.
pub(super) fn equal(g: &AlgebraGraph, outer: &Op, children: &[Id]) -> Vec<TermSpelling> {
    match outer {
        Op::Quantize(q) => quantize(g, q, children),
        Op::Relu(_) => dequantized(g, children[0], at_least_zero),
        Op::Pool(_) => dequantized(g, children[0], |q, _, _| Some(op(outer.clone(), vec![class(q)]))),
        Op::Max(_) | Op::Min(_) => {
            let mut found = bounded(g, outer, children).into_iter().collect::<Vec<_>>();
            found.extend(extremum(g, outer, children));
            found
        }
        _ => vec![],
    }
}

/// `max(q, zero)`.
fn at_least_zero(q: Id, zero: Option<Id>, p: Parameters) -> Option<TermSpelling> {
    if p.dtype == DType::U8 && p.zero == 0 {
        return Some(class(q));
    }
    Some(op(Max {}, vec![class(q), class(zero?)]))
}

fn plain_dequantize(op: &Op) -> Option<&Dequantize> {
    if let Op::Dequantize(d) = op { Some(d).filter(|d| d.block == 0 && d.to == DType::F32) } else { None }
}

/// `f(dequantize(q))` → `dequantize(f(q))`.
fn dequantized(
    g: &AlgebraGraph,
    x: Id,
    f: impl Fn(Id, Option<Id>, Parameters) -> Option<TermSpelling>,
) -> Vec<TermSpelling> {
    let found = ops(g, x, |inner, operands| {
        plain_dequantize(inner)?;
        let p = Parameters::of(g, operands, dtype(g, operands[0])?)?;
        let integers = f(operands[0], operands.get(2).copied(), p)?;
        let rest = operands[1..].iter().map(|&c| class(c));
        Some(op(inner.clone(), [integers].into_iter().chain(rest).collect()))
    });
    found.collect()
}

/// Dequantized integers times a scalar → dequantized with scales that are multiplied: weights stay as they are stored.
pub(super) fn scaled(g: &AlgebraGraph, x: Id, by: Id) -> Vec<TermSpelling> {
    if !is_scalar(g, by, 0) {
        return vec![];
    }
    let found = ops(g, x, |inner, operands| {
        plain_dequantize(inner)?;
        let &[q, scale, ref zero @ ..] = operands else { return None };
        let scales = op(Mul {}, vec![class(scale), class(by)]);
        Some(op(inner.clone(), [class(q), scales].into_iter().chain(zero.iter().map(|&c| class(c))).collect()))
    });
    found.collect()
}

/// What a quantization of class `children[0]` is.
fn quantize(g: &AlgebraGraph, q: &Quantize, children: &[Id]) -> Vec<TermSpelling> {
    let real = dtype(g, children[0]) == Some(DType::F32);
    let Some(to) = Parameters::of(g, children, q.to).filter(|_| real && q.block == 0 && q.precision == DType::F32)
    else {
        return vec![];
    };
    let quantized = |x: Id| {
        let rest = children[1..].iter().map(|&c| class(c));
        op(q.clone(), [class(x)].into_iter().chain(rest).collect())
    };
    let found = ops(g, children[0], |inner, operands| match inner {
        Op::Dequantize(_) => {
            plain_dequantize(inner)?;
            let from = Parameters::of(g, operands, dtype(g, operands[0])?)?;
            (from == to).then(|| class(operands[0]))
        }
        Op::Relu(_) if to.dtype == DType::U8 && to.zero == 0 => Some(quantized(operands[0])),
        Op::Relu(_) => Some(op(Max {}, vec![quantized(operands[0]), class(*children.get(2)?)])),
        Op::Pool(_) => Some(op(inner.clone(), vec![quantized(operands[0])])),
        _ => None,
    });
    found.collect()
}

/// An extremum of dequantized integers of one scale → of the integers.
fn extremum(g: &AlgebraGraph, outer: &Op, children: &[Id]) -> Option<TermSpelling> {
    let &[a, b] = children else { return None };
    let sides = |side: Id| {
        ops(g, side, |inner, operands| {
            plain_dequantize(inner)?;
            Some((inner, operands, Parameters::of(g, operands, dtype(g, operands[0])?)?))
        })
    };
    let (inner, x, p) = sides(a).next()?;
    let (_, y, _) = sides(b).find(|(.., other)| *other == p)?;
    let largest = op(outer.clone(), vec![class(x[0]), class(y[0])]);
    let rest = x[1..].iter().map(|&c| class(c));
    Some(op(inner.clone(), [largest].into_iter().chain(rest).collect()))
}

/// `max(q, least)` → `q`, and `min(q, largest)`.
fn bounded(g: &AlgebraGraph, outer: &Op, children: &[Id]) -> Option<TermSpelling> {
    let &[q, bound] = children else { return None };
    let (least, largest) = dtype(g, q).filter(|d| matches!(d, DType::U8 | DType::I8))?.int_range()?;
    let own = if matches!(outer, Op::Max(_)) { least } else { largest };
    let same = is_scalar(g, bound, 0) && scalar(g, bound) == Some(own as f64);
    same.then(|| class(q))
}
