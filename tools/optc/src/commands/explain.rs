//! `optc explain`: what became of each node, and why.

use std::collections::BTreeMap;

use optc::{BodyReport, Choice, Decision, Filtered, NodeReport, Val};
use serde::Serialize;

use super::roofline::{self, KernelLine};
use crate::exit::{CommandError, Exit, Outcome};
use crate::inputs::{InputArgs, closed_types};
use crate::options::ModelArgs;
use crate::report::{Format, Report, emit, table};
use crate::tune::{TuneArgs, load_tuned};

/// Show which kernel runs each node, what it was fused with, its layout, or why it runs on the host
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Show only nodes whose op, kernel or ONNX node contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Run the model, and show for each kernel its schedule, the time that is predicted for it and the time that it
    /// took, and how near it comes to what the machine can do
    #[arg(long)]
    measure: bool,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    tune: TuneArgs,
}

#[derive(Debug, Serialize)]
struct ExplainReport {
    nodes: Vec<NodeLine>,
    /// The kernels in the order in which they run, where they were measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    measured: Vec<KernelLine>,
    kernels: usize,
    views: usize,
    host: usize,
    /// The row of the target table that it is compiled for.
    isa: &'static str,
    /// Whether the plan serves any number of items of a batch.
    batch: bool,
    /// Why a model with open dims has no such plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_batch: Option<String>,
}

/// Dense or sparse, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChoiceLine {
    /// Whether the sparse form was taken.
    pub sparse: bool,
    /// The share of the weights that is zero.
    pub zeros: f64,
    /// Rows and columns of the blocks in which sparse is fastest.
    pub block: (usize, usize),
    /// Milliseconds of the dense form.
    pub dense_ms: f64,
    /// Milliseconds of the sparse form.
    pub sparse_ms: f64,
}

impl From<Choice> for ChoiceLine {
    fn from(c: Choice) -> ChoiceLine {
        let ms = |ns: f64| ns * 1e-6;
        ChoiceLine {
            sparse: c.sparse,
            zeros: c.zeros,
            block: c.block,
            dense_ms: ms(c.dense_ns),
            sparse_ms: ms(c.sparse_ns),
        }
    }
}

/// A 3x3 convolution that is filtered (Winograd), and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FilteredLine {
    /// Rows and columns of a tile of the result.
    pub outputs: usize,
    /// A bound of the error, relative to the largest result.
    pub error: f64,
    /// Milliseconds of the direct sum.
    pub direct_ms: f64,
    /// Milliseconds of the filtered form.
    pub filtered_ms: f64,
}

impl From<Filtered> for FilteredLine {
    fn from(f: Filtered) -> FilteredLine {
        let [direct_ms, filtered_ms] = [f.direct_ns, f.filtered_ns].map(|ns| ns * 1e-6);
        FilteredLine { outputs: f.outputs, error: f.error, direct_ms, filtered_ms }
    }
}

impl FilteredLine {
    /// The choice in words.
    pub fn words(&self) -> String {
        let FilteredLine { outputs, error, direct_ms, filtered_ms } = self;
        format!("Winograd {outputs}x{outputs}, error up to {error:e}: {filtered_ms:.3} ms, {direct_ms:.3} ms direct")
    }
}

impl ChoiceLine {
    /// The choice in words.
    pub fn words(&self) -> String {
        let taken = match (self.sparse, self.sparse_ms < self.dense_ms) {
            (true, _) => "sparse",
            // Within the margin, or conversions around it cost more.
            (false, true) => "dense all the same",
            (false, false) => "dense",
        };
        let zeros = (self.zeros * 100.0).round();
        let (dense, sparse, (rows, cols)) = (self.dense_ms, self.sparse_ms, self.block);
        format!("{taken}: {zeros} % zeros, {dense:.3} ms dense, {sparse:.3} ms sparse in {rows}x{cols}")
    }
}

