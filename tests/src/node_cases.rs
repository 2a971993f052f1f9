//! Runs ONNX test cases (`model.onnx` with `test_data_set_N` folders) through compiled models.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use optc::{Compiler, Error, Val};
use optc_ir::{Effects, Graph};
use optc_onnx::{ModelFile, read_data_set};

use crate::compare::difference;

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseOutcome {
    /// All outputs of all data sets are right.
    Pass,
    /// An error, with its first line.
    Refused(String),
    /// An output differs, and how.
    Wrong(String),
    /// A panic, with its message.
    Crashed(String),
}

/// Runs the cases `names` below `root`, on as many threads as the machine has cores; the outcomes in the order of the
/// names.
pub fn run_all(compiler: &Compiler, root: &Path, names: &[String]) -> Vec<CaseOutcome> {
    let outcomes: Vec<Mutex<CaseOutcome>> = names.iter().map(|_| Mutex::new(CaseOutcome::Pass)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(at) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&at| at < names.len()) {
            *outcomes[at].lock().expect("no thread panics with the lock") = run_named(compiler, root, &names[at]);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(work);
        }
    });
    outcomes.into_iter().map(|o| o.into_inner().expect("no thread panics with the lock")).collect()
}

/// Runs one case on a thread of its name, which a stack overflow or a failed assertion then reports.
fn run_named(compiler: &Compiler, root: &Path, name: &str) -> CaseOutcome {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name.to_owned());
        let case = thread.spawn_scoped(scope, || run_case(compiler, &root.join(name)));
        case.map_or_else(|e| CaseOutcome::Crashed(e.to_string()), |case| case.join().expect("panics are caught"))
    })
}

/// Runs one case; a panic is an outcome like others.
pub fn run_case(compiler: &Compiler, folder: &Path) -> CaseOutcome {
    match catch_unwind(AssertUnwindSafe(|| run_sets(compiler, folder))) {
        Ok(Ok(None)) => CaseOutcome::Pass,
        Ok(Ok(Some(how))) => CaseOutcome::Wrong(how),
        Ok(Err(why)) => CaseOutcome::Refused(why.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            CaseOutcome::Crashed(text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default())
        }
    }
}

/// How the first output that differs does so.
fn run_sets(compiler: &Compiler, folder: &Path) -> Result<Option<String>, Error> {
    let path = folder.join("model.onnx");
    let model = compiler.compile_file(&path)?;
    let file = ModelFile::open(&path)?;
    let draws = draws(&optc_onnx::import_model(&file)?);
    let mut session = model.session();
    for set in 0.. {
        let folder = folder.join(format!("test_data_set_{set}"));
        if !folder.exists() {
            return Ok((set == 0).then(|| "the case has no data".to_owned()));
        }
        let data = read_data_set(&file, &folder)?;
        let inputs: Vec<Val> = data.inputs.into_iter().map(|(_, v)| v).collect();
        let found = session.run_values(&inputs)?;
        if found.len() != data.outputs.len() {
            return Ok(Some(format!("found {} outputs, expected {}", found.len(), data.outputs.len())));
        }
        for (info, (name, expected)) in model.outputs().iter().zip(&data.outputs) {
            if info.ty.widest() != expected.ty().widest() {
                return Ok(Some(format!("`{name}` is said to be {}, declared {}", info.ty, expected.ty())));
            }
        }
        for (found, (name, expected)) in found.iter().zip(&data.outputs) {
            // The standard does not say which numbers are drawn.
            let drawn = || (found.ty() != expected.ty()).then(|| format!("is {}, not {}", found.ty(), expected.ty()));
            if let Some(how) = if draws { drawn() } else { difference(found, expected) } {
                return Ok(Some(format!("`{name}` {}", how.chars().take(300).collect::<String>())));
            }
        }
    }
    Ok(None)
}

/// Whether a graph draws random numbers.
fn draws(graph: &Graph) -> bool {
    graph
        .ids()
        .map(|id| graph.node(id))
        .any(|node| node.op.facts().effects == Effects::Random || node.regions.iter().any(draws))
}
