//! The `optc` command: compiles ONNX models, runs them, and says what became of them.
//!
//! Results go to stdout, messages and progress to stderr. What a command found is a value that prints as tables or, with
//! `--json`, as one JSON document (see [`report`]); what went wrong is a [`Failure`](exit::Failure) with an exit code.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod execute;
mod exit;
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

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli.run() {
        Ok(exit) => exit.code(),
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit.code()
        }
    }
}
