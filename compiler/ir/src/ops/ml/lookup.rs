//! Elements looked up in a table.

use optc_tensor::{DType, Tensor};

use crate::ops::message::type_of;
use crate::ops::tensor::{Concat, gather_elements};
use crate::{Args, Const, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// For each element of `x` the element of `values` at the place where `keys` has it, or `default`.
    ///
    /// - (C1) `keys` and `values` are equally many, `default` is one element of the dtype of `values`, and `x` has the
    ///   dtype of `keys`.
    "ml.lookup" = Lookup(x) {
        /// What is looked for; NaN equals NaN.
        keys: Const,
        /// What stands for each key.
        values: Const,
        /// What stands for everything else.
        default: Const,
    }
}

impl Lookup {
    fn check(&self, dtype: DType) -> Result<(), OpError> {
        let (keys, values, default) = (&self.keys.0, &self.values.0, &self.default.0);
        let (k, v) = (keys.len(), values.len());
        ensure!(k == v, "C1", "there are {k} keys and {v} values");
        let one = default.len() == 1 && default.dtype() == values.dtype();
        ensure!(one, "C1", "the default is {}, expected one {}", type_of(default), values.dtype());
        ensure!(dtype == keys.dtype(), "C1", "the operand is {dtype}, the keys {}", keys.dtype());
        Ok(())
    }
}

/// The elements of a tensor as comparable text: the bits of numbers, with one NaN.
fn comparable(t: &Tensor) -> Result<Vec<String>, OpError> {
    Ok(match t.dtype() {
        DType::Str => t.strings()?.to_vec(),
        d if d.is_real() => {
            t.to_f64_vec().iter().map(|v| if v.is_nan() { "NaN".into() } else { v.to_string() }).collect()
        }
        _ => t.to_i64_vec().iter().map(i64::to_string).collect(),
    })
}

impl Semantics for Lookup {
    const FACTS: Facts<Lookup> = Facts::host("strings are values of the host").with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        self.check(x.dtype)?;
        Ok(vec![TensorType::of(self.values.0.dtype(), x.shape.clone()).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        self.check(x.dtype())?;
        let keys = comparable(&self.keys.0)?;
        let mut places = std::collections::HashMap::new();
        for (i, key) in keys.iter().enumerate() {
            places.entry(key.as_str()).or_insert(i);
        }
        let found: Vec<Option<usize>> = comparable(x)?.iter().map(|k| places.get(k.as_str()).copied()).collect();
        let rest = self.values.0.len();
        let flat = |t: &Tensor| t.reshaped(&[t.len()]).map(|t| Some(t.into()));
        let table = if self.values.0.dtype() == DType::Str {
            let mut all = self.values.0.strings()?.to_vec();
            all.extend_from_slice(self.default.0.strings()?);
            Tensor::from_strings(&[rest + 1], all)?
        } else {
            let joined = Concat { axis: 0 }.eval(&Args::plain(&[flat(&self.values.0)?, flat(&self.default.0)?]))?;
            joined.first().and_then(Val::as_tensor).ok_or(OpError::Operand { slot: 0 })?.clone()
        };
        let from = found.into_iter().map(|i| Some(i.unwrap_or(rest)));
        Ok(vec![gather_elements(&table, x.shape(), from)?.into()])
    }
}
