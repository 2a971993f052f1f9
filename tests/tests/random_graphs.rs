//! Compiled models give what the interpreter gives, on random graphs.
//!
//! `OPTC_CASES` sets how many graphs are tried (2,000 without it); a failure names the seed, shrinks the number of ops
//! and prints the graph. Buffers lie between inaccessible pages: an access outside of them ends the process, with the
//! seed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};

use optc::{Compiler, Options, Val};
use optc_ir::{Graph, print};
use optc_kernel::target::Isa;
use optc_passes::seeded;
use optc_runtime::ThreadPool;
use optc_tensor::{DType, Difference};
use optc_testing::{isas, run_guarded};
use optc_tests::random_graph::random_graph;

/// Largest error of a float, relative to the range of the whole output: sums of a few thousand products in another
/// order.
const FLOAT: f64 = 1e-4;

/// The instruction sets, asked for once.
fn here() -> &'static [&'static Isa] {
    static HERE: LazyLock<Vec<&'static Isa>> = LazyLock::new(isas);
    &HERE
}

fn compiler(seed: u64) -> Compiler {
    let passes = ["O0", "O1", "O2", "O3"][seed as usize % 4].to_owned();
    // One in eight on two threads: splitting the work must not change it.
    let threads = if seed.is_multiple_of(8) { 2 } else { 1 };
    // The targets of this machine take turns, each after all the pipelines.
    let here = here();
    let isa = Some(here[seed as usize / 4 % here.len()].name.to_owned());
    Compiler::new(Options { passes, threads, isa, ..Options::default() })
}

/// How an output differs from the interpreter's.
fn difference(found: &Val, expected: &Val) -> Option<String> {
    let (Val::Tensor(a), Val::Tensor(b)) = (found, expected) else {
        return (found != expected).then(|| format!("found {found:?}, expected {expected:?}"));
    };
    let tolerance = match b.dtype() {
        DType::F32 | DType::F64 => FLOAT,
        DType::F16 | DType::BF16 => 1e-2,
        _ => 0.0,
    };
    let Some(exact) = Difference::between(a, b, 0.0, 0.0) else { return Some(format!("found {a:?}, expected {b:?}")) };
    let atol = tolerance * exact.range.max(1.0);
    let d = Difference::between(a, b, tolerance, atol)?;
    (!d.within_tolerance()).then(|| format!("off by {:.3e}: found {a:?}, expected {b:?}", d.max_abs))
}

/// What the compiled graph gets wrong.
fn failure(seed: u64, ops: usize) -> Option<String> {
    let graph: Graph = random_graph(seed, ops);
    let inputs = seeded::inputs(&graph, seed).expect("random graphs have static inputs");
    let expected = optc_ir::run(&graph, &inputs).expect("random graphs can be interpreted");
    let model = match compiler(seed).compile_graph(graph) {
        Ok(model) => model,
        Err(e) => return Some(format!("does not compile: {e}")),
    };
    let mut session = model.session();
    let name = format!("random_graph({seed}, {ops})");
    let pool = ThreadPool::new(model.threads()).expect("threads can be had");
    let found = session.run_values(&inputs).and_then(|found| Ok((found, session.plan(&inputs)?)));
    let (found, plan) = match found {
        Ok(found) => found,
        Err(e) => return Some(format!("does not run: {e}")),
    };
    let again = match run_guarded(&plan, &inputs, &pool, &name) {
        Ok(again) => again,
        Err(e) => return Some(format!("between inaccessible pages: {e}")),
    };
    if found != again {
        return Some("another result when it runs again".to_owned());
    }
    let outputs = model.outputs().iter().zip(found.iter().zip(&expected));
    let wrong =
        |(info, (a, b)): (&optc::ValueInfo, (&Val, &Val))| Some(format!("`{}` {}", info.name, difference(a, b)?));
    outputs.map(wrong).find_map(|how| how)
}

/// The failure of the fewest ops, with the graph.
fn shrunk(seed: u64, ops: usize) -> String {
    let smallest = (1..=ops).find_map(|n| Some((n, failure(seed, n)?)));
    let (ops, how) = smallest.expect("it failed with all ops");
    format!("random_graph({seed}, {ops}): {how}\n{}", print(&random_graph(seed, ops)).text)
}

#[test]
fn compiled_graphs_give_what_the_interpreter_gives() {
    let cases = std::env::var("OPTC_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2000);
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&seed| seed < cases) {
            let ops = 1 + seed as usize % 20;
            if failure(seed, ops).is_some() {
                failures.lock().unwrap().push(shrunk(seed, ops));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap();
    let some = failures.iter().take(5).map(String::as_str).collect::<Vec<_>>().join("\n\n");
    assert!(failures.is_empty(), "{} of {cases} graphs fail; the first:\n{some}", failures.len());
}
