//! Runs ONNX test cases through importer and reference interpreter, for work on ops:
//! `cargo run --release -p optc-onnx --example node_tests -- FOLDER [FILTER] [-v] [-x]`.
//!
//! `FOLDER` holds one folder a case (`model.onnx`, `test_data_set_N`); `FILTER` is a part of the case's name, or
//! `=name` for one case. Prints every wrong answer, with `-v` every refusal and every pass as well, then counts by
//! reason. With `-x` the models are exported and imported again first.

use std::collections::BTreeMap;
use std::path::Path;

use optc_ir::Val;
use optc_onnx::{ModelFile, export_model, import_bytes, import_model, read_data_set};
use optc_tensor::{DType, Difference, Tensor};
use prost::Message;

/// The standard's own runner allows two units in the last place of a `bf16`.
fn rtol(found: &Tensor) -> f64 {
    if found.dtype() == DType::BF16 { 1.0 / 64.0 } else { 1e-3 }
}

fn differs(found: &Val, expected: &Val) -> Option<String> {
    match (found, expected) {
        (Val::Tensor(a), Val::Tensor(b)) => match Difference::between(a, b, rtol(a), 1e-5) {
            None => Some(format!("found {a:?}, expected {b:?}")),
            Some(d) if d.within_tolerance() => None,
            Some(d) => Some(format!("max abs {}: found {a:?}, expected {b:?}", d.max_abs)),
        },
        (Val::Seq(_, a), Val::Seq(_, b)) if a.len() == b.len() => a.iter().zip(b).find_map(|(a, b)| differs(a, b)),
        (Val::Opt(_, None), Val::Opt(_, None)) => None,
        (Val::Opt(_, Some(a)), Val::Opt(_, Some(b))) => differs(a, b),
        _ => Some(format!("found {found:?}, expected {expected:?}")),
    }
}

enum Outcome {
    Pass,
    Refused(String),
    Wrong(String),
}

fn run(case: &Path, export: bool) -> Result<Outcome, optc_onnx::Diagnostic> {
    let file = ModelFile::open(&case.join("model.onnx"))?;
    let mut graph = import_model(&file)?;
    if export {
        graph = import_bytes(&export_model(&graph)?.encode_to_vec())?;
    }
    for set in 0.. {
        let folder = case.join(format!("test_data_set_{set}"));
        if !folder.exists() {
            break;
        }
        let data = read_data_set(&file, &folder)?;
        let inputs: Vec<Val> = data.inputs.into_iter().map(|(_, v)| v).collect();
        let outputs = match optc_ir::run(&graph, &inputs) {
            Ok(outputs) => outputs,
            Err(e) => return Ok(Outcome::Refused(format!("run: {e}"))),
        };
        for (found, (name, expected)) in outputs.iter().zip(&data.outputs) {
            if let Some(how) = differs(found, expected) {
                return Ok(Outcome::Wrong(format!("`{name}` {how}")));
            }
        }
    }
    Ok(Outcome::Pass)
}

#[expect(clippy::print_stdout, reason = "the report is what this example is for")]
fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let verbose = args.iter().any(|a| a == "-v");
    let export = args.iter().any(|a| a == "-x");
    args.retain(|a| a != "-v" && a != "-x");
    let root = args.first().expect("usage: node_tests FOLDER [FILTER] [-v] [-x]").clone();
    let filter = args.get(1).cloned().unwrap_or_default();
    let mut names: Vec<String> = std::fs::read_dir(&root)
        .expect("the folder can be read")
        .filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|n| filter.strip_prefix('=').map_or(n.contains(&filter), |whole| n == whole))
        .collect();
    names.sort();
    let (mut pass, mut wrong, mut reasons) = (0, 0, BTreeMap::<String, usize>::new());
    for name in &names {
        let case = Path::new(&root).join(name);
        let outcome = run(&case, export).unwrap_or_else(|d| Outcome::Refused(d.reason().to_owned()));
        match outcome {
            Outcome::Pass => pass += 1,
            Outcome::Refused(why) => {
                if verbose {
                    println!("refused {name}: {why}");
                }
                *reasons.entry(why.chars().take(90).collect()).or_default() += 1;
            }
            Outcome::Wrong(how) => {
                wrong += 1;
                println!("WRONG {name}: {}", how.chars().take(400).collect::<String>());
            }
        }
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    for (why, n) in reasons.iter().take(if verbose { 1000 } else { 60 }) {
        println!("{n:5}  {}", why.replace('\n', " "));
    }
    println!("{pass} passed, {wrong} wrong, {} refused of {}", names.len() - pass - wrong, names.len());
}
