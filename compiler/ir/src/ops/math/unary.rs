//! Elementwise functions of one operand. The result has the operand's type.
//!
//! Floats are computed in `f64` and rounded once; integers stay integers where the function is defined on them.

use optc_kernel::expr::{Expr, Func};
use optc_kernel::tile::{Binary, Cmp};
use optc_tensor::{DType, Tensor, TensorMut, TensorRef};

use super::expression;
use crate::ops::eval::eval_new;
use crate::ops::native::{NativeElement, by_native};
use crate::{Args, Facts, FusionRole, InferCx, OpError, Operands, Semantics, TensorType, Type, Val, op};

/// `f` over the elements of a float tensor, in its own dtype.
pub(super) fn map_float(name: &'static str, x: &Tensor, f: impl Fn(f64) -> f64) -> Result<Vec<Val>, OpError> {
    if !x.dtype().is_float() {
        return crate::ops::bad_dtype(name, x.dtype());
    }
    let values: Vec<f64> = x.to_f64_vec().into_iter().map(f).collect();
    Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &values)?.into()])
}

/// `f` over floats, `g` over integers, `h` over `u64`. `op` is who asks, with [`map_number_into`] for its `eval_into`.
pub(super) fn map_number<O: Semantics>(
    op: &O,
    args: &Args,
    f: impl Fn(f64) -> f64,
    g: impl Fn(i64) -> i64,
    h: impl Fn(u64) -> u64,
) -> Result<Vec<Val>, OpError> {
    let x = args.tensor(0)?;
    if !x.dtype().is_int() {
        return map_float(O::NAME, x, f);
    }
    if let Some(results) = eval_new(op, args, &[(x.dtype(), x.shape())])? {
        return Ok(results);
    }
    // Elements of less than a byte.
    let unsigned = x.dtype() == DType::U64;
    let apply = |v: i64| if unsigned { h(v as u64) as i64 } else { g(v) };
    let values: Vec<i64> = x.to_i64_vec().into_iter().map(apply).collect();
    Ok(vec![Tensor::from_i64(x.dtype(), x.shape(), &values)?.into()])
}

/// The same into memory that is there, on slices of the dtype.
pub(super) fn map_number_into(
    x: TensorRef,
    y: &mut TensorMut,
    f: impl Fn(f64) -> f64,
    g: impl Fn(i64) -> i64,
    h: impl Fn(u64) -> u64,
) -> Result<bool, OpError> {
    trait Choice<N> {
        fn call(&self, v: N) -> N;
    }
    struct Each<F, G, H>(F, G, H);
    impl<F: Fn(f64) -> f64, G, H> Choice<f64> for Each<F, G, H> {
        fn call(&self, v: f64) -> f64 {
            (self.0)(v)
        }
    }
    impl<F, G: Fn(i64) -> i64, H> Choice<i64> for Each<F, G, H> {
        fn call(&self, v: i64) -> i64 {
            (self.1)(v)
        }
    }
    impl<F, G, H: Fn(u64) -> u64> Choice<u64> for Each<F, G, H> {
        fn call(&self, v: u64) -> u64 {
            (self.2)(v)
        }
    }
    let each = Each(f, g, h);
    by_native!(x.dtype(), T => {
        let to = y.as_mut_slice::<T>()?;
        to.iter_mut().zip(x.as_slice::<T>()?).for_each(|(y, x)| *y = T::narrow(each.call(x.widen())));
        Ok(true)
    }, else Ok(false))
}

pub(super) fn same_type(cx: &InferCx) -> Result<Vec<Type>, OpError> {
    Ok(vec![cx.tensor(0)?.clone().into()])
}

