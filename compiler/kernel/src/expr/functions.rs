//! Functions that are compositions: activations, NaN-keeping minima and maxima, powers.
//!
//! Each agrees with the op of its name in the graph IR, NaN, infinities and the sign of zero included unless it says
//! otherwise.

use super::{Expr, Func};
use crate::tile::{Binary, Cmp, Unary};

impl Expr {
    /// `|self|`.
    pub fn abs(self) -> Expr {
        self.func(Func::Lane(Unary::Abs))
    }

    /// `-self`.
    pub fn negated(self) -> Expr {
        self.func(Func::Lane(Unary::Neg))
    }

    /// The square root.
    pub fn sqrt(self) -> Expr {
        self.func(Func::Lane(Unary::Sqrt))
    }

    /// `1 / self`.
    pub fn reciprocal(self) -> Expr {
        Expr::Const(1.0).over(self)
    }

    /// The largest integer not above.
    pub fn floor(self) -> Expr {
        self.func(Func::Lane(Unary::Floor))
    }

    /// The smallest integer not below.
    pub fn ceil(self) -> Expr {
        self.func(Func::Lane(Unary::Ceil))
    }

    /// The nearest integer, ties to even.
    pub fn round(self) -> Expr {
        self.func(Func::Lane(Unary::Nearest))
    }

    /// `exp(self)`.
    pub fn exp(self) -> Expr {
        self.func(Func::Exp)
    }

    /// The natural logarithm.
    pub fn log(self) -> Expr {
        self.func(Func::Log)
    }

    /// The smaller one of two `f32`; NaN where either is.
    pub fn minimum(self, b: Expr) -> Expr {
        self.extremum(Binary::Min, b)
    }

    /// The larger one of two `f32`; NaN where either is.
    pub fn maximum(self, b: Expr) -> Expr {
        self.extremum(Binary::Max, b)
    }

    /// The lane operations give their second operand when one is NaN: enough when the first is a number.
    fn extremum(self, op: Binary, b: Expr) -> Expr {
        match (&self, &b) {
            (Expr::Const(c), _) if !c.is_nan() => self.binary(op, b),
            (_, Expr::Const(c)) if !c.is_nan() => b.binary(op, self),
            _ => {
                let either = self.clone().binary(op, b);
                self.clone().cmp(Cmp::Ne, self.clone()).select(self, either)
            }
        }
    }

    /// `max(self, 0)`; NaN stays NaN.
    pub fn relu(self) -> Expr {
        self.maximum(Expr::Const(0.0))
    }

    /// `min(max(self, lo), hi)`; NaN stays NaN.
    pub fn clip(self, lo: f32, hi: f32) -> Expr {
        self.maximum(Expr::Const(lo)).minimum(Expr::Const(hi))
    }

    /// -1, 0 or 1 with the sign of `self`; zeros and NaN stay.
    pub fn sign(self) -> Expr {
        let one = |mask: Expr, value: f32, other: Expr| mask.select(Expr::Const(value), other);
        let above = self.clone().cmp(Cmp::Gt, Expr::Const(0.0));
        let below = self.clone().cmp(Cmp::Lt, Expr::Const(0.0));
        one(below, -1.0, one(above, 1.0, self))
    }

    /// `self < 0 ? negative : self`.
    fn where_negative(self, negative: Expr) -> Expr {
        self.clone().cmp(Cmp::Lt, Expr::Const(0.0)).select(negative, self)
    }

    /// `self < 0 ? slope * self : self`.
    pub fn leaky_relu(self, slope: f32) -> Expr {
        let scaled = self.clone().times(Expr::Const(slope));
        self.where_negative(scaled)
    }

    /// `self < 0 ? alpha * (exp(self) - 1) : self`.
    pub fn elu(self, alpha: f32) -> Expr {
        let curved = self.clone().func(Func::ExpM1).times(Expr::Const(alpha));
        self.where_negative(curved)
    }

    /// `gamma * elu(self, alpha)`.
    pub fn selu(self, alpha: f32, gamma: f32) -> Expr {
        self.elu(alpha).times(Expr::Const(gamma))
    }

    /// `self < 0 ? alpha * (exp(self / alpha) - 1) : self`.
    pub fn celu(self, alpha: f32) -> Expr {
        let curved = self.clone().over(Expr::Const(alpha)).func(Func::ExpM1).times(Expr::Const(alpha));
        self.where_negative(curved)
    }

    /// `self * sigmoid(self)`.
    pub fn silu(self) -> Expr {
        self.clone().times(self.func(Func::Sigmoid))
    }

    /// `clip(alpha * self + beta, 0, 1)`.
    pub fn hard_sigmoid(self, alpha: f32, beta: f32) -> Expr {
        self.times(Expr::Const(alpha)).plus(Expr::Const(beta)).clip(0.0, 1.0)
    }

    /// `self * hard_sigmoid(self, 1/6, 1/2)`.
    pub fn hard_swish(self) -> Expr {
        self.clone().times(self.hard_sigmoid(1.0 / 6.0, 0.5))
    }

    /// `self / 2 * (1 + erf(self / sqrt(2)))`.
    pub fn gelu(self) -> Expr {
        let erf = self.clone().times(Expr::Const(std::f32::consts::FRAC_1_SQRT_2)).func(Func::Erf);
        self.times(Expr::Const(0.5)).times(erf.plus(Expr::Const(1.0)))
    }

    /// `self / 2 * (1 + tanh(sqrt(2 / pi) * (self + 0.044715 * self^3)))`.
    pub fn gelu_tanh(self) -> Expr {
        let inner = self.clone().times(self.clone()).times(Expr::Const(0.044_715)).plus(Expr::Const(1.0));
        let inner = inner.times(self.clone()).times(Expr::Const(0.797_884_6));
        self.times(Expr::Const(0.5)).times(inner.func(Func::Tanh).plus(Expr::Const(1.0)))
    }

