//! `ai.onnx.preview.training`: one step of an optimizer is plain arithmetic on the parameters.
//!
//! The inputs are the rate `R`, the number `T` of steps so far, and groups of equally many tensors: the parameters `X`,
//! their gradients `G`, and the optimizer's state.

use optc_ir::Value;
use optc_ir::ops::math;
use optc_tensor::{DType, Tensor};

use super::{Mapped, Table};
use crate::mapping::{MapError, NodeCx};

pub(crate) const TABLE: Table = &[
    ("ai.onnx.preview.training", "Adagrad", adagrad),
    ("ai.onnx.preview.training", "Adam", adam),
    ("ai.onnx.preview.training", "Momentum", momentum),
];

/// A node's inputs after the rate and the step, in `groups` of equal length: one array a parameter.
fn grouped<const GROUPS: usize>(cx: &NodeCx) -> Result<Vec<[Value; GROUPS]>, MapError> {
    let count = cx.inputs.len().saturating_sub(2);
    if count == 0 || !count.is_multiple_of(GROUPS) {
        return Err(MapError::Invalid(format!("{count} tensors do not make {GROUPS} groups")));
    }
    let n = count / GROUPS;
    let mut parameters = vec![];
    for i in 0..n {
        let mut group = [cx.input(2 + i)?; GROUPS];
        for (k, value) in group.iter_mut().enumerate() {
            *value = cx.input(2 + k * n + i)?;
        }
        parameters.push(group);
    }
    Ok(parameters)
}

/// Arithmetic in one dtype.
struct Arithmetic<'a, 'b> {
    cx: &'a mut NodeCx<'b>,
    dtype: DType,
}

impl Arithmetic<'_, '_> {
    fn number(&mut self, v: f32) -> Result<Value, MapError> {
        let t = Tensor::from_f64(self.dtype, &[], &[f64::from(v)])?;
        Ok(self.cx.constant(t))
    }
    fn add(&mut self, a: Value, b: Value) -> Result<Value, MapError> {
        self.cx.emit1(math::Add {}, &[a, b])
    }
    fn sub(&mut self, a: Value, b: Value) -> Result<Value, MapError> {
        self.cx.emit1(math::Sub {}, &[a, b])
    }
    fn mul(&mut self, a: Value, b: Value) -> Result<Value, MapError> {
        self.cx.emit1(math::Mul {}, &[a, b])
    }
    fn div(&mut self, a: Value, b: Value) -> Result<Value, MapError> {
        self.cx.emit1(math::Div {}, &[a, b])
    }
    fn sqrt(&mut self, a: Value) -> Result<Value, MapError> {
        self.cx.emit1(math::Sqrt {}, &[a])
    }
    fn scaled(&mut self, factor: f32, a: Value) -> Result<Value, MapError> {
        let factor = self.number(factor)?;
        self.mul(factor, a)
    }
    /// `g + norm · x`: the gradient of the loss with its L2 penalty.
    fn regularized(&mut self, norm: f32, x: Value, g: Value) -> Result<Value, MapError> {
        let penalty = self.scaled(norm, x)?;
        self.add(penalty, g)
    }
    /// `yes` where the step is above zero, else `no`.
    fn after_first(&mut self, yes: Value, no: Value) -> Result<Value, MapError> {
        let step = self.cx.input(1)?;
        let zero = Tensor::from_i64(self.cx.dtype(step)?, &[], &[0])?;
        let zero = self.cx.constant(zero);
        let later = self.cx.emit1(math::Greater {}, &[step, zero])?;
        self.cx.emit1(math::Where {}, &[later, yes, no])
    }
}

fn arithmetic<'a, 'b>(cx: &'a mut NodeCx<'b>) -> Result<(Arithmetic<'a, 'b>, Value, Value), MapError> {
    let (rate, step) = (cx.input(0)?, cx.input(1)?);
    let dtype = cx.dtype(rate)?;
    let step = cx.emit1(math::Cast { to: dtype }, &[step])?;
    Ok((Arithmetic { cx, dtype }, rate, step))
}

