//! Activations: elementwise functions of one float operand, with parameters. The result has the operand's type.

use optc_kernel::expr::{Expr, Func};
use optc_kernel::tile::Cmp;

use super::unary::{map_float, same_type, unary};
use crate::{Args, Facts, InferCx, OpError, Real, Semantics, Type, Val, op};

unary! {
    /// `1 / (1 + e⁻ˣ)`.
    "math.sigmoid" = Sigmoid {} |s, x| sigmoid(x),
        Facts::float(|_, x| x.func(Func::Sigmoid));
    /// `ln(1 + eˣ)`, without overflow.
    "math.softplus" = Softplus {} |s, x| softplus(x),
        Facts::float(|_, x| x.softplus());
    /// `x / (1 + |x|)`.
    "math.softsign" = Softsign {} |s, x| x / (1.0 + x.abs()),
        Facts::float(|_, x| x.softsign());
    /// `x · max(0, min(1, x/6 + 1/2))`.
    "math.hard_swish" = HardSwish {} |s, x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Facts::float(|_, x| x.hard_swish());
    /// `x · tanh(softplus(x))`.
    "math.mish" = Mish {} |s, x| x * softplus(x).tanh(),
        Facts::float(|_, x| x.mish());
    /// `x · sigmoid(alpha · x)`.
    "math.swish" = Swish { alpha = 1.0 } |s, x| x * sigmoid(s.alpha.0 as f64 * x),
        Facts::float(swish_expression);
    /// `x` where it is not negative, else `alpha · x`.
    "math.leaky_relu" = LeakyRelu { alpha = 0.01 } |s, x| if x < 0.0 { s.alpha.0 as f64 * x } else { x },
        Facts::float(|op, x| x.leaky_relu(op.alpha.0));
    /// `x` where it is above `alpha`, else 0, for NaN too.
    "math.thresholded_relu" = ThresholdedRelu { alpha = 1.0 } |s, x| if x > s.alpha.0 as f64 { x } else { 0.0 },
        Facts::float(|op, x| Expr::Const(op.alpha.0).cmp(Cmp::Lt, x.clone()).select(x, Expr::Const(0.0)));
    /// `x` where it is not negative, else `alpha · (eˣ − 1)`.
    "math.elu" = Elu { alpha = 1.0 } |s, x| if x < 0.0 { s.alpha.0 as f64 * x.exp_m1() } else { x },
        Facts::float(|op, x| x.elu(op.alpha.0));
    /// `max(0, x) + min(0, alpha · (e^(x / alpha) − 1))`.
    "math.celu" = Celu { alpha = 1.0 } |s, x| {
        let alpha = s.alpha.0 as f64;
        relu(x) + (alpha * (x / alpha).exp_m1()).min(0.0)
    },
        Facts::float(|op, x| x.celu(op.alpha.0));
    /// `gamma · x` where it is positive, else `gamma · alpha · (eˣ − 1)`.
    "math.selu" = Selu { alpha = 1.673_263_2, gamma = 1.050_701 } |s, x| {
        s.gamma.0 as f64 * if x > 0.0 { x } else { s.alpha.0 as f64 * x.exp_m1() }
    },
        Facts::float(|op, x| x.selu(op.alpha.0, op.gamma.0));
    /// `max(0, min(1, alpha · x + beta))`.
    "math.hard_sigmoid" = HardSigmoid { alpha = 0.2, beta = 0.5 } |s, x| {
        (s.alpha.0 as f64 * x + s.beta.0 as f64).clamp(0.0, 1.0)
    },
        Facts::float(|op, x| x.hard_sigmoid(op.alpha.0, op.beta.0));
}

op! {
    /// `x · Φ(x)` with the normal distribution function Φ, or the usual approximation of it by `tanh`.
    "math.gelu" = Gelu(x) {
        /// Whether Φ(x) is `(1 + tanh(√(2/π) · (x + 0.044715 x³))) / 2`.
        approximate: bool = false,
    }
}

