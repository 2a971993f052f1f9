//! `optc hwbench`: what this machine can do, and how near the kernels come.

use std::path::PathBuf;

use optc::MachineProfile;
use optc_emit::EmitError;
use optc_hwbench::gemm_peak::GemmPeak;
use optc_hwbench::peak::{Peak, Work, bandwidth};
use optc_kernel::target::{Caches, ISAS, Isa};
use optc_kernels::profile::Figures;
use serde::Serialize;

use crate::exit::{CommandError, Exit, Outcome};
use crate::report::{Format, Report, emit, table, units};
use crate::stats::median;

/// Measure this machine: peak and matrix product for each instruction set, bandwidth of each level of cache
#[derive(Debug, clap::Args)]
pub struct HwbenchArgs {
    /// Rounds, each of which times the peak and then the product; medians are reported
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Rows and columns of the matrices
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=8192))]
    size: u32,
    /// Measure instead how fast products are in each of their forms, and write that for `--machine-profile` of other
    /// commands. Nothing else should run meanwhile
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rounds", "size", "no_bandwidth"])]
    write_profile: Option<PathBuf>,
    /// Leave out the bandwidth of the caches
    #[arg(long)]
    no_bandwidth: bool,
}

#[derive(Debug, Serialize)]
struct HwbenchReport {
    /// Cores that threads can use.
    cores: usize,
    l1_bytes: usize,
    l2_bytes: usize,
    l3_bytes: usize,
    size: u32,
    isas: Vec<IsaLine>,
    bandwidth: Vec<BandwidthLine>,
}

/// Figures of one thread.
#[derive(Debug, Serialize)]
struct IsaLine {
    name: &'static str,
    vector_bits: usize,
    /// Whether this machine has it; without it nothing is measured.
    available: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: Option<Measured>,
}

#[derive(Debug, Serialize)]
struct Measured {
    fma_peak_gflops: f64,
    /// 10^9 operations a second of the instructions for narrow numbers that the set has.
    narrow_peaks: Vec<NarrowPeak>,
    gemm_gflops: f64,
    /// The median over the rounds of the product's speed in per cent of the peak measured right before it.
    gemm_percent_of_peak: f64,
    /// The best round's product in per cent of the best peak: what other work on the machine disturbs least.
    best_percent_of_peak: f64,
}

#[derive(Debug, Serialize)]
struct ProfileReport {
    /// Where it was written.
    profile: PathBuf,
    rows: Vec<ProfileLine>,
}

/// What one core does in a microsecond.
#[derive(Debug, Serialize)]
struct ProfileLine {
    isa: String,
    f32_multiply_adds: u32,
    int8_multiply_adds: u32,
    bf16_multiply_adds: u32,
    staged_elements: u32,
    copied_bytes: u32,
}

impl ProfileLine {
    fn of(name: &str, figures: Figures) -> ProfileLine {
        ProfileLine {
            isa: name.to_owned(),
            f32_multiply_adds: figures.f32,
            int8_multiply_adds: figures.int8,
            bf16_multiply_adds: figures.bf16,
            staged_elements: figures.staged,
            copied_bytes: figures.copied,
        }
    }
}

impl Report for ProfileReport {
    fn text(&self) -> String {
        let row = |r: &ProfileLine| {
            let products = [r.f32_multiply_adds, r.int8_multiply_adds, r.bf16_multiply_adds];
            let figures = products.into_iter().chain([r.staged_elements, r.copied_bytes]).map(|n| n.to_string());
            [r.isa.clone()].into_iter().chain(figures).collect::<Vec<_>>()
        };
        let products = ["f32 multiply-adds/us>", "int8 multiply-adds/us>", "bf16 multiply-adds/us>"];
        let headers = [&["isa"][..], &products, &["staged elements/us>", "copied bytes/us>"]].concat();
        let rows = table::render(&headers, &self.rows.iter().map(row).collect::<Vec<_>>());
        format!("{rows}{}: written\n", self.profile.display())
    }
}

/// How fast a loop of one instruction on registers is.
#[derive(Debug, Serialize)]
struct NarrowPeak {
    of: &'static str,
    gops: f64,
}

#[derive(Debug, Serialize)]
struct BandwidthLine {
    level: &'static str,
    bytes: usize,
    gb_per_s: f64,
}

