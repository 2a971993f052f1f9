//! What goes with spectra: window functions and the weights of the mel scale.

use std::f64::consts::TAU;

use optc_tensor::{DType, Tensor};

use crate::ops::message::shown;
use crate::ops::number::checked_len;
use crate::{Args, Dim, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op, text_enum};

text_enum! {
    /// A window function for spectra: a sum of cosines.
    pub enum WindowFunction {
        /// One cosine; zero at the ends.
        Hann = "hann",
        /// One cosine, chosen for a low first side lobe.
        Hamming = "hamming",
        /// Two cosines.
        Blackman = "blackman",
    }
}

op! {
    /// A window function of `size` elements.
    ///
    /// - (C1) `kind` is `hann`, `hamming` or `blackman`.
    /// - (C2) `size` has one element, which is not negative.
    "math.window" = Window(size) {
        /// The result's dtype.
        dtype: DType = DType::F32,
        /// Which function.
        kind: WindowFunction,
        /// Whether the element after the last one would be the first again; else the last one is.
        periodic: bool = true,
    }
}

impl Window {
    /// The weights of the cosines of the window's multiples.
    fn weights(&self) -> [f64; 3] {
        match self.kind {
            WindowFunction::Hann => [0.5, -0.5, 0.0],
            WindowFunction::Hamming => [25.0 / 46.0, -21.0 / 46.0, 0.0],
            WindowFunction::Blackman => [0.42, -0.5, 0.08],
        }
    }
}

fn size_of(size: &Tensor) -> Result<usize, OpError> {
    let n = size.to_i64_vec();
    ensure!(n.len() == 1 && n[0] >= 0, "C2", "`size` is {}, expected one number that is not negative", shown(size));
    Ok(n[0] as usize)
}