impl Semantics for Gelu {
    const FACTS: Facts<Gelu> = Facts::float(|op, x| if op.approximate { x.gelu_tanh() } else { x.gelu() });

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        same_type(cx)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let approximate = self.approximate;
        map_float("math.gelu", args.tensor(0)?, |x| {
            let bent = if approximate {
                let slope = (2.0 / std::f64::consts::PI).sqrt();
                (slope * (x + 0.044715 * x * x * x)).tanh()
            } else {
                super::unary::erf(x * std::f64::consts::FRAC_1_SQRT_2)
            };
            0.5 * x * (1.0 + bent)
        })
    }
}

op! {
    /// `x − bias` above `lambda`, `x + bias` below `−lambda`, else 0.
    "math.shrink" = Shrink(x) {
        /// What the magnitude becomes smaller by.
        bias: Real = Real(0.0),
        /// The largest magnitude that becomes 0.
        lambda: Real = Real(0.5),
    }
}

impl Semantics for Shrink {
    const FACTS: Facts<Shrink> = Facts::float(|op, x| {
        let (bias, lambda) = (Expr::Const(op.bias.0), Expr::Const(op.lambda.0));
        let below = x.clone().cmp(Cmp::Lt, lambda.clone().negated());
        let above = x.clone().cmp(Cmp::Gt, lambda);
        let positive = above.select(x.clone().minus(bias.clone()), Expr::Const(0.0));
        below.select(x.plus(bias), positive)
    });

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        same_type(cx)
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (bias, lambda) = (self.bias.0 as f64, self.lambda.0 as f64);
        let shrink = |x: f64| match x {
            x if x < -lambda => x + bias,
            x if x > lambda => x - bias,
            _ => 0.0,
        };
        let (int, uint) = (|x| shrink(x as f64) as i64, |x| shrink(x as f64) as u64);
        super::unary::map_number(self, args, shrink, int, uint)
    }
}

/// `x · sigmoid(alpha · x)`.
fn swish_expression(op: &Swish, x: Expr) -> Expr {
    let scaled = if op.alpha.0 == 1.0 { x.clone() } else { x.clone().times(Expr::Const(op.alpha.0)) };
    x.times(scaled.func(Func::Sigmoid))
}

fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

pub(crate) fn softplus(x: f64) -> f64 {
    relu(x) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_tensor::Tensor;

    fn eval(op: impl Into<crate::Op>, x: &[f32]) -> Vec<f64> {
        let x = Tensor::from_slice(&[x.len()], x).unwrap();
        op.into().eval(&Args::plain(&[Some(x.into())])).unwrap()[0].as_tensor().unwrap().to_f64_vec()
    }

    #[test]
    fn saturated_ends_neither_overflow_nor_lose_nan() {
        let ends = [-1e4, 1e4, f32::NAN];
        let near = |found: Vec<f64>, low: f64, high: f64| {
            assert!((found[0] - low).abs() < 1e-6 && (found[1] - high).abs() < 1e-2 && found[2].is_nan(), "{found:?}");
        };
        near(eval(Softplus {}, &ends), 0.0, 1e4);
        near(eval(Mish {}, &ends), 0.0, 1e4);
        near(eval(Swish { alpha: Real(1.0) }, &ends), 0.0, 1e4);
        near(eval(Gelu { approximate: false }, &ends), 0.0, 1e4);
        near(eval(Gelu { approximate: true }, &ends), 0.0, 1e4);
        near(eval(Celu { alpha: Real(2.0) }, &ends), -2.0, 1e4);
        near(eval(Elu { alpha: Real(1.0) }, &ends), -1.0, 1e4);
    }

    #[test]
    fn gelu_agrees_with_published_values() {
        let y = eval(Gelu { approximate: false }, &[1.0, -1.0]);
        assert!((y[0] - 0.841_344_746).abs() < 1e-7 && (y[1] + 0.158_655_254).abs() < 1e-7);
        let y = eval(Gelu { approximate: true }, &[1.0]);
        assert!((y[0] - 0.841_192).abs() < 1e-6);
    }

    #[test]
    fn shrink_is_zero_on_the_closed_band() {
        let op = Shrink { bias: Real(0.5), lambda: Real(1.0) };
        assert_eq!(eval(op, &[-2.0, -1.0, 0.5, 1.0, 3.0]), [-1.5, 0.0, 0.0, 0.0, 2.5]);
    }
}
