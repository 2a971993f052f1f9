//! How much a weight matters.
//!
//! To add a saliency: write a function of the [`Evidence`] and its line in [`SALIENCIES`]. Texts of pipelines, the
//! command line and its help take it from there.

use std::str::FromStr;

use crate::choice::{UnknownChoice, choose};

/// What is known of the weights of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    /// The weights: a row-major matrix with a row for each output channel.
    pub weights: &'a [f32],
    /// Its columns.
    pub cols: usize,
    /// The mean square of the activations that each column is multiplied by, where there are samples.
    pub energy: Option<&'a [f64]>,
}

/// What tells the weights that matter: one of [`Saliency::all`]. It is written as its name.
#[derive(Clone, Copy)]
pub struct Saliency {
    name: &'static str,
    summary: &'static str,
    scores: fn(&Evidence) -> Vec<f64>,
}

/// The one without samples, the default, then all others.
static SALIENCIES: &[Saliency] = &[
    Saliency { name: "magnitude", summary: "the magnitude", scores: magnitude },
    Saliency { name: "activation", summary: "magnitude times activations", scores: activation },
];

/// `|w|`.
fn magnitude(of: &Evidence) -> Vec<f64> {
    of.weights.iter().map(|&w| f64::from(w.abs())).collect()
}

/// `|w|` times the root mean square of the activations that it is multiplied by ("A Simple and Effective Pruning
/// Approach for Large Language Models", Sun et al. 2023); the magnitude where there are no samples.
fn activation(of: &Evidence) -> Vec<f64> {
    let Some(energy) = of.energy else { return magnitude(of) };
    let root: Vec<f64> = energy.iter().map(|e| e.max(0.0).sqrt()).collect();
    magnitude(of).into_iter().enumerate().map(|(i, w)| w * root[i % of.cols]).collect()
}

impl Saliency {
    /// The magnitude of a weight, which needs no samples.
    pub fn magnitude() -> Saliency {
        SALIENCIES[0]
    }

    /// All of them.
    pub fn all() -> &'static [Saliency] {
        SALIENCIES
    }

    /// How it is written.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it looks at, in some words.
    pub fn summary(&self) -> &'static str {
        self.summary
    }

    /// The saliency of each weight.
    pub(super) fn scores(&self, of: &Evidence) -> Vec<f64> {
        (self.scores)(of)
    }
}

/// Magnitude times activations.
impl Default for Saliency {
    fn default() -> Saliency {
        SALIENCIES[1]
    }
}

impl PartialEq for Saliency {
    fn eq(&self, other: &Saliency) -> bool {
        self.name == other.name
    }
}

impl Eq for Saliency {}

impl std::fmt::Debug for Saliency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl FromStr for Saliency {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Saliency, UnknownChoice> {
        let table: Vec<(&'static str, Saliency)> = SALIENCIES.iter().map(|s| (s.name, *s)).collect();
        choose(text, &table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_count_where_they_are_known() {
        let of = |energy| Evidence { weights: &[1.0, -2.0, 3.0, 0.5], cols: 2, energy };
        let scores = |name: &str, energy| name.parse::<Saliency>().unwrap().scores(&of(energy));
        assert_eq!(scores("magnitude", Some(&[4.0, 9.0])), [1.0, 2.0, 3.0, 0.5]);
        assert_eq!(scores("activation", Some(&[4.0, 9.0])), [2.0, 6.0, 6.0, 1.5]);
        assert_eq!(scores("activation", None), [1.0, 2.0, 3.0, 0.5]);
        assert!("l2".parse::<Saliency>().unwrap_err().to_string().starts_with("`l2` is not `magnitude`"));
    }
}