fn adagrad(cx: &mut NodeCx) -> Mapped {
    let decay = cx.attrs.float_or("decay_factor", 0.0)?;
    let (epsilon, norm) = (cx.attrs.float_or("epsilon", 0.0)?, cx.attrs.float_or("norm_coefficient", 0.0)?);
    let parameters = grouped::<3>(cx)?;
    let (mut a, rate, step) = arithmetic(cx)?;
    let (one, decayed) = (a.number(1.0)?, a.scaled(decay, step)?);
    let divisor = a.add(one, decayed)?;
    let rate = a.div(rate, divisor)?;
    let (mut xs, mut hs) = (vec![], vec![]);
    for [x, g, h] in parameters {
        let g = a.regularized(norm, x, g)?;
        let square = a.mul(g, g)?;
        let h = a.add(h, square)?;
        let (root, epsilon) = (a.sqrt(h)?, a.number(epsilon)?);
        let (adaptive, step) = (a.add(root, epsilon)?, a.mul(rate, g)?);
        let step = a.div(step, adaptive)?;
        xs.push(a.sub(x, step)?);
        hs.push(h);
    }
    xs.extend(hs);
    Ok(xs)
}

fn adam(cx: &mut NodeCx) -> Mapped {
    let (alpha, beta) = (cx.attrs.float_or("alpha", 0.9)?, cx.attrs.float_or("beta", 0.999)?);
    let (epsilon, norm) = (cx.attrs.float_or("epsilon", 0.0)?, cx.attrs.float_or("norm_coefficient", 0.0)?);
    let post = cx.attrs.float_or("norm_coefficient_post", 0.0)?;
    let parameters = grouped::<4>(cx)?;
    let (mut a, rate, step) = arithmetic(cx)?;
    let mut bias = |decay: f32| {
        let (one, decay) = (a.number(1.0)?, a.number(decay)?);
        let power = a.cx.emit1(math::Pow {}, &[decay, step])?;
        a.sub(one, power)
    };
    let (first, second) = (bias(alpha)?, bias(beta)?);
    let root = a.sqrt(second)?;
    let scaled = a.mul(rate, root)?;
    let adjusted = a.div(scaled, first)?;
    let rate = a.after_first(adjusted, rate)?;
    let (mut xs, mut vs, mut hs) = (vec![], vec![], vec![]);
    for [x, g, v, h] in parameters {
        let g = a.regularized(norm, x, g)?;
        let square = a.mul(g, g)?;
        let mut mean = |decay: f32, old: Value, new: Value| {
            let (old, new) = (a.scaled(decay, old)?, a.scaled(1.0 - decay, new)?);
            a.add(old, new)
        };
        let (v, h) = (mean(alpha, v, g)?, mean(beta, h, square)?);
        let (root, epsilon) = (a.sqrt(h)?, a.number(epsilon)?);
        let (root, step) = (a.add(root, epsilon)?, a.mul(rate, v)?);
        let step = a.div(step, root)?;
        let moved = a.sub(x, step)?;
        xs.push(a.scaled(1.0 - post, moved)?);
        vs.push(v);
        hs.push(h);
    }
    xs.extend(vs);
    xs.extend(hs);
    Ok(xs)
}

fn momentum(cx: &mut NodeCx) -> Mapped {
    let required = |name: &str| {
        let missing = || MapError::Invalid(format!("attribute `{name}` is missing"));
        cx.attrs.float(name)?.ok_or_else(missing)
    };
    let (alpha, beta, norm) = (required("alpha")?, required("beta")?, required("norm_coefficient")?);
    let nesterov = match cx.attrs.string_or("mode", "")?.as_str() {
        "standard" => false,
        "nesterov" => true,
        other => return Err(MapError::Invalid(format!("`mode` is \"{other}\""))),
    };
    let parameters = grouped::<3>(cx)?;
    let (mut a, rate, _) = arithmetic(cx)?;
    let (one, beta) = (a.number(1.0)?, a.number(beta)?);
    let beta = a.after_first(beta, one)?;
    let (mut xs, mut vs) = (vec![], vec![]);
    for [x, g, v] in parameters {
        let g = a.regularized(norm, x, g)?;
        let (kept, new) = (a.scaled(alpha, v)?, a.mul(beta, g)?);
        let v = a.add(kept, new)?;
        let mut direction = v;
        if nesterov {
            let ahead = a.scaled(alpha, v)?;
            direction = a.add(g, ahead)?;
        }
        let step = a.mul(rate, direction)?;
        xs.push(a.sub(x, step)?);
        vs.push(v);
    }
    xs.extend(vs);
    Ok(xs)
}
