//! The `optc` command with the passes that it comes with; `tests/stranger` is one with a pass of its own.
//!
//! Everything is in the library beside it: start in `lib.rs`, then `cli.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    optc_cli::run(optc::Registry::standard())
}
