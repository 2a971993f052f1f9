//! Conversion to floats of a byte or less where it is said how.

use optc_tensor::{DType, Overflow, Rounding, Tensor};

use crate::{Args, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op, text_enum};

text_enum! {
    /// To which of two powers of two a number between them goes.
    pub enum RoundMode {
        /// The one that is farther from zero.
        Up = "up",
        /// The one that is nearer to zero.
        Down = "down",
        /// The nearest one; the larger one where both are equally near.
        Nearest = "nearest",
    }
}

op! {
    /// Converts each element to a small float, as `math.cast` does, which saturates and rounds to `f8E8M0FNU` up.
    ///
    /// What rounds to more than the largest value becomes that where `saturate` holds; else infinity, where there is
    /// none NaN, and where there is none either the largest value.
    ///
    /// - (C1) `x` holds numbers or `bool`, and `to` is a small float.
    "math.narrow" = Narrow(x) {
        /// How to round to `f8E8M0FNU`; other dtypes are rounded to nearest, ties to even.
        round_mode: RoundMode = RoundMode::Up,
        /// Whether values out of range become the largest one.
        saturate: bool,
        /// The result's dtype.
        to: DType,
    }
}

impl Narrow {
    fn check(&self, from: DType) -> Result<(), OpError> {
        ensure!(from != DType::Str && self.to.is_small_float(), "C1", "`x` is {from}, `to` is {}", self.to);
        Ok(())
    }
}

impl Semantics for Narrow {
    const FACTS: Facts<Narrow> = Facts::no_expression();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        self.check(x.dtype)?;
        Ok(vec![TensorType::of(self.to, x.shape.clone()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        self.check(x.dtype())?;
        let rounding = match self.round_mode {
            RoundMode::Up => Rounding::Up,
            RoundMode::Down => Rounding::Down,
            RoundMode::Nearest => Rounding::Nearest,
        };
        let overflow = overflow(self.saturate);
        Ok(vec![Tensor::from_f64_with(self.to, x.shape(), &x.to_f64_vec(), overflow, rounding)?.into()])
    }
}

/// What ONNX's attribute `saturate` asks for.
pub(crate) fn overflow(saturate: bool) -> Overflow {
    if saturate { Overflow::Saturates } else { Overflow::Escapes }
}