/// Declares ops of one operand: name, documentation, attributes, the function on floats, and the facts.
macro_rules! unary {
    ($(
        $(#[$doc:meta])*
        $name:literal = $Op:ident { $($attr:ident = $default:literal),* } |$s:ident, $x:ident| $f:expr, $facts:expr;
    )*) => {$(
        op! { $(#[$doc])* $name = $Op(x) { $(#[doc = "See the op."] $attr: $crate::Real = $crate::Real($default)),* } }
        impl Semantics for $Op {
            const FACTS: Facts<$Op> = $facts;
            fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> { same_type(cx) }
            fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
                let $s = self;
                let _ = $s;
                map_float($name, args.tensor(0)?, |$x| $f)
            }
        }
    )*};
}

pub(super) use unary;

unary! {
    /// `eˣ`.
    "math.exp" = Exp {} |s, x| x.exp(), Facts::float(|_, x| x.exp());
    /// Natural logarithm.
    "math.log" = Log {} |s, x| x.ln(), Facts::float(|_, x| x.log());
    /// Square root.
    "math.sqrt" = Sqrt {} |s, x| x.sqrt(), Facts::float(|_, x| x.sqrt());
    /// `1 / x`.
    "math.reciprocal" = Reciprocal {} |s, x| 1.0 / x, Facts::float(|_, x| x.reciprocal());
    /// The error function.
    "math.erf" = Erf {} |s, x| erf(x), Facts::float(|_, x| x.func(Func::Erf));
    /// The largest integer not above `x`.
    "math.floor" = Floor {} |s, x| x.floor(), Facts::float(|_, x| x.floor());
    /// The smallest integer not below `x`.
    "math.ceil" = Ceil {} |s, x| x.ceil(), Facts::float(|_, x| x.ceil());
    /// The nearest integer, ties to even.
    "math.round" = Round {} |s, x| x.round_ties_even(), Facts::float(|_, x| x.round());
    /// Sine.
    "math.sin" = Sin {} |s, x| x.sin(), Facts::float(|_, x| x.func(Func::Sin));
    /// Cosine.
    "math.cos" = Cos {} |s, x| x.cos(), Facts::float(|_, x| x.func(Func::Cos));
    /// Tangent.
    "math.tan" = Tan {} |s, x| x.tan(), Facts::float(|_, x| x.clone().func(Func::Sin).over(x.func(Func::Cos)));
    /// Inverse sine.
    "math.asin" = Asin {} |s, x| x.asin(), Facts::float(|_, x| x.func(Func::Asin));
    /// Inverse cosine.
    "math.acos" = Acos {} |s, x| x.acos(), Facts::float(|_, x| x.func(Func::Acos));
    /// Inverse tangent.
    "math.atan" = Atan {} |s, x| x.atan(), Facts::float(|_, x| x.func(Func::Atan));
    /// Hyperbolic sine.
    "math.sinh" = Sinh {} |s, x| x.sinh(), Facts::float(|_, x| x.sinh());
    /// Hyperbolic cosine.
    "math.cosh" = Cosh {} |s, x| x.cosh(), Facts::float(|_, x| x.cosh());
    /// Hyperbolic tangent.
    "math.tanh" = Tanh {} |s, x| x.tanh(), Facts::float(|_, x| x.func(Func::Tanh));
    /// Inverse hyperbolic sine.
    "math.asinh" = Asinh {} |s, x| x.asinh(), Facts::float(|_, x| x.asinh());
    /// Inverse hyperbolic cosine.
    "math.acosh" = Acosh {} |s, x| x.acosh(), Facts::float(|_, x| x.acosh());
    /// Inverse hyperbolic tangent.
    "math.atanh" = Atanh {} |s, x| x.atanh(), Facts::float(|_, x| x.atanh());
}

/// Declares ops of one operand that are defined on integers as well: on floats, on `i64`, on `u64`; and their facts.
macro_rules! unary_number {
    ($($(#[$doc:meta])* $name:literal = $Op:ident $f:expr, $g:expr, $h:expr, $facts:expr;)*) => {$(
        op! { $(#[$doc])* $name = $Op(x) {} }
        impl Semantics for $Op {
            const FACTS: Facts<$Op> = $facts;
            fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> { same_type(cx) }
            fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
                map_number(self, args, $f, $g, $h)
            }
            fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
                let x = operands.tensor(0)?;
                Ok((x.dtype().is_int() || x.dtype().is_float()) && map_number_into(x, &mut results[0], $f, $g, $h)?)
            }
        }
    )*};
}

unary_number! {
    /// Absolute value; integers wrap.
    "math.abs" = Abs f64::abs, i64::wrapping_abs, |x| x,
        Facts::expression(Some(FusionRole::Float), |_, s| expression::number(s, Expr::abs));
    /// `-x`; integers wrap.
    "math.neg" = Neg |x| -x, i64::wrapping_neg, u64::wrapping_neg,
        Facts::expression(Some(FusionRole::Float), |_, s| expression::number(s, Expr::negated));
    /// `max(x, 0)`; NaN stays NaN.
    "math.relu" = Relu |x| if x < 0.0 { 0.0 } else { x }, |x| x.max(0), |x| x, Facts::float(|_, x| x.relu());
    /// −1, 0 or 1.
    "math.sign" = Sign |x| if x == 0.0 || x.is_nan() { x } else { x.signum() }, i64::signum, |x| x.min(1),
        Facts::float(|_, x| x.sign());
}

op! {
    /// Logical negation of a boolean.
    "math.not" = Not(x) {}
}

impl Semantics for Not {
    const FACTS: Facts<Not> =
        Facts::expression(None, |_, s| Ok(s.given(0)?.expr.clone().binary(Binary::Xor, Expr::Int(-1))));

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        same_type(cx)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        if x.dtype() != DType::Bool {
            return crate::ops::bad_dtype("math.not", x.dtype());
        }
        let values: Vec<bool> = x.bytes().iter().map(|&b| b == 0).collect();
        Ok(vec![Tensor::from_bools(x.shape(), &values)?.into()])
    }
}

op! {
    /// Whether each element is NaN.
    "math.is_nan" = IsNan(x) {}
}

impl Semantics for IsNan {
    const FACTS: Facts<IsNan> = Facts::expression(None, |_, s| s.float().map(|x| x.clone().cmp(Cmp::Ne, x)));

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        infer_test("math.is_nan", cx)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        test_floats("math.is_nan", args, f64::is_nan)
    }
}

op! {
    /// Whether each element is infinite, of the signs asked for.
    "math.is_inf" = IsInf(x) {
        /// Whether −∞ counts.
        negative: bool = true,
        /// Whether +∞ counts.
        positive: bool = true,
    }
}

impl Semantics for IsInf {
    const FACTS: Facts<IsInf> = Facts::expression(None, |op: &IsInf, s| {
        let x = s.float()?;
        let is = |v: f32| x.clone().cmp(Cmp::Eq, Expr::Const(v));
        Ok(match (op.negative, op.positive) {
            (true, true) => x.clone().abs().cmp(Cmp::Eq, Expr::Const(f32::INFINITY)),
            (true, false) => is(f32::NEG_INFINITY),
            (false, true) => is(f32::INFINITY),
            (false, false) => x.cmp(Cmp::Lt, Expr::Const(f32::NEG_INFINITY)),
        })
    });

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        infer_test("math.is_inf", cx)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (negative, positive) = (self.negative, self.positive);
        test_floats("math.is_inf", args, |x| x.is_infinite() && if x > 0.0 { positive } else { negative })
    }
}

