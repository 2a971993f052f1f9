//! Elementwise ops of two operands: arithmetic, comparison and logic, broadcast by the multidirectional (NumPy) rule.
//!
//! - (C1) The operands' shapes broadcast.
//! - (C2) The operands have one dtype.
//! - (C3) The op is defined on the dtype: arithmetic on numbers, order on numbers, logic on `bool`, equality on all.
//!
//! Floats are computed in `f64` and rounded once; integers are exact and wrap.

use optc_kernel::expr::Expr;
use optc_kernel::tile::{Binary, Cmp};
use optc_tensor::{DType, Element, Tensor, TensorMut, TensorRef};

use super::broadcast::{broadcast_types, common_shape};
use super::expression;
use super::pairs::{Apply, OnNumbers, arithmetic_into, zip, zip_into};
use crate::ops::bad_dtype;
use crate::ops::eval::eval_new;
use crate::ops::native::by_native;
use crate::ops::number::Number;
use crate::{Args, Facts, FusionRole, InferCx, OpError, Operands, Semantics, TensorType, Type, Val, ensure, op};

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

/// Applies the function for the operands' dtype. `op` is who asks, with [`arithmetic_into`] for its `eval_into`.
pub(super) fn arithmetic<O: Semantics>(
    op: &O,
    args: &Args,
    domain: Domain,
    f: &(impl Apply<f64> + Apply<i64> + Apply<u64>),
) -> Result<Vec<Val>, OpError> {
    fn apply<N: Number>(a: &Tensor, b: &Tensor, shape: &[usize], f: &impl Apply<N>) -> Result<Tensor, OpError> {
        let out = zip((&N::all(a), a.shape()), (&N::all(b), b.shape()), shape, |&x, &y| f.apply(x, y));
        Ok(N::tensor(a.dtype(), shape, &out)?)
    }
    let (a, b, shape) = operands(O::NAME, args, domain)?;
    if let Some(results) = eval_new(op, args, &[(a.dtype(), &shape)])? {
        return Ok(results);
    }
    // Elements of less than a byte.
    let t = match a.dtype() {
        DType::U64 => apply::<u64>(a, b, &shape, f)?,
        d if d.is_float() => apply::<f64>(a, b, &shape, f)?,
        _ => apply::<i64>(a, b, &shape, f)?,
    };
    Ok(vec![t.into()])
}

/// What a comparison says of two elements.
trait Test: Semantics {
    fn test<T: PartialOrd>(a: &T, b: &T) -> bool;
}

/// Compares the elements; no comparison holds where either is NaN.
fn compare<O: Test>(op: &O, args: &Args, domain: Domain) -> Result<Vec<Val>, OpError> {
    fn apply<O: Test, N: Number>(a: &Tensor, b: &Tensor, shape: &[usize]) -> Result<Vec<bool>, OpError> {
        Ok(zip((&N::all(a), a.shape()), (&N::all(b), b.shape()), shape, O::test))
    }
    let (a, b, shape) = operands(O::NAME, args, domain)?;
    if let Some(results) = eval_new(op, args, &[(DType::Bool, &shape)])? {
        return Ok(results);
    }
    // Strings, small floats, and elements of less than a byte.
    let found = match (a.strings(), b.strings()) {
        (Ok(x), Ok(y)) => zip((x, a.shape()), (y, b.shape()), &shape, O::test),
        _ if a.dtype().is_small_float() => apply::<O, f64>(a, b, &shape)?,
        _ => apply::<O, i64>(a, b, &shape)?,
    };
    Ok(vec![Tensor::from_bools(&shape, &found)?.into()])
}

/// Compares the elements on slices of their dtype.
fn compare_into<O: Test>(operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
    fn apply<O: Test, T: Element>(a: TensorRef, b: TensorRef, y: &mut TensorMut) -> Result<bool, OpError> {
        let to = (y.shape(), y.as_mut_slice::<u8>()?);
        let of = (a.as_slice::<T>()?, b.as_slice::<T>()?);
        zip_into(of, [a.shape(), b.shape()], (to.1, to.0), |a, b| u8::from(O::test(&a, &b)));
        Ok(true)
    }
    let (a, b, y) = (operands.tensor(0)?, operands.tensor(1)?, &mut results[0]);
    if a.dtype() == DType::Bool {
        return apply::<O, u8>(a, b, y);
    }
    by_native!(a.dtype(), T => apply::<O, T>(a, b, y), else Ok(false))
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
                arithmetic(self, args, Domain::Numbers, &$Op::on_numbers())
            }
            fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
                arithmetic_into(operands, results, &$Op::on_numbers(), None)
            }
        }
        impl $Op {
            fn on_numbers() -> impl Apply<f64> + Apply<i64> + Apply<u64> {
                OnNumbers {
                    float: |$a: f64, $b: f64| $float,
                    int: |$a: i64, $b: i64| $int,
                    uint: |$a: u64, $b: u64| $int,
                }
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

op! {
    /// `aᵇ`; integers wrap, and a negative exponent gives 0 but for ±1. Of `f32` it is what `powf` of the C library
    /// gives, which is within a unit in the last place.
    "math.pow" = Pow(a, b) {}
}

impl Semantics for Pow {
    const FACTS: Facts<Pow> = Facts::expression(None, |_, s| expression::power(s));

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        infer("math.pow", cx, Domain::Numbers, None)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        arithmetic(self, args, Domain::Numbers, &Pow::on_numbers())
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        arithmetic_into(operands, results, &Pow::on_numbers(), Some(f32::powf))
    }
}

impl Pow {
    fn on_numbers() -> impl Apply<f64> + Apply<i64> + Apply<u64> {
        OnNumbers { float: f64::powf, int: i64::int_pow, uint: u64::int_pow }
    }
}

/// Integer powers by squaring.
trait IntPow {
    fn int_pow(self, exponent: Self) -> Self;
}

impl IntPow for u64 {
    #[inline]
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
    #[inline]
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
        arithmetic(self, args, Domain::Numbers, &self.on_numbers())
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        // A remainder is exact in either width, and the sum with the divisor is rounded once.
        let single: fn(f32, f32) -> f32 = if self.truncate { |a, b| a % b } else { floored_single };
        arithmetic_into(operands, results, &self.on_numbers(), Some(single))
    }
}

