//! `cf.if`.

use optc_tensor::DType;

use super::{check_scalar, only, output_type, params_take_operands, present, region, types_from};
use crate::{Args, Facts, InferCx, OpError, Semantics, Type, Val, ensure, op};

op! {
    /// The outputs of the first region where `cond` is true, of the second where it is false.
    ///
    /// - (C1) There are two regions, with one parameter a capture and equally many outputs.
    /// - (C2) `cond` is one boolean, and the regions' parameters take the captures.
    /// - (C3) The branches' outputs have the same kinds and dtypes; the result's type covers both.
    ///
    /// Text: `%y = cf.if %c, %x : tensor<4xf32> region func @then(%x: tensor<4xf32>) {…} region func @else(…) {…}`
    "cf.if" = If(cond, captures: many) {}
}

impl Semantics for If {
    const FACTS: Facts<If> = Facts::host("control flow: its regions run as plans of their own").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        check_scalar(cx, 0, DType::Bool, "the condition")?;
        ensure!(cx.regions.len() == 2, "C1", "expected 2 regions, found {}", cx.regions.len());
        let captures = cx.types.len() - 1;
        let (yes, no) = (region(cx, 0, captures, 0)?, region(cx, 1, captures, 0)?);
        params_take_operands(cx, yes, 0, 1)?;
        params_take_operands(cx, no, 0, 1)?;
        let (a, b) = (yes.outputs.len(), no.outputs.len());
        ensure!(a == b, "C1", "the branches have {a} and {b} outputs");
        let join = |i: usize| {
            let (a, b) = (output_type(yes, i)?, output_type(no, i)?);
            let reason = || format!("output {i} is {a} in one branch and {b} in the other");
            a.join(b).ok_or_else(|| OpError::Constraint { constraint: "C3", reason: reason() })
        };
        (0..a).map(join).collect()
    }

    fn region_params(&self, cx: &InferCx, _region: usize) -> Vec<Option<Type>> {
        types_from(cx, 1)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let cond = only(args.tensor(0)?, DType::Bool, "the condition")?;
        (args.call)(usize::from(cond == 0), &present(args.values, 1)?)
    }
}
