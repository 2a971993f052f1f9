//! Kernels compared with what the machine can do: `optc explain --measure`.
//!
//! A kernel takes at least its operations over the peak of the instruction set, and at least its bytes over the
//! bandwidth of the level of cache that holds them; the larger of both bounds it. Peaks are those of the best
//! instruction for the factors, on registers; where there is none for 8-bit integers, the rate of a product that stays
//! in the caches. Peak, bandwidths and times are of the same minute, and of one thread unless more are asked for. More
//! than all of a bandwidth means that part of the bytes still lay in a nearer level.

use optc::{CompiledPlan, Model, NodeReport, Options, Timings, Val};
use optc_emit::EmitError;
use optc_hwbench::peak::{Bandwidth, Peak, Work, bandwidth};
use optc_kernel::target::Isa;
use optc_kernels::profile;
use optc_runtime::Plan;
use optc_runtime::plan::{KernelStep, Step};
use serde::Serialize;

use crate::exit::{CommandError, Exit, Outcome};
use crate::report::table;
use crate::{execute, steps};

/// Runs that are averaged, and tries of the peak.
const RUNS: usize = 10;
/// Tries of the bandwidths.
const TRIES: usize = 3;

/// A kernel, its schedule and its times.
#[derive(Debug, Serialize)]
pub struct KernelLine {
    /// Its name.
    pub kernel: String,
    /// Tiles and blocks, where they are chosen.
    pub schedule: String,
    /// Tasks that threads share.
    pub tasks: u64,
    /// Threads that run it.
    pub threads: usize,
    /// Microseconds by the cost model; for kernels that it does not know, the bound.
    pub predicted_us: f64,
    /// Microseconds that it took.
    pub measured_us: f64,
    /// What bounds it: `compute`, `L1`, `L2`, `L3` or `DRAM`.
    pub bound_by: &'static str,
    /// The bound over the measured time, 0 to about 1; more where part of the bytes still lay in a nearer level.
    pub roofline: f64,
    /// The ONNX nodes.
    pub nodes: Vec<String>,
}

/// The headers of [`KernelLine::row`].
pub const HEADERS: [&str; 9] =
    ["kernel", "schedule", "tasks>", "threads>", "predicted us>", "measured us>", "bound by", "of it %>", "ONNX nodes"];

/// ONNX nodes that a line names.
const NAMED: usize = 3;

impl KernelLine {
    /// The line of a table.
    pub fn row(&self) -> Vec<String> {
        vec![
            self.kernel.clone(),
            self.schedule.clone(),
            self.tasks.to_string(),
            self.threads.to_string(),
            format!("{:.1}", self.predicted_us),
            format!("{:.1}", self.measured_us),
            self.bound_by.to_owned(),
            format!("{:.0}", 100.0 * self.roofline),
            table::join(&self.nodes, NAMED),
        ]
    }
}

/// What one thread of the machine can do.
struct Roofs {
    /// Operations a second, of `f32`, bfloat16 and 8-bit integers.
    f32: f64,
    bf16: f64,
    int8: f64,
    levels: Vec<Bandwidth>,
}

impl Roofs {
    fn measure(isa: &'static Isa) -> Result<Roofs, EmitError> {
        let peak = |work: Work| -> Result<f64, EmitError> {
            if !work.is_of(isa) {
                return Ok(0.0);
            }
            let peak = Peak::of(isa, work)?;
            Ok((0..RUNS).map(|_| peak.measure()).fold(0.0, f64::max) * 1e9)
        };
        let f32 = peak(Work::Fma)?;
        let bf16 = f32.max(peak(Work::Bf16)?).max(peak(Work::Bf16Matrices)?);
        let bytes = peak(Work::Bytes)?.max(peak(Work::ByteMatrices)?);
        let int8 = if bytes > 0.0 { bytes } else { 2e6 * f64::from(profile::of(isa).figures.int8) };
        let machine = optc_emit::host::caches();
        let mut levels = bandwidth(&machine)?;
        // The best of some tries: what else runs on the machine slows single ones down.
        for _ in 1..TRIES {
            for (best, again) in levels.iter_mut().zip(bandwidth(&machine)?) {
                best.gb_per_s = best.gb_per_s.max(again.gb_per_s);
            }
        }
        Ok(Roofs { f32, bf16, int8, levels })
    }

