//! `optc prune`: sets weights to zero, corrects the rest from samples, and says what that brings.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use optc::{
    BlockShape, Budget, Choice, LayerReport, Model, NodeReport, PruneOptions, Saliency, Spare, Tensor, ValueInfo,
    Verdict,
};
use optc_ir::{Graph, Op};
use serde::Serialize;

use super::explain::ChoiceLine;
use crate::exit::{CommandError, Exit, Outcome};
use crate::export::{ExportArgs, data_beside};
use crate::inputs::{InputRole, closed_types, read};
use crate::load;
use crate::options::CompilerArgs;
use crate::progress::Spinner;
use crate::report::{Format, Report, emit, table, units};

/// Set the weights that matter least to zero, and correct the rest from unlabelled samples
#[derive(Debug, clap::Args)]
pub struct PruneArgs {
    /// The model: an ONNX file, or the text form of a graph
    model: PathBuf,
    /// The share of the weights that goes, 0 or more and below 1
    #[arg(long, value_name = "SHARE")]
    sparsity: f64,
    /// Output channels by inputs that go together; kernels are fastest with 4x1
    #[arg(long, value_name = "RxC", default_value = "1x1")]
    block: BlockShape,
    /// How the share is spread over the layers: `uniform` or `global`
    #[arg(long, value_name = "BUDGET", default_value = "uniform")]
    budget: Budget,
    #[arg(long, value_name = "SALIENCY", default_value = Saliency::default().name(), help = saliencies())]
    saliency: Saliency,
    /// Layers that stay: `ends` for the first and the last one, or `none`
    #[arg(long, value_name = "LAYERS", default_value = "ends")]
    spare: Spare,
    /// The share of one layer, by its ONNX node; 0 spares it; may be given several times
    #[arg(long = "layer", value_name = "NAME=SHARE")]
    layers: Vec<LayerShare>,
    /// Samples: an `.npz` keyed by input name, or an `.npy` for a model of one input
    #[arg(long, value_name = "IN")]
    calib: Option<PathBuf>,
    /// Where to write: `.optc` for an artifact, `.onnx` for a model
    #[arg(long, short, value_name = "OUT")]
    output: Option<PathBuf>,
    #[command(flatten)]
    export: ExportArgs,
    #[command(flatten)]
    how: CompilerArgs,
}

/// The help of `--saliency`.
fn saliencies() -> String {
    let known = Saliency::all().iter().map(|s| format!("`{}` for {}", s.name(), s.summary()));
    format!("What tells the weights that matter: {}", known.collect::<Vec<_>>().join(", "))
}

/// A layer and its share.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerShare(String, f64);

/// A text that is not a layer and its share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not `NAME=SHARE`")]
pub struct LayerShareError(String);

impl FromStr for LayerShare {
    type Err = LayerShareError;

    fn from_str(text: &str) -> Result<LayerShare, LayerShareError> {
        let parsed =
            text.rsplit_once('=').and_then(|(name, share)| Some(LayerShare(name.to_owned(), share.parse().ok()?)));
        parsed.ok_or_else(|| LayerShareError(text.to_owned()))
    }
}

