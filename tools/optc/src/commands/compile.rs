//! `optc compile`: writes a model as a `.optc` artifact, to be loaded without import and passes, or as the text of its
//! program.

use std::path::PathBuf;

use optc::{Compiler, NativeCode, Options, ProgramText, Saved};
use serde::Serialize;

use crate::exit::{CommandError, Exit, Outcome};
use crate::inputs::InputArgs;
use crate::load::{self, FileKind};
use crate::options::ModelArgs;
use crate::report::{Format, Report, emit, table, units};
use crate::stats::{ms, peak_rss_bytes};
use crate::text_form;
use crate::tune::{TuneArgs, TuneReport, load_tuned};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Emit {
    /// A `.optc` artifact: the optimized graph and its weights
    Artifact,
    /// The program as text, its constants beside it in a `.npz`: for any instruction set, whatever this machine has
    Program,
    /// The same before its last rewrites: copies into other layouts are not kernels yet, buffers share no memory
    Draft,
}

/// Write a model as a `.optc` artifact, or its program as text
#[derive(Debug, clap::Args)]
pub struct CompileArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    tune: TuneArgs,
    /// The `.npz` that schedules are measured with; random without it
    #[arg(long, value_name = "IN", requires = "autotune")]
    input: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum, default_value = "artifact")]
    emit: Emit,
    /// Put machine code into the artifact: for this machine, or for each of these targets (rows of `optc targets`),
    /// whatever this machine is. Commands that are given `--trust` run it, and compile nothing
    #[arg(
        long,
        value_name = "TARGETS",
        num_args = 0..=1,
        require_equals = true,
        value_delimiter = ',',
        default_missing_value = HOST
    )]
    native: Option<Vec<String>>,
    /// Where to write it
    #[arg(long, short, value_name = "OUT")]
    output: PathBuf,
}

/// The target that `--native` stands for on its own.
const HOST: &str = "host";

/// Machine code in an artifact.
#[derive(Debug, Serialize)]
struct NativeLine {
    target: String,
    /// Bytes of its code.
    code_bytes: u64,
    /// Bytes of its constants that neither the graph nor a target before it has.
    constant_bytes: u64,
}

#[derive(Debug, Serialize)]
struct ProgramReport {
    output: PathBuf,
    isa: &'static str,
    steps: usize,
    kernels: usize,
    host_ops: usize,
    arena_bytes: usize,
    constant_bytes: usize,
}

#[derive(Debug, Serialize)]
struct CompileReport {
    output: PathBuf,
    import_ms: f64,
    compile_ms: f64,
    model_bytes: u64,
    artifact_bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    native: Vec<NativeLine>,
    peak_rss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    autotune: Option<TuneReport>,
}

/// Runs the command.
///
/// # Errors
/// The model cannot be used or compiled, or the artifact cannot be written.
pub fn run(args: &CompileArgs, format: Format) -> Outcome {
    match args.emit {
        Emit::Artifact => artifact(args, format),
        Emit::Program | Emit::Draft => program(args, format),
    }
}

fn program(args: &CompileArgs, format: Format) -> Outcome {
    let (model, output) = (&args.model.model, &args.output);
    if args.tune.autotune.is_some() {
        return Err(CommandError::new(
            Exit::Usage,
            "`--autotune` measures what this machine runs: give `--tuning-cache`",
        ));
    }
    let beside = text_form::constants_beside(output);
    args.model.files().writes(Some(output)).writes(beside.as_deref()).check()?;
    let options = Options { draft: args.emit == Emit::Draft, ..args.model.how.options(0)? };
    let access = options.access();
    let compiler = Compiler::new(options);
    let program = match load::kind(model)? {
        FileKind::Text => compiler.program(load::graph(model, access)?)?,
        FileKind::Onnx | FileKind::Artifact => compiler.program_of_file(model)?,
    };
    let ProgramText { text, constants } = program.print();
    text_form::write_with(output, &text, &constants)?;
    let report = ProgramReport {
        output: output.clone(),
        isa: program.target.isa.name,
        steps: program.flow.steps.len(),
        kernels: program.kernels.len(),
        host_ops: program.hosts.len(),
        arena_bytes: program.flow.arena_for(1),
        constant_bytes: constants.iter().map(|(_, t)| t.bytes().len()).sum(),
    };
    emit(&report, format)?;
    Ok(Exit::Ok)
}

fn artifact(args: &CompileArgs, format: Format) -> Outcome {
    let (model, output) = (&args.model.model, &args.output);
    args.model.files().reads(args.input.as_deref()).writes(Some(output)).check()?;
    let compiling = args.tune.compiling();
    let input = InputArgs { input: args.input.clone(), ..InputArgs::default() };
    let (loaded, autotune) = load_tuned(&args.model, &args.tune, &input, args.model.how.keeping_options()?)?;
    let natives = natives(args)?;
    drop(compiling);
    let Saved { bytes: artifact_bytes, natives: sizes } = loaded.model.save_with(output, &natives)?;
    let line = |(native, (code_bytes, constant_bytes)): (&NativeCode, _)| NativeLine {
        target: native.program.target.isa.name.to_owned(),
        code_bytes,
        constant_bytes,
    };
    let meta = std::fs::metadata(model).map_err(|e| CommandError::io(model, &e))?;
    let report = CompileReport {
        output: output.clone(),
        import_ms: ms(loaded.import),
        compile_ms: ms(loaded.compile),
        model_bytes: meta.len(),
        artifact_bytes,
        native: natives.iter().zip(sizes).map(line).collect(),
        peak_rss_bytes: peak_rss_bytes(),
        autotune,
    };
    emit(&report, format)?;
    Ok(Exit::Ok)
}

/// The programs that `--native` asks for, and their machine code.
fn natives(args: &CompileArgs) -> Outcome<Vec<NativeCode>> {
    let (Some(targets), model) = (&args.native, &args.model.model) else { return Ok(vec![]) };
    let options = args.model.how.options(0)?;
    // Read once for all targets; an artifact brings passes of its own.
    let graph = match load::kind(model)? {
        FileKind::Text | FileKind::Onnx => Some(load::graph(model, options.access())?),
        FileKind::Artifact => None,
    };
    let native = |target: &String| {
        let mut options = options.clone();
        if target != HOST {
            options.target = Some(target.clone());
        }
        let compiler = Compiler::new(options);
        Ok(match &graph {
            Some(graph) => compiler.native(graph.clone())?,
            None => compiler.native_of_file(model)?,
        })
    };
    targets.iter().map(native).collect()
}

impl Report for ProgramReport {
    fn text(&self) -> String {
        table::pairs(&[
            ("written", self.output.display().to_string()),
            ("instruction set", self.isa.to_owned()),
            ("steps", format!("{}, {} kernels, {} ops on the host", self.steps, self.kernels, self.host_ops)),
            ("arena", units::bytes(self.arena_bytes as u64)),
            ("constants", units::bytes(self.constant_bytes as u64)),
        ])
    }
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
        ]) + &self.native_text()
    }
}

impl CompileReport {
    fn native_text(&self) -> String {
        if self.native.is_empty() {
            return String::new();
        }
        let row = |n: &NativeLine| vec![n.target.clone(), units::bytes(n.code_bytes), units::bytes(n.constant_bytes)];
        let rows: Vec<_> = self.native.iter().map(row).collect();
        format!("\n{}", table::render(&["machine code for", "code", "constants of its own"], &rows))
    }
}
