//! Runs a model through importer, inference and interpreter, and compares with a reference:
//! `cargo run --release -p optc-onnx --example check_model -- MODEL.onnx inputs.npz outputs.npz`.
//!
//! The archives are keyed by the names of the graph's inputs and outputs. Prints one line an output, and exits with 1
//! when an output differs by more than 1e-3 of its range or has a cosine below 0.9999.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use optc_ir::{Graph, Val};
use optc_onnx::import_file;
use optc_tensor::{Difference, Tensor};

type Archive = HashMap<String, Tensor>;

fn archive(path: &str) -> Result<Archive, String> {
    let entries = optc_tensor::npy::read_npz(Path::new(path)).map_err(|e| format!("{path}: {e}"))?;
    Ok(entries.into_iter().collect())
}

fn run(graph: &mut Graph, inputs: &Archive) -> Result<Vec<Val>, String> {
    optc_ir::infer_types(graph).map_err(|e| e.to_string())?;
    if let Some(failure) = optc_ir::verify(graph).first() {
        return Err(format!("{}: {}", failure.rule, failure.message));
    }
    let value = |v| {
        let name = graph.input_name(v).unwrap_or_default();
        inputs.get(name).cloned().map(Val::from).ok_or_else(|| format!("there is no input `{name}`"))
    };
    let values = graph.inputs().map(value).collect::<Result<Vec<_>, _>>()?;
    optc_ir::run(graph, &values).map_err(|e| e.to_string())
}

/// One line on an output, and whether it is near enough.
fn judge(found: &Val, expected: Option<&Tensor>) -> (String, bool) {
    let (Val::Tensor(found), Some(expected)) = (found, expected) else { return ("no tensor to compare".into(), false) };
    match Difference::between(found, expected, 0.0, 0.0) {
        None => (format!("found {found:?}, expected {expected:?}"), false),
        Some(d) => {
            let near = d.max_abs <= 1e-3 * d.range.max(1e-3) && d.cosine >= 0.9999;
            let line = format!("max abs {:.3e} of range {:.3e}, cosine {:.9}", d.max_abs, d.range, d.cosine);
            (line, near || d.max_abs == 0.0)
        }
    }
}

#[expect(clippy::print_stdout, reason = "the report is what this example is for")]
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, inputs, outputs] = &args[..] else {
        println!("usage: check_model MODEL.onnx inputs.npz outputs.npz");
        return ExitCode::from(2);
    };
    let start = Instant::now();
    let results = import_file(Path::new(model)).map_err(|d| d.to_string()).and_then(|mut graph| {
        let results = run(&mut graph, &archive(inputs)?)?;
        Ok((graph, results, archive(outputs)?))
    });
    match results {
        Err(why) => {
            println!("{model}: {why}");
            ExitCode::FAILURE
        }
        Ok((graph, results, expected)) => {
            let mut all = true;
            for (output, found) in graph.outputs.iter().zip(&results) {
                let (line, near) = judge(found, expected.get(&output.name));
                all &= near;
                println!("{} {model} `{}`: {line}", if near { "ok   " } else { "WRONG" }, output.name);
            }
            println!("{model}: {:.1} s", start.elapsed().as_secs_f64());
            ExitCode::from(u8::from(!all))
        }
    }
}
