//! `optc bench`: how long a model takes, after a warm-up.
//!
//! With `--json` the last line of stdout is one JSON object, which `latency_ms` and the rest can be read from.

use std::time::{Duration, Instant};

use optc::Session;
use optc_ir::{Type, Val};
use serde::Serialize;

use crate::execute;
use crate::exit::{CommandError, Exit, Outcome};
use crate::inputs::InputArgs;
use crate::options::{ModelArgs, seconds};
use crate::report::{Format, Report, emit, table, units};
use crate::stats::{Latency, ms, peak_rss_bytes};
use crate::tune::{TuneArgs, TuneReport, load_tuned};

/// Measure a model's latency and throughput
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    tune: TuneArgs,
    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Runs before measuring; they take a tenth of the time at most
    #[arg(long, value_name = "N", default_value_t = 3)]
    warm_up: usize,
}

/// Measured runs, however long they take.
const MIN_RUNS: usize = 5;

#[derive(Debug, Serialize)]
struct BenchReport {
    model: String,
    latency_ms: Latency,
    /// Runs a second.
    throughput: f64,
    runs: usize,
    threads: usize,
    isa: &'static str,
    import_ms: f64,
    /// Passes and code generation.
    compile_ms: f64,
    passes_ms: f64,
    codegen_ms: f64,
    first_run_ms: f64,
    /// From opening the file to the first output; reading or making up inputs is not counted.
    first_output_ms: f64,
    kernel_steps: usize,
    host_steps: usize,
    arena_bytes: usize,
    constant_bytes: usize,
    code_bytes: usize,
    peak_rss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    autotune: Option<TuneReport>,
}

/// Runs the command.
///
/// # Errors
/// The model or an input cannot be used, or a run fails.
pub fn run(args: &BenchArgs, format: Format) -> Outcome {
    let options = args.model.how.options(1)?;
    let isa = options.target()?.isa.name;
    let (loaded, autotune) = load_tuned(&args.model, &args.tune, &args.input, options)?;
    let values = args.input.values(&loaded.model)?;
    let types: Vec<Type> = values.iter().map(Val::ty).collect();
    let mut session = loaded.model.session();
    let start = Instant::now();
    // Checks the inputs before plans are made for them, and makes the plan of a model with open dims.
    execute::check(&session, &values)?;
    let compiled = loaded.model.plan_for(&types).map_err(CommandError::from)?;
    let planning = start.elapsed();
    let start = Instant::now();
    execute::once(&mut session, &values)?;
    let first_run = start.elapsed();
    warm_up(&mut session, &values, args)?;
    let runs = measure(&mut session, &values, Duration::from_secs_f64(args.seconds))?;
    let compile = loaded.compile + planning;
    let latency_ms = Latency::of(runs.clone());
    let report = BenchReport {
        model: args.model.model.display().to_string(),
        throughput: 1e3 / latency_ms.mean.max(f64::MIN_POSITIVE),
        latency_ms,
        runs: runs.len(),
        threads: loaded.model.threads(),
        isa,
        import_ms: ms(loaded.import),
        compile_ms: ms(compile),
        passes_ms: ms(compiled.pass_time),
        codegen_ms: ms(compiled.compile_time),
        first_run_ms: ms(first_run),
        first_output_ms: ms(loaded.import + compile + first_run),
        kernel_steps: compiled.plan.kernel_steps().count(),
        host_steps: compiled.plan.host_steps().count(),
        arena_bytes: compiled.plan.arena_bytes(&types),
        constant_bytes: compiled.plan.constant_bytes(),
        code_bytes: compiled.plan.code.bytes(),
        peak_rss_bytes: peak_rss_bytes(),
        autotune,
    };
    emit(&report, format)?;
    Ok(Exit::Ok)
}

fn warm_up(session: &mut Session, values: &[Val], args: &BenchArgs) -> Outcome<()> {
    let start = Instant::now();
    for _ in 0..args.warm_up {
        if start.elapsed().as_secs_f64() > args.seconds / 10.0 {
            break;
        }
        execute::once(session, values)?;
    }
    Ok(())
}

fn measure(session: &mut Session, values: &[Val], time: Duration) -> Outcome<Vec<Duration>> {
    let mut runs = Vec::with_capacity(1 << 16);
    let begin = Instant::now();
    while begin.elapsed() < time || runs.len() < MIN_RUNS {
        let start = Instant::now();
        let outputs = session.run_values(values)?;
        runs.push(start.elapsed());
        drop(outputs); // before the next run, which then uses their memory again
    }
    Ok(runs)
}

impl Report for BenchReport {
    fn text(&self) -> String {
        let l = &self.latency_ms;
        let rss = self.peak_rss_bytes.map_or_else(|| "unknown".to_owned(), units::bytes);
        let steps = format!("{} kernels, {} on the host", self.kernel_steps, self.host_steps);
        let first = format!(
            "import {} ms, compile {} ms (passes {}, kernels {}), first run {} ms",
            units::ms(self.import_ms),
            units::ms(self.compile_ms),
            units::ms(self.passes_ms),
            units::ms(self.codegen_ms),
            units::ms(self.first_run_ms)
        );
        let latency = format!(
            "min {}  p50 {}  p90 {}  p99 {}  mean {} ms",
            units::ms(l.min),
            units::ms(l.p50),
            units::ms(l.p90),
            units::ms(l.p99),
            units::ms(l.mean)
        );
        table::pairs(&[
            ("model", self.model.clone()),
            ("latency", latency),
            ("throughput", format!("{:.1} runs/s over {} runs", self.throughput, self.runs)),
            ("threads", self.threads.to_string()),
            ("isa", self.isa.to_owned()),
            ("steps", steps),
            ("first output", format!("{} ms: {first}", units::ms(self.first_output_ms))),
            ("arena", units::bytes(self.arena_bytes as u64)),
            ("constants", units::bytes(self.constant_bytes as u64)),
            ("code", units::bytes(self.code_bytes as u64)),
            ("peak memory", rss),
        ])
    }
}
