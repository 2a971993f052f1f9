//! `optc profile`: where the time of a run goes, step by step.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use optc::{NodeReport, Timings, Val};
use optc_runtime::BodyTimings;
use optc_runtime::plan::{Flow, PlainTensor, Step, StepInfo};
use serde::Serialize;
use serde_json::json;

use crate::exit::{Exit, Outcome};
use crate::inputs::InputArgs;
use crate::options::ModelArgs;
use crate::report::{Format, Report, emit, table};
use crate::text_form::write_text;
use crate::tune::{TuneArgs, load_tuned};
use crate::{execute, steps};

/// Show the time, GFLOP/s and share of each kernel, and the ONNX nodes in it
#[derive(Debug, clap::Args)]
pub struct ProfileArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    tune: TuneArgs,
    /// Runs that are averaged
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Show only the N steps that take most; in order of execution without it
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Write the last run as a trace for chrome://tracing or Perfetto
    #[arg(long, value_name = "OUT.json")]
    trace: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct ProfileReport {
    runs: usize,
    threads: usize,
    /// The sum over all steps of an average run.
    total_ms: f64,
    steps: Vec<StepLine>,
    /// Time by kernel, most first; that of a step that runs bodies is its own.
    summary: Vec<SummaryLine>,
}

#[derive(Debug, Clone, Serialize)]
struct StepLine {
    index: usize,
    /// Where it is a step of the body of a control-flow op, or of what waits for shapes: the steps, and the bodies of
    /// these, that it is in, as `step.body` from the outside in.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// `kernel`, `host`, `copy`, `check` or `load`.
    kind: &'static str,
    name: String,
    /// The dtype of what the node gives that the step is for; `null` where that is not known.
    gives: Option<String>,
    /// Of a run of the model, with the bodies that the step runs.
    ms: f64,
    /// The same without them.
    own_ms: f64,
    /// Part of all time, 0 to 1.
    share: f64,
    /// `null` where no floating point operations are counted.
    gflops: Option<f64>,
    gb_per_s: Option<f64>,
    nodes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SummaryLine {
    kind: &'static str,
    name: String,
    count: usize,
    ms: f64,
    share: f64,
}

/// Runs the command.
///
/// # Errors
/// The model or an input cannot be used, a run fails, or the trace cannot be written.
pub fn run(args: &ProfileArgs, format: Format) -> Outcome {
    args.model.files().reads(args.input.input.as_deref()).writes(args.trace.as_deref()).check()?;
    let model = load_tuned(&args.model, &args.tune, &args.input, args.model.how.options(1)?)?.0.model;
    let values = args.input.values(&model)?;
    let mut session = model.session();
    let start = Instant::now();
    execute::once(&mut session, &values)?; // compiles, and warms up
    let patient = start.elapsed() < Duration::from_millis(200);
    for _ in 0..if patient { 2 } else { 0 } {
        execute::once(&mut session, &values)?;
    }
    let mut timings = Timings::default();
    for _ in 0..args.runs {
        session.run_timed(&values, Some(&mut timings))?;
    }
    let compiled = model.plan_for(&values.iter().map(Val::ty).collect::<Vec<_>>())?;
    let whole = Whole { total: timings.steps.iter().sum(), runs: timings.runs };
    let mut steps = whole.lines(&compiled.plan.flow, &timings);
    name_results(&mut steps, &compiled.plan.flow.steps, &compiled.report);
    if let Some(path) = &args.trace {
        write_text(path, &trace(&steps, &timings))?;
    }
    let total_ms = steps.iter().map(|s| s.ms).sum();
    let mut steps = whole.with_bodies(steps, &timings.bodies, "");
    let summary = summary(&steps);
    if let Some(n) = args.top {
        steps.sort_by(|a, b| b.own_ms.total_cmp(&a.own_ms));
        steps.truncate(n);
    }
    let report = ProfileReport { runs: timings.runs, threads: model.threads(), total_ms, steps, summary };
    emit(&report, format)?;
    Ok(Exit::Ok)
}

/// Against what the times of steps are told.
struct Whole {
    /// The time of all runs.
    total: Duration,
    /// How many they were.
    runs: usize,
}

impl Whole {
    /// The steps of a plan.
    fn lines(&self, flow: &Flow, timings: &Timings) -> Vec<StepLine> {
        let total = self.total.as_secs_f64().max(f64::MIN_POSITIVE);
        let line = |(index, (step, time)): (usize, (&Step, &Duration))| {
            let seconds = time.as_secs_f64();
            let times = if flow.is_repeated(step) { timings.items } else { timings.runs } as f64;
            let rate = |amount: f64| (amount > 0.0 && seconds > 0.0).then(|| times * amount / seconds / 1e9);
            let (kind, info) = describe(step);
            let ms = 1e3 * seconds / self.runs.max(1) as f64;
            StepLine {
                index,
                body: None,
                kind,
                gives: None,
                ms,
                own_ms: ms,
                share: seconds / total,
                gflops: rate(info.flops),
                gb_per_s: rate(info.bytes),
                name: info.name,
                nodes: info.loc,
            }
        };
        flow.steps.iter().zip(&timings.steps).enumerate().map(line).collect()
    }

