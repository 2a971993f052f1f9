//! Ops that draw random numbers. The standard does not say which ones a seed gives: they are those of
//! [`optc_ir::ops::random`], the same in each run with one seed.

use optc_ir::ops::{math, random, tensor};
use optc_ir::{Const, Real, Value};
use optc_tensor::{DType, Tensor};

use super::cast::dtype_attribute;
use super::{Mapped, Table};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    ("", "Bernoulli", bernoulli),
    ("", "Dropout", dropout),
    ("", "Multinomial", multinomial),
    ("", "RandomNormal", |cx| random(cx, Drawn::Normal)),
    ("", "RandomNormalLike", |cx| random_like(cx, Drawn::Normal)),
    ("", "RandomUniform", |cx| random(cx, Drawn::Uniform)),
    ("", "RandomUniformLike", |cx| random_like(cx, Drawn::Uniform)),
];

/// How numbers are distributed.
#[derive(Clone, Copy)]
enum Drawn {
    Normal,
    Uniform,
}

/// What tells the node from others that draw: a hash (FNV-1a) of its name, which export keeps.
fn key(cx: &NodeCx) -> i64 {
    let hash = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    cx.loc.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, hash) as i64
}

/// The seed of a dropout is an integer, those of other ops are reals.
fn seed(cx: &NodeCx) -> Result<Real, MapError> {
    Ok(Real(match cx.node.op_type() {
        "Dropout" => cx.attrs.int_or("seed", 0)? as f32,
        _ => cx.attrs.float_or("seed", 0.0)?,
    }))
}

fn shape_of(cx: &mut NodeCx, x: Value) -> Result<Value, MapError> {
    cx.emit1(tensor::ShapeOf { start: 0, end: i64::MAX }, &[x])
}

/// Where numbers below 1, for a tensor of the shape of `x`, are below a probability: in `f64`, to which no number below
/// 1 is rounded up.
fn happens(cx: &mut NodeCx, x: Value, probability: Value) -> Result<Value, MapError> {
    let (key, seed, shape, dtype) = (key(cx), seed(cx)?, shape_of(cx, x)?, DType::F64);
    let drawn = cx.emit1(random::RandomUniform { dtype, key, seed, low: Real(0.0), high: Real(1.0) }, &[shape])?;
    let probability = cx.emit1(math::Cast { to: dtype }, &[probability])?;
    cx.emit1(math::Less {}, &[drawn, probability])
}

fn draw(cx: &mut NodeCx, drawn: Drawn, shape: Value, dtype: DType) -> Mapped {
    let (key, seed) = (key(cx), seed(cx)?);
    let real = |name: &str, default: f32| Ok::<_, MapError>(Real(cx.attrs.float_or(name, default)?));
    let result = match drawn {
        Drawn::Normal => {
            let (mean, scale) = (real("mean", 0.0)?, real("scale", 1.0)?);
            cx.emit1(random::RandomNormal { dtype, key, seed, mean, scale }, &[shape])
        }
        Drawn::Uniform => {
            let (low, high) = (real("low", 0.0)?, real("high", 1.0)?);
            cx.emit1(random::RandomUniform { dtype, key, seed, low, high }, &[shape])
        }
    };
    Ok(vec![result?])
}

fn random(cx: &mut NodeCx, drawn: Drawn) -> Mapped {
    let missing = || MapError::Invalid("attribute `shape` is missing".to_owned());
    let shape = cx.attrs.ints("shape")?.ok_or_else(missing)?;
    let shape = cx.constant(Tensor::from_slice(&[shape.len()], &shape)?);
    let dtype = dtype_attribute(cx, "dtype")?.unwrap_or(DType::F32);
    draw(cx, drawn, shape, dtype)
}

fn random_like(cx: &mut NodeCx, drawn: Drawn) -> Mapped {
    let x = cx.input(0)?;
    let of_x = cx.dtype(x)?;
    let dtype = dtype_attribute(cx, "dtype")?.unwrap_or(of_x);
    if !dtype.is_float() {
        return Err(MapError::Invalid(format!("the result would be {dtype}: give the attribute `dtype` a float")));
    }
    let shape = shape_of(cx, x)?;
    draw(cx, drawn, shape, dtype)
}

/// An element is 1 with the probability that the operand has there.
fn bernoulli(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let of_x = cx.dtype(x)?;
    let dtype = dtype_attribute(cx, "dtype")?.unwrap_or(of_x);
    let one = happens(cx, x, x)?;
    Ok(vec![if dtype == DType::Bool { one } else { cx.emit1(math::Cast { to: dtype }, &[one])? }])
}

fn multinomial(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let dtype = dtype_attribute(cx, "dtype")?.unwrap_or(DType::I32);
    let (key, seed, count) = (key(cx), seed(cx)?, cx.attrs.int_or("sample_size", 1)?);
    Ok(vec![cx.emit1(random::Multinomial { dtype, key, seed, count }, &[x])?])
}

/// Inference keeps everything, and so does training with a ratio of zero; the mask is then all true (before opset 10,
/// where it has the operand's dtype, all ones). Training drops elements at random.
fn dropout(cx: &mut NodeCx) -> Mapped {
    let x = cx.input(0)?;
    let fixed = |v: Option<Value>| v.map(|v| cx.constant_of(v).and_then(|t| t.to_f64_vec().first().copied()));
    let training = if cx.opset >= 12 { fixed(cx.optional(2)) } else { None };
    match training {
        Some(mode) if mode != Some(0.0) && fixed(cx.optional(1)) != Some(Some(0.0)) => {
            let decides = cx.optional(2).filter(|_| mode.is_none());
            return dropped(cx, x, decides);
        }
        _ => cx.attrs.ignore(&["seed", "ratio"]),
    }
    if cx.node.output.get(1).is_none_or(String::is_empty) {
        return Ok(vec![x]);
    }
    let one =
        if cx.opset >= 10 { Tensor::from_bools(&[], &[true])? } else { Tensor::from_f64(cx.dtype(x)?, &[], &[1.0])? };
    let shape = shape_of(cx, x)?;
    let mask = cx.emit1(tensor::Fill { value: Const(one) }, &[shape])?;
    Ok(vec![x, mask])
}

/// Zeros with the probability `ratio`, else `x` divided by the share that stays; and where that is. Where `decides` is
/// there and false, the ratio is 0, so that everything stays as it is.
fn dropped(cx: &mut NodeCx, x: Value, decides: Option<Value>) -> Mapped {
    let dtype = cx.dtype(x)?;
    let mut number = |v: f64| Ok::<_, MapError>(cx.constant(Tensor::from_f64(dtype, &[], &[v])?));
    let (zero, one, half) = (number(0.0)?, number(1.0)?, number(0.5)?);
    let ratio = match cx.optional(1) {
        Some(ratio) => cx.emit1(math::Cast { to: dtype }, &[ratio])?,
        None => half,
    };
    let ratio = match decides {
        Some(training) => {
            let training = cx.emit1(math::Cast { to: DType::Bool }, &[training])?;
            cx.emit1(math::Where {}, &[training, ratio, zero])?
        }
        None => ratio,
    };
    let dropped = happens(cx, x, ratio)?;
    let share = cx.emit1(math::Sub {}, &[one, ratio])?;
    let scaled = cx.emit1(math::Div {}, &[x, share])?;
    let result = cx.emit1(math::Where {}, &[dropped, zero, scaled])?;
    Ok(vec![result, cx.emit1(math::Not {}, &[dropped])?])
}
