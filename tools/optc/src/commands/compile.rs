//! `optc compile`: writes a model as a `.optc` artifact, to be loaded without import and passes.

use std::path::PathBuf;

use serde::Serialize;

use crate::exit::{Exit, Failure, Outcome};
use crate::inputs::InputArgs;
use crate::options::ModelArgs;
use crate::report::{Format, Report, emit, table, units};
use crate::stats::{ms, peak_rss_bytes};
use crate::tune::{TuneArgs, TuneReport, load_tuned};

/// Write a model as a `.optc` artifact
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    tune: TuneArgs,
    /// The `.npz` that schedules are measured with; random without it
    #[arg(long, value_name = "IN", requires = "autotune")]
    input: Option<PathBuf>,
    /// Where to write it
    #[arg(long, short, value_name = "OUT.optc")]
    output: PathBuf,
}

#[derive(Debug, Serialize)]
struct CompileReport {
    output: PathBuf,
    import_ms: f64,
    compile_ms: f64,
    model_bytes: u64,
    artifact_bytes: u64,
    peak_rss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    autotune: Option<TuneReport>,
}

/// Runs the command.
///
/// # Errors
/// The model cannot be used or compiled, or the artifact cannot be written.
pub fn run(args: &Args, format: Format) -> Outcome {
    let (model, output) = (&args.model.model, &args.output);
    args.model.files().reads(args.input.as_deref()).writes(Some(output)).check()?;
    let compiling = args.tune.compiling();
    let input = InputArgs { input: args.input.clone(), ..InputArgs::default() };
    let (loaded, autotune) = load_tuned(&args.model, &args.tune, &input, args.model.how.keeping_options()?)?;
    drop(compiling);
    let artifact_bytes = loaded.model.save(output)?;
    let meta = std::fs::metadata(model).map_err(|e| Failure::io(model, &e))?;
    let report = CompileReport {
        output: output.clone(),
        import_ms: ms(loaded.import),
        compile_ms: ms(loaded.compile),
        model_bytes: meta.len(),
        artifact_bytes,
        peak_rss_bytes: peak_rss_bytes(),
        autotune,
    };
    emit(&report, format)?;
    Ok(Exit::Ok)
}

impl Report for CompileReport {
    fn text(&self) -> String {
        table::pairs(&[
            ("written", self.output.display().to_string()),
            ("import", format!("{} ms", units::ms(self.import_ms))),
            ("compile", format!("{} ms", units::ms(self.compile_ms))),
            ("model", units::bytes(self.model_bytes)),
            ("artifact", units::bytes(self.artifact_bytes)),
            ("peak memory", self.peak_rss_bytes.map_or_else(|| "unknown".to_owned(), units::bytes)),
        ])
    }
}
