//! Fourier transforms. A complex tensor has a last dim of 2: real and imaginary part; a real one may have 1 there.

use std::f64::consts::TAU;

use optc_tensor::{DType, Tensor};

use crate::ops::axis_of;
use crate::ops::message::{shown, type_of};
use crate::ops::number::checked_len;
use crate::{Args, Dim, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

type Complex = (f64, f64);

fn times(a: Complex, b: Complex) -> Complex {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

fn plus(a: Complex, b: Complex) -> Complex {
    (a.0 + b.0, a.1 + b.1)
}

/// `e^(sign · 2πi · k / n)`.
fn root(k: usize, n: usize, sign: f64) -> Complex {
    let angle = sign * TAU * (k % n) as f64 / n as f64;
    (angle.cos(), angle.sin())
}

/// Prime factors beyond this are transformed with chirps: below, the sum of all products is as fast and more exact.
const MAX_DIRECT: usize = 61;

/// The transform of `x`, by the smallest factor of its length at a time (Cooley and Tukey), unscaled.
fn transform(x: &[Complex], sign: f64) -> Vec<Complex> {
    let n = x.len();
    let Some(p) = smallest_factor(n) else { return x.to_vec() };
    let m = n / p;
    let parts: Vec<Vec<Complex>> =
        (0..p).map(|r| transform(&x.iter().skip(r).step_by(p).copied().collect::<Vec<_>>(), sign)).collect();
    if p <= MAX_DIRECT {
        let term = |k: usize, r: usize| times(parts[r][k % m], root(k * r, n, sign));
        return (0..n).map(|k| (0..p).fold((0.0, 0.0), |sum, r| plus(sum, term(k, r)))).collect();
    }
    let chirp = Chirp::new(p, sign);
    let mut y = vec![(0.0, 0.0); n];
    for k in 0..m {
        let column: Vec<Complex> = (0..p).map(|r| times(parts[r][k], root(k * r, n, sign))).collect();
        chirp.transform(&column).into_iter().enumerate().for_each(|(j, v)| y[k + j * m] = v);
    }
    y
}

/// The smallest prime factor of `n`; none where `n` is below 2.
fn smallest_factor(n: usize) -> Option<usize> {
    let divides = |p: &usize| n.is_multiple_of(*p);
    (2..).take_while(|p| p * p <= n).find(divides).or((n >= 2).then_some(n))
}

/// The transform of any one length as a convolution with a chirp (Bluestein 1970): `jk = (j² + k² - (k - j)²) / 2`.
struct Chirp {
    /// `e^(sign · πi · k² / n)`.
    chirp: Vec<Complex>,
    /// The transform of the conjugate chirp, mirrored around 0.
    spectrum: Vec<Complex>,
    roots: Vec<Complex>,
}

impl Chirp {
    fn new(n: usize, sign: f64) -> Chirp {
        let chirp: Vec<Complex> = (0..n).map(|k| root(k * k, 2 * n, sign)).collect();
        let size = (2 * n - 1).next_power_of_two();
        let roots: Vec<Complex> = (0..size / 2).map(|k| root(k, size, -1.0)).collect();
        let mut spectrum = vec![(0.0, 0.0); size];
        for (k, &(re, im)) in chirp.iter().enumerate() {
            (spectrum[k], spectrum[(size - k) % size]) = ((re, -im), (re, -im));
        }
        transform_power_of_two(&mut spectrum, &roots);
        Chirp { chirp, spectrum, roots }
    }

    fn transform(&self, x: &[Complex]) -> Vec<Complex> {
        let size = self.spectrum.len();
        let mut y: Vec<Complex> = x.iter().zip(&self.chirp).map(|(&x, &c)| times(x, c)).collect();
        y.resize(size, (0.0, 0.0));
        transform_power_of_two(&mut y, &self.roots);
        // The inverse is the conjugate of the conjugate's transform.
        for (y, &s) in y.iter_mut().zip(&self.spectrum) {
            let product = times(*y, s);
            *y = (product.0, -product.1);
        }
        transform_power_of_two(&mut y, &self.roots);
        let scaled = |(re, im): Complex| (re / size as f64, -im / size as f64);
        y.into_iter().zip(&self.chirp).map(|(y, &c)| times(scaled(y), c)).collect()
    }
}

/// The transform of a length that is a power of two in place; `roots` are `e^(-2πi · k / n)` for the first half.
fn transform_power_of_two(x: &mut [Complex], roots: &[Complex]) {
    let n = x.len();
    let bits = n.trailing_zeros();
    for i in 0..n {
        let mirrored = if bits == 0 { 0 } else { i.reverse_bits() >> (usize::BITS - bits) };
        if i < mirrored {
            x.swap(i, mirrored);
        }
    }
    for half in (0..bits).map(|level| 1 << level) {
        for block in x.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for ((a, b), &w) in low.iter_mut().zip(high).zip(roots.iter().step_by(n / (2 * half))) {
                let turned = times(*b, w);
                (*a, *b) = (plus(*a, turned), (a.0 - turned.0, a.1 - turned.1));
            }
        }
    }
}

/// The largest length of a transform.
const MAX_LENGTH: i64 = 1 << 24;

/// A scalar operand that counts something.
fn count_of(t: &Tensor, what: &str) -> Result<usize, OpError> {
    let n = t.to_i64_vec();
    ensure!(
        n.len() == 1 && (1..=MAX_LENGTH).contains(&n[0]),
        "C2",
        "`{what}` is {}, expected one of 1 to {MAX_LENGTH}",
        shown(t)
    );
    Ok(n[0] as usize)
}

op! {
    /// The discrete Fourier transform along the axis that `axis` names (−2 without it), cut or filled with zeros to
    /// `length`.
    ///
    /// - (C1) `x` is a real or complex float tensor, and the axis is not the last.
    /// - (C2) `length` has one element, from 1 to 2²⁴.
    ///
    /// With `onesided` only the first `length / 2 + 1` results are given. The inverse is scaled by `1 / length`, and
    /// with `onesided` it takes those first results to a real tensor of `length` (twice the last index without it)
    /// elements.
    "math.dft" = Dft(x, length: optional, axis: optional) {
        /// Whether this is the inverse.
        inverse: bool = false,
        /// Whether the half that follows from the other one is left out.
        onesided: bool = false,
    }
}

impl Dft {
    /// Lengths of transform and result along the axis, for an operand of `n` elements.
    fn lengths(&self, n: usize, length: Option<&Tensor>) -> Result<(usize, usize), OpError> {
        let default = if self.onesided && self.inverse { n.saturating_sub(1).saturating_mul(2).max(1) } else { n };
        let length = length.map_or(Ok(default), |t| count_of(t, "length"))?;
        ensure!(length <= MAX_LENGTH as usize, "C2", "the length is {length}");
        Ok((length, if self.onesided && !self.inverse { length / 2 + 1 } else { length }))
    }

    fn axis(axis: Option<&Tensor>, rank: usize) -> Result<usize, OpError> {
        let named = axis.map_or_else(|| vec![-2], |t| t.to_i64_vec());
        ensure!(named.len() == 1, "C1", "`axis` has {} elements, expected 1", named.len());
        let axis = axis_of(named[0], rank)?;
        ensure!(axis + 1 < rank, "C1", "the axis is the last one");
        Ok(axis)
    }

    /// One transform, of as many elements as are given.
    fn run(&self, x: Vec<Complex>, length: usize) -> Vec<Complex> {
        let mut x = x;
        if self.inverse && self.onesided {
            // The other half is the mirrored conjugate.
            x.resize(length / 2 + 1, (0.0, 0.0));
            (x.len()..length).for_each(|k| x.push((x[length - k].0, -x[length - k].1)));
        }
        x.resize(length, (0.0, 0.0));
        let mut y = transform(&x, if self.inverse { 1.0 } else { -1.0 });
        if self.inverse {
            y.iter_mut().for_each(|v| *v = (v.0 / length as f64, v.1 / length as f64));
        }
        y
    }
}

/// Checks that a tensor type is float with a last dim of 1 or 2.
fn check_parts(dtype: DType, last: Option<usize>) -> Result<(), OpError> {
    let parts = last.unwrap_or(1);
    ensure!(dtype.is_float() && matches!(parts, 1 | 2), "C1", "{dtype} with a last dim of {parts}, expected 1 or 2");
    Ok(())
}

impl Semantics for Dft {
    const FACTS: Facts<Dft> = Facts::host("there is no kernel for it");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let Some(mut dims) = x.shape.clone() else { return Ok(vec![x.clone().into()]) };
        ensure!(dims.len() >= 2, "C1", "`x` is {x}");
        check_parts(x.dtype, dims[dims.len() - 1].known())?;
        let parts = if self.inverse && self.onesided { 1 } else { 2 };
        if cx.has(2) && cx.constant(2).is_none() {
            dims.fill(Dim::Unknown);
        } else {
            let axis = Dft::axis(cx.constant(2), dims.len())?;
            let known = !cx.has(1) || cx.constant(1).is_some();
            let n = dims[axis].known().or(cx.constant(1).map(|_| 0)).filter(|_| known);
            dims[axis] =
                n.map(|n| self.lengths(n, cx.constant(1))).transpose()?.map_or(Dim::Unknown, |l| Dim::Known(l.1));
        }
        if let Some(last) = dims.last_mut() {
            *last = Dim::Known(parts);
        }
        Ok(vec![TensorType::new(x.dtype, dims).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        check_parts(x.dtype(), x.shape().last().copied())?;
        let axis = Dft::axis(args.optional(2), x.rank())?;
        let n = x.shape()[axis];
        let (length, kept) = self.lengths(n, args.optional(1))?;
        ensure!(length > 0, "C2", "the length is 0");
        let of = x.shape()[x.rank() - 1];
        let parts = if self.inverse && self.onesided { 1 } else { 2 };
        let mut shape = x.shape().to_vec();
        (shape[axis], shape[x.rank() - 1]) = (kept, parts);
        let outer: usize = shape[..axis].iter().product();
        let inner: usize = shape[axis + 1..x.rank() - 1].iter().product();
        let values = x.to_f64_vec();
        let mut y = vec![0.0; checked_len(DType::F64, &shape)?];
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let element = |k: usize| {
                let at = ((o * n + k) * inner + i) * of;
                (values[at], if of == 2 { values[at + 1] } else { 0.0 })
            };
            let line: Vec<Complex> = (0..n.min(length)).map(element).collect();
            for (k, v) in self.run(line, length).into_iter().take(kept).enumerate() {
                let at = ((o * kept + k) * inner + i) * parts;
                y[at..at + parts].copy_from_slice(&[v.0, v.1][..parts]);
            }
        }
        Ok(vec![Tensor::from_f64(x.dtype(), &shape, &y)?.into()])
    }
}

op! {
    /// The Fourier transforms of frames of a signal `x` (`[batch, samples]` or `[batch, samples, 1 or 2]`): a frame of
    /// `length` samples, multiplied by `window`, every `step` samples.
    ///
    /// - (C1) `x` is a float tensor of two or three dims, `window` has `length` elements of its dtype.
    /// - (C2) `step` and `length` have one element, from 1 to 2²⁴; one of `window` and `length` is there; a frame is
    ///   not longer than the signal.
    "math.stft" = Stft(x, step, window: optional, length: optional) {
        /// Whether the half that follows from the other one is left out, for a real signal.
        onesided: bool = true,
    }
}

impl Stft {
    fn frame(window: Option<usize>, length: Option<&Tensor>) -> Result<Option<usize>, OpError> {
        let length = length.map(|t| count_of(t, "length")).transpose()?;
        if let (Some(window), Some(length)) = (window, length) {
            ensure!(window == length, "C1", "a window of {window} elements for frames of {length}");
        }
        Ok(length.or(window))
    }

    fn check_window(found: DType, expected: DType) -> Result<(), OpError> {
        ensure!(found == expected, "C1", "`window` is {found}, `x` is {expected}");
        Ok(())
    }

    fn frames(samples: usize, frame: usize, step: usize) -> Result<usize, OpError> {
        ensure!((1..=samples).contains(&frame), "C2", "frames of {frame} of {samples} samples");
        Ok((samples - frame) / step + 1)
    }

    fn bins(&self, frame: usize) -> usize {
        if self.onesided { frame / 2 + 1 } else { frame }
    }
}

impl Semantics for Stft {
    const FACTS: Facts<Stft> = Facts::host("there is no kernel for it");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        ensure!(x.dtype.is_float() && x.rank().is_none_or(|r| r == 2 || r == 3), "C1", "`x` is {x}");
        let dim = |d: usize| x.shape.as_ref().map_or(Dim::Unknown, |s| s[d].clone());
        if cx.has(2) {
            Stft::check_window(cx.tensor(2)?.dtype, x.dtype)?;
        }
        let window = if cx.has(2) { cx.tensor(2)?.static_shape().and_then(|s| s.first().copied()) } else { None };
        let known = cx.constant(3).is_some() || !cx.has(3);
        let frame = Stft::frame(window, cx.constant(3))?.filter(|_| known);
        let step = cx.constant(1).map(|t| count_of(t, "step")).transpose()?;
        let frames = match (dim(1).known(), frame, step) {
            (Some(samples), Some(frame), Some(step)) => Dim::Known(Stft::frames(samples, frame, step)?),
            _ => Dim::Unknown,
        };
        let bins = frame.map_or(Dim::Unknown, |f| Dim::Known(self.bins(f)));
        Ok(vec![TensorType::new(x.dtype, vec![dim(0), frames, bins, Dim::Known(2)]).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (x, window) = (args.tensor(0)?, args.optional(2));
        let (batches, samples, of) = match *x.shape() {
            [b, n] => (b, n, 1),
            [b, n, of] => (b, n, of),
            _ => return Err(OpError::Constraint { constraint: "C1", reason: format!("`x` is {}", type_of(x)) }),
        };
        check_parts(x.dtype(), Some(of))?;
        window.map_or(Ok(()), |t| Stft::check_window(t.dtype(), x.dtype()))?;
        let step = count_of(args.tensor(1)?, "step")?;
        let Some(frame) = Stft::frame(window.map(Tensor::len), args.optional(3))? else {
            return Err(OpError::Constraint {
                constraint: "C2",
                reason: "neither `window` nor `length` is there".to_owned(),
            });
        };
        let (frames, bins) = (Stft::frames(samples, frame, step)?, self.bins(frame));
        let window = window.map_or_else(|| vec![1.0; frame], Tensor::to_f64_vec);
        let shape = [batches, frames, bins, 2];
        let values = x.to_f64_vec();
        let mut y = Vec::with_capacity(checked_len(DType::F64, &shape)?);
        for (b, f) in (0..batches).flat_map(|b| (0..frames).map(move |f| (b, f))) {
            let sample = |k: usize| {
                let at = (b * samples + f * step + k) * of;
                (values[at] * window[k], if of == 2 { values[at + 1] * window[k] } else { 0.0 })
            };
            let line: Vec<Complex> = (0..frame).map(sample).collect();
            y.extend(transform(&line, -1.0).into_iter().take(bins).flat_map(|v| [v.0, v.1]));
        }
        Ok(vec![Tensor::from_f64(x.dtype(), &shape, &y)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixed_lengths_agree_with_the_definition() {
        // Small factors, a large prime, a square and multiples of large primes.
        for (n, sign) in
            [1usize, 2, 6, 7, 12, 67, 127, 2 * 101, 67 * 67, 6 * 89].into_iter().zip([-1.0, 1.0].into_iter().cycle())
        {
            let x: Vec<Complex> = (0..n).map(|k| ((k * k % 5) as f64, (k % 11) as f64 / 3.0)).collect();
            let y = transform(&x, sign);
            for (k, found) in y.iter().enumerate() {
                let direct = (0..n).fold((0.0, 0.0), |s, j| plus(s, times(x[j], root(j * k, n, sign))));
                assert!((found.0 - direct.0).abs() < 1e-9 && (found.1 - direct.1).abs() < 1e-9, "{n} {k}");
            }
        }
    }

    #[test]
    fn a_large_prime_length_takes_the_time_of_its_neighbours() {
        let n = 999_983;
        let x: Vec<Complex> = (0..n).map(|k| root(7 * k, n, 1.0)).collect();
        let y = transform(&x, -1.0);
        let wrong = |k: &usize| {
            let expected = if *k == 7 { n as f64 } else { 0.0 };
            (y[*k].0 - expected).abs() > 1e-6 || y[*k].1.abs() > 1e-6
        };
        assert_eq!((0..n).find(wrong), None);
    }

    fn eval(op: impl Into<crate::Op>, operands: Vec<Option<Tensor>>) -> Result<Tensor, OpError> {
        let values: Vec<Option<Val>> = operands.into_iter().map(|t| t.map(Val::from)).collect();
        Ok(op.into().eval(&Args::plain(&values))?[0].as_tensor().unwrap().clone())
    }

    #[test]
    fn the_onesided_inverse_undoes_the_onesided_transform() {
        for n in [4usize, 5] {
            let values: Vec<f64> = (0..n).map(|k| (k * k) as f64 - 2.0).collect();
            let x = Tensor::from_slice(&[1, n, 1], &values).unwrap();
            let y = eval(Dft { inverse: false, onesided: true }, vec![Some(x)]).unwrap();
            assert_eq!(y.shape(), [1, n / 2 + 1, 2]);
            let length = Tensor::scalar(n as i64);
            let back = eval(Dft { inverse: true, onesided: true }, vec![Some(y), Some(length)]).unwrap();
            assert_eq!(back.shape(), [1, n, 1]);
            assert!(back.to_f64_vec().iter().zip(&values).all(|(a, b)| (a - b).abs() < 1e-9));
        }
    }

    #[test]
    fn lengths_and_axes_out_of_range_are_refused() {
        let x = || Some(Tensor::zeros(DType::F32, &[1, 4, 1]).unwrap());
        let dft = |length: i64, axis: i64| {
            let op = Dft { inverse: false, onesided: false };
            eval(op, vec![x(), Some(Tensor::scalar(length)), Some(Tensor::scalar(axis))])
        };
        assert!(dft(4, 1).is_ok() && dft(0, 1).is_err() && dft(i64::MAX, 1).is_err() && dft(4, 2).is_err());
        let stft = |step: i64, length: i64| {
            eval(Stft { onesided: true }, vec![x(), Some(Tensor::scalar(step)), None, Some(Tensor::scalar(length))])
        };
        assert_eq!(stft(2, 2).unwrap().shape(), [1, 2, 2, 2]);
        assert!(stft(0, 2).is_err() && stft(1, 5).is_err() && stft(-1, 2).is_err());
    }
}
