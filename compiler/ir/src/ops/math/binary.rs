//! Elementwise ops of two operands: arithmetic, comparison and logic, broadcast by the multidirectional (NumPy) rule.
//!
//! - (C1) The operands' shapes broadcast.
//! - (C2) The operands have one dtype.
//! - (C3) The op is defined on the dtype: arithmetic on numbers, order on numbers, logic on `bool`, equality on all.
//!
//! Floats are computed in `f64` and rounded once; integers are exact and wrap.

use std::cmp::Ordering;

use optc_kernel::expr::Expr;
use optc_kernel::tile::{Binary, Cmp};
use optc_tensor::{DType, Tensor};

use super::broadcast::{broadcast_types, common_shape, for_each_broadcast};
use super::expression;
use crate::ops::bad_dtype;
use crate::ops::number::{Number, by_number};
use crate::{Args, Facts, FusionRole, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

/// On which dtypes an op is defined.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Domain {
    Numbers,
    Integers,
    Bools,
    Any,
}

impl Domain {
    fn check(self, name: &'static str, dtype: DType) -> Result<(), OpError> {
        let defined = match self {
            Domain::Numbers => dtype.is_float() || dtype.is_int(),
            Domain::Integers => dtype.is_int(),
            Domain::Bools => dtype == DType::Bool,
            Domain::Any => true,
        };
        if defined { Ok(()) } else { bad_dtype(name, dtype) }
    }
}

/// The operands' common dtype and shape, for a result of `result` or of the operands' dtype.
pub(super) fn infer(
    name: &'static str,
    cx: &InferCx,
    domain: Domain,
    result: Option<DType>,
) -> Result<Vec<Type>, OpError> {
    let (a, b) = (cx.tensor(0)?, cx.tensor(1)?);
    ensure!(a.dtype == b.dtype, "C2", "operands are {} and {}, expected one dtype", a.dtype, b.dtype);
    domain.check(name, a.dtype)?;
    Ok(vec![TensorType::of(result.unwrap_or(a.dtype), broadcast_types(a, b)?).into()])
}

/// The two operands and the shape that they broadcast to.
fn operands<'a>(
    name: &'static str,
    args: &Args<'a>,
    domain: Domain,
) -> Result<(&'a Tensor, &'a Tensor, Vec<usize>), OpError> {
    let (a, b) = (args.tensor(0)?, args.tensor(1)?);
    ensure!(a.dtype() == b.dtype(), "C2", "operands are {} and {}, expected one dtype", a.dtype(), b.dtype());
    domain.check(name, a.dtype())?;
    Ok((a, b, common_shape(&[a, b])?))
}

fn zip<A, T>(a: (&[A], &[usize]), b: (&[A], &[usize]), shape: &[usize], f: impl Fn(&A, &A) -> T) -> Vec<T> {
    let mut out = Vec::with_capacity(shape.iter().product());
    for_each_broadcast([a.1, b.1], shape, |[i, j]| out.push(f(&a.0[i], &b.0[j])));
    out
}

/// Applies the function for the operands' dtype: on `f64`, on `i64` (all integers but `u64`) or on `u64`.
pub(super) fn arithmetic(
    name: &'static str,
    args: &Args,
    domain: Domain,
    float: impl Fn(f64, f64) -> f64,
    int: impl Fn(i64, i64) -> i64,
    uint: impl Fn(u64, u64) -> u64,
) -> Result<Vec<Val>, OpError> {
    fn apply<N: Number>(a: &Tensor, b: &Tensor, shape: &[usize], f: impl Fn(N, N) -> N) -> Result<Tensor, OpError> {
        let out = zip((&N::all(a), a.shape()), (&N::all(b), b.shape()), shape, |&x, &y| f(x, y));
        Ok(N::tensor(a.dtype(), shape, &out)?)
    }
    let (a, b, shape) = operands(name, args, domain)?;
    let t = match a.dtype() {
        DType::U64 => apply(a, b, &shape, uint)?,
        d if d.is_float() => apply(a, b, &shape, float)?,
        _ => apply(a, b, &shape, int)?,
    };
    Ok(vec![t.into()])
}

