//! Samples that a graph is pruned on.

use optc_ir::{Graph, Val};

use super::SampleError;

/// Unlabelled samples, and what runs the graph on them.
pub struct Calibration<'a, E> {
    /// Batches: one value for each graph input.
    pub batches: Vec<Vec<Val>>,
    /// What runs graphs.
    pub evaluate: &'a E,
}

impl<E> Calibration<'_, E> {
    /// Checks that samples are there, fit the inputs and are finite.
    pub(super) fn check(&self, g: &Graph) -> Result<(), SampleError> {
        if self.batches.is_empty() {
            return Err(SampleError::None);
        }
        for (value, batch) in self.batches.iter().flat_map(|b| g.inputs().zip(b)) {
            let input = g.input_name(value).unwrap_or_default().to_owned();
            let (found, expected) = (batch.ty(), g.ty(value));
            if !expected.admits(&found) {
                return Err(SampleError::Type { input, found, expected: expected.clone() });
            }
            let Some(t) = batch.as_tensor() else { return Err(SampleError::NoTensor { input }) };
            if t.is_empty() {
                return Err(SampleError::Empty { input, found });
            }
            if t.dtype().is_float() && t.to_f64_vec().iter().any(|v| !v.is_finite()) {
                return Err(SampleError::NotFinite { input });
            }
        }
        match self.batches.iter().find(|b| b.len() != g.inputs().len()) {
            Some(b) => Err(SampleError::Count { found: b.len(), expected: g.inputs().len() }),
            None => Ok(()),
        }
    }
}
