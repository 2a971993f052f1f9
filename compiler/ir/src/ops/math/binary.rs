//! Elementwise ops of several operands, broadcast by the multidirectional (NumPy) rule.
//!
//! - (C1) The operands' shapes broadcast.
//! - (C2) The operands have one dtype.

use optc_tensor::{DType, Tensor, broadcast_shapes, strides_of};

use crate::{Args, Dim, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

/// The shape that types broadcast to; unknown extents stay unknown where they decide.
pub(crate) fn broadcast_types(a: &TensorType, b: &TensorType) -> Result<Option<Vec<Dim>>, OpError> {
    let (Some(x), Some(y)) = (&a.shape, &b.shape) else { return Ok(None) };
    let rank = x.len().max(y.len());
    let one = Dim::Known(1);
    let at = |s: &Vec<Dim>, d: usize| if d + s.len() < rank { one.clone() } else { s[d + s.len() - rank].clone() };
    let mut dims = Vec::with_capacity(rank);
    for d in 0..rank {
        dims.push(match (at(x, d), at(y, d)) {
            (p, q) if p == q => p,
            (Dim::Known(1), q) => q,
            (p, Dim::Known(1)) => p,
            (Dim::Known(p), Dim::Known(q)) => {
                ensure!(p == q, "C1", "{a} and {b} do not broadcast");
                Dim::Known(p)
            }
            (Dim::Known(p), _) | (_, Dim::Known(p)) => Dim::Known(p),
            _ => Dim::Unknown,
        });
    }
    Ok(Some(dims))
}

/// For each element of `shape`, the index of the element of a tensor of shape `from` that broadcasts to it.
pub(crate) fn broadcast_indices(from: &[usize], shape: &[usize]) -> Vec<usize> {
    let strides = strides_of(from);
    let lead = shape.len() - from.len();
    let mut indices = vec![0usize];
    for (d, &n) in shape.iter().enumerate() {
        let stride = if d < lead || from[d - lead] == 1 { 0 } else { strides[d - lead] };
        indices = indices.iter().flat_map(|&base| (0..n).map(move |i| base + i * stride)).collect();
    }
    indices
}

fn result_shape(a: &Tensor, b: &Tensor) -> Result<Vec<usize>, OpError> {
    let shape = broadcast_shapes(a.shape(), b.shape());
    shape.ok_or_else(|| OpError::Constraint {
        constraint: "C1",
        reason: format!("shapes {:?} and {:?} do not broadcast", a.shape(), b.shape()),
    })
}

fn infer(cx: &InferCx, result: Option<DType>) -> Result<Vec<Type>, OpError> {
    let (a, b) = (cx.tensor(0)?, cx.tensor(1)?);
    ensure!(a.dtype == b.dtype, "C2", "operands are {} and {}, expected one dtype", a.dtype, b.dtype);
    Ok(vec![TensorType::of(result.unwrap_or(a.dtype), broadcast_types(a, b)?).into()])
}

/// How a binary op computes: on floats, and on integers where it is defined there.
enum Kind {
    Number(fn(f64, f64) -> f64, fn(i64, i64) -> i64),
    Compare(fn(f64, f64) -> bool, fn(i64, i64) -> bool),
    Logic(fn(bool, bool) -> bool),
}

fn eval(name: &'static str, args: &Args, kind: Kind) -> Result<Vec<Val>, OpError> {
    let (a, b) = (args.tensor(0)?, args.tensor(1)?);
    let shape = result_shape(a, b)?;
    ensure!(a.dtype() == b.dtype(), "C2", "operands are {} and {}, expected one dtype", a.dtype(), b.dtype());
    let (ia, ib) = (broadcast_indices(a.shape(), &shape), broadcast_indices(b.shape(), &shape));
    let pairs = || ia.iter().copied().zip(ib.iter().copied());
    let float = a.dtype().is_float();
    let t = match kind {
        Kind::Number(f, _) if float => {
            let (x, y) = (a.to_f64_vec(), b.to_f64_vec());
            Tensor::from_f64(a.dtype(), &shape, &pairs().map(|(i, j)| f(x[i], y[j])).collect::<Vec<_>>())?
        }
        Kind::Number(_, g) if a.dtype().is_int() => {
            let (x, y) = (a.to_i64_vec(), b.to_i64_vec());
            Tensor::from_i64(a.dtype(), &shape, &pairs().map(|(i, j)| g(x[i], y[j])).collect::<Vec<_>>())?
        }
        Kind::Compare(f, _) if float => {
            let (x, y) = (a.to_f64_vec(), b.to_f64_vec());
            Tensor::from_bools(&shape, &pairs().map(|(i, j)| f(x[i], y[j])).collect::<Vec<_>>())?
        }
        Kind::Compare(_, g) if a.dtype() != DType::Str && a.dtype() != DType::U64 => {
            let (x, y) = (a.to_i64_vec(), b.to_i64_vec());
            Tensor::from_bools(&shape, &pairs().map(|(i, j)| g(x[i], y[j])).collect::<Vec<_>>())?
        }
        Kind::Logic(h) if a.dtype() == DType::Bool => {
            let (x, y) = (a.bytes(), b.bytes());
            Tensor::from_bools(&shape, &pairs().map(|(i, j)| h(x[i] != 0, y[j] != 0)).collect::<Vec<_>>())?
        }
        Kind::Number(..) | Kind::Compare(..) | Kind::Logic(_) => return crate::ops::bad_dtype(name, a.dtype()),
    };
    Ok(vec![t.into()])
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:literal = $Op:ident -> $result:expr, $kind:expr;)*) => {$(
        op! { $(#[$doc])* $name = $Op(a, b) {} }
        impl Semantics for $Op {
            fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> { infer(cx, $result) }
            fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> { eval($name, args, $kind) }
        }
    )*};
}

binary! {
    /// `a + b`; integers wrap.
    "math.add" = Add -> None, Kind::Number(|a, b| a + b, i64::wrapping_add);
    /// `a − b`; integers wrap.
    "math.sub" = Sub -> None, Kind::Number(|a, b| a - b, i64::wrapping_sub);
    /// `a · b`; integers wrap.
    "math.mul" = Mul -> None, Kind::Number(|a, b| a * b, i64::wrapping_mul);
    /// `a / b`; integers truncate, and `a / 0` is 0 for them.
    "math.div" = Div -> None, Kind::Number(|a, b| a / b, |a, b| if b == 0 { 0 } else { a.wrapping_div(b) });
    /// `aᵇ`; integers wrap, and a negative exponent gives 0 but for ±1.
    "math.pow" = Pow -> None, Kind::Number(f64::powf, int_pow);
    /// The smaller one; NaN where either is.
    "math.min" = Min -> None, Kind::Number(|a, b| if a.is_nan() || a < b { a } else { b }, i64::min);
    /// The larger one; NaN where either is.
    "math.max" = Max -> None, Kind::Number(|a, b| if a.is_nan() || a > b { a } else { b }, i64::max);
    /// Logical and.
    "math.and" = And -> None, Kind::Logic(|a, b| a && b);
    /// Logical or.
    "math.or" = Or -> None, Kind::Logic(|a, b| a || b);
    /// Logical exclusive or.
    "math.xor" = Xor -> None, Kind::Logic(|a, b| a != b);
    /// `a = b`.
    "math.equal" = Equal -> Some(DType::Bool), Kind::Compare(|a, b| a == b, |a, b| a == b);
    /// `a < b`.
    "math.less" = Less -> Some(DType::Bool), Kind::Compare(|a, b| a < b, |a, b| a < b);
    /// `a > b`.
    "math.greater" = Greater -> Some(DType::Bool), Kind::Compare(|a, b| a > b, |a, b| a > b);
    /// `a ≤ b`.
    "math.less_equal" = LessEqual -> Some(DType::Bool), Kind::Compare(|a, b| a <= b, |a, b| a <= b);
    /// `a ≥ b`.
    "math.greater_equal" = GreaterEqual -> Some(DType::Bool), Kind::Compare(|a, b| a >= b, |a, b| a >= b);
}

fn int_pow(a: i64, b: i64) -> i64 {
    match (a, b) {
        (_, 0..) => a.wrapping_pow(b.min(u32::MAX as i64) as u32),
        (1, _) => 1,
        (-1, _) => {
            if b % 2 == 0 {
                1
            } else {
                -1
            }
        }
        _ => 0,
    }
}

op! {
    /// `a` where `cond` holds, else `b`.
    ///
    /// - (C1) The three shapes broadcast.
    /// - (C2) `a` and `b` have one dtype.
    /// - (C3) `cond` is boolean.
    "math.where" = Where(cond, a, b) {}
}

impl Semantics for Where {
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (cond, a, b) = (cx.tensor(0)?, cx.tensor(1)?, cx.tensor(2)?);
        ensure!(a.dtype == b.dtype, "C2", "operands are {} and {}, expected one dtype", a.dtype, b.dtype);
        ensure!(cond.dtype == DType::Bool, "C3", "`cond` is {}, expected bool", cond.dtype);
        let shape = broadcast_types(a, b)?;
        let ab = TensorType::of(a.dtype, shape);
        let shape = broadcast_types(cond, &ab)?;
        Ok(vec![TensorType::of(a.dtype, shape).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (cond, a, b) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
        ensure!(a.dtype() == b.dtype() && cond.dtype() == DType::Bool, "C2", "dtypes differ");
        let shape = result_shape(a, b)?;
        let ab = broadcast_shapes(cond.shape(), &shape);
        ensure!(ab.is_some(), "C1", "shapes {:?} and {:?} do not broadcast", cond.shape(), shape);
        let shape = ab.unwrap_or_default();
        let width = a.dtype().bits() / 8;
        if width == 0 {
            return crate::ops::bad_dtype("math.where", a.dtype());
        }
        let ic = broadcast_indices(cond.shape(), &shape);
        let (ia, ib) = (broadcast_indices(a.shape(), &shape), broadcast_indices(b.shape(), &shape));
        let mut bytes = Vec::with_capacity(ic.len() * width);
        for k in 0..ic.len() {
            let (from, i) = if cond.bytes()[ic[k]] != 0 { (a, ia[k]) } else { (b, ib[k]) };
            bytes.extend_from_slice(&from.bytes()[i * width..(i + 1) * width]);
        }
        Ok(vec![Tensor::from_bytes(a.dtype(), &shape, &bytes)?.into()])
    }
}

op! {
    /// `min(max(x, low), high)`; an absent bound does not bound. NaN stays NaN.
    ///
    /// - (C1) The bounds are scalars of `x`'s dtype.
    "math.clip" = Clip(x, low: optional, high: optional) {}
}

impl Semantics for Clip {
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        for slot in (1..3).filter(|&s| cx.has(s)) {
            let bound = cx.tensor(slot)?;
            ensure!(bound.dtype == x.dtype, "C1", "the bound is {}, expected {}", bound.dtype, x.dtype);
        }
        Ok(vec![x.clone().into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        for bound in [args.optional(1), args.optional(2)].into_iter().flatten() {
            ensure!(bound.len() == 1, "C1", "the bound has {} elements, expected 1", bound.len());
        }
        let t = if x.dtype().is_float() {
            let low = args.optional(1).map_or(f64::NEG_INFINITY, |t| t.to_f64_vec()[0]);
            let high = args.optional(2).map_or(f64::INFINITY, |t| t.to_f64_vec()[0]);
            let clip = |v: f64| if v.is_nan() { v } else { v.max(low).min(high) };
            Tensor::from_f64(x.dtype(), x.shape(), &x.to_f64_vec().into_iter().map(clip).collect::<Vec<_>>())?
        } else {
            let low = args.optional(1).map_or(i64::MIN, |t| t.to_i64_vec()[0]);
            let high = args.optional(2).map_or(i64::MAX, |t| t.to_i64_vec()[0]);
            let clip = |v: i64| v.max(low).min(high);
            Tensor::from_i64(x.dtype(), x.shape(), &x.to_i64_vec().into_iter().map(clip).collect::<Vec<_>>())?
        };
        Ok(vec![t.into()])
    }
}
