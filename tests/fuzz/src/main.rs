//! Fuzzes what reads bytes from outside: `cargo run --release -p optc-fuzz -- onnx --seconds 60`.
//!
//! A target takes bytes and must come back: no panic, no more than 10 seconds, no more than 2 GiB. Inputs are
//! mutations of real files of `testdata`, made by mutators that know the format (fields and lengths of protobuf, tokens of the
//! text form, the checksum of an artifact), so that most get past the first checks. The toolchain is the stable one and nothing is
//! instrumented, so the corpus is not grown by coverage.
//!
//! Before an input is run it is written to `target/tmp/fuzz-TARGET.input`; what is found stays there, and
//! `--input FILE` runs one file.

mod mutate;
mod protobuf;
mod random;
mod seeds;
mod targets;
mod text;
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;

use crate::random::Random;
use crate::targets::Target;

/// Fuzzes one of the readers of optc.
#[derive(Debug, Parser)]
struct Args {
    /// What to fuzz
    target: Target,
    /// For how long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where the random numbers begin; the same seed makes the same inputs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run this input only
    #[arg(long)]
    input: Option<PathBuf>,
}

fn main() -> ExitCode {
    match Args::try_parse().map_err(anyhow::Error::from).and_then(|args| run(&args)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing was found.
fn run(args: &Args) -> Result<bool> {
    watch::start();
    if let Some(path) = &args.input {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        return Ok(outcome(args.target, &bytes).is_some());
    }
    let folder = optc_tests::data::repository().join("target/tmp");
    std::fs::create_dir_all(&folder)?;
    let kept = folder.join(format!("fuzz-{}.input", args.target.name()));
    let seeds = seeds::seeds(args.target, &folder)?;
    let mut random = Random::new(args.seed);
    let (start, mut inputs, mut accepted) = (Instant::now(), 0u64, 0u64);
    while start.elapsed() < Duration::from_secs(args.seconds) {
        let input = mutate::mutate(args.target, &seeds, &mut random);
        std::fs::write(&kept, &input)?;
        let Some(taken) = outcome(args.target, &input) else {
            eprintln!("found after {inputs} inputs: {}", kept.display());
            return Ok(false);
        };
        inputs += 1;
        accepted += u64::from(taken);
    }
    println!("{}: {inputs} inputs, {accepted} of them accepted, nothing found", args.target.name());
    Ok(true)
}

/// Whether the target accepts the input; `None` when it panics.
fn outcome(target: Target, input: &[u8]) -> Option<bool> {
    let _limit = watch::limit();
    catch_unwind(AssertUnwindSafe(|| target.run(input))).ok()
}
