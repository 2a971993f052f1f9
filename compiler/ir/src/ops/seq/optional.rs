//! Optional values. Where one is expected, a value of its content's type stands for itself.

use optc_tensor::{DType, Tensor};

use super::{type_of, value};
use crate::{Args, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// The optional that holds `x`.
    "opt.some" = OptSome(x) {}
}

impl Semantics for OptSome {
    const FACTS: Facts<OptSome> = Facts::host("sequences and optionals are values of the host").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        Ok(vec![Type::Optional(Box::new(type_of(cx, 0)?.clone()))])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = value(args, 0)?;
        Ok(vec![Val::Opt(x.ty(), Some(Box::new(x.clone())))])
    }
}

op! {
    /// The optional that holds nothing.
    "opt.none" = OptNone() {
        /// The type that it could hold.
        of: Type,
    }
}

impl Semantics for OptNone {
    const FACTS: Facts<OptNone> = Facts::host("sequences and optionals are values of the host").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, _: &InferCx) -> Result<Vec<Type>, OpError> {
        Ok(vec![Type::Optional(Box::new(self.of.clone()))])
    }

    fn eval(&self, _: &Args) -> Result<Vec<Val>, OpError> {
        Ok(vec![Val::Opt(self.of.clone(), None)])
    }
}

op! {
    /// Whether `x` holds something.
    "opt.has" = OptHas(x) {}
}

impl Semantics for OptHas {
    const FACTS: Facts<OptHas> = Facts::host("sequences and optionals are values of the host").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, _: &InferCx) -> Result<Vec<Type>, OpError> {
        Ok(vec![TensorType::fixed(DType::Bool, &[]).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let has = !matches!(value(args, 0)?, Val::Opt(_, None));
        Ok(vec![Tensor::from_bools(&[], &[has])?.into()])
    }
}

op! {
    /// What `x` holds.
    ///
    /// - (C1) It holds something.
    "opt.get" = OptGet(x) {}
}

impl Semantics for OptGet {
    const FACTS: Facts<OptGet> = Facts::host("sequences and optionals are values of the host").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = type_of(cx, 0)?;
        Ok(vec![if let Type::Optional(of) = x { (**of).clone() } else { x.clone() }])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = value(args, 0)?;
        ensure!(!matches!(x, Val::Opt(_, None)), "C1", "the optional holds nothing");
        Ok(vec![if let Val::Opt(_, Some(x)) = x { (**x).clone() } else { x.clone() }])
    }
}