    /// `log(1 + exp(self))`, without overflow.
    pub fn softplus(self) -> Expr {
        let small = self.clone().abs().negated().exp().func(Func::Log1p);
        self.relu().plus(small)
    }

    /// `self / (1 + |self|)`.
    pub fn softsign(self) -> Expr {
        let below = self.clone().abs().plus(Expr::Const(1.0));
        self.over(below)
    }

    /// `self * tanh(softplus(self))`, as `self * n / (n + 2)` with `n = e (e + 2)`, `e = exp(self)`.
    pub fn mish(self) -> Expr {
        let e = self.clone().minimum(Expr::Const(20.0)).exp();
        let n = e.clone().plus(Expr::Const(2.0)).times(e);
        self.times(n.clone().over(n.plus(Expr::Const(2.0))))
    }

    /// A value that is not negative, with the sign of `x`.
    fn signed_as(self, x: Expr) -> Expr {
        let sign = x.func(Func::Lane(Unary::AsInt)).binary(Binary::And, Expr::Int(i32::MIN));
        let bits = self.func(Func::Lane(Unary::AsInt)).binary(Binary::Or, sign);
        bits.func(Func::Lane(Unary::AsFloat))
    }

    /// `exp(|self|) / 2`, finite wherever that is: by the square of the half's exponential.
    fn half_exp(self) -> Expr {
        let root = self.abs().times(Expr::Const(0.5)).exp();
        root.clone().times(Expr::Const(0.5)).times(root)
    }

    /// `sinh(self)`, as `(e + e / (e + 1)) / 2` with `e = exp(|self|) - 1`; from 20 on as `exp(|self|) / 2`.
    pub fn sinh(self) -> Expr {
        let e = self.clone().abs().func(Func::ExpM1);
        let near = e.clone().plus(e.clone().over(e.plus(Expr::Const(1.0)))).times(Expr::Const(0.5));
        let far = self.clone().abs().cmp(Cmp::Gt, Expr::Const(20.0));
        far.select(self.clone().half_exp(), near).signed_as(self)
    }

    /// `cosh(self)`.
    pub fn cosh(self) -> Expr {
        let half = self.half_exp();
        half.clone().plus(Expr::Const(0.25).over(half))
    }

    /// `asinh(self)`: by `log(1 + x)` near zero, as `log(2 |self|)` from 4096 on.
    pub fn asinh(self) -> Expr {
        let one = || Expr::Const(1.0);
        let a = self.clone().abs();
        let square = a.clone().times(a.clone());
        let root = square.clone().plus(one()).sqrt();
        let near = a.clone().plus(square.over(root.clone().plus(one()))).func(Func::Log1p);
        let far = a.clone().log_of_sum(root);
        a.cmp(Cmp::Le, Expr::Const(0.75)).select(near, far).signed_as(self)
    }

    /// `log(self + root)`; from 4096 on, where `root` is as much as `self`, as `log(2 self)`.
    fn log_of_sum(self, root: Expr) -> Expr {
        let large = self.clone().cmp(Cmp::Gt, Expr::Const(4096.0));
        let of = large.clone().select(self.clone(), self.plus(root)).log();
        of.plus(large.select(Expr::Const(std::f32::consts::LN_2), Expr::Const(0.0)))
    }

    /// `acosh(self)`: by `log(1 + x)` near 1, as `log(2 self)` from 4096 on; NaN below 1.
    pub fn acosh(self) -> Expr {
        let above = self.clone().minus(Expr::Const(1.0));
        let root = above.clone().times(self.clone().plus(Expr::Const(1.0))).sqrt();
        let near = above.plus(root.clone()).func(Func::Log1p);
        let far = self.clone().log_of_sum(root);
        let inside = self.clone().cmp(Cmp::Ge, Expr::Const(1.0));
        let y = self.cmp(Cmp::Le, Expr::Const(1.25)).select(near, far);
        inside.select(y, Expr::Const(f32::NAN))
    }

    /// `atanh(self)`: half the logarithm of `(1 + |self|) / (1 - |self|)`, near zero by `log(1 + x)`.
    pub fn atanh(self) -> Expr {
        let a = self.clone().abs();
        let below = Expr::Const(1.0).minus(a.clone());
        let near = a.clone().plus(a.clone()).over(below.clone()).func(Func::Log1p);
        let far = a.clone().plus(Expr::Const(1.0)).over(below).log();
        let y = a.cmp(Cmp::Le, Expr::Const(1.0 / 3.0)).select(near, far);
        y.times(Expr::Const(0.5)).signed_as(self)
    }

    /// `self` to a constant power, where a few exact operations give it: -2, -1, -1/2, 0, 1/2, 1, 2, 3, 4.
    pub fn power(self, exponent: f32) -> Option<Expr> {
        // By twice the exponent, so that halves are integers.
        let twice = 2.0 * exponent;
        let x = || self.clone();
        let square = || x().times(x());
        // pow(-inf, 1/2) is +inf and pow(-0, 1/2) is +0 where the root gives NaN and -0.
        let root = || {
            let infinite = x().cmp(Cmp::Eq, Expr::Const(f32::NEG_INFINITY));
            infinite.select(Expr::Const(f32::INFINITY), x().plus(Expr::Const(0.0)).sqrt())
        };
        Some(match twice {
            -4.0 => square().reciprocal(),
            -2.0 => x().reciprocal(),
            -1.0 => root().reciprocal(),
            0.0 => Expr::Const(1.0),
            1.0 => root(),
            2.0 => self,
            4.0 => square(),
            6.0 => square().times(x()),
            8.0 => square().times(square()),
            _ => return None,
        })
    }
}
