//! Transcendental functions as polynomials in tile operations.
//!
//! Bounds against the exact value, over all finite `f32`: exp 2 ulp (above 1.7e-38; below it zero), exp_m1 and sigmoid
//! 4 ulp, tanh and erf 5 ulp, log and log_1p 2 ulp; sine and cosine 2 ulp for |x| up to 2^21, and an
//! absolute error of 1e-6 beyond. NaN gives NaN.

use super::{Binary, Cmp, Reg, Shift, TileBuilder, Unary};

/// 1.5 * 2^23: adding it rounds a small `f32` to an integer that then stands in the low bits.
const MAGIC: f32 = 12_582_912.0;
/// What an exponent of zero is in the bits of an `f32`.
const EXPONENT_BIAS: f32 = 127.0;
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;
/// Minimax coefficients of (exp(r) - 1 - r) / r^2 on |r| <= ln2/2, highest first (as in Cephes' expf).
const EXP: [f32; 6] = [1.987_569_2e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

impl TileBuilder {
    /// The bits of `x` (`f32`) rounded to the nearest bfloat16, ties to even; the lower half of each lane is zero. NaN
    /// stays NaN.
    pub fn round_bf16(&mut self, x: Reg) -> Reg {
        let bits = self.unary(Unary::AsInt, x);
        let (one, half, high) = (self.i32(1), self.i32(0x7fff), self.i32(-0x1_0000));
        let odd = self.shift(Shift::Logical, bits, 16);
        let odd = self.binary(Binary::And, odd, one);
        let up = self.add(odd, half);
        let rounded = self.add(bits, up);
        let quiet = self.i32(0x0040_0000);
        let nan = self.binary(Binary::Or, bits, quiet);
        let number = self.cmp(Cmp::Eq, x, x);
        let all = self.select(number, rounded, nan);
        self.binary(Binary::And, all, high)
    }

    /// `x` (`f32`) rounded to the nearest half, ties to even, as `f32`: infinity from 65520 on. NaN stays NaN.
    pub fn round_f16(&mut self, x: Reg) -> Reg {
        let bits = self.unary(Unary::AsInt, x);
        let (sign, magnitude) = (self.i32(i32::MIN), self.i32(i32::MAX));
        let sign = self.binary(Binary::And, bits, sign);
        let magnitude = self.binary(Binary::And, bits, magnitude);
        let (one, half, kept) = (self.i32(1), self.i32(0xfff), self.i32(-0x2000));
        let odd = self.shift(Shift::Logical, magnitude, 13);
        let odd = self.binary(Binary::And, odd, one);
        let up = self.add(odd, half);
        let rounded = self.add(magnitude, up);
        let rounded = self.binary(Binary::And, rounded, kept);
        let (end, infinity) = (self.i32(65536f32.to_bits() as i32), self.i32(f32::INFINITY.to_bits() as i32));
        let above = self.cmp(Cmp::Ge, rounded, end);
        let rounded = self.select(above, infinity, rounded);
        // Those that are not normal have the last place of 0.5.
        let place = self.f32(0.5);
        let small = self.unary(Unary::AsFloat, magnitude);
        let small = self.add(small, place);
        let small = self.sub(small, place);
        let small = self.unary(Unary::AsInt, small);
        let least = self.i32(0x3880_0000);
        let is_small = self.cmp(Cmp::Lt, magnitude, least);
        let rounded = self.select(is_small, small, rounded);
        let rounded = self.binary(Binary::Or, rounded, sign);
        let rounded = self.unary(Unary::AsFloat, rounded);
        let number = self.cmp(Cmp::Eq, x, x);
        self.select(number, rounded, x)
    }

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

    /// Splits `x` into `n * ln2 + r`: returns `r` and `2^(n + up)`, for exponents `n + up` from -127 (then 0) to 127.
    fn split_exp(&mut self, x: Reg, up: f32) -> (Reg, Reg) {
        // The exponent's bias comes with the rounding: the low bits are those of the scale's exponent at once.
        let biased = MAGIC + EXPONENT_BIAS + up;
        let (log2e, magic) = (self.f32(std::f32::consts::LOG2_E), self.f32(biased));
        let shifted = self.fma(x, log2e, magic);
        let n = self.sub(shifted, magic);
        let (hi, lo) = (self.f32(-LN2_HI), self.f32(-LN2_LO));
        let r = self.fma(n, hi, x);
        let r = self.fma(n, lo, r);
        let bits = self.unary(Unary::AsInt, shifted);
        let scale = self.shift(Shift::Left, bits, 23);
        (r, self.unary(Unary::AsFloat, scale))
    }

    /// `exp(r) - 1` for `|r| <= ln2 / 2`.
    fn expm1_small(&mut self, r: Reg) -> Reg {
        let p = self.poly(r, &EXP);
        let r2 = self.mul(r, r);
        self.fma(p, r2, r)
    }

    /// `exp(x)`.
    ///
    /// The scale is half of what it should be, and the product doubled: so it is finite up to the overflow, and zero
    /// where the result would not be a normal number. NaN passes through the clamp and the polynomial.
    pub fn exp(&mut self, x: Reg) -> Reg {
        let c = self.clamp(x, -87.4, 89.0);
        let (r, half) = self.split_exp(c, -1.0);
        let e = self.expm1_small(r);
        let y = self.fma(e, half, half);
        self.add(y, y)
    }

    /// `y`, or `x` where `x` is NaN.
    fn keep_nan(&mut self, x: Reg, y: Reg) -> Reg {
        let nan = self.cmp(Cmp::Ne, x, x);
        self.select(nan, x, y)
    }

    /// `exp(x) - 1`, as [`TileBuilder::exp`]; the scale less one is exact enough, as the scale is a power of two.
    pub fn exp_m1(&mut self, x: Reg) -> Reg {
        // From here on the result rounds to -1.
        let c = self.clamp(x, -20.0, 89.0);
        let (r, half) = self.split_exp(c, -1.0);
        let e = self.expm1_small(r);
        let one_half = self.f32(0.5);
        let less = self.sub(half, one_half);
        let y = self.fma(e, half, less);
        self.add(y, y)
    }

    /// The natural logarithm: `e * ln2 + log(m)` with `m` within a factor of sqrt(2) around 1, as the series of
    /// `2 atanh((m - 1) / (m + 1))`.
    pub fn log(&mut self, x: Reg) -> Reg {
        let (tiny, scale) = (self.f32(f32::MIN_POSITIVE), self.f32(8_388_608.0));
        let (zero, one) = (self.f32(0.0), self.f32(1.0));
        let subnormal = self.cmp(Cmp::Lt, x, tiny);
        let scaled = self.mul(x, scale);
        let normal = self.select(subnormal, scaled, x);
        // The exponent that leaves a mantissa from sqrt(1/2) on.
        let bits = self.unary(Unary::AsInt, normal);
        let base = self.i32(std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32);
        let from_base = self.sub(bits, base);
        let e = self.shift(Shift::Arithmetic, from_base, 23);
        let exponent = self.shift(Shift::Left, e, 23);
        let m = self.sub(bits, exponent);
        let m = self.unary(Unary::AsFloat, m);
        let e = self.unary(Unary::ToFloat, e);
        let shift = self.f32(-23.0);
        let fix = self.select(subnormal, shift, zero);
        let e = self.add(e, fix);
        // log(1 + f) = f - f^2/2 + s (f^2/2 + R), R = 2/3 s^2 + 2/5 s^4 + ..., s = f / (2 + f): the large terms are
        // exact
        let f = self.sub(m, one);
        let two = self.f32(2.0);
        let below = self.add(f, two);
        let s = self.div(f, below);
        let z = self.mul(s, s);
        let r = self.poly(z, &LOG_SERIES);
        let r = self.mul(r, z);
        let half = self.f32(0.5);
        let half_f = self.mul(f, half);
        let hfsq = self.mul(half_f, f);
        let inner = self.add(hfsq, r);
        let (hi, lo) = (self.f32(LN2_HI), self.f32(LN2_LO));
        let low = self.mul(e, lo);
        let sum = self.fma(s, inner, low);
        let sum = self.sub(sum, hfsq);
        let sum = self.add(sum, f);
        let y = self.fma(e, hi, sum);
        let (infinity, nan) = (self.f32(f32::INFINITY), self.f32(f32::NAN));
        let minus = self.f32(f32::NEG_INFINITY);
        let huge = self.cmp(Cmp::Eq, x, infinity);
        let y = self.select(huge, infinity, y);
        let null = self.cmp(Cmp::Eq, x, zero);
        let y = self.select(null, minus, y);
        let negative = self.cmp(Cmp::Lt, x, zero);
        let y = self.select(negative, nan, y);
        self.keep_nan(x, y)
    }

    /// `log(1 + x)` for `0 <= x <= 1`: the series of `2 atanh(x / (2 + x))`.
    pub fn log_1p(&mut self, x: Reg) -> Reg {
        let two = self.f32(2.0);
        let below = self.add(x, two);
        let s = self.div(x, below);
        let z = self.mul(s, s);
        let r = self.poly(z, &LOG_1P_SERIES);
        let r = self.mul(r, z);
        let twice = self.add(s, s);
        self.fma(r, s, twice)
    }

    /// `sin(x)`.
    pub fn sin(&mut self, x: Reg) -> Reg {
        self.circular(x, 0)
    }

    /// `cos(x)`.
    pub fn cos(&mut self, x: Reg) -> Reg {
        self.circular(x, 1)
    }

    /// The number of quarter turns that is nearest to `x`, in the low bits of an `f32`, and what is left: the argument
    /// less a multiple of pi/2 in three parts. The first product is exact in the FMA as long as the multiple has 21
    /// bits.
    fn quarters(&mut self, x: Reg) -> (Reg, Reg) {
        let (frac, magic) = (self.f32(std::f32::consts::FRAC_2_PI), self.f32(MAGIC));
        let shifted = self.fma(x, frac, magic);
        let n = self.sub(shifted, magic);
        let mut r = x;
        for part in HALF_PI {
            let part = self.f32(-part);
            r = self.fma(n, part, r);
        }
        (shifted, r)
    }

    /// The same for an `x` of 2^21 or more: of the product with each part of 1/(2 pi), and of what rounding it lost,
    /// only what is over whole turns counts (Payne and Hanek 1983).
    fn quarters_of_large(&mut self, x: Reg) -> (Reg, Reg) {
        let scale = self.f32(1.0 / TURN_SCALE);
        let (x, mut sum) = (self.mul(x, scale), self.f32(0.0));
        for part in TURN {
            let part = self.f32(part);
            let product = self.mul(x, part);
            let minus = self.unary(Unary::Neg, product);
            let lost = self.fma(x, part, minus);
            for turns in [product, lost] {
                let whole = self.unary(Unary::Nearest, turns);
                let over = self.sub(turns, whole);
                sum = self.add(sum, over);
            }
        }
        let (four, magic, quarter) = (self.f32(4.0), self.f32(MAGIC), self.f32(-0.25));
        let shifted = self.fma(sum, four, magic);
        let n = self.sub(shifted, magic);
        let left = self.fma(n, quarter, sum);
        let tau = self.f32(std::f32::consts::TAU);
        (shifted, self.mul(left, tau))
    }

    /// `sin(x + quarters * pi/2)`: the argument less a multiple of pi/2, then the series of the quadrant.
    fn circular(&mut self, x: Reg, quarters: i32) -> Reg {
        let (near, far) = (self.quarters(x), self.quarters_of_large(x));
        let (abs, limit) = (self.unary(Unary::Abs, x), self.f32(2_097_152.0));
        let within = self.cmp(Cmp::Le, abs, limit);
        let (shifted, r) = (self.select(within, near.0, far.0), self.select(within, near.1, far.1));
        let quadrant = self.unary(Unary::AsInt, shifted);
        let turn = self.i32(quarters);
        let quadrant = self.add(quadrant, turn);
        let r2 = self.mul(r, r);
        let sine = self.poly(r2, &SIN_SERIES);
        let r3 = self.mul(r2, r);
        let sine = self.fma(sine, r3, r);
        let (one, half) = (self.f32(1.0), self.f32(-0.5));
        let cosine = self.poly(r2, &COS_SERIES);
        let r4 = self.mul(r2, r2);
        let tail = self.mul(cosine, r4);
        let tail = self.fma(r2, half, tail);
        let cosine = self.add(tail, one);
        let odd = self.shift(Shift::Left, quadrant, 31);
        let odd = self.shift(Shift::Arithmetic, odd, 31);
        let y = self.select(odd, cosine, sine);
        // Bit 1 of the quadrant is the sign.
        let upper = self.shift(Shift::Logical, quadrant, 1);
        let sign = self.shift(Shift::Left, upper, 31);
        let y = self.unary(Unary::AsInt, y);
        let y = self.binary(Binary::Xor, y, sign);
        self.unary(Unary::AsFloat, y)
    }

    /// `1 / (1 + exp(-x))`.
    pub fn sigmoid(&mut self, x: Reg) -> Reg {
        let neg = self.unary(Unary::Neg, x);
        let e = self.exp(neg);
        let one = self.f32(1.0);
        let below = self.add(e, one);
        self.div(one, below)
    }

    /// `tanh(x)`.
    pub fn tanh(&mut self, x: Reg) -> Reg {
        self.odd_rational(x, 9.02, &TANH)
    }

    /// `erf(x)`.
    pub fn erf(&mut self, x: Reg) -> Reg {
        self.odd_rational(x, 3.92, &ERF)
    }

    /// `x * p(x * x) / q(x * x)` with `x` clamped to `limit`, where the function has come to 1.
    fn odd_rational(&mut self, x: Reg, limit: f32, [p, q]: &[&[f32]; 2]) -> Reg {
        let x = self.clamp(x, -limit, limit);
        let t = self.mul(x, x);
        let above = self.poly(t, p);
        let above = self.mul(above, x);
        let below = self.poly(t, q);
        self.div(above, below)
    }
}

/// Numerator and denominator of tanh(x) / x in x * x: a weighted least squares fit for |x| <= 9.02, iterated towards
/// the smallest largest relative error (2.1e-8).
const TANH: [&[f32]; 2] = [
    &[1.331_932_9e-8, 2.058_370_8e-5, 3.494_050_1e-3, 1.337_973_2e-1, 1.0],
    &[7.762_136_5e-7, 3.283_117e-4, 2.587_113_5e-2, 4.671_304_8e-1, 1.0],
];

/// The same for erf and |x| <= 3.92 (5.2e-8).
const ERF: [&[f32]; 2] = [
    &[
        1.992_314_8e-8,
        -1.957_707_4e-6,
        1.418_368_3e-4,
        3.701_201e-3,
        5.057_218_3e-2,
        1.999_160_5e-1,
        std::f32::consts::FRAC_2_SQRT_PI,
    ],
    &[9.559_267e-4, 1.435_243_9e-2, 1.149_948_77e-1, 5.105_026_4e-1, 1.0],
];

/// `2 / (2n + 1)` for n = 5 down to 1, the series of `2 atanh(s) / s` for `|s| < 0.172`.
const LOG_SERIES: [f32; 5] = [2.0 / 11.0, 2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0];

/// The same for `|s| <= 1/3`.
const LOG_1P_SERIES: [f32; 8] =
    [2.0 / 17.0, 2.0 / 15.0, 2.0 / 13.0, 2.0 / 11.0, 2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0];

/// pi / 2 as a sum.
const HALF_PI: [f32; 3] = [std::f32::consts::FRAC_PI_2, -4.371_139e-8, -1.715_124_5e-15];

/// What the parts of [`TURN`] are multiplied by, and `x` divided by: the last part would be too small for an `f32`.
const TURN_SCALE: f32 = 18_446_744_073_709_551_616.0;

/// 2^64 / (2 pi) as a sum: the parts have the 150 bits that the largest `f32` needs.
const TURN: [f32; 7] = [
    2.935_890_4e18,
    118_439_870_000.0,
    1_354.496_2,
    2.801_150_4e-5,
    -6.351_664e-13,
    1.161_415_06e-20,
    -3.242_678_9e-28,
];

/// `(-1)^n / (2n + 1)!` for n = 5 down to 1.
const SIN_SERIES: [f32; 5] = [-2.505_210_8e-8, 2.755_731_9e-6, -1.984_127e-4, 8.333_333e-3, -1.666_666_7e-1];

/// `(-1)^n / (2n)!` for n = 6 down to 2.
const COS_SERIES: [f32; 5] = [2.087_675_7e-9, -2.755_732e-7, 2.480_158_7e-5, -1.388_888_9e-3, 4.166_666_7e-2];
