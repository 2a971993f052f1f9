//! How much a weight matters.

use std::str::FromStr;

/// What tells the weights that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Saliency {
    /// `|w|`.
    Magnitude,
    /// `|w|` times the root mean square of the activations that it is multiplied by ("A Simple and Effective Pruning
    /// Approach for Large Language Models", Sun et al. 2023); the magnitude where there are no samples.
    #[default]
    Activation,
}

impl FromStr for Saliency {
    type Err = String;

    fn from_str(text: &str) -> Result<Saliency, String> {
        match text {
            "magnitude" => Ok(Saliency::Magnitude),
            "activation" => Ok(Saliency::Activation),
            other => Err(format!("`{other}` is not `magnitude` or `activation`")),
        }
    }
}

/// The saliency of each weight of a row-major matrix; `energy` is the mean square of the activations of each column.
pub(super) fn scores(saliency: Saliency, matrix: &[f32], cols: usize, energy: Option<&[f64]>) -> Vec<f64> {
    let factor = |i: usize| match (saliency, energy) {
        (Saliency::Activation, Some(energy)) => energy[i % cols].max(0.0).sqrt(),
        (Saliency::Activation | Saliency::Magnitude, _) => 1.0,
    };
    matrix.iter().enumerate().map(|(i, &w)| f64::from(w.abs()) * factor(i)).collect()
}