    /// Least seconds of a kernel on this many threads, and what they are due to. Bytes that fit the level that was
    /// measured come from it.
    fn bound(&self, kernel: &KernelStep, threads: usize) -> (f64, &'static str) {
        let name = &kernel.info.name;
        let narrow = if name.starts_with("contract_bf16") { self.bf16 } else { self.f32 };
        let peak = if is_int8(name) { self.int8 } else { narrow };
        let compute = kernel.info.flops / peak / threads as f64;
        let level = self.levels.iter().find(|l| kernel.info.bytes <= l.bytes as f64).or(self.levels.last());
        let memory = level.map_or(0.0, |l| kernel.info.bytes / (l.gb_per_s * 1e9) / threads as f64);
        match level {
            Some(level) if memory > compute => (memory, level.level),
            _ => (compute, "compute"),
        }
    }
}

fn is_int8(kernel: &str) -> bool {
    kernel.starts_with("contract_i8") || kernel.starts_with("spmm_i8")
}

/// Runs a plan on values and compares its kernels with what the machine can do.
///
/// # Errors
/// The machine cannot be compiled for, or a run fails.
pub fn kernels(model: &Model, compiled: &CompiledPlan, values: &[Val], options: &Options) -> Outcome<Vec<KernelLine>> {
    let isa = options.target()?.isa;
    let roofs = Roofs::measure(isa).map_err(|e| CommandError::new(Exit::Compile, e.to_string()))?;
    let mut session = model.session();
    execute::once(&mut session, values)?; // warms up
    let mut timings = Timings::default();
    for _ in 0..RUNS {
        session.run_timed(values, Some(&mut timings))?;
    }
    let machine = Machine { model, roofs, runs: timings.runs };
    let nodes = steps::nodes(&compiled.plan.flow.steps, &compiled.report);
    let report = nodes.into_iter().map(|node| node.map(|at| &compiled.report[at])).collect::<Vec<_>>();
    Ok(machine.lines(&compiled.plan, &timings, &report))
}

/// What kernels are compared with, and the model whose they are.
struct Machine<'a> {
    model: &'a Model,
    roofs: Roofs,
    /// Runs of the model that the times are the sums of.
    runs: usize,
}

impl Machine<'_> {
    /// The kernels of a plan and of the bodies in it; `report` has what is known of each step's node.
    fn lines(&self, plan: &Plan, timings: &Timings, report: &[Option<&NodeReport>]) -> Vec<KernelLine> {
        let mut lines = vec![];
        for (at, (step, time)) in plan.flow.steps.iter().zip(&timings.steps).enumerate() {
            if let Step::Kernel(kernel) = step {
                let node = report.get(at).copied().flatten();
                lines.push(self.line(kernel, time.as_secs_f64(), (timings.runs, node)));
            }
            for body in timings.bodies.iter().filter(|body| body.step == at) {
                lines.extend(self.lines(&body.plan, &body.timings, &[]));
            }
        }
        lines
    }

    /// A kernel that took so many seconds in so many runs.
    fn line(&self, kernel: &KernelStep, seconds: f64, (runs, node): (usize, Option<&NodeReport>)) -> KernelLine {
        let threads = if kernel.parallel { self.model.threads().min(kernel.tasks as usize).max(1) } else { 1 };
        let (bound, bound_by) = self.roofs.bound(kernel, threads);
        // The estimate is of the node's product, which is in its kernel of most operations.
        let product = !kernel.info.schedule.is_empty();
        let times = node.filter(|_| product).and_then(|node| self.model.times(node));
        let estimate =
            times.map(|t| if is_int8(&kernel.info.name) { t.int8 } else { t.f32 }.seconds() / threads as f64);
        // A body may run several times in a run of the model.
        let times = runs as f64 / self.runs.max(1) as f64;
        let measured = seconds / self.runs.max(1) as f64;
        KernelLine {
            kernel: kernel.info.name.clone(),
            schedule: kernel.info.schedule.clone(),
            tasks: kernel.tasks,
            threads,
            predicted_us: 1e6 * times * estimate.unwrap_or(bound),
            measured_us: 1e6 * measured,
            bound_by,
            roofline: times * bound / measured.max(f64::MIN_POSITIVE),
            nodes: kernel.info.loc.clone(),
        }
    }
}
