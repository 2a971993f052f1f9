//! Fuzzes what reads bytes from outside, and what compiled code makes of it: `cargo run --release --bin optc-fuzz --
//! onnx --seconds 60`.
//!
//! A target takes bytes and must come back: no panic, no more than 10 seconds, no more than 2 GiB, no access past the
//! end of a buffer ([`memory`]). For most, inputs are mutations of real files of `testdata`, made by mutators that know
//! the format (fields and lengths of protobuf, tokens of the text form, the checksum of an artifact), so that most get
//! past the first checks; `kernels` draws layers from random bytes. The toolchain is the stable one and nothing is
//! instrumented, so the corpus is not grown by coverage.
//!
//! Before an input is run it is written to `target/tmp/fuzz-TARGET.input`. Inputs run in a process of their own:
//! however it ends, what it was given last is kept under a name that says so, and `--input FILE` runs one file, after
//! saying what it holds.

mod artifact;
mod interpret;
mod kernels;
mod layers;
mod memory;
mod models;
mod mutate;
mod programs;
mod protobuf;
mod random;
mod seeds;
mod targets;
mod text;
mod watch;

use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use optc_tensor::Memory;

use crate::random::Random;
use crate::targets::FuzzTarget;

/// The limit of the account of memory for one input.
const ACCOUNT: usize = 256 << 20;

/// Fuzzes one of the readers of optc, or what it compiles.
#[derive(Debug, Parser)]
struct Args {
    /// What to fuzz
    target: FuzzTarget,
    /// For how long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// For how long on a CPU, whatever else the machine does
    #[arg(long, conflicts_with = "seconds")]
    cpu_seconds: Option<u64>,
    /// Where the random numbers begin; the same seed makes the same inputs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run this input only
    #[arg(long)]
    input: Option<PathBuf>,
    /// Run inputs in this process
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match if args.inside { run(&args) } else { supervise(&args) } {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::from(2)
        }
    }
}

/// SIGHUP, SIGINT and SIGTERM: no input raises them.
const FROM_OUTSIDE: [i32; 3] = [1, 2, 15];

/// Runs inputs in another process and keeps the one that ended it; whether nothing was found.
fn supervise(args: &Args) -> Result<bool> {
    let status = Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).arg("--inside").status()?;
    if let Some(signal) = status.signal() {
        if FROM_OUTSIDE.contains(&signal) {
            bail!("the process was stopped from outside, by signal {signal}");
        }
        eprintln!("the process was ended by signal {signal}");
    }
    match status.code() {
        Some(0) => return Ok(true),
        None | Some(1) if args.input.is_none() => {
            let last = last_input(args.target)?;
            let sum = crc32fast::hash(&std::fs::read(&last)?);
            let kept = last.with_file_name(format!("fuzz-{}-found-{sum:08x}.input", args.target.name()));
            std::fs::rename(&last, &kept)?;
            eprintln!("the input is kept: {}", kept.display());
        }
        _ => {}
    }
    Ok(false)
}

/// Where an input is written before it runs.
fn last_input(target: FuzzTarget) -> Result<PathBuf> {
    let folder = optc_tests::data::repository().join("target/tmp");
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("fuzz-{}.input", target.name())))
}

/// Whether nothing was found.
fn run(args: &Args) -> Result<bool> {
    watch::start();
    if let Some(path) = &args.input {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        if let Some(text) = args.target.text(&bytes) {
            println!("{text}");
        }
        return Ok(outcome(args.target, &bytes).is_some());
    }
    let last = last_input(args.target)?;
    let seeds = seeds::seeds(args.target, last.parent().unwrap_or(Path::new(".")))?;
    let mut random = Random::new(args.seed);
    let (start, mut inputs, mut accepted) = (Instant::now(), 0u64, 0u64);
    let enough = || match args.cpu_seconds {
        Some(seconds) => watch::cpu_time() >= Duration::from_secs(seconds),
        None => start.elapsed() >= Duration::from_secs(args.seconds),
    };
    while !enough() {
        let input = mutate::mutate(args.target, &seeds, &mut random);
        std::fs::write(&last, &input)?;
        let Some(taken) = outcome(args.target, &input) else {
            eprintln!("found after {inputs} inputs");
            return Ok(false);
        };
        inputs += 1;
        accepted += u64::from(taken);
    }
    println!("{}: {inputs} inputs, {accepted} of them accepted, nothing found", args.target.name());
    Ok(true)
}

/// Whether the target accepts the input; `None` when it panics. What is too large for the account is an error of the
/// target, long before the allocator ends the process.
fn outcome(target: FuzzTarget, input: &[u8]) -> Option<bool> {
    let _limit = watch::limit();
    let _account = Memory::with_limit(ACCOUNT).enter();
    catch_unwind(AssertUnwindSafe(|| target.run(input))).ok()
}