impl Mod {
    fn on_numbers(&self) -> impl Apply<f64> + Apply<i64> + Apply<u64> {
        let truncate = self.truncate;
        let float = move |a: f64, b: f64| if truncate { a % b } else { floored_remainder(a, b) };
        let int = move |a: i64, b: i64| match b {
            0 => 0,
            _ if truncate => a.wrapping_rem(b),
            _ => {
                let r = a.wrapping_rem(b);
                if r != 0 && (r < 0) != (b < 0) { r.wrapping_add(b) } else { r }
            }
        };
        OnNumbers { float, int, uint: |a: u64, b: u64| a.checked_rem(b).unwrap_or(0) }
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

/// The same of `f32`.
fn floored_single(a: f32, b: f32) -> f32 {
    let r = a % b;
    match r {
        0.0 => 0f32.copysign(b),
        _ if (r < 0.0) != (b < 0.0) => r + b,
        _ => r,
    }
}

macro_rules! comparisons {
    ($(
        $(#[$doc:meta])*
        $name:literal = $Op:ident on $domain:ident: |$a:ident, $b:ident| $test:expr, $facts:expr;
    )*) => {$(
        op! { $(#[$doc])* $name = $Op(a, b) {} }
        impl Semantics for $Op {
            const FACTS: Facts<$Op> = $facts;

            fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
                infer($name, cx, Domain::$domain, Some(DType::Bool))
            }
            fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
                compare(self, args, Domain::$domain)
            }
            fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
                compare_into::<$Op>(operands, results)
            }
        }
        impl Test for $Op {
            fn test<T: PartialOrd>($a: &T, $b: &T) -> bool { $test }
        }
    )*};
}

comparisons! {
    /// `a = b`, on any dtype.
    "math.equal" = Equal on Any: |a, b| a == b,
        Facts::expression(Some(FusionRole::Compare), |_, s| expression::compared(s, Cmp::Eq)).with_strings();
    /// `a < b`.
    "math.less" = Less on Numbers: |a, b| a < b,
        Facts::expression(Some(FusionRole::Compare), |_, s| expression::compared(s, Cmp::Lt));
    /// `a > b`.
    "math.greater" = Greater on Numbers: |a, b| a > b,
        Facts::expression(Some(FusionRole::Compare), |_, s| expression::compared(s, Cmp::Gt));
    /// `a ≤ b`.
    "math.less_equal" = LessEqual on Numbers: |a, b| a <= b,
        Facts::expression(Some(FusionRole::Compare), |_, s| expression::compared(s, Cmp::Le));
    /// `a ≥ b`.
    "math.greater_equal" = GreaterEqual on Numbers: |a, b| a >= b,
        Facts::expression(Some(FusionRole::Compare), |_, s| expression::compared(s, Cmp::Ge));
}

macro_rules! logic {
    ($($(#[$doc:meta])* $name:literal = $Op:ident |$a:ident, $b:ident| $f:expr, $lanes:ident;)*) => {$(
        op! { $(#[$doc])* $name = $Op(a, b) {} }
        impl Semantics for $Op {
            const FACTS: Facts<$Op> = Facts::expression(None, |_, s| expression::masks(s, Binary::$lanes));

            fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> { infer($name, cx, Domain::Bools, None) }
            fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
                let (.., shape) = operands($name, args, Domain::Bools)?;
                let done = eval_new(self, args, &[(DType::Bool, &shape)])?;
                Ok(done.unwrap_or_default())
            }
            fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
                let (a, b, y) = (operands.tensor(0)?, operands.tensor(1)?, &mut results[0]);
                let to = (y.shape(), y.as_mut_slice::<u8>()?);
                zip_into((a.bytes(), b.bytes()), [a.shape(), b.shape()], (to.1, to.0), |x, y| {
                    let ($a, $b) = (x != 0, y != 0);
                    u8::from($f)
                });
                Ok(true)
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
