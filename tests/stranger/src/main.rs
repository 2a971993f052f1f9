//! The `optc` command with a pass of one's own.
//!
//! In: the passes that optc comes with and that of this crate. Out: the whole command, in which pipelines know both. To
//! have your own, name them here; the rest is in `optc-cli`.

use std::process::ExitCode;

use optc::Registry;
use optc_stranger::SubtractNegated;

fn main() -> ExitCode {
    optc_cli::run(Registry::standard().with::<SubtractNegated>())
}