/// Runs the command.
///
/// # Errors
/// This machine cannot be compiled for.
pub fn run(args: &HwbenchArgs, format: Format) -> Outcome {
    if let Some(path) = &args.write_profile {
        let profile = MachineProfile::measure()?;
        profile.write(path)?;
        let rows = profile.targets().map(|(name, figures)| ProfileLine::of(name, figures)).collect();
        emit(&ProfileReport { profile: path.clone(), rows }, format)?;
        return Ok(Exit::Ok);
    }
    let machine = optc_emit::host::caches();
    let failed = |e: EmitError| CommandError::new(Exit::Compile, e.to_string());
    let isas = ISAS.iter().map(|isa| isa_line(isa, &machine, args)).collect::<Result<_, _>>().map_err(failed)?;
    let levels = if args.no_bandwidth { vec![] } else { bandwidth(&machine).map_err(failed)? };
    let report = HwbenchReport {
        cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
        l1_bytes: machine.l1,
        l2_bytes: machine.l2,
        l3_bytes: machine.l3,
        size: args.size,
        isas,
        bandwidth: levels
            .into_iter()
            .map(|b| BandwidthLine { level: b.level, bytes: b.bytes, gb_per_s: b.gb_per_s })
            .collect(),
    };
    emit(&report, format)?;
    Ok(Exit::Ok)
}

fn isa_line(isa: &'static Isa, machine: &Caches, args: &HwbenchArgs) -> Result<IsaLine, EmitError> {
    let available = optc_emit::host::has(isa);
    let measured = if available { Some(measure(isa, machine, args)?) } else { None };
    Ok(IsaLine { name: isa.name, vector_bits: isa.vector_bits, available, measured })
}

/// Peak and product in turn, so that a change in the machine's speed hits both.
fn measure(isa: &Isa, machine: &Caches, args: &HwbenchArgs) -> Result<Measured, EmitError> {
    let peak = Peak::of(isa, Work::Fma)?;
    let mut gemm = GemmPeak::new(args.size as usize, isa, machine)?;
    gemm.measure(); // touches the memory
    let rounds: Vec<(f64, f64)> = (0..args.rounds).map(|_| (peak.measure(), gemm.measure())).collect();
    let best = |of: fn(&(f64, f64)) -> f64| rounds.iter().map(of).fold(0.0, f64::max);
    let narrow = Work::ALL.into_iter().filter(|&work| work != Work::Fma && work.is_of(isa));
    let narrow_peaks = narrow.map(|work| narrow_peak(isa, work, args.rounds)).collect::<Result<_, _>>()?;
    Ok(Measured {
        narrow_peaks,
        best_percent_of_peak: 100.0 * best(|r| r.1) / best(|r| r.0).max(f64::MIN_POSITIVE),
        fma_peak_gflops: median(rounds.iter().map(|r| r.0).collect()),
        gemm_gflops: median(rounds.iter().map(|r| r.1).collect()),
        gemm_percent_of_peak: median(rounds.iter().map(|r| 100.0 * r.1 / r.0).collect()),
    })
}

fn narrow_peak(isa: &Isa, work: Work, rounds: u32) -> Result<NarrowPeak, EmitError> {
    let peak = Peak::of(isa, work)?;
    Ok(NarrowPeak { of: work.name(), gops: median((0..rounds).map(|_| peak.measure()).collect()) })
}

impl Report for HwbenchReport {
    fn text(&self) -> String {
        let size = |n: usize| units::bytes(n as u64);
        let caches = format!("L1 {}, L2 {}, L3 {}", size(self.l1_bytes), size(self.l2_bytes), size(self.l3_bytes));
        let pairs = table::pairs(&[("cores", self.cores.to_string()), ("caches", caches)]);
        let row = |isa: &IsaLine| {
            let figures = match &isa.measured {
                Some(m) => [m.fma_peak_gflops, m.gemm_gflops, m.gemm_percent_of_peak, m.best_percent_of_peak]
                    .map(|v| format!("{v:.1}")),
                None => ["not on this machine", "-", "-", "-"].map(str::to_owned),
            };
            [vec![isa.name.to_owned(), isa.vector_bits.to_string()], figures.to_vec()].concat()
        };
        let gemm = format!("{0}x{0}x{0} GFLOP/s>", self.size);
        let headers = ["isa", "bits>", "FMA peak GFLOP/s>", &gemm, "% of peak>", "best %>"];
        let isas = table::render(&headers, &self.isas.iter().map(row).collect::<Vec<_>>());
        let level = |b: &BandwidthLine| vec![b.level.to_owned(), size(b.bytes), format!("{:.1}", b.gb_per_s)];
        let levels: Vec<Vec<String>> = self.bandwidth.iter().map(level).collect();
        let levels = if levels.is_empty() {
            String::new()
        } else {
            format!("\n{}", table::render(&["loads from", "bytes>", "GB/s>"], &levels))
        };
        let mut narrow = vec![];
        for isa in &self.isas {
            let peaks = isa.measured.iter().flat_map(|m| &m.narrow_peaks);
            narrow.extend(peaks.map(|p| vec![isa.name.to_owned(), p.of.to_owned(), format!("{:.1}", p.gops)]));
        }
        let narrow = if narrow.is_empty() {
            String::new()
        } else {
            format!("\n{}", table::render(&["isa", "instruction", "peak GOP/s>"], &narrow))
        };
        format!("{pairs}\n{isas}{narrow}{levels}")
    }
}
