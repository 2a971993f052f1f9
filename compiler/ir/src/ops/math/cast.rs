//! Conversion between dtypes.

use optc_tensor::{DType, Tensor};

use crate::{Args, InferCx, OpError, Semantics, TensorType, Type, Val, op};

op! {
    /// Converts each element to `to`: floats to integers by truncation, integers to narrower ones by wrapping, to `bool` by
    /// comparison with zero.
    "math.cast" = Cast(x) {
        /// The result's dtype.
        to: DType,
    }
}

impl Semantics for Cast {
    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        Ok(vec![TensorType::of(self.to, cx.tensor(0)?.shape.clone()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        if x.dtype() == self.to {
            return Ok(vec![x.clone().into()]);
        }
        if x.dtype() == DType::Str || self.to == DType::Str {
            return crate::ops::bad_dtype("math.cast", DType::Str);
        }
        let t = if x.dtype().is_float() {
            Tensor::from_f64(self.to, x.shape(), &x.to_f64_vec())?
        } else {
            Tensor::from_i64(self.to, x.shape(), &x.to_i64_vec())?
        };
        Ok(vec![t.into()])
    }
}
