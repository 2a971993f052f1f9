//! `optc targets`: the rows that models can be compiled for.

use optc_kernel::target::{Caches, Emitter, ISAS, Isa, Target};
use optc_kernels::profile;
use serde::Serialize;

use crate::exit::{Exit, Outcome};
use crate::report::{Format, Report, emit, table, units};

/// List the instruction sets that models are compiled for, and what is known of each
#[derive(Debug, clap::Args)]
pub struct TargetsArgs {}

#[derive(Debug, Serialize)]
struct TargetsReport {
    /// The row that is taken where none is named.
    host: &'static str,
    targets: Vec<TargetLine>,
}

#[derive(Debug, Serialize)]
struct TargetLine {
    name: &'static str,
    /// The triple that it stands for on its own.
    triple: String,
    /// What a CPU must have.
    features: Vec<&'static str>,
    vector_bits: usize,
    vector_registers: usize,
    emitter: &'static str,
    /// The caches that `--target` takes, in bytes.
    caches: [usize; 3],
    /// The core that its speeds were measured on; estimates without one.
    measured_on: Option<&'static str>,
    /// Whether this machine runs it.
    here: bool,
}

impl TargetLine {
    fn of(isa: &'static Isa) -> TargetLine {
        let Caches { l1, l2, l3 } = isa.caches;
        TargetLine {
            name: isa.name,
            triple: Target::of(isa).triple(),
            features: isa.needs.iter().map(|f| f.word()).collect(),
            vector_bits: isa.vector_bits,
            vector_registers: isa.vector_regs,
            emitter: match isa.emitter {
                Emitter::Clif => "cranelift",
                Emitter::X86 => "x86",
            },
            caches: [l1, l2, l3],
            measured_on: profile::of(isa).measured_on,
            here: optc_emit::host::has(isa),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// The report cannot be printed.
pub fn run(_: &TargetsArgs, format: Format) -> Outcome {
    let report =
        TargetsReport { host: optc_emit::host::isa().name, targets: ISAS.iter().map(TargetLine::of).collect() };
    emit(&report, format)?;
    Ok(Exit::Ok)
}

impl Report for TargetsReport {
    fn text(&self) -> String {
        let row = |t: &TargetLine| {
            let here = match t.here {
                true if t.name == self.host => "default",
                true => "yes",
                false => "no",
            };
            vec![
                t.name.to_owned(),
                t.triple.clone(),
                here.to_owned(),
                t.vector_bits.to_string(),
                t.caches.map(|bytes| units::bytes(bytes as u64)).join(", "),
                t.measured_on.unwrap_or("(estimated)").to_owned(),
                t.features.join(" "),
            ]
        };
        let rows: Vec<_> = self.targets.iter().map(row).collect();
        table::render(&["target", "triple", "here", "vector bits", "caches", "speeds of", "needs"], &rows)
    }
}
