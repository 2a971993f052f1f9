//! How the time of import, passes and compilation grows with the number of ops.
//!
//! `cargo run --release --example scaling -- [--sizes 1000,10000,100000] [KIND...]` makes models of each kind and size,
//! and shows for each phase, each pass, and all phases together the milliseconds of the largest, the microseconds an op
//! of all sizes, and how much more an op takes in the largest than in the smallest. It exits with 1 where that is more
//! than [`LIMIT`] for all phases together. Times are processor times of one thread, so that other work on the machine
//! changes them little.

mod models;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indexmap::IndexMap;
use models::{KINDS, ModelKind};
use optc_ir::Verified;
use optc_lower::{LowerOptions, lower};
use optc_passes::{PassManager, PassOptions, Pipeline};
use optc_testing::loaded;
use prost::Message;

/// How many times as long an op may take in the largest model as in the smallest.
const LIMIT: f64 = 2.0;
/// What is judged: import, passes and compilation together. A phase alone may take a few microseconds an op where all
/// lies in the caches, and more where it does not; what is quadratic shows in the sum.
const JUDGED: &str = "all";
/// Microseconds an op below which a phase does not count: less than the noise of the others.
const NEGLIGIBLE: f64 = 1.0;
/// Small models are measured again until this much time has gone: the system counts processor time in steps of some
/// milliseconds.
const REPEAT: Duration = Duration::from_secs(1);

/// Times of one model, by phase; names of passes begin with a space.
type Times = IndexMap<String, Duration>;

fn main() -> Result<ExitCode> {
    let (mut sizes, mut wanted) = (vec![1_000, 10_000, 100_000], vec![]);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--sizes" {
            let list = args.next().context("`--sizes` needs a list such as `1000,10000`")?;
            sizes = list.split(',').map(str::parse).collect::<Result<_, _>>().context("a size is not a number")?;
        } else {
            wanted.push(arg);
        }
    }
    if let Some(unknown) = wanted.iter().find(|w| KINDS.iter().all(|k| k.name != **w)) {
        let known: Vec<&str> = KINDS.iter().map(|k| k.name).collect();
        bail!("there is no kind `{unknown}`; there are {}", known.join(", "));
    }
    let mut too_steep = vec![];
    for kind in KINDS.iter().filter(|k| wanted.is_empty() || wanted.iter().any(|w| w == k.name)) {
        let sizes: Vec<usize> = sizes.iter().copied().filter(|&n| n <= kind.most).collect();
        let measured = sizes.iter().map(|&n| mean(kind, n)).collect::<Result<Vec<Times>>>()?;
        too_steep.extend(show(kind, &sizes, &measured));
    }
    too_steep.iter().for_each(|line| println!("more than {LIMIT} times as long: {line}"));
    Ok(if too_steep.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints a table of a kind; gives the phases that grow too steeply.
fn show(kind: &ModelKind, sizes: &[usize], measured: &[Times]) -> Vec<String> {
    let (Some(first), Some(last)) = (measured.first(), measured.last()) else { return vec![] };
    println!("{:<32} {:>10}   µs/op at {sizes:?}", kind.name, "ms");
    let mut too_steep = vec![];
    for (phase, time) in last {
        let each = |times: &Times, n: usize| times.get(phase).map_or(0.0, |t| t.as_secs_f64() * 1e6 / n as f64);
        let rows: Vec<String> = measured.iter().zip(sizes).map(|(t, &n)| format!("{:9.2}", each(t, n))).collect();
        let (low, high) = (each(first, sizes[0]), each(last, sizes[sizes.len() - 1]));
        let ratio = high / low.max(NEGLIGIBLE);
        println!("  {phase:<30} {:>10.1} {}   x{ratio:.2}", time.as_secs_f64() * 1e3, rows.join(" "));
        if ratio > LIMIT && phase == JUDGED {
            too_steep.push(format!("{} {} (x{ratio:.2})", kind.name, phase.trim()));
        }
    }
    too_steep
}

/// The mean time of each phase over some repetitions.
fn mean(kind: &ModelKind, n: usize) -> Result<Times> {
    let bytes = models::model((kind.make)(n)).encode_to_vec();
    let (start, mut sum, mut count) = (Instant::now(), Times::new(), 0);
    while count == 0 || start.elapsed() < REPEAT {
        for (phase, time) in measure(&bytes).with_context(|| format!("{} of {n}", kind.name))? {
            *sum.entry(phase).or_default() += time;
        }
        count += 1;
    }
    sum.values_mut().for_each(|time| *time /= count);
    Ok(sum)
}

fn measure(bytes: &[u8]) -> Result<Times> {
    let mut times = Times::new();
    let mut graph = timed(&mut times, "import", || optc_onnx::import_bytes(bytes))?;
    let pipeline = Pipeline::parse("O2")?;
    times.insert("O2".to_owned(), Duration::ZERO);
    for pass in pipeline.passes() {
        let (pass, name) = (Pipeline::parse(pass)?, format!("  {pass}"));
        timed(&mut times, &name, || PassManager::new(PassOptions::default()).run(&pass, &mut graph))?;
    }
    times["O2"] = times.iter().filter(|(name, _)| name.starts_with(' ')).map(|(_, time)| *time).sum();
    let target = optc_emit::host::target();
    let graph = timed(&mut times, "verify", || Verified::new(graph))?;
    let compiled = timed(&mut times, "compile", || -> Result<_> {
        let program = lower(graph, &target, LowerOptions::default())?;
        let plan = loaded(&program)?;
        Ok((program, plan))
    })?;
    times.insert(JUDGED.to_owned(), times["import"] + times["O2"] + times["verify"] + times["compile"]);
    timed(&mut times, "drop", || drop(compiled));
    Ok(times)
}

/// Calls `f` and notes how long it took under `phase`.
fn timed<T>(times: &mut Times, phase: &str, f: impl FnOnce() -> T) -> T {
    let (start, clock) = (processor_time(), Instant::now());
    let result = f();
    let time = match (start, processor_time()) {
        (Some(start), Some(end)) => end.saturating_sub(start),
        _ => clock.elapsed(),
    };
    *times.entry(phase.to_owned()).or_default() += time;
    result
}

/// The processor time of this thread, where the system says it.
fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(stat.split_whitespace().next()?.parse().ok()?))
}
