//! Transcendental functions as polynomials in tile operations.
//!
//! Bounds against the exact value, over all finite `f32`: exp 2 ulp (above the smallest normal; below it zero), tanh and
//! sigmoid 4 ulp, erf 3e-7 absolute. NaN gives NaN.

use super::{Binary, Cmp, Reg, Shift, TileBuilder, Unary};

/// 1.5 * 2^23: adding it rounds a small `f32` to an integer that then stands in the low bits.
const MAGIC: f32 = 12_582_912.0;
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;
/// Minimax coefficients of (exp(r) - 1 - r) / r^2 on |r| <= ln2/2, highest first (as in Cephes' expf).
const EXP: [f32; 6] = [1.987_569_2e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

impl TileBuilder {
    /// The polynomial with these coefficients, highest power first.
    pub fn poly(&mut self, x: Reg, coefficients: &[f32]) -> Reg {
        let mut sum = self.f32(coefficients[0]);
        for &c in &coefficients[1..] {
            let c = self.f32(c);
            sum = self.fma(sum, x, c);
        }
        sum
    }

    /// `clamp(x, lo, hi)`, NaN stays NaN.
    pub fn clamp(&mut self, x: Reg, lo: f32, hi: f32) -> Reg {
        let (lo, hi) = (self.f32(lo), self.f32(hi));
        let x = self.max(lo, x);
        self.min(hi, x)
    }

    /// Splits `x` into `n * ln2 + r`: returns `r` and the bits `2^n` would add to an exponent, for `|n| < 2^8`.
    fn split_exp(&mut self, x: Reg) -> (Reg, Reg) {
        let (log2e, magic) = (self.f32(std::f32::consts::LOG2_E), self.f32(MAGIC));
        let shifted = self.fma(x, log2e, magic);
        let n = self.sub(shifted, magic);
        let (hi, lo) = (self.f32(-LN2_HI), self.f32(-LN2_LO));
        let r = self.fma(n, hi, x);
        let r = self.fma(n, lo, r);
        let bits = self.unary(Unary::AsInt, shifted);
        (r, self.shift(Shift::Left, bits, 23))
    }

    /// `exp(r) - 1` for `|r| <= ln2 / 2`.
    fn expm1_small(&mut self, r: Reg) -> Reg {
        let p = self.poly(r, &EXP);
        let r2 = self.mul(r, r);
        self.fma(p, r2, r)
    }

    /// `exp(x)`.
    pub fn exp(&mut self, x: Reg) -> Reg {
        let c = self.clamp(x, -87.3, 88.722_84);
        let (r, n) = self.split_exp(c);
        let e = self.expm1_small(r);
        let one = self.f32(1.0);
        let e = self.add(e, one);
        // Adding to the exponent stays in range: where n is 128, e is below 1, and where n is -126, e is above.
        let bits = self.unary(Unary::AsInt, e);
        let scaled = self.add(bits, n);
        let y = self.unary(Unary::AsFloat, scaled);
        let (lo, hi) = (self.f32(-87.3), self.f32(88.722_84));
        let (zero, infinity) = (self.f32(0.0), self.f32(f32::INFINITY));
        let under = self.cmp(Cmp::Lt, x, lo);
        let y = self.select(under, zero, y);
        let over = self.cmp(Cmp::Gt, x, hi);
        let y = self.select(over, infinity, y);
        self.keep_nan(x, y)
    }

    /// `y`, or `x` where `x` is NaN.
    fn keep_nan(&mut self, x: Reg, y: Reg) -> Reg {
        let nan = self.cmp(Cmp::Ne, x, x);
        self.select(nan, x, y)
    }

    /// `1 / (1 + exp(-x))`.
    pub fn sigmoid(&mut self, x: Reg) -> Reg {
        let neg = self.unary(Unary::Neg, x);
        let e = self.exp(neg);
        let one = self.f32(1.0);
        let below = self.add(e, one);
        self.div(one, below)
    }

    /// `tanh(x)`, as `m / (m + 2)` with `m = exp(2|x|) - 1`.
    pub fn tanh(&mut self, x: Reg) -> Reg {
        let abs = self.unary(Unary::Abs, x);
        let twice = self.add(abs, abs);
        let limit = self.f32(20.0);
        let c = self.min(limit, twice);
        let (r, n) = self.split_exp(c);
        let em1 = self.expm1_small(r);
        let one = self.f32(1.0);
        let one_bits = self.i32(1f32.to_bits() as i32);
        let scale = self.add(one_bits, n);
        let scale = self.unary(Unary::AsFloat, scale);
        // exp(c) - 1 = scale * em1 + (scale - 1), exact enough as scale is a power of two
        let less = self.sub(scale, one);
        let m = self.fma(scale, em1, less);
        let two = self.f32(2.0);
        let below = self.add(m, two);
        let y = self.div(m, below);
        self.copy_sign(y, x)
    }

    /// `|y|` with the sign of `x`; NaN where `x` is.
    fn copy_sign(&mut self, y: Reg, x: Reg) -> Reg {
        let (y_bits, x_bits) = (self.unary(Unary::AsInt, y), self.unary(Unary::AsInt, x));
        let sign = self.i32(i32::MIN);
        let sign = self.binary(Binary::And, x_bits, sign);
        let y = self.binary(Binary::Or, y_bits, sign);
        let y = self.unary(Unary::AsFloat, y);
        self.keep_nan(x, y)
    }

    /// `erf(x)`: Abramowitz and Stegun 7.1.26 for large arguments, the Maclaurin series below one.
    pub fn erf(&mut self, x: Reg) -> Reg {
        let abs = self.unary(Unary::Abs, x);
        let (p, one) = (self.f32(0.327_591_1), self.f32(1.0));
        let below = self.fma(p, abs, one);
        let t = self.div(one, below);
        let tail = self.poly(t, &[1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6, 0.0]);
        let x2 = self.mul(x, x);
        let minus = self.unary(Unary::Neg, x2);
        let e = self.exp(minus);
        let tail = self.mul(tail, e);
        let large = self.sub(one, tail);
        let large = self.copy_sign(large, x);
        let series = self.poly(x2, &ERF_SERIES);
        let small = self.mul(series, x);
        let inside = self.cmp(Cmp::Lt, abs, one);
        self.select(inside, small, large)
    }
}

/// `2 / sqrt(pi) * (-1)^n / (n! (2n + 1))` for n = 10 down to 0.
const ERF_SERIES: [f32; 11] = [
    1.480_720_4e-8,
    -1.636_584_6e-7,
    1.646_211_5e-6,
    -1.492_565e-5,
    1.205_533_3e-4,
    -8.548_327e-4,
    5.223_977_6e-3,
    -2.686_617e-2,
    1.128_379_2e-1,
    -3.761_263_9e-1,
    std::f32::consts::FRAC_2_SQRT_PI,
];
