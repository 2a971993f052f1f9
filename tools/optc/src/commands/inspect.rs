//! `optc inspect`: what a model is made of, and what it takes to run it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use optc::{FileAccess, Model, ValueInfo};
use optc_ir::{Graph, Op, Type};
use optc_onnx::{ModelFile, import_model};
use optc_tensor::DType;
use serde::Serialize;

use crate::exit::{CommandError, Exit, Outcome};
use crate::load::{self, FileKind};
use crate::macs;
use crate::options::ModelArgs;
use crate::progress::Spinner;
use crate::report::{Format, Report, emit, table, units};
use crate::stats::peak_rss_bytes;

/// Show a model's inputs, outputs, ops, parameters, multiply-adds and sizes
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Debug, Serialize)]
struct InspectReport {
    file: PathBuf,
    kind: &'static str,
    file_bytes: u64,
    /// Of an ONNX file.
    #[serde(skip_serializing_if = "Option::is_none")]
    onnx: Option<OnnxFacts>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// Elements of the constants before all passes that are not `i64`: indices and shapes are not parameters.
    parameters: u64,
    /// Bytes of all constants before all passes.
    weight_bytes: u64,
    /// Multiply-adds of one run after all passes.
    macs: u64,
    /// Contractions whose shapes are open, which `macs` lacks.
    macs_unknown_of: usize,
    /// Ops of the IR after all passes, those inside fused ones included.
    ir_ops: BTreeMap<String, usize>,
    /// What running it takes, where all input shapes are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<PlanFacts>,
    /// Inputs whose dims are open, which is why there is no plan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    open_inputs: Vec<String>,
    peak_rss_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct OnnxFacts {
    ir_version: i64,
    opsets: BTreeMap<String, i64>,
    producer: String,
    ops: BTreeMap<String, usize>,
}

#[derive(Debug, Serialize)]
struct Port {
    name: String,
    r#type: String,
}

#[derive(Debug, Serialize)]
struct PlanFacts {
    kernel_steps: usize,
    kernels: usize,
    host_steps: usize,
    arena_bytes: usize,
    constant_bytes: usize,
    code_bytes: usize,
}

/// Runs the command.
///
/// # Errors
/// The model cannot be used or compiled.
pub fn run(args: &InspectArgs, format: Format) -> Outcome {
    let path = &args.model.model;
    let compiling = Spinner::new("compiling");
    let compiler = args.model.how.keeping_compiler()?;
    let (kind, access) = (load::kind(path)?, compiler.options().access());
    let (onnx, graph) = match kind {
        FileKind::Onnx => onnx(path, access).map(|(facts, graph)| (Some(facts), Some(graph)))?,
        FileKind::Text => (None, Some(load::graph(path, access)?)),
        FileKind::Artifact => (None, None),
    };
    let before = graph.as_ref().map(constants);
    let model = match graph {
        Some(graph) => compiler.compile_graph(graph)?,
        None => compiler.load(path)?,
    };
    drop(compiling);
    let graph = model.graph().ok_or(optc::Error::NoGraph)?;
    let constants = before.unwrap_or_else(|| constants(graph));
    let macs = macs::of(graph);
    let open_inputs: Vec<String> = model.inputs().iter().filter(|i| is_open(i)).map(|i| i.name.clone()).collect();
    let report = InspectReport {
        file: path.clone(),
        kind: match kind {
            FileKind::Onnx => "onnx",
            FileKind::Text => "text",
            FileKind::Artifact => "artifact",
        },
        file_bytes: std::fs::metadata(path).map_or(0, |m| m.len()),
        onnx,
        inputs: model.inputs().iter().map(Port::from).collect(),
        outputs: model.outputs().iter().map(Port::from).collect(),
        parameters: constants.parameters,
        weight_bytes: constants.bytes,
        macs: macs.known,
        macs_unknown_of: macs.open,
        ir_ops: ir_ops(graph),
        plan: if open_inputs.is_empty() { Some(plan(&model)?) } else { None },
        open_inputs,
        peak_rss_bytes: peak_rss_bytes(),
    };
    emit(&report, format)?;
    Ok(Exit::Ok)
}

fn onnx(path: &Path, access: FileAccess) -> Outcome<(OnnxFacts, Graph)> {
    let file = ModelFile::open_as(path, access)?;
    let name = |domain: &str| if domain.is_empty() { "ai.onnx".to_owned() } else { domain.to_owned() };
    let qualified = |domain: &str, op: &str| if domain.is_empty() { op.to_owned() } else { format!("{domain}.{op}") };
    let producer = format!("{} {}", file.model.producer_name(), file.model.producer_version());
    let facts = OnnxFacts {
        ir_version: file.model.ir_version(),
        opsets: file.opsets.iter().map(|(domain, &version)| (name(domain), version)).collect(),
        producer: producer.trim().to_owned(),
        ops: file.op_histogram().into_iter().map(|((d, op), nodes)| (qualified(&d, &op), nodes.len())).collect(),
    };
    let graph = import_model(&file).map_err(|d| d.in_model(path.display().to_string()))?;
    Ok((facts, graph))
}

/// What a graph's constants, those of its regions included, amount to.
#[derive(Debug, Clone, Copy, Default)]
struct Constants {
    parameters: u64,
    bytes: u64,
}

fn constants(graph: &Graph) -> Constants {
    let mut total = Constants::default();
    for node in graph.ids().map(|id| graph.node(id)) {
        if let Op::Constant(c) = &node.op {
            let t = &c.value.0;
            total.bytes += t.bytes().len() as u64;
            total.parameters += if t.dtype() == DType::I64 { 0 } else { t.len() as u64 };
        }
        for inner in node.regions.iter().map(constants) {
            total.parameters += inner.parameters;
            total.bytes += inner.bytes;
        }
    }
    total
}

fn ir_ops(graph: &Graph) -> BTreeMap<String, usize> {
    let mut ops = BTreeMap::new();
    for node in graph.ids().map(|id| graph.node(id)) {
        if !matches!(node.op, Op::Param(_) | Op::Constant(_)) {
            *ops.entry(node.op.name().to_owned()).or_default() += 1;
        }
        for (op, count) in node.regions.iter().flat_map(ir_ops) {
            *ops.entry(op).or_default() += count;
        }
    }
    ops
}

fn is_open(info: &ValueInfo) -> bool {
    info.ty.as_tensor().is_none_or(|t| t.static_shape().is_none())
}

fn plan(model: &Model) -> Outcome<PlanFacts> {
    let types: Vec<Type> = model.inputs().iter().map(|i| i.ty.clone()).collect();
    let compiled = model.plan_for(&types).map_err(CommandError::from)?;
    let plan = &compiled.plan;
    let mut kernels: Vec<usize> = plan.kernel_steps().map(|k| k.kernel).collect();
    kernels.sort_unstable();
    kernels.dedup();
    Ok(PlanFacts {
        kernel_steps: plan.kernel_steps().count(),
        kernels: kernels.len(),
        host_steps: plan.host_steps().count(),
        arena_bytes: plan.arena_bytes(&types),
        constant_bytes: plan.constant_bytes(),
        code_bytes: plan.code.bytes(),
    })
}

impl From<&ValueInfo> for Port {
    fn from(info: &ValueInfo) -> Port {
        Port { name: info.name.clone(), r#type: info.ty.to_string() }
    }
}

impl Report for InspectReport {
    fn text(&self) -> String {
        let mut lines =
            vec![("file", format!("{} ({}, {})", self.file.display(), self.kind, units::bytes(self.file_bytes)))];
        if let Some(onnx) = &self.onnx {
            let opsets: Vec<String> = onnx.opsets.iter().map(|(domain, v)| format!("{domain} {v}")).collect();
            lines.push((
                "onnx",
                format!("IR version {}, opset {}, by {}", onnx.ir_version, opsets.join(", "), onnx.producer),
            ));
        }
        let port = |p: &Port| format!("{}: {}", p.name, p.r#type);
        lines.extend(self.inputs.iter().map(|p| ("input", port(p))));
        lines.extend(self.outputs.iter().map(|p| ("output", port(p))));
        lines.push(("parameters", format!("{} ({})", units::count(self.parameters), units::bytes(self.weight_bytes))));
        let unknown = match self.macs_unknown_of {
            0 => String::new(),
            n => format!(" and those of {n} contractions whose dims are open"),
        };
        lines.push(("multiply-adds", format!("{}{unknown}", units::count(self.macs))));
        match &self.plan {
            Some(p) => {
                let steps =
                    format!("{} kernel steps ({} kernels), {} host steps", p.kernel_steps, p.kernels, p.host_steps);
                lines.push(("plan", steps));
                lines.push(("arena", units::bytes(p.arena_bytes as u64)));
                lines.push(("packed constants", units::bytes(p.constant_bytes as u64)));
                lines.push(("code", units::bytes(p.code_bytes as u64)));
            }
            None => {
                lines.push(("plan", format!("unknown: dims of {} are open (see --shape)", self.open_inputs.join(", "))))
            }
        }
        lines.push(("peak memory", self.peak_rss_bytes.map_or_else(|| "unknown".to_owned(), units::bytes)));
        let rows = |ops: &BTreeMap<String, usize>| {
            let mut rows: Vec<_> = ops.iter().collect();
            rows.sort_by_key(|(_, count)| std::cmp::Reverse(**count)); // stable: equal counts stay by name
            rows.into_iter().map(|(op, n)| vec![op.clone(), n.to_string()]).collect::<Vec<_>>()
        };
        let mut text = table::pairs(&lines);
        if let Some(onnx) = &self.onnx {
            text += &format!("\n{}", table::render(&["ONNX op", "nodes>"], &rows(&onnx.ops)));
        }
        text + &format!("\n{}", table::render(&["op after passes", "nodes>"], &rows(&self.ir_ops)))
    }
}