fn infer_test(name: &'static str, cx: &InferCx) -> Result<Vec<Type>, OpError> {
    let x = cx.tensor(0)?;
    if !x.dtype.is_real() {
        return crate::ops::bad_dtype(name, x.dtype);
    }
    Ok(vec![TensorType::of(DType::Bool, x.shape.clone()).into()])
}

fn test_floats(name: &'static str, args: &Args, test: impl Fn(f64) -> bool) -> Result<Vec<Val>, OpError> {
    let x = args.tensor(0)?;
    if !x.dtype().is_real() {
        return crate::ops::bad_dtype(name, x.dtype());
    }
    let found: Vec<bool> = x.to_f64_vec().into_iter().map(test).collect();
    Ok(vec![Tensor::from_bools(x.shape(), &found)?.into()])
}

/// The error function to about 1e-16: the Maclaurin series near zero, the continued fraction of `erfc` beyond
/// (Abramowitz and Stegun 7.1.6 and 7.1.14).
pub(crate) fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() {
        return x;
    }
    if a > 6.0 {
        return x.signum();
    }
    let value = if a < 2.5 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term > 1e-18 * sum && term > 0.0 {
            n += 1.0;
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            sum += term;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-a * a).exp() * sum
    } else {
        let fraction = (1..=60).rev().fold(0.0, |f, k| k as f64 / 2.0 / (a + f));
        1.0 - (-a * a).exp() / (std::f64::consts::PI.sqrt() * (a + fraction))
    };
    value.copysign(x)
}

#[cfg(test)]
mod tests {
    use super::erf;

    #[test]
    fn erf_agrees_with_published_values() {
        for (x, y) in [(0.5, 0.520_499_877_813_046_5), (1.0, 0.842_700_792_949_714_9), (3.0, 0.999_977_909_503_001_4)] {
            assert!((erf(x) - y).abs() < 1e-14, "{x}");
            assert_eq!(erf(-x), -erf(x));
        }
    }
}