#[derive(Debug, Serialize)]
struct PruneReport {
    layers: Vec<LayerLine>,
    /// Weights of the layers that were pruned, and how many are zero.
    pruned_weights: usize,
    pruned_zeros: usize,
    /// The same for all layers.
    weights: usize,
    zeros: usize,
    /// The constants of the model, in memory and as an artifact stores them.
    constant_bytes: usize,
    stored_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct LayerLine {
    layer: String,
    shape: String,
    weights: usize,
    zeros: usize,
    sparsity: f64,
    bytes: usize,
    stored_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    spared: Option<&'static str>,
    /// `sparse` or `dense`.
    runs: &'static str,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    dense_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sparse_ms: Option<f64>,
}

/// Runs the command.
///
/// # Errors
/// Options are out of range, the model or the samples cannot be used, or the result cannot be written.
pub fn run(args: &PruneArgs, format: Format) -> Outcome {
    let usage = |e: optc::Error| CommandError::from(e);
    let mut options =
        PruneOptions::new(args.sparsity, args.block).map_err(|e| CommandError::new(Exit::Usage, e.to_string()))?;
    (options.budget, options.saliency, options.spare) = (args.budget, args.saliency, args.spare);
    options.layers = args.layers.iter().map(|l| (l.0.clone(), l.1)).collect();
    if let Some(path) = &args.output {
        extension(path)?;
    }
    let files = args.how.files(&args.model).reads(args.calib.as_deref());
    files.writes(args.output.as_deref()).writes(data_beside(args.output.as_deref()).as_deref()).check()?;
    let compiler = args.how.keeping_compiler()?;
    let mut graph = load::graph(&args.model, compiler.options().access())?;
    let pruning = Spinner::new("pruning");
    let samples = args.calib.as_deref().map(|path| samples(path, &graph)).transpose()?.unwrap_or_default();
    let layers = optc::prune(&mut graph, &options, &samples).map_err(usage)?;
    let model = compiler.compile_graph(graph.clone()).map_err(usage)?;
    let compiled = model.plan_for(&closed_types(model.inputs())?).map_err(usage)?;
    drop(pruning);
    let lines = layers.iter().map(|l| line(l, &graph, &compiled.report)).collect();
    let mut report = totals(lines, &graph);
    if let Some(path) = &args.output {
        let bytes = write(args, path, &graph, &model)?;
        (report.output, report.file_bytes) = (Some(path.clone()), Some(bytes));
    }
    emit(&report, format)?;
    Ok(Exit::Ok)
}

fn extension(path: &Path) -> Outcome<&str> {
    match path.extension().and_then(|e| e.to_str()) {
        Some(known @ ("optc" | "onnx")) => Ok(known),
        _ => {
            let message = format!("`{}`: expected a name that ends in .optc or .onnx", path.display());
            Err(CommandError::new(Exit::Usage, message))
        }
    }
}

/// Samples by input name.
fn samples(path: &Path, graph: &Graph) -> Outcome<Vec<(String, Tensor)>> {
    let info = |v| ValueInfo { name: graph.input_name(v).unwrap_or_default().to_owned(), ty: graph.ty(v).clone() };
    let infos: Vec<ValueInfo> = graph.inputs().map(info).collect();
    let values = read(path, &infos, InputRole::Input)?;
    if values.is_empty() {
        return Err(CommandError::new(Exit::Run, format!("`{}` holds no arrays", path.display())));
    }
    let tensors = values.into_iter().filter_map(|(name, v)| Some((name, v.as_tensor()?.clone())));
    Ok(tensors.collect())
}

/// Writes the model; returns its bytes.
fn write(args: &PruneArgs, path: &Path, graph: &Graph, model: &Model) -> Outcome<u64> {
    match extension(path)? {
        "onnx" => args.export.write(graph, path),
        _ => Ok(model.save(path)?),
    }
}

fn line(l: &LayerReport, graph: &Graph, nodes: &[NodeReport]) -> LayerLine {
    let node = nodes.iter().find(|n| n.loc.contains(&l.name));
    let choice = node.and_then(|n| n.choice);
    let sparse = choice.is_some_and(|c| c.sparse);
    let weights = graph.ids().find(|&id| graph.node(id).loc.contains(&l.name)).and_then(|id| graph.operand(id, 1));
    let tensor = weights.and_then(|v| graph.constant(v));
    let bytes = tensor.map_or(4 * l.rows * l.cols, |t| t.bytes().len());
    LayerLine {
        layer: l.name.clone(),
        shape: format!("{}x{}", l.rows, l.cols),
        weights: l.rows * l.cols,
        zeros: l.zeros,
        sparsity: l.zeros as f64 / (l.rows * l.cols).max(1) as f64,
        bytes,
        stored_bytes: tensor.map_or(bytes, optc::stored_bytes),
        spared: if let Verdict::Spared(why) = l.verdict { Some(why) } else { None },
        runs: if sparse { "sparse" } else { "dense" },
        why: why(l, choice),
        dense_ms: choice.map(|c| c.dense_ns * 1e-6),
        sparse_ms: choice.map(|c| c.sparse_ns * 1e-6),
    }
}

/// Why a layer runs as it does.
fn why(l: &LayerReport, choice: Option<Choice>) -> String {
    match (&l.verdict, choice) {
        (_, Some(c)) => ChoiceLine::from(c).words(),
        (Verdict::Spared(why), None) => (*why).to_owned(),
        (Verdict::Pruned, None) => "few zeros, or no sparse kernel".to_owned(),
    }
}

fn totals(layers: Vec<LayerLine>, graph: &Graph) -> PruneReport {
    let sum = |of: fn(&LayerLine) -> usize, all: bool| {
        layers.iter().filter(|l| all || l.spared.is_none()).map(of).sum::<usize>()
    };
    let constants = graph.ids().filter_map(|id| match &graph.node(id).op {
        Op::Constant(c) => Some(&c.value.0),
        _ => None,
    });
    let (mut constant_bytes, mut stored_bytes) = (0, 0);
    for t in constants {
        constant_bytes += t.bytes().len();
        stored_bytes += optc::stored_bytes(t);
    }
    PruneReport {
        pruned_weights: sum(|l| l.weights, false),
        pruned_zeros: sum(|l| l.zeros, false),
        weights: sum(|l| l.weights, true),
        zeros: sum(|l| l.zeros, true),
        constant_bytes,
        stored_bytes,
        output: None,
        file_bytes: None,
        layers,
    }
}

impl Report for PruneReport {
    fn text(&self) -> String {
        let percent = |zeros: usize, of: usize| format!("{:.1} %", 100.0 * zeros as f64 / of.max(1) as f64);
        let row = |l: &LayerLine| {
            vec![
                l.layer.clone(),
                l.shape.clone(),
                percent(l.zeros, l.weights),
                units::bytes(l.bytes as u64),
                units::bytes(l.stored_bytes as u64),
                l.runs.to_owned(),
                match l.spared {
                    Some(why) if *why != l.why => format!("spared: {why}; {}", l.why),
                    Some(why) => format!("spared: {why}"),
                    None => l.why.clone(),
                },
            ]
        };
        let rows: Vec<Vec<String>> = self.layers.iter().map(row).collect();
        let mut pairs = vec![
            (
                "zeros",
                format!(
                    "{} of the pruned layers, {} of all",
                    percent(self.pruned_zeros, self.pruned_weights),
                    percent(self.zeros, self.weights)
                ),
            ),
            ("constants", units::bytes(self.constant_bytes as u64)),
            ("stored", units::bytes(self.stored_bytes as u64)),
        ];
        if let (Some(path), Some(bytes)) = (&self.output, self.file_bytes) {
            pairs.push(("written", format!("{}, {}", path.display(), units::bytes(bytes))));
        }
        let headers = ["layer", "weights", "zeros>", "bytes>", "stored>", "runs", "why"];
        format!("{}\n{}", table::render(&headers, &rows), table::pairs(&pairs))
    }
}
