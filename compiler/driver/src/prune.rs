//! Pruning with compiled kernels: calibration samples are cut into batches, and the ops of the walk run compiled.

use optc_ir::{Dim, Graph, Type, Val};
use optc_passes::{Calibration, LayerReport, PassError, PreparedGraph, PruneError, PruneOptions, Runner};
use optc_tensor::Tensor;

use crate::compiler::run_passes;
use crate::{Compiler, Error, Options};

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
    run_passes(graph, PREPARATION, compiler.options(), &compiler.options().target()?)?;
    let failed = |e: PruneError| Error::Pass(PassError::Prune(e));
    if samples.is_empty() {
        return optc_passes::prune(graph, options, None).map_err(failed);
    }
    let batches = batches(graph, samples).map_err(|reason| failed(PruneError::Calibration(reason)))?;
    let runner = Compiled(compiler);
    optc_passes::prune(graph, options, Some(&Calibration { batches, runner: &runner })).map_err(failed)
}

/// Cuts arrays into batches of the extent that the model declares, or of [`BATCH`].
fn batches(graph: &Graph, samples: &[(String, Tensor)]) -> Result<Vec<Vec<Val>>, String> {
    let inputs: Vec<(String, Type)> =
        graph.inputs().map(|v| (graph.input_name(v).unwrap_or_default().to_owned(), graph.ty(v).clone())).collect();
    let known = || inputs.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if let Some((name, _)) = samples.iter().find(|(name, _)| inputs.iter().all(|(n, _)| n != name)) {
        return Err(format!("there are samples for `{name}`, but the inputs are {}", known()));
    }
    let mut arrays = Vec::new();
    let (mut count, mut size) = (usize::MAX, BATCH);
    for (name, ty) in &inputs {
        let array = samples.iter().find(|(n, _)| n == name).map(|(_, t)| t);
        let array = array.ok_or_else(|| format!("there are no samples for input `{name}`, which is {ty}"))?;
        let first = array.shape().first().copied().ok_or_else(|| format!("the samples for `{name}` are one number"))?;
        if count != usize::MAX && first != count {
            return Err(format!("there are {first} samples for `{name}`, {count} for another input"));
        }
        count = first;
        if let Some(Dim::Known(n)) = ty.as_tensor().and_then(|t| t.shape.as_ref()?.first()) {
            size = *n;
        }
        arrays.push(array);
    }
    if count == 0 || count == usize::MAX {
        return Err("there are no samples".to_owned());
    }
    if count < size && size != BATCH {
        return Err(format!("there are {count} samples, but the model takes {size} at a time"));
    }
    let whole = if size == BATCH { count.div_ceil(size) } else { count / size };
    (0..whole).map(|i| arrays.iter().map(|t| part(t, i * size, size.min(count - i * size))).collect()).collect()
}

/// Rows `from..from + n` of an array.
fn part(t: &Tensor, from: usize, n: usize) -> Result<Val, String> {
    let row = t.bytes().len() / t.shape()[0].max(1);
    let mut shape = t.shape().to_vec();
    shape[0] = n;
    let bytes = t.bytes().get(from * row..(from + n) * row).ok_or("the samples have elements of no whole bytes")?;
    Ok(Tensor::from_bytes(t.dtype(), &shape, bytes).map_err(|e| e.to_string())?.into())
}

/// Runs graphs compiled.
struct Compiled(Compiler);

impl Runner for Compiled {
    fn prepare(&self, graph: &Graph) -> Result<PreparedGraph<'_>, String> {
        let model = self.0.compile_graph(graph.clone()).map_err(|e| e.to_string())?;
        let mut session = model.session();
        Ok(Box::new(move |inputs| session.run_values(inputs).map_err(|e| e.to_string())))
    }
}