/// One node of the optimized graph.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeLine {
    /// Its op, or those in the fused kernel.
    pub ops: Vec<String>,
    /// `kernel`, `view` or `host`.
    pub decision: &'static str,
    /// The kernels, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kernels: Vec<String>,
    /// Why no kernel takes it, as one of a few codes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// The same as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why a depthwise convolution is not one kernel with the product before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apart: Option<String>,
    /// Why the region that it was fused into is not one kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// The types of its results, their layout included.
    pub results: Vec<String>,
    /// Dense or sparse, and the estimates that decided, where weights have zeros.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<ChoiceLine>,
    /// How it is filtered, where it is a 3x3 convolution that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filtered: Option<FilteredLine>,
    /// Estimated microseconds of a product in `f32` and in 8-bit integers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub f32_int8_us: Option<[f64; 2]>,
    /// The targets on which a product of integers takes longer than it would in `f32`, by estimate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slower_on: Vec<&'static str>,
    /// Why it may give other bits on another target or for another batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_differ: Option<&'static str>,
    /// The ONNX nodes that it came from.
    pub nodes: Vec<String>,
    /// The region of a control-flow op that it is in, and those that this is in, from the outside in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

impl From<&NodeReport> for NodeLine {
    fn from(node: &NodeReport) -> NodeLine {
        let (decision, kernels, reason) = match &node.decision {
            Decision::View => ("view", vec![], None),
            Decision::Kernel { names } => ("kernel", names.clone(), None),
            Decision::Host { reason } => ("host", vec![], Some(reason)),
        };
        let results = node.results.iter().map(ToString::to_string).collect();
        NodeLine {
            ops: node.ops.clone(),
            decision,
            kernels,
            code: reason.map(|reason| reason.code.as_str()),
            reason: reason.map(|reason| reason.sentence.clone()),
            apart: node.apart.clone(),
            split: node.split.clone(),
            results,
            choice: node.choice.map(Into::into),
            filtered: node.filtered.map(Into::into),
            f32_int8_us: None,
            slower_on: vec![],
            may_differ: None,
            nodes: node.loc.clone(),
            body: None,
        }
    }
}

/// The lines of the regions of control-flow ops.
fn in_bodies(bodies: &[BodyReport], outside: &str, line: &dyn Fn(&NodeReport) -> NodeLine) -> Vec<NodeLine> {
    let mut lines = vec![];
    for body in bodies {
        let name = body.loc.first().unwrap_or(&body.op);
        let name = format!("{outside}{} {name}, region {}", body.op, body.region);
        lines.extend(body.report.iter().map(|node| NodeLine { body: Some(name.clone()), ..line(node) }));
        lines.extend(in_bodies(&body.bodies, &format!("{name}: "), line));
    }
    lines
}

/// Runs the command.
///
/// # Errors
/// The model cannot be used or compiled.
pub fn run(args: &ExplainArgs, format: Format) -> Outcome {
    let compiling = args.tune.compiling();
    // One thread where kernels are timed: what the machine can do is known of one.
    let mut options = args.model.how.options(usize::from(args.measure))?;
    // The graph has the regions that are explained as well; the program in an artifact is as it is.
    options.keep_graph = !optc::is_artifact(&args.model.model);
    let model = load_tuned(&args.model, &args.tune, &args.input, options)?.0.model;
    let values = if args.measure { Some(args.input.values(&model)?) } else { None };
    let types = match &values {
        Some(values) => values.iter().map(Val::ty).collect(),
        None => closed_types(model.inputs())?,
    };
    let compiled = model.plan_for(&types).map_err(CommandError::from)?;
    let bodies = model.bodies(&types).map_err(CommandError::from)?;
    drop(compiling);
    let mut measured = match &values {
        Some(values) => roofline::kernels(&model, &compiled, values, &args.model.how.options(1)?)?,
        None => vec![],
    };
    let line = |node: &NodeReport| {
        let f32_int8_us = model.times(node).map(|t| [1e6 * t.f32.seconds(), 1e6 * t.int8.seconds()]);
        NodeLine {
            f32_int8_us,
            slower_on: model.slower_on(node),
            may_differ: model.may_differ(node),
            ..NodeLine::from(node)
        }
    };
    let mut nodes: Vec<NodeLine> = compiled.report.iter().map(line).collect();
    nodes.extend(in_bodies(&bodies, "", &line));
    if let Some(text) = &args.only {
        let has = |list: &[String]| list.iter().any(|item| item.contains(text.as_str()));
        nodes.retain(|n| has(&n.ops) || has(&n.kernels) || has(&n.nodes));
        measured.retain(|k| k.kernel.contains(text.as_str()) || has(&k.nodes));
    }
    let count = |decision: &str| nodes.iter().filter(|n| n.decision == decision).count();
    let (batch, no_batch) = (compiled.plan.flow.batch.is_some(), model.no_batch());
    let (kernels, views, host) = (count("kernel"), count("view"), count("host"));
    let isa = model.isa().name;
    let report = ExplainReport { kernels, views, host, batch, no_batch, nodes, measured, isa };
    emit(&report, format)?;
    Ok(Exit::Ok)
}

