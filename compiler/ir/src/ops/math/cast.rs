//! Conversion between dtypes.

use optc_tensor::{DType, Tensor, TensorMut};

use super::expression;
use crate::ops::eval::eval_new;
use crate::ops::native::{NativeElement, by_native};
use crate::{Args, Facts, FusionRole, InferCx, OpError, Operands, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// Converts each element to `to`: floats to integers by truncation, integers to narrower ones by wrapping, to
    /// `bool` by comparison with zero, to and from `str` in decimal notation. Small floats saturate, and `f8E8M0FNU` is
    /// rounded up; `math.narrow` has the other ways.
    ///
    /// - (C1) A string that becomes a number is one in decimal notation, or `inf` or `nan` in any case.
    "math.cast" = Cast(x) {
        /// The result's dtype.
        to: DType,
    }
}

impl Semantics for Cast {
    const FACTS: Facts<Cast> =
        Facts::expression(Some(FusionRole::Convert), |op: &Cast, s| expression::cast(s.given(0)?, op.to))
            .with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        Ok(vec![TensorType::of(self.to, cx.tensor(0)?.shape.clone()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        if x.dtype() == self.to {
            return Ok(vec![x.clone().into()]);
        }
        if let Some(results) = eval_new(self, args, &[(self.to, x.shape())])? {
            return Ok(results);
        }
        // Strings, elements of less than a byte, and small floats.
        let t = match (x.dtype(), self.to) {
            (DType::Str, to) => from_strings(x, to)?,
            (_, DType::Str) => Tensor::from_strings(x.shape(), to_strings(x))?,
            (DType::U64, to) if to.is_real() => Tensor::from_f64(to, x.shape(), &x.to_f64_vec())?,
            (from, to) if from.is_real() => Tensor::from_f64(to, x.shape(), &x.to_f64_vec())?,
            (_, to) => Tensor::from_i64(to, x.shape(), &x.to_i64_vec())?,
        };
        Ok(vec![t.into()])
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let (x, y) = (operands.tensor(0)?, &mut results[0]);
        match (x.dtype(), self.to) {
            (from, to) if from == to => y.bytes_mut().copy_from_slice(x.bytes()),
            (DType::Bool, _) => return converted(x.as_slice::<u8>()?, y),
            _ => return by_native!(x.dtype(), T => converted(x.as_slice::<T>()?, y), else Ok(false)),
        }
        Ok(true)
    }
}

/// Converts elements to the dtype of the result; whether it is one that fills bytes.
fn converted<T: NativeElement>(x: &[T], y: &mut TensorMut) -> Result<bool, OpError> {
    if y.dtype() == DType::Bool {
        y.as_mut_slice::<u8>()?.iter_mut().zip(x).for_each(|(y, x)| *y = u8::from(x.to_f64() != 0.0));
        return Ok(true);
    }
    let by_float = T::DTYPE.is_float() || (T::DTYPE == DType::U64 && y.dtype().is_float());
    by_native!(y.dtype(), To => {
        let to = y.as_mut_slice::<To>()?.iter_mut().zip(x);
        match by_float {
            true => to.for_each(|(y, x)| *y = To::of_float(x.to_f64())),
            false => to.for_each(|(y, x)| *y = To::of_int(x.to_i64())),
        }
        Ok(true)
    }, else Ok(false))
}

fn from_strings(x: &Tensor, to: DType) -> Result<Tensor, OpError> {
    let strings = x.strings()?;
    // Integers do not go through `f64`, which has no room for all of them.
    let whole: Option<Vec<i64>> = strings.iter().map(|s| s.trim().parse().ok()).collect();
    if let (Some(whole), false) = (whole, to.is_real()) {
        return Ok(Tensor::from_i64(to, x.shape(), &whole)?);
    }
    let mut values = Vec::with_capacity(strings.len());
    for s in strings {
        let value = s.trim().parse::<f64>();
        ensure!(value.is_ok(), "C1", "{s:?} is not a number");
        values.extend(value);
    }
    Ok(Tensor::from_f64(to, x.shape(), &values)?)
}

/// The shortest decimal notation that reads as the same value of the dtype (`f32` for the narrower floats).
fn to_strings(x: &Tensor) -> Vec<String> {
    match x.dtype() {
        DType::F64 => x.to_f64_vec().iter().map(|v| v.to_string()).collect(),
        d if d.is_real() => x.to_f64_vec().iter().map(|&v| (v as f32).to_string()).collect(),
        DType::Bool => x.bytes().iter().map(|&b| if b == 0 { "False" } else { "True" }.to_owned()).collect(),
        DType::U64 => x.to_i64_vec().iter().map(|&v| (v as u64).to_string()).collect(),
        _ => x.to_i64_vec().iter().map(|v| v.to_string()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(x: Tensor, to: DType) -> Result<Tensor, OpError> {
        let found = crate::Op::from(Cast { to }).eval(&Args::plain(&[Some(x.into())]))?;
        Ok(found[0].as_tensor().unwrap().clone())
    }

    fn strings(values: &[&str]) -> Tensor {
        Tensor::from_strings(&[values.len()], values.iter().map(|&s| s.to_owned()).collect()).unwrap()
    }

    #[test]
    fn wide_integers_keep_their_value() {
        let x = Tensor::scalar(u64::MAX);
        assert_eq!(cast(x.clone(), DType::F64).unwrap().to_f64_vec(), [18446744073709551615.0]);
        assert_eq!(cast(x, DType::Str).unwrap().strings().unwrap(), ["18446744073709551615"]);
        let x = Tensor::scalar(300i64);
        assert_eq!(cast(x, DType::U8).unwrap().to_i64_vec(), [44]);
        assert_eq!(cast(strings(&["9007199254740993"]), DType::I64).unwrap().to_i64_vec(), [9007199254740993]);
    }

    #[test]
    fn strings_that_are_no_numbers_are_refused() {
        assert!(cast(strings(&["1", "one"]), DType::F32).is_err());
        let x = cast(strings(&["-INF", "NaN", "1e-5", " 2 "]), DType::F64).unwrap().to_f64_vec();
        assert!(x[0] == f64::NEG_INFINITY && x[1].is_nan() && x[2..] == [1e-5, 2.0]);
        assert_eq!(cast(strings(&["100.5"]), DType::I32).unwrap().to_i64_vec(), [100]);
    }
}
