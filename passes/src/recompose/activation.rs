//! Activations that are spelled out.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use optc_ir::ops::math::{Gelu, HardSigmoid, HardSwish, Relu, Sigmoid, Swish};
use optc_ir::{Graph, NodeId, Op, Real, Value};

use super::product::{Monomial, inner, near, plus_constant, stands_for};
use crate::matching::{operands2, producer, result, splat_of};
use crate::rewrite::Patch;

/// The product at `node`, if a product or a quotient is computed there.
fn product_at(g: &Graph, node: NodeId) -> Option<Monomial> {
    matches!(g.node(node).op, Op::Mul(_) | Op::Div(_)).then(|| Monomial::of(g, result(node)))
}

/// The patch that makes `node` an op on `x`, where that fits.
fn becomes(g: &Graph, node: NodeId, x: Value, op: impl Into<Op>) -> Option<Patch> {
    stands_for(g, x, node).then(|| Patch::replace(node, op, &[x]))
}

/// `1 / (1 + e⁻ˣ)` → `sigmoid(x)`.
pub(super) fn sigmoid(g: &Graph, node: NodeId) -> Option<Patch> {
    let below = match &g.node(node).op {
        Op::Reciprocal(_) => g.operand(node, 0)?,
        Op::Div(_) => operands2(g, node).filter(|&(one, _)| splat_of(g, one) == Some(1.0))?.1,
        _ => return None,
    };
    let (exp, Op::Exp(_)) = inner(g, plus_constant(g, below, 1.0)?)? else { return None };
    let exponent = g.operand(exp, 0)?;
    let x = match inner(g, exponent)? {
        (neg, Op::Neg(_)) => g.operand(neg, 0)?,
        (mul, Op::Mul(_)) => operands2(g, mul).filter(|&(_, c)| splat_of(g, c) == Some(-1.0))?.0,
        _ => return None,
    };
    becomes(g, node, x, Sigmoid {})
}

/// `x · (1 + erf(x / √2)) / 2` → `gelu(x)`.
pub(super) fn gelu(g: &Graph, node: NodeId) -> Option<Patch> {
    let product = product_at(g, node).filter(|p| near(p.factor, 0.5))?;
    product.pairs().into_iter().find_map(|(x, bent)| {
        let (erf, Op::Erf(_)) = inner(g, plus_constant(g, bent, 1.0)?)? else { return None };
        let scaled = Monomial::of(g, g.operand(erf, 0)?);
        near(scaled.power_of(x, 1)?, FRAC_1_SQRT_2).then_some(())?;
        becomes(g, node, x, Gelu { approximate: false })
    })
}

/// `x · (1 + tanh(√(2/π) · (x + 0.044715 x³))) / 2` → the approximate `gelu(x)`.
pub(super) fn gelu_tanh(g: &Graph, node: NodeId) -> Option<Patch> {
    let product = product_at(g, node).filter(|p| near(p.factor, 0.5))?;
    product.pairs().into_iter().find_map(|(x, bent)| {
        let (tanh, Op::Tanh(_)) = inner(g, plus_constant(g, bent, 1.0)?)? else { return None };
        let argument = Monomial::of(g, g.operand(tanh, 0)?);
        (near(argument.factor, (2.0 / PI).sqrt()) && is_bend(g, &argument.values, x)).then_some(())?;
        becomes(g, node, x, Gelu { approximate: true })
    })
}

/// Whether the product of `values` is `x + 0.044715 x³`, or `x · (1 + 0.044715 x²)`.
fn is_bend(g: &Graph, values: &[Value], x: Value) -> bool {
    let weighs = |v: Value, n: usize| Monomial::of(g, v).power_of(x, n).is_some_and(|c| near(c, 0.044715));
    match *values {
        [sum] => match inner(g, sum) {
            Some((add, Op::Add(_))) => {
                operands2(g, add).is_some_and(|(a, b)| (a == x && weighs(b, 3)) || (b == x && weighs(a, 3)))
            }
            _ => false,
        },
        [a, b] => {
            let bent = |v: Value| plus_constant(g, v, 1.0).is_some_and(|square| weighs(square, 2));
            (a == x && bent(b)) || (b == x && bent(a))
        }
        _ => false,
    }
}

/// `clip(x + 3, 0, 6) / 6` → `hard_sigmoid(x)` with a slope of 1/6.
pub(super) fn hard_sigmoid(g: &Graph, node: NodeId) -> Option<Patch> {
    let product = product_at(g, node).filter(|p| near(p.factor, 1.0 / 6.0))?;
    let x = match product.values[..] {
        [clipped] => plus_constant(g, clipped_to_six(g, clipped)?, 3.0)?,
        _ => return None,
    };
    becomes(g, node, x, HardSigmoid { alpha: Real(1.0 / 6.0), beta: Real(0.5) })
}

/// `x · clip(x + 3, 0, 6) / 6` and `x · hard_sigmoid(x)` with a slope of 1/6 → `hard_swish(x)`.
pub(super) fn hard_swish(g: &Graph, node: NodeId) -> Option<Patch> {
    let product = product_at(g, node)?;
    product.pairs().into_iter().find_map(|(x, gate)| {
        let whole = match inner(g, gate)? {
            (hard, Op::HardSigmoid(op)) => {
                let slope = near(f64::from(op.alpha.0), 1.0 / 6.0) && near(f64::from(op.beta.0), 0.5);
                slope && near(product.factor, 1.0) && g.operand(hard, 0) == Some(x)
            }
            _ => near(product.factor, 1.0 / 6.0) && plus_constant(g, clipped_to_six(g, gate)?, 3.0) == Some(x),
        };
        whole.then_some(())?;
        becomes(g, node, x, HardSwish {})
    })
}

/// What is clipped to 0..6: by one op, or by a minimum and a ReLU.
fn clipped_to_six(g: &Graph, v: Value) -> Option<Value> {
    let (node, op) = inner(g, v)?;
    let bound = |slot: usize| g.operand(node, slot).and_then(|b| splat_of(g, b));
    match op {
        Op::Clip(_) => (bound(1) == Some(0.0) && bound(2) == Some(6.0)).then(|| g.operand(node, 0))?,
        Op::Min(_) if bound(1) == Some(6.0) => {
            let (relu, _) = producer::<Relu>(g, g.operand(node, 0)?)?;
            g.operand(relu, 0)
        }
        _ => None,
    }
}

/// `x · sigmoid(alpha · x)` → `swish(x)`.
pub(super) fn swish(g: &Graph, node: NodeId) -> Option<Patch> {
    let product = product_at(g, node).filter(|p| p.factor == 1.0)?;
    product.pairs().into_iter().find_map(|(x, gate)| {
        let (sigmoid, Op::Sigmoid(_)) = inner(g, gate)? else { return None };
        let argument = g.operand(sigmoid, 0)?;
        let alpha = if argument == x { 1.0 } else { Monomial::of(g, argument).power_of(x, 1)? };
        becomes(g, node, x, Swish { alpha: Real(alpha as f32) })
    })
}
