//! Every op is run by a test: by a node test that passes, through compiled models (`node_tests`), or by a filetest of
//! kind `run`.

use std::collections::BTreeSet;
use std::path::Path;

use optc_ir::{Graph, Op, parse};
use optc_tests::literal::{FAILS, run_lines};
use optc_tests::{data, refused};

/// Ops that stand in no case of the standard, such as those that only passes make, with the test that runs them.
const ELSEWHERE: &[(&str, &str)] = &[
    ("func.param", "every test: it is what a graph is called with"),
    ("kernel.fused", "random_graphs"),
    ("kernel.convert_layout", "random_graphs"),
    ("quant.sum", "codegen's int8"),
    ("custom.call", "custom_ops"),
    ("random.normal", "random_numbers"),
    ("random.multinomial", "random_numbers"),
];

fn collect(graph: &Graph, ops: &mut BTreeSet<&'static str>) {
    for id in graph.ids() {
        let node = graph.node(id);
        ops.insert(node.op.name());
        node.regions.iter().for_each(|region| collect(region, ops));
    }
}

fn in_node_tests(ops: &mut BTreeSet<&'static str>) {
    let root = data::unpack("onnx-node-tests.tar.xz", Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("the archive");
    let list = std::fs::read_to_string(data::repository().join("tests/node_tests_refused.txt")).expect("the list");
    let refused = refused::parse(&list);
    for entry in std::fs::read_dir(root).expect("the cases are unpacked") {
        let entry = entry.expect("a folder");
        if !refused.contains(&*entry.file_name().to_string_lossy()) {
            collect(&optc_onnx::import_file(&entry.path().join("model.onnx")).expect("it is not refused"), ops);
        }
    }
}

fn in_filetests(ops: &mut BTreeSet<&'static str>) {
    for entry in std::fs::read_dir(data::repository().join("tests/filetests/run")).expect("the folder") {
        let text = std::fs::read_to_string(entry.expect("a file").path()).expect("it can be read");
        let gives_results = |case: &&str| run_lines(case).expect("a call").iter().any(|line| !line.contains(FAILS));
        let cases = text.split("// ---\n").filter(gives_results);
        cases.for_each(|case| collect(&parse(case).expect("a case parses"), ops));
    }
}

#[test]
fn every_op_is_run_by_a_test() {
    let mut ops = BTreeSet::new();
    in_node_tests(&mut ops);
    in_filetests(&mut ops);
    let elsewhere = |name: &str| ELSEWHERE.iter().any(|(op, _)| *op == name);
    let missing: Vec<_> = Op::NAMES.iter().filter(|name| !ops.contains(*name) && !elsewhere(name)).collect();
    assert!(missing.is_empty(), "no test runs {missing:?}");
    let needless: Vec<_> = ELSEWHERE.iter().filter(|(op, _)| ops.contains(op) && *op != "func.param").collect();
    assert!(needless.is_empty(), "run by other tests: {needless:?}");
}
