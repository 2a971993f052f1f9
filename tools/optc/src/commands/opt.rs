//! `optc opt`: runs a pipeline on a graph and prints or writes what comes out.
//!
//! Passes run as they do when a model is compiled, with the costs of the same target: `optc opt --passes O2` shows what
//! `optc run` compiles. A failure leaves a reproducer: the graph before the failing pass, its constants beside it, and
//! a `// passes:` line.

use std::path::{Path, PathBuf};

use optc::{FileAccess, Options};
use optc_ir::{Graph, print, verify};
use optc_passes::{PassError, PassManager, PassOptions, PassReport, Pipeline, VerifyEach};
use serde::Serialize;

use crate::exit::{CommandError, Exit, Outcome};
use crate::export::{ExportArgs, data_beside};
use crate::options::{ShapeArg, TargetArgs};
use crate::report::{Format, Report, emit, note, table, units};
use crate::stats::ms;
use crate::{load, text_form};

/// `clean-up` with constants left quantized: they would be four times as large in the file.
const FOR_ONNX: &str = "infer-types,fold-constants{quantized=keep},infer-types,dce,decompose,canonicalize,cse,dce";

/// Run a pipeline on a graph, from text or ONNX to text or ONNX
#[derive(Debug, clap::Args)]
pub struct OptArgs {
    /// An ONNX file, a graph as text, or `-` for text on stdin
    input: PathBuf,
    /// The pipeline: `O0` to `O3`, or a list of passes (see `optc passes`) [default: `clean-up`, for an ONNX model
    /// without its dequantization of constants]
    #[arg(long, short, value_name = "PIPELINE")]
    passes: Option<String>,
    /// Pin an input's dims, such as `x:1x3x224x224`; may be given several times
    #[arg(long = "shape", value_name = "NAME:DIMS")]
    shapes: Vec<ShapeArg>,
    #[command(flatten)]
    target: TargetArgs,
    /// Where to write: `.onnx` for a model, `.mlir` for text with its larger constants beside it as `.npz`; stdout
    /// without it
    #[arg(long, short, value_name = "OUT")]
    output: Option<PathBuf>,
    #[command(flatten)]
    export: ExportArgs,
    /// Read the model's files whole: they are otherwise mapped, and must not be written in place or truncated meanwhile
    #[arg(long)]
    copy: bool,
    /// Verify after each pass; `numerics` also runs the interpreter before and after on seeded inputs
    #[arg(long, value_name = "structure|numerics", num_args = 0..=1, require_equals = true,
          default_missing_value = "structure", default_value = "no", hide_default_value = true)]
    verify_each: VerifyEach,
    /// Print the graph on stderr after this pass, `*` for all; may be given several times
    #[arg(long, value_name = "PASS")]
    print_after: Vec<String>,
    /// Print on stderr how long each pass took and which rules fired
    #[arg(long)]
    time_passes: bool,
    /// Make no more than N rewrites
    #[arg(long, value_name = "N")]
    stop_after_rewrites: Option<usize>,
}

#[derive(Debug, Serialize)]
struct OptReport {
    passes: Vec<PassLine>,
    rewrites: usize,
    /// Where the graph was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
    /// The graph's text, where it was not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

#[derive(Debug, Serialize)]
struct PassLine {
    pass: String,
    ms: f64,
    /// How often each rule fired.
    rules: Vec<(&'static str, usize)>,
}

/// Runs the command.
///
/// # Errors
/// The graph cannot be read or written, or a pass fails.
pub fn run(args: &OptArgs, format: Format) -> Outcome {
    let how = args.target.options()?;
    let target = args.output.as_deref().map(Target::of).transpose()?;
    let usual = if matches!(target, Some(Target::Onnx(_))) { FOR_ONNX } else { "clean-up" };
    let passes = args.passes.as_deref().unwrap_or(usual);
    let pipeline = how.registry.parse(&how.pipeline(passes)?)?;
    let constants = target.as_ref().and_then(Target::constants);
    args.target.files(&args.input).writes(args.output.as_deref()).writes(constants.as_deref()).check()?;
    let access = if args.copy { FileAccess::Copy } else { FileAccess::Map };
    let mut graph = load::graph(&args.input, access)?;
    pin(&mut graph, &args.shapes)?;
    let reports = run_passes(args, &how, &pipeline, &mut graph)?;
    check(&graph)?;
    if args.time_passes {
        eprint!("{}", timing(&reports));
    }
    if let Some(target) = &target {
        target.write(&graph, &args.export)?;
    }
    let passes: Vec<PassLine> = reports.iter().map(PassLine::from).collect();
    let rewrites = reports.iter().flat_map(|r| r.stats.values()).sum();
    let text = target.is_none().then(|| print(&graph).text);
    emit(&OptReport { passes, rewrites, output: args.output.clone(), text }, format)?;
    Ok(Exit::Ok)
}

/// What is written, by the file's extension.
#[derive(Debug)]
enum Target<'a> {
    Text(&'a Path),
    Onnx(&'a Path),
}

impl Target<'_> {
    fn of(path: &Path) -> Outcome<Target<'_>> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("mlir" | "optc-ir" | "txt") => Ok(Target::Text(path)),
            Some("onnx") => Ok(Target::Onnx(path)),
            _ => {
                let message = format!("`{}`: expected a name that ends in .mlir or .onnx", path.display());
                Err(CommandError::new(Exit::Usage, message))
            }
        }
    }

