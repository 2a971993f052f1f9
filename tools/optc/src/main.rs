//! The `optc` command with the passes that it comes with; `tests/stranger` is one with a pass of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    optc_cli::run(optc::Registry::standard())
}
