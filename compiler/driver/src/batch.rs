//! Models whose outermost dim is a batch: one plan serves any number of items.
//!
//! In: the generic graph of a model with open dims. Out: the types of one item, for which the plan is made, or why the
//! model has a plan for each set of shapes instead.

use std::sync::OnceLock;

use optc_ir::{Dim, Graph, Type};
use optc_lower::BatchPorts;
use optc_passes::Batched;

/// What is known of a model's batch; found at the first call that asks.
#[derive(Debug, Default)]
pub(crate) struct ModelBatch {
    found: OnceLock<Result<Batched, String>>,
    refused: OnceLock<String>,
}

impl ModelBatch {
    /// Of a model that has none, for this reason.
    pub fn refused(reason: &str) -> ModelBatch {
        ModelBatch { found: OnceLock::from(Err(reason.to_owned())), refused: OnceLock::new() }
    }

    /// The batch of a graph.
    ///
    /// # Errors
    /// Why it has none, or why no plan could be made for it.
    pub fn of(&self, graph: &Graph) -> Result<&Batched, &str> {
        let found = self.found.get_or_init(|| optc_passes::batched(graph).map_err(|e| e.to_string()));
        match (self.refused.get(), found) {
            (Some(reason), _) | (_, Err(reason)) => Err(reason),
            (None, Ok(batched)) => Ok(batched),
        }
    }

    /// Notes why no plan could be made for the batch.
    pub fn refuse(&self, reason: String) {
        let _ = self.refused.set(reason);
    }
}

/// The inputs and outputs of a program for a batch.
pub(crate) fn ports(batched: &Batched) -> BatchPorts {
    BatchPorts { inputs: batched.inputs.clone(), outputs: batched.outputs.clone() }
}

/// Types with the outermost dim of all batches set; `None` where one has no such dim.
pub(crate) fn with_items(types: &[Type], batched: &Batched, items: &Dim) -> Option<Vec<Type>> {
    let of = |(ty, batched): (&Type, &bool)| {
        let mut ty = ty.clone();
        if *batched {
            let Type::Tensor(t) = &mut ty else { return None };
            *t.shape.as_mut()?.first_mut()? = items.clone();
        }
        Some(ty)
    };
    types.iter().zip(&batched.inputs).map(of).collect()
}

/// The number of items in concrete types, where it is one.
pub(crate) fn items(types: &[Type], batched: &Batched) -> Option<usize> {
    let count = |(ty, _): (&Type, &bool)| ty.as_tensor()?.shape.as_ref()?.first()?.known();
    let mut counts = types.iter().zip(&batched.inputs).filter(|(_, batched)| **batched).map(count);
    let first = counts.next()??;
    counts.all(|count| count == Some(first)).then_some(first)
}
