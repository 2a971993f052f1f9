//! Runs a model for long, and shows whether its memory grows:
//! `cargo run --release -p optc --example soak -- MODEL [RUNS [SHAPES [DRAWS [THREADS]]]]`.
//!
//! First `RUNS` runs of one session, with the open dims of the inputs as 1. Then `DRAWS` runs, each with every open dim
//! drawn from `SHAPES` extents, more than plans are cached. Then `THREADS` threads with a session each on the same
//! model share `RUNS` runs. After each tenth it prints the resident memory (Linux); the exit status is 1 where the end
//! of a part has more than 2 % and 1 MiB over what its first tenth left.

use std::process::ExitCode;

use optc::{Compiler, DType, Model, Options, Tensor, Type, Val};
use optc_tensor::Random;

type Failure = Box<dyn std::error::Error>;

/// Bytes of memory that this process has in use.
fn resident() -> Result<usize, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("there is no VmRSS")?;
    let kib: usize = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}

/// Random values for the inputs, with every open dim as `extent` says.
fn inputs(
    model: &Model,
    random: &mut Random,
    extent: &mut dyn FnMut(&mut Random) -> usize,
) -> Result<Vec<Val>, Failure> {
    let mut values = Vec::new();
    for input in model.inputs() {
        let Type::Tensor(ty) = &input.ty else { return Err("an input is not a tensor".into()) };
        let dims = ty.shape.as_ref().ok_or("an input has no rank")?;
        let shape: Vec<usize> = dims.iter().map(|d| d.known().unwrap_or_else(|| extent(random))).collect();
        let n = shape.iter().product();
        let tensor = match ty.dtype {
            DType::F32 => Tensor::from_slice(&shape, &(0..n).map(|_| random.normal() as f32).collect::<Vec<_>>())?,
            dtype => Tensor::from_i64(dtype, &shape, &vec![1; n])?,
        };
        values.push(tensor.into());
    }
    Ok(values)
}

/// Runs `part` for each tenth, and tells whether memory stayed flat after the first.
fn tenths(name: &str, mut part: impl FnMut() -> Result<(), Failure>) -> Result<bool, Failure> {
    let mut first = None;
    let mut last = 0;
    for tenth in 1..=10 {
        part()?;
        last = resident()?;
        println!("{name}: {tenth}/10, {:.1} MiB resident", last as f64 / f64::from(1 << 20));
        first.get_or_insert(last);
    }
    let first = first.unwrap_or(last);
    Ok(last <= first + first / 50 + (1 << 20))
}

fn main() -> Result<ExitCode, Failure> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: soak MODEL [RUNS [SHAPES [DRAWS [THREADS]]]]")?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (runs, shapes, draws, threads) = (number(1_000_000)?, number(200)?, number(20_000)?, number(8)?);
    let model = Compiler::new(Options::default()).compile_file(path.as_ref())?;
    let mut random = Random::new(1);
    let ones = inputs(&model, &mut random, &mut |_| 1)?;
    let mut session = model.session();
    let mut flat = tenths("one shape", || {
        for _ in 0..runs / 10 {
            session.run_values(&ones)?;
        }
        Ok(())
    })?;
    flat &= tenths("random shapes", || {
        for _ in 0..draws / 10 {
            let values = inputs(&model, &mut random, &mut |random| 1 + random.below(shapes))?;
            session.run_values(&values)?;
        }
        Ok(())
    })?;
    flat &= tenths("threads", || {
        let each = || -> Result<(), optc::Error> {
            let mut session = model.session();
            (0..runs / 10 / threads).try_for_each(|_| session.run_values(&ones).map(drop))
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(each)).collect();
            all.into_iter().try_for_each(|thread| {
                thread.join().map_err(|_| "a thread panicked".into()).and_then(|r| r.map_err(Failure::from))
            })
        })
    })?;
    println!("{}", if flat { "memory stays flat" } else { "memory grows" });
    Ok(if flat { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