    fn write(&self, graph: &Graph, export: &ExportArgs) -> Outcome<()> {
        match self {
            Target::Text(path) => text_form::write(path, graph, ""),
            Target::Onnx(path) => export.write(graph, path).map(drop),
        }
    }

    /// The second file that may be written.
    fn constants(&self) -> Option<PathBuf> {
        match self {
            Target::Text(path) => text_form::constants_beside(path),
            Target::Onnx(path) => data_beside(Some(path)),
        }
    }
}

/// Gives inputs the shapes that were asked for.
fn pin(graph: &mut Graph, shapes: &[ShapeArg]) -> Outcome<()> {
    if shapes.is_empty() {
        return Ok(());
    }
    let dims = |s: &ShapeArg| s.dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
    let shapes: Vec<String> = shapes.iter().map(|s| format!("{}={}", s.name, dims(s))).collect();
    let pipeline = Pipeline::parse(&format!("specialize-shapes{{{}}}", shapes.join(";")))?;
    PassManager::default().run(&pipeline, graph).map_err(|e| CommandError::new(Exit::Usage, e.to_string()))?;
    Ok(())
}

fn run_passes(args: &OptArgs, how: &Options, pipeline: &Pipeline, graph: &mut Graph) -> Outcome<Vec<PassReport>> {
    let options = PassOptions {
        verify_each: args.verify_each,
        print_after: args.print_after.clone(),
        stop_after_rewrites: args.stop_after_rewrites,
        ..how.pass_options()?
    };
    let (report, failed) = match PassManager::new(options).run_reproducibly(pipeline, graph) {
        Ok(report) => (report, None),
        Err(failed) => (failed.done, Some((failed.error, failed.pass, failed.before))),
    };
    for report in &report.passes {
        if let Some(text) = &report.printed {
            eprintln!("// after {}\n{text}", report.pass);
        }
    }
    match failed {
        None => Ok(report.passes),
        Some((error @ PassError::Input { .. }, ..)) => Err(CommandError::new(Exit::Usage, error.to_string())),
        Some((error, pass, Some(before))) => Err(reproduce(error.into(), &pass, &before)),
        Some((error, ..)) => Err(error.into()),
    }
}

/// Refuses a graph that a pass has broken: nothing is written of it.
fn check(graph: &Graph) -> Outcome<()> {
    match verify(graph).first() {
        None => Ok(()),
        Some(f) => {
            let message = format!("a pass broke the graph: {}: {}", f.rule, f.message);
            Err(CommandError::new(Exit::Compile, message).hint("`--verify-each` says which pass"))
        }
    }
}

/// Writes the graph before the failing pass, and says where.
fn reproduce(failure: CommandError, pass: &str, before: &Graph) -> CommandError {
    let name: String = pass.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let path = std::env::temp_dir().join(format!("optc-{name}-{}.mlir", std::process::id()));
    match text_form::write(&path, before, &format!("// passes: {pass}\n")) {
        Ok(()) => {
            let advice = format!("reproduce it with `optc opt {} --passes '{pass}' --verify-each`", path.display());
            failure.hint(&advice)
        }
        Err(error) => {
            note(&format!("the reproducer could not be written: {error}"));
            failure
        }
    }
}

impl From<&PassReport> for PassLine {
    fn from(report: &PassReport) -> PassLine {
        let rules = report.stats.iter().map(|(&rule, &count)| (rule, count)).collect();
        PassLine { pass: report.pass.clone(), ms: ms(report.time), rules }
    }
}

fn timing(reports: &[PassReport]) -> String {
    let row = |r: &PassReport| {
        let rules: Vec<String> = r.stats.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
        vec![r.pass.clone(), units::ms(ms(r.time)), rules.join(", ")]
    };
    table::render(&["pass", "ms>", "rules fired"], &reports.iter().map(row).collect::<Vec<_>>())
}

impl Report for OptReport {
    fn text(&self) -> String {
        self.text.clone().unwrap_or_default()
    }
}
