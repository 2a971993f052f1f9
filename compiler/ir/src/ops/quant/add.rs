//! The sum of two quantized tensors.

use optc_kernel::expr::Expr;
use optc_tensor::DType;

use super::expression;
use super::quantize::{Dequantize, Quantize};
use crate::ops::math::{Add, broadcast_types};
use crate::ops::scalar::{NoExpression, Scalars};
use crate::{Args, Facts, FusionRole, InferCx, Op, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// `quantize(dequantize(a) + dequantize(b))`, each with a scale and a zero point of its own, all in `f32`.
    ///
    /// - (C1) `a`, `b` and the zero points have one 8-bit dtype, scales are `f32`.
    /// - (C2) The shapes of `a` and `b` broadcast.
    "quant.add" = QuantAdd(a, a_scale, a_zero, b, b_scale, b_zero, scale, zero) {}
}

impl Semantics for QuantAdd {
    const FACTS: Facts<QuantAdd> = Facts::expression(Some(FusionRole::Quantized), sum);

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (a, b) = (cx.tensor(0)?, cx.tensor(3)?);
        for slot in [0, 2, 3, 5, 7] {
            let t = cx.tensor(slot)?;
            let fits = matches!(t.dtype, DType::U8 | DType::I8) && t.dtype == a.dtype;
            ensure!(fits, "C1", "operand {slot} is {t}, expected 8-bit integers of the first one's dtype");
        }
        for slot in [1, 4, 6] {
            ensure!(cx.tensor(slot)?.dtype == DType::F32, "C1", "scale {slot} is {}", cx.tensor(slot)?);
        }
        let dims = broadcast_types(a, b).map_err(|e| e.numbered("C2"))?;
        Ok(vec![TensorType::of(a.dtype, dims).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let value = |slot: usize| args.values.get(slot).cloned().flatten();
        let real = |slots: [usize; 3]| -> Result<Option<Val>, OpError> {
            let op: Op = Dequantize { axis: 0, block: 0, to: DType::F32 }.into();
            Ok(op.eval(&Args::plain(&slots.map(value)))?.pop())
        };
        let sum = Op::from(Add {}).eval(&Args::plain(&[real([0, 1, 2])?, real([3, 4, 5])?]))?.pop();
        let op = Quantize { axis: 0, block: 0, precision: DType::F32, to: args.tensor(0)?.dtype() };
        Op::from(op).eval(&Args::plain(&[sum, value(6), value(7)]))
    }
}

fn sum(_: &QuantAdd, s: &Scalars) -> Result<Expr, NoExpression> {
    let given = |i: usize| s.given(i).map(|arg| arg.expr.clone());
    let real = |[x, scale, zero]: [usize; 3]| -> Result<Expr, NoExpression> {
        Ok(given(x)?.minus(given(zero)?).to_float().times(given(scale)?))
    };
    expression::quantized([real([0, 1, 2])?.plus(real([3, 4, 5])?), given(6)?, given(7)?], s.result)
}