/// ONNX nodes that a line names.
const NAMED: usize = 4;

impl ExplainReport {
    /// Which products of integers are slower than in `f32`: by name here, counted for other targets.
    fn slower(&self) -> String {
        let mut products: BTreeMap<&str, Vec<&NodeLine>> = BTreeMap::new();
        for node in &self.nodes {
            node.slower_on.iter().for_each(|target| products.entry(target).or_default().push(node));
        }
        let line = |(target, nodes): (&str, Vec<&NodeLine>)| {
            let names = nodes.iter().filter_map(|n| n.nodes.first()).take(NAMED).map(String::as_str);
            let names = names.collect::<Vec<_>>().join(", ");
            let names = if target == self.isa { format!(": {names}") } else { String::new() };
            format!("on {target} {} products of integers would be faster in f32{names}\n", nodes.len())
        };
        products.into_iter().map(line).collect()
    }
}

impl ExplainReport {
    /// Of a model with integers, whose results are the same everywhere but for these nodes.
    fn differing(&self) -> String {
        if !self.nodes.iter().any(|n| n.ops.iter().any(|op| op.starts_with("quant."))) {
            return String::new();
        }
        let line = |n: &NodeLine| {
            let name = n.nodes.first().unwrap_or(&n.ops[0]);
            n.may_differ.map(|why| format!("{name} may differ between targets or batches in its last bits: {why}\n"))
        };
        self.nodes.iter().filter_map(line).collect()
    }
}

impl Report for ExplainReport {
    fn text(&self) -> String {
        let row = |n: &NodeLine| {
            let how = match (&n.reason, n.decision) {
                (Some(reason), _) => format!("host: {reason}"),
                (None, "view") => "view".to_owned(),
                (None, _) => n.kernels.join(", "),
            };
            let how = match &n.choice {
                Some(c) => format!("{how} ({})", c.words()),
                None => how,
            };
            let how = match &n.filtered {
                Some(f) => format!("{how} ({})", f.words()),
                None => how,
            };
            let how = match &n.split {
                Some(why) => format!("{how} (not one kernel with what it was fused with: {why})"),
                None => how,
            };
            let times = n.f32_int8_us.map(|[f, i]| format!("{f:.1} / {i:.1}")).unwrap_or_default();
            vec![n.ops.join(" + "), how, times, n.results.join(", "), table::join(&n.nodes, NAMED)]
        };
        let tables = self.nodes.chunk_by(|a, b| a.body == b.body).map(|nodes| {
            let rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
            let table = table::render(&["ops", "runs as", "us f32 / int8>", "result", "ONNX nodes"], &rows);
            nodes[0].body.as_ref().map_or_else(String::new, |body| format!("\nin {body}:\n")) + &table
        });
        let nodes: String = tables.collect();
        let counts = format!("{} in kernels, {} views, {} on the host\n", self.kernels, self.views, self.host);
        let batch = match &self.no_batch {
            _ if self.batch => "one plan for any number of items\n".to_owned(),
            Some(why) => format!("a plan for each set of shapes: {why}\n"),
            None => String::new(),
        };
        let counts = counts + &batch + &self.slower() + &self.differing();
        if self.measured.is_empty() {
            return nodes + &counts;
        }
        let measured: Vec<Vec<String>> = self.measured.iter().map(KernelLine::row).collect();
        format!("{nodes}{counts}\n{}", table::render(&roofline::HEADERS, &measured))
    }
}
