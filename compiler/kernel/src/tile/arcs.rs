//! Inverse circular functions as polynomials in tile operations.
//!
//! Bounds against the exact value, over all finite `f32` that the functions are defined on: atan and acos 2 ulp, asin
//! 3 ulp. Outside of that, and for NaN, they give NaN.

use super::{Binary, Cmp, Reg, TileBuilder, Unary};
use std::f32::consts::{FRAC_PI_2, PI};

/// pi/2 less its `f32`.
const FRAC_PI_2_LO: f32 = -4.371_139e-8;
/// pi less its `f32`.
const PI_LO: f32 = -8.742_278e-8;

/// (atan(t) / t - 1) / t^2 in t^2, highest power first: a weighted least squares fit for |t| <= 1, iterated towards the
/// smallest largest relative error (1.7e-8).
const ATAN: [f32; 8] = [
    2.920_688_6e-3,
    -1.636_791_4e-2,
    4.321_183_6e-2,
    -7.552_212_5e-2,
    1.066_600_4e-1,
    -1.421_105_6e-1,
    1.999_377_3e-1,
    -3.333_315_3e-1,
];

/// The same for asin and |t| <= 1/2 (2.8e-10).
const ASIN: [f32; 6] = [3.751_647_5e-2, 1.443_858_7e-2, 3.180_772_4e-2, 4.451_695_5e-2, 7.500_504e-2, 1.666_666e-1];

impl TileBuilder {
    /// `t + t^3 * p(t^2)`.
    fn odd_poly(&mut self, t: Reg, coefficients: &[f32]) -> Reg {
        let z = self.mul(t, t);
        let p = self.poly(z, coefficients);
        let p = self.mul(p, z);
        self.fma(p, t, t)
    }

    /// `y`, which is not negative, with the sign of `x`.
    fn with_sign(&mut self, y: Reg, x: Reg) -> Reg {
        let sign = self.i32(i32::MIN);
        let (y, x) = (self.unary(Unary::AsInt, y), self.unary(Unary::AsInt, x));
        let sign = self.binary(Binary::And, x, sign);
        let y = self.binary(Binary::Or, y, sign);
        self.unary(Unary::AsFloat, y)
    }

    /// `atan(x)`: beyond 1 a quarter turn less the function of `1 / x`.
    pub fn atan(&mut self, x: Reg) -> Reg {
        let (a, one) = (self.unary(Unary::Abs, x), self.f32(1.0));
        let beyond = self.cmp(Cmp::Gt, a, one);
        let inverse = self.div(one, a);
        let t = self.select(beyond, inverse, a);
        let y = self.odd_poly(t, &ATAN);
        let (hi, lo) = (self.f32(FRAC_PI_2), self.f32(FRAC_PI_2_LO));
        let rest = self.sub(hi, y);
        let rest = self.add(rest, lo);
        let y = self.select(beyond, rest, y);
        self.with_sign(y, x)
    }

    /// Whether `|x|` is above 1/2; what the polynomial takes: `small`, or the sine of half the angle between `|x|` and
    /// 1.
    fn half_angle(&mut self, x: Reg, small: Reg) -> (Reg, Reg) {
        let (a, one, half) = (self.unary(Unary::Abs, x), self.f32(1.0), self.f32(0.5));
        let large = self.cmp(Cmp::Gt, a, half);
        let rest = self.sub(one, a);
        let rest = self.mul(rest, half);
        let root = self.unary(Unary::Sqrt, rest);
        (large, self.select(large, root, small))
    }

    /// `asin(x)`: beyond 1/2 a quarter turn less twice the function of the sine of half of what is left.
    pub fn asin(&mut self, x: Reg) -> Reg {
        let a = self.unary(Unary::Abs, x);
        let (large, t) = self.half_angle(x, a);
        let y = self.odd_poly(t, &ASIN);
        let (hi, lo) = (self.f32(FRAC_PI_2), self.f32(FRAC_PI_2_LO));
        let twice = self.add(y, y);
        let twice = self.sub(twice, lo);
        let rest = self.sub(hi, twice);
        let y = self.select(large, rest, y);
        self.with_sign(y, x)
    }

    /// `acos(x)`: as [`TileBuilder::asin`], from the right angle.
    pub fn acos(&mut self, x: Reg) -> Reg {
        let (large, t) = self.half_angle(x, x);
        let y = self.odd_poly(t, &ASIN);
        let (zero, hi, lo) = (self.f32(0.0), self.f32(FRAC_PI_2), self.f32(FRAC_PI_2_LO));
        let near = self.sub(y, lo);
        let near = self.sub(hi, near);
        let twice = self.add(y, y);
        let (hi, lo) = (self.f32(PI), self.f32(PI_LO));
        let far = self.sub(twice, lo);
        let far = self.sub(hi, far);
        let positive = self.cmp(Cmp::Gt, x, zero);
        let far = self.select(positive, twice, far);
        self.select(large, far, near)
    }
}
