//! What runs graphs on samples.

use optc_ir::{Graph, Val};

/// Runs graphs: compiled, or through the interpreter.
pub trait Evaluate {
    /// Why a graph cannot be run.
    type Error: std::error::Error + Send + Sync + 'static;
    /// A graph that is ready to run.
    type Prepared;

    /// Makes a graph ready. Its inputs' types are static.
    ///
    /// # Errors
    /// It cannot be compiled.
    fn prepare(&self, graph: &Graph) -> Result<Self::Prepared, Self::Error>;

    /// Runs it on one value for each input; gives one for each output.
    ///
    /// # Errors
    /// An op refuses its operands.
    fn run(&self, prepared: &mut Self::Prepared, inputs: &[Val]) -> Result<Vec<Val>, Self::Error>;
}