/// Compares the elements; `test` gets `None` where either is NaN.
fn compare(
    name: &'static str,
    args: &Args,
    domain: Domain,
    test: fn(Option<Ordering>) -> bool,
) -> Result<Vec<Val>, OpError> {
    fn apply<N: Number>(a: &Tensor, b: &Tensor, shape: &[usize], test: fn(Option<Ordering>) -> bool) -> Found {
        Ok(zip((&N::all(a), a.shape()), (&N::all(b), b.shape()), shape, |x, y| test(x.partial_cmp(y))))
    }
    type Found = Result<Vec<bool>, OpError>;
    let (a, b, shape) = operands(name, args, domain)?;
    let found = match (a.strings(), b.strings()) {
        (Ok(x), Ok(y)) => zip((x, a.shape()), (y, b.shape()), &shape, |x, y| test(x.partial_cmp(y))),
        _ => by_number!(name, a.dtype(), apply(a, b, &shape, test))?,
    };
    Ok(vec![Tensor::from_bools(&shape, &found)?.into()])
}

/// Declares an arithmetic op: what it is on floats, on integers (one expression, for `i64` and for `u64`), and its
/// facts.
macro_rules! arithmetic {
    ($($(#[$doc:meta])* $name:literal = $Op:ident |$a:ident, $b:ident| $float:expr, $int:expr, $facts:expr;)*) => {$(
        op! { $(#[$doc])* $name = $Op(a, b) {} }
        impl Semantics for $Op {
            const FACTS: Facts<$Op> = $facts;
            fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> { infer($name, cx, Domain::Numbers, None) }
            fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
                arithmetic($name, args, Domain::Numbers,
                    |$a: f64, $b: f64| $float, |$a: i64, $b: i64| $int, |$a: u64, $b: u64| $int)
            }
        }
    )*};
}

arithmetic! {
    /// `a + b`; integers wrap.
    "math.add" = Add |a, b| a + b, a.wrapping_add(b),
        Facts::expression(Some(FusionRole::Float), |_, s| s.pair([Some(Expr::plus), Some(Expr::plus), None]));
    /// `a − b`; integers wrap.
    "math.sub" = Sub |a, b| a - b, a.wrapping_sub(b),
        Facts::expression(Some(FusionRole::Float), |_, s| s.pair([Some(Expr::minus), Some(Expr::minus), None]));
    /// `a · b`; integers wrap.
    "math.mul" = Mul |a, b| a * b, a.wrapping_mul(b),
        Facts::expression(Some(FusionRole::Float), |_, s| s.pair([Some(Expr::times), Some(Expr::times), None]));
    /// `a / b`; integers truncate, and `a / 0` is 0 for them.
    "math.div" = Div |a, b| a / b, if b == 0 { 0 } else { a.wrapping_div(b) },
        Facts::expression(Some(FusionRole::Float), |_, s| s.pair([Some(Expr::over), None, None]));
    /// `aᵇ`; integers wrap, and a negative exponent gives 0 but for ±1.
    "math.pow" = Pow |a, b| a.powf(b), IntPow::int_pow(a, b),
        Facts::expression(None, |_, s| expression::power(s));
    /// The smaller one; NaN where either is.
    "math.min" = Min |a, b| a.least(b), a.min(b),
        Facts::expression(Some(FusionRole::Float), |_, s| s.pair(expression::LEAST));
    /// The larger one; NaN where either is.
    "math.max" = Max |a, b| a.greatest(b), a.max(b),
        Facts::expression(Some(FusionRole::Float), |_, s| s.pair(expression::GREATEST));
    /// `x` where it is not negative, else `slope · x`.
    "math.prelu" = PRelu |x, slope| if x < 0.0 { slope * x } else { x },
        if x.lt(&0) { slope.wrapping_mul(x) } else { x },
        Facts::expression(Some(FusionRole::Float), |_, s| s.pair([Some(expression::sloped), None, None]));
}

/// Integer powers by squaring.
trait IntPow {
    fn int_pow(self, exponent: Self) -> Self;
}

impl IntPow for u64 {
    fn int_pow(self, mut exponent: u64) -> u64 {
        let (mut base, mut power) = (self, 1u64);
        while exponent > 0 {
            if exponent & 1 == 1 {
                power = power.wrapping_mul(base);
            }
            base = base.wrapping_mul(base);
            exponent >>= 1;
        }
        power
    }
}

impl IntPow for i64 {
    fn int_pow(self, exponent: i64) -> i64 {
        match (self, exponent) {
            // Wrapped products do not depend on the sign's reading.
            (_, 0..) => (self as u64).int_pow(exponent as u64) as i64,
            (1, _) => 1,
            (-1, _) => 1 - 2 * (exponent & 1),
            _ => 0,
        }
    }
}

op! {
    /// The remainder of `a / b`. It has the sign of `b` (as in Python), with `truncate` that of `a` (as in C). The
    /// integer remainder by 0 is 0.
    "math.mod" = Mod(a, b) {
        /// Whether the quotient is truncated rather than floored.
        truncate: bool = false,
    }
}

impl Semantics for Mod {
    const FACTS: Facts<Mod> = Facts::no_expression();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        infer("math.mod", cx, Domain::Numbers, None)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let truncate = self.truncate;
        let float = |a: f64, b: f64| if truncate { a % b } else { floored_remainder(a, b) };
        let int = |a: i64, b: i64| match b {
            0 => 0,
            _ if truncate => a.wrapping_rem(b),
            _ => {
                let r = a.wrapping_rem(b);
                if r != 0 && (r < 0) != (b < 0) { r.wrapping_add(b) } else { r }
            }
        };
        arithmetic("math.mod", args, Domain::Numbers, float, int, |a, b| a.checked_rem(b).unwrap_or(0))
    }
}

/// `a − b · ⌊a / b⌋` without its rounding errors; a zero has the sign of `b`.
fn floored_remainder(a: f64, b: f64) -> f64 {
    let r = a % b;
    if r == 0.0 {
        0f64.copysign(b)
    } else if (r < 0.0) != (b < 0.0) {
        r + b
    } else {
        r
    }
}

macro_rules! comparisons {
    ($($(#[$doc:meta])* $name:literal = $Op:ident on $domain:ident: [$test:pat], $facts:expr;)*) => {$(
        op! { $(#[$doc])* $name = $Op(a, b) {} }
        impl Semantics for $Op {
            const FACTS: Facts<$Op> = $facts;

            fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
                infer($name, cx, Domain::$domain, Some(DType::Bool))
            }
            fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
                compare($name, args, Domain::$domain, |order| matches!(order, Some($test)))
            }
        }
    )*};
}

comparisons! {
    /// `a = b`, on any dtype.
    "math.equal" = Equal on Any: [Ordering::Equal],
        Facts::expression(Some(FusionRole::Compare), |_, s| expression::compared(s, Cmp::Eq)).with_strings();
    /// `a < b`.
    "math.less" = Less on Numbers: [Ordering::Less],
        Facts::expression(Some(FusionRole::Compare), |_, s| expression::compared(s, Cmp::Lt));
    /// `a > b`.
    "math.greater" = Greater on Numbers: [Ordering::Greater],
        Facts::expression(Some(FusionRole::Compare), |_, s| expression::compared(s, Cmp::Gt));
    /// `a ≤ b`.
    "math.less_equal" = LessEqual on Numbers: [Ordering::Less | Ordering::Equal],
        Facts::expression(Some(FusionRole::Compare), |_, s| expression::compared(s, Cmp::Le));
    /// `a ≥ b`.
    "math.greater_equal" = GreaterEqual on Numbers: [Ordering::Greater | Ordering::Equal],
        Facts::expression(Some(FusionRole::Compare), |_, s| expression::compared(s, Cmp::Ge));
}

macro_rules! logic {
    ($($(#[$doc:meta])* $name:literal = $Op:ident |$a:ident, $b:ident| $f:expr, $lanes:ident;)*) => {$(
        op! { $(#[$doc])* $name = $Op(a, b) {} }
        impl Semantics for $Op {
            const FACTS: Facts<$Op> = Facts::expression(None, |_, s| expression::masks(s, Binary::$lanes));

            fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> { infer($name, cx, Domain::Bools, None) }
            fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
                let (a, b, shape) = operands($name, args, Domain::Bools)?;
                let found = zip((a.bytes(), a.shape()), (b.bytes(), b.shape()), &shape, |x, y| {
                    let ($a, $b) = (*x != 0, *y != 0);
                    $f
                });
                Ok(vec![Tensor::from_bools(&shape, &found)?.into()])
            }
        }
    )*};
}

logic! {
    /// Logical and.
    "math.and" = And |a, b| a && b, And;
    /// Logical or.
    "math.or" = Or |a, b| a || b, Or;
    /// Logical exclusive or.
    "math.xor" = Xor |a, b| a != b, Xor;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(op: impl Into<crate::Op>, a: Tensor, b: Tensor) -> Tensor {
        let values = [Some(Val::Tensor(a)), Some(Val::Tensor(b))];
        op.into().eval(&Args::plain(&values)).unwrap()[0].as_tensor().unwrap().clone()
    }

    fn ints(values: &[i64]) -> Tensor {
        Tensor::from_slice(&[values.len()], values).unwrap()
    }

    #[test]
    fn integers_never_trap() {
        let div = eval(Div {}, ints(&[7, -7, i64::MIN, 1]), ints(&[2, 2, -1, 0]));
        assert_eq!(div.to_i64_vec(), [3, -3, i64::MIN, 0]);
        let m = Mod { truncate: false };
        let rem = eval(m, ints(&[-7, 7, i64::MIN, 1]), ints(&[3, -3, -1, 0]));
        assert_eq!(rem.to_i64_vec(), [2, -2, 0, 0]);
        let pow = eval(Pow {}, ints(&[2, -1, 3, 0, -2]), ints(&[62, -3, -1, 0, 3]));
        assert_eq!(pow.to_i64_vec(), [1 << 62, -1, 0, 1, -8]);
    }

    #[test]
    fn the_upper_half_of_u64_is_not_negative() {
        let big = Tensor::from_slice(&[1], &[u64::MAX]).unwrap();
        let two = Tensor::from_slice(&[1], &[2u64]).unwrap();
        assert_eq!(eval(Greater {}, big.clone(), two.clone()).bytes(), [1]);
        assert_eq!(eval(Div {}, big.clone(), two.clone()).as_slice::<u64>().unwrap(), [u64::MAX / 2]);
        assert_eq!(eval(Min {}, big.clone(), two.clone()).as_slice::<u64>().unwrap(), [2]);
        assert_eq!(eval(Mod { truncate: true }, big, two).as_slice::<u64>().unwrap(), [1]);
    }

    #[test]
    fn nan_is_neither_equal_nor_ordered_and_passes_through_min() {
        let nan = || Tensor::from_slice(&[2], &[f32::NAN, 1.0]).unwrap();
        let one = || Tensor::from_slice(&[2], &[1f32, f32::NAN]).unwrap();
        assert_eq!(eval(LessEqual {}, nan(), one()).bytes(), [0, 0]);
        assert!(eval(Min {}, nan(), one()).to_f64_vec().iter().all(|v| v.is_nan()));
    }

    #[test]
    fn strings_are_equal_or_not() {
        let s = |v: &str| Tensor::from_strings(&[], vec![v.to_owned()]).unwrap();
        assert_eq!(eval(Equal {}, s("a"), s("a")).bytes(), [1]);
        let values = [Some(s("a").into()), Some(s("a").into())];
        assert!(crate::Op::from(Less {}).eval(&Args::plain(&values)).is_err());
    }
}
