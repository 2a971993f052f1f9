//! The `optc` command with a pass of one's own.

use std::process::ExitCode;

use optc::Registry;
use optc_stranger::SubtractNegated;

fn main() -> ExitCode {
    optc_cli::run(Registry::standard().with::<SubtractNegated>())
}
