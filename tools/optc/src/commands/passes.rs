//! `optc passes`: the passes and the named pipelines.

use optc_passes::Numerics;
use serde::Serialize;

use crate::exit::{Exit, Outcome};
use crate::registry;
use crate::report::{Format, Report, emit, table};

/// List all passes and pipelines, or show what a pipeline runs
#[derive(Debug, clap::Args)]
pub struct PassesArgs {
    /// List all passes and pipelines; what happens without options
    #[arg(long)]
    list: bool,
    /// Show the passes of a pipeline, one a line
    #[arg(long, value_name = "PIPELINE", conflicts_with = "list")]
    show: Option<String>,
}

#[derive(Debug, Serialize)]
struct ListReport {
    pipelines: Vec<PipelineLine>,
    passes: Vec<PassLine>,
}

#[derive(Debug, Serialize)]
struct PipelineLine {
    name: &'static str,
    summary: &'static str,
    passes: &'static str,
}

#[derive(Debug, Serialize)]
struct PassLine {
    name: &'static str,
    summary: &'static str,
    numerics: &'static str,
}

#[derive(Debug, Serialize)]
struct ShowReport {
    pipeline: String,
    passes: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// The pipeline does not parse.
pub fn run(args: &PassesArgs, format: Format) -> Outcome {
    match &args.show {
        Some(text) => {
            let passes = registry().parse(text)?.passes().map(str::to_owned).collect();
            emit(&ShowReport { pipeline: text.clone(), passes }, format)?;
        }
        None => emit(&all(), format)?,
    }
    Ok(Exit::Ok)
}

fn all() -> ListReport {
    let pipelines =
        registry().pipelines().iter().map(|p| PipelineLine { name: p.name, summary: p.summary, passes: p.passes });
    let numerics = |n: Numerics| match n {
        Numerics::BitExact => "bit-exact",
        Numerics::Reassociates => "reassociates",
        Numerics::Approximates { .. } => "approximates",
        Numerics::Changes => "changes results",
    };
    let passes = registry().passes().iter().map(|p| PassLine {
        name: p.name,
        summary: p.summary,
        numerics: numerics(p.numerics),
    });
    ListReport { pipelines: pipelines.collect(), passes: passes.collect() }
}

impl Report for ListReport {
    fn text(&self) -> String {
        let pipelines: Vec<_> =
            self.pipelines.iter().map(|p| vec![p.name.into(), p.passes.into(), p.summary.into()]).collect();
        let passes: Vec<_> =
            self.passes.iter().map(|p| vec![p.name.into(), p.numerics.into(), p.summary.into()]).collect();
        let pipelines = table::render(&["pipeline", "passes", "for"], &pipelines);
        format!("{pipelines}\n{}", table::render(&["pass", "numerics", "what it does"], &passes))
    }
}

impl Report for ShowReport {
    fn text(&self) -> String {
        self.passes.iter().map(|p| format!("{p}\n")).collect()
    }
}
