//! Every pass, and every named pipeline, keeps what random graphs compute: the interpreter gives the same before and
//! after.
//!
//! `OPTC_CASES` sets how many graphs are tried (200 without it); a failure names the seed and the number of ops, which
//! are the smallest that fail.

use optc_passes::{PIPELINES, PassManager, PassOptions, Pipeline, Registry, VerifyEach};
use optc_tests::random_graph::random_graph;

/// What the pipeline breaks in a random graph.
fn failure(seed: u64, ops: usize, passes: &str) -> Option<String> {
    let mut graph = random_graph(seed, ops);
    let failures = optc_ir::verify(&graph);
    assert!(failures.is_empty(), "seed {seed}, {ops} ops: the generator makes graphs that do not verify: {failures:?}");
    let pipeline = Pipeline::parse(passes).expect("the pipeline parses");
    let options = PassOptions { verify_each: VerifyEach::Numerics, ..PassOptions::default() };
    match PassManager::new(options).run(&pipeline, &mut graph) {
        Ok(_) => None,
        Err(optc_passes::PassError::Broken { pass, failures, reproducer }) => {
            Some(format!("{pass}: {}\n{reproducer}", failures.join("\n")))
        }
        Err(error) => Some(error.to_string()),
    }
}

fn check(passes: &str, cases: u64) {
    for seed in 0..cases {
        let ops = 4 + seed as usize % 24;
        if failure(seed, ops, passes).is_some() {
            let smallest = (1..=ops).find_map(|n| Some((n, failure(seed, n, passes)?)));
            let (ops, message) = smallest.expect("it failed with all ops");
            panic!("`{passes}` on random_graph({seed}, {ops}): {message}");
        }
    }
}

fn cases() -> u64 {
    std::env::var("OPTC_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

#[test]
fn every_pass_alone_keeps_meaning() {
    for info in Registry::standard().passes() {
        check(info.name, cases() / 4);
    }
}

#[test]
fn named_pipelines_keep_meaning() {
    for named in PIPELINES {
        check(named.name, cases());
    }
}

#[test]
fn generated_graphs_differ_and_repeat() {
    let text = |seed| optc_ir::print(&random_graph(seed, 20)).text;
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
}

/// `O2` on the trained models, with every check after every pass. An open batch is pinned to one picture.
#[test]
fn trained_models_keep_meaning() {
    for name in ["mlp", "lenet", "lstm", "resnet8"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../testdata/{name}.onnx"));
        let mut graph = optc_onnx::import_file(&path).expect("the model imports");
        let mut types: Vec<optc_ir::Type> = graph.inputs().map(|v| graph.ty(v).clone()).collect();
        for ty in &mut types {
            if let optc_ir::Type::Tensor(optc_ir::TensorType { shape: Some(dims), .. }) = ty {
                let open = |d: &&mut optc_ir::Dim| d.known().is_none();
                dims.iter_mut().filter(open).for_each(|d| *d = optc_ir::Dim::Known(1));
            }
        }
        optc_passes::specialize(&mut graph, &types).expect("one picture fits");
        let options = PassOptions { verify_each: VerifyEach::Numerics, ..PassOptions::default() };
        let pipeline = Pipeline::parse("O2").expect("the pipeline parses");
        let report = PassManager::new(options).run(&pipeline, &mut graph).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(report.rewrites() > 0, "{name}: no pass finds anything to do");
    }
}
