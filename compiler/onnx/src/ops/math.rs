//! Elementwise arithmetic, comparison and logic, and `Constant`.

use optc_ir::ops::math;
use optc_ir::{Op, Real};
use optc_tensor::Tensor;

use super::{Mapped, Table};
use crate::import::{MapError, NodeCx};

/// A row for an op that maps to one IR op without attributes.
macro_rules! plain {
    ($onnx:literal, $Op:ident, $arity:literal) => {
        ("", $onnx, |cx| same(cx, math::$Op {}.into(), $arity))
    };
}

pub(crate) const TABLE: Table = &[
    ("", "Constant", constant),
    ("", "Identity", identity),
    ("", "Dropout", dropout),
    plain!("Abs", Abs, 1),
    plain!("Neg", Neg, 1),
    plain!("Exp", Exp, 1),
    plain!("Log", Log, 1),
    plain!("Sqrt", Sqrt, 1),
    plain!("Reciprocal", Reciprocal, 1),
    plain!("Erf", Erf, 1),
    plain!("Tanh", Tanh, 1),
    plain!("Sigmoid", Sigmoid, 1),
    plain!("Relu", Relu, 1),
    plain!("Floor", Floor, 1),
    plain!("Ceil", Ceil, 1),
    plain!("Round", Round, 1),
    plain!("Sign", Sign, 1),
    plain!("Sin", Sin, 1),
    plain!("Cos", Cos, 1),
    plain!("Softplus", Softplus, 1),
    plain!("Softsign", Softsign, 1),
    plain!("HardSwish", HardSwish, 1),
    plain!("Mish", Mish, 1),
    plain!("Not", Not, 1),
    plain!("Add", Add, 2),
    plain!("Sub", Sub, 2),
    plain!("Mul", Mul, 2),
    plain!("Div", Div, 2),
    plain!("And", And, 2),
    plain!("Or", Or, 2),
    plain!("Xor", Xor, 2),
    plain!("Equal", Equal, 2),
    plain!("Less", Less, 2),
    plain!("Greater", Greater, 2),
    plain!("LessOrEqual", LessEqual, 2),
    plain!("GreaterOrEqual", GreaterEqual, 2),
    plain!("Where", Where, 3),
    ("", "LeakyRelu", |cx| {
        let alpha = Real(cx.attrs.float_or("alpha", 0.01)?);
        same(cx, math::LeakyRelu { alpha }.into(), 1)
    }),
    ("", "Elu", |cx| {
        let alpha = Real(cx.attrs.float_or("alpha", 1.0)?);
        same(cx, math::Elu { alpha }.into(), 1)
    }),
    ("", "HardSigmoid", |cx| {
        let (alpha, beta) = (Real(cx.attrs.float_or("alpha", 0.2)?), Real(cx.attrs.float_or("beta", 0.5)?));
        same(cx, math::HardSigmoid { alpha, beta }.into(), 1)
    }),
    ("", "Min", |cx| fold(cx, math::Min {}.into())),
    ("", "Max", |cx| fold(cx, math::Max {}.into())),
    ("", "Sum", |cx| fold(cx, math::Add {}.into())),
    ("", "Clip", clip),
];

/// The op on the node's first `arity` inputs; a node with more inputs is refused.
fn same(cx: &mut NodeCx, op: Op, arity: usize) -> Mapped {
    if cx.inputs.len() > arity {
        return Err(MapError::Invalid(format!("the node has {} inputs, expected {arity}", cx.inputs.len())));
    }
    let operands = (0..arity).map(|i| cx.input(i)).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![cx.emit1(op, &operands)?])
}

/// A variadic op as a chain of a binary one, from the left.
fn fold(cx: &mut NodeCx, op: Op) -> Mapped {
    let mut value = cx.input(0)?;
    for i in 1..cx.inputs.len() {
        let next = cx.input(i)?;
        value = cx.emit1(op.clone(), &[value, next])?;
    }
    Ok(vec![value])
}

fn constant(cx: &mut NodeCx) -> Mapped {
    let tensor = cx.constant_attribute()?;
    Ok(vec![cx.constant(tensor)])
}

fn identity(cx: &mut NodeCx) -> Mapped {
    Ok(vec![cx.input(0)?])
}

/// Inference keeps everything; the mask output and training mode are not supported.
fn dropout(cx: &mut NodeCx) -> Mapped {
    cx.attrs.ignore(&["ratio", "seed"]);
    let training = cx.optional(2);
    let off = training.is_none_or(|v| cx.constant_of(v).is_some_and(|t| t.to_i64_vec() == [0]));
    if !off || cx.node.output.get(1).is_some_and(|name| !name.is_empty()) {
        return Err(MapError::Unsupported("Dropout in training mode or with a mask is not supported".to_owned()));
    }
    let x = cx.input(0)?;
    Ok(vec![x; cx.node.output.len().max(1)])
}

/// Before opset 11 the bounds are attributes, since then inputs.
fn clip(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let (mut low, mut high) = (cx.optional(1), cx.optional(2));
    if cx.opset < 11 {
        let dtype = cx.dtype(x)?;
        for (name, bound) in [("min", &mut low), ("max", &mut high)] {
            if let Some(v) = cx.attrs.float(name)? {
                *bound = Some(cx.constant(Tensor::from_f64(dtype, &[], &[v as f64])?));
            }
        }
    }
    cx.emit(math::Clip {}, &[Some(x), low, high])
}
