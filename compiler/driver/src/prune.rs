//! Pruning with compiled kernels: calibration samples are cut into batches, and the segments of the walk run compiled.

use optc_ir::{Dim, Graph, Type, Val};
use optc_passes::{Calibration, Evaluate, LayerReport, PassError, PruneOptions};
use optc_tensor::{ConstantFacts, Tensor, TensorError};
use optc_types::quoted;

use crate::passes::run_passes;
use crate::{Compiler, Error, Options, Session};

/// Samples of a batch, where the model leaves their number open.
const BATCH: usize = 100;

/// What makes weights constants, before they are looked at.
const PREPARATION: &str = "infer-types,fold-constants,infer-types,dce";

/// Prunes a graph in place. With calibration `samples` (arrays by input name, their first axis the samples), the
/// remaining weights, biases and batch normalisations are fitted to what the graph gave before; see
/// [`optc_passes::prune`].
///
/// # Errors
/// Options are out of range, weights are shared or not finite, samples do not fit the inputs, or an op cannot be run.
pub fn prune(
    graph: &mut Graph,
    options: &PruneOptions,
    samples: &[(String, Tensor)],
) -> Result<Vec<LayerReport>, Error> {
    let compiler = Compiler::new(Options { passes: "O0".to_owned(), threads: 0, ..Options::default() });
    run_passes(graph, PREPARATION, compiler.options(), &compiler.options().target()?, &ConstantFacts::default())?;
    if samples.is_empty() {
        return optc_passes::prune(graph, options).map_err(|e| PassError::Prune(e).into());
    }
    let calibration = Calibration { batches: batches(graph, samples)?, evaluate: &CompiledGraphs(compiler) };
    optc_passes::prune_on_samples(graph, options, &calibration).map_err(|e| Error::Prune(Box::new(e)))
}

/// Arrays that are not samples of a model's inputs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// An array is for an input that does not exist.
    #[error("there are samples for `{name}`, but the inputs are {}", quoted(.known))]
    NoInput {
        /// What it is for.
        name: String,
        /// The inputs that exist.
        known: Vec<String>,
    },
    /// An input has no array.
    #[error("there are no samples for input `{input}`, which is {ty}")]
    Missing {
        /// The input.
        input: String,
        /// Its type.
        ty: Type,
    },
    /// An array has no axis along which samples could lie.
    #[error("the samples for `{input}` are one number")]
    Scalar {
        /// The input.
        input: String,
    },
    /// Arrays hold different numbers of samples.
    #[error("there are {found} samples for `{input}`, {others} for another input")]
    Counts {
        /// The input.
        input: String,
        /// Its samples.
        found: usize,
        /// Those of another one.
        others: usize,
    },
    /// There are no samples.
    #[error("there are no samples")]
    None,
    /// There are too few for one run.
    #[error("there are {found} samples, but the model takes {expected} at a time")]
    Few {
        /// How many there are.
        found: usize,
        /// How many a run takes.
        expected: usize,
    },
    /// A sample does not begin at a byte.
    #[error("the samples have elements of no whole bytes")]
    PackedElements,
    /// A batch cannot be held.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Cuts arrays into batches of the extent that the model declares, or of [`BATCH`].
fn batches(graph: &Graph, samples: &[(String, Tensor)]) -> Result<Vec<Vec<Val>>, BatchError> {
    let inputs: Vec<(String, Type)> =
        graph.inputs().map(|v| (graph.input_name(v).unwrap_or_default().to_owned(), graph.ty(v).clone())).collect();
    if let Some((name, _)) = samples.iter().find(|(name, _)| inputs.iter().all(|(n, _)| n != name)) {
        let known = inputs.into_iter().map(|(name, _)| name).collect();
        return Err(BatchError::NoInput { name: name.clone(), known });
    }
    let mut arrays = Vec::new();
    let (mut count, mut size) = (usize::MAX, BATCH);
    for (name, ty) in &inputs {
        let input = name.clone();
        let Some((_, array)) = samples.iter().find(|(n, _)| n == name) else {
            return Err(BatchError::Missing { input, ty: ty.clone() });
        };
        let Some(&first) = array.shape().first() else { return Err(BatchError::Scalar { input }) };
        if count != usize::MAX && first != count {
            return Err(BatchError::Counts { input, found: first, others: count });
        }
        count = first;
        if let Some(Dim::Known(n)) = ty.as_tensor().and_then(|t| t.shape.as_ref()?.first()) {
            size = *n;
        }
        arrays.push(array);
    }
    if count == 0 || count == usize::MAX {
        return Err(BatchError::None);
    }
    if count < size && size != BATCH {
        return Err(BatchError::Few { found: count, expected: size });
    }
    let whole = if size == BATCH { count.div_ceil(size) } else { count / size };
    (0..whole).map(|i| arrays.iter().map(|t| part(t, i * size, size.min(count - i * size))).collect()).collect()
}

/// Rows `from..from + n` of an array.
fn part(t: &Tensor, from: usize, n: usize) -> Result<Val, BatchError> {
    let row = t.bytes().len() / t.shape()[0].max(1);
    let mut shape = t.shape().to_vec();
    shape[0] = n;
    let bytes = t.bytes().get(from * row..(from + n) * row).ok_or(BatchError::PackedElements)?;
    Ok(Tensor::from_bytes(t.dtype(), &shape, bytes)?.into())
}

/// Runs graphs compiled.
struct CompiledGraphs(Compiler);

impl Evaluate for CompiledGraphs {
    type Error = Error;
    type Prepared = Session;

    fn prepare(&self, graph: &Graph) -> Result<Session, Error> {
        Ok(self.0.compile_graph(graph.clone())?.session())
    }

    fn run(&self, session: &mut Session, inputs: &[Val]) -> Result<Vec<Val>, Error> {
        session.run_values(inputs)
    }
}