    /// The lines of a plan, and after each those of the bodies that its step runs; `outside` is what the plan is in.
    fn with_bodies(&self, lines: Vec<StepLine>, bodies: &[BodyTimings], outside: &str) -> Vec<StepLine> {
        let mut all = vec![];
        for mut line in lines {
            let (at, index) = (all.len(), line.index);
            for (number, body) in bodies.iter().filter(|body| body.step == index).enumerate() {
                let name = format!("{outside}{index}.{number}");
                let mut inside = self.lines(&body.plan.flow, &body.timings);
                line.own_ms -= inside.iter().map(|step| step.ms).sum::<f64>();
                inside.iter_mut().for_each(|step| step.body = Some(name.clone()));
                all.extend(self.with_bodies(inside, &body.timings.bodies, &format!("{name}.")));
            }
            all.insert(at, line);
        }
        all
    }
}

/// Notes what each kernel gives.
fn name_results(lines: &mut [StepLine], steps: &[Step], report: &[NodeReport]) {
    for (line, node) in lines.iter_mut().zip(steps::nodes(steps, report)) {
        let ty = node.and_then(|at| report[at].results.first()).and_then(|t| t.as_tensor());
        line.gives = ty.map(|t| t.dtype.to_string());
    }
}

fn checked(name: &str, values: &PlainTensor, loc: &str) -> StepInfo {
    StepInfo { name: name.into(), loc: vec![loc.to_owned()], bytes: values.bytes() as f64, ..StepInfo::default() }
}

fn describe(step: &Step) -> (&'static str, StepInfo) {
    match step {
        Step::Kernel(kernel) => ("kernel", kernel.info.clone()),
        Step::Host(host) => ("host", host.info.clone()),
        Step::Copy { bytes, .. } => {
            ("copy", StepInfo { name: "copy".into(), bytes: 2.0 * *bytes as f64, ..StepInfo::default() })
        }
        Step::Arrange(arrange) => ("copy", arrange.info.clone()),
        Step::Check { indices, loc, .. } => ("check", checked("check indices", indices, loc)),
        Step::CheckLengths { lengths, loc, .. } => ("check", checked("check lengths", lengths, loc)),
        Step::Load { to, loc, .. } => {
            let bytes = 2.0 * to.bytes() as f64;
            ("load", StepInfo { name: "load".into(), loc: vec![loc.clone()], bytes, ..StepInfo::default() })
        }
    }
}

fn summary(steps: &[StepLine]) -> Vec<SummaryLine> {
    let mut by_name: IndexMap<(&'static str, &str), SummaryLine> = IndexMap::new();
    for step in steps {
        let line = by_name.entry((step.kind, &step.name)).or_insert_with(|| SummaryLine {
            kind: step.kind,
            name: step.name.clone(),
            count: 0,
            ms: 0.0,
            share: 0.0,
        });
        line.count += 1;
        line.ms += step.own_ms;
        line.share += step.share * step.own_ms / step.ms.max(f64::MIN_POSITIVE);
    }
    let mut lines: Vec<SummaryLine> = by_name.into_values().collect();
    lines.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    lines
}

/// The last run in Chrome's trace event format: one complete event a step, times in microseconds.
fn trace(steps: &[StepLine], timings: &Timings) -> String {
    // The steps come again for each block of a batch.
    let events: Vec<_> = steps
        .iter()
        .cycle()
        .zip(&timings.last)
        .map(|(step, (began, ended))| {
            json!({
                "name": step.name, "cat": step.kind, "ph": "X", "pid": 1, "tid": 1,
                "ts": began.as_secs_f64() * 1e6, "dur": (*ended - *began).as_secs_f64() * 1e6,
                "args": { "nodes": step.nodes, "gflops": step.gflops, "gb_per_s": step.gb_per_s },
            })
        })
        .collect();
    json!({ "traceEvents": events, "displayTimeUnit": "ms" }).to_string()
}

/// ONNX nodes that a line names.
const NAMED: usize = 3;

impl Report for ProfileReport {
    fn text(&self) -> String {
        let rate = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.1}"));
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        let step = |s: &StepLine| {
            let (time, share) = (format!("{:.4}", s.ms), percent(s.share));
            let (gflops, gb) = (rate(s.gflops), rate(s.gb_per_s));
            let nodes = table::join(&s.nodes, NAMED);
            let gives = s.gives.clone().unwrap_or_else(|| "-".to_owned());
            let number = s.body.as_ref().map_or_else(|| s.index.to_string(), |body| format!("{body}.{}", s.index));
            vec![number, s.kind.into(), s.name.clone(), gives, time, share, gflops, gb, nodes]
        };
        let steps: Vec<Vec<String>> = self.steps.iter().map(step).collect();
        let headers = ["#>", "kind", "name", "gives", "ms>", "%>", "GFLOP/s>", "GB/s>", "ONNX nodes"];
        let row = |s: &SummaryLine| {
            vec![s.kind.into(), s.name.clone(), s.count.to_string(), format!("{:.4}", s.ms), percent(s.share)]
        };
        let summary: Vec<Vec<String>> = self.summary.iter().map(row).collect();
        format!(
            "{}\n{}\n{:.4} ms in all, average of {} runs, {} threads\n",
            table::render(&headers, &steps),
            table::render(&["kind", "name", "steps>", "ms>", "%>"], &summary),
            self.total_ms,
            self.runs,
            self.threads
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, ms: f64) -> StepLine {
        let nodes = vec!["a".to_owned()];
        StepLine {
            index: 0,
            body: None,
            kind: "kernel",
            name: name.into(),
            gives: None,
            ms,
            own_ms: ms,
            share: ms / 10.0,
            gflops: None,
            gb_per_s: None,
            nodes,
        }
    }

    #[test]
    fn the_summary_adds_up_by_name() {
        let lines = summary(&[line("a", 1.0), line("b", 5.0), line("a", 2.0)]);
        let all: Vec<_> = lines.iter().map(|l| (l.name.as_str(), l.count, l.ms)).collect();
        assert_eq!(all, [("b", 1, 5.0), ("a", 2, 3.0)]);
    }

    #[test]
    fn what_bodies_take_is_not_counted_twice() {
        let host = StepLine { kind: "host", own_ms: 1.0, ..line("cf.loop", 4.0) };
        let inner = StepLine { body: Some("0.0".to_owned()), ..line("a", 3.0) };
        let lines = summary(&[host, inner, line("a", 6.0)]);
        let all: Vec<_> = lines.iter().map(|l| (l.name.as_str(), l.count, l.ms)).collect();
        assert_eq!(all, [("a", 2, 9.0), ("cf.loop", 1, 1.0)]);
    }

    #[test]
    fn the_trace_has_an_event_a_step() {
        let us = Duration::from_micros;
        let timings = Timings { last: vec![(us(0), us(5)), (us(5), us(7))], ..Timings::default() };
        let text = trace(&[line("a", 1.0), line("b", 1.0)], &timings);
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["traceEvents"][1]["ts"], 5.0);
        assert_eq!(parsed["traceEvents"][1]["dur"].as_f64().unwrap().round(), 2.0);
    }
}
