//! The command line: subcommands and what they share.

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands::{
    bench, check, compare, compile, completions, explain, hwbench, inspect, opt, passes, profile, prune, quantize, run,
    targets,
};
use crate::exit::{self, Outcome};
use crate::limits::Limits;
use crate::report::Format;

/// Compiles neural networks in ONNX files for this machine's CPU, runs and measures them.
#[derive(Debug, Parser)]
#[command(name = "optc", version, after_help = exit::HELP, after_long_help = exit::HELP)]
pub struct Cli {
    /// Print the result as one JSON document on one line
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    limits: Limits,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(inspect::InspectArgs),
    Check(check::CheckArgs),
    Opt(opt::OptArgs),
    Compile(compile::CompileArgs),
    Prune(prune::PruneArgs),
    Run(run::RunArgs),
    Bench(bench::BenchArgs),
    Compare(compare::CompareArgs),
    Profile(profile::ProfileArgs),
    Quantize(quantize::QuantizeArgs),
    Explain(explain::ExplainArgs),
    Passes(passes::PassesArgs),
    Targets(targets::TargetsArgs),
    Hwbench(hwbench::HwbenchArgs),
    Completions(completions::CompletionsArgs),
}

impl Cli {
    /// Runs the subcommand.
    pub fn run(&self) -> Outcome {
        let _limits = self.limits.enter();
        let format = if self.json { Format::Json } else { Format::Text };
        match &self.command {
            Command::Inspect(args) => inspect::run(args, format),
            Command::Check(args) => check::run(args, format),
            Command::Opt(args) => opt::run(args, format),
            Command::Compile(args) => compile::run(args, format),
            Command::Prune(args) => prune::run(args, format),
            Command::Run(args) => run::run(args, format),
            Command::Bench(args) => bench::run(args, format),
            Command::Compare(args) => compare::run(args, format),
            Command::Profile(args) => profile::run(args, format),
            Command::Quantize(args) => quantize::run(args, format),
            Command::Explain(args) => explain::run(args, format),
            Command::Passes(args) => passes::run(args, format),
            Command::Targets(args) => targets::run(args, format),
            Command::Hwbench(args) => hwbench::run(args, format),
            Command::Completions(args) => completions::run(args, Cli::command()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_exit_code_is_in_the_help() {
        let help = Cli::command().render_long_help().to_string();
        assert!((0..=7).all(|code| help.contains(&format!("\n  {code}  "))), "{help}");
    }
}
