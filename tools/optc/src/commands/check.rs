//! `optc check`: what in a model is not supported, and what runs on the host.

use std::path::Path;

use optc::FileAccess;
use optc_onnx::{ModelFile, is_supported};
use serde::Serialize;

use super::explain::NodeLine;
use crate::exit::{CommandError, Exit, Outcome};
use crate::inputs::closed_types;
use crate::load::{FileKind, kind, load};
use crate::options::ModelArgs;
use crate::progress::Spinner;
use crate::report::{Format, Report, emit, table};

/// List every unsupported op and every step that runs on the host
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Exit with 1 when a step runs on the host
    #[arg(long)]
    fail_on_host: bool,
}

#[derive(Debug, Serialize)]
struct CheckReport {
    /// Ops of the file that the importer does not know.
    unsupported: Vec<Unsupported>,
    /// Steps without a kernel; unknown while there are unsupported ops.
    #[serde(skip_serializing_if = "Option::is_none")]
    host_steps: Option<Vec<NodeLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_steps: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Unsupported {
    domain: String,
    op: String,
    count: usize,
    nodes: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// The model cannot be read, or fails to compile for another reason than unsupported ops.
pub fn run(args: &CheckArgs, format: Format) -> Outcome {
    let path = &args.model.model;
    let compiler = args.model.how.compiler()?;
    let unsupported =
        if kind(path)? == FileKind::Onnx { unsupported(path, compiler.options().access())? } else { vec![] };
    if !unsupported.is_empty() {
        emit(&CheckReport { unsupported, host_steps: None, kernel_steps: None }, format)?;
        return Ok(Exit::Unsupported);
    }
    let compiling = Spinner::new("compiling");
    let model = load(path, &compiler)?.model;
    let compiled = model.plan_for(&closed_types(model.inputs())?).map_err(CommandError::from)?;
    drop(compiling);
    let lines = compiled.report.iter().map(NodeLine::from);
    let host: Vec<NodeLine> = lines.filter(|line| line.decision == "host").collect();
    let exit = if args.fail_on_host && !host.is_empty() { Exit::CheckFailed } else { Exit::Ok };
    let kernel_steps = Some(compiled.plan.kernel_steps().count());
    emit(&CheckReport { unsupported, host_steps: Some(host), kernel_steps }, format)?;
    Ok(exit)
}

/// Every op that the importer lacks, the most frequent first.
fn unsupported(path: &Path, access: FileAccess) -> Outcome<Vec<Unsupported>> {
    let histogram = ModelFile::open_as(path, access)?.op_histogram();
    let missing = histogram.into_iter().filter(|((domain, op), _)| !is_supported(domain, op));
    let mut missing: Vec<Unsupported> =
        missing.map(|((domain, op), nodes)| Unsupported { domain, op, count: nodes.len(), nodes }).collect();
    missing.sort_by_key(|u| std::cmp::Reverse(u.count)); // stable: equal counts stay by name
    Ok(missing)
}

/// Nodes that a line names.
const NAMED: usize = 8;

impl Report for CheckReport {
    fn text(&self) -> String {
        let mut text = String::new();
        if !self.unsupported.is_empty() {
            text += "ops that are not supported:\n";
            let row = |u: &Unsupported| {
                let domain = if u.domain.is_empty() { String::new() } else { format!("{}.", u.domain) };
                vec![format!("{domain}{}", u.op), u.count.to_string(), table::join(&u.nodes, NAMED)]
            };
            let rows: Vec<Vec<String>> = self.unsupported.iter().map(row).collect();
            text += &table::render(&["op", "count>", "nodes"], &rows);
        }
        if let (Some(host), Some(kernels)) = (&self.host_steps, self.kernel_steps) {
            text += &format!("all ops are supported; {kernels} kernel steps, {} host steps\n", host.len());
            let row = |n: &NodeLine| {
                vec![n.ops.join(" + "), table::join(&n.nodes, NAMED), n.reason.clone().unwrap_or_default()]
            };
            let rows: Vec<Vec<String>> = host.iter().map(row).collect();
            if !rows.is_empty() {
                text += &table::render(&["op", "ONNX nodes", "why on the host"], &rows);
            }
        }
        text
    }
}
