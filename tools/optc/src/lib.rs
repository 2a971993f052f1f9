//! The `optc` command: compiles ONNX models, runs them, and says what became of them.
//!
//! Results go to stdout, messages and progress to stderr. What a command found is a value that prints as tables or,
//! with `--json`, as one JSON document (see [`report`]); what went wrong is a [`CommandError`](exit::CommandError) with
//! an exit code.
//!
//! What can be computed without a command line belongs in the crate `optc`, not here. Start in `cli.rs`, then any
//! file of `commands`: each subcommand has one, with its arguments, its report and `run`. A command with passes of your
//! own calls [`run`] with a registry.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod execute;
mod exit;
mod export;
mod inputs;
mod limits;
mod load;
mod macs;
mod options;
mod output;
mod progress;
mod report;
mod stats;
mod steps;
mod text_form;
mod tune;

use std::process::ExitCode;
use std::sync::OnceLock;

use clap::Parser;
use optc::Registry;

/// The passes that may be named on the command line.
static REGISTRY: OnceLock<Registry> = OnceLock::new();

/// Runs the command on the arguments of this process, with these passes: `optc` itself, or one with passes of your own.
pub fn run(registry: Registry) -> ExitCode {
    let _ = REGISTRY.set(registry);
    let cli = cli::Cli::parse();
    match cli.run() {
        Ok(exit) => exit.code(),
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit.code()
        }
    }
}

/// The passes that there are.
fn registry() -> &'static Registry {
    REGISTRY.get_or_init(Registry::standard)
}