impl Semantics for Window {
    const FACTS: Facts<Window> = Facts::host("it computes a constant unless shapes depend on data");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let size = cx.constant(0).map(size_of).transpose()?;
        Ok(vec![TensorType::new(self.dtype, vec![size.map_or(Dim::Unknown, Dim::Known)]).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let weights = self.weights();
        let n = size_of(args.tensor(0)?)?;
        checked_len(DType::F64, &[n])?;
        // One element is the window's top.
        let period = if self.periodic { n } else { n.saturating_sub(1) }.max(1) as f64;
        let wave = |i: usize| (0..3).map(|k| weights[k] * (TAU * (k * i) as f64 / period).cos()).sum::<f64>();
        let y: Vec<f64> = (0..n).map(|i| if n == 1 && !self.periodic { 1.0 } else { wave(i) }).collect();
        Ok(vec![Tensor::from_f64(self.dtype, &[n], &y)?.into()])
    }
}

op! {
    /// The matrix `[length / 2 + 1, bins]` that takes a spectrum of `length` samples to `bins` overlapping triangles,
    /// equally spaced on the mel scale between two frequencies.
    ///
    /// - (C1) The operands are scalars; `bins` and `length` are not negative, `rate` is positive.
    /// - (C2) The frequencies lie within the spectrum, the lower one first.
    "math.mel_weights" = MelWeights(bins, length, rate, low, high) {
        /// The result's dtype.
        dtype: DType = DType::F32,
    }
}

/// Rows and columns of the matrix.
fn mel_shape(bins: &Tensor, length: &Tensor) -> Result<[usize; 2], OpError> {
    let (bins, length) = (bins.to_i64_vec(), length.to_i64_vec());
    let fits = |v: &[i64]| v.len() == 1 && (0..1 << 31).contains(&v[0]);
    ensure!(fits(&bins) && fits(&length), "C1", "{bins:?} bins of {length:?} samples");
    Ok([length[0] as usize / 2 + 1, bins[0] as usize])
}

fn mel(hertz: f64) -> f64 {
    2595.0 * (1.0 + hertz / 700.0).log10()
}

fn hertz(mel: f64) -> f64 {
    700.0 * (10f64.powf(mel / 2595.0) - 1.0)
}

impl Semantics for MelWeights {
    const FACTS: Facts<MelWeights> = Facts::host("it computes a constant unless shapes depend on data");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let dims = match (cx.constant(0), cx.constant(1)) {
            (Some(bins), Some(length)) => mel_shape(bins, length)?.map(Dim::Known).to_vec(),
            _ => vec![Dim::Unknown; 2],
        };
        Ok(vec![TensorType::new(self.dtype, dims).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let shape @ [rows, bins] = mel_shape(args.tensor(0)?, args.tensor(1)?)?;
        let scalar = |slot: usize| {
            let t = args.tensor(slot)?;
            ensure!(t.len() == 1, "C1", "operand {slot} has {} elements, expected 1", t.len());
            Ok(t.to_f64_vec()[0])
        };
        let (length, rate, low, high) = (scalar(1)?, scalar(2)?, scalar(3)?, scalar(4)?);
        let positive = rate > 0.0;
        ensure!(positive, "C1", "the rate is {rate}");
        ensure!(low >= 0.0 && low <= high && high.is_finite(), "C2", "{low} to {high} Hz of {rate}");
        let mut y = vec![0.0; checked_len(DType::F64, &shape)?];
        let step = (mel(high) - mel(low)) / (bins + 2) as f64;
        let edge = |i: usize| ((length + 1.0) * hertz(mel(low) + i as f64 * step) / rate).floor() as usize;
        ensure!(bins == 0 || edge(bins) < rows, "C2", "{high} Hz lie beyond half of {rate}");
        for bin in 0..bins {
            let (low, top, high) = (edge(bin), edge(bin + 1), edge(bin + 2).min(rows));
            let mut set = |row: usize, value: f64| y[row * bins + bin] = value;
            (low..=top)
                .for_each(|row| set(row, if top == low { 1.0 } else { (row - low) as f64 / (top - low) as f64 }));
            let end = edge(bin + 2);
            (top..high).for_each(|row| set(row, (end - row) as f64 / (end - top) as f64));
        }
        Ok(vec![Tensor::from_f64(self.dtype, &shape, &y)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(op: impl Into<crate::Op>, operands: Vec<Tensor>) -> Result<Tensor, OpError> {
        let values: Vec<Option<Val>> = operands.into_iter().map(|t| Some(t.into())).collect();
        Ok(op.into().eval(&Args::plain(&values))?[0].as_tensor().unwrap().clone())
    }

    #[test]
    fn windows_of_few_elements_and_too_many() {
        let window = |n: i64, periodic| {
            let op = Window { dtype: DType::F64, kind: WindowFunction::Hann, periodic };
            eval(op, vec![Tensor::scalar(n)])
        };
        assert_eq!(window(0, true).unwrap().shape(), [0]);
        assert_eq!(window(1, false).unwrap().to_f64_vec(), [1.0]);
        assert_eq!(window(3, false).unwrap().to_f64_vec()[1], 1.0);
        assert!(window(-1, true).is_err() && window(i64::MAX, true).is_err());
    }

    #[test]
    fn frequencies_lie_within_the_spectrum() {
        let mel = |bins: i64, rate: i64, low: f32, high: f32| {
            let scalars = [Tensor::scalar(bins), Tensor::scalar(16i64), Tensor::scalar(rate)];
            let ends = [Tensor::scalar(low), Tensor::scalar(high)];
            eval(MelWeights { dtype: DType::F32 }, scalars.into_iter().chain(ends).collect())
        };
        assert_eq!(mel(8, 8192, 0.0, 4096.0).unwrap().shape(), [9, 8]);
        assert!(mel(8, 8192, 0.0, 1e9).is_err() && mel(8, 0, 0.0, 1.0).is_err() && mel(8, 8192, 2.0, 1.0).is_err());
        assert!(mel(i64::MAX, 8192, 0.0, 1.0).is_err() && mel(8, 8192, f32::NAN, 1.0).is_err());
    }
}
