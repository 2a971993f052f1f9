//! Integers as strings of bits: logic bit by bit, shifts, and the reading of bits as another dtype.

use optc_tensor::{DType, Tensor, TensorMut};

use super::binary::{Domain, arithmetic, infer};
use super::pairs::{Apply, OnNumbers, arithmetic_into};
use super::unary::{map_number, map_number_into};
use crate::{Args, Facts, InferCx, OpError, Operands, Semantics, TensorType, Type, Val, ensure, op};

/// Declares an op on two integer operands: one expression for `i64` and one for `u64`.
macro_rules! bitwise {
    ($($(#[$doc:meta])* $name:literal = $Op:ident |$a:ident, $b:ident| $int:expr, $uint:expr;)*) => {$(
        op! { $(#[$doc])* $name = $Op(a, b) {} }
        impl Semantics for $Op {
            const FACTS: Facts<$Op> = Facts::no_expression();

            fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> { infer($name, cx, Domain::Integers, None) }
            fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
                arithmetic(self, args, Domain::Integers, &$Op::on_numbers())
            }
            fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
                arithmetic_into(operands, results, &$Op::on_numbers(), None)
            }
        }
        impl $Op {
            fn on_numbers() -> impl Apply<f64> + Apply<i64> + Apply<u64> {
                // `Domain::Integers` keeps floats out, so that the first function is never called.
                OnNumbers { float: |a: f64, _: f64| a, int: |$a: i64, $b: i64| $int, uint: |$a: u64, $b: u64| $uint }
            }
        }
    )*};
}

bitwise! {
    /// The bits that both have. Operands as in `math.add`, integers alone.
    "math.bit_and" = BitAnd |a, b| a & b, a & b;
    /// The bits that either has.
    "math.bit_or" = BitOr |a, b| a | b, a | b;
    /// The bits that one alone has.
    "math.bit_xor" = BitXor |a, b| a ^ b, a ^ b;
    /// `a · 2ᵇ` without the bits that fall out; 0 where `b` is negative or not below the width.
    "math.shift_left" = ShiftLeft |a, b| if (0..64).contains(&b) { a << b } else { 0 }, if b < 64 { a << b } else { 0 };
    /// `⌊a / 2ᵇ⌋`; all bits are the sign's where `b` is negative or not below the width.
    "math.shift_right" = ShiftRight |a, b| a >> if (0..64).contains(&b) { b } else { 63 },
        if b < 64 { a >> b } else { 0 };
}

op! {
    /// All bits of an integer inverted.
    "math.bit_not" = BitNot(x) {}
}

impl Semantics for BitNot {
    const FACTS: Facts<BitNot> = Facts::no_expression();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        super::unary::same_type(cx)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        if !x.dtype().is_int() {
            return crate::ops::bad_dtype("math.bit_not", x.dtype());
        }
        let no_float = |v: f64| v; // refused above
        map_number(self, args, no_float, |v| !v, |v| !v)
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let x = operands.tensor(0)?;
        let defined = x.dtype().is_int();
        Ok(defined && map_number_into(x, &mut results[0], |v| v, |v| !v, |v| !v)?)
    }
}

op! {
    /// The bits of `x` read as another dtype.
    ///
    /// - (C1) Both dtypes have the same width, and neither is `str`.
    "math.bit_cast" = BitCast(x) {
        /// The result's dtype.
        to: DType,
    }
}

impl BitCast {
    fn check(&self, from: DType) -> Result<(), OpError> {
        let fits = from.bits() == self.to.bits() && from != DType::Str;
        ensure!(fits, "C1", "the bits of {from} are none of {}", self.to);
        Ok(())
    }
}

impl Semantics for BitCast {
    const FACTS: Facts<BitCast> = Facts::view();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        self.check(x.dtype)?;
        Ok(vec![TensorType::of(self.to, x.shape.clone()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        self.check(x.dtype())?;
        if self.to == DType::Bool {
            let bits: Vec<bool> = x.bytes().iter().map(|&b| b != 0).collect();
            return Ok(vec![Tensor::from_bools(x.shape(), &bits)?.into()]);
        }
        Ok(vec![Tensor::from_bytes(self.to, x.shape(), x.bytes())?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(op: impl Into<crate::Op>, a: Tensor, b: Option<Tensor>) -> Result<Tensor, OpError> {
        let mut values = vec![Some(Val::Tensor(a))];
        values.extend(b.map(|b| Some(b.into())));
        Ok(op.into().eval(&Args::plain(&values))?[0].as_tensor().unwrap().clone())
    }

    #[test]
    fn shifts_beyond_the_width_leave_the_sign() {
        let (x, by) =
            (Tensor::from_slice(&[3], &[-8i8, 8, -8]).unwrap(), Tensor::from_slice(&[3], &[9i8, 9, -1]).unwrap());
        assert_eq!(eval(ShiftRight {}, x.clone(), Some(by.clone())).unwrap().to_i64_vec(), [-1, 0, -1]);
        assert_eq!(eval(ShiftLeft {}, x, Some(by)).unwrap().to_i64_vec(), [0, 0, 0]);
        let (x, by) = (Tensor::scalar(u64::MAX), Tensor::scalar(64u64));
        assert_eq!(eval(ShiftRight {}, x, Some(by)).unwrap().to_i64_vec(), [0]);
    }

    #[test]
    fn floats_have_no_bits_to_combine_but_bits_to_read() {
        let x = Tensor::scalar(1f32);
        assert!(eval(BitAnd {}, x.clone(), Some(x.clone())).is_err());
        assert_eq!(eval(BitCast { to: DType::U32 }, x.clone(), None).unwrap().to_i64_vec(), [0x3f80_0000]);
        assert!(eval(BitCast { to: DType::I64 }, x, None).is_err());
        let wild = Tensor::scalar(7u8);
        assert_eq!(eval(BitCast { to: DType::Bool }, wild, None).unwrap().bytes(), [1]);
    }
}
